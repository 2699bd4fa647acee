"""The proof of an inference form: its graph, with the weights from its file, is the network in evaluation.

Every tensor of the form is one of the network, except for a factor and a shift of some channels: those of a later
batchnorm, which the convolution has absorbed. Where anything else reads the tensor, no such difference may remain.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Any, TypeAlias

from archdsl.graph import Graph, Node
from archdsl.graph import Tensor as Edge
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
    stands: dict[Edge, tuple[Edge, Runs]] = field(default_factory=dict)
    """For each tensor of the network, that of the form and what it absorbed."""
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
        result = Edge(node.id)
        if node.operation.family == "regularisation":
            self.stands[result] = self.stands[node.inputs[0]]
            return
        if node in self.folding.folded:
            tensor, runs = self.stands[node.inputs[0]]
            at = 0
            for count, chain in runs:
                if chain[:1] != ((node, at),):
                    raise Unproved(f"leaves out `{node.path}` where no convolution took it in")
                at += count
            self.stands[result] = (tensor, [(count, chain[1:]) for count, chain in runs])
            return
        new = next(rest, None)
        if new is None or not self._alike(node, new):
            raise Unproved(f"has another `{node.path}` in its form for inference")
        self.pairs.append((node, new))
        if not self._feeds(node, new):
            raise Unproved(f"feeds `{node.path}` otherwise in its form for inference")
        for i, runs in enumerate(self._given(node)):
            self.stands[Edge(node.id, i)] = (Edge(new.id, i), runs)

    def _feeds(self, old: Node, new: Node) -> bool:
        """Whether both take the same tensors: where only a size is of use, any tensor of that size."""
        if len(old.inputs) != len(new.inputs):
            return False
        for position, (ours, theirs) in enumerate(zip(old.inputs, new.inputs, strict=True)):
            wanted = self.stands[ours][0]
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
        inputs = [self.stands[t][1] for t in node.inputs]
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
        stands, runs = self.stands[tensor]
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

    `shape` is that of the tensor. `layout` is `out` if the output channels come first; the weights of a transposed
    convolution are `in`, or `groups of in` or `groups of out` once their groups have an axis.
    """

    def __init__(
        self,
        runs: Iterable[tuple[int, float]],
        shape: tuple[int, ...] | None = None,
        layout: str = "out",
        groups: int = 0,
        own: bool = True,
    ) -> None:
        self.runs = [(size, value) for size, value in runs if size]
        self.shape = shape or (sum(size for size, _ in self.runs),)
        self.layout, self.groups = layout, groups
        self.own = own
        """Whether it may be overwritten: it is not the caller's, or a view of that."""

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
        return Channels([(size, function(value)) for size, value in self.runs], self.shape, self.layout, self.groups)

    def _with(self, other: object, function: Callable[[float, float], float]) -> Channels:
        if isinstance(other, int | float):
            return self.map(lambda value: function(value, other))
        if not isinstance(other, Channels) or len(self) != len(other) or self.ndim != other.ndim:
            raise Unproved("computes with weights of unlike sizes")
        if self.shape != other.shape and any(b not in (1, a) for a, b in zip(self.shape, other.shape, strict=True)):
            raise Unproved("computes with weights of unlike sizes")
        pairs = zip(self.runs, other.runs, strict=False)
        if len(self.runs) == len(other.runs) and all(a[0] == b[0] for a, b in pairs):
            found = [(size, function(x, y)) for (size, x), (_, y) in zip(self.runs, other.runs, strict=True)]
            return Channels(found, self.shape)
        found = []
        ours, theirs = list(reversed(self.runs)), list(reversed(other.runs))
        while ours:
            (a, x), (b, y) = ours.pop(), theirs.pop()
            size = min(a, b)
            found.append((size, function(x, y)))
            if a > size:
                ours.append((a - size, x))
            if b > size:
                theirs.append((b - size, y))
        return Channels(found, self.shape)

    def __add__(self, other: object) -> Channels:
        return self._with(other, operator.add)

    def __sub__(self, other: object) -> Channels:
        return self._with(other, operator.sub)

    def __mul__(self, other: object) -> Channels:
        return self._with(other, operator.mul)

    def __truediv__(self, other: object) -> Channels:
        return self._with(other, operator.truediv)

    def __neg__(self) -> Channels:
        return self.map(lambda value: -value)

    def __getitem__(self, part: slice) -> Channels:
        self._first()
        runs = self._part(part.start, part.stop)
        return Channels(runs, (sum(size for size, _ in runs), *self.shape[1:]), own=False)

    def _part(self, start: int, stop: int) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        at = 0
        for size, value in self.runs:
            found.append((max(0, min(stop, at + size) - max(start, at)), value))
            at += size
        return found

    def __setitem__(self, part: slice, new: Channels) -> None:
        total = len(self)
        if not self.own:
            raise Unproved("overwrites the weights that it was given")
        if len(new) != part.stop - part.start or part.stop > total or new.shape[1:] != self.shape[1:]:
            raise Unproved("puts weights where they do not fit")
        self.runs = [r for r in (*self._part(0, part.start), *new.runs, *self._part(part.stop, total)) if r[0]]

    def clone(self) -> Channels:
        return Channels(self.runs, self.shape, self.layout, self.groups)

    def new_zeros(self, count: int) -> Channels:
        return Channels([(count, 0.0)])

    def reshape(self, first: int, *sizes: int) -> Channels:
        if first == -1:  # a factor for each output channel
            if len(self) == 0 or self.ndim != 1 or any(n != 1 for n in sizes):
                raise Unproved("brings factors to another size than one for each channel")
            return Channels(self.runs, (*self.shape, *sizes), own=False)
        if first != self.groups or self.layout not in ("in", "out") or sizes != (-1, *self.shape[1:]):
            raise Unproved("takes a transposed convolution for one of other groups")
        shape = (first, self.shape[0] // first, *self.shape[1:])
        return Channels(self.runs, shape, f"groups of {self.layout}", self.groups, self.own)

    def transpose(self, first: int, second: int) -> Channels:
        turned = {"groups of in": "groups of out", "groups of out": "groups of in"}
        if (first, second) != (1, 2) or self.layout not in turned:
            raise Unproved("turns weights another way")
        a, b, c, *rest = self.shape
        return Channels(self.runs, (a, c, b, *rest), turned[self.layout], self.groups, self.own)

    def flatten(self, first: int, last: int) -> Channels:
        if (first, last) != (0, 1) or not self.layout.startswith("groups of "):
            raise Unproved("flattens weights another way")
        a, b, *rest = self.shape
        layout = self.layout.removeprefix("groups of ")
        return Channels(self.runs, (a * b, *rest), layout, self.groups, self.own)

    def equals(self, other: Channels) -> bool:
        """Whether they are equal, up to rounding."""
        if self is other:
            return True
        if self.layout != other.layout or self.shape != other.shape:
            return False
        pairs = zip(_united(self.runs), _united(other.runs), strict=False)
        same = all(a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-9, abs_tol=1e-12) for a, b in pairs)
        return same and len(_united(self.runs)) == len(_united(other.runs))


