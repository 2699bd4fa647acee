"""Feature maps as boxes in perspective, as in the figures of AlexNet and U-Net: thick as their channels, high and deep
as their sizes, each side by the square root of its number.

If there are many, the operation that most maps of a colour come from is in the legend alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from math import hypot, sqrt

from archdsl.backends.diagram.captions import ONLY_IN_TRAINING, letter
from archdsl.backends.diagram.dot import Writer, strokes
from archdsl.backends.diagram.formats import Direction
from archdsl.backends.diagram.kernels import kernels
from archdsl.backends.diagram.labels import Entry, Line, Words
from archdsl.backends.diagram.layered import headings, lay_out
from archdsl.backends.diagram.layout import Box, Layout, rounded, samples
from archdsl.backends.diagram.metrics import text_width
from archdsl.backends.diagram.picture import Edge, EdgeKind, Part, Picture
from archdsl.backends.diagram.scene import Curve, Dash, Ellipse, Pen, Point, Polygon, Scene, Shape, Text, Thing
from archdsl.backends.diagram.ulayout import MAP_GAP, Room, in_rows
from archdsl.backends.diagram.ushape import U
from archdsl.backends.diagram.wrapping import wrapped
from archdsl.graph import Tensor

TALLEST = 72.0
"""Points of the largest spatial size."""

WIDEST = 640.0
"""Points of width up to which each map is labelled with its operation."""

THINNEST, PER_CHANNEL = 3.0, 0.8
"""Points of a map's thickness: the least, and for the square root of its channels."""

OBLIQUE = 0.35
"""How far the depth runs to the right and up, for each point of it."""

LINE, SMALL = 10.0, 8.0
"""Height and size of the text under a map, in points."""

LINE_WIDTH = 50.0
"""Points at which that text breaks."""

ARROW, STROKE_GAP = 6.0, 2.2
"""Points of an arrow's head, and between its strokes."""

STEP = 5.0
"""Points from a volume's words to where an arrow steps to the height of what is painted."""

DASHES: dict[EdgeKind, Dash] = {"projection": "dashed", "dense": "dotted"}


