"""The matrix of a convolution, from all its inputs to all its outputs: equal and zero entries.

For one axis it is a Toeplitz matrix, for several a block Toeplitz matrix (Gray, Toeplitz and circulant matrices, 2006).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from archdsl.ops.conv import Conv, Upconv
from archdsl.report.explain.words import counted, titled

DRAWN = 12
"""The maximum rows and columns of a matrix that is drawn."""

LONGEST = 4096
"""The maximum elements along an axis for which entries are counted."""

Row = list[tuple[int, int]]
"""The columns of a row that contain a weight, each with the weight's position in the kernel."""


def toeplitz(layer: Conv | Upconv, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    """Describes the layer's matrix; draws it for one channel of a small signal."""
    if max(*shape[1:], *output[1:], *layer.window((tuple(shape),)).kernel) > LONGEST:
        return
    axes = [rows(layer, shape, output, axis) for axis in range(len(shape) - 1)]
    between = prod(sum(len({column for column, _ in row}) for row in axis) for axis in axes)
    filled = between * shape[0] * output[0] // layer.groups
    weights = prod(layer.weights((tuple(shape),))[0].shape)
    if not filled:
        return
    tall, wide = prod(output), prod(shape)
    share, often = filled / (tall * wide), filled / weights
    lines = [f"as a matrix: {tall:,} × {wide:,}, of which {filled:,} entries are not zero ({share:.2g} of all)"]
    mirrored = isinstance(layer, Conv) and layer.pad_mode != "zeros" and any(layer.window((tuple(shape),)).pad)
    if mirrored:
        lines.append("near the edges an entry is a sum of weights: of all that read the same element")
    elif filled > weights:
        lines.append(f"and those are {counted(weights, 'different number')}, each {often:,.0f} times on average")
    else:
        lines.append("each of them a weight of its own")
    if filled > weights:
        lines += shifts(layer, shape)
    if isinstance(layer, Upconv):
        lines.append("it is the matrix of a convolution, transposed: where that gathers, this spreads")
    yield from titled("the Toeplitz view", *lines)
    if len(shape) == 2 and shape[1] <= DRAWN and output[1] <= DRAWN and not mirrored:
        yield from drawing(layer, shape, axes[0])


def shifts(layer: Conv | Upconv, shape: Sequence[int]) -> Iterator[str]:
    """Where the equal entries are."""
    window = layer.window((tuple(shape),))
    step = window.scale if isinstance(layer, Upconv) else window.stride
    what = "column" if isinstance(layer, Upconv) else "row"
    where = "down" if isinstance(layer, Upconv) else "to the right"
    if len(shape) > 2:
        yield f"in blocks: along each axis a {what} holds the same weights as the one before, moved by the stride"
    elif step[0] == 1:
        yield f"each {what} holds the same weights as the one before, 1 further {where}: equal entries lie on diagonals"
    else:
        yield f"each {what} holds the same weights as the one before, {step[0]} further {where}"
    if layer.groups > 1:
        yield f"from one of the {layer.groups} groups of channels to another all entries are zero"


def rows(layer: Conv | Upconv, shape: Sequence[int], output: Sequence[int], axis: int) -> list[Row]:
    """The rows for one axis, for one input and one output channel."""
    window = layer.window((tuple(shape),))
    n, o = shape[axis + 1], output[axis + 1]
    kernel, stride, dilation = window.kernel[axis], window.stride[axis], window.dilation[axis]
    if isinstance(layer, Conv):
        pad, mode = window.pad[axis], layer.pad_mode
        taps = ([(i * stride - pad + u * dilation, u) for u in range(kernel)] for i in range(o))
        return [[(at, u) for t, u in row if (at := inside(t, n, mode)) is not None] for row in taps]
    # Element i of the input contributes to outputs from `first` on; `window` has the mirrored kernel.
    scale, first = window.scale[axis], window.pad[axis] - dilation * (kernel - 1)
    found: list[Row] = [[] for _ in range(o)]
    for i in range(n):
        for u in range(kernel):
            place = i * scale + first + u * dilation
            if 0 <= place < o:
                found[place].append((i, u))
    return found


def inside(at: int, size: int, mode: str) -> int | None:
    """The element of the image at a position of the padded one; None for a zero."""
    if 0 <= at < size:
        return at
    match mode:
        case "replicate":
            return min(max(at, 0), size - 1)
        case "reflect":
            return -at if at < 0 else 2 * (size - 1) - at
        case "circular":
            return at % size
        case _:
            return None


def drawing(layer: Conv | Upconv, shape: Sequence[int], matrix: list[Row]) -> Iterator[str]:
    """The matrix for one input and one output channel."""
    kernel = layer.window((tuple(shape),)).kernel[0]
    if kernel > DRAWN:
        return
    names = "abcdefghijkl"[:kernel]
    flipped = isinstance(layer, Conv) and layer.flip
    yield "    from one channel to one, with the kernel " + " ".join(names) + ":"
    for row in matrix:
        entries = ["·"] * shape[1]
        for place, tap in row:
            entries[place] = names[::-1][tap] if flipped else names[tap]
        yield "      " + " ".join(entries)
