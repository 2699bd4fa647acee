"""What a reader takes from a picture, read off its scene, and what the graph says of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from math import dist

from archdsl.backends.diagram.drawing import Diagram
from archdsl.backends.diagram.picture import Edge, Part, Picture
from archdsl.backends.diagram.scene import Curve, Ellipse, Point, Polygon, Scene, Text, Thing
from archdsl.dims import Dim, substitute
from archdsl.dims import text as dim_text
from archdsl.graph import Graph, Node, Tensor

MOST = 4
"""The most tensors that an arrow shows by its strokes, and a box by its lines."""

ON, LONG = 1.0, 3.0
"""Closer than so many points two arrows are on each other, if for more than so many points."""

NEAR = 4.0
"""The most points between the end of an arrow of volumes and its box."""


class Facts:
    """Sizes of a graph in words, by the values that its spec shows for free sizes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values = {f.name: f.example for f in graph.free if f.example is not None}

    def dim(self, dim: Dim) -> str:
        return dim_text(substitute(dim, self.values), self.graph.sizes)

    def size(self, tensors: Iterable[Tensor]) -> str:
        """Of one tensor, or the ranges of several of one rank: from the first to the last where sizes fall."""
        axes = zip(*(self.graph.shape(t) for t in tensors), strict=True)
        return " × ".join(self._range([self.dim(d) for d in axis]) for axis in axes)

    @staticmethod
    def _range(words: list[str]) -> str:
        if len(set(words)) == 1:
            return words[0]
        numbers = [int(w) for w in words]
        falling = sorted(numbers, reverse=True) == numbers
        return f"{numbers[0]}…{numbers[-1]}" if falling else f"{min(numbers)}…{max(numbers)}"

    def source(self, tensor: Tensor, owner: dict[int, Part]) -> Tensor:
        """The tensor that some box gives: what cuts and joins windows has none."""
        while tensor.node not in owner and (sources := self.graph.node(tensor).sources):
            tensor = sources[0]
        return tensor


def rounds(box: Part) -> list[list[Node]]:
    """The nodes of a box, for each time that it is in the network."""
    covered, length = sorted(box.covered, key=lambda n: n.id), len(box.nodes)
    return [covered[i : i + length] for i in range(0, len(covered), length)] if length else []


def given(box: Part, graph: Graph) -> list[list[Tensor]]:
    """The tensors of a box that others take, each with those of all its rounds."""
    takers: dict[Tensor, set[int]] = {}
    for node in graph.nodes():
        for tensor in node.sources:
            takers.setdefault(tensor, set()).add(node.id)
    for output in graph.outputs:
        takers.setdefault(output.tensor, set()).add(-1)
    found = []
    for nodes in rounds(box):
        inside = {n.id for n in nodes}
        every = [Tensor(n.id, i) for n in nodes for i in range(len(n.shapes))]
        found.append([t for t in every if takers.get(t, set()) - inside])
    return [list(stream) for stream in zip(*found, strict=True)]


def flows(picture: Picture) -> Counter[tuple[Part, Part]]:
    """How many tensors flow from one box to another in the graph, of what repeats in its first round."""
    facts = Facts(picture.graph)
    owner = {n.id: box for box in picture.boxes() for n in box.covered}
    found: dict[tuple[Part, Part], set[Tensor]] = {}
    for box in picture.boxes():
        taken = [t for n in box.nodes for t in n.sources] + ([box.output.tensor] if box.output else [])
        for tensor in (facts.source(t, owner) for t in taken):
            tail = owner.get(tensor.node)
            if tail is not None and tail is not box:
                found.setdefault((tail, box), set()).add(tensor)
    return Counter({pair: len(tensors) for pair, tensors in found.items()})


def arrows(picture: Picture, strokes: dict[Edge, int]) -> Counter[tuple[Part, Part]]:
    """How many tensors a reader sees flow from one box to another: an arrow that forks within a frame is followed."""
    entries = {e.head: e.tail for e in picture.edges if e.head.kind == "entry"}
    found: Counter[tuple[Part, Part]] = Counter()
    for edge in picture.edges:
        tail = edge.tail
        while tail in entries:
            tail = entries[tail]
        if edge.head.kind != "entry" and tail.kind != "entry":
            found[tail, edge.head] += strokes[edge]
    return found


