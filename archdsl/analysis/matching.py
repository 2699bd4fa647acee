"""Which elements of the tensors of a tile equal those that the network computes for the whole image.

A tile is a piece of the image, cut out along one axis, on which the network runs alone. Each tensor of that run is
compared with the same tensor of the run on the whole image, by the index maps of the operations: element i of the one
is element i + offset of the other, and the elements from `low` to before `high` are computed from the same numbers in
the same way. A padded window is the same only where it reaches over a true border of the whole tensor. Nothing here is
estimated: a map that differs between the two runs, such as an interpolation by another ratio, matches nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm

from archdsl.analysis.costs import IntShape
from archdsl.analysis.receptive import by_windows
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops.index_maps import IndexMap, TooFine, nothing, shifted
from archdsl.ops.partition import Cut

Shapes = tuple[tuple[IntShape, ...], ...]

WHOLE = "every result depends on the whole axis"
RATIO = "how it reads its input depends on the size of the whole image"
MOVES = "it moves or joins axes"
ONE = "it gives one result for the whole image"
SIZE = "its result is made from the size of the image"
APART = "it joins tensors that do not move with the image alike"
FIXED = "it gives the same everywhere, but not at a border"
GRIDS = "each of its grids reaches over the whole map"
OUTSIDE = "its code comes from outside, so what it reads is not known"
WRAPS = "beyond a border of the image it reads the opposite side"
LENGTH = "its size does not grow with the image as its input's does"
FINE = "the pattern in which it reads its input is too long"


@dataclass(frozen=True, slots=True)
class Blame:
    """The node at which a tile stops to match the whole image, and why."""

    node: Node
    reason: str


@dataclass(frozen=True, slots=True)
class Match:
    """The elements of a tensor along the axis that match, as in the module's docstring.

    With the offset None all elements of both runs are equal. `high` may be below `low`: then the tile is too small by
    the difference. With `blame` nothing matches, whatever the tile's size.
    """

    offset: int | None
    low: int
    high: int
    blame: Blame | None = None


def stride(
    graph: Graph, shapes: Shapes, axis: int, starts: Mapping[int, bool], *, approximate: bool
) -> tuple[int, Node | None, Mapping[Tensor, Fraction]]:
    """The distance by which tiles can be moved along an axis, and the last node that makes it larger.

    Then for each tensor by how many of its elements it moves with each element of the image.

    `shapes` are those of the whole image, `axis` counts from the first spatial one; `starts` says which inputs, by the
    ids of their nodes, are cut. `approximate` as in Matcher.
    """
    rates: dict[Tensor, Fraction] = {}
    among: dict[Tensor, Fraction] = {}  # those of the maps, for tensors among windows
    distance, cause = 1, None
    for node in graph.nodes():
        if node.operation.is_input:
            if starts.get(node.id):
                rates[Tensor(node.id)] = Fraction(1)
            continue
        if is_among_windows(node) or node.operation.joins:
            rate = next((r for t in node.sources if (r := rates.get(t, among.get(t))) is not None), None)
            if rate is None:
                continue
            if not node.operation.joins or is_among_windows(node):
                among.update((Tensor(node.id, i), rate) for i in range(len(node.shapes)))
                continue
            rates[Tensor(node.id)] = rate
            size = cut_before(graph, node).each_size(shapes[node.id][0])[axis]
            larger = lcm(distance, (rate / size).denominator)
            if larger != distance:
                distance, cause = larger, node
            continue
        incoming = tuple(shapes[t.node][t.index] for t in node.inputs)
        for result in range(len(node.shapes)):
            try:
                own = (tile_maps if approximate else whole_maps)(node, result, incoming, shapes[node.id])
            except TooFine:
                continue
            for position, maps in own.items():
                rate = rates.get(node.inputs[position])
                if rate is None or axis >= len(maps) or maps[axis].out != axis or not maps[axis].step:
                    continue
                by = maps[axis]
                larger = lcm(distance, (rate / by.step).denominator)
                if larger != distance:
                    distance, cause = larger, node
                rates[Tensor(node.id, result)] = rate * by.period / by.step
    return distance, cause, rates


def is_among_windows(node: Node) -> bool:
    """Whether its results are windows, each a sample of its own."""
    return node.windows is not None and node.batched


def cut_before(graph: Graph, join: Node) -> Cut:
    """The cut of the windows that a node puts together."""
    partition = graph.node(join.inputs[0]).windows
    assert partition is not None
    return partition.cut


def whole_maps(
    node: Node, result: int, incoming: tuple[IntShape, ...], outputs: tuple[IntShape, ...]
) -> Mapping[int, tuple[IndexMap, ...]]:
    """How a result reads its inputs. Raises TooFine."""
    return node.operation.index_maps(result, incoming, outputs)


def tile_maps(
    node: Node, result: int, incoming: tuple[IntShape, ...], outputs: tuple[IntShape, ...]
) -> Mapping[int, tuple[IndexMap, ...]]:
    """How a result reads its inputs if what needs the whole axis has only the tile. Raises TooFine."""
    found = whole_maps(node, result, incoming, outputs)
    return {
        i: tuple(
            shifted(axis) if by == nothing() and incoming[i][1:] == outputs[result][1:] else by
            for axis, by in enumerate(maps)
        )
        for i, maps in by_windows(node.operation, found, incoming).items()
    }


@dataclass(slots=True, eq=False)
class Matcher:
    """Compares a tile, cut from the image along `axis`, with the whole image.

    `tile` and `whole` are the sizes of all tensors in the two runs; `starts` says which inputs, by the ids of their
    nodes, are cut, and `live` has the ids of the nodes that matter.
    """

    graph: Graph
    tile: Shapes
    whole: Shapes
    axis: int
    starts: Mapping[int, bool]
    live: set[int]
    found: dict[Tensor, Match] = field(default_factory=dict)
    approximate: bool = False
    """Whether what needs the whole axis may have only the tile's: `assumed` are the nodes for which that is so."""
    assumed: dict[int, Node] = field(default_factory=dict)
    at: int = 0
    """The element of the image with which the tile begins."""
    last: bool = False
    """Whether the tile ends where the image does."""

    def run(self, at: int) -> Mapping[Tensor, Match]:
        """The matches of all tensors, for a tile whose first element is element `at` of the image."""
        self.begin(at)
        for node in self.graph.nodes():
            if node.id in self.live:
                self.place(node)
        return self.found

    def begin(self, at: int) -> None:
        """Before the first node is placed, for a tile whose first element is element `at` of the image."""
        self.found, self.at = {}, at
        starting = (Tensor(number) for number, cut in self.starts.items() if cut)
        self.last = all(at + self.length(t) == self.length(t, whole=True) for t in starting)

    def place(self, node: Node) -> None:
        """Finds the matches of a node's results, behind those of its inputs."""
        for result in range(len(node.shapes)):
            tensor = Tensor(node.id, result)
            if node.operation.is_input and self.starts.get(node.id):
                self.found[tensor] = Match(self.at, 0, self.length(tensor))
            else:
                self.found[tensor] = self.match(node, result)

    def length(self, tensor: Tensor, *, whole: bool = False) -> int:
        """The length of a tensor along the axis; 1 where it has no such axis."""
        shape = (self.whole if whole else self.tile)[tensor.node][tensor.index]
        return shape[1 + self.axis] if len(shape) > 1 + self.axis else 1

    def match(self, node: Node, result: int) -> Match:
        tensor = Tensor(node.id, result)
        earlier = next((b for t in node.sources if (b := self.found[t].blame) is not None), None)
        if earlier is not None:
            return Match(None, 0, 0, earlier)
        try:
            found = self.reads(node, tensor)
        except TooFine:
            found = FINE
        if isinstance(found, Match) and self.last and found.offset is not None and not is_among_windows(node):
            ends = found.offset + self.length(tensor) == self.length(tensor, whole=True)
            found = found if ends else LENGTH
        return Match(None, 0, 0, Blame(node, found)) if isinstance(found, str) else found

    def reads(self, node: Node, tensor: Tensor) -> Match | str:
        """The match of a result of a node whose inputs match somewhere; or why there is none."""
        if node.operation.masks and node.operation.sized_by:
            return Match(None, 0, self.length(tensor))  # a part of how windows are cut, see `windows`
        same = self.sizes(node, tensor, self.tile) == self.sizes(node, tensor, self.whole)
        if same and all(map(self.is_equal, node.sources)):
            length = self.length(tensor)
            return Match(None if length == 1 else 0, 0, length)
        if not node.sources:
            return SIZE
        if node.operation.outside() is not None:
            return OUTSIDE
        if is_among_windows(node) or node.operation.joins:
            return self.windows(node, tensor)
        own, others = (self.maps(node, tensor, shapes) for shapes in (self.tile, self.whole))
        if own.keys() != others.keys():
            return RATIO
        if not own:
            return SIZE
        parts: list[Match] = []
        for position in own:
            part = self.through(node, tensor, position, own[position], others[position])
            if isinstance(part, str):
                return part
            parts.append(part)
        return joined(parts, self.length(tensor))

    def is_equal(self, tensor: Tensor) -> bool:
        """Whether all of a tensor is the same in both runs."""
        match, length = self.found[tensor], self.length(tensor)
        whole = (match.offset, match.low, match.high) == (0, 0, length) and self.length(tensor, whole=True) == length
        return match.offset is None or whole

    def windows(self, node: Node, tensor: Tensor) -> Match | str:
        """The match of a tensor among windows, which is that of the maps; or that of the map behind their join."""
        if node.windows is not None and node.operation.cuts and node.windows.around is None:
            source = node.inputs[0]
            if node.windows.cut.offset(self.axis, self.whole[source.node][source.index]) is None:
                return GRIDS
        # What depends on no input, as a bias of scores, is the same for all windows.
        batched = [t for t in node.sources if self.graph.node(t).batched]
        here = joined((self.found[t] for t in batched), self.length(tensor))
        if isinstance(here, str) or here.offset is None or is_among_windows(node):
            return here
        cut = cut_before(self.graph, node)
        own, whole = self.tile[tensor.node][tensor.index], self.whole[tensor.node][tensor.index]
        size, offset = cut.each_size(whole)[self.axis], cut.offset(self.axis, whole)
        assert offset is not None
        if here.offset % size or cut.offset(self.axis, own) != offset:
            return RATIO
        starts = ((r - offset) // size * size + offset for r in range(size))
        by = IndexMap(self.axis, size, size, tuple(range(start, start + size) for start in starts))
        return moved(by, here, (self.length(tensor), self.length(tensor, whole=True)), self.length(tensor))

    def maps(self, node: Node, tensor: Tensor, shapes: Shapes) -> Mapping[int, tuple[IndexMap, ...]]:
        incoming, outputs = self.sizes(node, tensor, shapes)
        found = whole_maps(node, tensor.index, incoming, outputs)
        if not self.approximate:
            return found
        without = tile_maps(node, tensor.index, incoming, outputs)
        if without != found:
            self.assumed[node.id] = node
        return without

    def sizes(self, node: Node, tensor: Tensor, shapes: Shapes) -> tuple[tuple[IntShape, ...], tuple[IntShape, ...]]:
        return tuple(shapes[t.node][t.index] for t in node.inputs), shapes[tensor.node]

    def through(
        self, node: Node, tensor: Tensor, position: int, own: Sequence[IndexMap], others: Sequence[IndexMap]
    ) -> Match | str:
        """The match of a result, as far as one input decides it."""
        source = node.inputs[position]
        if self.axis < len(own) and own[self.axis].out is None and own[self.axis] != others[self.axis]:
            return WHOLE
        if len(own) != len(self.tile[tensor.node][tensor.index]) - 1 or self.axis >= len(own):
            return MOVES
        if any(by.along or by.out not in (axis, None) for axis, by in enumerate(own)):
            return MOVES
        by, out, here = own[self.axis], self.length(tensor), self.found[source]
        lengths = self.length(source), self.length(source, whole=True)
        if here.offset is None and lengths == (1, 1) and all(_reads_one(m) for m in (by, others[self.axis])):
            return Match(None, 0, out)
        if by != others[self.axis]:
            return RATIO
        if here.offset is None:
            return Match(None, 0, out) if by.still or by.out is None else FIXED
        if by.out is None:
            seen = by.taps[0]
            inside = not seen or (here.offset == 0 and seen[0] >= here.low and seen[-1] < here.high)
            return Match(None, 0, out) if inside else WHOLE
        if here.offset % by.step:
            return RATIO
        if node.operation.wraps() and not by.still:
            return WRAPS
        return moved(by, here, lengths, out)


def _reads_one(by: IndexMap) -> bool:
    """Whether every result reads the only element of an axis, and nothing beyond."""
    return by.still or (not by.along and all(taps == range(1) for taps in by.taps))


def moved(by: IndexMap, here: Match, lengths: tuple[int, int], out: int) -> Match:
    """The match behind an index map of an axis of these lengths, in the tile and in the whole image."""
    assert here.offset is not None
    length, whole = lengths
    begins = here.offset == 0 and here.low == 0
    ends = here.offset + length == whole and here.high == length
    low, high = 0, out
    before = behind = 0
    for r, taps in enumerate(by.taps):
        if not taps:
            continue
        first, last = taps[0], taps[-1]
        if begins:
            before = max(before, -first)
        else:
            low = max(low, (here.low - first - 1) // by.step * by.period + r + 1)
        if ends:
            behind = max(behind, (out - 1 - r) // by.period * by.step + last - length + 1)
        else:
            high = min(high, -((last - here.high) // by.step) * by.period + r)
    # Beyond a border may lie what is mirrored there, so that many elements must match as well.
    if before >= here.high or behind >= length - here.low:
        high = min(high, low)
    return Match(here.offset // by.step * by.period, low, high)


def joined(parts: Iterable[Match], length: int) -> Match | str:
    """The match of what is computed from all of these."""
    moving = [part for part in parts if part.offset is not None]
    if not moving:
        return Match(None, 0, length)
    if len({part.offset for part in moving}) > 1:
        return APART
    return Match(moving[0].offset, max(part.low for part in moving), min(part.high for part in moving))
