"""Warnings: what a spec may say, and is likely a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass

from archdsl.advice import show_shape
from archdsl.diagnostics import Diagnostic, Mark
from archdsl.dims import Dim, DimError
from archdsl.elaborate import call_notes
from archdsl.graph import Graph
from archdsl.ops.norm import Batchnorm, several_positions
from archdsl.source import Span
from archdsl.syntax import tree
from archdsl.values import BlockValue

TINY = 4
"""A network that takes no size beyond this one is not meant so."""

BINDS = {(tree.Let, "name"), (tree.For, "names"), (tree.Pattern, "names"), (tree.InputTensor, "name")}
"""The names that a part of the syntax gives, rather than uses."""


def lints(graph: Graph) -> tuple[Diagnostic, ...]:
    """The warnings of a checked graph, in the order of the text."""
    found = [*tiny_sizes(graph), *unused_names(graph), *lone_positions(graph)]
    return tuple(sorted(found, key=lambda d: d.marks[0].span.start))


def tiny_sizes(graph: Graph) -> Iterator[Diagnostic]:
    """Free sizes, none of them shown, that a line of the spec leaves next to no values."""
    for free in graph.free:
        most = graph.always[free.name].maximum
        if free.example is None and most is not None and most <= TINY:
            cause = next(n for n in graph.narrowings if n.size == free.name and n.after.maximum is not None)
            alone = graph.always[free.name].describe().removeprefix("only ")
            demand = cause.demand
            yield warning(
                "W0601",
                f"the network takes {free.name} = {alone} alone",
                Mark(demand.span, "because of this"),
                Mark(free.span, f"say what is meant: `{free.name} = 64`"),
                notes=[demand.error.message, *call_notes(demand.scope)],
                help="bring the sizes together (`align`), or give both branches the same stride and padding",
            )


def lone_positions(graph: Graph) -> Iterator[Diagnostic]:
    """The first batchnorm that sees one position of each sample, whatever the input: PyTorch refuses a batch of 1."""
    found = [
        node
        for node in graph.nodes()
        if isinstance(node.operation, Batchnorm) and _is_lone(graph, graph.shape(node.inputs[0])[1:])
    ]
    if not found:
        return
    node = found[0]
    notes = ["its mean and variance are taken over the batch alone, and of a single number there is no variance"]
    if len(found) > 1:
        notes.append(f"{len(found)} batchnorms here are so")
    yield warning(
        "W0603",
        "`batchnorm` over one position: a training batch of 1 fails",
        Mark(node.span, f"{show_shape(graph.shape(node.inputs[0]))} comes in"),
        notes=[*notes, *call_notes(node.scope)],
        help="train with batches of 2 or more (a loader with `drop_last`), or use `groupnorm` or `layernorm` here",
    )


def _is_lone(graph: Graph, sizes: tuple[Dim, ...]) -> bool:
    """Whether axes have one position in all, for every valid input."""
    try:
        several = several_positions(sizes)
        return not several if isinstance(several, bool) else graph.always.narrow(several) is None
    except DimError:  # too intricate to know
        return False


def unused_names(graph: Graph) -> Iterator[Diagnostic]:
    """Parameters of models and blocks, and values that a `let` in them names, which nothing in their text uses.

    In the file of the model alone. Blocks that are passed on to be called by others share their parameters with these.
    """
    file = graph.root.span.source
    scopes = list(graph.root.scopes())
    passed = {id(b.syntax) for scope in scopes for b in blocks(scope.arguments.values())}
    definitions = {id(s.definition.syntax): s.definition.syntax for s in scopes if s.definition is not None}
    for key, syntax in definitions.items():
        if syntax.span.source is not file:
            continue
        used = set(names([p.default for p in syntax.parameters])) | set(names(syntax.body))
        for parameter in syntax.parameters if key not in passed else ():
            if unused(parameter.name, used):
                yield unused_name(f"the parameter `{parameter.name.name}` of `{syntax.name.name}`", parameter.name.span)
        for let in lets(syntax.body):
            if unused(let.name, used):
                yield unused_name(f"`{let.name.name}`", let.name.span)


def unused(name: tree.Name, used: set[str]) -> bool:
    return name.name not in used and not name.name.startswith("_")


def unused_name(what: str, span: Span) -> Diagnostic:
    return warning("W0602", f"nothing uses {what}", Mark(span), help="take it away, or begin its name with `_`")


def warning(code: str, message: str, *marks: Mark, notes: Iterable[str] = (), help: str | None = None) -> Diagnostic:
    return Diagnostic(code, message, marks, tuple(notes), help, severity="warning")


# ---------------------------------------------------------------- names in a text


def blocks(values: Iterable[object]) -> Iterator[BlockValue]:
    """The blocks among values and in the lists among them."""
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, BlockValue):
            yield value
        elif isinstance(value, tuple):
            stack.extend(value)


def parts(root: object) -> Iterator[object]:
    """The parts of a piece of syntax, names that it only gives left out."""
    stack = [root]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple | list):
            stack.extend(part)
        elif is_dataclass(part) and not isinstance(part, Span):
            yield part
            stack += [getattr(part, f.name) for f in fields(part) if (type(part), f.name) not in BINDS]


def names(root: object) -> Iterator[str]:
    """The names that a piece of syntax uses."""
    return (part.name for part in parts(root) if isinstance(part, tree.Name))


def lets(body: tree.Body) -> Iterator[tree.Let]:
    return (part for part in parts(body) if isinstance(part, tree.Let))
