"""Labels for Graphviz, and how much room they take. All text of a spec passes through `escaped`: it is data, never
markup."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from archdsl.diagnostics import visible

LONGEST_LINE = 90


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of a line: text of one size (in points), colour (`#rrggbb`) and weight."""

    text: str
    size: float
    color: str
    bold: bool = False

    @property
    def markup(self) -> str:
        inner = f"<B>{escaped(self.text)}</B>" if self.bold else escaped(self.text)
        return f'<FONT POINT-SIZE="{self.size:g}" COLOR="{self.color}">{inner}</FONT>'

    @property
    def width(self) -> float:
        """Points, rather too many than too few: the font that a reader has is not known."""
        return min(len(visible(self.text)), LONGEST_LINE) * self.size * (0.68 if self.bold else 0.62)


Line = Sequence[Words]


def escaped(text: str) -> str:
    """Text for an HTML-like label: printable, of bounded length, and without a meaning to Graphviz."""
    text = visible(text)
    text = text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"
    # Graphviz puts names for `\N`, `\G`, … even within markup.
    return html.escape(text).replace("\\", "\\\\")


def label(lines: Iterable[Line], *, padding: int = 0, spacer: float = 0, background: str = "") -> str:
    """Lines under each other; `spacer` is empty room to their right, in points, `background` a colour under them."""
    room = f'<TD WIDTH="{spacer:.0f}"></TD>' if spacer else ""
    rows = "".join(f"<TR><TD>{''.join(w.markup for w in line)}</TD>{room}</TR>" for line in lines)
    under = f' BGCOLOR="{background}"' if background else ""
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="{padding}"{under}>{rows}</TABLE>'
    return f"<{table}>" if rows else ""


def extent(lines: Iterable[Line]) -> tuple[float, float]:
    """Width and height of lines under each other, in points."""
    found = list(lines)
    return (
        max((sum(w.width for w in line) for line in found), default=0),
        sum(1.3 * max(w.size for w in line) for line in found),
    )


# ---------------------------------------------------------------- legend


@dataclass(frozen=True, slots=True)
class Entry:
    """A patch of colour, or, with a `sign`, a stroke, and its name."""

    name: Words
    fill: str = ""
    border: str = ""
    sign: Words | None = None

    @property
    def cells(self) -> str:
        if self.sign is not None:
            patch = f"<TD>{self.sign.markup}</TD>"
        else:
            colours = f'BGCOLOR="{self.fill}" COLOR="{self.border}"'
            patch = f'<TD {colours} BORDER="1" WIDTH="14" HEIGHT="10" FIXEDSIZE="TRUE"></TD>'
        return f'{patch}<TD ALIGN="LEFT">{self.name.markup}</TD>'


ENTRIES_PER_ROW = 4
ROW_HEIGHT = 18


def legend_label(heading: Iterable[Line], entries: Sequence[Entry]) -> str:
    """The heading, and the entries in a grid under it."""
    rows = [entries[i : i + ENTRIES_PER_ROW] for i in range(0, len(entries), ENTRIES_PER_ROW)]
    lines = "".join(f"<TR><TD>{''.join(w.markup for w in line)}</TD></TR>" for line in heading)
    grid = "".join(f"<TR>{''.join(e.cells for e in row)}</TR>" for row in rows)
    width, height = legend_extent((), entries)
    table = (
        f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="1" FIXEDSIZE="TRUE" WIDTH="{width:.0f}" '
        f'HEIGHT="{height:.0f}" ALIGN="CENTER">{grid}</TABLE>'
    )
    body = f"<TR><TD>{table}</TD></TR>" if rows else ""
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2">{lines}{body}</TABLE>>'


def legend_extent(heading: Iterable[Line], entries: Sequence[Entry]) -> tuple[float, float]:
    """Width and height of a legend, in points."""
    rows = [entries[i : i + ENTRIES_PER_ROW] for i in range(0, len(entries), ENTRIES_PER_ROW)]
    columns = [
        max(e.name.width + 30 for e in entries[i::ENTRIES_PER_ROW]) for i in range(min(ENTRIES_PER_ROW, len(entries)))
    ]
    width, height = extent(heading)
    return max(width, sum(columns)), height + len(rows) * ROW_HEIGHT
