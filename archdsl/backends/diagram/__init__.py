"""Diagrams: a graph as a picture that folds its blocks, in dot, svg, png and pdf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from archdsl.analysis import costs
from archdsl.backends.diagram.captions import Captions
from archdsl.backends.diagram.choose import as_volumes, encoder_decoder, gathered, insets, level, overview, whole
from archdsl.backends.diagram.dot import Direction, Style, Writer, write_layered
from archdsl.backends.diagram.fixed import measure, write_fixed
from archdsl.backends.diagram.picture import Folder
from archdsl.backends.diagram.render import DrawingError, render
from archdsl.backends.diagram.scene import Scene, from_layout
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.theme import THEMES
from archdsl.backends.diagram.tikz import write_tikz
from archdsl.backends.diagram.ushape import lay_out
from archdsl.backends.diagram.volumes import draw_volumes
from archdsl.files import write_whole
from archdsl.graph import Graph

STYLES = ("boxes", "volumes")

FORMATS = (".dot", ".svg", ".png", ".pdf", ".tex")


@dataclass(frozen=True, eq=False)
class Diagram:
    """A diagram, as dot text that any Graphviz can lay out. It shows itself in a notebook."""

    dot: str
    layout: Literal["dot", "fixed"] = "dot"
    scene: Scene | None = None
    """The shapes, where the drawing is our own."""

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

    def tex(self) -> str:
        """A LaTeX document with the picture in TikZ. Raises DrawingError."""
        return write_tikz(self.scene or from_layout(render(self.dot, "json", self.layout)))

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
            case ".tex":
                data = self.tex().encode()
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
    style: str = "boxes",
    theme: str = "light",
    direction: Direction = "down",
    sizes: Mapping[str, int] | None = None,
) -> Diagram:
    """A diagram of a checked graph.

    `depth` is how many levels of blocks are opened: 0 shows the model's own statements, each block a box. Without it,
    as many are opened as fit a page, encoder-decoders become a U, and blocks that stay folded are shown once beside.
    `style` is `boxes`, or `volumes`: feature maps in perspective. `sizes` are values for free sizes, for the work
    that the picture tells.
    Raises ValueError on a style, theme or direction that there is not, DrawingError.
    """
    if theme not in THEMES:
        raise ValueError(f"no theme is called `{theme}`; there are {', '.join(THEMES)}")
    if direction not in ("down", "right"):
        raise ValueError(f"a diagram goes `down` or `right`, not `{direction}`")
    if style not in STYLES:
        raise ValueError(f"no style is called `{style}`; there are {', '.join(STYLES)}")
    captions = Captions(graph, costs(graph, sizes), sizes)
    structure = Structure(graph)
    folder = Folder(graph, structure)
    writer = Writer(captions, Style(THEMES[theme], direction))
    if style == "volumes":
        flat, u = as_volumes(folder, captions.analysis, depth)
        dot, scene = draw_volumes(flat, u, writer)
        return Diagram(dot, "fixed", scene)
    if depth is None:
        u_shaped = encoder_decoder(folder, captions.analysis)
        if u_shaped is not None:
            flat, u = u_shaped
            layout = lay_out(u, flat, lambda part: measure(writer, part))
            return Diagram(write_fixed(flat, layout, writer), "fixed")
        opened = overview(folder)
        pictures = [
            ("", whole(folder, gathered(folder, folder.fold(graph.root, opened)))),
            *insets(folder, opened, captions),
        ]
    else:
        limit = depth
        pictures = [("", whole(folder, folder.fold(graph.root, lambda scope: level(scope) <= limit)))]
    return Diagram(write_layered(pictures, writer))


__all__ = ["FORMATS", "Diagram", "DrawingError", "draw"]
