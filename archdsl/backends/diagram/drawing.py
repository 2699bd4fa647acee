"""The functions that draw a graph or a comparison, and the diagram that they give."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from archdsl.backends.diagram.captions import ALL
from archdsl.backends.diagram.colours import Colours
from archdsl.backends.diagram.detail import Detail
from archdsl.backends.diagram.dot import Style
from archdsl.backends.diagram.figure import Drawing, Request, network
from archdsl.backends.diagram.fixed import write_fixed
from archdsl.backends.diagram.formats import DIRECTIONS, STYLES, Direction, format_of
from archdsl.backends.diagram.panel import Panel
from archdsl.backends.diagram.render import DrawingError, render
from archdsl.backends.diagram.scene import Scene, from_layout
from archdsl.backends.diagram.theme import THEMES
from archdsl.common.marks import save
from archdsl.common.threads import cached_property
from archdsl.common.units import width_from
from archdsl.graph import Graph, Node

if TYPE_CHECKING:
    from archdsl.report.compare import Comparison


NONE = Colours()


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

    @property
    def is_for_print(self) -> bool:
        """Whether it was laid out for a given width."""
        return self.request is not None and self.request.width is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """The parts that do not fit, and the reasons."""
        return self.drawing.notes

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
    direction: Direction | None = None,
    sizes: Mapping[str, int] | None = None,
    examples: Sequence[tuple[str, bytes | None]] = (),
    width: float | str | None = None,
    detail: Detail = ALL,
    colours: Colours | None = None,
    matrix: str | None = None,
) -> Diagram:
    """A diagram of a checked graph.

    `depth` is how many levels of blocks are opened: 0 shows the model's own statements, each block a box. Without it,
    as many are opened as fit a page, encoder-decoders become a U, and blocks that stay folded are shown once beside.
    It runs down, volumes to the right, unless a `direction` is given.
    `style` is `boxes`, or `volumes`: feature maps in perspective. `sizes` are values for free sizes, for the costs
    in the picture. `examples` are lines of an augmentation with PNGs, for a panel beside the network; without
    them the panel has the lines alone. With a `width`, in points or as in "3.3in", the diagram is laid out for it and
    for at most 9 inches of height, with text of at least 7 points: where it does not fit otherwise, it is opened less
    far, and its boxes say less. `detail` says what is shown, and `colours` has colours and names of your own.
    `matrix` is the path of a convolution: its matrix is drawn instead of the network, at smaller sizes where its own
    are too large to read.
    Raises ValueError on a style, theme, direction or depth that does not exist, on a width that is no length or under
    half an inch, on kernels in another style than volumes, and for a layer that has no such matrix;
    SpecError for an unknown path; DrawingError.
    """
    looks = _looks(theme, direction or ("right" if style == "volumes" else "down"), colours or Colours())
    if style not in STYLES:
        raise ValueError(f"there is no style `{style}`; the styles are {', '.join(STYLES)}")
    if depth is not None and depth < 0:
        raise ValueError(f"the depth is a number of levels from 0, not {depth}")
    if detail.kernels and style != "volumes":
        raise ValueError("kernels are drawn in volumes alone: use the style `volumes`")
    panel = None
    if graph.augment is not None:
        lines = tuple(examples) or tuple((text, None) for text in graph.augment.text())
        panel = Panel(f"augment {graph.augment.name}", lines, looks.theme)
    turned = looks.direction == direction
    points = width_from(width) if width is not None else None
    request = Request(graph, depth, style, looks, sizes, points, detail, turned, _layer(graph, matrix))
    return Diagram(partial(network, request), graph.name, panel, request)


def _layer(graph: Graph, path: str | None) -> Node | None:
    """The layer whose matrix is drawn. Raises SpecError, and ValueError for a block."""
    if path is None:
        return None
    from archdsl.report.explain import find  # only for a matrix

    found = find(graph, path)
    if not isinstance(found, Node):
        inside = next((f", such as {node.path}" for node in found.nodes() if node.operation.has_filters), "")
        raise ValueError(f"`{path}` is a block; name a convolution in it{inside}")
    return found


def draw_changes(
    comparison: Comparison, *, depth: int | None = None, theme: str = "light", direction: Direction = "down"
) -> Diagram:
    """A diagram of the differences between two networks, the changes marked.

    Blocks without a change stay folded, and with `depth` also those nested deeper. Raises as `draw` does.
    """
    looks = _looks(theme, direction)

    def drawing() -> Drawing:
        from archdsl.backends.diagram.changes import draw_marked  # only for a comparison

        drawn, writer = draw_marked(comparison, looks, depth)
        return Drawing(write_fixed([drawn], writer), [("", drawn.picture)], writer)

    return Diagram(drawing, f"{comparison.before.name} → {comparison.after.name}")


def _looks(theme: str, direction: Direction, colours: Colours = NONE) -> Style:
    if theme not in THEMES:
        raise ValueError(f"there is no theme `{theme}`; the themes are {', '.join(THEMES)}")
    if direction not in DIRECTIONS:
        raise ValueError(f"the direction is `down` or `right`, not `{direction}`")
    found = THEMES[theme]
    return Style(replace(found, families={**found.families, **colours.families}), direction, colours)


__all__ = ["Diagram", "Drawing", "DrawingError", "draw", "draw_changes"]
