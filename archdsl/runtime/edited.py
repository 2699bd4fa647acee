"""The weights of a network that was edited since: which tensor of the old network belongs where in the new one.

`diff` pairs the layers of both by their structure, so layers that an edit only moved or relabelled keep their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from archdsl.common.choices import Adaptation
from archdsl.compiler import diff
from archdsl.diagnostics import visible
from archdsl.graph import Graph, Node
from archdsl.ops import Operation
from archdsl.runtime.weights import Match, match, proposed, state_shapes

if TYPE_CHECKING:
    import torch

    from archdsl.report.compare import Comparison

KERNEL = "weight"
"""The name of a kernel or matrix below the path of its operation."""
INPUTS = 1
"""The axis of a kernel that counts input channels."""


@dataclass(slots=True)
class Origins:
    """Where the tensors of the new network come from.

    `keys` has the old key for each new one that has any; `layers` the layers that own them, before and after the edit.
    `inputs` are the keys of kernels that read an input of the network whose channels have changed.
    """

    keys: dict[str, str] = field(default_factory=dict)
    layers: dict[str, tuple[Node, Node]] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)


def origins(found: Comparison) -> Origins:
    """The tensors of the old network for those of the new one, by the pairs of a comparison."""
    origins = Origins()
    for old_id, new_id in found.pairs.items():
        old, new = found.before.node(old_id), found.after.node(new_id)
        if not _store_alike(old.operation, new.operation):
            continue
        theirs = {weight.name: weight for weight in old.operation.weights(found.before.shapes(old.inputs))}
        for weight in found.after.weights_of(new):
            # A constant table belongs to the parameters of its layer: the new layer has its own.
            if weight.name not in theirs or (weight.fixed and old.operation != new.operation):
                continue
            key = weight.key(new.path)
            origins.keys[key] = theirs[weight.name].key(old.path)
            origins.layers[key] = (old, new)
            if weight.name == KERNEL and _reads_changed_input(found, old, new):
                origins.inputs.add(key)
    return origins


def _store_alike(old: Operation, new: Operation) -> bool:
    """Whether numbers at the same place of their weights mean the same: a `linear` is a `conv(…, 1)`."""
    if type(old) is type(new):
        return old.outside() == new.outside()
    return all(o.is_weighted and not o.transposed_groups() for o in (old, new))


def _reads_changed_input(found: Comparison, old: Node, new: Node) -> bool:
    sources = _source(found.before, old), _source(found.after, new)
    if None in sources or not new.operation.is_weighted or new.operation.transposed_groups():
        return False
    a, b = (source for source in sources if source is not None)
    return found.pairs.get(a.id) == b.id or len(found.before.input_nodes) == len(found.after.input_nodes) == 1


def _source(graph: Graph, node: Node) -> Node | None:
    """The input of the network that a node reads: at once, or through layers without weights that keep the channels."""
    channels = graph.shape(node.inputs[0])[0] if node.inputs and graph.shape(node.inputs[0]) else None
    while len(node.inputs) == 1:
        tensor = node.inputs[0]
        shape, node = graph.shape(tensor), graph.node(tensor)
        if not shape or shape[0] != channels or graph.weights_of(node):
            return None
        if node.operation.is_input:
            return node
    return None


def matched(
    before: Graph, after: Graph, state: Mapping[str, torch.Tensor], adapt: Adaptation | None
) -> tuple[dict[str, torch.Tensor], Match]:
    """The tensors of a file of the network `before`, under the keys of the network `after`, with the result."""
    comparison = diff(before, after)
    origin = origins(comparison)
    ours, theirs = state_shapes(after), state_shapes(before)
    given = {new: state[old] for new, old in origin.keys.items() if old in state}
    adapted = []
    for key in origin.inputs & given.keys():
        was, now = tuple(given[key].shape), ours[key]
        if adapt and given[key].is_floating_point() and _differ_in_inputs(was, now):
            given[key] = adapted_to(given[key], now[INPUTS], adapt)
            adapted.append((key, was, now))
    used = {origin.keys[key] for key in given}
    found = match(ours, given, reshape=True)
    rest = tuple(key for key in state if key not in used)
    other = {key: tuple(tensor.shape) for key, tensor in state.items()}
    rules = proposed(theirs, other) if not given else ()
    helps = []
    if not adapt and any(_differ_in_inputs(a, b) for key, a, b in found.shapes if key in origin.inputs):
        helps.append(ADAPT)
    found = replace(
        found,
        unexpected=rest,
        rules=rules,
        adapted=tuple(adapted),
        renamed=tuple((origin.keys[key], key) for key in found.matched if origin.keys[key] != key),
        helps=tuple(helps),
        notes=tuple(_changed(comparison, origin, found.matched)),
        doubts=tuple(_strange(before, theirs, other)),
    )
    return given, found


ADAPT = "`--adapt mean` or `slice` (`adapt_weights=` of `load`) converts kernels for other input channels"


def _differ_in_inputs(was: tuple[int, ...], now: tuple[int, ...]) -> bool:
    """Whether kernels of these shapes differ in the number of input channels alone."""
    return len(was) == len(now) > INPUTS and [i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b] == [
        INPUTS
    ]


def adapted_to(kernel: torch.Tensor, count: int, how: Adaptation) -> torch.Tensor:
    """A kernel [out, in, …] for `count` input channels.

    `mean` gives each of them the mean over the old ones, times old / new: for a grey image the layer then computes what
    it did for the image with equal colours. `slice` takes the first channels; new ones beyond them are multiplied by 0,
    so the layer at first computes what it did without them.
    """
    import torch

    old = kernel.shape[INPUTS]
    if how == "mean":
        mean = kernel.mean(INPUTS, keepdim=True) * (old / count)
        return mean.expand(-1, count, *kernel.shape[2:]).clone()
    new = torch.zeros(kernel.shape[0], count, *kernel.shape[2:], dtype=kernel.dtype)
    shared = min(old, count)
    new[:, :shared] = kernel[:, :shared]
    return new


def _changed(found: Comparison, origin: Origins, keys: tuple[str, ...]) -> list[str]:
    """Remarks on layers that have their weights, but otherwise compute something else."""
    owners = {origin.layers[key][1].id: key for key in keys}
    lines = []
    for change in (c for c in found.changes if c.kind != "renamed"):
        for member in change.after:
            if isinstance(member, Node) and member.id in owners and change.details:
                details = ", ".join(map(str, change.details))
                lines.append(f"{visible(member.path)} has its weights, but another {details}")
    return [*lines[:MOST], *([f"so have {len(lines) - MOST} more layers"] if len(lines) > MOST else [])]


MOST = 6
"""The maximum number of changed layers that a report lists."""


def _strange(before: Graph, theirs: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Signs that a file is not one of the network `before`."""
    lacking = [key for key in theirs if key not in there]
    other = [key for key in theirs if key in there and theirs[key] != there[key]]
    name = visible(before.name)
    lines = []
    if lacking:
        lines.append(f"the file lacks {len(lacking)} of {len(theirs)} tensors of {name} before the edit: {lacking[0]}")
    if other:
        lines.append(f"{len(other)} tensors of the file have another shape than {name} had before the edit: {other[0]}")
    return lines