def falsehoods(diagram: Diagram) -> Iterator[str]:
    """What a picture says that is not so in the graph, or leaves out, read off its scene."""
    scene = diagram.scene
    for number, (_, picture) in enumerate(diagram.drawing.pictures):
        prefix = f"i{number}_" if number else ""
        words = {part: spelled(scene.texts(prefix + part.id)) for part in picture.walk()}
        strokes = {e: scene.strokes(prefix + e.tail.id, prefix + e.head.id) for e in picture.edges}
        strokes |= on_arrows(scene, picture, prefix, strokes)
        yield from _edges(picture, strokes, scene_texts(scene, picture, prefix))
        for box in picture.boxes():
            if box.kind != "block" or diagram.drawing.writer.captions.detail.sizes:
                yield from _box(box, picture.graph, words[box])
        for part in picture.walk():
            if part.count > 1 and not any(re.search(rf"× {part.count}( \([A-Z]\))?$", text) for text in words[part]):
                yield f"{words[part]} does not say that it is there {part.count} times"
        if diagram.drawing.scene is not None:
            yield from loose(scene, picture, prefix)
        yield from through(scene, picture, prefix)
    yield from _whole(diagram.drawing.pictures[0][1])


def on_arrows(scene: Scene, picture: Picture, prefix: str, strokes: dict[Edge, int]) -> dict[Edge, int]:
    """The arrows into parts that are only words beside an arrow, such as what samples up in a U of volumes.

    An arrow into such a part is seen if the one out of it begins at the box that is before.
    """
    drawn = {thing.name: thing for thing in scene.things if thing.name and not thing.frame}
    found = {}
    for edge in picture.edges:
        words, before = drawn.get(prefix + edge.head.id), drawn.get(prefix + edge.tail.id)
        if words is None or before is None or not all(isinstance(shape, Text) for shape in words.shapes):
            continue
        further = [e for e in picture.edges if e.tail is edge.head]
        ends = [(prefix + e.tail.id, prefix + e.head.id) for e in further]
        begins = [start(thing) for thing in scene.things if thing.ends in ends]
        if len(further) == 1 and len(begins) == 1 and near(begins[0], before) and beside(words, begins[0]):
            found[edge] = strokes[further[0]]
    return found


def start(arrow: Thing) -> Point:
    return next(shape.points[0] for shape in arrow.shapes if isinstance(shape, Curve))


def near(point: Point, box: Thing) -> bool:
    """Whether a point is on a box and its words, or right at them."""
    corners: list[Point] = []
    for shape in box.shapes:
        if isinstance(shape, Polygon):
            corners += shape.points
        elif isinstance(shape, Ellipse):
            corners += [(shape.centre[0] + s * shape.radii[0], shape.centre[1] + s * shape.radii[1]) for s in (-1, 1)]
        elif isinstance(shape, Text):
            corners += [(shape.at[0] + side * shape.width / 2, shape.at[1]) for side in (-1, 1)]
    (left, right), (low, high) = ((min(along) - NEAR, max(along) + NEAR) for along in zip(*corners, strict=True))
    return left <= point[0] <= right and low <= point[1] <= high


def loose(scene: Scene, picture: Picture, prefix: str) -> Iterator[str]:
    """Arrows of volumes that do not begin or end at their boxes."""
    drawn = {thing.name: thing for thing in scene.things if thing.name and not thing.frame}
    for arrow in (thing for thing in scene.things if thing.ends is not None):
        tail, head = (drawn.get(end) for end in arrow.ends or ())
        curves = [shape for shape in arrow.shapes if isinstance(shape, Curve)]
        heads = [shape for shape in arrow.shapes if isinstance(shape, Polygon)]
        tip = heads[0].points[0] if heads else curves[0].points[-1]
        words_alone = tail is not None and all(isinstance(shape, Text) for shape in tail.shapes)
        if tail is not None and not words_alone and not near(curves[0].points[0], tail):
            yield f"the arrow {arrow.ends} begins beside its box, at {curves[0].points[0]}"
        if head is not None and not near(tip, head):
            yield f"the arrow {arrow.ends} ends beside its box, at {tip}"


