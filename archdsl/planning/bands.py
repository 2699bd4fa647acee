"""Training on bands of an image, one for each rank: where they are cut, and where ranks exchange what they lack.

Each rank runs the network on a band of the image, cut along its first axis. Near a cut its numbers are wrong, as far as
the network reaches over it. Two things help: a band with more rows, of which the outer ones are computed by both
neighbours, and an exchange before a layer, which then runs on the right rows of the whole tensor. The fewer rows, the
more layers need an exchange. `matching` says at each tensor which rows of a rank are right; all of them together must
be the whole tensor. Every tensor has the size that it has in a run on the band alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import prod

from archdsl.analysis.costs import sized_shapes
from archdsl.analysis.matching import WHOLE, Blame, Match, Matcher, Shapes, is_among_windows, moved, whole_maps
from archdsl.analysis.tiling import Planner, Span, refusal
from archdsl.analysis.works import node_works
from archdsl.common.choices import BANDWIDTH, BYTES, SPEED
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph, Node, Output, Tensor
from archdsl.ops.base import Rules
from archdsl.ops.declaration import OperationError
from archdsl.ops.index_maps import IndexMap, TooFine
from archdsl.planning.pipelines import BACKWARD

LATENCY = 20e-6
"""The seconds that a message takes besides its bytes, about that of NCCL between neighbours."""

FACTORS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""How many strides of the network more a band is tried with, on each side."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a rank sends in a second, in bytes, and computes, in operations."""

    bandwidth: float = BANDWIDTH
    speed: float = SPEED


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a tensor that one rank sends to another, counted in the whole tensor."""

    sender: int
    receiver: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is sent before a layer, and the rows with which it runs; a span for each rank, all in the whole tensor.

    `held` are the rows of the input that a rank has, `right` those of them that it uses, `wide` those that the layer
    takes; `given` are the rows of its result that go on, `begins` the first one that it computes.
    """

    node: Node
    held: tuple[Span, ...]
    right: tuple[Span, ...]
    wide: tuple[Span, ...]
    begins: tuple[int, ...]
    given: tuple[Span, ...]
    pieces: tuple[Piece, ...]
    row: int
    """The numbers in a row of the input."""


@dataclass(frozen=True, slots=True, eq=False)
class BandPlan:
    """Bands, and what a training step costs on them.

    `rows` are those of the image that each rank takes, `held` and `owned` those of the tensors that matter: what a rank
    has of them, and what of that counts as its own. `again` is the share of the work that is done more than once,
    `sent` the bytes that the busiest rank receives in a step, forward and back, for a sample; `seconds` an estimate.
    """

    ranks: int
    rows: tuple[Span, ...]
    exchanges: tuple[Exchange, ...]
    held: Mapping[Tensor, tuple[Span, ...]]
    owned: Mapping[Tensor, tuple[Span, ...]]
    whole: Mapping[Tensor, tuple[int, ...]]
    """The sizes of these tensors, channels first."""
    same: frozenset[Tensor]
    """Those of them that are one for the whole image: every rank has all of it."""
    again: float
    sent: int
    seconds: float


def band_plans(
    graph: Graph,
    sizes: Mapping[str, int],
    ranks: int,
    places: Collection[int],
    wanted: Collection[Tensor] = (),
    statistics: Collection[int] = (),
    *,
    exchange: bool | None = None,
    link: Link | None = None,
    dtype: str = "float32",
) -> list[BandPlan]:
    """The plans for so many ranks, the one that is expected to be the fastest first.

    `places` are the ids of the layers before which ranks can exchange rows, `wanted` the tensors of which `held` and
    `owned` are asked, besides the outputs, and `statistics` the ids of layers that get those of whole images from all
    ranks. With `exchange` only plans that exchange rows, with False only the one that does not. Raises SpecError if the
    network cannot be cut exactly, ValueError for too many ranks.
    """
    search = _Search(graph, sizes, ranks, places, tuple(wanted), statistics, link or Link(), dtype)
    search.check()
    found = [plan for plan in search.every(exchange) if exchange is None or bool(plan.exchanges) is exchange]
    if not found:
        raise search.failed(exchange)
    return sorted(found, key=lambda plan: (plan.seconds, len(plan.exchanges)))


