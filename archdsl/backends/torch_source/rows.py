"""Members whose names end in numbers from 0 on, which stand in an nn.ModuleList."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source.fold import Entry, Leaf, leaves
from archdsl.backends.torch_source.names import is_attribute
from archdsl.backends.torch_source.plan import Plan
from archdsl.ops.forms import ParameterForm


@dataclass(slots=True, eq=False)
class Row:
    """Members under `name.0`, `name.1`, …; one that is called `name.1.0` is alone in an nn.Sequential."""

    name: str
    leaves: list[Leaf] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)


def find_rows(plan: Plan, entries: Sequence[Entry], has_member: Callable[[Leaf], bool]) -> dict[Leaf, Row]:
    """The rows of a class, by their members. All that begins with a row's name belongs to it, in order, with no gap."""
    found: dict[str, Row] = {}
    other: set[str] = set()
    closed: set[str] = set()
    for entry in entries:
        if not isinstance(entry, Leaf):  # what stands behind a condition or loop may need what that makes
            other.update(step.name.split(".")[0] for leaf in leaves([entry]) for step in leaf.steps)
            closed.update(found)
            continue
        label = plan.made[entry].name
        if not label or not has_member(entry):
            continue
        name, *numbers = entry.steps[0].name.split(".")
        row = found.setdefault(name, Row(name))
        is_next = numbers in ([str(len(row.leaves))], [str(len(row.leaves)), "0"])
        if (
            name in closed
            or label != [entry.steps[0].name]
            or not is_next
            or isinstance(plan.made[entry].form, ParameterForm)
        ):
            other.add(name)
        row.leaves.append(entry)
        row.alone.append(len(numbers) == 2)
    rows = [row for row in found.values() if row.name not in other and is_attribute(row.name)]
    return {leaf: row for row in rows for leaf in row.leaves}
