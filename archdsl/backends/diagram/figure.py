"""From a network to a figure: which form it takes, how far it is opened, and how much text it has, so that it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from archdsl.analysis.costs import Analysis, costs
from archdsl.backends.diagram.captions import Captions
from archdsl.backends.diagram.detail import Detail
from archdsl.backends.diagram.dot import LEAST_PAD, NOTE, Style, Writer
from archdsl.backends.diagram.fixed import GAP, Drawn, note_room, page_size, write_fixed
from archdsl.backends.diagram.grid import Words, on_grid, rows_of
from archdsl.backends.diagram.labels import extent
from archdsl.backends.diagram.layered import headings
from archdsl.backends.diagram.layered import lay_out as lay_out_layered
from archdsl.backends.diagram.layout import Box, Layout
from archdsl.backends.diagram.matrices import draw_matrix, matrix_of
from archdsl.backends.diagram.opening import (
    INSET_BUDGET,
    Inset,
    as_volumes,
    encoder_decoder,
    gathered,
    held,
    insets,
    level,
    overview,
    streams,
    whole,
)
from archdsl.backends.diagram.picture import Folder, Part, Picture
from archdsl.backends.diagram.scene import Scene, Text, as_dot
from archdsl.backends.diagram.sheet import Sheet
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.ulayout import in_columns as u_in_columns
from archdsl.backends.diagram.volumes import SMALL, draw_volumes
from archdsl.backends.diagram.wrapping import ROOM, wrapped
from archdsl.graph import Graph, Node, Tensor

SMALLEST = 7.0
"""Points of the smallest text in print."""

HIGHEST = 648.0
"""Points of height, 9 inches, of a figure with a given width."""

LONG, COLUMN = {"down": 1250.0, "right": 1800.0}, {"down": 900.0, "right": 1400.0}
"""Points from which on a picture without a given width is cut, and of the columns or rows into which it is."""

NARROW, NARROW_INSET = 450.0, 12
"""The width of a sheet, in points, up to which insets have so many boxes at most."""

LEGEND_ROWS = 45.0
"""Points of height that the entries of a legend take, about."""

LEAST_COLUMN = 150.0
"""The least height, in points, of the columns of an inset."""

WIDE = 1300.0
"""Points up to which a sheet is widened for blocks that are wired otherwise than one that is shown."""

LONG_VOLUMES = 1400.0
"""Points of a row of volumes."""

SHARES = (1.0, 0.7, 0.45, 0.25, 0.0)
"""How far a network is opened until it fits: shares of what a page shows. With 0, nothing is."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Dot text with the places of all that it draws, for `neato -n2`.

    It shows the `pictures`, each under its heading, in the words and looks of the `writer`. Figures in volumes have
    a `scene` of their own. In print it is smaller by the factor `scale`. `notes` say what does not fit.
    """

    dot: str
    pictures: Sequence[tuple[str, Picture]]
    writer: Writer
    scene: Scene | None = None
    scale: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `draw`; `width` is in points."""

    graph: Graph
    depth: int | None
    style: str
    looks: Style
    sizes: Mapping[str, int] | None
    width: float | None = None
    detail: Detail = field(default_factory=Detail)
    turned: bool = False
    """Whether the direction was asked for."""
    matrix: Node | None = None
    """The layer whose matrix is drawn, instead of the network."""

    @property
    def forms_u(self) -> bool:
        """Whether an encoder-decoder is drawn as a U: boxes run down in it and up, volumes to the right."""
        usual = "right" if self.style == "volumes" else "down"
        return not self.turned or self.looks.direction == usual


@dataclass(frozen=True, slots=True)
class _Try:
    """A figure, and whether it fits; `left_out` are the insets that do not."""

    drawn: Sequence[Drawn]
    left_out: Sequence[Inset]
    writer: Writer
    size: tuple[float, float]
    fits: bool
    unopened: list[str]


def _lacks(found: _Try) -> tuple[int, int]:
    """How many blocks that teach something a figure leaves out, and how many in all."""
    return sum(inset.is_first for inset in found.left_out), len(found.left_out)


def _wide(box: Box) -> float:
    return box[2] - box[0]


def _inches(points: float) -> str:
    """With one digit, rounded up: what is said not to fit is larger than what it does not fit."""
    return f"{ceil(points / 7.2 - 1e-6) / 10:.1f}"


def _beside(layout: Layout) -> int:
    """The most boxes that are side by side."""
    rooms = list(map(layout.box, layout.places))
    return max(sum(low < (bottom + top) / 2 < high for _, low, _, high in rooms) for _, bottom, _, top in rooms)