@dataclass(eq=False)
class _Search:
    graph: Graph
    given: Mapping[str, int]
    ranks: int
    places: Collection[int]
    wanted: tuple[Tensor, ...]
    statistics: Collection[int]
    link: Link
    dtype: str
    problem: SpecError | None = None
    blocked: Node | None = None
    """The node behind which ranks lacked rows of the whole tensor, in the last trial."""
    by_length: dict[int, Shapes] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        return {**self.graph.examples, **self.given}

    @cached_property
    def planner(self) -> Planner:
        outputs = (*self.graph.outputs, *(Output(None, tensor) for tensor in self.wanted))
        return Planner(self.graph, self.sizes, True, outputs)

    @cached_property
    def works(self) -> list[float]:
        return node_works(self.graph, self.sizes, self.dtype)

    @property
    def height(self) -> int:
        return self.planner.lengths[0]

    @property
    def stride(self) -> int:
        return self.planner.strides[0]

    def check(self) -> None:
        """Raises ValueError if there are too many ranks, or the first axis cannot be cut alone."""
        names, name = self.planner.names, self.planner.names[0]
        if name is None or names.count(name) > 1:
            why = "has a fixed size" if name is None else f"has the free size of another one, {name}"
            raise ValueError(f"the first axis of {self.graph.name} {why}, and bands are cut along it")
        most = -(-self.height // self.stride)
        if self.ranks > most:
            raise ValueError(
                f"{self.graph.name} of {self.height} rows can be divided among {most} processes, not {self.ranks}"
            )

    def failed(self, exchange: bool | None) -> Exception:
        if self.problem is not None:
            return self.problem
        if exchange and any(self.every(False)):
            return ValueError(f"no exchange makes the bands of {self.graph.name} smaller; there is a plan without any")
        message = (
            f"cannot be divided among {self.ranks} processes: bands of {self.height} rows would be the whole image"
        )
        blame = Blame(self.blocked, "this reaches too far") if self.blocked is not None else None
        return refusal(self.graph, message, "take fewer processes, or larger images", blame)

    # ------------------------------------------------------------ what is tried

    def every(self, exchange: bool | None) -> Iterator[BandPlan]:
        """Plans for bands that become larger, until none has to exchange anything."""
        last = -1
        for factor in FACTORS:
            if self.ranks > 1 and self.is_whole(factor):
                return
            plan = self.trial(factor, exchange is not False)
            if plan is not None and not plan.exchanges:
                yield self.smallest(last, factor, plan)
                return
            last = factor
            if plan is not None:
                yield plan

    def is_whole(self, factor: int) -> bool:
        """Whether a band would be the whole image."""
        return any(stop - start == self.height for start, stop in self.rows(factor, 0))

    def smallest(self, low: int, high: int, best: BandPlan) -> BandPlan:
        """The smallest bands without an exchange: `low` is too small, `high` is not."""
        while high - low > 1:
            middle = (low + high) // 2
            plan = self.trial(middle, False)
            if plan is None:
                low = middle
            else:
                high, best = middle, plan
        return best

    def rows(self, factor: int, rest: int) -> list[Span]:
        """The rows of each rank. `rest` more make a band end as the image does, for networks that ask for that."""
        units = -(-self.height // self.stride)
        cuts = [self.stride * (rank * units // self.ranks) for rank in range(self.ranks)]
        more = factor * self.stride
        ends = [min(self.height, cut + more + rest) for cut in cuts[1:]]
        return [(max(0, start - more), end) for start, end in zip(cuts, [*ends, self.height], strict=True)]

    def trial(self, factor: int, exchanges: bool) -> BandPlan | None:
        """A plan with as few exchanges as possible; None if there is none for bands of this size."""
        for rest in dict.fromkeys((0, self.height % self.stride)):
            rows = self.rows(factor, rest)
            if not all(self.fits(stop - start) for start, stop in rows):
                continue
            for eager in (False, True) if exchanges else (False,):
                run = _Trial(self, rows, exchanges, eager)
                try:
                    plan = run.plan()
                except SpecError as error:
                    self.problem = self.problem or error
                    break
                if plan is not None:
                    return plan
                self.blocked = run.blocked
        return None

    def fits(self, length: int) -> bool:
        return self.graph.always.holds(self.values(length))

    def values(self, length: int) -> dict[str, int]:
        name = self.planner.names[0]
        assert name is not None
        return {**self.sizes, name: length}

    def shapes(self, length: int) -> Shapes:
        if length not in self.by_length:
            self.by_length[length] = sized_shapes(self.graph, self.values(length))
        return self.by_length[length]


@dataclass(slots=True, eq=False)
class _Trial:
    """Follows the network with bands of given rows. `eager`: everything that is wrong is exchanged at once."""

    search: _Search
    rows: Sequence[Span]
    allowed: bool
    eager: bool
    matchers: list[Matcher] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    blocked: Node | None = None

    def plan(self) -> BandPlan | None:
        """The plan, None if some rows would be lacking. Raises SpecError if something cannot be cut."""
        search, planner = self.search, self.search.planner
        for start, stop in self.rows:
            shapes = search.shapes(stop - start)
            matcher = Matcher(search.graph, shapes, planner.whole, 0, planner.starts(0), planner.live)
            matcher.approximate = True
            matcher.begin(start)
            self.matchers.append(matcher)
        self.work = [0.0] * len(self.rows)
        for node in search.graph.nodes():
            if node.id in planner.live and not self.place(node):
                self.blocked = node
                return None
        tensors = dict.fromkeys(output.tensor for output in planner.outputs)
        again = sum(self.work) / (sum(search.works) or 1) - 1
        received = [0] * len(self.rows)
        for exchange in self.exchanges:
            for piece in exchange.pieces:
                received[piece.receiver] += (piece.stop - piece.start) * exchange.row
        sent = 2 * max(received) * BYTES[search.dtype]
        seconds = (1 + BACKWARD) * max(self.work) / search.link.speed + sent / search.link.bandwidth
        seconds += 2 * LATENCY * len(self.exchanges)
        return BandPlan(
            search.ranks,
            tuple(self.rows),
            tuple(self.exchanges),
            {t: self.held(t) for t in tensors},
            {t: self.owned(t) for t in tensors},
            {t: planner.whole[t.node][t.index] for t in tensors},
            frozenset(t for t in tensors if self.is_one(t)),
            max(again, 0.0),
            sent,
            seconds,
        )

    def place(self, node: Node) -> bool:
        """Places a node in every rank; whether the ranks together have all rows of its results. Raises SpecError."""
        gathers = node.id in self.search.statistics and not self.is_one(node.inputs[0])
        for matcher in self.matchers:
            if gathers:
                self.gather(matcher, node)
            else:
                matcher.place(node)
        for result in range(len(node.shapes)):
            tensor = Tensor(node.id, result)
            blame = next((b for m in self.matches(tensor) if (b := m.blame) is not None), None)
            if node.id in self.matchers[0].assumed and node.id not in self.search.statistics:
                blame = Blame(node, WHOLE)
            if blame is not None:
                raise self.search.planner.never(0, blame)
            if is_among_windows(node):
                continue  # their join shows what ranks have
            complete = self.covers(tensor)
            if self.allowed and node.id in self.search.places and (not complete or (self.eager and self.lacks(tensor))):
                exchange = self.exchange(node)
                if exchange is not None:
                    self.exchanges.append(exchange)
                    complete = self.covers(tensor)
            if not complete:
                return False
        measure = node.inputs[0] if gathers else Tensor(node.id)
        lengths, whole = [m.length(measure) for m in self.matchers], self.matchers[0].length(measure, whole=True)
        if is_among_windows(node):
            lengths, whole = [stop - start for start, stop in self.rows], self.search.height
        work = self.search.works[node.id] / whole
        self.work = [done + work * length for done, length in zip(self.work, lengths, strict=True)]
        return True

    @staticmethod
    def gather(matcher: Matcher, node: Node) -> None:
        """Places a layer with the statistics of whole images: a norm, or a pooling to one number."""
        source, tensor = node.inputs[0], Tensor(node.id)
        sizes = (matcher.whole[t.node][t.index][1:] for t in (source, tensor))
        norm = len(set(sizes)) == 1
        matcher.found[tensor] = matcher.found[source] if norm else Match(None, 0, matcher.length(tensor))

    # ------------------------------------------------------------ the rows of a tensor

    def matches(self, tensor: Tensor) -> list[Match]:
        return [matcher.found[tensor] for matcher in self.matchers]

    def held(self, tensor: Tensor) -> tuple[Span, ...]:
        """The rows that each rank has, right or wrong."""
        found = zip(self.matchers, self.matches(tensor), strict=True)
        return tuple((match.offset or 0, (match.offset or 0) + m.length(tensor)) for m, match in found)

    def right(self, tensor: Tensor) -> list[Span]:
        """The rows that each rank has right."""
        return [((m.offset or 0) + m.low, (m.offset or 0) + m.high) for m in self.matches(tensor)]

    def is_one(self, tensor: Tensor) -> bool:
        """Whether every rank has all of a tensor, the same."""
        return all(match.offset is None for match in self.matches(tensor))

    def lacks(self, tensor: Tensor) -> bool:
        return list(self.held(tensor)) != self.right(tensor)

    def covers(self, tensor: Tensor) -> bool:
        """Whether the rows that the ranks have right are all of the tensor, in order."""
        found = self.matches(tensor)
        if self.is_one(tensor):
            return True
        spans = self.right(tensor)
        whole = self.matchers[0].length(tensor, whole=True)
        inner = pairwise(spans)
        return (
            all(match.offset is not None for match in found)
            and spans[0][0] == 0
            and spans[-1][1] == whole
            and all(a[0] <= b[0] <= a[1] <= b[1] for a, b in inner)
        )

    def owned(self, tensor: Tensor) -> tuple[Span, ...]:
        """The rows that count as those of each rank: each row once, in the middle between neighbours."""
        spans, whole = self.right(tensor), self.matchers[0].length(tensor, whole=True)
        if self.is_one(tensor):
            return ((0, whole),) * len(spans)
        cuts = [0]
        for (_, stop), (start, _) in pairwise(spans):
            cuts.append(max(cuts[-1], (start + stop) // 2))
        return tuple(zip(cuts, [*cuts[1:], whole], strict=True))

    # ------------------------------------------------------------ exchanges

    def exchange(self, node: Node) -> Exchange | None:
        """The exchange before a layer of one input and one result, after which ranks have only right rows of that."""
        source, tensor = node.inputs[0], Tensor(node.id)
        if node.operation.wraps() or not self.covers(source):
            return None
        planner = self.search.planner
        row, whole = planner.whole[source.node][source.index], planner.whole[node.id]
        try:
            by = whole_maps(node, 0, (row,), whole)[0][0]
        except TooFine:
            return None
        if by.along or by.out != 0:
            return None
        given = self.held(tensor)
        runs = [_widened(node, by, row, whole[0], span) for span in given]
        if any(run is None for run in runs):
            return None
        wide = tuple(run[0] for run in runs if run is not None)
        begins = tuple(run[1] for run in runs if run is not None)
        right = tuple(_within(s, w) for s, w in zip(self.right(source), wide, strict=True))
        pieces = tuple(_pieces(self.owned(source), right, wide))
        for matcher, (start, stop) in zip(self.matchers, given, strict=True):
            matcher.found[tensor] = Match(start, 0, stop - start)
        numbers = row[0] * prod(row[2:])
        return Exchange(node, self.held(source), right, wide, begins, given, pieces, numbers)


def _within(span: Span, limits: Span) -> Span:
    """What two ranges have in common, from some element to itself if nothing."""
    start, stop = max(span[0], limits[0]), min(span[1], limits[1])
    return (start, stop) if start < stop else (limits[0], limits[0])


def _pieces(owned: Sequence[Span], right: Sequence[Span], wide: Sequence[Span]) -> Iterator[Piece]:
    """What each rank lacks, in the order of its rows, from the rank that owns it."""
    for receiver, (own, whole) in enumerate(zip(right, wide, strict=True)):
        for lacks in ((whole[0], own[0]), (own[1], whole[1])):
            for sender, has in enumerate(owned):
                start, stop = max(lacks[0], has[0]), min(lacks[1], has[1])
                if start < stop:
                    yield Piece(sender, receiver, start, stop)


def _widened(
    node: Node, by: IndexMap, shape: tuple[int, ...], out: tuple[int, ...], wanted: Span
) -> tuple[Span, int] | None:
    """The rows with which a layer must run so that the `wanted` rows of its result are right, and its first row.

    `shape` and `out` are the sizes of the whole input and result. None if there are no such rows.
    """
    length = shape[1]
    low = moved(by, Match(by.step, 0, length), (length, 2 * length + by.step), 1 << 40).low
    start = max(0, (wanted[0] - low) // by.period * by.step)
    first = start // by.step * by.period
    stop = min(length, max(start + 1, (wanted[1] - 1) // by.period * by.step + 1))
    while stop <= length:
        here, count = Match(start, 0, stop - start), stop - start
        # Where the rows end before the tensor does, the number of results does not matter here.
        if stop == length or first + moved(by, here, (count, length), 1 << 40).high >= wanted[1]:
            found = _run(node, by, (shape[0], count, *shape[2:]), out)
            if found is not None:
                match = moved(by, here, (count, length), found)
                if first + match.low <= wanted[0] and first + match.high >= wanted[1]:
                    return (start, stop), first
        stop += 1
    return None


def _run(node: Node, by: IndexMap, shape: tuple[int, ...], out: tuple[int, ...]) -> int | None:
    """How many rows a layer gives for an input of this size; None if it reads that in another way."""
    try:
        (found,) = node.operation.infer((shape,), Rules())
        sized = tuple(d for d in found if isinstance(d, int))
        maps = whole_maps(node, 0, (shape,), (sized,))[0]
    except (OperationError, TooFine):
        return None
    same = maps[0] == by and (sized[0], *sized[2:]) == (out[0], *out[2:])
    return sized[1] if same else None
