"""What each layer sees of the input: receptive field, effective stride and centre, exact through branches.

An axis is followed by index arithmetic (Araujo et al., Computing receptive fields of convolutional neural networks,
2019, there for one rate at a time): which interval of the input the element i of a tensor is made from. Behind an
upsampling the intervals of neighbours differ, so there is one for each phase of i; where branches of unlike strides
meet, one for each stride; the field is the smallest interval that holds them all. All channels of a position are taken
together, statistics of batchnorm as constants, and padding as more of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import TypeAlias

from archdsl.analysis import IntShape, sized_shapes
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.sight import FINEST, IndexMap, TooFine

Span: TypeAlias = tuple[int, int]
"""The first and the last element."""


@dataclass(frozen=True, slots=True)
class Track:
    """Intervals that advance evenly: element q · period + r sees spans[r], moved by q · step. None: it sees nothing."""

    period: int
    step: int
    spans: tuple[Span | None, ...]

    def at(self, index: int) -> Span | None:
        q, r = divmod(index, self.period)
        span = self.spans[r]
        return span and (span[0] + q * self.step, span[1] + q * self.step)


def hull(spans: Iterable[Span | None]) -> Span | None:
    found = [s for s in spans if s is not None]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


@dataclass(frozen=True, slots=True)
class AxisField:
    """What the elements along one axis of a tensor see of one axis of an input.

    `along` is the tensor's spatial axis, counted from 0, and None where all its elements see the same. Elements see
    the hull of what the tracks say, which have one rate each. `size` is the input axis's.
    """

    along: int | None
    tracks: tuple[Track, ...]
    size: int

    def at(self, index: int) -> Span | None:
        """The first and last element that element `index` sees, far from the edges; None if none."""
        return hull(track.at(index) for track in self.tracks)

    @property
    def sees_all(self) -> bool:
        """Whether every element sees the whole axis, by one of its ways at least: through a global pooling, say."""
        still = [track for track in self.tracks if not track.step]
        return any(all(s and s[0] <= 0 and s[1] >= self.size - 1 for s in track.spans) for track in still)

    @property
    def even(self) -> bool:
        """Whether the fields of neighbours lie a constant number of elements apart, on average."""
        return len(self.tracks) == 1

    def extents(self, near: int = 0) -> tuple[int, int]:
        """The smallest and the largest field of all phases, or where rates differ that of element `near`."""
        if self.even:
            spans: Iterable[Span | None] = self.tracks[0].spans
        else:
            spans = [self.at(near)]
        sizes = [span[1] - span[0] + 1 if span else 0 for span in spans]
        return (min(sizes), max(sizes)) if sizes else (0, 0)

    @property
    def stride(self) -> Fraction | None:
        """Elements of the input from one field to the next; None where there is no one number."""
        return Fraction(self.tracks[0].step, self.tracks[0].period) if self.even else None

    @property
    def offset(self) -> Fraction | None:
        """The centre of the first element's field (0 is the middle of the input's first element), a mean over phases.

        So element i is centred at `offset + i · stride`.
        """
        stride = self.stride
        if stride is None:
            return None
        centres = [Fraction(sum(s), 2) - r * stride for r, s in enumerate(self.tracks[0].spans) if s]
        return sum(centres, Fraction()) / len(centres) if centres else None


Field: TypeAlias = tuple[AxisField, ...]
"""What a tensor sees of one input, an entry for each spatial axis of that."""


@dataclass(frozen=True, slots=True, eq=False)
class Receptive:
    """The fields of a graph's tensors on its inputs: `receptive[node]`, of its first result, or of a scope's first."""

    graph: Graph
    shapes: tuple[tuple[IntShape, ...], ...]
    _fields: Mapping[Tensor, Mapping[int, Field] | None]

    def __getitem__(self, part: Node | Scope | Tensor) -> Mapping[int, Field] | None:
        """By the id of the input's node; None where it is too fine to tell."""
        if isinstance(part, Node):
            part = Tensor(part.id)
        elif isinstance(part, Scope):
            part = part.outputs[0]
        return self._fields[part]

    def shape(self, tensor: Tensor) -> IntShape:
        return self.shapes[tensor.node][tensor.index]


