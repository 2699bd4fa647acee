"""Statistics of the whole image, gathered tile by tile before the results: for global poolings and norms.

For each such layer, from the first on, one pass over the tiles runs the network up to it, with the statistics of the
layers before it, and adds up what the tiles keep of its input. The last pass gives the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archdsl.analysis.tiling import Tiling, tiling
from archdsl.graph import Output

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-4
"""How far results with gathered statistics may differ from those of a whole run on a part of the image, relatively."""


class Stop(Exception):
    """Ends a run at the layer whose input is wanted."""


@dataclass(slots=True, eq=False)
class Statistics:
    """Sums over each sample and channel of a layer's input: [N, C]."""

    count: int
    total: torch.Tensor
    squares: torch.Tensor
    largest: torch.Tensor

    def add(self, sample: int, part: torch.Tensor) -> None:
        """Adds what a tile keeps, [C, …]."""
        import torch

        values = part.flatten(1).double().cpu()
        if values.shape[1]:
            self.total[sample] += values.sum(1)
            self.squares[sample] += values.square().sum(1)
            self.largest[sample] = torch.maximum(self.largest[sample], values.amax(1))

    def share(self) -> None:
        """Adds up those of all processes."""
        import torch.distributed as dist

        dist.all_reduce(self.total)
        dist.all_reduce(self.squares)
        dist.all_reduce(self.largest, dist.ReduceOp.MAX)

    def apply(self, module: torch.nn.Module, x: torch.Tensor, samples: Sequence[int]) -> torch.Tensor:
        """The result of the layer for tiles of these samples."""
        import torch

        kinds = torch.nn
        total, squares, largest = (t[list(samples)] for t in (self.total, self.squares, self.largest))
        if isinstance(module, kinds.AdaptiveMaxPool1d | kinds.AdaptiveMaxPool2d | kinds.AdaptiveMaxPool3d):
            return _as_map(largest, x)
        if not isinstance(module, kinds.GroupNorm | kinds.InstanceNorm1d | kinds.InstanceNorm2d | kinds.InstanceNorm3d):
            return _as_map(total / self.count, x)
        groups = module.num_groups if isinstance(module, kinds.GroupNorm) else total.shape[1]
        each = total.shape[1] // groups
        mean, square = (
            (t.unflatten(1, (groups, each)).mean(2) / self.count).repeat_interleave(each, 1) for t in (total, squares)
        )
        scale = 1 / (square - mean.square()).clamp(min=0).add(module.eps).sqrt()
        shift = -mean * scale
        if module.weight is not None:
            weight, bias = module.weight.detach().double().cpu(), module.bias.detach().double().cpu()
            scale, shift = scale * weight, shift * weight + bias
        return x * _as_map(scale, x) + _as_map(shift, x)


def _as_map(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[N, C] as [N, C, 1, …], of the type and at the place of a map."""
    return values.reshape(*values.shape, *(1,) * (x.dim() - 2)).to(x)


@dataclass(slots=True, eq=False)
class Gathering:
    """The layers of a network that need the whole image, in the order in which they are called."""

    model: torch.nn.Module
    found: list[Statistics] = field(default_factory=list)
    samples: Sequence[int] = ()
    capture: Callable[[torch.Tensor], None] | None = None
    """Gets the input of the layer after those in `found`."""
    called: int = 0

    def begin(self, samples: Sequence[int]) -> None:
        """Before each run: the samples of its tiles."""
        self.samples, self.called = samples, 0

    def hook(self, module: torch.nn.Module, given: tuple[Any, ...], result: Any) -> Any:
        number, self.called = self.called, self.called + 1
        if number == len(self.found) and self.capture is not None:
            self.capture(given[0])
            raise Stop
        return self.found[number].apply(module, given[0], self.samples)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The layers give results for the whole image."""
        with ExitStack() as stack:
            for module in layers(self.model):
                stack.callback(module.register_forward_hook(self.hook).remove)
            yield


def layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules of the kinds whose statistics can be gathered."""
    from torch import nn

    pools = nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d
    most = nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d | nn.AdaptiveMaxPool3d
    norms = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
    return [
        module
        for module in model.modules()
        if (isinstance(module, pools | most) and {module.output_size}.issubset({1, (1,), (1, 1), (1, 1, 1)}))
        or isinstance(module, nn.GroupNorm)
        or (isinstance(module, norms) and not module.track_running_stats)
    ]


def calls(model: torch.nn.Module, run: Callable[[], object]) -> int:
    """How often a run calls such layers."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    with ExitStack() as stack:
        for module in layers(model):
            stack.callback(module.register_forward_hook(counted).remove)
        run()
    return count


def passes(plan: Tiling) -> list[Tiling]:
    """A plan for each layer whose statistics are gathered: of the tiles that give its input."""
    nodes = sorted(plan.assumed, key=lambda node: node.id)
    return [
        tiling(
            plan.graph,
            plan.sizes,
            tile=[axis.tile for axis in plan.axes],
            batch=plan.batch,
            approximate=True,
            outputs=(Output(None, node.inputs[0]),),
        )
        for node in nodes
    ]


def empty(plan: Tiling, samples: int) -> Statistics:
    """The statistics of nothing yet, of the input that a pass gives."""
    import torch

    (shape,) = plan.shapes()
    count = 1
    for size in shape[1:]:
        count *= size
    zeros = torch.zeros(samples, shape[0], dtype=torch.float64)
    return Statistics(count, zeros, zeros.clone(), torch.full_like(zeros, -torch.inf))
