"""The functions that draw a graph or a comparison, and the diagram that they give."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from archdsl.analysis.costs import costs
from archdsl.backends.diagram.captions import Captions
from archdsl.backends.diagram.dot import Style, Writer
from archdsl.backends.diagram.fixed import Drawn, compose, write_fixed
from archdsl.backends.diagram.formats import DIRECTIONS, STYLES, Direction, format_of
from archdsl.backends.diagram.layered import lay_out as lay_out_layered
from archdsl.backends.diagram.opening import as_volumes, encoder_decoder, gathered, insets, level, overview, whole
from archdsl.backends.diagram.panel import Panel
from archdsl.backends.diagram.picture import Folder, Picture
from archdsl.backends.diagram.render import DrawingError, render
from archdsl.backends.diagram.scene import Scene, as_dot, from_layout
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.theme import THEMES
from archdsl.backends.diagram.ulayout import in_columns
from archdsl.backends.diagram.volumes import draw_volumes
from archdsl.common.marks import save
from archdsl.common.threads import cached_property
from archdsl.graph import Graph

if TYPE_CHECKING:
    from archdsl.report.compare import Comparison


@dataclass(frozen=True, slots=True)
class Drawing:
    """Dot text with the places of all that it draws, for `neato -n2`.

    It shows the `pictures`, each under its heading, in the words and looks of the `writer`. Figures in volumes have
    a `scene` of their own.
    """

    dot: str
    pictures: Sequence[tuple[str, Picture]]
    writer: Writer
    scene: Scene | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `draw`."""

    graph: Graph
    depth: int | None
    style: str
    looks: Style
    sizes: Mapping[str, int] | None


