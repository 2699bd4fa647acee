"""Layers in series: each takes what the one before it gives, and nothing else takes that but for a skip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from archdsl.graph import Node, Scope, Tensor


@dataclass(frozen=True, slots=True)
class Series:
    """Members of a scope in order, or of scopes within it: the last ones of a block and the first ones of the next.

    One of them may be a concat of tensors from elsewhere, and of what flows through, behind an align of the same
    tensors. `given` is a tensor between two of them that is read elsewhere, too: a skip.
    """

    members: tuple[Node | Scope, ...]
    given: Tensor | None = None

    @property
    def scope(self) -> Scope:
        """The innermost scope around all of them."""
        around = [list(scope_of(m).calls()) for m in (self.members[0], self.members[-1])]
        return next(scope for scope in around[0] if scope in around[1])

    @property
    def crosses(self) -> bool:
        """Whether some of them are in scopes within."""
        return any(scope_of(member) is not self.scope for member in self.members)

    @property
    def ends(self) -> list[Scope]:
        """The scopes whose last layers are among them, while the scope around runs them."""
        around = self.scope
        return [scope for scope in scope_of(self.members[0]).calls() if around in list(scope.calls())[1:]]

    @property
    def begins(self) -> list[Scope]:
        """The scopes whose first layers are among them, while the scope around runs them."""
        around = self.scope
        return [scope for scope in scope_of(self.members[-1]).calls() if around in list(scope.calls())[1:]]

    @property
    def path(self) -> str:
        """From the first to the last one: `layer1.0.bn1…conv2`."""
        first, last = self.members[0], self.members[-1]
        if first is last:
            return first.path
        around = self.scope.path
        return f"{first.path}…{last.path.removeprefix(around).removeprefix('.')}"

    def nodes(self) -> Iterator[Node]:
        """The nodes inside, in order."""
        for member in self.members:
            yield from [member] if isinstance(member, Node) else member.nodes()

    @property
    def flow(self) -> Tensor:
        """The tensor that flows into the first one; the last of several that a concat takes."""
        return flows_into(self.members[0])[-1]

    def inflow(self) -> list[Tensor]:
        """The tensors that flow in from elsewhere, in the order in which a concat takes them."""
        found: list[Tensor] = []
        made: list[Tensor] = []
        for member in self.members:
            before = {made[0]: found, **{tensor: [] for tensor in made[1:]}} if made else {}
            found = [t for taken in flows_into(member) for t in before.get(taken, [taken])]
            made = made_by(member)
        return found

    @property
    def outflow(self) -> Tensor:
        """The tensor that flows out of the last one."""
        return flows_out_of(self.members[-1])


Part: TypeAlias = Scope | Series
"""A part of a network that can run again by itself."""


def flows_out_of(member: Node | Scope) -> Tensor:
    """The tensor that a member of a series gives, if it is no align."""
    return made_by(member)[0]


def made_by(member: Node | Scope) -> list[Tensor]:
    """The tensors that a member of a series gives: several ones if it is an align."""
    if isinstance(member, Scope):
        return list(member.outputs)
    return [Tensor(member.id, index) for index in range(len(member.shapes))]


def flows_into(member: Node | Scope) -> list[Tensor]:
    """The outside tensors that a member reads."""
    return list(dict.fromkeys(member.inputs)) if isinstance(member, Node) else member.inflow()


def scope_of(member: Node | Scope) -> Scope:
    """The scope that a member of a series is in."""
    if isinstance(member, Node):
        return member.scope
    assert member.parent is not None
    return member.parent
