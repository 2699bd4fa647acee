"""What a window does, shown with numbers: a small map of digits, and the map that it becomes."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

MOST = 8
"""The most rows and columns of such a map."""

DIGITS = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3)


def worked(moves: Sequence[tuple[int, int, int]], take: Callable[[Sequence[int]], float]) -> Iterator[str]:
    """The lines of an example, for the kernel, stride and dilation of each axis, and for what is taken of a window.

    Each axis has two windows, in the middle of an image. None for three axes, and for windows that are too large.
    """
    if len(moves) > 2:
        return
    starts = [[0, stride] for _, stride, _ in moves]
    taps = [[dilation * u for u in range(kernel)] for kernel, _, dilation in moves]
    if len(moves) == 1:
        starts, taps = [[0], *starts], [[0], *taps]
    height, width = (start[-1] + tap[-1] + 1 for start, tap in zip(starts, taps, strict=True))
    if max(height, width) > MOST:
        return
    digits = [[DIGITS[(7 * row + column) % len(DIGITS)] for column in range(width)] for row in range(height)]
    results = [
        [f"{take([digits[top + u][left + v] for u, v in product(*taps)]):.3g}" for left in starts[1]]
        for top in starts[0]
    ]
    longest = max(len(text) for row in results for text in row)
    for i, row in enumerate(digits):
        text = " ".join(map(str, row))
        made = " ".join(f"{n:>{longest}}" for n in results[i]) if i < len(results) else ""
        yield f"{text}  {'→' if i == 0 else ' '}  {made}".rstrip()
