"""Diagrams: a graph as a picture that folds its blocks, in dot, svg, png and pdf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from archdsl.analysis import costs
from archdsl.backends.diagram.captions import Captions
from archdsl.backends.diagram.dot import Direction, Style, write_dot
from archdsl.backends.diagram.picture import Folder, Part, Picture, boxes, picture
from archdsl.backends.diagram.render import DrawingError, render
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.theme import THEMES
from archdsl.files import write_whole
from archdsl.graph import Graph, Scope

BUDGET = 30
"""The most boxes of a diagram that was not told how deep to go."""

LENGTH = 20
"""The most boxes on a way through such a diagram."""

INSET_BUDGET = 14
"""The most boxes of a folded block's inset, and of all of them what the page has left besides."""

FORMATS = (".dot", ".svg", ".png", ".pdf")


@dataclass(frozen=True, eq=False)
class Diagram:
    """A diagram, as dot text that any Graphviz can lay out. It shows itself in a notebook."""

    dot: str
    layout: Literal["dot", "fixed"] = "dot"

    def svg(self) -> str:
        """Raises DrawingError where Graphviz fails."""
        return self._svg

    @cached_property
    def _svg(self) -> str:
        return render(self.dot, "svg", self.layout).decode()

    def png(self) -> bytes:
        """The picture at 144 dots an inch. Raises DrawingError."""
        return render(self.dot.replace("{", '{\n\tgraph [dpi="144"]', 1), "png", self.layout)

    def pdf(self) -> bytes:
        """Raises DrawingError."""
        return render(self.dot, "pdf", self.layout)

    def save(self, path: str | Path) -> None:
        """Writes the format that the ending names, whole or not at all. Raises ValueError on another ending, DrawingError, OSError."""
        ending = Path(path).suffix.lower()
        match ending:
            case ".dot" | ".gv":
                data = self.dot.encode()
            case ".svg":
                data = self.svg().encode()
            case ".png":
                data = self.png()
            case ".pdf":
                data = self.pdf()
            case _:
                raise ValueError(f"no format ends in `{ending}`; there are {', '.join(FORMATS)}")
        write_whole(path, data)

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg(), "text/plain": repr(self)}


def draw(
    graph: Graph,
    *,
    depth: int | None = None,
    theme: str = "light",
    direction: Direction = "down",
    sizes: Mapping[str, int] | None = None,
) -> Diagram:
    """A diagram of a checked graph.

    `depth` is how many levels of blocks are opened: 0 shows the model's own statements, each block a box. Without it, as many
    are opened as fit a page, and blocks that stay folded are shown once beside. `sizes` are values for free sizes, for the work that the picture tells.
    Raises ValueError on a theme or direction that there is not.
    """
    if theme not in THEMES:
        raise ValueError(f"no theme is called `{theme}`; there are {', '.join(THEMES)}")
    if direction not in ("down", "right"):
        raise ValueError(f"a diagram goes `down` or `right`, not `{direction}`")
    captions = Captions(graph, costs(graph, sizes))
    structure = Structure(graph)
    folder = Folder(graph, structure)
    if depth is None:
        opened = overview(folder)
        pictures = [("", trunk(folder, opened)), *insets(folder, opened, captions)]
    else:
        limit = depth
        pictures = [("", trunk(folder, lambda scope: level(scope) <= limit))]
    return Diagram(write_dot(pictures, captions, Style(THEMES[theme], direction)))


def level(scope: Scope) -> int:
    """How many scopes stand around a scope: 1 for the model's own blocks."""
    return sum(1 for _ in scope.calls()) - 1


def trunk(folder: Folder, opened: Callable[[Scope], bool]) -> Picture:
    """The whole network, from its inputs to its outputs."""
    graph = folder.graph
    parts = folder.fold(graph.root, opened)
    parts += [Part("output", [()], output=output) for output in graph.outputs]
    return picture(graph, parts, folder.structure)


# ---------------------------------------------------------------- choosing what to open


def kind(scope: Scope) -> tuple[object, ...]:
    """What is opened together: the calls of one block, the bodies of one name within them."""
    if scope.definition is not None and scope.kind == "block":
        return (scope.definition.syntax.span,)
    return (*(kind(scope.parent) if scope.parent else ()), scope.name)


def overview(folder: Folder) -> Callable[[Scope], bool]:
    """Which scopes to open: outer ones first, costly ones before cheap ones, while the boxes fit the budget."""
    opened: set[tuple[object, ...]] = set()
    refused: set[tuple[object, ...]] = set()

    def attempt(kinds: set[tuple[object, ...]]) -> Picture:
        return trunk(folder, lambda scope: kind(scope) in kinds)

    current = attempt(opened)
    while True:
        folded: dict[tuple[object, ...], tuple[int, int]] = {}
        for box in current.boxes():
            if box.kind == "block" and box.scope is not None and kind(box.scope) not in refused:
                depth, size = folded.get(kind(box.scope), (1 << 30, 0))
                folded[kind(box.scope)] = (min(depth, level(box.scope)), size + len(box.covered))
        if not folded:
            return lambda scope: kind(scope) in opened
        choice = min(folded, key=lambda k: (folded[k][0], -folded[k][1]))
        trial = attempt(opened | {choice})
        if len(trial.boxes()) <= BUDGET and len(trial.trunk()) <= LENGTH:
            opened.add(choice)
            current = trial
        else:
            refused.add(choice)


def insets(folder: Folder, opened: Callable[[Scope], bool], captions: Captions) -> list[tuple[str, Picture]]:
    """The blocks that stay folded, each wiring of them opened once, as far as the page has room."""
    shown = boxes(folder.fold(folder.graph.root, opened))
    room = max(BUDGET - len(shown), 0) + 4
    found: dict[object, tuple[str, Picture]] = {}
    for box in shown:
        if box.kind != "block" or box.scope is None:
            continue
        parts = folder.fold(box.scope, lambda _: False)
        wiring = (kind(box.scope), tuple((p.kind, tuple(n.operation.name for n in p.nodes)) for p in parts))
        size = len(boxes(parts))
        if wiring in found or size > min(INSET_BUDGET, room):
            continue
        room -= size
        found[wiring] = (
            "inside " + captions.described(box.scope),
            picture(folder.graph, parts, folder.structure, box.scope),
        )
    return list(found.values())


__all__ = ["FORMATS", "Diagram", "DrawingError", "draw"]
