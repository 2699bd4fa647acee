"""The ways to train on bands of an image, as a table, as lines, and as data."""

from __future__ import annotations

from collections.abc import Sequence

from archdsl.common.units import bytes_text
from archdsl.planning.bands import BandPlan
from archdsl.report.tables import Column, Table


def table(plans: Sequence[BandPlan]) -> Table:
    """A row for each plan, the fastest first."""
    columns = (
        Column("rows", "rows of a rank", numeric=True),
        Column("exchanges", "exchanges", numeric=True),
        Column("sent_bytes", "sends", numeric=True, unit="bytes"),
        Column("again", "work done twice", numeric=True),
        Column("step", "step", numeric=True),
    )
    rows = []
    for plan in plans:
        most = max(stop - start for start, stop in plan.rows)
        rows.append((most, len(plan.exchanges), plan.sent, f"{plan.again:.1%}", f"{plan.seconds * 1e3:,.3g} ms"))
    return Table(columns, rows)


def lines(plans: Sequence[BandPlan]) -> list[tuple[str, str]]:
    """Pairs of a name and a text, below the table."""
    best = plans[0]
    rows = ", ".join(f"{start:,} – {stop:,}" for start, stop in best.rows[:4])
    found = [("rows by rank", rows + (" …" if len(best.rows) > 4 else ""))]
    if best.exchanges:
        names = ", ".join(exchange.node.path for exchange in best.exchanges[:4])
        found.append(("exchanges before", names + (" …" if len(best.exchanges) > 4 else "")))
        found.append(("sends", f"{bytes_text(best.sent)} a step, forward and back, for a sample"))
    return found


def as_data(plans: Sequence[BandPlan], name: str) -> dict[str, object]:
    """The plans for JSON."""
    return {
        "model": name,
        "bands": plans[0].ranks,
        "plans": [
            {
                "rows": [list(span) for span in plan.rows],
                "exchanges": [
                    {
                        "before": exchange.node.path,
                        "sent_rows": [[p.sender, p.receiver, p.start, p.stop] for p in exchange.pieces],
                    }
                    for exchange in plan.exchanges
                ],
                "sent_bytes": plan.sent,
                "again": plan.again,
                "seconds": plan.seconds,
            }
            for plan in plans
        ],
    }
