"""Diagrams: a graph as a picture that folds its blocks, in dot, svg, png and pdf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from archdsl.analysis import Analysis, costs
from archdsl.backends.diagram.captions import Captions
from archdsl.backends.diagram.dot import Direction, Style, Writer, write_layered
from archdsl.backends.diagram.fixed import measure, write_fixed
from archdsl.backends.diagram.picture import Folder, Part, Picture, boxes, picture
from archdsl.backends.diagram.render import DrawingError, render
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.theme import THEMES
from archdsl.backends.diagram.ushape import U, lay_out, recognise
from archdsl.files import write_whole
from archdsl.graph import Graph, Scope

T = TypeVar("T")

BUDGET = 30
"""The most boxes of a diagram that was not told how deep to go."""

LENGTH = 20
"""The most boxes on a way through such a diagram."""

U_BUDGET = 36
"""The most boxes of a U, whose two columns share the height."""

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
        """Writes the format that the ending names, whole or not at all. Raises ValueError on another ending,
        DrawingError, OSError."""
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

    `depth` is how many levels of blocks are opened: 0 shows the model's own statements, each block a box. Without
    it, as many
    are opened as fit a page, and blocks that stay folded are shown once beside. `sizes` are values for free sizes,
    for the work that the picture tells.
    Raises ValueError on a theme or direction that there is not.
    """
    if theme not in THEMES:
        raise ValueError(f"no theme is called `{theme}`; there are {', '.join(THEMES)}")
    if direction not in ("down", "right"):
        raise ValueError(f"a diagram goes `down` or `right`, not `{direction}`")
    captions = Captions(graph, costs(graph, sizes))
    structure = Structure(graph)
    folder = Folder(graph, structure)
    writer = Writer(captions, Style(THEMES[theme], direction))
    if depth is None:
        u_shaped = encoder_decoder(folder, captions.analysis)
        if u_shaped is not None:
            flat, u = u_shaped
            layout = lay_out(u, flat, lambda part: measure(writer, part))
            return Diagram(write_fixed(flat, layout, writer), "fixed")
        opened = overview(folder)
        pictures = [("", whole(folder, folder.fold(graph.root, opened))), *insets(folder, opened, captions)]
    else:
        limit = depth
        pictures = [("", whole(folder, folder.fold(graph.root, lambda scope: level(scope) <= limit)))]
    return Diagram(write_layered(pictures, writer))


def level(scope: Scope) -> int:
    """How many scopes stand around a scope: 1 for the model's own blocks."""
    return sum(1 for _ in scope.calls()) - 1


# ---------------------------------------------------------------- choosing what to open


def kind(scope: Scope) -> tuple[object, ...]:
    """What is opened together: the calls of one block, the bodies of one name within them."""
    if scope.definition is not None and scope.kind == "block":
        return (scope.definition.syntax.span,)
    return (*(kind(scope.parent) if scope.parent else ()), scope.name)


def overview(folder: Folder) -> Callable[[Scope], bool]:
    """Which scopes to open: outer ones first, costly ones before cheap ones, while the picture fits a page."""

    def fits(parts: list[Part]) -> Picture | None:
        found = whole(folder, parts)
        return found if len(found.boxes()) <= BUDGET and len(found.trunk()) <= LENGTH else None

    opened, _ = open_while(folder, fits)
    return opened


def encoder_decoder(folder: Folder, analysis: Analysis) -> tuple[Picture, U] | None:
    """The picture of a network that goes down in resolution and up again, as far open as fits a page; None for
    another."""

    def fits(parts: list[Part]) -> tuple[Picture, U | None] | None:
        if len(boxes(parts)) > U_BUDGET or any(p.count > 1 and p.children for part in parts for p in part.walk()):
            return None
        flat = whole(folder, boxes(parts))
        return flat, recognise(flat, analysis)

    _, found = open_while(folder, fits)
    return (found[0], found[1]) if found is not None and found[1] is not None else None


def whole(folder: Folder, parts: list[Part]) -> Picture:
    """The picture of a whole network, from its inputs to its outputs."""
    outputs = [Part("output", [()], output=output) for output in folder.graph.outputs]
    return picture(folder.graph, parts + outputs, folder.structure)


def open_while(folder: Folder, fits: Callable[[list[Part]], T | None]) -> tuple[Callable[[Scope], bool], T | None]:
    """Opens kinds of scopes, outer ones first, large ones before small ones, leaving closed what `fits` refuses.

    Gives which scopes are open, and what `fits` made of the last state that it took.
    """
    opened: set[tuple[object, ...]] = set()
    refused: set[tuple[object, ...]] = set()

    def fold(kinds: set[tuple[object, ...]]) -> list[Part]:
        return folder.fold(folder.graph.root, lambda scope: kind(scope) in kinds)

    current = fold(opened)
    result = fits(fold(opened))
    while True:
        folded: dict[tuple[object, ...], tuple[int, int]] = {}
        for box in boxes(current):
            if box.kind == "block" and box.scope is not None and kind(box.scope) not in refused:
                depth, size = folded.get(kind(box.scope), (1 << 30, 0))
                folded[kind(box.scope)] = (min(depth, level(box.scope)), size + sum(map(len, box.times)))
        if not folded:
            return (lambda scope: kind(scope) in opened), result
        choice = min(folded, key=lambda k: (folded[k][0], -folded[k][1]))
        trial = fits(fold(opened | {choice}))
        if trial is None:
            refused.add(choice)
        else:
            opened.add(choice)
            current, result = fold(opened), trial


def insets(folder: Folder, opened: Callable[[Scope], bool], captions: Captions) -> list[tuple[str, Picture]]:
    """The blocks that stay folded, each wiring of them opened once, as far as the page has room."""
    shown = boxes(folder.fold(folder.graph.root, opened))
    room = max(BUDGET - len(shown), 0) + 4
    found: dict[object, tuple[str, Picture]] = {}
    for box in shown:
        if box.kind != "block" or box.scope is None:
            continue
        inside = [folder.fold(box.scope, depth) for depth in (lambda _: True, lambda _: False)]
        wiring = (kind(box.scope), tuple((p.kind, tuple(n.operation.name for n in p.nodes)) for p in boxes(inside[0])))
        parts = next((p for p in inside if len(boxes(p)) <= min(INSET_BUDGET, room)), None)
        if wiring in found or parts is None:
            continue
        room -= len(boxes(parts))
        heading = "inside " + captions.described(box.scope)
        found[wiring] = (heading, picture(folder.graph, parts, folder.structure, box.scope))
    return list(found.values())


__all__ = ["FORMATS", "Diagram", "DrawingError", "draw"]
