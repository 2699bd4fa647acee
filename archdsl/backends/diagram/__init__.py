"""Diagrams: a graph as a picture that folds its blocks, in many formats, and as a page to walk through."""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path

from archdsl.analysis.costs import costs
from archdsl.backends.diagram.captions import Captions
from archdsl.backends.diagram.changes import mark_changes
from archdsl.backends.diagram.choose import as_volumes, encoder_decoder, gathered, insets, level, overview, whole
from archdsl.backends.diagram.dot import Style, Writer
from archdsl.backends.diagram.fixed import Drawn, compose, write_fixed
from archdsl.backends.diagram.layered import lay_out as lay_out_layered
from archdsl.backends.diagram.page import write_page
from archdsl.backends.diagram.panel import Panel, inlined
from archdsl.backends.diagram.picture import Folder, Picture
from archdsl.backends.diagram.render import DrawingError, render
from archdsl.backends.diagram.scene import Scene, from_layout
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.theme import THEMES
from archdsl.backends.diagram.tikz import write_tikz
from archdsl.backends.diagram.ushape import lay_out as lay_out_u
from archdsl.backends.diagram.volumes import draw_volumes
from archdsl.common.choices import DIAGRAMS, DIRECTIONS, STYLES, Direction
from archdsl.common.marks import save
from archdsl.common.threads import cached_property
from archdsl.graph import Graph
from archdsl.report.compare import Comparison


