"""The rows of the page's table, and those of each box of a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from archdsl.backends.diagram.labels import cut
from archdsl.backends.diagram.picture import Part
from archdsl.common.escaping import visible
from archdsl.common.source import Source
from archdsl.graph import Graph, Node, Scope
from archdsl.ops.fields import shape_text, shown
from archdsl.report.layers import Layers


class Rows:
    """The table: a row for each scope and node, and their sources.

    A row: path, what it is, output, parameters, MACs, memory, field, stride, depth, whether it is a block, and the
    places (source, line) of its call and of those around it, inner ones first.
    """

    def __init__(self, graph: Graph, layers: Layers) -> None:
        self.graph = graph
        self.layers = layers
        self.data: list[list[Any]] = []
        self.sources: list[Source] = []
        self._sources: dict[int, int] = {}
        self._nodes: dict[int, int] = {}
        self._scopes: dict[Scope, int] = {}
        self._parents: list[int] = []
        self._sizes: list[int] = []
        self._places: dict[Scope, list[int]] = {}
        stack: list[tuple[Node | Scope, int, int]] = [(m, 0, -1) for m in reversed(graph.root.members)]
        self._places[graph.root] = []
        while stack:
            member, depth, parent = stack.pop()
            number = len(self.data)
            cells = layers.row(member)
            is_scope = isinstance(member, Scope)
            place = self._place(member)
            inside = member.parent if isinstance(member, Scope) else member.scope
            assert inside is not None
            around = self._places[inside]
            places = [*place, *around]
            if isinstance(member, Scope):
                self._scopes[member] = number
                self._places[member] = places
                stack.extend((m, depth + 1, number) for m in reversed(member.members))
            else:
                self._nodes[member.id] = number
            self._parents.append(parent)
            self._sizes.append(0)
            up = number if not is_scope else -1
            while up >= 0:
                self._sizes[up] += 1
                up = self._parents[up]
            texts = [cells[k] for k in ("operation", "output", "parameters", "macs", "memory", "field", "stride")]
            shown = [visible(c) if isinstance(c, str) else c for c in texts]
            self.data.append([visible(member.path or member.name), *shown, depth, int(is_scope), places])

    @property
    def details(self) -> list[dict[str, Any]]:
        """The panel's further facts of each row: arguments, formula, weights, and the rows that it reads."""
        found: list[dict[str, Any]] = [{} for _ in self.data]
        for scope, row in self._scopes.items():
            inside = {n.id for n in scope.nodes()}
            read = [t.node for n in scope.nodes() for t in n.inputs if t.node not in inside]
            found[row] = {"from": [self._nodes[i] for i in dict.fromkeys(read)]}
        for node in self.graph.nodes():
            sizes = tuple(self.layers.costs.shape(t) for t in node.inputs)
            operation = node.operation
            sections = operation.explanation(sizes, self.layers.costs.shapes[node.id])
            formula = (line for section in sections if section.title == "formula" for line in section.lines)
            weights = (f"{w.name or 'weight'} {shape_text(w.shape)}" for w in self.graph.weights_of(node))
            found[self._nodes[node.id]] = {
                "from": [self._nodes[t.node] for t in node.inputs],
                "attributes": [[k, visible(cut(shown(operation.__dict__[k])))] for k in operation.fields],
                "formula": [visible(line) for line in formula],
                "weights": [visible(text) for text in weights],
            }
        return [{k: v for k, v in entry.items() if v} for entry in found]

    def _place(self, member: Node | Scope) -> list[int]:
        source = member.span.source
        if id(source) not in self._sources:
            self._sources[id(source)] = len(self.sources)
            self.sources.append(source)
        return [self._sources[id(source)], member.span.line]

    def ranges(self, nodes: Iterable[Node]) -> list[int]:
        """The rows of nodes, and of the scopes that these fill, as first and last of each run."""
        leaves = {self._nodes[n.id] for n in nodes}
        held: Counter[int] = Counter()
        for leaf in leaves:
            up = self._parents[leaf]
            while up >= 0:
                held[up] += 1
                up = self._parents[up]
        numbers = sorted(leaves | {row for row, count in held.items() if count == self._sizes[row]})
        runs: list[int] = []
        for number in numbers:
            if runs and number == runs[-1] + 1:
                runs[-1] = number
            else:
                runs += [number, number]
        return runs

    def of(self, node: Node) -> int:
        return self._nodes[node.id]

    def main(self, part: Part, nodes: Sequence[Node]) -> int:
        """The row with the result of a box: its block's, or its last layer's."""
        if part.scope is not None and part.kind == "block":
            return self._scopes.get(part.scope, -1)
        last = part.nodes[-1] if part.nodes else nodes[-1] if nodes else None
        return self._nodes[last.id] if last is not None else -1
