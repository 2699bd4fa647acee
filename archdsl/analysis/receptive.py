"""Receptive fields: the field, effective stride and centre of each layer, exact through branches.

Each axis is followed by index arithmetic (Araujo et al., Computing receptive fields of convolutional neural networks,
2019, there for a single rate): from which interval of the input the element i of a tensor is made. After an upsampling
the intervals of neighbours differ, so there is one for each phase of i; where branches of different strides join, one
for each stride; the field is the smallest interval that contains them all. A tensor's reported field is that of all
channels of a position together; internally, channels with different fields are kept apart, for operations that read
only some of them: a split, a grouped convolution. Batchnorm statistics are constants, and padding counts as more of the
image.

After one global pooling of a gate, or one instancenorm, everything has the whole input as its field. Therefore the
field through windows only can be traced, too: all normalisation statistics are constants then, and operations on a
whole axis contribute nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise
from math import gcd, lcm, prod
from typing import TypeAlias

from archdsl.analysis.costs import IntShape, sized_shapes
from archdsl.analysis.window_fields import WindowFields
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.base import Operation
from archdsl.ops.index_maps import FINEST, ChannelMap, IndexMap, TooFine, everything, nothing, shifted

Interval: TypeAlias = tuple[int, int]
"""The first and the last element."""


@dataclass(frozen=True, slots=True)
class Track:
    """Evenly spaced intervals: element q · period + r has the field spans[r], shifted by q · step. None: no field."""

    period: int
    step: int
    spans: tuple[Interval | None, ...]

    def at(self, index: int) -> Interval | None:
        q, r = divmod(index, self.period)
        span = self.spans[r]
        return span and (span[0] + q * self.step, span[1] + q * self.step)


def hull(spans: Iterable[Interval | None]) -> Interval | None:
    found = [s for s in spans if s is not None]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


@dataclass(frozen=True, slots=True)
class AxisField:
    """The fields of the elements along one axis of a tensor, on one axis of an input.

    `along` is the tensor's spatial axis, counted from 0, or None if all its elements have the same field. A field is
    the hull of the fields of the tracks, which have one rate each. `size` is the input axis's.
    """

    along: int | None
    tracks: tuple[Track, ...]
    size: int

    def at(self, index: int) -> Interval | None:
        """The first and last element in the field of element `index`, far from the edges; None if there is none."""
        return hull(track.at(index) for track in self.tracks)

    @property
    def sees_all(self) -> bool:
        """Whether every element sees the whole axis on at least one path, such as through a global pooling."""
        still = [track for track in self.tracks if not track.step]
        return any(all(s and s[0] <= 0 and s[1] >= self.size - 1 for s in track.spans) for track in still)

    @property
    def even(self) -> bool:
        """Whether the fields of neighbours are a constant number of elements apart, on average."""
        return len(self.tracks) == 1

    def extents(self, near: int = 0) -> tuple[int, int]:
        """The smallest and the largest field over all phases; if rates differ, that of element `near`."""
        if self.even:
            spans: Iterable[Interval | None] = self.tracks[0].spans
        else:
            spans = [self.at(near)]
        sizes = [span[1] - span[0] + 1 if span else 0 for span in spans]
        return (min(sizes), max(sizes)) if sizes else (0, 0)

    @property
    def stride(self) -> Fraction | None:
        """Input elements from one field to the next; None if that varies."""
        return Fraction(self.tracks[0].step, self.tracks[0].period) if self.even else None

    @property
    def offset(self) -> Fraction | None:
        """The centre of the first element's field (0 is the middle of the input's first element), averaged over phases.

        So element i is centred at `offset + i · stride`.
        """
        stride = self.stride
        if stride is None:
            return None
        centres = [Fraction(sum(s), 2) - r * stride for r, s in enumerate(self.tracks[0].spans) if s]
        return sum(centres, Fraction()) / len(centres) if centres else None


Field: TypeAlias = tuple[AxisField, ...]
"""A tensor's fields on one input, one entry for each spatial axis of the input."""

Fields: TypeAlias = Mapping[int, Field] | None
"""A tensor's fields on the inputs, by the ids of their nodes; None if they are too complex."""

