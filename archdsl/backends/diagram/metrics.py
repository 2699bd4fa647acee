"""How wide text is, by the widths of Helvetica's letters, whatever fonts this machine has: so that a layout is the same
on all machines."""

from __future__ import annotations

import unicodedata

# In thousandths of the size, from the space on to the tilde (Adobe Font Metrics of Helvetica and Helvetica-Bold).
# fmt: off
REGULAR = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
)
BOLD = (
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 333, 333, 584, 584, 584, 611, 975, 722, 722, 722, 722, 667, 611, 778, 722, 278, 556, 722, 611, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 333, 278, 333, 584, 556, 333, 556, 611, 556, 611,
    556, 333, 611, 611, 278, 278, 556, 278, 889, 611, 611, 611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389,
    280, 389, 584,
)
# fmt: on
SIGNS = {"·": 278, "×": 584, "→": 1000, "…": 1000, "\u2212": 584, "\u00a0": 278}

UNKNOWN, WIDE = 750, 1000
"""For a letter that is not in the tables, and for one that East Asian fonts set in a square."""

SLACK = 1.05
"""For readers whose font is a little wider."""


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """The width of a line of text that prints, in points."""
    table = BOLD if bold else REGULAR
    return sum(_letter(c, table) for c in text) * size / 1000 * SLACK


def _letter(char: str, table: tuple[int, ...]) -> int:
    if " " <= char <= "~":
        return table[ord(char) - 32]
    if char in SIGNS:
        return SIGNS[char]
    return WIDE if unicodedata.east_asian_width(char) in "WF" else UNKNOWN
