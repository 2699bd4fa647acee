"""The differences between two networks: layers and blocks that were added, removed or changed, and their cost.

Scopes are aligned from the model down, members by their structure and labels, like lines of text in a diff: an inserted
layer is one change, although everything after it moves. Consequences of a change (sizes, costs, positions of unlabelled
layers) are listed separately.
"""

from __future__ import annotations

from archdsl.analysis.costs import Analysis
from archdsl.report.compare.align import Aligner
from archdsl.report.compare.changes import Change, Comparison, Detail, Member
from archdsl.report.compare.details import Details
from archdsl.report.compare.rendering import as_data, described, paths, table, totals
from archdsl.report.compare.sizes import common_sizes

__all__ = [
    "Change",
    "Comparison",
    "Detail",
    "Member",
    "as_data",
    "common_sizes",
    "compare",
    "described",
    "paths",
    "table",
    "totals",
]


def compare(costs_before: Analysis, costs_after: Analysis) -> Comparison:
    """The differences between two checked networks, with their costs."""
    found = Comparison(costs_before.graph, costs_after.graph, (costs_before, costs_after))
    Aligner(found).run()
    Details(found).run()
    order = {id(m): n for n, m in enumerate(found.after.root.walk())}
    anchors = {id(m): order.get(id(anchor), len(order)) for m, _, anchor in found.placed}

    def place(change: Change) -> float:
        return order[id(change.after[0])] if change.after else anchors[id(change.before[0])] - 0.5

    found.changes.sort(key=place)
    return found
