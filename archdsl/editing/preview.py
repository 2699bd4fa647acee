"""The diagram of a model with the places of the text that its boxes show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archdsl import compiler
from archdsl.backends.diagram.picture import Part
from archdsl.common.source import Source, Span
from archdsl.graph import Graph, Node, Scope


@dataclass(frozen=True, slots=True)
class Box:
    """A box of the picture: `id` is its title in the SVG, `goes_to` its item, `covers` all that it shows."""

    id: str
    goes_to: Span | None
    covers: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture as SVG, and its boxes."""

    svg: str
    boxes: tuple[Box, ...]


def preview(graph: Graph, source: Source, *, theme: str = "light") -> Preview:
    """The diagram of a checked model. Raises DrawingError, SpecError if it is nested too deeply."""
    diagram = compiler.draw(graph, theme=theme)
    svg = diagram.svg()
    boxes = tuple(_box(part, source) for _, picture in diagram.drawing.pictures for part in picture.walk() if part.id)
    return Preview(svg[svg.index("<svg") :], boxes)


def _box(part: Part, source: Source) -> Box:
    covered = part.covered or [node for nodes in part.times for node in nodes]
    scope = part.scope if part.kind in ("block", "open") else None
    spans = [node.span for node in covered]
    if scope is not None:
        spans += [scope.span, *_definitions(scope)]
    here = dict.fromkeys(span for span in spans if span.source is source)
    first = scope.span if scope is not None else covered[0].span if covered else None
    if first is not None and first.source is not source:
        first = next((s.span for s in _around(part) if s.span.source is source), None)
    return Box(part.id, first, tuple(_once(here)))


def _definitions(scope: Scope) -> Iterator[Span]:
    if scope.definition is not None:
        yield scope.definition.syntax.span


def _around(part: Part) -> Iterator[Node | Scope]:
    """The calls around a box, innermost first."""
    nodes = part.times[0] if part.times else ()
    scope = part.scope or (nodes[0].scope if nodes else None)
    if scope is not None:
        yield from scope.calls()


def _once(spans: dict[Span, None]) -> Iterator[Span]:
    """Spans, each place once."""
    seen: set[tuple[int, int]] = set()
    for span in spans:
        if (span.start, span.end) not in seen:
            seen.add((span.start, span.end))
            yield span