def through(scene: Scene, picture: Picture, prefix: str) -> Iterator[str]:
    """Arrows that run over a box which is not one of their ends."""
    names = {prefix + part.id for part in picture.boxes()}
    solid = {thing.name: outlines(thing) for thing in scene.things if thing.name in names and not thing.frame}
    for arrow in (thing for thing in scene.things if thing.ends is not None and set(thing.ends) <= names):
        way = [at for shape in arrow.shapes if isinstance(shape, Curve) and not shape.pen.fill for at in along(shape)]
        for name, shapes in solid.items():
            if name not in (arrow.ends or ()) and any(within(at, shape) for shape in shapes for at in way):
                yield f"the arrow {arrow.ends} runs over {name}"


def overlaid(diagram: Diagram) -> Iterator[str]:
    """Arrows of two tensors that run on each other, so that one seems to come from the other's box.

    Those that part from one box, or join at one, may.
    """
    for number, (_, picture) in enumerate(diagram.drawing.pictures):
        yield from _overlaid(diagram.scene, picture, f"i{number}_" if number else "")


def _overlaid(scene: Scene, picture: Picture, prefix: str) -> Iterator[str]:
    edges = {(prefix + e.tail.id, prefix + e.head.id): e for e in picture.edges}
    pieces = [(edges[t.ends], piece) for t in scene.things if t.ends in edges for piece in straights(t)]
    for (one, (axis, at, low, high)), (other, (turned, beside, first, last)) in combinations(pieces, 2):
        meet = axis == turned and abs(at - beside) < ON and min(high, last) - max(low, first) > LONG
        parts = one.tail is other.tail or one.head is other.head or set(one.tensors) & set(other.tensors)
        if meet and not parts:
            yield f"{one.tail.id} → {one.head.id} and {other.tail.id} → {other.head.id} run on each other"


def straights(arrow: Thing) -> Iterator[tuple[int, float, float, float]]:
    """The level and upright pieces of an arrow: their axis, where they are across it, and from where to where."""
    for shape in arrow.shapes:
        if isinstance(shape, Curve) and not shape.pen.fill:
            for i in range(0, len(shape.points) - 3, 3):
                piece = list(zip(*shape.points[i : i + 4], strict=True))
                for axis in (0, 1):
                    if max(piece[1 - axis]) - min(piece[1 - axis]) < 0.1:
                        yield axis, piece[1 - axis][0], min(piece[axis]), max(piece[axis])


def outlines(box: Thing) -> list[tuple[Point, ...]]:
    """The corners of its faces."""
    found = [shape.points for shape in box.shapes if isinstance(shape, Polygon) and shape.closed]
    for shape in box.shapes:
        if isinstance(shape, Curve) and shape.pen.fill:
            found.append(shape.points[::3])
        elif isinstance(shape, Ellipse):
            (x, y), (a, b) = shape.centre, shape.radii
            found.append(tuple((x + 0.7 * i * a, y + 0.7 * j * b) for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))))
    return found


def along(curve: Curve, steps: int = 6) -> Iterator[Point]:
    """Points on its pieces."""
    for i in range(0, len(curve.points) - 3, 3):
        piece = curve.points[i : i + 4]
        length = sum(dist(a, b) for a, b in pairwise(piece))
        for k in range(count := max(steps, int(length / 4))):
            t = k / count
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield tuple(sum(w * p[axis] for w, p in zip(weights, piece, strict=True)) for axis in (0, 1))


def within(at: Point, corners: Sequence[Point], margin: float = 1.5) -> bool:
    """Whether a point is in a polygon, further than `margin` from its bounds."""
    (left, right), (low, high) = ((min(v) + margin, max(v) - margin) for v in zip(*corners, strict=True))
    x, y = at
    if not (left < x < right and low < y < high):
        return False
    crossed = 0
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        crossed += (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1)
    return crossed % 2 == 1


