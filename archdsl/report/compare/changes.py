"""The results of a comparison: changes, matched nodes, and descriptions of their properties."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from archdsl import dims
from archdsl.analysis.costs import Analysis, Cost
from archdsl.diagnostics import visible
from archdsl.graph import Graph, Node, Scope, Tensor

Member: TypeAlias = Node | Scope

Kind = Literal["added", "removed", "changed", "rewired", "renamed"]

SIGNS: dict[Kind, str] = {"added": "+", "removed": "-", "changed": "~", "rewired": "~", "renamed": "="}


LONG_NUMBER = re.compile(r"-?\d+\.\d{4,}(e-?\d+)?")


@dataclass(frozen=True, slots=True)
class Detail:
    """A property that changed: a parameter of an operation, `inputs`, `size`, …, as texts."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        before, after = _apart(self.before, self.after)
        return f"{self.name}: {before} → {after}"


def _apart(before: str, after: str) -> tuple[str, str]:
    """Two texts, of numbers as many digits as tell them apart: `0.0182`, `0.013`."""
    if not (LONG_NUMBER.fullmatch(before) or LONG_NUMBER.fullmatch(after)):
        return before, after
    try:
        texts = [[f"{float(text):.{digits}g}" for text in (before, after)] for digits in (3, 6, 9, 12)]
    except ValueError:  # one of them is no number
        return before, after
    return next(((a, b) for a, b in texts if a != b), (before, after))


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One change of adjacent members in one scope: `before` or `after` is empty for added or removed members."""

    kind: Kind
    before: tuple[Member, ...]
    after: tuple[Member, ...]
    details: tuple[Detail, ...] = ()


@dataclass(slots=True, eq=False, repr=False)
class Comparison:
    """Two networks with their matched nodes: `pairs` from the ids before to those after.

    `follows` are pairs of equal operations whose sizes, costs or paths differ because of the changes. `placed` says of
    each removed member before which member of which new scope it was (None: at the end).
    """

    before: Graph
    after: Graph
    costs: tuple[Analysis, Analysis]
    changes: list[Change] = field(default_factory=list)
    pairs: dict[int, int] = field(default_factory=dict)
    follows: list[tuple[Node, Node]] = field(default_factory=list)
    placed: list[tuple[Member, Scope, Member | None]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Comparison of {self.before.name} and {self.after.name}: {self.kinds() or 'no changes'}>"

    def _repr_html_(self) -> str:
        from archdsl.report.compare.rendering import as_html  # which imports this module

        return as_html(self)

    def kinds(self) -> str:
        """The number of changes of each kind: `2 added, 1 changed`; empty for none."""
        found = Counter(c.kind for c in self.changes)
        return ", ".join(f"{found[k]} {k}" for k in SIGNS if found[k])

    def cost(self, members: Iterable[Member], side: Literal[0, 1]) -> Cost:
        return sum((self.costs[side][m] for m in members), Cost())

    def difference(self, change: Change) -> tuple[int, int]:
        """The parameters and MACs that a change adds; a rename adds none."""
        if change.kind == "renamed":
            return 0, 0
        old, new = self.cost(change.before, 0), self.cost(change.after, 1)
        return new.parameters - old.parameters, new.macs - old.macs


def results(node: Node) -> tuple[Tensor, ...]:
    return tuple(Tensor(node.id, i) for i in range(len(node.shapes)))


def found_shape(graph: Graph, member: Member) -> tuple[dims.Dim, ...]:
    """The size of the last output of a member; empty if it has none."""
    tensors = member.outputs if isinstance(member, Scope) else results(member)
    return graph.shape(tensors[-1]) if tensors else ()


def size_text(shape: Sequence[dims.Dim], graph: Graph) -> str:
    return " × ".join(dims.text(d, graph.sizes) for d in shape)


def rank(graph: Graph, node: Node) -> int:
    return max(len(graph.shape(node.inputs[0])) - 1, 1) if node.inputs else 1


def value_text(value: object, size: bool = False) -> str:
    """A parameter's value as in a spec, abbreviated; `size`: several ints are a size, as 3x3, and no list."""
    match value:
        case bool():
            text = str(value).lower()
        case None:
            text = "none"
        case tuple() if size and value and all(isinstance(v, int) for v in value):
            text = "x".join(map(str, value))
        case tuple():
            text = f"[{', '.join(map(value_text, value))}]"
        case _:
            text = str(value)
    text = visible(text)
    return text if len(text) <= 40 else text[:39] + "…"
