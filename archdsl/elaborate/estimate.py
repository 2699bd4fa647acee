"""Estimates how many nodes a network will have, without placing them all.

A spec of a few lines may ask for more nodes than there are atoms. When a network grows large, a dry run counts ahead: a
call of a block seen before with the same arguments and sizes, and an iteration of a loop that changes nothing, count as
many nodes as the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import NamedTuple

from archdsl.common.limits import Exceeded, limited, limits
from archdsl.diagnostics import Diagnostics
from archdsl.elaborate.core import Flow, Place, Stop
from archdsl.elaborate.statements import Elaborator
from archdsl.graph import UNKNOWN, Graph, Node, Scope, Tensor
from archdsl.ops import Input
from archdsl.ops.base import Shape
from archdsl.syntax import tree
from archdsl.values import BlockValue

STEPS = 300_000
"""Steps after which the dry run gives up: about as many as 20,000 nodes take."""


STANDS_IN = Input(shape=(1,))


class Seen(NamedTuple):
    """The result of a call: its number of nodes, and for each result its size or the input that it is."""

    nodes: int
    results: tuple[int | Shape | None, ...]


@dataclass(slots=True, eq=False)
class Estimate(Elaborator):
    """An elaboration that counts repeated calls instead of placing them again."""

    counted: int = 0
    seen: dict[object, Seen] = field(default_factory=dict)
    used: dict[tree.Body, frozenset[str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return len(self.graph) + self.counted

    def call_block(
        self, block: BlockValue, arguments: dict[str, object], item: tree.Call, place: Place, flow: Flow
    ) -> Flow:
        kinds = tuple(type(v) for v in arguments.values())
        signature = (block, kinds, tuple(arguments.values()), tuple(self.shape(t) for t in flow))
        known = self.seen.get(signature)
        if known is None:
            before = self.total
            result = Elaborator.call_block(self, block, arguments, item, place, flow)
            results = tuple(flow.index(t) if t in flow else self.shape(t) for t in result)
            self.seen[signature] = Seen(self.total - before, results)
            return result
        shapes = tuple(UNKNOWN if r is None else r for r in known.results if not isinstance(r, int))
        given: Iterator[Tensor] = iter(())
        if known.nodes:
            # One node represents the whole call.
            node_id = len(self.graph)
            stand_in = Node(node_id, STANDS_IN, (), shapes, "", "", False, place.scope, item.span)
            self.graph.add(stand_in)
            place.scope.members.append(stand_in)
            self.counted += known.nodes - 1
            given = iter([Tensor(node_id, i) for i in range(len(shapes))])
        return tuple(flow[r] if isinstance(r, int) else next(given) for r in known.results)

    def loop(self, statement: tree.For | tree.Repeat, place: Place) -> None:
        names, rounds = self.rounds(statement, place)
        skips = not self.mentioned(statement.body) & {n.name for n in names}
        for number, value in enumerate(rounds):
            state, before = self.state(place), self.total
            self.bind_round(names, value, statement, place)
            self.inner_statements(statement.body, place)
            if skips and number and self.state(place) == state:
                self.counted += (self.total - before) * (len(rounds) - number - 1)
                return

    def state(self, place: Place) -> tuple[object, ...]:
        """The state on which an iteration of a loop may depend."""
        labels = {name: tuple(self.shape(t) for t in label.flow) for name, label in place.names.labels.items()}
        return tuple(self.shape(t) for t in place.flow), dict(place.names.values), labels

    def mentioned(self, body: tree.Body) -> frozenset[str]:
        """All names in a body."""
        if body not in self.used:
            found: set[str] = set()
            stack: list[object] = [body]
            while stack:
                node = stack.pop()
                if isinstance(node, tuple):
                    stack.extend(node)
                elif is_dataclass(node):
                    if isinstance(node, tree.Name):
                        found.add(node.name)
                    stack.extend(getattr(node, f.name) for f in fields(node) if f.name != "span")
            self.used[body] = frozenset(found)
        return self.used[body]


def estimate(name: str, block: BlockValue, arguments: Mapping[str, object]) -> int | None:
    """How many nodes the network will have; None if that cannot be computed quickly."""
    root = Scope("model", name, "", True, None, block.syntax.name.span, None, dict(arguments))
    diagnostics = Diagnostics()
    most = limits()
    with limited(replace(most, steps=min(STEPS, most.steps))) as budget:
        run = Estimate(diagnostics, Graph(name, root), budget)
        with suppress(Stop, Exceeded):
            run.model(block, arguments)
            if not diagnostics.errors:
                return run.total
    return None
