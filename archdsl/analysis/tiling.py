"""Exact tiles: how to cut a large image so that the network's results for the pieces are those for the whole.

All tiles have one size, which leaves the same remainder as the image's when divided by the stride of the network, and
start at multiples of that stride. Which results of a tile are kept follows from `matching`, which compares the run on a
tile with that on the whole image: the plan holds only if the kept results cover every output, each result once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, lcm, prod
from typing import TypeAlias

from archdsl.analysis.costs import costs, sized_shapes
from archdsl.analysis.matching import ONE, RATIO, WHOLE, Blame, Match, Matcher, Shapes, stride
from archdsl.analysis.memory import memory
from archdsl.common.units import bytes_text
from archdsl.diagnostics import Diagnostic, Mark, SpecError
from archdsl.dims import name_of
from archdsl.graph import Graph, Node, Output, Tensor

Span: TypeAlias = tuple[int, int]
"""The first element, and the one after the last."""

DEFAULT_MEMORY = 4 << 30
"""The bytes that a tile may take where nobody says how large it is."""

REPEATS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64)
"""The values that are tried in turn as `Planner.repeats`."""

TRIES = 256
"""How many sizes of a tile are tried below the one that is asked for, to find one that the network accepts."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The results of a tile that are kept, along one axis of one output: those of the tile, and their place in all."""

    own: Span
    whole: Span