def beside(words: Thing, begin: Point) -> bool:
    """Whether a text begins right of where an arrow begins."""
    texts = [shape for shape in words.shapes if isinstance(shape, Text)]
    return all(0 < t.at[0] - t.width / 2 - begin[0] < 10 and abs(t.at[1] - begin[1]) < 12 for t in texts)


def spelled(words: list[str]) -> list[str]:
    """The texts, and the sizes that two of them are together: `64` above `56²` is `64 × 56 × 56`."""
    found = []
    for channels, sides in pairwise(words):
        power = re.fullmatch(r"(\d+)([²³])", sides)
        found.append(f"{channels} × " + (" × ".join([power[1]] * (2 if power[2] == "²" else 3)) if power else sides))
    return [*words, *found]


def scene_texts(scene: Scene, picture: Picture, prefix: str) -> dict[Part, list[str]]:
    """The texts on the arrows that leave each box, without what a merge does to the tensor that comes along one."""
    found: dict[Part, list[str]] = {}
    for edge in picture.edges:
        done = {node.operation.caption() for node in edge.head.nodes} if edge.head.kind == "merge" else set()
        lines = scene.texts(prefix + edge.tail.id, prefix + edge.head.id)
        found.setdefault(edge.tail, []).extend(line for line in lines if line not in done)
    return found


def _whole(picture: Picture) -> Iterator[str]:
    """Every node is in one box, but for what cuts and joins windows."""
    shown = Counter(n.id for box in picture.boxes() for n in box.covered)
    for node in picture.graph.nodes():
        if shown[node.id] != 1 and not (node.operation.cuts or node.operation.joins):
            yield f"{node} is in {shown[node.id]} boxes"


def _edges(picture: Picture, strokes: dict[Edge, int], texts: dict[Part, list[str]]) -> Iterator[str]:
    expected, found = flows(picture), arrows(picture, strokes)
    for pair in expected | found:
        if min(expected[pair], MOST) != found[pair]:
            yield f"{found[pair]} arrows of {expected[pair]}: {pair[0].nodes} → {pair[1].nodes or 'output'}"
    facts = Facts(picture.graph)
    for tail, lines in texts.items():
        if not lines:
            continue
        streams = (
            given(tail, picture.graph) if tail.nodes else [list(e.tensors) for e in picture.edges if e.tail is tail][:1]
        )
        sizes = [facts.size(stream) for stream in streams]
        for line in lines[1 if tail.name else 0 :]:
            count = re.fullmatch(r"(?:… )?(\d+) tensors", line)
            several = re.fullmatch(r"(\d+) of (.*)", line)
            if count:
                numbers = {len(streams), *(len(e.streams) for e in picture.edges if e.tail is tail)}
                known = int(count[1]) in numbers
            else:
                known = (several[2] if several else line) in sizes
            if not known:
                yield f"`{line}` under {tail.nodes}, which gives {sizes}"
        if not any("tensors" in line or " of " in line for line in lines) and len(set(sizes) - set(lines)) > 0:
            yield f"{lines} under {tail.nodes}, which gives {sizes}"


def _box(box: Part, graph: Graph, words: list[str]) -> Iterator[str]:
    """Sizes and channels in a folded block, and the size of an input or output."""
    facts, text = Facts(graph), " ".join(words)
    if box.kind in ("input", "output"):
        tensor = box.output.tensor if box.output else Tensor(box.nodes[0].id)
        if facts.size([tensor]) not in words:
            yield f"{words} does not have the size {facts.size([tensor])}"
    if box.kind != "block":
        return
    sizes = [facts.size(stream) for stream in given(box, graph)]
    shown = sizes if len(sizes) <= MOST else sizes[: MOST - 1]
    for size in shown:
        if size not in words:
            yield f"{words} lacks the size {size}"
    if len(sizes) > MOST and f"… {len(sizes)} tensors" not in text:
        yield f"{words} does not say how many tensors it gives"
