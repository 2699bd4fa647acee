"""Which input elements and channels each output element depends on: the basis of receptive fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod

FINEST = 1 << 14


STILL = (range(1),)


class TooFine(Exception):
    """A pattern of more than FINEST elements before it repeats, which is too expensive to compute."""


@dataclass(frozen=True, slots=True)
class IndexMap:
    """How one spatial axis is read: element q · period + r is computed from the elements q · step + t, t in taps[r].

    `out` is the output axis along which the reader moves, counted from the first spatial one; None if every output
    element reads the same. Taps at the edges may lie outside the axis. With `along` the axis becomes several, of these
    sizes, from the first on; the other fields mean nothing then.
    """

    out: int | None
    period: int
    step: int
    taps: tuple[range, ...]
    along: tuple[int, ...] = ()

    @property
    def still(self) -> bool:
        """Whether element i is computed only from element i."""
        return self.period == self.step == 1 and self.taps == STILL


@dataclass(frozen=True, slots=True)
class ChannelMap:
    """Channels of an output, and the channels of the input at `position` from which they are computed.

    `each`: every one only from the one at its place in `read`; else from all of `read`.
    """

    position: int
    channels: range
    read: range
    each: bool = False


def grouped(out: int, channels: int, groups: int) -> Iterator[ChannelMap]:
    """Channels in groups, each computed from a group of input channels."""
    wide, deep = out // groups, channels // groups
    if wide == deep == 1:
        yield ChannelMap(0, range(out), range(channels), each=True)
        return
    for g in range(groups):
        yield ChannelMap(0, range(g * wide, (g + 1) * wide), range(g * deep, (g + 1) * deep))


def everything(size: int) -> IndexMap:
    """Every element reads the whole axis."""
    return IndexMap(None, 1, 0, (range(size),))


def nothing() -> IndexMap:
    """No element reads any of the axis."""
    return IndexMap(None, 1, 0, (range(0),))


def stretched() -> IndexMap:
    """Every element reads the only element of an axis of size 1."""
    return IndexMap(None, 1, 0, (range(1),))


def shifted(out: int, offset: int = 0) -> IndexMap:
    """Element i reads element i + offset."""
    return IndexMap(out, 1, 1, (range(offset, offset + 1),))


def digits(sizes: Sequence[int]) -> Iterator[IndexMap]:
    """Several axes that become one, in the order of their elements."""
    below = prod(sizes)
    for axis, size in enumerate(sizes):
        whole, below = below, below // size
        period = whole if axis else below
        if period > FINEST:
            raise TooFine
        yield IndexMap(0, period, 0 if axis else 1, tuple(range(r // below, r // below + 1) for r in range(period)))


def counted(sizes: tuple[int, ...]) -> IndexMap:
    """An axis that becomes several, in the order of their elements."""
    return shifted(0) if len(sizes) == 1 else IndexMap(None, 1, 0, (), sizes)


def sliding(out: int, kernel: int, stride: int, dilation: int, pad: int, scale: int = 1) -> IndexMap:
    """A window over an axis with scale − 1 zeros between its elements, and `pad` of them before the first."""
    period, step = _ratio(scale, stride)
    taps = tuple(_hits(r * stride - pad, kernel, dilation, scale) for r in range(period))
    return IndexMap(out, period, step, taps)


def _ratio(a: int, b: int) -> tuple[int, int]:
    """a : b in lowest terms."""
    common = gcd(a, b)
    if a // common > FINEST:
        raise TooFine
    return a // common, b // common


def _hits(start: int, kernel: int, dilation: int, scale: int) -> range:
    """The non-zero elements under a window that begins at `start`."""
    common = gcd(dilation, scale)
    every = scale // common  # of the window's elements, one in so many is non-zero
    if start % common:
        return range(0)
    first = -start // common * pow(dilation // common, -1, every) % every
    if first >= kernel:
        return range(0)
    begin, apart = (start + first * dilation) // scale, dilation // common
    return range(begin, begin + ((kernel - 1 - first) // every) * apart + 1, apart)


def resampled(out: int, size: int, target: int, mode: str) -> IndexMap:
    """An axis of `size` resized to `target` elements: `nearest`, `bicubic`, or linear, without aligned corners."""
    period, step = _ratio(target, size)
    taps = []
    for r in range(period):
        if mode == "nearest":
            low = high = r * size // target
        else:
            low, rest = divmod((2 * r + 1) * size - target, 2 * target)
            high = low + (1 if rest else 0)
            if rest and mode == "bicubic":
                low, high = low - 1, high + 1
        if period == target:  # the pattern is the whole axis, so its ends are known
            low, high = min(max(low, 0), size - 1), min(max(high, 0), size - 1)
        taps.append(range(low, high + 1))
    return IndexMap(out, period, step, tuple(taps))


def aligned(out: int, size: int, target: int, mode: str) -> IndexMap:
    """An axis of `size` resized to `target` elements whose first and last are those of the axis."""
    taps = []
    for r in range(target):
        low, rest = divmod(r * (size - 1), target - 1) if target > 1 else (0, 0)
        high = low + (1 if rest else 0)
        if rest and mode == "bicubic":
            low, high = low - 1, high + 1
        taps.append(range(max(low, 0), min(high, size - 1) + 1))
    return IndexMap(out, target, size, tuple(taps))


def gridded(out: int, size: int, target: int) -> IndexMap:
    """An axis of `size` covered by `target` windows, as in adaptive pooling."""
    if target == 1:
        return everything(size)
    period, step = _ratio(target, size)
    taps = (range(r * size // target, -(-(r + 1) * size // target)) for r in range(period))
    return IndexMap(out, period, step, tuple(taps))
