"""Tables and their output formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal, TypeAlias

from archdsl.common.escaping import latex, markdown, visible
from archdsl.common.missing import named
from archdsl.common.units import bytes_text, count_text

if TYPE_CHECKING:
    from pandas import DataFrame

Cell: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: `key` is its name in data, `title` its heading.

    `unit` is the unit of its numbers, if they may be abbreviated; `signed` numbers are differences. Where there is no
    room, the column with the highest `rank` is left out first, one of rank 0 never; `prose` may take several lines, any
    other text only if all else fails. A line may end behind each character of `breaks`.
    """

    key: str
    title: str
    numeric: bool = False
    unit: Literal["", "count", "bytes"] = ""
    rank: int = 0
    prose: bool = False
    breaks: str = " "
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, one per column; `total` is a separate last row, or empty."""

    columns: tuple[Column, ...]
    rows: Sequence[tuple[Cell, ...]] = field(repr=False)
    total: tuple[Cell, ...] = ()

    def as_data(self) -> list[dict[str, Cell]]:
        """The rows for JSON, without the totals."""
        return [dict(zip((c.key for c in self.columns), row, strict=True)) for row in self.rows]

    def as_csv(self) -> str:
        """The rows as CSV (RFC 4180, but with LF line endings), without the totals."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([c.key for c in self.columns])
        writer.writerows([_harmless(cell) for cell in row] for row in self.rows)
        return out.getvalue()

    def as_text(self) -> str:
        """The table as plain text: aligned columns two spaces apart, never wrapped (`fitting` keeps to a width)."""
        from archdsl.report.fitting import fitted  # which imports this module

        return fitted(self)[0]

    def as_markdown(self) -> str:
        """The table as GitHub Markdown."""
        aligned = [" ---: " if c.numeric else " --- " for c in self.columns]
        cells = [[markdown(c) for c in self._texts(row)] for row in (*self.rows, *self._totals())]
        lines = [[f" {c.title} " for c in self.columns], aligned, *([f" {c} " for c in row] for row in cells)]
        return "".join(f"|{'|'.join(line)}|\n" for line in lines)

    def as_html(self) -> str:
        """The table as an HTML table."""
        rows = [self._html(tuple(c.title for c in self.columns), "th"), *(self._html(row, "td") for row in self.rows)]
        rows += [self._html(row, "th") for row in self._totals()]
        return f"<table>{''.join(rows)}</table>"

    def _html(self, cells: Sequence[Cell], tag: str) -> str:
        sides = ["right" if column.numeric else "left" for column in self.columns]
        return "<tr>{}</tr>".format(
            "".join(
                f'<{tag} style="text-align: {side}">{escape(text)}</{tag}>'
                for side, text in zip(sides, self._texts(cells), strict=True)
            )
        )

    def _repr_html_(self) -> str:
        return self.as_html()

    def to_pandas(self) -> DataFrame:
        """The rows as a DataFrame, without the totals. Raises ImportError if pandas is not installed."""
        with named():
            from pandas import DataFrame  # slow, and not required

        return DataFrame(self.as_data(), columns=[c.key for c in self.columns])

    def as_latex(self) -> str:
        """The table as LaTeX (needs booktabs), in UTF-8."""
        lines = [" & ".join(map(latex, self._texts(row))) + r" \\" for row in self.rows]
        if self.total:
            lines += [r"\midrule", " & ".join(map(latex, self._texts(self.total))) + r" \\"]
        columns = "".join("r" if c.numeric else "l" for c in self.columns)
        titles = " & ".join(latex(c.title) for c in self.columns) + r" \\"
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                titles,
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                "",
            ]
        )

    def only(self, keys: Sequence[str]) -> Table:
        """The columns of these keys, in this order. Raises ValueError if there is no such column."""
        places = {column.key: i for i, column in enumerate(self.columns)}
        if unknown := [key for key in keys if key not in places]:
            raise ValueError(f"there is no column {unknown[0]!r}; the columns are {', '.join(places)}")
        kept = [places[key] for key in dict.fromkeys(keys)]
        rows = [tuple(row[i] for i in kept) for row in self.rows]
        total = tuple(self.total[i] for i in kept) if self.total else ()
        return Table(tuple(self.columns[i] for i in kept), rows, total)

    def _totals(self) -> Iterator[tuple[Cell, ...]]:
        if self.total:
            yield self.total

    def _texts(self, cells: Sequence[Cell]) -> list[str]:
        return [shown(column, cell) for column, cell in zip(self.columns, cells, strict=True)]

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = (
            cell.rjust(width) if column.numeric else cell.ljust(width)
            for cell, width, column in zip(cells, widths, self.columns, strict=True)
        )
        return "  ".join(padded).rstrip()


def shown(column: Column, cell: Cell) -> str:
    """`25,557,032`, `+1,234` in a column of differences."""
    if isinstance(cell, str):
        return visible(cell)
    return f"{cell:+,}" if column.signed else f"{cell:,}"


def short(column: Column, cell: Cell) -> str:
    """`25.6 M`, `97.7 MiB`, `+1.23 k`."""
    if isinstance(cell, str) or not column.unit:
        return shown(column, cell)
    text = bytes_text(abs(cell)) if column.unit == "bytes" else count_text(abs(cell))
    return f"-{text}" if cell < 0 else f"+{text}" if column.signed else text


def _harmless(cell: Cell) -> Cell:
    """Prevents a spreadsheet from evaluating text as a formula, with a leading apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
