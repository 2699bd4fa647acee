"""Feature maps as boxes in perspective, as in the figures of AlexNet and U-Net: thick as their channels, high and
deep as
their sizes, each side by the square root of its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, sqrt

import graphviz

from archdsl.backends.diagram.dot import Writer
from archdsl.backends.diagram.labels import Words
from archdsl.backends.diagram.picture import EdgeKind, Part, Picture
from archdsl.backends.diagram.render import positions
from archdsl.backends.diagram.scene import Curve, Ellipse, Pen, Point, Polygon, Scene, Shape, Text, to_xdot
from archdsl.backends.diagram.ushape import U
from archdsl.graph import Tensor

TALLEST = 110.0
"""Points of the largest spatial size."""

THINNEST, PER_CHANNEL = 3.0, 1.5
"""Points of a map's thickness: the least, and for the square root of its channels."""

OBLIQUE = 0.35
"""How far the depth runs to the right and up, for each point of it."""

GAP = 26.0
ROW_GAP = 40.0
LINE = 10.0
SMALL = 8.0
ARROW = 5.0


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
    """Draws a picture without frames as volumes."""

    def __init__(self, picture: Picture, writer: Writer) -> None:
        self.picture = picture
        self.writer = writer
        self.theme = writer.theme
        self.analysis = writer.captions.analysis
        sides = [n for part in picture.boxes() for n in self.shape(part)[1:]]
        self.per_side = TALLEST / sqrt(max(sides, default=1))
        self.volumes = {part: self.volume(part) for part in picture.boxes() if not self.is_sign(part)}

    def tensor(self, part: Part) -> Tensor:
        """What flows out of a part, the tensor that its volume shows."""
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
        return part.kind == "merge" and part.nodes[-1].operation.name != "concat"

    def volume(self, part: Part) -> Volume:
        channels, *sides = self.shape(part)
        if not sides:  # a vector stands upright
            return Volume((6.0,), min(TALLEST, THINNEST + PER_CHANNEL * sqrt(channels)), 0.0)
        height, depth = (sides[-2] if len(sides) > 1 else sides[-1]), (sides[-1] if len(sides) > 1 else 1)
        counts = [channels]
        if part.kind == "merge":
            counts = [self.analysis.shape(t)[0] for t in part.nodes[-1].inputs]
        pieces = tuple(THINNEST + PER_CHANNEL * sqrt(n) for n in counts)
        return Volume(pieces, max(4.0, self.per_side * sqrt(height)), self.per_side * sqrt(depth) if depth > 1 else 0.0)

    # ------------------------------------------------------------ words

    def lines(self, part: Part) -> list[Words]:
        """What stands under a volume: what made it, and its size."""
        theme, captions = self.theme, self.writer.captions
        found = []
        if part.kind not in ("merge", "output") or part.output is not None:
            caption = captions.box(part)
            count = f" × {part.count}" if part.count > 1 else ""
            found.append(Words(caption.lines[caption.title] + count, SMALL, theme.text, True))
        found.append(Words(captions.size(self.tensor(part)), SMALL - 1, theme.muted))
        return found

    def measure(self, part: Part) -> tuple[float, float]:
        """The room of a part, its volume in the middle and words under it."""
        if part not in self.volumes:
            return (18.0, 18.0)
        width, height = self.volumes[part].extent
        words = self.lines(part)
        return max(width, *(w.width for w in words)), height + 2 * LINE * len(words)

    # ------------------------------------------------------------ painting

    def paint(self, part: Part, at: Point) -> list[Shape]:
        """The shapes of a part whose middle is there."""
        x, y = at
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
            shapes.append(
                _quad(
                    Pen(border, mixed(fill, border, 0.25), 0.7),
                    (right, bottom),
                    (right + back, bottom + back),
                    (right + back, top + back),
                    (right, top),
                )
            )
        start = left
        for number, piece in enumerate(volume.pieces):
            face = fill if len(volume.pieces) == 1 else self.piece_fill(part, number)
            end = start + piece
            if back:
                shapes.append(
                    _quad(
                        Pen(border, mixed(face, self.theme.background, 0.45), 0.7),
                        (start, top),
                        (end, top),
                        (end + back, top + back),
                        (start + back, top + back),
                    )
                )
            shapes.append(_quad(Pen(border, face, 0.7), (start, bottom), (end, bottom), (end, top), (start, top)))
            start = end
        for number, words in enumerate(self.lines(part)):
            shapes.append(
                Text((x, bottom - LINE * (number + 1)), words.text, words.size, words.color, words.bold, words.width)
            )
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

    def arrow(self, kind: EdgeKind, way: Sequence[Point]) -> list[Shape]:
        """A line along corners, with a head."""
        pen = self.line(kind)
        (x1, y1), (x2, y2) = way[-2:]
        length = max(hypot(x2 - x1, y2 - y1), 1e-6)
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        base = (x2 - ARROW * ux, y2 - ARROW * uy)
        wing = ARROW * 0.4
        head = ((x2, y2), (base[0] - wing * uy, base[1] + wing * ux), (base[0] + wing * uy, base[1] - wing * ux))
        return [Polygon((*way[:-1], base), pen, closed=False), Polygon(head, Pen(pen.stroke, pen.stroke, 0.5))]

    def line(self, kind: EdgeKind) -> Pen:
        """The pen of an arrow."""
        color = {"flow": self.theme.line, "identity": self.theme.skip, "projection": self.theme.projection}[kind]
        return Pen(color, width=1.1, dashed=kind == "identity")

    def half(self, part: Part) -> tuple[float, float]:
        """Half the width and height of what is painted of a part, without its words."""
        width, height = self.volumes[part].extent if part in self.volumes else (18.0, 18.0)
        return width / 2, height / 2


