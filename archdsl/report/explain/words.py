"""The layout of explanations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def titled(title: str, *lines: str) -> Iterator[str]:
    yield f"  {title}"
    for line in lines:
        yield f"    {line}"


def bracketed(shape: Sequence[object]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def crossed(numbers: Sequence[object]) -> str:
    """`3×3`."""
    return "×".join(map(str, numbers))
