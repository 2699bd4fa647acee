"""Layers of a network on bands whose statistics are those of whole images: batchnorms, other norms, global poolings.

Each process counts the rows that are its own, so that every row counts once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm


def normalised(module: _BatchNorm, own: slice, count: int, group: Any, x: torch.Tensor) -> torch.Tensor:
    """The forward of a batchnorm whose statistics are those of whole images, of `count` numbers in each channel."""

    if not module.training:
        found: torch.Tensor = type(module).forward(module, x)
        return found
    total = count * len(x)
    mean, variance = _moments(x, own, total, group)
    if module.running_mean is not None and module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
        factor = 1 / module.num_batches_tracked.item() if module.momentum is None else module.momentum
        module.running_mean.lerp_(mean.to(module.running_mean), factor)
        assert module.running_var is not None
        module.running_var.lerp_((variance * total / (total - 1)).to(module.running_mean), factor)
    scale = (variance + module.eps).rsqrt()
    return _normalising()(x, module.weight, module.bias, mean, scale, own, total, group)


def _moments(x: torch.Tensor, own: slice, total: int, group: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and the variance of each channel, without gradients."""
    import torch

    with torch.no_grad():
        kept = x[:, :, own].to(torch.promote_types(x.dtype, torch.float32))
        axes = [0, *range(2, x.dim())]
        mean = _adding()(kept.sum(axes), group) / total
        return mean, _adding()((kept - _along(mean, x)).square_().sum(axes), group) / total


@cache
def _normalising() -> Callable[..., torch.Tensor]:
    import torch
    import torch.distributed as dist

    class Normalising(torch.autograd.Function):  # type: ignore[misc]  # which has no types
        """(x − mean) · scale · weight + bias, where mean and scale are those of the rows `own` in all processes.

        Unlike those operations one by one it saves nothing of the size of x but x.
        """

        @staticmethod
        def forward(
            context: Any,
            x: torch.Tensor,
            weight: torch.Tensor | None,
            bias: torch.Tensor | None,
            mean: torch.Tensor,
            scale: torch.Tensor,
            *more: Any,
        ) -> torch.Tensor:
            context.save_for_backward(x, weight, mean, scale)
            context.more = more
            factor = scale if weight is None else scale * weight
            shift = -mean * factor if bias is None else bias - mean * factor
            return x * _along(factor, x).to(x.dtype) + _along(shift, x).to(x.dtype)

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
            x, weight, mean, scale = context.saved_tensors
            own, total, group = context.more
            axes = [0, *range(2, x.dim())]
            sums = gradient.sum(axes, dtype=mean.dtype)
            products = ((x - _along(mean, x)) * gradient).sum(axes) * scale  # of what is normalised, and its gradient
            factor = scale if weight is None else scale * weight
            found = gradient * _along(factor, x).to(x.dtype)
            everywhere = torch.stack([sums, products])
            dist.all_reduce(everywhere, group=group)
            slope = -everywhere[1] * factor * scale / total
            level = -everywhere[0] * factor / total - slope * mean
            found[:, :, own] += (x[:, :, own] * _along(slope, x) + _along(level, x)).to(x.dtype)
            return found, products if weight is not None else None, sums if weight is not None else None, *[None] * 5

    return cast("Callable[..., torch.Tensor]", Normalising.apply)


def whole(module: torch.nn.Module, own: slice, count: int, group: Any, x: torch.Tensor) -> torch.Tensor:
    """The forward of a layer of `gathering.layers`, of which an image has `count` numbers in each channel."""
    from torch import nn

    kept = x[:, :, own].flatten(2)
    if isinstance(module, nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d | nn.AdaptiveMaxPool3d):
        return _as_map(_largest(kept, group), x)
    groups = module.num_groups if isinstance(module, nn.GroupNorm) else x.shape[1]
    each = x.shape[1] // groups
    kept = kept.unflatten(1, (groups, each)).flatten(2)
    mean = _added_up(kept.sum(2), group) / (count * each)
    if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d):
        return _as_map(mean, x)
    assert isinstance(module, nn.GroupNorm | nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d)
    variance = _added_up((kept - mean[:, :, None]).square().sum(2), group) / (count * each)
    scale = (variance + module.eps).rsqrt()
    scale, shift = (t.repeat_interleave(each, 1) for t in (scale, -mean * scale))
    if module.weight is not None:
        scale, shift = scale * module.weight, shift * module.weight + module.bias
    return x * _as_map(scale, x) + _as_map(shift, x)


def shared(result: torch.Tensor, ranks: int) -> torch.Tensor:
    """A result that every process has: its gradients in all of them add up to that of one."""
    if not result.requires_grad:
        return result
    found = result.view_as(result)
    found.register_hook(lambda gradient: gradient / ranks)
    return found


def _along(channels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return channels.reshape(1, -1, *[1] * (x.dim() - 2))


def _as_map(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[N, C] as [N, C, 1, …]."""
    return values.reshape(*values.shape, *[1] * (x.dim() - 2))


def _largest(kept: torch.Tensor, group: Any) -> torch.Tensor:
    """The largest number of each channel in all processes, [N, C], of the first process that has it."""
    import torch
    import torch.distributed as dist

    if not prod(kept.shape):
        kept = kept.new_full((*kept.shape[:2], 1), -torch.inf)
    mine, rank = kept.max(2).values, dist.get_rank(group)
    nothing = torch.zeros_like(mine)
    parts = [mine if number == rank else nothing for number in range(dist.get_world_size(group))]
    return _added_up(torch.stack(parts), group).max(0).values


@cache
def _adding() -> Callable[[torch.Tensor, Any], torch.Tensor]:
    import torch
    import torch.distributed as dist

    def summed(given: torch.Tensor, group: Any) -> torch.Tensor:
        found = given.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found, group=group)
        return found

    class AddedUp(torch.autograd.Function):  # type: ignore[misc]  # which has no types
        @staticmethod
        def forward(context: Any, given: torch.Tensor, group: Any) -> torch.Tensor:
            context.group = group
            return summed(given, group)

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
            return summed(gradient, context.group), None

    return cast("Callable[[torch.Tensor, Any], torch.Tensor]", AddedUp.apply)


def _added_up(tensor: torch.Tensor, group: Any) -> torch.Tensor:
    """The sum over the processes of a group, whose gradient is the sum of their gradients."""
    return _adding()(tensor, group)
