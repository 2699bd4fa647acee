"""The proof of an inference form: its graph, with the weights from its file, is the network in evaluation.

Every tensor of the form is one of the network, except for a factor and a shift of some channels: those of a later
batchnorm, which the convolution has absorbed. Where anything else reads the tensor, no such difference may remain.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise
from random import Random
from typing import Any, TypeAlias

from archdsl.graph import Graph, Node
from archdsl.graph import Tensor as Edge
from archdsl.ops.base import Weight
from archdsl.ops.channels import Slice
from archdsl.ops.norm import Batchnorm
from archdsl.proof.errors import Unproved
from archdsl.transform.inference import Folding

Chain: TypeAlias = tuple[tuple[Node, int], ...]
Run: TypeAlias = tuple[int, Chain]
"""A number of channels, and the batchnorms that they already passed, each with the channel at which they begin."""
Runs: TypeAlias = list[Run]


@dataclass(slots=True, eq=False)
class Correspondence:
    """Walks through a network and its inference form side by side."""

    old: Graph
    new: Graph
    folding: Folding
    stands: dict[int, list[tuple[Edge, Runs]]] = field(default_factory=dict)
    """For each result of each node of the network, the tensor of the form, and what that absorbed."""
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    taken: dict[Node, Runs] = field(default_factory=dict)
    """For each convolution that absorbs something, what."""

    def run(self) -> None:
        """Raises Unproved if the form computes something else."""
        for norm, parts in self.folding.folded.items():
            for part in parts:
                runs = self.taken.get(part.convolution) or [(self._channels(self.old, Edge(part.convolution.id)), ())]
                self.taken[part.convolution] = _put(runs, part.start, part.count, (norm, part.at))
        outputs = [o for o in self.old.outputs if not o.training]
        live = self.old.ancestors(o.tensor for o in outputs)
        rest = iter(self.new.nodes())
        for node in self.old.nodes():
            if node.id in live or node.operation.family == "input":
                self._step(node, rest)
        if (extra := next(rest, None)) is not None:
            raise Unproved(f"has `{extra.path}` in its form for inference, which the network has not got")
        for ours, theirs in zip(outputs, self.new.outputs, strict=True):
            if ours.name != theirs.name or self._plain(ours.tensor) != theirs.tensor:
                raise Unproved("gives another output in its form for inference")

    def _step(self, node: Node, rest: Iterator[Node]) -> None:
        given = [self.stands[t.node][t.index] for t in node.inputs]
        if node.operation.family == "regularisation":
            self.stands[node.id] = [given[0]]
            return
        if node in self.folding.folded:
            tensor, runs = given[0]
            at = 0
            for count, chain in runs:
                if chain[:1] != ((node, at),):
                    raise Unproved(f"leaves out `{node.path}` where no convolution took it in")
                at += count
            self.stands[node.id] = [(tensor, [(count, chain[1:]) for count, chain in runs])]
            return
        new = next(rest, None)
        if new is None or not self._alike(node, new):
            raise Unproved(f"has another `{node.path}` in its form for inference")
        self.pairs.append((node, new))
        if not self._feeds(node, new):
            raise Unproved(f"feeds `{node.path}` otherwise in its form for inference")
        self.stands[node.id] = [(Edge(new.id, i), runs) for i, runs in enumerate(self._given(node))]

    def _feeds(self, old: Node, new: Node) -> bool:
        """Whether both take the same tensors: where only a size is of use, any tensor of that size."""
        if len(old.inputs) != len(new.inputs):
            return False
        for position, (ours, theirs) in enumerate(zip(old.inputs, new.inputs, strict=True)):
            wanted, _ = self.stands[ours.node][ours.index]
            if theirs == wanted:
                continue
            given, real = self.new.node(theirs), self.new.node(wanted)
            same = self.new.shape(theirs) == self.new.shape(wanted) and given.batched == real.batched
            if position not in old.operation.sized_by or not same or given.windows is not real.windows:
                return False
        return True

    def _alike(self, old: Node, new: Node) -> bool:
        instead = old.operation.in_evaluation()
        if old.operation is new.operation and old not in self.taken and not instead:
            return True
        ours, theirs = {**vars(old.operation), **instead}, vars(new.operation)
        if old in self.taken:
            ours["bias"] = True
        for arguments in (ours, theirs):  # the weights come from elsewhere
            arguments.pop("init", None)
        return type(old.operation) is type(new.operation) and ours == theirs

    def _given(self, node: Node) -> list[Runs]:
        """The batchnorms that the results of an operation have already passed."""
        if node in self.taken:
            self._plain(node.inputs[0])
            return [self.taken[node]]
        inputs = [self.stands[t.node][t.index][1] for t in node.inputs]
        axis = getattr(node.operation, "axis", 0)
        match node.operation.name:
            case "concat" if not axis:
                if any(chain for runs in inputs for _, chain in runs):
                    return [[run for runs in inputs for run in runs]]
            case "crop" | "identity":
                return inputs
            case "slice" if axis:
                return inputs
            case "split" if not axis:
                sizes = [self._channels(self.old, Edge(node.id, i)) for i in range(len(node.shapes))]
                return [_cut(inputs[0], sum(sizes[:i]), size) for i, size in enumerate(sizes)]
            case "slice" if isinstance(node.operation, Slice) and node.operation.step == 1:
                start = node.operation.first(self.old.shape(node.inputs[0])[:1])
                return [_cut(inputs[0], start, self._channels(self.old, Edge(node.id)))]
        for tensor in node.inputs:
            self._plain(tensor)
        return [[(self._channels(self.old, Edge(node.id, i)), ())] for i in range(len(node.shapes))]

    def _plain(self, tensor: Edge) -> Edge:
        """The tensor of the form, which must equal that of the network."""
        stands, runs = self.stands[tensor.node][tensor.index]
        if any(chain for _, chain in runs):
            raise Unproved(f"takes a batchnorm into `{self.old.node(tensor).path}`, which something else reads")
        return stands

    @staticmethod
    def _channels(graph: Graph, tensor: Edge) -> int:
        count = graph.shape(tensor)[0]
        return count if isinstance(count, int) else 0


def _cut(runs: Iterable[Run], start: int, count: int) -> Runs:
    """A range of the channels."""
    found: Runs = []
    at = 0
    for size, chain in runs:
        low, high = max(start, at), min(start + count, at + size)
        if low < high:
            found.append((high - low, tuple([(norm, channel + low - at) for norm, channel in chain])))
        at += size
    return found


def _put(runs: Runs, start: int, count: int, taken: tuple[Node, int]) -> Runs:
    """The channels, some of which pass one more batchnorm."""
    norm, at = taken
    found = _cut(runs, 0, start)
    for size, chain in _cut(runs, start, count):
        found.append((size, (*chain, (norm, at))))
        at += size
    return [*found, *_cut(runs, start + count, sum(size for size, _ in runs))]


# ---------------------------------------------------------------- the weights


class Channels:
    """A stand-in for a weight tensor, by its output channels: runs of channels with one number each.

    `sizes` are the numbers of channels of the runs, `shape` is that of the tensor. `layout` is `out` if the output
    channels come first; the weights of a transposed convolution are `in`, or `groups of in` or `groups of out` once
    their groups have an axis. `own`: it may be overwritten, since it is not the caller's, or a view of that.
    """

    __slots__ = ("groups", "layout", "own", "shape", "sizes", "values")

    def __init__(
        self,
        sizes: tuple[int, ...],
        values: Sequence[float],
        shape: tuple[int, ...] | None = None,
        layout: str = "out",
        groups: int = 0,
        own: bool = True,
    ) -> None:
        self.sizes, self.values = sizes, values
        self.shape = shape or (sum(sizes),)
        self.layout, self.groups, self.own = layout, groups, own

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        self._first()
        return self.shape[0]

    def _first(self) -> None:
        if self.layout != "out":
            raise Unproved("takes the input channels of a transposed convolution for its output channels")

    def map(self, function: Callable[[float], float]) -> Channels:
        return Channels(self.sizes, [function(v) for v in self.values], self.shape, self.layout, self.groups)

    def _with(self, other: object, function: Callable[[float, float], float]) -> Channels:
        if isinstance(other, int | float):
            return self.map(lambda value: function(value, other))
        if not isinstance(other, Channels) or len(self) != len(other) or self.ndim != other.ndim:
            raise Unproved("computes with weights of unlike sizes")
        if self.shape != other.shape and any(b not in (1, a) for a, b in zip(self.shape, other.shape, strict=True)):
            raise Unproved("computes with weights of unlike sizes")
        sizes, ours, theirs = _aligned(self, other)
        return Channels(sizes, [*map(function, ours, theirs)], self.shape)

    def __add__(self, other: object) -> Channels:
        return self._with(other, operator.add)

    def __sub__(self, other: object) -> Channels:
        return self._with(other, operator.sub)

    def __mul__(self, other: object) -> Channels:
        return self._with(other, operator.mul)

    def __truediv__(self, other: object) -> Channels:
        return self._with(other, operator.truediv)

    def __neg__(self) -> Channels:
        return self.map(operator.neg)

    def __getitem__(self, part: slice) -> Channels:
        self._first()
        sizes, values = self._part(part.start, part.stop)
        return Channels(sizes, values, (sum(sizes), *self.shape[1:]), own=False)

    def _part(self, start: int, stop: int) -> tuple[tuple[int, ...], Sequence[float]]:
        if start == 0 and stop == self.shape[0]:
            return self.sizes, self.values
        ends = accumulate(self.sizes)
        counts = [max(0, min(stop, end) - max(start, end - n)) for end, n in zip(ends, self.sizes, strict=True)]
        kept = [(n, v) for n, v in zip(counts, self.values, strict=True) if n]
        return tuple([n for n, _ in kept]), [v for _, v in kept]

    def __setitem__(self, part: slice, new: Channels) -> None:
        total = len(self)
        if not self.own:
            raise Unproved("overwrites the weights that it was given")
        if len(new) != part.stop - part.start or part.stop > total or new.shape[1:] != self.shape[1:]:
            raise Unproved("puts weights where they do not fit")
        before, after = self._part(0, part.start), self._part(part.stop, total)
        self.sizes = (*before[0], *new.sizes, *after[0])
        self.values = [*before[1], *new.values, *after[1]]

    def clone(self) -> Channels:
        return Channels(self.sizes, self.values, self.shape, self.layout, self.groups)

    def new_zeros(self, count: int) -> Channels:
        return Channels((count,), (0.0,))

    def reshape(self, first: int, *sizes: int) -> Channels:
        if first == -1:  # a factor for each output channel
            if len(self) == 0 or self.ndim != 1 or any(n != 1 for n in sizes):
                raise Unproved("brings factors to another size than one for each channel")
            return Channels(self.sizes, self.values, (*self.shape, *sizes), own=False)
        if first != self.groups or self.layout not in ("in", "out") or sizes != (-1, *self.shape[1:]):
            raise Unproved("takes a transposed convolution for one of other groups")
        return self._turned((first, self.shape[0] // first, *self.shape[1:]), f"groups of {self.layout}")

    def transpose(self, first: int, second: int) -> Channels:
        turned = {"groups of in": "groups of out", "groups of out": "groups of in"}
        if (first, second) != (1, 2) or self.layout not in turned:
            raise Unproved("turns weights another way")
        a, b, c, *rest = self.shape
        return self._turned((a, c, b, *rest), turned[self.layout])

    def flatten(self, first: int, last: int) -> Channels:
        if (first, last) != (0, 1) or not self.layout.startswith("groups of "):
            raise Unproved("flattens weights another way")
        a, b, *rest = self.shape
        return self._turned((a * b, *rest), self.layout.removeprefix("groups of "))

    def _turned(self, shape: tuple[int, ...], layout: str) -> Channels:
        return Channels(self.sizes, self.values, shape, layout, self.groups, self.own)

    def equals(self, other: Channels) -> bool:
        """Whether they are equal, up to rounding."""
        if self is other:
            return True
        if self.layout != other.layout or self.shape != other.shape or sum(self.sizes) != sum(other.sizes):
            return False
        _, ours, theirs = _aligned(self, other)
        return all(map(_is_close, ours, theirs))


def _is_close(a: float, b: float) -> bool:
    return a == b or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _aligned(a: Channels, b: Channels) -> tuple[tuple[int, ...], Sequence[float], Sequence[float]]:
    """The numbers of two tensors with equally many channels, in the same runs."""
    if a.sizes is b.sizes or a.sizes == b.sizes:
        return a.sizes, a.values, b.values
    ends = sorted({*accumulate(a.sizes), *accumulate(b.sizes)})
    sizes = tuple([end - start for start, end in pairwise([0, *ends])])
    return sizes, _at(ends, a), _at(ends, b)


def _at(ends: Sequence[int], tensor: Channels) -> list[float]:
    """The numbers of a tensor in the runs with these ends, among which are those of its own."""
    runs = zip(accumulate(tensor.sizes), tensor.values, strict=True)
    end, value = next(runs)
    found: list[float] = []
    for at in ends:
        if at > end:
            end, value = next(runs)
        found.append(value)
    return found


def compare_weights(walked: Correspondence, fold: Callable[[Mapping[str, Channels]], Any]) -> None:
    """Compares the output of a file's function for a state_dict with the weights for evaluation. Raises Unproved."""
    random = Random(0)
    graph = walked.old
    state: dict[str, Channels] = {}
    ends: dict[Node, set[int]] = {}
    for norm, parts in walked.folding.folded.items():
        for part in parts:
            ends.setdefault(norm, set()).update((part.at, part.at + part.count))
            ends.setdefault(part.convolution, set()).update((part.start, part.start + part.count))
    weights: dict[object, tuple[Weight, ...]] = {}
    """Those of equal operations."""
    own: dict[Node, list[str]] = {}
    """The keys of each node."""
    for node in graph.nodes():
        operation, shapes = node.operation, graph.shapes(node.inputs)
        declared = weights.get((id(operation), shapes))
        if declared is None:
            declared = weights[id(operation), shapes] = operation.weights(shapes)
        own[node] = [_key(node, weight.name) for weight in declared]
        for key, weight in zip(own[node], declared, strict=True):
            groups = operation.groups if operation.name == "upconv" and weight.name == "weight" else 0  # type: ignore[attr-defined]
            count = weight.shape[1] * groups if groups else (*weight.shape, 1)[0]
            sizes = _lengths(count, frozenset(ends.get(node, ())))
            values = [random.uniform(0.5, 2.0) for _ in sizes]
            state[key] = Channels(sizes, values, weight.shape, "in" if groups else "out", groups, own=False)
    wanted: dict[str, Channels] = {}
    for old, new in walked.pairs:
        found = {new.path + key.removeprefix(old.path): state[key] for key in own[old]}
        if old in walked.taken:
            found[_key(new, "weight")], found[_key(new, "bias")] = _taken_in(old, walked.taken[old], state)
        for key, tensor in found.items():
            if not wanted.setdefault(key, tensor).equals(tensor):
                raise Unproved(f"needs `{key}` in two ways for inference")
    given = dict(state)
    made = fold(given)
    if list(given.items()) != list(state.items()):
        raise Unproved("changes the weights that it was given")
    if made.keys() != wanted.keys():
        raise Unproved(f"makes other weights for inference: {min(made.keys() ^ wanted.keys())}")
    for key, tensor in wanted.items():
        if not isinstance(made[key], Channels) or not tensor.equals(made[key]):
            raise Unproved(f"makes another `{key}` for inference")


