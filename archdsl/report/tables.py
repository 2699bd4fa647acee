"""Tables and their output formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal, TypeAlias

from archdsl.common.escaping import latex, markdown, visible
from archdsl.common.units import bytes_text, count_text

if TYPE_CHECKING:
    from pandas import DataFrame

Cell: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: `key` is its name in data, `title` its heading.

    `unit` is the unit of its numbers, if they may be abbreviated.
    """

    key: str
    title: str
    numeric: bool = False
    unit: Literal["", "count", "bytes"] = ""


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
        """The table as plain text: aligned columns two spaces apart, never wrapped."""
        titles = tuple(c.title for c in self.columns)
        lines = [titles, *([_shown(cell) for cell in row] for row in (*self.rows, *self._totals()))]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        rule = ["-" * width for width in widths]
        lines.insert(1, rule)
        if self.total:
            lines.insert(len(lines) - 1, rule)
        return "\n".join(self._line(cells, widths) for cells in lines) + "\n"

    def as_markdown(self) -> str:
        """The table as GitHub Markdown."""
        aligned = [" ---: " if c.numeric else " --- " for c in self.columns]
        cells = [[markdown(_shown(c)) for c in row] for row in (*self.rows, *self._totals())]
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
                f'<{tag} style="text-align: {side}">{escape(_shown(cell))}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            )
        )

    def _repr_html_(self) -> str:
        return self.as_html()

    def to_pandas(self) -> DataFrame:
        """The rows as a DataFrame, without the totals. Raises ImportError if pandas is not installed."""
        from pandas import DataFrame  # slow, and not required

        return DataFrame(self.as_data(), columns=[c.key for c in self.columns])

    def as_latex(self) -> str:
        """The table as LaTeX (needs booktabs), in UTF-8."""
        lines = [" & ".join(latex(_shown(c)) for c in row) + r" \\" for row in self.rows]
        if self.total:
            lines += [r"\midrule", " & ".join(latex(_shown(c)) for c in self.total) + r" \\"]
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

    def print_rich(self) -> None:
        """The table on a terminal, fitted to its width: numbers are abbreviated before they are wrapped."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        console = Console()
        rows = [*self.rows, *self._totals()]
        needed = sum(max((len(_shown(row[i])) for row in rows), default=0) + 2 for i in range(len(self.columns)))
        short = needed > console.width
        table = RichTable(box=box.SIMPLE_HEAD, show_footer=bool(self.total), pad_edge=False, header_style="bold")

        def cell(column: Column, value: Cell) -> str:
            return _short(column, value) if short else _shown(value)

        for column, total in zip(self.columns, self.total or ("",) * len(self.columns), strict=True):
            title = column.title.removesuffix(" (bytes)") if short and column.unit == "bytes" else column.title
            footer = Text(cell(column, total), style="bold")
            table.add_column(title, footer, justify="right" if column.numeric else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell(c, value)) for c, value in zip(self.columns, row, strict=True)))
        console.print(table)

    def _totals(self) -> Iterator[tuple[Cell, ...]]:
        if self.total:
            yield self.total

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = (
            cell.rjust(width) if column.numeric else cell.ljust(width)
            for cell, width, column in zip(cells, widths, self.columns, strict=True)
        )
        return "  ".join(padded).rstrip()


def _shown(cell: Cell) -> str:
    return f"{cell:,}" if isinstance(cell, int) else visible(cell)


def _short(column: Column, cell: Cell) -> str:
    """`25.6 M`, `97.7 MiB`."""
    if isinstance(cell, str) or not column.unit:
        return _shown(cell)
    return bytes_text(cell) if column.unit == "bytes" else count_text(cell)


def _harmless(cell: Cell) -> Cell:
    """Prevents a spreadsheet from evaluating text as a formula, with a leading apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
