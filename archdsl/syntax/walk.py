"""Traversal: the children of a syntax node, and the names that it uses or declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from archdsl.common.source import Span
from archdsl.syntax import tree

BINDS = {
    (tree.Let, "name"),
    (tree.For, "names"),
    (tree.Pattern, "names"),
    (tree.InputTensor, "name"),
    (tree.OutputTensor, "name"),
    (tree.Share, "name"),
}
"""Fields with names that a node declares rather than uses."""


def parts(root: object) -> Iterator[object]:
    """The children of a syntax node, without names that it only declares."""
    stack = [root]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple | list):
            stack.extend(part)
            continue
        cls = type(part)
        try:
            inside = _INSIDE[cls]
        except KeyError:
            inside = _INSIDE[cls] = _fields(cls)
        if inside is not None:
            yield part
            stack += [getattr(part, name) for name in inside]


_INSIDE: dict[type, tuple[str, ...] | None] = {}
"""What `_fields` gives, which is asked for each node of a tree."""

LEAVES = {"Source", "Span", "str", "int", "bool", "str | None"}
"""The types of fields that hold no syntax node."""


def _fields(cls: type) -> tuple[str, ...] | None:
    """The fields of a syntax node that may hold children, without names that it only declares; None for others."""
    if not is_dataclass(cls) or issubclass(cls, Span):
        return None
    return tuple(f.name for f in fields(cls) if (cls, f.name) not in BINDS and f.type not in LEAVES)


def names(root: object) -> Iterator[tree.Name]:
    """The names that a syntax node uses."""
    return (part for part in parts(root) if isinstance(part, tree.Name))


def lets(body: tree.Body) -> Iterator[tree.Let]:
    return (part for part in parts(body) if isinstance(part, tree.Let))


def given(block: tree.Block | tree.Model) -> set[str]:
    """The names that a block declares: parameters, values, labels, and names in its `input`."""
    found = {p.name.name for p in block.parameters} | labels(block.body)
    for part in parts(block.body):
        match part:
            case tree.Let():
                found.add(part.name.name)
            case tree.For():
                found.update(n.name for n in part.names)
            case tree.InputTensor():
                found.add(part.name.name)
                found.update(d.value.name for d in part.dimensions if isinstance(d.value, tree.Name))
            case _:
                pass
    return found


def labels(body: tree.Body) -> set[str]:
    """The labels in a body that can be referred to."""
    found: set[str] = set()
    for part in parts(body):
        if isinstance(part, tree.Pattern):
            found.update(n.name for n in part.names)
        elif isinstance(part, tree.Label) and not part.quoted:
            found.update(p for p in part.parts if isinstance(p, str))
    return found
