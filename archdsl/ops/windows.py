"""Windows that slide over a padded axis: their number, the padding, and the error for one that does not fit."""

from collections.abc import Sequence
from functools import cache

from archdsl import dims
from archdsl.dims import Dim
from archdsl.ops.base import Shape
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import shape_text, times
from archdsl.ops.sizes import collapse, each


def padding(
    pad: int | tuple[int, ...] | str, kernel: tuple[int, ...], dilation: tuple[int, ...], shape: Shape
) -> tuple[int, ...]:
    """The padding before and after each axis, for every `pad` except `same_upper`, which depends on the size.

    Raises OperationError for `same` with an even kernel, which cannot pad both sides equally.
    """
    overlaps = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    if not isinstance(pad, str):
        return each(pad, shape, "pad")
    if pad == "valid":
        return (0,) * len(kernel)
    if pad == "full":
        return overlaps
    if any(o % 2 for o in overlaps):
        raise OperationError(
            f"`pad = same` needs an odd kernel, to pad both sides equally; this one is {times(kernel)}",
            parameter="kernel",
            help="use an odd kernel, or a number for `pad`",
            mends=[Mend("use `pad = same_upper` to pad the end by one more", {"pad": "same_upper"})],
        )
    return tuple(o // 2 for o in overlaps)


def same_upper_pads(size: Dim, kernel: int, stride: int, dilation: int) -> tuple[Dim, Dim]:
    """The padding of `same_upper` before and after an axis of that size."""
    total = dims.maximum(dilation * (kernel - 1) - (size - 1) % stride, 0)
    before = total // 2
    return before, total - before


def steps(size: Dim, pads: int, kernel: int, stride: int, dilation: int) -> Dim:
    """The number of windows on an axis of that size with `pads` more elements on both sides together."""
    return (size + pads - dilation * (kernel - 1) - 1) // stride + 1


def ceil_steps(size: Dim, pad: int, kernel: int, stride: int, dilation: int) -> Dim:
    """The number of windows if the last may extend past the end but must start inside (PyTorch's ceil_mode)."""
    reach = dilation * (kernel - 1)
    windows = dims.ceil_div(size + 2 * pad - reach - 1, stride) + 1
    if reach >= pad + stride - 1:  # then none can start outside
        return windows
    return dims.minimum(windows, (size + pad - 1) // stride + 1)


def steady(kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> bool:
    """Whether `same_upper` pads both sides equally, for every input size."""
    return all(k == 1 or (s == 1 and d * (k - 1) % 2 == 0) for k, s, d in zip(kernel, stride, dilation, strict=True))


def fixed_pad(pad: int | tuple[int, ...] | str) -> int | tuple[int, ...] | str:
    """The padding of a steady `same_upper`, or any other `pad` unchanged."""
    return "same" if pad == "same_upper" else pad


def meant_pad(
    pad: int | tuple[int, ...] | str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    shape: Shape,
) -> object:
    """The padding as a number, or a tuple if axes differ; the word itself if the two ends may differ."""
    if pad == "causal" or (pad == "same_upper" and not steady(kernel, stride, dilation)):
        return pad
    return collapse(padding(fixed_pad(pad), kernel, dilation, shape))


def window_pads(
    pad: int | tuple[int, ...] | str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    shape: Shape,
) -> tuple[int, ...]:
    """The padding before the first element; for `same_upper` and a free size, if the stride divides the size."""
    if pad == "causal":
        return padding("full", kernel, dilation, shape)
    if pad == "same_upper":
        sizes = (n if isinstance(n, int) else s for n, s in zip(shape[1:], stride, strict=True))
        befores = (same_upper_pads(n, *m)[0] for n, *m in zip(sizes, kernel, stride, dilation, strict=True))
        return tuple(b for b in befores if isinstance(b, int))
    return padding(pad, kernel, dilation, shape)


def does_not_fit(
    name: str, shape: Shape, axis: int, pads: Sequence[int], numbers: Sequence[tuple[int, int, int]]
) -> tuple[str, str, tuple[Mend, ...]]:
    """Message, help and the kernel that would fit on each axis, for a window larger than a padded axis.

    `numbers` has kernel, stride and dilation of each spatial axis, `axis` is one of these.
    """
    size, pad, (kernel, _, dilation) = shape[1:][axis], pads[axis], numbers[axis]
    reach = dilation * (kernel - 1) + 1
    spans = f"a kernel of {kernel}" + (f" with dilation {dilation} spans {reach}" if dilation > 1 else "")
    padded = f", with its padding {dims.text(size + 2 * pad)}" if pad else ""
    here = f"the size here is {dims.text(size)}{padded}; the tensor is {shape_text(shape)}"
    message = f"`{name}` does not fit: {spans}, {here}"
    help = "use a smaller kernel or more padding, or fewer strides and poolings before it"
    fits = [
        min(k, (n + 2 * p - 1) // d + 1) if isinstance(n, int) else k
        for n, p, (k, _, d) in zip(shape[1:], pads, numbers, strict=True)
    ]
    if not isinstance(size, int) or min(fits) < 1:
        return message, help, ()
    kernels = {kernel: min(fits)} if len({k for k, _, _ in numbers}) == 1 else {}
    texts = [str(k) for k in kernels.values()] + (["x".join(map(str, fits))] if len(set(fits)) > 1 else [])
    return message, help, tuple(Mend(f"use a kernel of at most `{t}`", {"kernel": t}) for t in texts)


def window_caption(
    name: str,
    kernel: int | tuple[int, ...] | None,
    stride: int | tuple[int, ...],
    rank: int,
    out: str = "",
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> str:
    """`conv 3×3, 64, /2`; in one dimension `conv k3, 64, /2`, lest the kernel be taken for channels."""
    size = times((kernel,) * rank if isinstance(kernel, int) else kernel or ())
    parts = [f"{name} {'k' if rank == 1 and size else ''}{size}", out]
    if stride != 1 and set(stride if isinstance(stride, tuple) else (stride,)) != {1}:
        parts.append(f"/{times(stride) if isinstance(stride, tuple) else stride}")
    if dilation != 1:
        parts.append(f"dilation {times(dilation) if isinstance(dilation, tuple) else dilation}")
    if groups != 1:
        parts.append(f"{groups} groups")
    return ", ".join(p for p in parts if p)


@cache
def smallest_seen(kernel: int, stride: int, dilation: int) -> int:
    """The size from which no window of `same_upper` has only padding; a dilated window of an even kernel may.

    From the dilation on, its elements are too close together to miss a size; beyond 64 that bound is used.
    """
    if kernel % 2 or dilation > 64:  # the middle of an odd kernel is always inside
        return 1 if kernel % 2 else dilation
    for size in range(dilation - 1, 0, -1):
        before = max(dilation * (kernel - 1) - (size - 1) % stride, 0) // 2
        if misses(size, kernel, dilation, range(-before, size - before, stride)):
            return size + 1
    return 1


@cache
def smallest_covered(kernel: int, stride: int, dilation: int, pad: int, ceil: bool) -> int:
    """The size from which no window has only padding, as a dilated one of a smaller size may.

    PyTorch's backward pass writes outside the tensor for such a window. From the dilation on there is none; beyond 64
    that bound is used.
    """
    if dilation == 1 or not pad:
        return 1
    for size in range(dilation - 1, 0, -1) if dilation <= 64 else ():
        room = size + 2 * pad - dilation * (kernel - 1) - 1
        last = -pad + (room + (stride - 1) * ceil) // stride * stride
        if misses(size, kernel, dilation, range(-pad, min(last, size - 1) + 1, stride)):
            return size + 1
    return dilation if dilation > 64 else 1


def misses(size: int, kernel: int, dilation: int, starts: range) -> bool:
    """Whether a window that starts at one of these positions has no element inside."""
    return any(not any(0 <= start + dilation * i < size for i in range(kernel)) for start in starts)


def too_much(pads: tuple[int, ...], kernels: tuple[int, ...] | list[int]) -> tuple[int, int] | None:
    """The first padding, with its kernel, that is more than half of it: PyTorch rejects it."""
    return next(((p, k) for p, k in zip(pads, kernels, strict=True) if p > k // 2), None)
