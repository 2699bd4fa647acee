"""A comparison as text: a table of its changes, totals, and JSON data."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from archdsl.analysis.costs import Analysis
from archdsl.graph import Graph, Node, Scope
from archdsl.report.compare.changes import SIGNS, Change, Comparison, Member, found_shape, rank, results, size_text
from archdsl.report.compare.sizes import alike
from archdsl.report.layers import listed
from archdsl.report.tables import Cell, Column, Table

COLUMNS = (
    Column("change", "change"),
    Column("path", "path", prose=True, breaks=" ."),
    Column("what", "what", prose=True),
    Column("output", "output size", rank=3),
    Column("parameters", "parameters", numeric=True, unit="count", rank=1, signed=True),
    Column("macs", "MACs", numeric=True, unit="count", rank=2, signed=True),
)


def described(graph: Graph, members: Sequence[Member]) -> str:
    """`conv 3×3, 64 · batchnorm`, `2 × basic`."""
    words = []
    for m in members:
        if isinstance(m, Node):
            words.append(m.operation.caption(rank(graph, m)))
        else:
            words.append(m.definition.name if m.definition is not None and m.kind == "block" else m.name or "body")
    period = next(p for p in range(1, len(words) + 1) if words == words[:p] * (len(words) // p))
    if period <= 4 and period < len(words):
        unit = " · ".join(words[:period])
        return f"{len(words) // period} × {unit if period == 1 else f'({unit})'}"
    runs = [(word, len(list(run))) for word, run in groupby(words)]
    shown = [word if count == 1 else f"{count} × {word}" for word, count in runs]
    return " · ".join(shown if len(shown) <= 6 else [*shown[:5], f"{len(shown) - 5} more"])


def paths(members: Sequence[Member]) -> str:
    """`layer1.2`, `layer3.4 … layer3.22`."""
    named = [m.path or m.name for m in members]
    return named[0] if len(named) == 1 else f"{named[0]} … {named[-1]}"


def table(found: Comparison) -> Table:
    """One row per change."""
    rows: list[tuple[Cell, ...]] = []
    for change in found.changes:
        parameters, macs = found.difference(change)
        old, new = (paths(m) if m else "" for m in (change.before, change.after))
        what = "; ".join(map(str, change.details))
        if not what:
            what = described(found.after if change.after else found.before, change.after or change.before)
        root = change.after[:1] == (found.after.root,)
        rows.append(
            (
                f"{SIGNS[change.kind]} {change.kind}",
                old if not new or old == new else new if not old else f"{old} → {new}",
                what,
                _sizes(found, change),
                "" if root else parameters or "",
                "" if root else macs or "",
            )
        )
    return Table(COLUMNS, rows)


def _sizes(found: Comparison, change: Change) -> str:
    """The result sizes as numbers: formulas are too wide for a table."""
    texts = []
    for costs, members in zip(found.costs, (change.before, change.after), strict=True):
        for member in members[-1:]:
            tensors = member.outputs if isinstance(member, Scope) else results(member)
            texts += [" × ".join(map(str, costs.shape(t))) for t in tensors[-1:]]
    return " → ".join(dict.fromkeys(texts))


def signed(number: int) -> str:
    return f"{number:+,}" if number else ""


def totals(found: Comparison) -> list[tuple[str, str]]:
    """The totals of both networks, as pairs of a name and a text."""
    old, new = (costs.total for costs in found.costs)
    lines = [
        (name, f"{a:,} → {b:,} ({signed(b - a) or 'the same'})")
        for name, a, b in (("parameters", old.parameters, new.parameters), ("MACs", old.macs, new.macs))
    ]
    unknown = [n.path for costs in found.costs for n in costs.uncounted()]
    if unknown:
        lines.append(("unknown", f"the MACs of {listed(list(dict.fromkeys(unknown)))}, which count as 0 here"))
    if len({tuple(costs.sizes.items()) for costs in found.costs}) > 1 and not alike(*found.costs):
        at = (", ".join(f"{name} = {size}" for name, size in costs.sizes.items()) or "fixed" for costs in found.costs)
        lines.append(("compared at", f"{' → '.join(at)}: no input size is valid for both"))
    valid = [g.valid or "fixed" for g in (found.before, found.after)]
    if valid[0] != valid[1]:
        lines.append(("valid sizes", f"{valid[0]} → {valid[1]}"))
    lines.append(("changes", found.kinds() or "none"))
    if found.follows:
        moved = sum(a.path != b.path for a, b in found.follows)
        keys = f"; {moved} with another path" if moved else ""
        lines.append(("follow", f"{len(found.follows)} layers whose size, cost or path changes as a result{keys}"))
    return lines


def as_html(found: Comparison) -> str:
    """The changes as a table, and the totals below it, for a notebook."""
    lines = "\n".join(f"{name}: {text}" for name, text in totals(found))
    return f"{table(found).as_html() if found.changes else ''}<pre>{escape(lines)}</pre>"


def as_data(found: Comparison) -> dict[str, object]:
    """The comparison for JSON."""

    def side(graph: Graph, costs: Analysis, members: Sequence[Member]) -> list[dict[str, object]]:
        return [
            {
                "path": m.path,
                "what": described(graph, [m]),
                "output": size_text(found_shape(graph, m), graph),
                "parameters": costs[m].parameters,
                "macs": costs[m].macs,
                "line": m.span.line,
                "file": m.span.source.name,
            }
            for m in members
        ]

    changes = []
    for change in found.changes:
        parameters, macs = found.difference(change)
        changes.append(
            {
                "kind": change.kind,
                "before": side(found.before, found.costs[0], change.before),
                "after": side(found.after, found.costs[1], change.after),
                "details": [{"name": d.name, "before": d.before, "after": d.after} for d in change.details],
                "parameters": parameters,
                "macs": macs,
            }
        )
    return {
        **{
            key: {
                "model": g.name,
                "valid_sizes": g.valid,
                "at": dict(costs.sizes),
                "parameters": costs.total.parameters,
                "macs": costs.total.macs,
            }
            for key, g, costs in (
                ("before", found.before, found.costs[0]),
                ("after", found.after, found.costs[1]),
            )
        },
        "changes": changes,
        "follows": [
            {
                "before": side(found.before, found.costs[0], [a])[0],
                "after": side(found.after, found.costs[1], [b])[0],
            }
            for a, b in found.follows
        ],
        "moved": {a.path: b.path for a, b in found.follows if a.path != b.path},
    }