@lru_cache(maxsize=4096)
def _lengths(count: int, ends: frozenset[int]) -> tuple[int, ...]:
    """Runs with one number each: the channels around every end of a range differ from all others."""
    cuts = sorted({n for end in (0, count, *ends) for n in (end - 1, end, end + 1) if 0 <= n <= count} | {0, count})
    return tuple([b - a for a, b in pairwise(cuts)]) or (count,)


def _taken_in(conv: Node, runs: Runs, state: Mapping[str, Channels]) -> tuple[Channels, Channels]:
    """The weight and bias of a convolution with what it absorbs: y = (x - mean) / √(var + eps) · weight + bias."""
    weight = state[_key(conv, "weight")]
    found: list[tuple[Channels, Channels]] = []
    for size, chain in runs:
        factor, shift = Channels((size,), (1.0,)), Channels((size,), (0.0,))
        for i, (norm, at) in enumerate(chain):
            scale, move = _of_norm(norm, slice(at, at + size), state)
            factor, shift = (factor * scale, shift * scale + move) if i else (scale, move)
        found.append((factor, shift))
    factor, shift = (_joined(parts) for parts in zip(*found, strict=True))
    made = Channels(weight.sizes, weight.values) * factor
    bias = state.get(_key(conv, "bias"))
    return (
        Channels(made.sizes, made.values, weight.shape, weight.layout, weight.groups),
        shift if bias is None else bias * factor + shift,
    )


def _joined(parts: Sequence[Channels]) -> Channels:
    if len(parts) == 1:
        return parts[0]
    return Channels(tuple([n for p in parts for n in p.sizes]), [v for p in parts for v in p.values])


def _of_norm(norm: Node, part: slice, state: Mapping[str, Channels]) -> tuple[Channels, Channels]:
    """The factor and the shift of some channels of a batchnorm."""
    operation = norm.operation
    assert isinstance(operation, Batchnorm)
    mean, var = (state[_key(norm, name)][part] for name in ("running_mean", "running_var"))
    factors = [1 / math.sqrt(v + operation.eps) for v in var.values]
    if operation.affine:  # all tensors of a batchnorm have the same runs
        factors = [*map(operator.mul, factors, state[_key(norm, "weight")][part].values)]
    shifts = [-m * f for m, f in zip(mean.values, factors, strict=True)]
    if operation.affine:
        shifts = [*map(operator.add, shifts, state[_key(norm, "bias")][part].values)]
    return Channels(mean.sizes, factors), Channels(mean.sizes, shifts)


def _key(node: Node, name: str) -> str:
    return f"{node.path}.{name}" if name else node.path
