"""The results of nested blocks that stay in the variable that a `forward` returns."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.common.threads import cached_property
from archdsl.graph import Graph, Node, Scope, Tensor


@dataclass(frozen=True, eq=False)
class Carried:
    """The results of nested blocks of a graph that stay in one variable."""

    graph: Graph

    def by(self, scope: Scope) -> tuple[Tensor, ...]:
        """The results inside a block with which another call of it ends, like the innermost level of a U."""
        if scope.definition is None:
            return ()
        count = len(scope.members)
        shorter = {n: e for n, e in self.endings[id(scope.definition.syntax)].items() if n < count}
        own = _signature(scope) if shorter else ()
        for length, endings in shorter.items():
            if own[:length] in endings:
                member = scope.members[length - 1]
                return (Tensor(member.id),) if isinstance(member, Node) else member.outputs
        return ()

    @cached_property
    def endings(self) -> dict[int, dict[int, set[tuple[object, ...]]]]:
        """The members of all calls of each block that end with the result of their last one, by their number."""
        found: dict[int, dict[int, set[tuple[object, ...]]]] = {}
        for scope in self.graph.root.scopes():
            if scope.definition is None:
                continue
            by_length = found.setdefault(id(scope.definition.syntax), {})
            last = scope.members[-1] if scope.members else None
            if last and scope.outputs == ((Tensor(last.id),) if isinstance(last, Node) else last.outputs):
                by_length.setdefault(len(scope.members), set()).add(_signature(scope))
        return found


def _signature(scope: Scope) -> tuple[object, ...]:
    """The contents of a scope, by names and kinds."""
    return tuple(
        (m.name, m.operation.name if isinstance(m, Node) else m.definition and m.definition.name) for m in scope.members
    )
