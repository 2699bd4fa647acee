"""Runs the stages of a network on several ranks, under the schedules of torch.distributed.pipelining."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from archdsl.analysis.costs import sized_shapes
from archdsl.built import execute
from archdsl.checker.finished_graph import pin
from archdsl.common.choices import SCHEDULES, Recomputing, Schedule
from archdsl.compiler import Network, build_stages, checked
from archdsl.graph import Graph
from archdsl.graph import Tensor as Edge
from archdsl.planning.stages import Split, split
from archdsl.runtime.outside import allowing, permit
from archdsl.transform.stages import differentiable

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist
    from torch import Tensor, nn

CLASSES = {
    "gpipe": "ScheduleGPipe",
    "1f1b": "Schedule1F1B",
    "interleaved": "ScheduleInterleaved1F1B",
    "interleaved-gpipe": "ScheduleLoopedBFS",
}
"""The classes of torch.distributed.pipelining for the schedules."""

SEVERAL = ("interleaved", "interleaved-gpipe")
"""The schedules in which a rank has several stages."""


@cache
def _border() -> Callable[[Tensor], Tensor]:
    """The identity at the borders of a stage: what is sent, forward and backward, lies in memory without gaps."""
    from torch.autograd import Function

    class Border(Function):  # type: ignore[misc]  # which has no types
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.view_as(x) if x.is_contiguous() else x.contiguous()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient.contiguous()

    return cast("Callable[[Tensor], Tensor]", Border.apply)


def _bordered(values: object) -> tuple[Tensor, ...]:
    given = values if isinstance(values, tuple) else (values,)
    return tuple(map(_border(), given))


@dataclass(eq=False)
class Pipeline:
    """This rank's share of a network in stages, and the schedule that runs it.

    `modules` are its stages by their numbers, as they are before `wrap`; their keys in a state_dict are those of the
    whole network.
    """

    modules: Mapping[int, nn.Module]
    batch: int
    stages: int
    schedule: Any = field(repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this rank takes the inputs."""
        return 0 in self.modules

    @property
    def is_last(self) -> bool:
        """Whether this rank takes the targets and has the loss and the outputs."""
        return self.stages - 1 in self.modules

    def step(self, *inputs: Tensor, target: Any = None) -> Tensor | None:
        """Computes the gradients for a batch; the loss, averaged over the micro-batches, on the last rank, else None.

        All ranks call it; those that do not need `inputs` or `target` ignore them. Raises ValueError for another batch.
        """
        import torch

        losses: list[Tensor] = []
        given = self._given(inputs)
        self.schedule.step(*given, target=target if self.is_last else None, losses=losses, return_outputs=False)
        return torch.stack([loss.detach() for loss in losses]).mean() if losses else None

    def evaluate(self, *inputs: Tensor) -> Any:
        """The outputs for a batch, without gradients, on the last rank, else None. The modes of the stages stay."""
        import torch

        with torch.no_grad():
            kept = self.schedule._loss_fn, self.schedule.scale_grads
            self.schedule._loss_fn, self.schedule.scale_grads = None, False  # no targets; gradients stay as they are
            try:
                return self.schedule.eval(*self._given(inputs))
            finally:
                self.schedule._loss_fn, self.schedule.scale_grads = kept

    def _given(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if not self.is_first:
            return ()
        if any(len(x) != self.batch for x in inputs):
            raise ValueError(f"this pipeline is for batches of {self.batch}, and this one has {len(inputs[0])}")
        return inputs

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of this rank, for an optimizer."""
        return (p for module in self.modules.values() for p in module.parameters())

    def train(self, mode: bool = True) -> Pipeline:
        for module in self.modules.values():
            module.train(mode)
        return self

    def eval(self) -> Pipeline:
        return self.train(False)

    def state_dict(self) -> dict[str, Tensor]:
        """This rank's part of the network's state_dict."""
        return {key: value for module in self.modules.values() for key, value in module.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Loads this rank's part of the network's state_dict. Raises RuntimeError if keys are missing."""
        _load(self.modules.values(), state)


def _load(modules: Iterable[nn.Module], state: Mapping[str, Tensor]) -> None:
    for module in modules:
        module.load_state_dict({key: state[key] for key in module.state_dict() if key in state})


def pipeline(
    network: Network,
    *,
    batch: int,
    loss: Callable[[Any, Any], Tensor] | None,
    microbatches: int = 4,
    schedule: Schedule = "1f1b",
    stages: int | Split | None = None,
    size: Sequence[int] | None = None,
    recompute: Recomputing = "none",
    weights: str | Path | None = None,
    group: dist.ProcessGroup | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    allow_extern: str | Iterable[str] = (),
) -> Pipeline:
    """The network as a pipeline over the ranks of a group, one stage a rank, or several in an interleaved schedule.

    Call it on every rank, after `torch.distributed.init_process_group`. `batch` images a step are computed in
    `microbatches`; each of these is a batch of its own to a batchnorm in training mode. `loss` takes the network's
    output and the target of a micro-batch and gives their mean; None: only for evaluation. `stages` is their number, or
    where to cut; the default is one a rank, or two in an interleaved schedule. `size` is the input's, channels first,
    without the batch; by default the spec's example. `weights` is a file of the whole network's state_dict. `wrap`
    changes each stage before it is scheduled, such as by `fully_shard`.

    Raises SpecError if the network cannot be cut so, ValueError if the numbers do not fit each other.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed import pipelining

    graph = checked(network)
    ranks, rank = dist.get_world_size(group), dist.get_rank(group)
    count = _count(stages, ranks, schedule, batch, microbatches)
    sizes = {**graph.examples, **pin(graph, [size] if size else ())}
    parts = stages if isinstance(stages, Split) else split(graph, count, sizes)
    dtype = dtype if dtype is not None else torch.get_default_dtype()
    place = torch.device(device) if device is not None else torch.get_default_device()
    with allowing(allow_extern):
        permit(graph)
        classes = execute(build_stages(graph, parts, recompute), f"{graph.name}_stages").STAGES
        modules = {n: classes[n](device=place, dtype=dtype) for n in range(rank, count, ranks)}
    if weights is not None:
        _load(modules.values(), _weights(graph, Path(weights)))  # before `wrap`, which may take the weights apart
    examples = {n: _examples(parts, n, sizes, batch // microbatches, dtype) for n in modules}
    made = []
    for number, module in modules.items():
        module.register_forward_pre_hook(lambda module, given: _bordered(given))
        if number < count - 1:
            module.register_forward_hook(lambda module, given, result: _bordered(result))
        wrapped = wrap(module) if wrap is not None else module
        takes, gives = examples[number]
        made.append(
            pipelining.PipelineStage(wrapped, number, count, place, input_args=takes, output_args=gives, group=group)
        )
    kind = getattr(pipelining, CLASSES[schedule])
    planned = kind(made if schedule in SEVERAL else made[0], microbatches, loss_fn=loss)
    return Pipeline(modules, batch, count, planned)


def _count(stages: int | Split | None, ranks: int, schedule: str, batch: int, microbatches: int) -> int:
    """The number of stages. Raises ValueError."""
    if schedule not in SCHEDULES:
        raise ValueError(f"there is no schedule {schedule!r}; the schedules are {', '.join(SCHEDULES)}")
    several = schedule in SEVERAL
    given = len(stages.parts) if isinstance(stages, Split) else stages
    count = given if given is not None else ranks * (1 + several)
    if count % ranks or (not several and count != ranks):
        wanted = f"a multiple of {ranks}" if several else f"{ranks}"
        raise ValueError(f"{count} stages do not fit {ranks} ranks: under {schedule} their number is {wanted}")
    if microbatches < 1 or batch % microbatches:
        raise ValueError(f"a batch of {batch} cannot be cut into {microbatches} micro-batches of one size")
    if several and microbatches % ranks:
        raise ValueError(f"under {schedule} the number of micro-batches is a multiple of {ranks}, not {microbatches}")
    return count


def _examples(
    parts: Split, number: int, sizes: Mapping[str, int], batch: int, dtype: torch.dtype
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Tensors without memory like the inputs and outputs of a stage.

    Without them PyTorch would run each stage once on memory as it is, which ends up in the statistics of batchnorms.
    """
    import torch

    shapes, learned = sized_shapes(parts.graph, sizes), differentiable(parts.graph)

    def like(tensor: Edge) -> Tensor:
        shape = (batch, *shapes[tensor.node][tensor.index])
        return torch.empty(shape, dtype=dtype, device="meta", requires_grad=tensor in learned)

    stage = parts.stages[number]
    return tuple(map(like, stage.takes)), tuple(map(like, stage.gives))


def _weights(graph: Graph, path: Path) -> dict[str, Tensor]:
    from archdsl.runtime.weights import WeightsError, fit

    state, match = fit(graph, path)
    if not match.complete:
        raise WeightsError(match.as_text())
    return state
