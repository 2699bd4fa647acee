"""Labels for Graphviz, and how much room they take. All text of a spec passes through `dot_label`: it is data, never
markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from archdsl.backends.diagram.metrics import text_width
from archdsl.backends.diagram.picture import EdgeKind
from archdsl.common.escaping import dot_label, visible

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
        text = dot_label(cut(self.text))
        inner = f"<B>{text}</B>" if self.bold else text
        return f'<FONT POINT-SIZE="{self.size:g}" COLOR="{self.color}">{inner}</FONT>'

    @property
    def width(self) -> float:
        """Points, rather too many than too few: the font that a reader has is not known."""
        return text_width(cut(self.text), self.size, bold=self.bold)


Line = Sequence[Words]

LINE_HEIGHT = 1.2
"""The height of a line, as a multiple of its largest text."""


def cut(text: str, longest: int = LONGEST_LINE) -> str:
    """Text that prints, of bounded length."""
    text = visible(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def wrapped(pieces: Sequence[str], longest: int, most: int) -> list[str]:
    """Pieces, with commas between them, in lines of a length; what these have no room for is cut, marked by `…`."""
    lines: list[str] = []
    for piece in pieces if most else ():
        text = cut(piece, longest - 3)
        if lines and len(lines[-1]) + len(text) + 2 <= longest - (3 if len(lines) == most else 0):
            lines[-1] += f", {text}"
        elif len(lines) < most:
            lines[-1:] = [f"{lines[-1]},", text] if lines else [text]
        else:
            lines[-1] += ", …"
            break
    return lines


def broken(text: str, width: float) -> list[str]:
    """A text in lines of at most so many points, broken between its words."""
    lines: list[str] = []
    for word in visible(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, 9) <= width and len(longer) < LONGEST_LINE:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def label(lines: Iterable[Line], *, background: str = "") -> str:
    """Lines under each other; `background` is a colour under and around them."""
    rows = "".join(map(row, lines))
    found = table(rows, f' BGCOLOR="{background}"', padding=3) if background else table(rows)
    return f"<{found}>" if rows else ""


def row(line: Line) -> str:
    return f"<TR><TD>{''.join(words.markup for words in line)}</TD></TR>"


def table(rows: str, looks: str = "", *, spacing: int = 0, padding: int = 0) -> str:
    """A table of an HTML-like label, without lines."""
    spaces = f'CELLSPACING="{spacing}" CELLPADDING="{padding}"'
    return f'<TABLE BORDER="0" CELLBORDER="0" {spaces}{looks}>{rows}</TABLE>'


def extent(lines: Iterable[Line]) -> tuple[float, float]:
    """Width and height of lines under each other, in points."""
    found = list(lines)
    return (
        max((sum(w.width for w in line) for line in found), default=0),
        sum(LINE_HEIGHT * max(w.size for w in line) for line in found),
    )


# ---------------------------------------------------------------- legend


@dataclass(frozen=True, slots=True)
class Entry:
    """A patch of colour, or, with a `sign`, a stroke, and its name."""

    name: Words
    fill: str = ""
    border: str = ""
    sign: Words | None = None
    kind: EdgeKind = "flow"
    """The kind of arrow of which the stroke is an example."""

    @property
    def width(self) -> float:
        return self.name.width + 14 + 4 + ENTRY_GAP

    @property
    def cells(self) -> str:
        if not (self.sign or self.fill):  # words alone
            return f'<TD ALIGN="LEFT" COLSPAN="3">{self.name.markup}</TD><TD WIDTH="{ENTRY_GAP}"></TD>'
        if self.sign is not None:
            patch = f'<TD WIDTH="14">{self.sign.markup}</TD>'
        else:
            colours = f'BGCOLOR="{self.fill}" COLOR="{self.border}"'
            patch = f'<TD {colours} BORDER="1" WIDTH="14" HEIGHT="10" FIXEDSIZE="TRUE"></TD>'
        gap = f'<TD WIDTH="{ENTRY_GAP}"></TD>'
        return f'{patch}<TD WIDTH="4"></TD><TD ALIGN="LEFT">{self.name.markup}</TD>{gap}'


ENTRY_GAP = 12
ROW_HEIGHT = 15.0


@dataclass(frozen=True, slots=True)
class Legend:
    """The legend below a picture: lines of words, and rows of entries."""

    heading: Sequence[Line]
    rows: Sequence[Sequence[Entry]]

    @classmethod
    def within(cls, width: float, heading: Sequence[Line], entries: Sequence[Entry]) -> Legend:
        """The entries in rows that are not wider than a picture or than the heading."""
        room = max(width, extent(heading)[0])
        rows: list[list[Entry]] = []
        for entry in entries:
            if not rows or sum(e.width for e in rows[-1]) + entry.width > room:
                rows.append([])
            rows[-1].append(entry)
        return cls(heading, rows)

    @property
    def label(self) -> str:
        lines = [*map(row, self.heading), *(f"<TR><TD>{self._row(entries)}</TD></TR>" for entries in self.rows)]
        return f"<{table(''.join(lines), padding=1)}>"

    @staticmethod
    def _row(row: Sequence[Entry]) -> str:
        cells = "".join(entry.cells for entry in row)
        size = f' FIXEDSIZE="TRUE" WIDTH="{sum(e.width for e in row):.0f}" HEIGHT="{ROW_HEIGHT - 1:.0f}"'
        return table(f"<TR>{cells}</TR>", size)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, in points."""
        width, height = extent(self.heading)
        widths = [sum(e.width for e in row) for row in self.rows]
        return max([width, *widths]) + 2, height + 5 * len(self.heading) + ROW_HEIGHT * len(self.rows)
