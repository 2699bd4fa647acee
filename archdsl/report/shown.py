"""The result of `show` as a value: text, a table, HTML for notebooks, pandas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from archdsl.common.choices import Units
from archdsl.report import summary, totals
from archdsl.report.fitting import too_wide
from archdsl.report.layers import Layers
from archdsl.report.tables import Table

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The numbers of one network by layer, or of several networks by model; shows itself in a notebook.

    `head` is above the table, `notes` explain its columns, `totals` are pairs of a name and a text.
    """

    head: str
    table: Table
    notes: Sequence[str]
    totals: Sequence[tuple[str, str]] = ()

    def total_lines(self) -> list[str]:
        width = max((len(name) for name, _ in self.totals), default=0)
        return [f"{name:{width}}  {text}" for name, text in self.totals]

    def __str__(self) -> str:
        parts = (self.notes, self.total_lines())
        below = "".join("\n" + "".join(f"{line}\n" for line in part) for part in parts if part)
        return f"{self.head}{self.table.as_text()}{below}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        below = escape("\n".join([*self.notes, "", *self.total_lines()]).strip())
        return f"<pre>{escape(self.head.rstrip())}</pre>{self.table.as_html()}<pre>{below}</pre>"

    def to_pandas(self) -> DataFrame:
        """The table as a DataFrame; needs pandas."""
        return self.table.to_pandas()


def report(models: Sequence[Layers], width: int | None = None, units: Units = "auto") -> Report:
    """One row for each layer of a network, or one for each of several networks.

    Where the formulas of free sizes are wider than `width` characters, the table has numbers at the example sizes.
    Raises ValueError if a column of the options does not exist.
    """
    if len(models) > 1:
        return Report("", totals.side_by_side(models), totals.notes(models))
    (model,) = models
    head = f"{summary.summary(model.graph)}\n{summary.augmentation(model.graph)}\n"
    table, notes = model.table, model.notes
    if (
        width is not None
        and model.graph.examples.keys() - (model.options.sizes or {})
        and too_wide(table, width, units)
    ):
        table = Layers(model.graph, replace(model.options, sizes=model.sizes)).table
        notes = [f"sizes and amounts at {model.at}, for lack of room (--size gives others)", *notes]
    return Report(head, table, notes, model.totals())