def _united(runs: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for size, value in runs:
        if found and math.isclose(found[-1][1], value, rel_tol=1e-9, abs_tol=1e-12):
            found[-1] = (found[-1][0] + size, found[-1][1])
        else:
            found.append((size, value))
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
    weights = {node: node.operation.weights(graph.shapes(node.inputs)) for node in graph.nodes()}
    for node, own_weights in weights.items():
        for weight in own_weights:
            groups = node.operation.groups if node.operation.name == "upconv" and weight.name == "weight" else 0  # type: ignore[attr-defined]
            count = weight.shape[1] * groups if groups else (*weight.shape, 1)[0]
            runs = [(size, random.uniform(0.5, 2.0)) for size in _lengths(count, frozenset(ends.get(node, ())))]
            state[_key(node, weight.name)] = Channels(runs, weight.shape, "in" if groups else "out", groups, own=False)
    wanted: dict[str, Channels] = {}
    for old, new in walked.pairs:
        own = {_key(new, w.name): state[_key(old, w.name)] for w in weights[old]}
        if old in walked.taken:
            own[_key(new, "weight")], own[_key(new, "bias")] = _taken_in(old, walked.taken[old], state)
        for key, tensor in own.items():
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


@lru_cache(maxsize=256)
def _lengths(count: int, ends: frozenset[int]) -> list[int]:
    """Runs with one number each: the channels around every end of a range differ from all others."""
    cuts = sorted({n for end in (0, count, *ends) for n in (end - 1, end, end + 1) if 0 <= n <= count} | {0, count})
    return [b - a for a, b in pairwise(cuts)] or [count]


def _taken_in(conv: Node, runs: Runs, state: Mapping[str, Channels]) -> tuple[Channels, Channels]:
    """The weight and bias of a convolution with what it absorbs: y = (x - mean) / √(var + eps) · weight + bias."""
    weight = state[_key(conv, "weight")]
    count = sum(size for size, _ in runs)
    bias = state.get(_key(conv, "bias"), Channels([(count, 0.0)]))
    factor, shift = Channels([]), Channels([])
    for size, chain in runs:
        all_scale, all_move = Channels([(size, 1.0)]), Channels([(size, 0.0)])
        for norm, at in chain:
            scale, move = _of_norm(norm, slice(at, at + size), state)
            all_scale, all_move = all_scale * scale, all_move * scale + move
        factor.runs += all_scale.runs
        shift.runs += all_move.runs
    factor, shift = Channels(factor.runs), Channels(shift.runs)
    made = Channels(weight.runs) * factor
    return Channels(made.runs, weight.shape, weight.layout, weight.groups), bias * factor + shift


def _of_norm(norm: Node, part: slice, state: Mapping[str, Channels]) -> tuple[Channels, Channels]:
    """The factor and the shift of some channels of a batchnorm."""
    operation = norm.operation
    assert isinstance(operation, Batchnorm)
    eps = operation.eps
    scale = state[_key(norm, "running_var")][part].map(lambda v: 1 / math.sqrt(v + eps))
    move = -(state[_key(norm, "running_mean")][part] * scale)
    if operation.affine:
        gain = state[_key(norm, "weight")][part]
        scale, move = scale * gain, move * gain + state[_key(norm, "bias")][part]
    return scale, move


def _key(node: Node, name: str) -> str:
    return f"{node.path}.{name}" if name else node.path
