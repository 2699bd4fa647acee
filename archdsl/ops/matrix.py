"""The matrix of a convolution, from all its inputs to all its outputs: equal and zero entries.

For one axis it is a Toeplitz matrix, for several a block Toeplitz matrix (Gray, Toeplitz and circulant matrices, 2006).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from archdsl.common.units import counted
from archdsl.ops.base import Window
from archdsl.ops.formulas import Section, Sizes

DRAWN = 12
"""The maximum rows and columns of a matrix that is drawn."""

LONGEST = 4096
"""The maximum elements along an axis for which entries are counted."""

Row = list[tuple[int, int]]
"""The columns of a row that contain a weight, each with the weight's position in the kernel."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The matrix of a convolution, or of a transposed one, between tensors of these sizes."""

    shape: Sizes
    output: Sizes
    window: Window
    weights: int
    groups: int
    mode: str = "zeros"
    """The value read outside the image."""
    flipped: bool = False
    transposed: bool = False
    kernel: tuple[float, ...] = ()
    """The numbers of the kernel, in order, where the spec gives them."""

    @property
    def name(self) -> str:
        """What such a matrix is called: a doubly block circulant matrix."""
        blocks = {1: "", 2: "doubly block ", 3: "triply block "}[len(self.shape) - 1]
        moves = max(*self.window.stride, *self.window.scale, 1)
        if self.mode == "circular" and moves == 1 and self.shape[1:] == self.output[1:]:
            return f"a {blocks}circulant matrix"
        found = f"{blocks}Toeplitz matrix"
        if self.transposed:
            return f"a {found} of a convolution" + (f" with stride {moves}" if moves > 1 else "") + ", transposed"
        if moves > 1:
            found = f"{found} with the rows that the stride leaves"
        return f"a {found}{', except at the edges' if self.is_mirrored else ''}"

    @property
    def is_mirrored(self) -> bool:
        """Whether the padding repeats elements, so that entries near the edges may be sums of weights."""
        return self.mode != "zeros" and any(self.window.pad)

    def entries(self) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """The entries from one input channel to one output channel that are not zero.

        Each is a row, a column, and the place of its weight in the kernel. An entry that is a sum of weights is given
        once for each of them.
        """
        for rows in product(*(enumerate(self.rows(axis)) for axis in range(len(self.shape) - 1))):
            row = flat([i for i, _ in rows], self.output[1:])
            for taps in product(*(taps for _, taps in rows)):
                place = (u for _, u in taps)
                if self.flipped:
                    place = (k - 1 - u for u, k in zip(place, self.window.kernel, strict=True))
                yield row, flat([column for column, _ in taps], self.shape[1:]), tuple(place)

    def section(self) -> Iterator[Section]:
        """Describes it; draws it for one channel of a small signal."""
        shape, output = self.shape, self.output
        if max(*shape[1:], *output[1:], *self.window.kernel) > LONGEST:
            return
        axes = [self.rows(axis) for axis in range(len(shape) - 1)]
        between = prod(sum(len({column for column, _ in row}) for row in axis) for axis in axes)
        filled = between * shape[0] * output[0] // self.groups
        if not filled:
            return
        tall, wide = prod(output), prod(shape)
        share, often = filled / (tall * wide), filled / self.weights
        lines = [f"as a matrix: {tall:,} × {wide:,}, of which {filled:,} entries are not zero ({share:.2g} of all)"]
        if self.is_mirrored:
            lines.append("near the edges an entry is a sum of weights: of all that read the same element")
        elif filled > self.weights:
            lines.append(
                f"and those are {counted(self.weights, 'different number')}, each {often:,.0f} times on average"
            )
        else:
            lines.append("each of them a weight of its own")
        if filled > self.weights:
            lines += self.shifts()
        if self.transposed:
            lines.append("it is the matrix of a convolution, transposed: where that gathers, this spreads")
        if len(shape) == 2 and shape[1] <= DRAWN and output[1] <= DRAWN and not self.is_mirrored:
            lines += self.drawing(axes[0])
        yield Section("the Toeplitz view", *lines)

    def shifts(self) -> Iterator[str]:
        """Where the equal entries are."""
        step = self.window.scale if self.transposed else self.window.stride
        what, where = ("column", "down") if self.transposed else ("row", "to the right")
        if len(self.shape) > 2:
            yield f"in blocks: along each axis a {what} holds the same weights as the one before, moved by the stride"
        elif step[0] == 1:
            yield (
                f"each {what} holds the same weights as the one before, 1 further {where}: equal entries lie on "
                "diagonals"
            )
        else:
            yield f"each {what} holds the same weights as the one before, {step[0]} further {where}"
        if self.groups > 1:
            yield f"from one of the {self.groups} groups of channels to another all entries are zero"

    def rows(self, axis: int) -> list[Row]:
        """The rows for one axis, for one input and one output channel."""
        window, n, o = self.window, self.shape[axis + 1], self.output[axis + 1]
        kernel, stride, dilation = window.kernel[axis], window.stride[axis], window.dilation[axis]
        if not self.transposed:
            taps = ([(i * stride - window.pad[axis] + u * dilation, u) for u in range(kernel)] for i in range(o))
            return [[(at, u) for t, u in row if (at := inside(t, n, self.mode)) is not None] for row in taps]
        # Element i of the input contributes to outputs from `first` on; `window` has the mirrored kernel.
        scale, first = window.scale[axis], window.pad[axis] - dilation * (kernel - 1)
        found: list[Row] = [[] for _ in range(o)]
        for i in range(n):
            for u in range(kernel):
                place = i * scale + first + u * dilation
                if 0 <= place < o:
                    found[place].append((i, u))
        return found

    def drawing(self, matrix: list[Row]) -> Iterator[str]:
        """The matrix for one input and one output channel."""
        kernel = self.window.kernel[0]
        if kernel > DRAWN:
            return
        names = "abcdefghijkl"[:kernel]
        yield "from one channel to one, with the kernel " + " ".join(names) + ":"
        for row in matrix:
            entries = ["·"] * self.shape[1]
            for place, tap in row:
                entries[place] = names[::-1][tap] if self.flipped else names[tap]
            yield "  " + " ".join(entries)


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


def flat(place: Sequence[int], sizes: Sequence[int]) -> int:
    """The number of a place in a tensor of these sizes, row by row."""
    found = 0
    for index, size in zip(place, sizes, strict=True):
        found = found * size + index
    return found
