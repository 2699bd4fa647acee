"""Training on images that no device holds: each process runs the network on a band of the image.

`planning.bands` says which rows a process takes, and before which layers the processes exchange rows. What a process
keeps of its results are those of the whole image, each in one process, so that the gradients of all processes add up to
those of the whole image. Batchnorms count what each process keeps of their input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from archdsl.checker.finished_graph import pin
from archdsl.common.choices import BYTES
from archdsl.compiler import Network, checked
from archdsl.graph import Graph, Node
from archdsl.planning.bands import BANDWIDTH, SPEED, BandPlan, Link, band_plans
from archdsl.runtime.exchanging import Trade, exchanged, places
from archdsl.runtime.loading import graph_of

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """The band of one process, along the first spatial axis.

    `rows` are those of the image that it needs, `targets` those of the first output that it keeps; `ranks` is the
    number of bands. `again` is the share of the work that is done more than once. Before `exchanges` layers the
    processes send rows to each other: `sent` bytes at most for a sample, in both passes.
    """

    rows: slice
    targets: slice
    ranks: int
    again: float
    exchanges: int
    sent: int
    spans: tuple[slice, ...]

    def kept(self, results: Any) -> Any:
        """What this process keeps of the network's results: of a tensor [N, C, H, …], or of a tuple of them."""
        if not isinstance(results, tuple):
            return results[:, :, self.spans[0]]
        parts: list[Any] = [None if r is None else r[:, :, s] for r, s in zip(results, self.spans, strict=True)]
        return type(results)(*parts) if hasattr(results, "_fields") else tuple(parts)


def bands(
    model: torch.nn.Module,
    *sizes: Sequence[int],
    mesh: DeviceMesh | None = None,
    spec: Network | None = None,
    exchange: bool | None = None,
    bandwidth: float = BANDWIDTH,
    speed: float = SPEED,
) -> Bands:
    """Divides images among the processes of a mesh with one axis, or among all, in bands along their first axis.

    `model` is a network from `load` that no mesh spreads yet, or any with its `spec`; `sizes` are those of its inputs,
    channels first, without the batch. Its layers are changed: in training batchnorms use the statistics of whole
    images, and some layers get rows from other processes first. Each process runs the network on `rows` of an image,
    and computes the loss from what it keeps. Gradients must be added up: `parallelize` averages them, so multiply the
    loss by `ranks` there. All processes must call it alike, and run the network equally often.

    By default the plan chooses between more rows, which are computed twice, and an exchange before more layers, by what
    a process sends (`bandwidth`, bytes a second) and computes (`speed`, operations a second). `exchange` says that
    there must be some, or, False, none.

    Raises SpecError if the network cannot be cut exactly, ValueError if that is not possible for so many processes.
    """
    import torch.distributed as dist

    graph = checked(spec) if spec is not None else graph_of(model)
    if graph is None:
        raise ValueError("this module was not made by archdsl.load here: give its spec, bands(model, size, spec=…)")
    group = mesh.get_group() if mesh is not None else dist.group.WORLD
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    norms = _norms(graph)
    own = places(graph, model)
    plan = band_plans(
        graph,
        pin(graph, sizes),
        ranks,
        own.keys(),
        [node.inputs[0] for node in norms],
        exchange=exchange,
        link=Link(bandwidth, speed),
        dtype=_dtype(model),
    )[0]
    _restore(model)
    modules = dict(model.named_modules())
    for node in norms:
        tensor = node.inputs[0]
        count = 1
        for size in plan.whole[tensor][1:]:
            count *= size
        module = modules[node.path]
        module.forward = partial(_normalised, module, _own(plan, tensor, rank), count, group)
    members = dist.get_process_group_ranks(group) if plan.exchanges else ()
    for trade in plan.exchanges:
        module = own[trade.node.id]
        module.forward = partial(exchanged, module, Trade.of(trade, rank, members, group))
    outputs = [output.tensor for output in graph.outputs]
    return Bands(
        slice(*plan.rows[rank]),
        slice(*plan.owned[outputs[0]][rank]),
        ranks,
        plan.again,
        len(plan.exchanges),
        plan.sent,
        tuple(_own(plan, tensor, rank) for tensor in outputs),
    )


def _norms(graph: Graph) -> list[Node]:
    """The batchnorms. Raises ValueError if one is called several times."""
    found = [node for node in graph.nodes() if node.operation.uses_batch and graph.weights_of(node)]
    calls = Counter(node.path for node in graph.nodes())
    shared = next((node for node in found if calls[node.path] > 1), None)
    if shared is not None:
        raise ValueError(
            f"`{shared.path}` is called several times, so the statistics of its calls cannot be told apart"
        )
    return found


def _own(plan: BandPlan, tensor: Any, rank: int) -> slice:
    """The rows of a tensor that count as those of a rank, in what it has of the tensor."""
    held, (start, stop) = plan.held[tensor][rank][0], plan.owned[tensor][rank]
    return slice(start - held, stop - held)


def _dtype(model: torch.nn.Module) -> str:
    kinds = (str(p.dtype).removeprefix("torch.") for p in model.parameters())
    return next((kind for kind in kinds if kind in BYTES), "float32")


def _restore(model: torch.nn.Module) -> None:
    """Undoes what an earlier call has changed."""
    for module in model.modules():
        forward = module.__dict__.get("forward")
        if isinstance(forward, partial) and forward.func in (_normalised, exchanged):
            del module.forward


def _normalised(
    module: torch.nn.modules.batchnorm._BatchNorm, own: slice, count: int, group: Any, x: torch.Tensor
) -> torch.Tensor:
    """The forward of a batchnorm whose statistics are those of whole images, of `count` numbers in each channel."""
    import torch

    if not module.training:
        found: torch.Tensor = type(module).forward(module, x)
        return found
    kept = x[:, :, own]
    axes = [0, *range(2, x.dim())]
    total = count * len(x)
    mean = _added_up(kept.sum(axes), group) / total
    around = kept - _along(mean, x)
    variance = _added_up(around.square().sum(axes), group) / total
    if module.running_mean is not None and module.num_batches_tracked is not None:
        with torch.no_grad():
            module.num_batches_tracked.add_(1)
            factor = 1 / module.num_batches_tracked.item() if module.momentum is None else module.momentum
            module.running_mean.lerp_(mean.to(module.running_mean), factor)
            module.running_var.lerp_((variance * total / (total - 1)).to(module.running_mean), factor)
    scale = torch.rsqrt(variance + module.eps)
    if module.weight is not None:
        scale = scale * module.weight
    shift = -mean * scale
    if module.bias is not None:
        shift = shift + module.bias
    return x * _along(scale, x) + _along(shift, x)


def _along(channels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return channels.reshape(1, -1, *[1] * (x.dim() - 2))


def _added_up(tensor: torch.Tensor, group: Any) -> torch.Tensor:
    """The sum over the processes of a group, whose gradient is the sum of their gradients."""
    import torch
    import torch.distributed as dist

    def summed(given: torch.Tensor) -> torch.Tensor:
        found = given.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found, group=group)
        return found

    class AddedUp(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, given: torch.Tensor) -> torch.Tensor:
            return summed(given)

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
            return summed(gradient)

    result: torch.Tensor = AddedUp.apply(tensor)
    return result