Band: TypeAlias = tuple[int, Fields]
"""A band: the channels up to a number, starting where the previous band ends, and their fields."""

ChannelRange: TypeAlias = tuple[int, int, Fields]
"""A range of channels, and their fields."""

BANDS = 200_000
"""The approximate number of bands of all tensors of a graph together: limits the work."""


@dataclass(frozen=True, slots=True, eq=False)
class Receptive:
    """The fields of a graph's tensors on its inputs: `receptive[node]`, of its first result, or of a scope's first."""

    graph: Graph
    shapes: tuple[tuple[IntShape, ...], ...]
    _fields: Mapping[Tensor, Fields]

    def __getitem__(self, part: Node | Scope | Tensor) -> Fields:
        """By the id of the input's node; None if they are too complex."""
        if isinstance(part, Node):
            part = Tensor(part.id)
        elif isinstance(part, Scope):
            part = part.outputs[0]
        return self._fields[part]

    def shape(self, tensor: Tensor) -> IntShape:
        return self.shapes[tensor.node][tensor.index]


def receptive_fields(graph: Graph, sizes: Mapping[str, int] | None = None, *, windows: bool = False) -> Receptive:
    """The receptive fields of every tensor of a checked graph; with `windows`, those through windows only.

    Fields after a resize, an adaptive or global pooling depend on the input size: free sizes have their values in
    `sizes`, else in `graph.examples`.
    """
    shapes = sized_shapes(graph, {**graph.examples, **(sizes or {})})
    tracer = _Tracer(shapes, _parted(graph, shapes, windows), max(BANDS // max(len(graph), 1), 1), windows)
    for node in graph.nodes():
        outputs = shapes[node.id]
        if node.operation.is_input:
            own = tuple(AxisField(a, (Track(1, 1, ((0, 0),)),), n) for a, n in enumerate(outputs[0][1:]))
            tracer.seen[Tensor(node.id)] = {node.id: own}
            continue
        if not node.inputs:  # it sees nothing of any input
            tracer.seen.update((Tensor(node.id, i), {}) for i in range(len(outputs)))
            continue
        for result in range(len(outputs)):
            tracer.trace(node, result)
    return Receptive(graph, shapes, tracer.seen)


def _parted(graph: Graph, shapes: tuple[tuple[IntShape, ...], ...], windows: bool) -> set[int]:
    """The nodes of whose channels something reads only some, directly or after operations that keep channels apart."""
    found: set[int] = set()
    for node in reversed(list(graph.nodes())):
        if not node.inputs:
            continue
        incoming = tuple(shapes[t.node][t.index] for t in node.inputs)
        channel_map = next(iter(_channel_maps(node.operation, 0, incoming, shapes[node.id], windows)))
        if len(channel_map.read) < incoming[channel_map.position][0] or (
            node.id in found and (channel_map.each or node.operation.channelwise)
        ):
            found.update(t.node for t in node.inputs)
    return found


@dataclass(slots=True, eq=False)
class _Tracer:
    """Propagates the fields from the inputs.

    `seen` are the fields of all channels of a tensor together. For the nodes in `parted`, `bands` distinguishes
    channels with different fields, so that an operation on some of the channels gets their field. A tensor of more than
    `most` bands is treated as a whole.
    """

    shapes: tuple[tuple[IntShape, ...], ...]
    parted: set[int]
    most: int
    windows: bool = False
    seen: dict[Tensor, Fields] = field(default_factory=dict)
    bands: dict[Tensor, tuple[Band, ...]] = field(default_factory=dict)
    cache: dict[object, AxisField] = field(default_factory=dict)
    among: WindowFields = field(default_factory=WindowFields)

    def trace(self, node: Node, result: int) -> None:
        """The fields of a result of a node."""
        incoming, outputs = tuple(self.shapes[t.node][t.index] for t in node.inputs), self.shapes[node.id]
        tensor = Tensor(node.id, result)
        try:
            maps_by_input = node.operation.index_maps(result, incoming, outputs)
            if self.windows and node.windows is None:
                maps_by_input = by_windows(node.operation, maps_by_input, incoming)
            maps_by_input = self.among.maps(node, result, maps_by_input, incoming, outputs)
        except TooFine:
            self.seen[tensor] = None
            return
        whole = _united(self.mapped(self.seen[node.inputs[i]], maps) for i, maps in maps_by_input.items())
        self.seen[tensor] = whole
        alike = not any(node.inputs[i] in self.bands for i in maps_by_input)
        if alike and (node.id not in self.parted or len(maps_by_input) == 1 or node.operation.channelwise):
            return
        pieces: list[ChannelRange] = []
        read = [0] * len(incoming)
        still = {i for i, maps in maps_by_input.items() if _still(maps)}
        images: dict[tuple[int, int], tuple[Fields, Fields]] = {}
        for channel_map in _channel_maps(node.operation, result, incoming, outputs, self.windows):
            i = channel_map.position
            if i not in maps_by_input:
                continue
            read[i] += len(channel_map.read)
            along = self.along(channel_map, node.inputs[i])
            if i in still:
                pieces.extend(along)
                continue
            for start, stop, fields in along:
                key = i, id(fields)
                if key not in images:
                    images[key] = fields, self.mapped(fields, maps_by_input[i])
                pieces.append((start, stop, images[key][1]))
        bands = tuple(_overlaid(pieces))
        if any(read[i] < incoming[i][0] for i in maps_by_input):  # some channels are not read
            self.seen[tensor] = _united(fields for _, fields in bands)
        if node.id in self.parted and 1 < len(bands) <= self.most:
            self.bands[tensor] = bands

    def along(self, channel_map: ChannelMap, tensor: Tensor) -> Iterator[ChannelRange]:
        """The fields of the channels of a result that a channel map reads from a tensor."""
        bands = self.bands.get(tensor)
        if bands is None:
            yield channel_map.channels.start, channel_map.channels.stop, self.seen[tensor]
            return
        first = bisect_right(bands, channel_map.read.start, key=lambda band: band[0])
        if not channel_map.each:
            last = bisect_left(bands, channel_map.read.stop, key=lambda band: band[0])
            everything = len(channel_map.read) == bands[-1][0]
            fields = self.seen[tensor] if everything else _united(f for _, f in bands[first : last + 1])
            yield channel_map.channels.start, channel_map.channels.stop, fields
            return
        start, shift = channel_map.read.start, channel_map.channels.start - channel_map.read.start
        for stop, fields in islice(bands, first, None):
            stop = min(stop, channel_map.read.stop)
            yield start + shift, stop + shift, fields
            start = stop
            if start == channel_map.read.stop:
                break

    def mapped(self, fields: Fields, maps: tuple[IndexMap, ...]) -> Fields:
        """The fields of an operation that reads a tensor with these fields through index maps."""
        if fields is None or _still(maps):
            return fields
        try:
            return {source: tuple(_through(axis, maps, self.cache) for axis in own) for source, own in fields.items()}
        except TooFine:
            return None


def by_windows(
    operation: Operation, maps_by_input: Mapping[int, tuple[IndexMap, ...]], incoming: tuple[IntShape, ...]
) -> Mapping[int, tuple[IndexMap, ...]]:
    """How a result reads the inputs by `maps_by_input`, without operations on a whole axis."""
    found: dict[int, tuple[IndexMap, ...]] = {}
    for i, maps in maps_by_input.items():
        window = operation.window((incoming[i],))
        if window is None or not window.whole:
            found[i] = maps
        elif window.statistics:
            found[i] = tuple(shifted(axis) for axis in range(len(maps)))
        else:
            sizes = incoming[i][1:]
            found[i] = tuple(nothing() if by == everything(n) else by for n, by in zip(sizes, maps, strict=True))
    return found


def _channel_maps(
    operation: Operation, result: int, incoming: tuple[IntShape, ...], outputs: tuple[IntShape, ...], windows: bool
) -> Iterable[ChannelMap]:
    """The channel maps of a result; statistics that are constants mix no channels."""
    window = operation.window(incoming[:1]) if windows else None
    if window is not None and window.statistics:
        return [ChannelMap(0, range(incoming[0][0]), range(incoming[0][0]), each=True)]
    return operation.channel_maps(result, incoming, outputs)


def _still(maps: tuple[IndexMap, ...]) -> bool:
    return all(by.still and by.out == axis for axis, by in enumerate(maps))


def _united(several: Iterable[Fields]) -> Fields:
    """The union of several fields."""
    found: dict[int, Field] = {}
    known: dict[int, Fields] = {}  # references them, so that no two share an id
    for fields in several:
        if fields is None:
            return None
        if id(fields) in known:
            continue
        known[id(fields)] = fields
        for source, own in fields.items():
            before = found.get(source)
            try:
                found[source] = own if before is None else tuple(map(_union, before, own))
            except TooFine:
                return None
    return found


def _overlaid(pieces: list[ChannelRange]) -> Iterator[Band]:
    """Bands from ranges that cover all channels, possibly several times; joins neighbours with equal fields."""
    pieces.sort(key=lambda piece: piece[0])
    if any(piece[1] > after[0] for piece, after in pairwise(pieces)):
        pieces = list(_cut(pieces))
    last = pieces[0][2]
    for start, _, fields in pieces:
        if fields is not last and fields != last:
            yield start, last
            last = fields
    yield pieces[-1][1], last


def _cut(pieces: Sequence[ChannelRange]) -> Iterator[ChannelRange]:
    """The same in order of their starts, with overlapping ranges united."""
    waiting = iter((*pieces, None))
    following = next(waiting)
    here: list[ChannelRange] = []
    start = 0
    for cut in sorted({stop for _, stop, _ in pieces}):
        while following is not None and following[0] < cut:
            here.append(following)
            following = next(waiting)
        yield start, cut, _united(fields for _, _, fields in here)
        here = [piece for piece in here if piece[1] > cut]
        start = cut


def _through(axis: AxisField, maps: tuple[IndexMap, ...], cache: dict[object, AxisField]) -> AxisField:
    if axis.along is None:
        return axis
    by = maps[axis.along]
    if by.along:
        return _spread(axis, by.along)
    if by.still:
        return axis if axis.along == by.out else AxisField(by.out, axis.tracks, axis.size)
    key = axis, by
    found = cache.get(key)
    if found is None:
        found = cache[key] = AxisField(by.out, _merged([_composed(t, by) for t in axis.tracks]), axis.size)
    return found


def _spread(axis: AxisField, sizes: Sequence[int]) -> AxisField:
    """The fields of an axis that becomes several: exact if they differ along only one of those, else the whole axis."""
    total = prod(sizes)
    if total > FINEST:
        raise TooFine
    found: set[int] = set()
    tracks: list[Track] = []
    for track in axis.tracks:
        spans = [track.at(i) for i in range(total)]
        below = total
        for along, size in enumerate(sizes):
            whole, below = below, below // size
            column = tuple(spans[i * below] for i in range(size))
            if all(span == column[i % whole // below] for i, span in enumerate(spans)):
                found.add(along)
                tracks.append(_periodic(column))
                break
        else:
            return _everywhere(axis)
    return AxisField(min(found), _merged(tracks), axis.size) if len(found) == 1 else _everywhere(axis)


def _periodic(spans: tuple[Interval | None, ...]) -> Track:
    """The shortest track with these fields for its first elements."""
    for period in range(1, len(spans)):
        first, again = spans[0], spans[period]
        step = again[0] - first[0] if first and again else 0
        track = Track(period, step, spans[:period])
        if all(track.at(i) == span for i, span in enumerate(spans)):
            return track
    return Track(len(spans), 0, spans)


def _composed(track: Track, by: IndexMap) -> Track:
    """The track of an operation that reads a tensor with the track `track` through an index map."""
    repeats = track.period // gcd(track.period, by.step) if by.step else 1
    period = by.period * repeats
    if period > FINEST:
        raise TooFine
    spans = []
    for i in range(period):
        q, r = divmod(i, by.period)
        taps = by.taps[r]
        # After this many taps the phases repeat; within a phase the first and last tap reach furthest.
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
        # One branch has swapped its axes, so the field follows neither.
        a, b = _everywhere(a), _everywhere(b)
        along = None
    return AxisField(along, _merged([*a.tracks, *b.tracks]), a.size)


def _everywhere(axis: AxisField) -> AxisField:
    return AxisField(None, (Track(1, 0, ((0, axis.size - 1),)),), axis.size)


def _merged(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """Combines tracks of the same rate, and orders them by rate."""
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