@dataclass(frozen=True, slots=True)
class Drawing:
    """Dot text with the places of all that it draws, for `neato -n2`; and the shapes, where the drawing is our own."""

    dot: str
    scene: Scene | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Diagram:
    """A diagram, drawn when it is first asked for. It shows itself in a notebook.

    What shows or saves it raises DrawingError.
    """

    draw: Callable[[], Drawing]
    title: str = "a network"
    panel: Panel | None = None
    """Example pictures of what the model trains with; in dot text alone they are left out."""
    page: Callable[[], str] | None = None
    """Writes the page, where there is one to walk through."""

    @cached_property
    def _drawing(self) -> Drawing:
        return self.draw()

    @property
    def dot(self) -> str:
        """The picture as dot text, everything in its place: `neato -n2` draws it, `dot` lays it out anew."""
        return self._drawing.dot

    @property
    def scene(self) -> Scene | None:
        """The shapes of a drawing in volumes."""
        return self._drawing.scene

    def svg(self) -> str:
        return self._svg

    @cached_property
    def _svg(self) -> str:
        return self._rendered("svg").decode()

    def png(self) -> bytes:
        """The picture at 144 dots an inch."""
        return self._rendered("png", '\n\tgraph [dpi="144"]')

    def pdf(self) -> bytes:
        return self._rendered("pdf")

    def _rendered(self, form: str, setting: str = "") -> bytes:
        dot = self.dot.replace("{", "{" + setting, 1) if setting else self.dot
        if self.panel is None:
            return render(dot, form, "fixed")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            data = render(self.panel.put(dot, folder), form, "fixed")
            return inlined(data.decode(), folder).encode() if form == "svg" else data

    def tex(self) -> str:
        """A LaTeX document with the picture in TikZ."""
        return write_tikz(self.scene or from_layout(render(self.dot, "json", "fixed")))

    def html(self) -> str:
        """A self-contained page in which blocks open, with the numbers and the spec beside. Raises ValueError for a
        comparison."""
        if self.page is None:
            raise ValueError("a comparison has no page; draw it as .svg")
        return self.page()

    def save(self, path: str | Path) -> None:
        """Writes the format that the ending names, whole or not at all. Raises ValueError on another, OSError."""
        ending = Path(path).suffix.lower()
        match ending:
            case ".dot" | ".gv":
                data = (self.panel.put(self.dot) if self.panel else self.dot).encode()
            case ".svg":
                data = self.svg().encode()
            case ".png":
                data = self.png()
            case ".pdf":
                data = self.pdf()
            case ".tex":
                data = self.tex().encode()
            case ".html":
                data = self.html().encode()
            case _:
                raise ValueError(f"no format ends in `{ending}`; there are {', '.join(DIAGRAMS)}")
        save(path, data)

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
    `style` is `boxes`, or `volumes`: feature maps in perspective. `sizes` are values for free sizes, for the work
    that the picture tells. `examples` are lines of an augmentation with PNGs, for a panel beside the network; without
    them the lines stand there alone.
    Raises ValueError on a style, theme or direction that there is not, DrawingError.
    """
    if theme not in THEMES:
        raise ValueError(f"no theme is called `{theme}`; there are {', '.join(THEMES)}")
    if direction not in DIRECTIONS:
        raise ValueError(f"a diagram goes `down` or `right`, not `{direction}`")
    if style not in STYLES:
        raise ValueError(f"no style is called `{style}`; there are {', '.join(STYLES)}")
    looks = Style(THEMES[theme], direction)
    panel = None
    if graph.augment is not None:
        lines = tuple(examples) or tuple((text, None) for text in graph.augment.text())
        panel = Panel(f"augment {graph.augment.name}", lines, THEMES[theme])
    return Diagram(
        partial(_network, graph, depth, style, looks, sizes),
        title=graph.name,
        panel=panel,
        page=partial(write_page, graph, looks, sizes, depth, panel.html() if panel else ""),
    )


def _network(graph: Graph, depth: int | None, style: str, looks: Style, sizes: Mapping[str, int] | None) -> Drawing:
    captions = Captions(graph, costs(graph, sizes), sizes)
    structure = Structure(graph)
    folder = Folder(graph, structure)
    writer = Writer(captions, looks)
    if style == "volumes":
        flat, u = as_volumes(folder, captions.analysis, depth)
        return Drawing(*draw_volumes(flat, u, writer))
    if depth is None:
        u_shaped = encoder_decoder(folder, captions.analysis)
        if u_shaped is not None:
            flat, u, opened = u_shaped
            writer = Writer(captions, replace(looks, direction="down"))
            layout = lay_out_u(u, flat, writer.measure, writer.sizes(flat, skips=True))
            beside = insets(folder, opened, captions)
            drawn = [Drawn(flat, layout), *_drawn(beside, writer)]
            return Drawing(write_fixed(compose(drawn, writer), writer))
        opened = overview(folder)
        pictures = [
            ("", whole(folder, gathered(folder, folder.fold(graph.root, opened)))),
            *insets(folder, opened, captions),
        ]
    else:
        limit = depth
        pictures = [("", whole(folder, folder.fold(graph.root, lambda scope: level(scope) <= limit)))]
    return _layered(pictures, writer)


def _layered(pictures: Sequence[tuple[str, Picture]], writer: Writer) -> Drawing:
    """Pictures with their headings, laid out and composed."""
    return Drawing(write_fixed(compose(_drawn(pictures, writer), writer), writer))


def _drawn(pictures: Sequence[tuple[str, Picture]], writer: Writer) -> list[Drawn]:
    found = lay_out_layered([picture for _, picture in pictures], writer)
    return [Drawn(picture, layout, heading) for (heading, picture), layout in zip(pictures, found, strict=True)]


def draw_changes(
    comparison: Comparison, *, depth: int | None = None, theme: str = "light", direction: Direction = "down"
) -> Diagram:
    """A diagram of what differs between two networks, the changes marked.

    Blocks in which nothing changed stay folded, and with `depth` those that stand deeper. Raises as `draw` does.
    """
    if theme not in THEMES:
        raise ValueError(f"no theme is called `{theme}`; there are {', '.join(THEMES)}")

    def drawing() -> Drawing:
        picture, writer = mark_changes(comparison, Style(THEMES[theme], direction), depth)
        return _layered([("", picture)], writer)

    return Diagram(drawing, title=f"{comparison.before.name} → {comparison.after.name}")


__all__ = ["Diagram", "DrawingError", "draw", "draw_changes"]