@dataclass(frozen=True, eq=False, repr=False)
class Diagram:
    """A diagram, drawn when it is first asked for. It shows itself in a notebook.

    All that shows or saves it raises DrawingError.
    """

    draw: Callable[[], Drawing]
    title: str = "a network"
    panel: Panel | None = None
    """Example pictures of what the model trains with; in dot text alone they are left out."""
    request: Request | None = None
    """For a graph, not for a comparison."""

    @cached_property
    def drawing(self) -> Drawing:
        return self.draw()

    @property
    def dot(self) -> str:
        """The picture as dot text, everything in its place: `neato -n2` draws it, `dot` lays it out anew."""
        return self.drawing.dot

    @cached_property
    def scene(self) -> Scene:
        """The shapes of the drawing, without the panel."""
        return self.drawing.scene or from_layout(render(self.dot, "json", "fixed"))

    def data(self, ending: str) -> bytes:
        """The bytes of a file whose name ends so. Raises ValueError on an ending that no format has."""
        return format_of(ending).write(self)

    def svg(self) -> str:
        return self._svg

    @cached_property
    def _svg(self) -> str:
        return self.data(".svg").decode()

    def png(self) -> bytes:
        """The picture at 144 dots an inch."""
        return self.data(".png")

    def pdf(self) -> bytes:
        return self.data(".pdf")

    def tex(self) -> str:
        """A LaTeX document with the picture in TikZ."""
        return self.data(".tex").decode()

    def html(self) -> str:
        """A self-contained page in which blocks open, with the numbers and the spec beside. Raises ValueError for a
        comparison."""
        return self.data(".html").decode()

    def save(self, path: str | Path) -> None:
        """Writes the format that the ending names, whole or not at all. Raises ValueError on another, OSError."""
        form = format_of(Path(path).suffix)
        save(path, form.write(self), form.comment)

    def _repr_svg_(self) -> str:
        svg = self.svg()
        return svg[svg.index("<svg") :]  # without what only a file begins with

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """For notebooks: as HTML, an image that shrinks to the cell's width, so that it shows whole; as SVG for export.

        An image runs no scripts and brings its styles in no conflict with the page's.
        """
        svg = self._repr_svg_()
        encoded = b64encode(svg.encode()).decode()
        style = "max-width:100%;height:auto"
        return {
            "text/html": f'<img alt="{escape(self.title)}" style="{style}" src="data:image/svg+xml;base64,{encoded}">',
            "image/svg+xml": svg,
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return f"<Diagram of {self.title}>"


def draw(
    graph: Graph,
    *,
    depth: int | None = None,
    style: str = "boxes",
    theme: str = "light",
    direction: Direction = "down",
    sizes: Mapping[str, int] | None = None,
    examples: Sequence[tuple[str, bytes | None]] = (),
) -> Diagram:
    """A diagram of a checked graph.

    `depth` is how many levels of blocks are opened: 0 shows the model's own statements, each block a box. Without it,
    as many are opened as fit a page, encoder-decoders become a U, and blocks that stay folded are shown once beside.
    `style` is `boxes`, or `volumes`: feature maps in perspective. `sizes` are values for free sizes, for the costs
    in the picture. `examples` are lines of an augmentation with PNGs, for a panel beside the network; without
    them the panel has the lines alone.
    Raises ValueError on a style, theme or direction that does not exist, DrawingError.
    """
    looks = _looks(theme, direction)
    if style not in STYLES:
        raise ValueError(f"there is no style `{style}`; the styles are {', '.join(STYLES)}")
    panel = None
    if graph.augment is not None:
        lines = tuple(examples) or tuple((text, None) for text in graph.augment.text())
        panel = Panel(f"augment {graph.augment.name}", lines, looks.theme)
    request = Request(graph, depth, style, looks, sizes)
    return Diagram(partial(_network, request), graph.name, panel, request)


def draw_changes(
    comparison: Comparison, *, depth: int | None = None, theme: str = "light", direction: Direction = "down"
) -> Diagram:
    """A diagram of the differences between two networks, the changes marked.

    Blocks without a change stay folded, and with `depth` also those nested deeper. Raises as `draw` does.
    """
    looks = _looks(theme, direction)

    def drawing() -> Drawing:
        from archdsl.backends.diagram.changes import mark_changes  # only for a comparison

        picture, writer = mark_changes(comparison, looks, depth)
        return _composed(_laid_out([("", picture)], writer), writer)

    return Diagram(drawing, f"{comparison.before.name} → {comparison.after.name}")


def _looks(theme: str, direction: Direction) -> Style:
    if theme not in THEMES:
        raise ValueError(f"there is no theme `{theme}`; the themes are {', '.join(THEMES)}")
    if direction not in DIRECTIONS:
        raise ValueError(f"the direction is `down` or `right`, not `{direction}`")
    return Style(THEMES[theme], direction)


def _network(request: Request) -> Drawing:
    """Draws a graph as volumes, a U, or layers of boxes."""
    graph, depth = request.graph, request.depth
    folder = Folder(graph, Structure(graph))
    captions = Captions(folder.structure, costs(graph, request.sizes), request.sizes)
    writer = Writer(captions, request.looks)
    if request.style == "volumes":
        captions.framed = False
        flat, u = as_volumes(folder, captions.analysis, depth)
        scene = draw_volumes(flat, u, writer)
        return Drawing(as_dot(scene, writer.theme.background), [("", flat)], writer, scene)
    if depth is not None:
        main = whole(folder, folder.fold(graph.root, lambda scope: level(scope) <= depth))
        return _composed(_laid_out([("", main)], writer), writer)
    if (found := encoder_decoder(folder, captions.analysis)) is not None:
        flat, u, opened = found
        writer = Writer(captions, replace(request.looks, direction="down"))
        layout = in_columns(u, flat, writer.measure, writer.sizes(flat, skips=True))
        return _composed([Drawn(flat, layout), *_laid_out(insets(folder, opened, captions), writer)], writer)
    opened = overview(folder)
    main = whole(folder, gathered(folder, folder.fold(graph.root, opened)))
    return _composed(_laid_out([("", main), *insets(folder, opened, captions)], writer), writer)


def _laid_out(pictures: Sequence[tuple[str, Picture]], writer: Writer) -> list[Drawn]:
    found = lay_out_layered([picture for _, picture in pictures], writer)
    return [Drawn(picture, layout, heading) for (heading, picture), layout in zip(pictures, found, strict=True)]


def _composed(drawn: Sequence[Drawn], writer: Writer) -> Drawing:
    """Pictures beside each other, each under its heading."""
    dot = write_fixed(compose(drawn, writer), writer)
    return Drawing(dot, [(one.heading, one.picture) for one in drawn], writer)


__all__ = ["Diagram", "Drawing", "DrawingError", "draw", "draw_changes"]