@dataclass(frozen=True, slots=True)
class Volume:
    """A feature map on paper: thickness of each of its pieces, height and depth, in points."""

    pieces: tuple[float, ...]
    height: float
    depth: float

    @property
    def thickness(self) -> float:
        return sum(self.pieces)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of all that is painted."""
        return self.thickness + OBLIQUE * self.depth, self.height + OBLIQUE * self.depth


class Figure:
    """Draws a picture without frames as volumes; a `terse` one has the usual operations in the legend.

    Upsampled maps of a U have no volume of their own: the concatenation shows them beside the skip's.
    """

    oblique = OBLIQUE

    def __init__(self, picture: Picture, u: U | None, writer: Writer, *, terse: bool = False) -> None:
        self.terse = terse
        self.picture = picture
        up = {p for parts in u.steps_up.values() for p in parts} if u is not None else set[Part]()
        self.hidden = [
            a for a, b in pairwise(u.trunk if u else ()) if a in up and b.kind == "merge" and not self.is_sign(b)
        ]
        self.writer = writer
        self.theme = writer.theme
        self.analysis = writer.captions.analysis
        sides = [n for part in picture.boxes() if part.kind != "entry" for n in self.shape(part)[1:]]
        self.per_side = TALLEST / sqrt(max(sides, default=1))
        shown = [part for part in picture.boxes() if part.kind not in ("entry", "exit")]
        self.volumes = {part: self.volume(part) for part in shown if not self.is_sign(part)}
        self.made: dict[str, Counter[str]] = {}
        """How often each operation gives a map, by the names of the maps' colours."""
        for part in picture.boxes():
            if part.kind in ("layers", "block") and part not in self.hidden:
                self.made.setdefault(writer.colour_name(part), Counter())[self.work(part)] += 1
        most = {name: works.most_common(1)[0] for name, works in self.made.items()}
        self.usual = {name: work for name, (work, count) in most.items() if count > 1}
        self.rooms = {part: self.room(part) for part in shown}

    def tensor(self, part: Part) -> Tensor:
        """The result of a part, which its volume shows."""
        if part.output is not None:
            return part.output.tensor
        for edge in self.picture.edges:
            if edge.tail is part:
                return edge.tensors[-1]
        return Tensor(part.nodes[-1].id)

    def shape(self, part: Part) -> tuple[int, ...]:
        return self.analysis.shape(self.tensor(part))

    def is_sign(self, part: Part) -> bool:
        """Whether a part is drawn as a sign: a merge other than a concatenation."""
        return part.kind == "merge" and part.nodes[-1].operation.stacks() is None

    def volume(self, part: Part) -> Volume:
        channels, *sides = self.shape(part)
        if not sides:  # a vector is upright
            return Volume((6.0,), min(TALLEST, THINNEST + PER_CHANNEL * sqrt(channels)), 0.0)
        height, depth = (sides[-2] if len(sides) > 1 else sides[-1]), (sides[-1] if len(sides) > 1 else 1)
        counts = [channels]
        if part.kind == "merge" and part.nodes[-1].operation.stacks() == 0:
            counts = [self.analysis.shape(t)[0] for t in part.nodes[-1].inputs]
        pieces = tuple(THINNEST + PER_CHANNEL * sqrt(n) for n in counts)
        return Volume(pieces, max(4.0, self.per_side * sqrt(height)), self.per_side * sqrt(depth) if depth > 1 else 0.0)

    # ------------------------------------------------------------ words

    def work(self, part: Part) -> str:
        """The operation that gives a map, without its channels: `conv 3×3, /2`."""
        if part.kind == "block" and part.scope is not None:
            captions = self.writer.captions
            return ", ".join(
                [captions.title(part, labelled=False), *captions.arguments.texts(part.scope, part.rounds())[:1]]
            )
        caption = self.writer.captions.box(part)
        pieces = caption.lines[caption.title].split(", ")
        channels = self.writer.captions.dim(self.writer.captions.graph.shape(self.tensor(part))[0])
        kept = [pieces[0].removesuffix(f" {channels}"), *(p for p in pieces[1:] if p != channels)]
        return ", ".join(kept) + (f" · {caption.then}" if caption.then else "")

    def lines(self, part: Part) -> list[Words]:
        """The words below a volume: its operation and its size."""
        theme, captions = self.theme, self.writer.captions
        tensor = self.tensor(part)
        results = captions.results(part)
        if len(results) > 1 or (results and results[0] != captions.size(tensor)):
            found = [words for text in captions.listed(results) for words in self._muted(text)]
        elif self.terse:
            channels, *sides = (captions.dim(d) for d in captions.graph.shape(tensor))
            found = [Words(channels, SMALL, theme.text, True), *self._muted(power(sides))]
        else:
            found = self._muted(captions.size(tensor))
        words = "" if part.kind == "merge" else captions.box(part).lines[0]
        if part.kind in ("layers", "block"):
            usual = self.terse and self.usual.get(self.writer.colour_name(part)) == self.work(part)
            words = "" if usual else self.work(part).split(" · ")[0]
        count = [f"× {part.count}"] if part.count > 1 else []
        shared = captions.reuse(part)
        count += [f"({letter(shared)})"] if shared is not None else []
        texts = [Words(line, SMALL, theme.text, not self.terse) for line in broken(words, count)]
        last = self._muted(ONLY_IN_TRAINING if part.output is not None and part.output.training else "")
        return [*found, *texts, *last] if self.terse else [*texts, *found, *last]

    def _muted(self, text: str) -> list[Words]:
        return [Words(text, SMALL, self.theme.muted)] if text else []

    def width(self) -> float:
        """About how wide the figure is, in points."""
        return sum(self.rooms[part].width + MAP_GAP for part in self.picture.trunk() if part in self.rooms)

    def room(self, part: Part) -> Room:
        """The room of a part: its volume, and the words below."""
        if part not in self.volumes:
            return Room((18.0, 18.0), 18.0, 0.0)
        size, lines = self.volumes[part].extent, self.lines(part)
        return Room(size, max(size[0], *(w.width for w in lines)), LINE * len(lines) + 2)

    def legend(self) -> list[Entry]:
        """The legend's entries; in a terse figure, with what a map of each colour is that has no label."""
        found = []
        for entry in self.writer.legend([self.picture]):
            meaning = self.meaning(entry.name.text) if self.terse and entry.name.text in self.usual else ""
            found.append(replace(entry, name=replace(entry.name, text=meaning)) if meaning else entry)
        return found

    def meaning(self, colour: str) -> str:
        """What all maps of a colour have in common, and which of them have no label."""
        usual = self.usual[colour]
        pieces = zip(*(work.split(", ") for work in self.made[colour]), strict=False)
        name = ", ".join(piece for piece, *_ in takewhile(lambda same: len(set(same)) == 1, pieces)) or colour
        return name if name == usual else f"{name} (unlabelled: {usual.removeprefix(f'{name}, ')})"

    # ------------------------------------------------------------ painting

    def paint(self, part: Part, at: Point) -> list[Shape]:
        """The shapes of a part whose middle is there."""
        x, y = at
        if part.kind in ("entry", "exit"):
            return [Ellipse(at, (2, 2), Pen(self.theme.line, self.theme.line))]
        fill, border = self.writer.colours(part)
        if part not in self.volumes:
            sign = self.writer.captions.box(part).lines[0]
            pen = Pen(border, fill)
            return [Ellipse(at, (9, 9), pen), Text((x, y - 4), sign, 11, self.theme.text, width=9)]
        volume = self.volumes[part]
        width, height = volume.extent
        left, bottom, back = x - width / 2, y - height / 2, OBLIQUE * volume.depth
        top = bottom + volume.height
        shapes: list[Shape] = []
        right = left + volume.thickness
        if back:
            pen = Pen(border, mixed(fill, border, 0.25), 0.7)
            far = right + back
            shapes.append(_quad(pen, (right, bottom), (far, bottom + back), (far, top + back), (right, top)))
        start = left
        for number, piece in enumerate(volume.pieces):
            face = fill if len(volume.pieces) == 1 else self.piece_fill(part, number)
            end = start + piece
            if back:
                pen = Pen(border, mixed(face, self.theme.background, 0.45), 0.7)
                shapes.append(
                    _quad(pen, (start, top), (end, top), (end + back, top + back), (start + back, top + back))
                )
            shapes.append(_quad(Pen(border, face, 0.7), (start, bottom), (end, bottom), (end, top), (start, top)))
            start = end
        for number, words in enumerate(self.lines(part)):
            shapes.append(words_at(words, (x, bottom - LINE * (number + 1))))
        return shapes

    def piece_fill(self, part: Part, index: int) -> str:
        """The colour of a piece of a concatenation: that of the part which it comes from, the page's for a skip."""
        tensor = part.nodes[-1].inputs[index]
        for node in part.nodes[:-1]:
            if node.id == tensor.node:  # what brings the sizes together belongs to the concatenation
                tensor = node.inputs[tensor.index]
        for edge in self.picture.edges:
            if edge.head is part and tensor in edge.tensors and edge.kind == "flow":
                return self.writer.colours(edge.tail)[0]
        return self.theme.background

    def frame(self, part: Part, layout: Layout) -> list[Thing]:
        """A frame around parts, with its heading, in as many pieces as it is cut into."""
        looks = self.writer.frame(0, part)
        pen = Pen(looks["color"], looks["fillcolor"], float(looks["penwidth"]), "dashed" if part.count > 1 else "solid")
        found = []
        for number, (left, bottom, right, top) in enumerate([layout.frames[part], *layout.continued.get(part, ())]):
            words = self.writer.title(self.writer.captions.frame(part), bold=part.count > 1)
            shapes: list[Shape] = [_quad(pen, (left, bottom), (right, bottom), (right, top), (left, top))]
            if words.text:
                shapes.append(words_at(words, (left + 6 + words.width / 2, top - words.size - 2)))
            found.append(Thing(tuple(shapes), part.id if not number else f"{part.id}_{number}", frame=True))
        return found

    def ends(self, edge: Edge, layout: Layout, *, down: bool) -> list[Point]:
        """The corners or points of an arrow, led on to what is painted of its ends, whose rooms have words as well."""
        found = list(layout.corners.get(edge) or samples(layout.routes[edge]))
        if (tail := edge.tail) in self.volumes:
            at = layout.places[tail]
            if not down or abs(found[0][0] - at[0]) >= self.rooms[tail].width / 2 - 1:  # else below its words
                found = self._met(tail, at, found[::-1], head=False)[::-1]
        if edge.head in self.volumes:
            found = self._met(edge.head, layout.places[edge.head], found, head=True)
        return found

    def _met(self, part: Part, at: Point, corners: list[Point], *, head: bool) -> list[Point]:
        """Corners that end at the room of a volume, led on to what is painted of it."""
        (x, y), room = at, self.rooms[part]
        *far, second, (last, level) = corners
        if abs(last - x) < room.width / 2 - 1 and abs(second[1] - level) > 0.1:  # from above or below
            top = y + room.size[1] / 2 if head else y
            return [*far, second, (last, top) if level >= y - 1 else (last, level)]
        side = 1 if last > x else -1
        beside = self._beside(part, at, level)
        end = (x + side * room.size[0] / 2 if head else x, beside)
        if abs(second[1] - level) > 0.1:  # from a curve
            return [*far, second, (last, level), end]
        if beside == level:
            return [*far, second, end]
        if far and abs(far[-1][0] - second[0]) < 0.1:
            return [*far, (second[0], beside), end]
        step = x + side * (room.width / 2 + STEP + (ARROW if head else 0.0))
        steps = [(step, level), (step, beside)] if (second[0] - step) * side > 0 else []
        return [*far, second, *steps, end]

    def _beside(self, part: Part, at: Point, level: float) -> float:
        """The height nearest to a level at which an arrow meets what is painted of a volume, clear of its words."""
        reach = self.rooms[part].size[1] / 2
        return level if abs(level - at[1]) <= reach else at[1] + (reach / 2 if level > at[1] else -reach / 2)

    def arrow(self, edge: Edge, route: Sequence[Point]) -> list[Shape]:
        """Lines along corners, one for each tensor up to the most, with a head."""
        pen, count = self.line(edge.kind), strokes(edge)
        (x1, y1), (x2, y2) = route[-2:]
        length = max(hypot(x2 - x1, y2 - y1), 1e-6)
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        lines: list[Shape] = []
        head = edge.head.kind != "entry"
        curve = rounded(route, head=head)
        for number in range(count):
            aside = STROKE_GAP * (number - (count - 1) / 2)
            points = curve[:-1] if head else curve
            lines.append(Curve(tuple((x - aside * uy, y + aside * ux) for x, y in points), pen))
        if not head:
            return lines
        base = (x2 - ARROW * ux, y2 - ARROW * uy)
        wing = ARROW * 0.4 + STROKE_GAP * (count - 1) / 2
        tip = ((x2, y2), (base[0] - wing * uy, base[1] + wing * ux), (base[0] + wing * uy, base[1] - wing * ux))
        return [*lines, Polygon(tip, Pen(pen.stroke, pen.stroke, 0.5))]

    def line(self, kind: EdgeKind) -> Pen:
        """The pen of an arrow."""
        theme = self.theme
        colors = {
            "flow": theme.line,
            "identity": theme.skip,
            "skip": theme.skip,
            "dense": theme.dense,
            "projection": theme.projection,
        }
        return Pen(colors[kind], width=1.1, dash=DASHES.get(kind, "solid"))