@dataclass(frozen=True, slots=True)
class Axis:
    """How one spatial axis is cut.

    Tiles of `tile` elements begin at `starts`; all are multiples of `stride`, and neighbours are `step` apart, but for
    the last one. `smallest` is the smallest tile that keeps anything, `halos` has for each output how many of its
    elements are cut off before and behind at a border that is not the image's. `kept` has for each output what each
    tile gives.
    """

    name: str
    size: int
    tile: int
    stride: int
    step: int
    smallest: int
    starts: tuple[int, ...]
    halos: tuple[Span, ...]
    kept: tuple[tuple[Kept, ...], ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: where each axis is cut, and for each output what is kept along each axis."""

    cut: tuple[Span, ...]
    kept: tuple[tuple[Kept, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """A plan to run a network tile by tile.

    `sizes` are the free sizes of the image, `tile` those of a tile; `cut` says for each input whether each of its
    spatial axes is cut. `again` is the share of the work that is done more than once, `peak` are the bytes of a run on
    `batch` tiles, weights included.
    """

    graph: Graph
    sizes: Mapping[str, int]
    tile: Mapping[str, int]
    axes: tuple[Axis, ...]
    outputs: tuple[Output, ...]
    cut: tuple[tuple[bool, ...], ...]
    again: float
    peak: int
    batch: int
    dtype: str
    assumed: tuple[Node, ...] = ()
    """The nodes that need the whole image, and get only a tile: empty if the results are exact."""

    @property
    def count(self) -> int:
        return prod(len(axis.starts) for axis in self.axes)

    def __getitem__(self, number: int) -> Tile:
        places = []
        for axis in reversed(self.axes):
            number, place = divmod(number, len(axis.starts))
            places.append(place)
        places.reverse()
        cut = tuple((a.starts[p], a.starts[p] + a.tile) for a, p in zip(self.axes, places, strict=True))
        kept = (
            tuple(a.kept[output][p] for a, p in zip(self.axes, places, strict=True))
            for output in range(len(self.outputs))
        )
        return Tile(cut, tuple(kept))

    def keeps(self, number: int) -> bool:
        """Whether anything is kept of a tile."""
        return any(all(k.own[0] < k.own[1] for k in kept) for kept in self[number].kept)

    def shapes(self, *, tile: bool = False) -> list[tuple[int, ...]]:
        """The sizes of the outputs, channels first, without the batch: for the whole image, or for a tile."""
        found = sized_shapes(self.graph, self.tile if tile else self.sizes)
        return [found[o.tensor.node][o.tensor.index] for o in self.outputs]


def tiling(
    graph: Graph,
    sizes: Mapping[str, int],
    *,
    tile: Sequence[int] | int | None = None,
    limit: int | None = None,
    batch: int | None = None,
    dtype: str = "float32",
    cpu: bool = True,
    approximate: bool = False,
    single: bool = False,
    outputs: tuple[Output, ...] = (),
) -> Tiling:
    """The plan for an image with these free sizes.

    `tile` is the largest tile, one number or one for each spatial axis; without it, it is the largest one whose run
    takes at most `limit` bytes. `batch` tiles run together; without it, as many as `limit` allows, or one. With
    `approximate`, what needs the whole image may have only the tile; with `single`, an output may be one result for the
    whole image, which the first tile keeps. `outputs` are wanted instead of the network's.

    Raises SpecError if no tiles are exact, or those of that size are not.
    """
    planner = Planner(graph, {**graph.examples, **sizes}, approximate, outputs, single)
    if tile is None:
        values = planner.largest(limit or DEFAULT_MEMORY, dtype, cpu)
    else:
        values = planner.fitting([tile] * planner.rank if isinstance(tile, int) else tile)
    axes = planner.axes(values)
    peaks = memory(graph, values, dtype, cpu=cpu).inference
    count = prod(len(axis.starts) for axis in axes)
    if batch is None:
        batch = max(1, min(peaks.largest_batch(limit), count)) if limit is not None else 1
    work, all_work = (costs(graph, v).total.macs for v in (values, planner.sizes))
    if not all_work:
        work, all_work = prod(a.tile for a in axes), prod(a.size for a in axes)
    return Tiling(
        graph, planner.sizes, values, axes, planner.outputs, planner.cut, count * work / all_work - 1,
        peaks.at(batch), batch, dtype, tuple(planner.assumed.values()),
    )  # fmt: skip


def refusal(graph: Graph, message: str, help: str, blame: Blame | None = None) -> SpecError:
    marks = (Mark(blame.node.span, blame.reason),) if blame is not None else ()
    return SpecError([Diagnostic("E0606", f"`{graph.name}` {message}", marks, help=help)])


class _TooSmall(SpecError):
    """The tiles are too small; those of `need` may be large enough."""

    def __init__(self, graph: Graph, message: str, need: int) -> None:
        super().__init__(refusal(graph, message, "ask for a larger tile, or give more memory").diagnostics)
        self.need = need


@dataclass(slots=True, eq=False)
class Planner:
    """Finds the size of the tiles, and where they begin."""

    graph: Graph
    sizes: Mapping[str, int]
    approximate: bool
    outputs: tuple[Output, ...]
    single: bool = False
    assumed: dict[int, Node] = field(default_factory=dict)
    whole: Shapes = ()
    live: set[int] = field(default_factory=set)
    names: tuple[str | None, ...] = ()
    """The free size of each spatial axis; None for an axis of a fixed size, which is not cut."""
    lengths: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    causes: tuple[Node | None, ...] = ()
    """For each axis the node that makes its stride large."""
    cut: tuple[tuple[bool, ...], ...] = ()

    def __post_init__(self) -> None:
        self.whole = sized_shapes(self.graph, self.sizes)
        self.outputs = self.outputs or tuple(o for o in self.graph.outputs if not o.training)
        self.live = self.graph.ancestors(o.tensor for o in self.outputs)
        self.find_axes()
        by_name: dict[str | None, int] = {None: 1}
        causes: list[Node | None] = []
        for axis, name in enumerate(self.names):
            cause = None
            if name is not None:
                distance, cause, rates = stride(
                    self.graph, self.whole, axis, self.starts(axis), approximate=self.approximate
                )
                by_name[name] = lcm(by_name.get(name, 1), distance * self.repeats(axis, name, distance, rates))
            causes.append(cause)
        self.strides = tuple(by_name[name] for name in self.names)
        self.causes = tuple(causes)

    @property
    def rank(self) -> int:
        return len(self.names)

    def repeats(self, axis: int, name: str, distance: int, rates: Mapping[Tensor, Fraction]) -> int:
        """By how many strides the image must shrink until all tensors shrink with it, as behind `pad_to_multiple`."""
        for factor in REPEATS:
            less = distance * factor
            if less >= self.lengths[axis]:
                break
            shapes = sized_shapes(self.graph, {**self.sizes, name: self.sizes[name] - less})
            if all(
                self.whole[t.node][t.index][1 + axis] - shapes[t.node][t.index][1 + axis] == less * rate
                for t, rate in rates.items()
                if t.node in self.live
            ):
                return factor
        return 1

    def find_axes(self) -> None:
        """Finds out which axes of the inputs can be cut."""
        inputs = [(node, self.graph.shape(Tensor(node.id))[1:]) for node in self.graph.input_nodes]
        rank = max(len(shape) for _, shape in inputs)
        names: list[str | None] = [None] * rank
        lengths = [1] * rank
        for node, shape in inputs:
            for axis, size in enumerate(shape):
                if isinstance(size, int):
                    lengths[axis] = max(lengths[axis], size) if names[axis] is None else lengths[axis]
                    continue
                name = name_of(size)
                if name is None or names[axis] not in (None, name):
                    message = f"has inputs whose sizes differ: they cannot be cut alike, at the input `{node.name}`"
                    raise refusal(self.graph, message, "give their axes the same free size", Blame(node, "here"))
                names[axis], lengths[axis] = name, self.sizes[name]
        if not any(names):
            message = "takes images of one size only, so no tile of another size"
            example = ", ".join("HWDT"[i] for i in range(rank)) or "H, W"
            help = f"leave the size free in `input`: [{self.whole[inputs[0][0].id][0][0]}, {example}]"
            raise refusal(self.graph, message, help, Blame(inputs[0][0], "fixed here"))
        self.names, self.lengths = tuple(names), tuple(lengths)
        self.cut = tuple(tuple(not isinstance(size, int) for size in shape) for _, shape in inputs)

    def starts(self, axis: int) -> dict[int, bool]:
        """Whether each input, by the id of its node, is cut along an axis."""
        nodes = zip(self.graph.input_nodes, self.cut, strict=True)
        return {node.id: axis < len(cut) and cut[axis] for node, cut in nodes}

    # ------------------------------------------------------------ the size of a tile

    def candidates(self, name: str, limit: int) -> Iterator[int]:
        """The sizes that a tile may have along the axes of a free size, at most `limit`, the largest first."""
        size, distance = self.sizes[name], self.strides[self.names.index(name)]
        if limit >= size:
            yield size
            return
        largest = size - -((limit - size) // distance) * distance
        for tile in range(largest, 0, -distance)[:TRIES]:
            if tile in self.graph.sizes[name]:
                yield tile

    def least(self, name: str, limit: int) -> int:
        """The smallest size above `limit` that a tile may have along the axes of a free size."""
        size, distance = self.sizes[name], self.strides[self.names.index(name)]
        first = size - (size - limit - 1) // distance * distance
        return next((tile for tile in range(first, size, distance)[:TRIES] if tile in self.graph.sizes[name]), size)

    def fitting(self, limits: Sequence[int]) -> dict[str, int]:
        """The largest tile within these limits, one for each axis, by the free sizes. Raises SpecError."""
        if len(limits) != self.rank:
            message = f"has {self.rank} spatial axes, the tile {len(limits)}"
            raise refusal(self.graph, message, "give one number, or one for each axis: 512x256")
        by_name: dict[str, int] = {}
        for name, limit in zip(self.names, limits, strict=True):
            if name is not None:
                by_name[name] = min(limit, by_name.get(name, limit))
        found = {size.name: self.sizes[size.name] for size in self.graph.free}
        for name, limit in by_name.items():
            tile = next(self.candidates(name, limit), None)
            if tile is None:
                axis = self.names.index(name)
                raise self.too_small(axis, limit, self.least(name, limit))
            found[name] = tile
        if not self.graph.sizes.holds(found):
            named = ", ".join(f"{name} = {found[name]}" for name in by_name)
            raise refusal(self.graph, f"takes no tiles of {named}", "ask for a tile of another size")
        return found

    def too_small(self, axis: int, limit: int, need: int) -> SpecError:
        """The error for tiles of `limit` where only some of at least `need` are exact."""
        name, size, cause = self.names[axis], self.lengths[axis], self.causes[axis]
        if need >= size and 2 * self.strides[axis] > size and cause is not None:
            return self.never(axis, Blame(cause, RATIO))
        message = f"has no exact tiles of {limit} along {name}: they must be of at least {min(need, size)}"
        if need >= size:
            message += ", as large as the image"
        return _TooSmall(self.graph, message, need)

    def never(self, axis: int, blame: Blame) -> SpecError:
        node = blame.node
        what = f"the input `{node.name}`" if node.operation.is_input else f"`{node.operation.name}` (`{node.path}`)"
        message = f"cannot be cut into exact tiles along {self.names[axis]}: {what} is in the way"
        help = "run the whole image at once, or train a network without it"
        if blame.reason == WHOLE and not self.approximate:
            help = "archdsl.tiled(…, gather=True) gathers statistics first; --approximate does without"
        if blame.reason == ONE and self.approximate:
            help = "archdsl.tiled(…, gather=True) gathers statistics first, so that it is that of the whole image"
        if blame.reason == RATIO and self.strides[axis] > 1:
            help = "image sizes that are multiples of the network's total stride often avoid this"
        return refusal(self.graph, message, help, blame)

    def smallest(self) -> dict[str, int]:
        """About the smallest tile that is exact; as large as the image where none is smaller. Raises SpecError."""
        limit = 2 * max(self.strides)
        while True:
            try:
                values = self.fitting([limit] * self.rank)
                self.axes(values)
            except _TooSmall as error:
                limit = max(error.need, limit + 1)
                continue
            return values

    def largest(self, limit: int, dtype: str, cpu: bool) -> dict[str, int]:
        """The largest tile whose run takes at most `limit` bytes. Raises SpecError."""

        def peak(values: Mapping[str, int]) -> int:
            return memory(self.graph, values, dtype, cpu=cpu).inference.at(1)

        whole = self.fitting(self.lengths)
        if peak(whole) <= limit:
            return whole
        best = self.smallest()
        if (least := peak(best)) > limit:
            sides = " × ".join(
                str(best.get(name or "", size)) for name, size in zip(self.names, self.lengths, strict=True)
            )
            message = f"takes {bytes_text(least)} for its smallest exact tiles, {sides}: more than {bytes_text(limit)}"
            raise refusal(self.graph, message, "give more memory")
        unit = max(self.strides)
        least_side = max(best[name] for name in self.names if name is not None)
        low, high = least_side // unit, max(self.lengths) // unit + 1  # the first fits, the last does not
        while high - low > 1:
            middle = (low + high) // 2
            values = self.fitting([max(middle * unit, least_side)] * self.rank)
            if peak(values) <= limit:
                low, best = middle, values
            else:
                high = middle
        return best

    # ------------------------------------------------------------ where tiles begin

    def axes(self, values: Mapping[str, int]) -> tuple[Axis, ...]:
        """How each axis is cut into tiles of these sizes. Raises SpecError."""
        tile = sized_shapes(self.graph, values)
        found = []
        for axis, name in enumerate(self.names):
            if name is None or values[name] == self.lengths[axis]:
                found.append(self.uncut(axis))
            else:
                found.append(self.axis(axis, values[name], tile))
        return tuple(found)

    def uncut(self, axis: int) -> Axis:
        size = self.lengths[axis]
        whole = [(0, shape[1 + axis] if len(shape) > 1 + axis else 1) for shape in self.output_shapes()]
        kept = tuple((Kept(span, span),) for span in whole)
        name = self.names[axis] or f"axis {axis + 1}"
        return Axis(name, size, size, self.strides[axis], size, size, (0,), ((0, 0),) * len(kept), kept)

    def output_shapes(self) -> list[tuple[int, ...]]:
        return [self.whole[o.tensor.node][o.tensor.index] for o in self.outputs]

    def axis(self, axis: int, tile: int, shapes: Shapes) -> Axis:
        """How an axis is cut into tiles of a size."""
        matcher = Matcher(self.graph, shapes, self.whole, axis, self.starts(axis), self.live)
        matcher.approximate, matcher.assumed = self.approximate, self.assumed
        last, distance = self.lengths[axis] - tile, self.strides[axis]
        ends = [self.matches(axis, matcher, at) for at in (0, last)]
        between = self.matches(axis, matcher, distance) if last > distance else None
        step = last
        for number, (first, final) in enumerate(zip(*ends, strict=True)):
            if final.offset is None:
                continue
            rate = Fraction(final.offset, last)
            middle = between[number] if between is not None else None
            high = min(first.high, middle.high) if middle is not None else first.high
            low = max(final.low, middle.low) if middle is not None else final.low
            step = min(step, floor((high - low) / rate / distance) * distance)
        if step < min(distance, last):
            raise self.too_small(axis, tile, tile + distance - step)
        starts = (*range(0, last, step), last)
        kept = tuple(
            self.kept(axis, starts, output, first, between[i] if between is not None else None, final)
            for i, (output, first, final) in enumerate(zip(self.outputs, *ends, strict=True))
        )
        shown = zip(self.outputs, ends[0], ends[1], strict=True)
        halos = tuple((final.low, matcher.length(o.tensor) - first.high) for o, first, final in shown)
        name, size = self.names[axis] or "", self.lengths[axis]
        return Axis(name, size, tile, distance, step, tile - step + distance, starts, halos, kept)

    def matches(self, axis: int, matcher: Matcher, at: int) -> list[Match]:
        """The range of each output that a tile beginning at an element gives. Raises SpecError."""
        found = matcher.run(at)
        for output in self.outputs:
            match = found[output.tensor]
            if match.blame is not None:
                raise self.never(axis, match.blame)
            if match.offset is None and not self.single:
                raise self.never(axis, Blame(self.graph.node(output.tensor), ONE))
        return [found[output.tensor] for output in self.outputs]

    def kept(
        self, axis: int, starts: Sequence[int], output: Output, first: Match, middle: Match | None, final: Match
    ) -> tuple[Kept, ...]:
        """The range that is kept of each tile of an output along an axis: each result once. Raises SpecError."""
        shape = self.whole[output.tensor.node][output.tensor.index]
        if final.offset is None:
            length = shape[1 + axis] if len(shape) > 1 + axis else 1
            return (Kept((0, length), (0, length)), *[Kept((0, 0), (0, 0))] * (len(starts) - 1))
        rate = Fraction(final.offset, starts[-1])
        done = 0
        found = []
        for start in starts:
            match = first if start == 0 else final if start == starts[-1] else middle
            assert match is not None
            offset = int(start * rate)
            low, high = match.low + offset, match.high + offset
            if low > done or (start == starts[-1] and high != shape[1 + axis]):
                raise self.never(axis, Blame(self.graph.node(output.tensor), "the tiles would leave out some of this"))
            high = max(high, done)
            found.append(Kept((done - offset, high - offset), (done, high)))
            done = high
        return tuple(found)
