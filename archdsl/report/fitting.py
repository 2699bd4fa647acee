"""A table as text within a width: shorter numbers first, then fewer columns, then lines broken between words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from archdsl.common.choices import Units
from archdsl.report.tables import short, shown

if TYPE_CHECKING:
    from archdsl.report.tables import Column, Table

GAP = 2
"""Spaces between columns."""

PROSE = 18
"""A column of prose is not made narrower than this to keep another column."""

MAIN = 1
"""The rank of the numbers for whose sake lines break, if they have no room otherwise."""

UNBROKEN = re.compile(r" × (?=[\w(⌊⌈])|(?<=\d) (?=(?:[kMGTPE]|B|[KMGTPE]iB)\b)")
"""Spaces within a size or an amount."""


@dataclass(frozen=True, slots=True)
class _Strip:
    """A column as texts: its heading, its cells, the total."""

    column: Column
    cells: tuple[str, ...]

    @property
    def natural(self) -> int:
        """The width at which nothing breaks."""
        return max(*map(len, self.cells), 1)

    @property
    def least(self) -> int:
        """The width below which a word would break."""
        breaks = self.column.breaks
        return max(_longest(self.column.title), *(_longest(cell, breaks) for cell in self.cells[1:]), 1)

    @property
    def needed(self) -> int:
        """The width that it has before other columns are kept: its heading may break, and prose."""
        room = max(map(len, self.cells[1:]), default=1)
        if self.column.prose:
            room = max([min(room, PROSE), *(_longest(cell) for cell in self.cells[1:])])
        return max(self.least, room)


WIDE = 10**9
"""The width of what is no terminal."""


def fitted(table: Table, width: int = WIDE, units: Units = "auto", *, whole: bool = False) -> tuple[str, list[str]]:
    """The table as text, and the keys of the columns that are left out.

    No line is longer than `width` unless a word is. Units are short if the table is too wide otherwise. `whole`: leave
    no column out.
    """
    strips = _strips(table, brief=units == "short")
    if units == "auto" and _total(strips, "natural") > width:
        strips = _strips(table, brief=True)
    left_out: list[str] = []
    while not whole and _total(strips) > width and (most := max(s.column.rank for s in strips)):
        if most == MAIN and _total(strips, "least") <= width:
            break  # rather than to do without, lines break
        last = max(i for i, s in enumerate(strips) if s.column.rank == most)
        left_out.insert(0, strips.pop(last).column.key)
    widths = _widths(strips, width)
    rows = [_lines(strips, widths, i) for i in range(len(strips[0].cells))]
    rule = ["  ".join("-" * w for w in widths)]
    body = [rows[0], rule, *rows[1:]]
    if table.total:
        body.insert(len(body) - 1, rule)
    return "".join(f"{line}\n" for row in body for line in row), left_out


def too_wide(table: Table, width: int, units: Units = "auto") -> bool:
    """Whether columns would be left out, or lines broken."""
    return _total(_strips(table, brief=units != "raw")) > width


def folded(text: str, width: int) -> str:
    """Lines of text, broken between words where they are longer than `width`."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        found = textwrap.wrap(
            _tied(line), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        lines += [f.replace("\u00a0", " ") for f in found] if len(line) > width else [line]
    return "".join(f"{line}\n" for line in lines)


def _strips(table: Table, *, brief: bool) -> list[_Strip]:
    found = []
    rows = [*table.rows, *([table.total] if table.total else [])]
    for i, column in enumerate(table.columns):
        title = column.title.removesuffix(" (bytes)") if brief and column.unit == "bytes" else column.title
        text = short if brief else shown
        found.append(_Strip(column, (title, *(text(column, row[i]) for row in rows))))
    return found


def _total(strips: Sequence[_Strip], kind: Literal["natural", "needed", "least"] = "needed") -> int:
    widths: list[int] = [getattr(s, kind) for s in strips]
    return sum(widths) + GAP * (len(strips) - 1)


def _widths(strips: Sequence[_Strip], width: int) -> list[int]:
    """The width of each column: as wide as it is, unless all are too wide; then the widest yield first."""
    widths = [s.natural for s in strips]
    excess = sum(widths) + GAP * (len(strips) - 1) - width
    while excess > 0:
        yielding = [i for i, s in enumerate(strips) if widths[i] > s.needed]
        yielding = yielding or [i for i, s in enumerate(strips) if widths[i] > s.least]
        if not yielding:
            break
        widths[max(yielding, key=lambda i: widths[i])] -= 1
        excess -= 1
    return widths


def _lines(strips: Sequence[_Strip], widths: Sequence[int], row: int) -> list[str]:
    cells = [_broken(s.cells[row], w, s.column.breaks if row else " ") for s, w in zip(strips, widths, strict=True)]
    lines = []
    for n in range(max(map(len, cells))):
        texts = [cell[n] if n < len(cell) else "" for cell in cells]
        padded = [t.rjust(w) if s.column.numeric else t.ljust(w) for t, w, s in zip(texts, widths, strips, strict=True)]
        lines.append((" " * GAP).join(padded).rstrip())
    return lines


def _tied(text: str) -> str:
    return UNBROKEN.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


def _pieces(text: str, breaks: str) -> list[str]:
    """The words of a text, each with the characters behind which a line may end."""
    return re.findall(rf"[^{re.escape(breaks)}]*[{re.escape(breaks)}]+|[^{re.escape(breaks)}]+", _tied(text))


def _longest(text: str, breaks: str = " ") -> int:
    return max((len(piece.rstrip(" ")) for piece in _pieces(text, breaks)), default=0)


def _broken(text: str, width: int, breaks: str) -> list[str]:
    if len(text) <= width:
        return [text]
    if _longest(text) <= width:
        breaks = " "
    lines = [""]
    for piece in _pieces(text, breaks):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip(" ")) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip(" ").replace("\u00a0", " ") for line in lines]