def _quad(pen: Pen, *corners: Point) -> Polygon:
    return Polygon(corners, pen)


def mixed(a: str, b: str, share: float) -> str:
    """The colour between two, `share` of it the second."""
    pairs = zip(bytes.fromhex(a[1:]), bytes.fromhex(b[1:]), strict=True)
    return "#" + "".join(f"{round(x + (y - x) * share):02x}" for x, y in pairs)


# ---------------------------------------------------------------- layouts


def in_a_row(figure: Figure) -> tuple[dict[Part, Point], list[Shape]]:
    """From left to right, in layers found by Graphviz: places of the parts, and the arrows. Raises DrawingError."""
    picture = figure.picture
    dot = graphviz.Digraph()
    dot.attr(rankdir="LR", nodesep="0.25", ranksep=f"{GAP / 72:.3f}")
    trunk = set(picture.trunk())
    names = {part.id: part for part in picture.boxes()}
    for name, part in names.items():
        w, h = figure.measure(part)
        group = {"group": "trunk"} if part in trunk else {}
        dot.node(name, label="", shape="box", fixedsize="true", width=f"{w / 72:.4f}", height=f"{h / 72:.4f}", **group)
    for edge in picture.edges:
        weight = "0" if edge.kind == "identity" else "10"
        dot.edge(f"{edge.tail.id}:e", f"{edge.head.id}:w", weight=weight, arrowhead="none")
    found, splines = positions(dot.source)
    places = {names[name]: point for name, point in found.items()}
    arrows: list[Shape] = []
    for edge in picture.edges:
        spline = splines[edge.tail.id, edge.head.id]
        (x1, y1), (x2, y2) = places[edge.tail], places[edge.head]
        tip = (x2 - figure.half(edge.head)[0], y2)
        straight = abs(y1 - y2) < 1 and all(abs(y - y1) < 1 for _, y in spline)
        if not straight:
            # Graphviz ends at the room of a part, words included: on to what is painted.
            arrows += [Polygon(((x1, y1), spline[0]), figure.line(edge.kind), closed=False)]
            arrows += [Curve(tuple(spline), figure.line(edge.kind))]
        arrows += figure.arrow(edge.kind, [(x1, y1) if straight else spline[-1], tip])
    return places, arrows


def in_a_u(figure: Figure, u: U) -> tuple[dict[Part, Point], list[Shape]]:
    """A row for each resolution, down at the left, up at the right; a step between rows runs straight down or up.

    What is upsampled has no volume of its own: the concatenation shows it beside what was skipped.
    """
    edges = {(e.tail, e.head): e for e in figure.picture.edges}
    trunk = figure.picture.trunk()
    down = {p for parts in u.steps_down.values() for p in parts}
    up = {p for parts in u.steps_up.values() for p in parts}
    hidden = [a for a, b in pairwise(trunk) if a in up and b.kind == "merge" and b in figure.volumes]
    shown = [p for p in trunk if p not in hidden]
    places: dict[Part, Point] = {}
    levels: dict[Part, int] = {}
    x, level = 0.0, 0
    for i, part in enumerate(shown):
        over = trunk[trunk.index(part) - 1] in hidden
        moved = (part in down) - (part in up or over)
        if i and not moved:
            x += (figure.measure(shown[i - 1])[0] + figure.measure(part)[0]) / 2 + GAP
        level += moved
        places[part], levels[part] = (x, 0.0), level
    y = 0.0
    for row in range(max(levels.values()) + 1):
        members = [p for p in shown if levels[p] == row]
        height = max(figure.measure(p)[1] for p in members)
        for part in members:
            places[part] = (places[part][0], y - height / 2)
        y -= height + ROW_GAP
    for part, (tail, head) in u.across.items():
        places[part] = ((places[tail][0] + places[head][0]) / 2, places[tail][1])
    for part, tail in u.aside.items():
        places[part] = (places[tail][0], places[tail][1] + figure.measure(tail)[1])
    arrows: list[Shape] = []
    for tail, head in pairwise(shown):
        arrows += _step(figure, places, tail, head)
    for part in hidden:
        before, after = trunk[trunk.index(part) - 1], trunk[trunk.index(part) + 1]
        arrows += _beside(figure, places[before], places[after], part)
    for (tail, head), edge in edges.items():
        if tail in places and head in places and (tail, head) not in set(pairwise(shown)):
            (x1, y1), (x2, y2) = places[tail], places[head]
            arrows += figure.arrow(edge.kind, [(x1, y1), (x2 - figure.half(head)[0], y2)])
            notes = figure.writer.captions.box(head).notes if head.kind == "merge" else ()
            for note in notes:
                words = Words(note, SMALL - 1, figure.theme.muted)
                arrows.append(
                    Text(((x1 + x2) / 2, (y1 + y2) / 2 + 4), note, words.size, words.color, width=words.width)
                )
    return places, arrows


