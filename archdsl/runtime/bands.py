"""Training on images that no device holds: each process runs the network on a band of the image.

`planning.bands` says which rows a process takes, and before which layers the processes exchange rows. What a process
keeps of its results are those of the whole image, each in one process, so that the gradients of all processes add up to
those of the whole image. Batchnorms count what each process keeps of their input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from archdsl.analysis.tiling import Span
from archdsl.checker.finished_graph import pin
from archdsl.common.choices import BANDWIDTH, BYTES, SPEED
from archdsl.compiler import Network, checked
from archdsl.graph import Graph, Node
from archdsl.planning.bands import BandPlan, Link, band_plans
from archdsl.runtime.exchanging import Trade, exchanged, places
from archdsl.runtime.gathering import layers
from archdsl.runtime.loading import graph_of, instantiate
from archdsl.runtime.whole_images import normalised, shared, whole

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.nn import Module


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
    spans: tuple[slice | None, ...]

    def kept(self, results: Any) -> Any:
        """What this process keeps of the network's results: of a tensor [N, C, H, …], or of a tuple of them.

        A result that is one for the whole image, such as its classes, is the same in all processes, and kept by all.
        """
        given = results if isinstance(results, tuple) else (results,)
        parts: list[Any] = [
            None if r is None else shared(r, self.ranks) if s is None else r[:, :, s]
            for r, s in zip(given, self.spans, strict=True)
        ]
        if not isinstance(results, tuple):
            return parts[0]
        return type(results)(*parts) if hasattr(results, "_fields") else tuple(parts)


def bands(
    model: Module,
    *sizes: Sequence[int],
    mesh: DeviceMesh | None = None,
    spec: Network | None = None,
    exchange: bool | None = None,
    bandwidth: float = BANDWIDTH,
    speed: float = SPEED,
) -> Bands:
    """Divides images among the processes of a mesh with one axis, or among all, in bands along their first axis.

    `model` is a network from `load` that no mesh spreads yet, or any with its `spec`; `sizes` are those of its inputs,
    channels first, without the batch. Its layers are changed: batchnorms in training, other norms and global poolings
    use the statistics of whole images, and some layers get rows from other processes first. Each process runs the
    network on `rows` of an image, and computes the loss from what it keeps. Gradients must be added up: `parallelize`
    averages them, so multiply the loss by `ranks` there. All processes must call it alike, and run the network equally
    often.

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
    _restore(model)
    own = places(graph, model)
    statistics = _statistics(graph, model, own)
    link = Link(bandwidth, speed)
    plan = _plans(graph, pin(graph, sizes), ranks, own, statistics, exchange, link, _dtype(model))[0]
    trades = {trade.node.id: trade for trade in plan.exchanges}
    for number, module in statistics.items():
        tensor = graph.node(number).inputs[0]
        if tensor not in plan.same:
            forward = normalised if graph.node(number).operation.uses_batch else whole
            count = prod(plan.whole[tensor][1:])
            # A layer that gets rows of other ranks first counts its own in what it has then.
            held = trades[number].wide if number in trades else plan.held[tensor]
            module.forward = partial(forward, module, _own(plan, tensor, rank, held), count, group)
    members = dist.get_process_group_ranks(group) if trades else ()
    for number, trade in trades.items():
        module = own[number]
        module.forward = partial(exchanged, module, module.forward, Trade.of(trade, rank, members, group))
    outputs = [output.tensor for output in graph.outputs]
    return Bands(
        slice(*plan.rows[rank]),
        slice(None) if outputs[0] in plan.same else slice(*plan.owned[outputs[0]][rank]),
        ranks,
        plan.again,
        len(plan.exchanges),
        plan.sent,
        tuple(None if tensor in plan.same else _own(plan, tensor, rank, plan.held[tensor]) for tensor in outputs),
    )


def plans(
    graph: Graph, sizes: Mapping[str, int], ranks: int, *, link: Link | None = None, dtype: str = "float32"
) -> list[BandPlan]:
    """The plans from which `bands` chooses the first; it raises the same errors."""
    network = instantiate(graph, device="meta")
    own = places(graph, network)
    return _plans(graph, sizes, ranks, own, _statistics(graph, network, own), None, link or Link(), dtype)


def _plans(
    graph: Graph,
    sizes: Mapping[str, int],
    ranks: int,
    own: Collection[int],
    statistics: Collection[int],
    exchange: bool | None,
    link: Link,
    dtype: str,
) -> list[BandPlan]:
    wanted = {graph.node(number).inputs[0] for number in statistics}
    return band_plans(graph, sizes, ranks, own, wanted, statistics, exchange=exchange, link=link, dtype=dtype)


def _statistics(graph: Graph, model: Module, own: Mapping[int, Module]) -> dict[int, Module]:
    """The modules that need statistics of whole images, by the ids of their nodes."""
    modules, gathered = dict(model.named_modules()), set(layers(model))
    found = {node.id: modules[node.path] for node in _norms(graph)}
    return found | {number: module for number, module in own.items() if module in gathered}


def _norms(graph: Graph) -> list[Node]:
    """The batchnorms. Raises ValueError if one is called several times."""
    found = [node for node in graph.nodes() if node.operation.uses_batch and graph.weights_of(node)]
    calls = Counter(node.path for node in graph.nodes())
    shared = next((node for node in found if calls[node.path] > 1), None)
    if shared is not None:
        raise ValueError(
            f"`{shared.path}` is called several times, so the statistics of its calls cannot be told apart"
        )
    among = next((node for node in found if node.windows is not None), None)
    if among is not None:
        raise ValueError(f"`{among.path}` counts windows, of which bands have some twice")
    return found


def _own(plan: BandPlan, tensor: Any, rank: int, held: Sequence[Span]) -> slice:
    """The rows of a tensor that count as those of a rank, in what it has of the tensor: the rows `held`."""
    first, (start, stop) = held[rank][0], plan.owned[tensor][rank]
    return slice(start - first, stop - first)


def _dtype(model: Module) -> str:
    kinds = (str(p.dtype).removeprefix("torch.") for p in model.parameters())
    return next((kind for kind in kinds if kind in BYTES), "float32")


def _restore(model: Module) -> None:
    """Undoes what an earlier call has changed."""
    for module in model.modules():
        forward = module.__dict__.get("forward")
        if isinstance(forward, partial) and forward.func in (normalised, whole, exchanged):
            del module.forward