def receptive_fields(graph: Graph, sizes: Mapping[str, int] | None = None) -> Receptive:
    """The receptive fields of every tensor of a checked graph.

    Those behind a resize, an adaptive pooling or a global one depend on the size of the input: free sizes take the
    values of `sizes`, else those of `graph.examples`.
    """
    shapes = sized_shapes(graph, {**graph.examples, **(sizes or {})})
    fields: dict[Tensor, Mapping[int, Field] | None] = {}
    cache: dict[object, object] = {}
    for node in graph.nodes():
        outputs = shapes[node.id]
        if node.operation.name == "input":
            own = tuple(AxisField(a, (Track(1, 1, ((0, 0),)),), n) for a, n in enumerate(outputs[0][1:]))
            fields[Tensor(node.id)] = {node.id: own}
            continue
        incoming = tuple(shapes[t.node][t.index] for t in node.inputs)
        seen = [fields[t] for t in node.inputs]
        for result in range(len(outputs)):
            try:
                fields[Tensor(node.id, result)] = _seen(node, result, incoming, outputs, seen, cache)
            except TooFine:
                fields[Tensor(node.id, result)] = None
    return Receptive(graph, shapes, fields)


def _seen(
    node: Node,
    result: int,
    incoming: tuple[IntShape, ...],
    outputs: tuple[IntShape, ...],
    seen: Sequence[Mapping[int, Field] | None],
    cache: dict[object, object],
) -> Mapping[int, Field]:
    """The fields of one result of a node."""
    found: dict[int, Field] = {}
    for position, maps in node.operation.sight(result, incoming, outputs).items():
        before = seen[position]
        if before is None:
            raise TooFine
        for source, field in before.items():
            mapped = tuple(_through(axis, maps, cache) for axis in field)
            known = found.get(source)
            found[source] = mapped if known is None else tuple(map(_union, known, mapped))
    return found


def _through(axis: AxisField, maps: tuple[IndexMap, ...], cache: dict[object, object]) -> AxisField:
    if axis.along is None:
        return axis
    by = maps[axis.along]
    if by.period == by.step == 1 and by.taps == (range(0, 1),):
        return axis if axis.along == by.out else AxisField(by.out, axis.tracks, axis.size)
    key = axis, by
    found = cache.get(key)
    if found is None:
        found = cache[key] = AxisField(by.out, _merged([_composed(t, by) for t in axis.tracks]), axis.size)
    assert isinstance(found, AxisField)
    return found


def _composed(track: Track, by: IndexMap) -> Track:
    """What is seen through a map of a tensor whose elements see `track`."""
    repeats = track.period // gcd(track.period, by.step) if by.step else 1
    period = by.period * repeats
    if period > FINEST:
        raise TooFine
    spans = []
    for i in range(period):
        q, r = divmod(i, by.period)
        taps = by.taps[r]
        # Behind so many taps the phases repeat; within a phase the first and the last tap see the furthest.
        ends = taps if len(taps) <= 2 * track.period else (*taps[: track.period], *taps[-track.period :])
        spans.append(hull(track.at(q * by.step + t) for t in ends))
    return _reduced(Track(period, by.step * repeats // track.period * track.step if by.step else 0, tuple(spans)))


def _reduced(track: Track) -> Track:
    """The same with the shortest period."""
    common = gcd(track.period, track.step)
    for divisor in range(common, 1, -1):
        if common % divisor:
            continue
        short = Track(track.period // divisor, track.step // divisor, track.spans[: track.period // divisor])
        if all(short.at(i) == span for i, span in enumerate(track.spans)):
            return short
    if not track.step and all(span == track.spans[0] for span in track.spans):
        return Track(1, 0, track.spans[:1])
    return track


def _union(a: AxisField, b: AxisField) -> AxisField:
    if a is b or a == b:
        return a
    along = a.along if b.along is None else b.along
    if a.along is not None and b.along is not None and a.along != b.along:
        # One branch has swapped its axes: what moves with both is told by neither.
        a, b = _everywhere(a), _everywhere(b)
        along = None
    return AxisField(along, _merged([*a.tracks, *b.tracks]), a.size)


def _everywhere(axis: AxisField) -> AxisField:
    return AxisField(None, (Track(1, 0, ((0, axis.size - 1),)),), axis.size)


def _merged(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """Tracks of one rate as one, ordered by their rates."""
    if len(tracks) == 1:
        return tuple(tracks)
    by_rate: dict[Fraction, list[Track]] = {}
    for track in tracks:
        by_rate.setdefault(Fraction(track.step, track.period), []).append(track)
    merged = []
    for rate, alike in sorted(by_rate.items()):
        period = lcm(*(t.period for t in alike))
        if period > FINEST:
            raise TooFine
        spans = tuple(hull(t.at(i) for t in alike) for i in range(period))
        merged.append(_reduced(Track(period, int(rate * period), spans)))
    seeing = [t for t in merged if any(t.spans)]
    return tuple(seeing or merged[:1])
