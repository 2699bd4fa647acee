"""The signature of the call that is being written, with the parameter whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archdsl.augment import CHANGES
from archdsl.common.source import Source
from archdsl.editing.completion import parameters
from archdsl.editing.cursor import cursor
from archdsl.editing.hover import documentation
from archdsl.editing.names import Names, Symbol
from archdsl.editing.navigation import Project
from archdsl.ops import BLOCKS, OPERATIONS


@dataclass(frozen=True, slots=True)
class Signature:
    """`conv(out, kernel, stride = 1)`: `parts` are its parameters as ranges of the text, `active` the current one."""

    text: str
    parts: tuple[tuple[int, int], ...]
    docs: tuple[str, ...]
    active: int | None
    doc: str


def signature(source: Source, offset: int, names: Names, project: Project, delta: int = 0) -> Signature | None:
    """The signature of the call around an offset; None if there is none, or nothing is known of it."""
    at = cursor(source, offset)
    if at.callee is None:
        return None
    seen: Mapping[str, Symbol] = names.seen_at(max(0, at.callee.at + delta))
    callee = at.callee
    cls = OPERATIONS.get(callee.name) or BLOCKS.get(callee.name) or CHANGES.get(callee.name)
    if callee.name not in seen and cls is not None:
        fields = list(cls.fields)
        text = cls.signature()
        shown = _split(text)
        docs = [found.description or "" for found in cls.fields.values()]
        doc = documentation(cls).partition("\n")[0]
    else:
        declared = parameters(callee, seen, source, project)
        if not declared:
            return None
        fields = [p.name.name for p in declared]
        shown = [p.span.text for p in declared]
        text = f"{callee.name}({', '.join(shown)})"
        docs = [""] * len(fields)
        symbol = project.resolved(seen[callee.name], source.path)
        doc = getattr(symbol.node, "doc", None) or ""
    active = fields.index(callee.argument) if callee.argument in fields else callee.position
    if callee.argument is None and callee.given:
        active = len(fields)  # by name from here on: which one is not known yet
    return Signature(text, tuple(_ranges(text, shown)), tuple(docs), active if active < len(fields) else None, doc)


def _split(text: str) -> list[str]:
    """The parameters of a signature, which hold no comma but within brackets."""
    inside = text.partition("(")[2].removesuffix(")")
    parts, depth, start = [], 0, 0
    for i, character in enumerate(inside):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(inside[start:i].strip())
            start = i + 1
    return [*parts, inside[start:].strip()] if inside else []


def _ranges(text: str, shown: Sequence[str]) -> list[tuple[int, int]]:
    found, at = [], text.find("(") + 1
    for part in shown:
        start = text.index(part, at)
        at = start + len(part)
        found.append((start, at))
    return found