def in_columns(one: Drawn, writer: Writer, sheet: Sheet | None = None) -> Drawn:
    """A picture in columns or rows, where it is longer than a sheet, or than what can be looked at."""
    if not one.cuttable:
        return one
    direction = writer.style.direction
    left, bottom, right, top = one.box(writer)
    length = top - bottom if direction == "down" else right - left
    most = COLUMN[direction] if sheet is None else (sheet.height if direction == "down" else sheet.width)
    if length <= (LONG[direction] if sheet is None else most):
        return one
    notes = [room for part in one.layout.places if (room := note_room(one.layout, part, writer))]
    tops = headings(one.layout, writer)
    return replace(one, layout=wrapped(one.layout, most - 2 * ROOM, tops, notes, down=direction == "down"))


def network(request: Request) -> Drawing:
    """Draws a graph as volumes, a U, or layers of boxes, or the matrix of a layer. Raises DrawingError, NoMatrix."""
    maker = _Maker(request)
    if request.matrix is not None:
        return maker.matrix(request.matrix)
    if request.style == "volumes":
        return maker.volumes()
    if request.width is None:
        return maker.drawing(maker.attempt(request.detail, 1.0, None), 1.0, ())
    return maker.within(request.width)


class _Maker:
    def __init__(self, request: Request) -> None:
        self.request = request
        self.graph = request.graph
        self.folder = Folder(self.graph, Structure(self.graph))
        self.analysis: Analysis = costs(self.graph, request.sizes)

    def writer(self, detail: Detail, style: Style | None = None) -> Writer:
        names = self.request.looks.colours.names
        captions = Captions(self.folder.structure, self.analysis, self.request.sizes, detail, names)
        return Writer(captions, style or self.request.looks)

    def volumes(self) -> Drawing:
        writer = self.writer(self.request.detail)
        flat, u = as_volumes(self.folder, self.analysis, self.request.depth)
        u = u if self.request.forms_u else None
        writer.captions.framed = False
        longest = self.request.width if self.request.width is not None else LONG_VOLUMES
        scene = draw_volumes(flat, u, writer, longest)
        return self.scaled(scene, flat, writer, SMALL)

    def matrix(self, node: Node) -> Drawing:
        shape, output = (self.analysis.shape(t) for t in (node.inputs[0], Tensor(node.id)))
        detail = self.request.detail
        writer = self.writer(detail)
        scene = draw_matrix(matrix_of(node, shape, output), writer.theme, notes=detail.title, caption=detail.caption)
        smallest = min((s.size for s in scene.shapes if isinstance(s, Text)), default=SMALL)
        return self.scaled(scene, Picture(self.graph, (), ()), writer, smallest)

    def scaled(self, scene: Scene, picture: Picture, writer: Writer, smallest: float) -> Drawing:
        """A figure with its own scene, as wide as asked for while its smallest text can be read."""
        scale, notes = 1.0, tuple[str, ...]()
        if self.request.width is not None:
            wide = scene.bounds[2] - scene.bounds[0]
            writer.pad, scale = 0.0, min(1.0, self.request.width / wide)
            if scale * smallest < SMALLEST:
                scale = SMALLEST / smallest
                notes = (
                    f"the figure does not fit {self.request.width / 72:.1f} inches with text of {SMALLEST:g} points: "
                    f"it is {_inches(wide * scale)} inches wide",
                )
        return Drawing(as_dot(scene, writer.theme.background), [("", picture)], writer, scene, scale, notes)

    # ------------------------------------------------------------ a given width

    def within(self, width: float) -> Drawing:
        """The fullest figure that fits a width in print, else the smallest one, with a note."""
        scale = SMALLEST / NOTE
        sheet = Sheet(width / scale, HIGHEST / scale)
        details = self.request.detail.shorter()
        tersest: dict[float, _Try] = {}
        for share in SHARES if self.request.depth is None else SHARES[:1]:
            tersest[share] = self.attempt(details[-1], share, sheet)
            if tersest[share].fits and not _lacks(tersest[share])[0]:
                break
        fitting = [share for share, found in tersest.items() if found.fits]
        if fitting:
            share = min(fitting, key=lambda s: (_lacks(tersest[s])[0], -s))
            tries = [self.attempt(detail, share, sheet) for detail in details[:-1]]
            return self.drawing(min([*filter(lambda t: t.fits, tries), tersest[share]], key=_lacks), scale, ())
        tries = [*tersest.values(), self.attempt(details[-1], 0.0, sheet, wide=True)]
        found = min(tries, key=lambda t: (max(t.size[0] - sheet.width, 0), t.size[1]))
        inches = " × ".join(_inches(side * scale) for side in found.size)
        note = (
            f"the figure does not fit {width / 72:.1f} × {HIGHEST / 72:.1f} inches with text of {SMALLEST:g} points: "
            f"up to {_beside(found.drawn[0].layout)} boxes are side by side, and the smallest figure found takes "
            f"{inches} inches; `--depth` and `--direction` may help"
        )
        return self.drawing(found, scale, (note,))

    # ------------------------------------------------------------ one figure

    def attempt(self, detail: Detail, share: float, sheet: Sheet | None, *, wide: bool = False) -> _Try:
        """A figure with so much opened and so much text, on a sheet; a `wide` grid even if it is wider."""
        writer = self.writer(detail)
        if sheet is not None:
            writer.pad = LEAST_PAD
            writer.width = sheet.width - 2 * writer.pad - 2
        graph, depth = self.graph, self.request.depth
        if depth is not None:
            main = whole(self.folder, self.folder.fold(graph.root, lambda scope: level(scope) <= depth))
            return self._placed([Drawn(main, lay_out_layered([main], writer)[0])], [], [], writer, sheet)
        if share and self.request.forms_u and (found := encoder_decoder(self.folder, self.analysis)) is not None:
            flat, u, opened = found
            texts = writer.sizes(flat, skips=True)
            layout = u_in_columns(u, flat, writer.measure, texts, tight=sheet is not None)
            if sheet is None or layout.bounds()[2] - layout.bounds()[0] <= sheet.width:
                return self._with_insets(
                    Drawn(flat, layout), insets(self.folder, opened, self._most(sheet)), writer, sheet
                )
        if (grid := self._grid(share, writer, sheet, wide=wide)) is not None:
            return grid
        opened = overview(self.folder, share)
        beside = insets(self.folder, opened, self._most(sheet))
        main = whole(self.folder, gathered(self.folder, self.folder.whole(opened)))
        return self._with_insets(main, beside, writer, sheet)

    def _grid(self, share: float, writer: Writer, sheet: Sheet | None, *, wide: bool) -> _Try | None:
        """A network that keeps several resolutions at once, if it can be drawn so, within the width of a sheet."""
        if (found := streams(self.folder, self.analysis, share)) is None:
            return None
        flat, opened = found
        tries: list[_Try] = []
        for tight, turned in self._grids(sheet)[-1 if wide else 0 :]:
            if (rows := rows_of(flat, self.analysis, few=turned)) is None:
                return None
            words = Words(writer.sizes(rows.picture), self._notes(flat, writer))
            layout = on_grid(rows, writer.measure, words, tight=tight, turned=turned)
            if layout is None:
                continue
            if sheet is None or wide or _wide(layout.bounds()) <= sheet.width - 2 * writer.pad:
                beside = insets(self.folder, opened, self._most(sheet))
                tries.append(self._with_insets(Drawn(rows.picture, layout, cuttable=False), beside, writer, sheet))
                if tries[-1].fits:
                    break
        return tries[-1] if tries else None

    def _grids(self, sheet: Sheet | None) -> list[tuple[bool, bool]]:
        """The forms of a grid to try: tight or not, turned or not. It runs in the direction that was asked for; down,
        only if the page is wide enough."""
        rows, turned = [(False, False), (True, False)], [(False, True), (True, True)]
        if not self.request.turned:
            forms = [*rows, turned[1]]
        else:
            forms = [*turned, *rows] if self.request.looks.direction == "down" else rows
        return forms if sheet is not None else forms[:1]

    @staticmethod
    def _notes(picture: Picture, writer: Writer) -> dict[Part, tuple[float, float]]:
        """The sizes of the notes of merges."""
        return {part: extent(notes) for part in picture.boxes() if (notes := writer.notes(part))}

    @staticmethod
    def _most(sheet: Sheet | None) -> int:
        """The most boxes of an inset."""
        return NARROW_INSET if sheet is not None and sheet.width < NARROW else INSET_BUDGET

    def _with_insets(self, main: Drawn | Picture, beside: list[Inset], writer: Writer, sheet: Sheet | None) -> _Try:
        named = [inset for inset in beside if not inset.parts]
        beside = [inset for inset in beside if inset.parts]
        pictures = [inset.picture(self.folder) for inset in beside]
        first = [main] if isinstance(main, Picture) else []
        layouts = lay_out_layered([*first, *pictures], writer)
        drawn = [Drawn(main, layouts[0]) if isinstance(main, Picture) else main]
        for inset, picture, layout in zip(beside, pictures, layouts[len(first) :], strict=True):
            drawn.append(Drawn(picture, layout, writer.captions.described(inset.scope)))
        return self._placed(drawn, beside, named, writer, sheet)

    def _placed(
        self,
        drawn: list[Drawn],
        beside: Sequence[Inset],
        named: Sequence[Inset],
        writer: Writer,
        sheet: Sheet | None,
    ) -> _Try:
        """The pictures on a sheet, the first in columns where it is long, or where more fits then."""
        if sheet is None:
            first = in_columns(drawn[0], writer)
            sheets = Sheet.around(first, writer)
            tries = []
            for one in sheets:
                tries.append(self._on(one, [first, *drawn[1:]], beside, named, writer, None))
                if not tries[-1].left_out or (not tries[-1].unopened and one.width >= WIDE):
                    break
            return min(tries, key=lambda t: (len(t.unopened), *_lacks(t)))
        below = page_size([], writer, writer.width)[1]
        room = Sheet(sheet.width - 2 * writer.pad, sheet.height - below - LEGEND_ROWS)
        tries = []
        for share in (1.0, 0.75, 0.6, 0.4) if len(drawn) > 1 else (1.0,):
            columns = (
                Sheet(room.width * share, room.height)
                if self._is_right(writer)
                else Sheet(room.width, room.height * share)
            )
            first = in_columns(drawn[0], writer, columns)
            tries.append(self._on(room, [first, *drawn[1:]], beside, named, writer, sheet))
        return min(tries, key=lambda t: (not t.fits, max(t.size[0] - sheet.width, 0), *_lacks(t)))

    def _on(
        self,
        room: Sheet,
        drawn: Sequence[Drawn],
        beside: Sequence[Inset],
        named: Sequence[Inset],
        writer: Writer,
        sheet: Sheet | None,
    ) -> _Try:
        if sheet is not None:
            drawn = [drawn[0], *(self._shortened(one, drawn[0], room, writer) for one in drawn[1:])]
        for attempt in range(3):
            placed, rest = room.placed(drawn, writer)
            left_out = [inset for inset, one in zip(beside, drawn[1:], strict=True) if any(one is r for r in rest)]
            shown = [inset for inset in beside if not any(inset is other for other in left_out)]
            writer.unopened = self._unopened([*left_out, *named], shown, brief=attempt > 0)
            size = page_size(placed, writer, sheet.width if sheet is not None else 0.0)
            fits = sheet is None or (size[0] <= sheet.width + 0.5 and size[1] <= sheet.height + 0.5)
            if fits or sheet is None:
                break
            if attempt:  # what is said below takes more than was kept free for it
                room = Sheet(room.width, room.height - max(size[1] - sheet.height, 0.0))
        return _Try(placed, left_out, writer, size, fits, writer.unopened)

    def _shortened(self, one: Drawn, first: Drawn, room: Sheet, writer: Writer) -> Drawn:
        """An inset in columns, where it is higher than what is free below the first picture."""
        _, bottom, _, top = first.box(writer)
        free = room.height - (top - bottom) - GAP
        x1, y1, x2, y2 = one.box(writer)
        if y2 - y1 <= free or self._is_right(writer) or free < LEAST_COLUMN:
            return one
        notes = [note for part in one.layout.places if (note := note_room(one.layout, part, writer))]
        most = free - 2 * ROOM - 3 * GAP
        found = replace(one, layout=wrapped(one.layout, most, headings(one.layout, writer), notes, down=True))
        x1, y1, x2, y2 = found.box(writer)
        return found if y2 - y1 <= free and x2 - x1 <= room.width else one

    @staticmethod
    def _is_right(writer: Writer) -> bool:
        return writer.style.direction == "right"

    def _unopened(self, left_out: Sequence[Inset], shown: Sequence[Inset], *, brief: bool) -> list[str]:
        """The kinds of blocks that are opened nowhere, with what they hold, or in `brief` by their names alone."""
        texts: dict[str, str] = {}
        for inset in left_out:
            if not any(inset.name == other.name for other in shown):
                texts.setdefault(inset.name, "" if brief else held(self.folder, inset.scope))
        return [", ".join(texts)] if brief and texts else [f"{name}: {text}" for name, text in texts.items()]

    def drawing(self, found: _Try, scale: float, notes: tuple[str, ...]) -> Drawing:
        width = self.request.width / scale if self.request.width is not None else 0.0
        found.writer.unopened = found.unopened
        dot = write_fixed(found.drawn, found.writer, width)
        return Drawing(dot, [(one.heading, one.picture) for one in found.drawn], found.writer, None, scale, notes)
