"""The parts that formulas of several operations share: sections, names of axes and indices, terms, output sizes."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TypeAlias

Sizes: TypeAlias = tuple[int, ...]

AXES: Mapping[int, tuple[str, ...]] = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""The names of the spatial axes, by their number."""
INDICES: Mapping[int, str] = {1: "i", 2: "ij", 3: "hij"}
TAPS: Mapping[int, str] = {1: "u", 2: "uv", 3: "tuv"}
"""The indices of an element and of a kernel position in formulas, by the number of axes."""

OUTSIDE: Mapping[str, str] = {
    "zeros": "x is 0 (padding)",
    "replicate": "x is the value at the edge (padding)",
    "reflect": "x is the image in a mirror (padding)",
    "circular": "x goes on from the other side (padding)",
}
"""The value that an operation reads outside the image, by padding mode."""


class Section:
    """A part of an explanation: a title and lines."""

    def __init__(self, title: str, *lines: str) -> None:
        self.title = title
        self.lines = lines


def signed(number: int) -> str:
    """The text to add a number to a formula: ` + 3`, ` - 3`, empty for 0."""
    return f" {'+' if number > 0 else '-'} {abs(number)}" if number else ""


def multiple(factor: int, name: str) -> str:
    """`2i`, and `i` for 1."""
    return name if factor == 1 else f"{factor}{name}"


def same_upper_lines(shape: Sizes, stride: Sizes, output: Sizes) -> Iterator[str]:
    """How the output size follows where `pad = same_upper`."""
    for name, n, s, o in zip(AXES[len(stride)], shape[1:], stride, output[1:], strict=True):
        yield f"{name}: ⌈{n} / {s}⌉ = {o}, with as much padding as that takes"


def window_lines(
    shape: Sizes, numbers: Sequence[tuple[int, int, int]], pads: Sizes, output: Sizes, brackets: str = "⌊⌋"
) -> Iterator[str]:
    """How the output size follows from kernel, stride and dilation of each axis, and the padding on each side."""
    for name, n, o, p, (k, s, d) in zip(AXES[len(pads)], shape[1:], output[1:], pads, numbers, strict=True):
        yield f"{name}: {brackets[0]}({n} + 2·{p} - {d}·({k} - 1) - 1) / {s}{brackets[1]} + 1 = {o}"


def biases(any_: bool, count: int) -> str:
    return f", and {count} {'bias' if count == 1 else 'biases'}" if any_ else ""


def against_full(weights: Sizes, shape: Sizes, output: Sizes) -> str:
    """Compares the weight count with that of a fully connected layer."""
    own, count = prod(weights), prod(shape) * prod(output)
    between = "a fully connected layer between the same sizes"
    if count <= own:
        return f"{between} has as many"
    return f"{between}: {prod(shape):,} × {prod(output):,} = {count:,} weights, {count / own:,.0f} times as many"
