"""Decompositions of poolings that PyTorch's exporter translates only for the traced size, or wrongly, or not at all.

They replace PyTorch's operators in the traced program before it is converted to ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def table() -> dict[Any, Any]:
    """The decompositions, by PyTorch operator. One that returns NotImplemented leaves the call unchanged."""
    import torch

    aten = torch.ops.aten
    found: dict[Any, Any] = {}
    for rank in (1, 2, 3):
        found[getattr(aten, f"adaptive_avg_pool{rank}d").default] = _adaptive_mean
        found[getattr(aten, f"adaptive_max_pool{rank}d").default] = _adaptive_maximum
        found[getattr(aten, f"max_pool{rank}d").default] = _maximum
        found[getattr(aten, f"avg_pool{rank}d").default] = _mean
    return found


def concerns(node: Any) -> bool:
    """Whether a node of a traced program may be one of these poolings."""
    name = str(node.target)
    return "adaptive_" in name or ("_pool" in name and any(argument is True for argument in node.args[4:6]))


# ---------------------------------------------------------------- adaptive poolings


def _adaptive_mean(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if all(cells == 1 for cells in size):
        return x.mean([*range(x.ndim - len(size), x.ndim)], keepdim=True)
    for axis, cells in enumerate(size, x.ndim - len(size)):
        x = grid(x, axis, cells, largest=False)
    return x


def _adaptive_maximum(x: torch.Tensor, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    for axis, cells in enumerate(size, x.ndim - len(size)):
        x = grid(x, axis, cells, largest=True)
    return x, torch.zeros_like(x, dtype=torch.int64)  # the indices of the maxima, which no network reads


def grid(x: torch.Tensor, axis: int, cells: int, *, largest: bool) -> torch.Tensor:
    """Adaptive pooling along one axis of any size n: `cells` windows, from ⌊i·n / cells⌋ to ⌈(i + 1)·n / cells⌉.

    Window lengths differ by at most one: all are read with the largest length, and the surplus element is excluded from
    the mean, or replaced by the window's last element.
    """
    import torch

    n = x.shape[axis]
    if cells == 1:
        return x.amax(axis, keepdim=True) if largest else x.mean(axis, keepdim=True)
    cell = torch.arange(cells, device=x.device)
    first = torch.div(cell * n, cells, rounding_mode="trunc")
    end = torch.div((cell + 1) * n + (cells - 1), cells, rounding_mode="trunc")
    longest = (n + cells - 1) // cells + 1
    index = first[:, None] + torch.arange(longest, device=x.device)
    inside = index < end[:, None]
    index = torch.minimum(index, end[:, None] - 1)
    windows = x.index_select(axis, index.flatten()).unflatten(axis, (cells, longest))
    if largest:
        return windows.amax(axis + 1)
    after = [1] * (x.ndim - axis - 1)
    windows = torch.where(inside.view(cells, longest, *after), windows, 0.0)
    return windows.sum(axis + 1) / (end - first).view(cells, *after)


# ---------------------------------------------------------------- pooling with ceil_mode


def _maximum(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    pad: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil: bool = False,
) -> Any:
    from torch.nn import functional as F

    if not ceil:
        return NotImplemented
    rank = x.ndim - 2
    numbers = _numbers(rank, kernel, stride, pad, dilation)
    padded = F.pad(x, _edges(x, numbers), value=float("-inf"))
    pool: Callable[..., Any] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    kernels, strides, _, dilations = zip(*numbers, strict=True)
    return pool(padded, kernels, strides, 0, dilations)


def _mean(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    pad: Sequence[int] = (0,),
    ceil: bool = False,
    count_pad: bool = True,
    divisor: int | None = None,
) -> Any:
    """PyTorch's mean: a window that extends past the padded input averages only the inside."""
    import torch
    from torch.nn import functional as F

    if not ceil or divisor is not None:
        return NotImplemented
    rank = x.ndim - 2
    numbers = _numbers(rank, kernel, stride, pad, (1,))
    pool: Callable[..., Any] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    kernels, strides, _, _ = zip(*numbers, strict=True)
    found = pool(F.pad(x, _edges(x, numbers)), kernels, strides, 0)
    for axis, (k, s, p, _) in enumerate(numbers, 2):
        n = x.shape[axis]
        start = torch.arange(found.shape[axis], device=x.device) * s - p
        end = (start + k).clamp(max=n + p if count_pad else n)
        counted = end - (start if count_pad else start.clamp(min=0))
        found = found * (k / counted).view(-1, *[1] * (x.ndim - axis - 1)).to(x.dtype)
    return found


def _numbers(rank: int, *given: Sequence[int]) -> list[tuple[int, ...]]:
    """Kernel, stride and the other parameters for each axis; PyTorch allows one for all, and a default stride."""
    kernel = given[0]
    return [*zip(*([*(g or kernel)] * (rank if len(g or kernel) == 1 else 1) for g in given), strict=True)]


def _edges(x: torch.Tensor, numbers: Sequence[tuple[int, ...]]) -> list[Any]:
    """The padding, from the last axis on, with which floor mode gives the windows of ceil mode."""
    import torch

    edges: list[Any] = []
    for n, (kernel, stride, pad, dilation) in zip(x.shape[2:], numbers, strict=True):
        reach = dilation * (kernel - 1)
        windows = (n + 2 * pad - reach - 1 + stride - 1) // stride + 1
        if reach < pad + stride - 1:  # then the last window may start outside, and is dropped
            windows = torch.sym_min(windows, (n + pad - 1) // stride + 1)
        edges = [pad, (windows - 1) * stride + reach + 1 - pad - n, *edges]
    return edges
