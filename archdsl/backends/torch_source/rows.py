"""Members with dots in their names, which are in an nn.ModuleList or an nn.ModuleDict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from archdsl.backends.torch_source.fold import Entry, Leaf, leaves
from archdsl.backends.torch_source.names import is_attribute, is_owned
from archdsl.backends.torch_source.plan import Plan
from archdsl.ops.forms import ParameterForm

Parts: TypeAlias = "dict[str, Leaf | Parts]"


@dataclass(slots=True, eq=False)
class Row:
    """Members under `name.0`, `name.1`, …, or `name.left`, …: all members of one attribute.

    `parts` are what they are called there, with those of further dots within.
    """

    name: str
    leaves: list[Leaf] = field(default_factory=list)
    parts: Parts = field(default_factory=dict)

    def put(self, pieces: Sequence[str], leaf: Leaf) -> bool:
        """Takes a member of this name; False if it does not fit."""
        self.leaves.append(leaf)
        parts = self.parts
        for piece in pieces[:-1]:
            inner = parts.setdefault(piece, {})
            if not isinstance(inner, dict):
                return False
            parts = inner
        if not pieces or pieces[-1] in parts or any(map(is_owned, pieces)):
            return False
        parts[pieces[-1]] = leaf
        return True


def is_list(parts: Parts) -> bool:
    """Whether parts are called 0, 1, … in order."""
    return [*parts] == [str(i) for i in range(len(parts))]


def alone(part: Leaf | Parts) -> Leaf | None:
    """The only member of a part that is called 0: what an nn.Sequential has."""
    if isinstance(part, Leaf) or [*part] != ["0"]:
        return None
    return part["0"] if isinstance(part["0"], Leaf) else None


def find_rows(plan: Plan, entries: Sequence[Entry], has_member: Callable[[Leaf], bool]) -> dict[Leaf, Row]:
    """The rows of a class, by their members. All that begins with a row's name belongs to it."""
    found: dict[str, Row] = {}
    other: set[str] = set()
    closed: set[str] = set()
    for entry in entries:
        if not isinstance(entry, Leaf):  # later entries may need what a condition or loop makes
            other.update(step.name.split(".")[0] for leaf in leaves([entry]) for step in leaf.steps)
            closed.update(found)
            continue
        label = plan.made[entry].name
        if not label or not has_member(entry):
            continue
        name, *pieces = entry.steps[0].name.split(".")
        fits = found.setdefault(name, Row(name)).put(pieces, entry)
        is_steady = label == [entry.steps[0].name] and not isinstance(plan.made[entry].form, ParameterForm)
        if name in closed or not (fits and is_steady):
            other.add(name)
    rows = [row for row in found.values() if row.name not in other and is_attribute(row.name)]
    return {leaf: row for row in rows for leaf in row.leaves}