def _step(figure: Figure, places: dict[Part, Point], tail: Part, head: Part) -> list[Shape]:
    """The arrow between neighbours of the trunk."""
    (x1, y1), (x2, y2) = places[tail], places[head]
    if abs(y1 - y2) < 1:
        return figure.arrow("flow", [(x1, y1), (x2 - figure.half(head)[0], y2)])
    if y2 < y1:
        return figure.arrow("flow", [(x1, y1 - figure.measure(tail)[1] / 2 - 1), (x2, y2 + figure.half(head)[1] + 1)])
    return figure.arrow("flow", [(x1, y1 + figure.half(tail)[1] + 1), (x2, y2 - figure.measure(head)[1] / 2 - 1)])


def _beside(figure: Figure, low: Point, high: Point, part: Part) -> list[Shape]:
    """The words of a part that is but an arrow, right of it."""
    caption = figure.writer.captions.box(part)
    words = Words(caption.lines[caption.title], SMALL, figure.theme.text, True)
    x = low[0] + words.width / 2 + 6
    y = high[1] - (high[1] - low[1]) * 0.5
    return [Text((x, y), words.text, words.size, words.color, words.bold, words.width)]


# ---------------------------------------------------------------- the whole


def draw_volumes(picture: Picture, u: U | None, writer: Writer) -> tuple[str, Scene]:
    """Dot text that only shows the figure, and the figure as a scene. Raises DrawingError."""
    figure = Figure(picture, writer)
    places, arrows = in_a_u(figure, u) if u is not None else in_a_row(figure)
    shapes = arrows + [shape for part, at in places.items() for shape in figure.paint(part, at)]
    rooms = [(x, y, *figure.measure(part)) for part, (x, y) in places.items()]
    points = [p for s in arrows if isinstance(s, Polygon | Curve) for p in s.points]
    left = min([x - w / 2 for x, _, w, _ in rooms] + [x for x, _ in points])
    right = max([x + w / 2 for x, _, w, _ in rooms] + [x for x, _ in points])
    low = min([y - h / 2 for _, y, _, h in rooms] + [y for _, y in points])
    high = max([y + h / 2 for _, y, _, h in rooms] + [y for _, y in points])
    heading = writer.heading()
    y = low - 24.0
    for line in heading:
        [words] = line
        shapes.append(Text(((left + right) / 2, y), words.text, words.size, words.color, words.bold, words.width))
        left, right = min(left, (left + right - words.width) / 2), max(right, (left + right + words.width) / 2)
        y -= 14
    entries = writer.legend([picture])
    width = sum(entry.name.width + 34 for entry in entries)
    x, y = (left + right - width) / 2, y - 4
    left, right = min(left, x), max(right, x + width)
    for entry in entries:
        if entry.sign is None:
            patch = _quad(Pen(entry.border, entry.fill, 0.7), (x, y), (x + 14, y), (x + 14, y + 9), (x, y + 9))
        else:
            patch = Polygon(((x, y + 4), (x + 14, y + 4)), figure.line("identity"), closed=False)
        name = entry.name
        shapes += [patch, Text((x + 20 + name.width / 2, y + 1), name.text, name.size, name.color, width=name.width)]
        x += name.width + 34
    y -= 12
    scene = Scene(tuple(shapes), (left - 8, y, right + 8, high + 8))
    return as_dot(scene, writer), scene


def as_dot(scene: Scene, writer: Writer) -> str:
    """A graph whose background is the scene: so Graphviz writes it in all its formats."""
    left, bottom, right, top = scene.bounds
    dot = graphviz.Digraph(name="network")
    dot.attr(bgcolor=writer.theme.background, bb=f"{left:g},{bottom:g},{right:g},{top:g}")
    for name, x, y in (("a", left, bottom), ("b", right, top)):
        dot.node(name, label="", shape="point", style="invis", width="0.01", pos=f"{x:.2f},{y:.2f}")
    # Graphviz takes no string of more than 16 K, but the sum of several. `to_xdot` leaves nothing in it to quote.
    text = to_xdot(scene)
    background = " +\n\t\t".join(f'"{text[i : i + 8000]}"' for i in range(0, len(text), 8000))
    return str(dot.source).replace("{\n", f"{{\n\t_background={background}\n", 1)
