"""Members of a scope in series: each takes what the one before it gives, and nothing else takes that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from archdsl.graph import Node, Scope, Tensor


@dataclass(frozen=True, slots=True)
class Series:
    """Members of one scope, in order."""

    members: tuple[Node | Scope, ...]

    @property
    def scope(self) -> Scope:
        """The scope whose members they are."""
        first = self.members[0]
        if isinstance(first, Node):
            return first.scope
        assert first.parent is not None
        return first.parent

    @property
    def path(self) -> str:
        """From the first to the last one: `layer1.0.bn1…conv2`."""
        first, last = self.members[0], self.members[-1]
        return first.path if first is last else f"{first.path}…{last.name}"

    def nodes(self) -> Iterator[Node]:
        """The nodes inside, in order."""
        for member in self.members:
            yield from [member] if isinstance(member, Node) else member.nodes()

    def inflow(self) -> list[Tensor]:
        """The tensor that flows into the first one."""
        return flows_into(self.members[0])

    @property
    def outflow(self) -> Tensor:
        """The tensor that flows out of the last one."""
        return flows_out_of(self.members[-1])


Part: TypeAlias = Scope | Series
"""A part of a network that can run again by itself."""


def flows_out_of(member: Node | Scope) -> Tensor:
    """The tensor that a member of a series gives."""
    return Tensor(member.id) if isinstance(member, Node) else member.outputs[0]


def flows_into(member: Node | Scope) -> list[Tensor]:
    """The outside tensors that a member reads."""
    return list(dict.fromkeys(member.inputs)) if isinstance(member, Node) else member.inflow()