def words_at(words: Words, at: Point) -> Text:
    return Text(at, words.text, words.size, words.color, words.bold, words.width)


def _quad(pen: Pen, *corners: Point) -> Polygon:
    return Polygon(corners, pen)


def power(sides: Sequence[str]) -> str:
    """`572²` for sides that are all the same, else `360 × 480`."""
    if len(set(sides)) == 1 and 2 <= len(sides) <= 3 and sides[0].isdigit():
        return sides[0] + " ²³"[len(sides) - 1]
    return " × ".join(sides)


def broken(text: str, more: Sequence[str] = ()) -> list[str]:
    """The text in lines that are not too wide, as far as it has places to break; `more` are words that follow."""
    lines: list[str] = []
    for word in [*text.split(), *more]:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, SMALL, bold=True) <= LINE_WIDTH:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def mixed(a: str, b: str, share: float) -> str:
    """The colour between two, `share` of it the second."""
    pairs = zip(bytes.fromhex(a[1:]), bytes.fromhex(b[1:]), strict=True)
    return "#" + "".join(f"{round(x + (y - x) * share):02x}" for x, y in pairs)


# ---------------------------------------------------------------- layouts


class _Rooms(Writer):
    """Lends the layout of boxes the rooms of volumes: a box for each, as high above its middle as below."""

    def __init__(self, figure: Figure, direction: Direction) -> None:
        super().__init__(figure.writer.captions, replace(figure.writer.style, direction=direction))
        self.rooms = figure.rooms

    def measure(self, part: Part) -> tuple[float, float]:
        if part not in self.rooms:  # where an arrow into a frame forks
            return super().measure(part)
        room = self.rooms[part]
        return max(room.width, room.size[0]), room.size[1] + 2 * room.below

    def sizes(self, picture: Picture, *, skips: bool = False) -> dict[Edge, list[Line]]:
        return {}


