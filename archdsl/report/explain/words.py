"""The layout of explanations, and their number formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def titled(title: str, *lines: str) -> Iterator[str]:
    yield f"  {title}"
    for line in lines:
        yield f"    {line}"


def bracketed(shape: Sequence[object]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def crossed(numbers: Sequence[object]) -> str:
    """`3×3`."""
    return "×".join(map(str, numbers))


def counted(number: int, noun: str) -> str:
    """`1 parameter`, `2,048 parameters`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def signed(number: int) -> str:
    """The text to add a number to a formula: ` + 3`, ` - 3`, empty for 0."""
    return f" {'+' if number > 0 else '-'} {abs(number)}" if number else ""


def times(factor: int, name: str) -> str:
    return name if factor == 1 else f"{factor}{name}"
