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
from archdsl.elaborate.place import POISONED_TENSOR, Flow, Place
from archdsl.elaborate.reports import Stop
from archdsl.elaborate.statements import Elaborator
from archdsl.graph import Graph, Node, Scope, Tensor
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
class Estimate:
    """An elaboration that counts repeated calls instead of placing them again."""

    elaborator: Elaborator
    counted: int = 0
    seen: dict[object, Seen] = field(default_factory=dict)
    used: dict[tree.Body, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.elaborator.items.enter = self.call_block
        self.elaborator.repeat = self.loop
        self.elaborator.items.shares.compares = False

    @property
    def total(self) -> int:
        return len(self.elaborator.build.graph) + self.counted

    def shape(self, tensor: Tensor) -> Shape | None:
        return self.elaborator.build.shape(tensor)

    def call_block(
        self, block: BlockValue, arguments: dict[str, object], item: tree.Call, place: Place, flow: Flow
    ) -> Flow:
        kinds = tuple(type(v) for v in arguments.values())
        signature = (block, kinds, tuple(arguments.values()), tuple(self.shape(t) for t in flow))
        known = self.seen.get(signature)
        if known is None:
            before = self.total
            result = self.elaborator.items.call_block(block, arguments, item, place, flow)
            results = tuple(flow.index(t) if t in flow else self.shape(t) for t in result)
            self.seen[signature] = Seen(self.total - before, results)
            return result
        shapes = tuple(r for r in known.results if isinstance(r, tuple))
        given: Iterator[Tensor] = iter(())
        if known.nodes:
            # One node represents the whole call.
            node_id = len(self.elaborator.build.graph)
            stand_in = Node(node_id, STANDS_IN, (), shapes, "", "", False, place.scope, item.span)
            stand_in = replace(stand_in, windows=self.elaborator.build.windows)
            self.elaborator.build.graph.add(stand_in)
            place.scope.members.append(stand_in)
            self.counted += known.nodes - 1
            given = iter([Tensor(node_id, i) for i in range(len(shapes))])

        def tensor(result: int | Shape | None) -> Tensor:
            if result is None:
                return POISONED_TENSOR
            return flow[result] if isinstance(result, int) else next(given)

        return tuple(map(tensor, known.results))

    def loop(self, statement: tree.For | tree.Repeat, place: Place) -> None:
        names, rounds = self.elaborator.rounds(statement, place)
        skips = not self.mentioned(statement.body) & {n.name for n in names}
        for number, value in enumerate(rounds):
            state, before = self.state(place), self.total
            self.elaborator.bind_round(names, value, statement, place)
            self.elaborator.inner_statements(statement.body, place)
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
        elaborator = Elaborator.of(diagnostics, Graph(name, root), budget)
        run = Estimate(elaborator)
        with suppress(Stop, Exceeded):
            elaborator.model(block, arguments)
            if not diagnostics.errors:
                return run.total
    return None