def in_a_row(figure: Figure, direction: Direction, longest: float | None) -> tuple[Layout, list[Thing]]:
    """In layers, with frames: the layout, and its frames and arrows as things. Raises DrawingError.

    A figure that is longer than `longest`, in points, goes on in another row or column.
    """
    rooms = _Rooms(figure, direction)
    [layout] = lay_out([figure.picture], rooms)
    left, bottom, right, top = layout.bounds()
    down = direction == "down"
    if longest is not None and (top - bottom if down else right - left) > longest:
        layout = wrapped(layout, longest, headings(layout, rooms), [], down=down)
    frames = [thing for part in layout.frames for thing in figure.frame(part, layout)]
    arrows = [
        Thing(tuple(figure.arrow(edge, figure.ends(edge, layout, down=down))), ends=(edge.tail.id, edge.head.id))
        for edge in figure.picture.edges
    ]
    return layout, [*frames, *arrows]


def in_a_u(figure: Figure, u: U) -> tuple[Layout, list[Thing]]:
    """A row for each resolution: the layout, and its arrows as things."""
    layout = in_rows(u, figure.picture, figure.rooms, figure.hidden)
    places, trunk = layout.places, set(pairwise(u.trunk))
    arrows: list[Thing] = []
    others: list[Thing] = []
    for edge, corners in layout.corners.items():
        ends = (edge.tail.id, edge.head.id)
        if (edge.tail, edge.head) in trunk:
            arrows.append(Thing(tuple(figure.arrow(replace(edge, kind="flow"), corners)), ends=ends))
            continue
        shapes = figure.arrow(edge, corners)
        (x1, y1), (x2, y2) = places[edge.tail], places[edge.head]
        for note in figure.writer.captions.box(edge.head).notes if edge.head.kind == "merge" else ():
            words = Words(note, SMALL - 1, figure.theme.muted)
            shapes.append(words_at(words, ((x1 + x2) / 2, (y1 + y2) / 2 + 4)))
        others.append(Thing(tuple(shapes), ends=ends))
    for part in figure.hidden:  # its words are right of where its arrow begins
        before = u.trunk[u.trunk.index(part) - 1]
        x, y = places[before]
        words = Words(figure.work(part), SMALL, figure.theme.text)
        at = (x + words.width / 2 + 5, y + figure.rooms[before].size[1] / 2 + 6)
        arrows.append(Thing((words_at(words, at),), name=part.id))
    return layout, arrows + others


