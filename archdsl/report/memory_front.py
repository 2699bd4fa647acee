"""The costs of recomputation: training forms of a network, from the fastest to the smallest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from archdsl.common.choices import Budget
from archdsl.graph import Graph
from archdsl.graph.series import Part
from archdsl.report.plots import plotted
from archdsl.report.tables import Column, Table
from archdsl.transform.fitting import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    Column("peak", "peak", numeric=True, unit="bytes"),
    Column("memory", "of plain", numeric=True),
    Column("time", "time", numeric=True),
    Column("recomputed", "recomputed"),
)
BLUE = "#2f6db5"


def table(plans: Sequence[Plan]) -> Table:
    """A row for each form; the first is the plain one. `memory` and `time` are multiples of its own."""
    plain = plans[0].peak
    return Table(COLUMNS, [(p.peak, f"{p.peak / plain:.2f}", f"{p.time:.2f}", listed(p.again.parts)) for p in plans])


def as_data(plans: Sequence[Plan]) -> list[dict[str, object]]:
    """The forms for JSON: the peak in bytes, the time as a multiple, the paths of what is recomputed."""
    return [
        {"peak": p.peak, "time": round(p.time, 4), "recomputed": sorted(s.path for s in p.again.parts)} for p in plans
    ]


def listed(parts: Collection[Part]) -> str:
    """`layer1, layer2.0–2, layer3.1`; at most four of these."""
    paths = [s.path for s in sorted(parts, key=lambda s: next(n.id for n in s.nodes()))]
    runs: list[tuple[str, int | None, int | None]] = []
    for path in paths:
        head, _, last = path.rpartition(".")
        number = int(last) if last.isdecimal() else None
        if number is not None and runs and runs[-1][0] == head and runs[-1][2] == number - 1:
            runs[-1] = head, runs[-1][1], number
        else:
            runs.append((path, None, None) if number is None else (head, number, number))
    texts = [
        path if first is None else ".".join(filter(None, [path, str(first) if first == last else f"{first}–{last}"]))
        for path, first, last in runs
    ]
    return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "") or "nothing"


def notes(budget: Budget, at: str) -> list[str]:
    """Explains the columns; `at` are the sizes."""
    where = ", ".join(filter(None, [at, f"batch {budget.batch}", budget.dtype]))
    return [
        f"peak: bytes held at once in a training step with {budget.optimizer} ({where})",
        "time: an estimate by operations and bytes moved; both as multiples of the form that recomputes nothing",
        "`archdsl build --memory AMOUNT` writes the fastest form that fits",
    ]


def plot(graph: Graph, plans: Sequence[Plan], budget: Budget, form: str) -> bytes:
    """The front as a file of a format (`svg`, `png`, `pdf`). Raises ImportError if matplotlib is not installed."""

    def draw(figure: Figure) -> None:
        axis: Axes = figure.add_subplot()
        peaks, times = [p.peak / 2**30 for p in plans], [p.time for p in plans]
        axis.plot(peaks, times, "o-", color=BLUE, markersize=4, linewidth=1)
        axis.annotate("nothing recomputed", (peaks[0], times[0]), (-8, -4), textcoords="offset points", ha="right")
        axis.set_xlim(0, peaks[0] * 1.05)
        axis.set_xlabel("peak of a training step (GiB)")
        axis.set_ylabel("time of a step (estimate; nothing recomputed: 1)")
        axis.set_title(f"{graph.name}, batch {budget.batch}, {budget.dtype}, {budget.optimizer}", loc="left")
        axis.grid(True, color="#dddddd", linewidth=0.5)

    return plotted(draw, (6, 4), form)
