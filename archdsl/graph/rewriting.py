"""Makes a graph from another one: copies and changes its scopes and nodes in order, and verifies the result."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from archdsl.graph import Graph, Node, Output, Scope, Tensor
from archdsl.graph.verifying import verify


@dataclass(slots=True, eq=False)
class Rewriting:
    """A graph under construction. Members must come in the order of `Scope.members`, outer before inner."""

    nodes: list[Node] = field(default_factory=list)
    scopes: dict[Scope, Scope] = field(default_factory=dict)
    """The copied scopes and their copies."""
    origins: list[int] = field(default_factory=list)
    """The ids of the nodes that were copied."""
    paths: set[str] = field(default_factory=set)
    """The paths of what was copied."""

    def open(self, scope: Scope, within: Scope | None = None, **changes: Any) -> Scope:
        """Copies a scope, without its members, into the copy of `within`, or of its parent."""
        around = within or scope.parent
        parent = self.scopes[around] if around is not None else None
        copy = self.scopes[scope] = replace(scope, parent=parent, members=[], **self._shared(scope, changes))
        if parent is not None:
            parent.members.append(copy)
        return copy

    def place(self, node: Node, inputs: Iterable[Tensor], within: Scope | None = None, **changes: Any) -> Node:
        """Copies a node, with these tensors of the new graph as inputs, into the copy of a scope, like `open`."""
        scope = self.scopes[within or node.scope]
        changes = self._shared(node, changes)
        copy = replace(node, id=len(self.nodes), inputs=tuple(inputs), scope=scope, **changes)
        self.nodes.append(copy)
        self.origins.append(node.id)
        scope.members.append(copy)
        return copy

    def _shared(self, member: Node | Scope, changes: dict[str, Any]) -> dict[str, Any]:
        """The changes of a member, with what says that it is shared: the first call that stays owns the weights."""
        path = changes.get("path", member.path)
        if member.use is not None:
            place, number = member.use.declared
            declared = bisect_left(self.origins, place), number
            changes = {"use": replace(member.use, declared=declared), **changes}
        if member.again and path not in self.paths:
            changes = {"again": False, **changes}
        self.paths.add(path)
        return changes

    def finish(
        self,
        graph: Graph,
        resolve: Callable[[Tensor], Iterable[Tensor]],
        outputs: Iterable[Output],
        *,
        paths: bool = True,
        sizes: bool = True,
    ) -> Graph:
        """The new graph, with these outputs, otherwise like `graph`. It is verified: see `verify`.

        `resolve` maps a tensor of `graph` to its replacements in the new one: none, itself, or its parts.
        """
        for old in graph.root.scopes():
            if old in self.scopes:
                new = self.scopes[old]
                new.inputs = tuple(part for t in old.inputs for part in resolve(t))
                new.outputs = tuple(part for t in old.outputs for part in resolve(t))
                names = zip(old.inputs, old.input_names, strict=False)
                new.input_names = tuple(name for t, name in names for _ in resolve(t))
        made = replace(graph, root=self.scopes[graph.root], outputs=tuple(outputs), _nodes=self.nodes, _net=None)
        verify(made, paths=paths, sizes=sizes)
        return made