# ---------------------------------------------------------------- the whole


def draw_volumes(picture: Picture, u: U | None, writer: Writer, longest: float | None = None) -> Scene:
    """The figure of a picture, with its legend. Raises DrawingError.

    Without a U it runs to the right, unless the writer's direction is down and its own is asked for; `longest` is where
    it goes on in another row, in points.
    """
    figure = Figure(picture, u, writer)
    if figure.width() > WIDEST:
        figure = Figure(picture, u, writer, terse=True)
    layout, things = in_a_u(figure, u) if u is not None else in_a_row(figure, writer.style.direction, longest)
    things += [Thing(tuple(figure.paint(part, at)), part.id) for part, at in layout.places.items() if part.id]
    if writer.captions.detail.kernels:
        things += kernels(figure, layout)
    shapes = [shape for thing in things for shape in thing.shapes]
    points = [p for s in shapes if isinstance(s, Polygon | Curve) for p in s.points]
    texts = [s for s in shapes if isinstance(s, Text)]
    points += [(s.at[0] + side * s.width / 2, s.at[1] - 3) for s in texts for side in (-1, 1)]
    (left, right), (low, high) = ((min(along), max(along)) for along in zip(*points, strict=True))
    below, room = _legend(figure, (left, low, right, high))
    return Scene((*things, below), room)


def _legend(figure: Figure, around: Box) -> tuple[Thing, Box]:
    """The name, the costs and the meaning of colours below a figure, and the bounds of all of it."""
    left, low, right, high = around
    middle = (left + right) / 2
    shapes: list[Shape] = []
    y = low - 18.0
    for [words] in figure.writer.heading():
        shapes.append(words_at(words, (middle, y)))
        left, right = min(left, middle - words.width / 2), max(right, middle + words.width / 2)
        y -= 14
    rows: list[list[Entry]] = []
    for entry in figure.legend():
        if not rows or sum(e.name.width + 34 for e in rows[-1]) + entry.name.width + 34 > max(right - left, 200):
            rows.append([])
        rows[-1].append(entry)
    for row in rows:
        width = sum(entry.name.width + 34 for entry in row)
        x, y = middle - width / 2, y - 4
        left, right = min(left, x), max(right, x + width)
        for entry in row:
            if entry.sign is None and entry.fill:
                shapes.append(
                    _quad(Pen(entry.border, entry.fill, 0.7), (x, y), (x + 14, y), (x + 14, y + 9), (x, y + 9))
                )
            elif entry.sign is not None:
                shapes.append(Polygon(((x, y + 4), (x + 16, y + 4)), figure.line(entry.kind), closed=False))
            shapes.append(words_at(entry.name, (x + 20 + entry.name.width / 2, y + 1)))
            x += entry.name.width + 34
        y -= 12
    return Thing(tuple(shapes)), (left - 8, y - 2, right + 8, high + 8)
