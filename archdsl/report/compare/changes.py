"""What a comparison finds: changes, and which nodes of two networks stand for each other; facts of these as texts."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Detail:
    """A fact that changed: a parameter of an operation, `inputs`, `size`, …, as texts."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name}: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One change. `before` and `after` are the members that it concerns, neighbours in one scope; one is empty where
    something was added or removed."""

    kind: Kind
    before: tuple[Member, ...]
    after: tuple[Member, ...]
    details: tuple[Detail, ...] = ()


@dataclass(slots=True, eq=False, repr=False)
class Comparison:
    """Two networks, with the nodes that stand for each other: `pairs` from the ids before to those after.

    `follows` are pairs of equal operations whose sizes, costs or paths are others because of the changes. `placed`
    says of each removed member in front of which member of which scope of the network after it stood (None: at the
    end).
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

    def kinds(self) -> str:
        """How many changes of each kind there are: `2 added, 1 changed`; empty for none."""
        found = Counter(c.kind for c in self.changes)
        return ", ".join(f"{found[k]} {k}" for k in SIGNS if found[k])

    def cost(self, members: Iterable[Member], side: Literal[0, 1]) -> Cost:
        return sum((self.costs[side][m] for m in members), Cost())

    def difference(self, change: Change) -> tuple[int, int]:
        """How many parameters and MACs a change adds; a new name adds none."""
        if change.kind == "renamed":
            return 0, 0
        old, new = self.cost(change.before, 0), self.cost(change.after, 1)
        return new.parameters - old.parameters, new.macs - old.macs


def results(node: Node) -> tuple[Tensor, ...]:
    return tuple(Tensor(node.id, i) for i in range(len(node.shapes)))


def found_shape(graph: Graph, member: Member) -> tuple[dims.Dim, ...]:
    """The size of the last tensor that a member gives; empty for one that gives none."""
    tensors = member.outputs if isinstance(member, Scope) else results(member)
    return graph.shape(tensors[-1]) if tensors else ()


def size_text(shape: Sequence[dims.Dim], graph: Graph) -> str:
    return " × ".join(dims.text(d, graph.sizes) for d in shape)


def rank(graph: Graph, node: Node) -> int:
    return max(len(graph.shape(node.inputs[0])) - 1, 1) if node.inputs else 1


def value_text(value: object) -> str:
    """A parameter's value as a spec writes it, short."""
    match value:
        case bool():
            text = str(value).lower()
        case None:
            text = "none"
        case tuple() if value and all(isinstance(v, int) for v in value):
            text = "x".join(map(str, value))
        case _:
            text = str(value)
    text = visible(text)
    return text if len(text) <= 40 else text[:39] + "…"
