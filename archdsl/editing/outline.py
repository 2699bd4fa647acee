"""The outline of a document: what it declares, and the labels, inputs and values within."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archdsl.common.source import Span
from archdsl.editing.names import Kind
from archdsl.syntax import tree


@dataclass(slots=True, eq=False)
class Entry:
    """Something of the outline: `span` is all of it, `name_span` its name."""

    name: str
    kind: Kind
    span: Span
    name_span: Span
    detail: str = ""
    children: list[Entry] = field(default_factory=list)


def outline(file: tree.File) -> Iterator[Entry]:
    """The declarations of a file."""
    for declaration in file.declarations:
        match declaration:
            case tree.Block() | tree.Model():
                kind: Kind = "block" if isinstance(declaration, tree.Block) else "model"
                listed = ", ".join(p.span.text for p in declaration.parameters)
                entry = _entry(declaration.name, kind, declaration.span, f"({listed})" if listed else "")
                entry.children = list(_statements(declaration.body.statements))
                yield entry
            case tree.Member():
                yield _entry(declaration.name, "model", declaration.span, f"= {declaration.family.name}")
            case tree.Let():
                yield _entry(declaration.name, "value", declaration.span)
            case tree.Function():
                yield _entry(declaration.name, "function", declaration.span)
            case tree.Extern():
                yield _entry(declaration.name, "extern", declaration.span, declaration.target)
            case tree.Augment():
                yield _entry(declaration.name, "augment", declaration.span)
            case tree.Import() | tree.Default() | tree.Missing():
                pass


def _entry(name: tree.Name, kind: Kind, span: Span, detail: str = "") -> Entry:
    return Entry(name.name, kind, span, name.span, detail)


def _statements(statements: tuple[tree.Statement, ...]) -> Iterator[Entry]:
    for statement in statements:
        match statement:
            case tree.Chain():
                for item in statement.items:
                    yield from _item(item)
            case tree.Let():
                yield _entry(statement.name, "value", statement.span)
            case tree.For() | tree.Repeat():
                yield from _statements(statement.body.statements)
            case tree.If():
                for _, body in statement.branches:
                    yield from _statements(body.statements)
                if statement.otherwise is not None:
                    yield from _statements(statement.otherwise.statements)
            case tree.Input():
                for tensor in statement.tensors:
                    yield _entry(tensor.name, "input", tensor.span, tensor.span.text.removeprefix(tensor.name.name))
            case tree.Share():
                yield _entry(statement.name, "shared", statement.span)
            case _:
                pass  # it names nothing


def _item(item: tree.Item) -> Iterator[Entry]:
    """The labels of an item, each with those within it."""
    inner = list(_within(item))
    match item.label:
        case tree.Label():
            span = item.label.span.to(item.span)
            name = item.label.span.text.strip().rstrip(":").strip()
            detail = item.name.name if isinstance(item, tree.Call) else ""
            yield Entry(name or "_", "label", span, item.label.span, detail, inner)
        case tree.Pattern():
            for name_ in item.label.names:
                yield _entry(name_, "label", name_.span)
            yield from inner
        case None:
            yield from inner


def _within(item: tree.Item) -> Iterator[Entry]:
    match item:
        case tree.Body():
            yield from _statements(item.statements)
        case tree.Parallel():
            yield from _statements(item.branches)
        case tree.Residual():
            if item.via is not None:
                yield from _item(item.via)
            yield from _statements(item.body.statements)
        case tree.Dense() | tree.Windows():
            yield from _statements(item.body.statements)
        case tree.Call() | tree.Element():
            pass
