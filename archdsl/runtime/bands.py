"""Training on images that no device holds: each process runs the network on a band of the image, and all of its halo.

The bands are the tiles of `analysis.tiling`, as many as there are processes. What a process keeps of its results are
those of the whole image, each in one process, so that the gradients of all processes add up to those of the whole
image. Only batchnorms need the other processes: they count what each process keeps of their input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from archdsl.analysis.tiling import Span, Tiling, tiling
from archdsl.checker.finished_graph import pin
from archdsl.compiler import Network, checked
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph, Node, Output
from archdsl.runtime.loading import graph_of

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """The band of one process, along the first spatial axis.

    `rows` are those of the image that it needs, `targets` those of the first output that it keeps; `ranks` is the
    number of bands. `again` is the share of the work that is done more than once.
    """

    rows: slice
    targets: slice
    ranks: int
    again: float
    spans: tuple[slice, ...]

    def kept(self, results: Any) -> Any:
        """What this process keeps of the network's results: of a tensor [N, C, H, …], or of a tuple of them."""
        if not isinstance(results, tuple):
            return results[:, :, self.spans[0]]
        parts: list[Any] = [None if r is None else r[:, :, s] for r, s in zip(results, self.spans, strict=True)]
        return type(results)(*parts) if hasattr(results, "_fields") else tuple(parts)


def bands(
    model: torch.nn.Module, *sizes: Sequence[int], mesh: DeviceMesh | None = None, spec: Network | None = None
) -> Bands:
    """Divides images among the processes of a mesh with one axis, or among all, in bands along their first axis.

    `model` is a network from `load` that no mesh spreads yet, or any with its `spec`; `sizes` are those of its inputs,
    channels first, without the batch. Its batchnorms are changed: in training they use the statistics of whole images.
    Each process runs the network on `rows` of an image, and computes the loss from what it keeps. Gradients must be
    added up: `parallelize` averages them, so multiply the loss by `ranks` there.

    Raises SpecError if the network cannot be cut exactly, ValueError if that is not possible for so many processes.
    """
    import torch.distributed as dist

    graph = checked(spec) if spec is not None else graph_of(model)
    if graph is None:
        raise ValueError("this module was not made by archdsl.load here: give its spec, bands(model, size, spec=…)")
    group = mesh.get_group() if mesh is not None else dist.group.WORLD
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    norms = [node for node in graph.nodes() if node.operation.uses_batch and graph.weights_of(node)]
    shared = next((node for node in norms if node.use is not None), None)
    if shared is not None:
        raise ValueError(
            f"`{shared.path}` is called several times, so the statistics of its calls cannot be told apart"
        )
    plan = _plan(graph, pin(graph, sizes), ranks, norms)
    axis = plan.axes[0]
    spans = [kept[rank] for kept in axis.kept]
    outputs = len(graph.outputs)
    modules = dict(model.named_modules())
    for node, span, whole in zip(norms, spans[outputs:], plan.shapes()[outputs:], strict=True):
        count = 1
        for size in whole[1:]:
            count *= size
        module = modules[node.path]
        module.forward = partial(_normalised, module, _slice(span.own), count, group)
    start = axis.starts[rank]
    return Bands(
        slice(start, start + axis.tile),
        _slice(spans[0].whole),
        ranks,
        plan.again,
        tuple(_slice(span.own) for span in spans[:outputs]),
    )


def _slice(span: Span) -> slice:
    return slice(*span)


def _plan(graph: Graph, sizes: dict[str, int], ranks: int, norms: Sequence[Node]) -> Tiling:
    """The smallest bands, as many as there are processes. Raises SpecError, ValueError."""
    wanted = (*graph.outputs, *(Output(None, node.inputs[0]) for node in norms))
    whole = tiling(graph, sizes, tile=[1 << 40] * _rank(graph), outputs=wanted)
    height, others = whole.axes[0].size, [axis.size for axis in whole.axes[1:]]
    low, high, best, problem = (height - 1) // ranks, height, whole, None  # the first is too small, the last is not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan = tiling(graph, sizes, tile=[middle, *others], outputs=wanted)
        except SpecError as error:
            low, problem = middle, error
            continue
        if plan.count <= ranks:
            high, best = middle, plan
        else:
            low = middle
    if best.count == ranks:
        return best
    if best.count == 1 and problem is not None:
        raise problem
    raise ValueError(f"{graph.name} of {height} rows can be divided among {best.count} processes, not {ranks}")


def _rank(graph: Graph) -> int:
    return max(len(node.shapes[0]) - 1 for node in graph.input_nodes)


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
