"""Columns: the arrows of lines that the author has aligned, and the entries of tables.

Only what the author has aligned is a column: two neighbouring rows with a word at the same place, and several spaces
before one of them. The spaces are then counted anew, so the column stays straight when an entry grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

from archdsl.formatting.pieces import Bracket, Item, Link, Word

WIDTH: Final = 120
"""The longest line, in characters. A comment, a string or a name may exceed it."""


@dataclass(slots=True, eq=False)
class _Cell:
    """A link of a chain or an entry of a list; `start` is its column in the author's text."""

    link: Link
    number: bool
    space: int
    """The spaces before it."""

    @property
    def width(self) -> int:
        return len(self.link.flat or "")

    @property
    def start(self) -> int:
        return self.link.column


_Row: TypeAlias = list[_Cell]


def align(bracket: Bracket, indent: int) -> None:
    """Puts spaces into the one-line texts of the items of a bracket whose items are on lines of their own."""
    if bracket.role == "body":
        for run in _runs(bracket.items, _chain, indent):
            _align(run)
            for item, row in run:
                texts = (f"{' ' * cell.space}-> {cell.link.flat}" for cell in row[1:])
                _put(item, (row[0].link.flat or "") + "".join(texts), indent)
    elif bracket.role == "list":
        for run in _runs(bracket.items, _table_row, indent):
            _align(run)
            for item, row in run:
                texts = (f"{' ' * cell.space}{cell.link.flat}" for cell in row)
                _put(item, f"[{','.join(texts)}]", indent)


def _put(item: Item, text: str, indent: int) -> None:
    if indent + len(text) < WIDTH:
        item.flat = text


def _runs(
    items: Iterable[Item], row_of: Callable[[Item], _Row | None], indent: int
) -> Iterator[list[tuple[Item, _Row]]]:
    """The runs of neighbouring lines that are rows with an aligned column."""
    run: list[tuple[Item, _Row]] = []
    for item in items:
        row = row_of(item) if item.flat is not None and indent + len(item.flat) < WIDTH else None
        if row is None or item.blank or item.before:
            yield from [run] if _padded(run) else []
            run = []
        if row is not None:
            run.append((item, row))
    yield from [run] if _padded(run) else []


def _padded(run: Iterable[tuple[Item, _Row]]) -> bool:
    return any(cell.link.padded for _, row in run for cell in row)


def _chain(item: Item) -> _Row | None:
    """The links of a chain."""
    if len(item.links) < 2:
        return None
    return [_Cell(link, False, int(index > 0)) for index, link in enumerate(item.links)]


def _table_row(item: Item) -> _Row | None:
    """The entries of a list in a list."""
    parts = item.links[0].parts if len(item.links) == 1 else []
    if len(parts) != 1 or not isinstance(parts[0], Bracket) or parts[0].role != "list":
        return None
    links = [entry.links[0] for entry in parts[0].items]
    return [_Cell(link, _is_number(link), int(index > 0)) for index, link in enumerate(links)]


def _is_number(link: Link) -> bool:
    kinds = [part.kind for part in link.parts if isinstance(part, Word)]
    return len(kinds) == len(link.parts) and kinds[-1] in ("INT", "FLOAT") and kinds[:-1] in ([], ["UNARY"])


def _align(run: Sequence[tuple[Item, _Row]]) -> None:
    """Decides the spaces before each cell."""
    rows = [row for _, row in run]
    ends = {id(row): 0 for row in rows}
    for column in range(max(map(len, rows))):
        group: list[_Row] = []
        for row in [*rows, []]:
            if len(row) > column:
                group.append(row)
                continue
            _align_column(group, column, ends)
            group = []


def _align_column(rows: list[_Row], column: int, ends: dict[int, int]) -> None:
    """Aligns the cells of a column in neighbouring rows; numbers at their ends. `ends` are the ends of the texts."""
    cells = [row[column] for row in rows]
    starts = [ends[id(row)] + cell.space for row, cell in zip(rows, cells, strict=True)]
    if any(_meant(a, b) for a, b in pairwise(cells)):
        numbers = all(cell.number for cell in cells)
        widths = [cell.width if numbers else 0 for cell in cells]
        edge = max(start + width for start, width in zip(starts, widths, strict=True))
        for index, cell in enumerate(cells):
            cell.space += edge - widths[index] - starts[index]
            starts[index] = edge - widths[index]
    for row, cell, start in zip(rows, cells, starts, strict=True):
        ends[id(row)] = start + cell.width + 1


def _meant(above: _Cell, below: _Cell) -> bool:
    """Whether the author has aligned two cells, one above the other."""
    if not (above.link.padded or below.link.padded):
        return False
    same_end = above.number and below.number and above.start + above.width == below.start + below.width
    return above.start == below.start or same_end
