"""What a diagram shows of a graph: which blocks are open, which neighbours are one box `× 6`, which edges are skips.

Everything here is about the network; the words are found in `captions.py`, the looks in `dot.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import networkx as nx

from archdsl.backends.diagram.structure import Structure
from archdsl.graph import Graph, Node, Output, Scope, Tensor

Kind = Literal["input", "output", "entry", "exit", "layers", "merge", "block", "open", "repeat"]
EdgeKind = Literal["flow", "identity", "dense", "projection"]


def main_node(nodes: Sequence[Node]) -> Node:
    """The layer that a box is there for: the first one that does not lead to or follow another."""
    apart = [n for n in nodes if not n.operation.follows]
    return next((n for n in apart if not n.operation.leads), apart[0] if apart else nodes[0])


@dataclass(slots=True, eq=False)
class Part:
    """A piece of the picture: a box, or, where it has `children`, a frame around others.

    `times` holds the nodes of each repetition that the part stands for; the first is the one that is drawn.
    `covered` has all the nodes of a
    box, those of repeated frames around it included. `inner` says that there is a repeated frame around it, or any
    for an entry.
    """

    kind: Kind
    times: list[tuple[Node, ...]]
    scope: Scope | None = None
    children: list[Part] = field(default_factory=list)
    output: Output | None = None
    id: str = ""
    covered: list[Node] = field(default_factory=list)
    inner: bool = False

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.times[0]

    @property
    def count(self) -> int:
        return len(self.times)

    def walk(self) -> Iterator[Part]:
        """This part and all within it, outer before inner."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between two boxes. `tensors` are what it stands for: several where a repetition is drawn once."""

    tail: Part
    head: Part
    kind: EdgeKind
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Parts and arrows, in the order of the network."""

    graph: Graph
    parts: tuple[Part, ...]
    edges: tuple[Edge, ...]

    def boxes(self) -> list[Part]:
        """The parts that are drawn as boxes, not as frames."""
        return boxes(self.parts)

    def trunk(self) -> list[Part]:
        """The longest way through the picture."""
        return list(nx.dag_longest_path(nx.DiGraph((e.tail, e.head) for e in self.edges)))


def boxes(parts: tuple[Part, ...] | list[Part]) -> list[Part]:
    return [p for part in parts for p in part.walk() if not p.children]


# ---------------------------------------------------------------- folding


class Folder:
    """Cuts a graph into parts. `opened` says of a scope whether its contents are drawn."""

    def __init__(self, graph: Graph, structure: Structure) -> None:
        self.graph = graph
        self.structure = structure
        self._nodes: dict[Scope, tuple[Node, ...]] = {}

    def nodes(self, scope: Scope) -> tuple[Node, ...]:
        if scope not in self._nodes:
            self._nodes[scope] = tuple(sorted(scope.nodes(), key=lambda n: n.id))
        return self._nodes[scope]

    def fold(self, scope: Scope, opened: Callable[[Scope], bool]) -> list[Part]:
        """The parts of a scope's contents, in order."""
        parts: list[Part] = []
        for member in scope.members:
            if isinstance(member, Scope):
                if self.nodes(member):
                    parts.append(self._scope(member, opened))
            elif not (parts and self._joins(parts[-1], member)):
                parts.append(Part(self._kind(member), [(member,)]))
            else:
                parts[-1].times[0] += (member,)
        return collapse(parts, self.structure)

    def _scope(self, scope: Scope, opened: Callable[[Scope], bool]) -> Part:
        nodes = self.nodes(scope)
        if not opened(scope):
            only = self._only(scope)
            return only or Part("block", [nodes], scope)
        children = self.fold(scope, opened)
        if len(children) == 1 and children[0].kind == "layers":
            return children[0]
        return Part("open", [nodes], scope, children)

    def _only(self, scope: Scope) -> Part | None:
        """The box of a scope that holds one layer (a convolution with its normalisation and activation, say)."""
        if len(self.nodes(scope)) > 6:
            return None
        children = self.fold(scope, lambda _: False)
        return children[0] if len(children) == 1 and children[0].kind == "layers" else None

    @staticmethod
    def _kind(node: Node) -> Kind:
        if node.operation.is_input:
            return "input"
        return "merge" if node.operation.inputs == "many" else "layers"

    def _joins(self, part: Part, node: Node) -> bool:
        """Whether a node belongs to the box of the nodes before it."""
        last, first = part.nodes[-1], part.nodes[0].operation
        if part.count > 1 or self.structure.consumers(last.id) != [node.id] or len(last.shapes) != len(node.inputs):
            return False
        if part.kind == "merge":
            # Sizes are brought together for the sake of the merge that follows.
            return node.operation.inputs == "many"
        if part.kind != "layers" or self._kind(node) != "layers":
            return False
        heavy = any(not (n.operation.follows or n.operation.leads) for n in part.nodes)
        if not node.operation.follows:
            return node.operation.is_weighted and first.leads and not heavy
        return not (heavy and first.begins_box) or node.operation.ends_box

    def joined(self, parts: list[Part]) -> list[Part]:
        """Boxes of one row, those that belong together as one: scopes without frames do not keep layers apart."""
        found: list[Part] = []
        for part in parts:
            before = found[-1] if found else None
            if before is not None and before.count == part.count == 1 and part.kind == "layers":
                trial = Part(before.kind, [before.nodes], before.scope)
                for node in part.nodes:
                    if not self._joins(trial, node):
                        break
                    trial.times[0] += (node,)
                else:
                    found[-1] = trial
                    continue
            found.append(part)
        return found


LONGEST_PERIOD = 8
"""The most neighbours that a repetition is looked for in: `(layer, concat) × 6` has two."""


def collapse(parts: list[Part], structure: Structure) -> list[Part]:
    """The parts with repeated equal neighbours as one part, counted.

    A run is repeated where each round takes all that it takes from the one before: a chain of equal rounds.
    """
    kinds: dict[object, int] = {}
    keys = [kinds.setdefault((p.kind, *structure.part_key(p.nodes)), len(kinds)) for p in parts]
    result: list[Part] = []
    at = 0
    while at < len(parts):
        period, rounds = _best_run(parts, keys, at, structure)
        if rounds == 1:
            result.append(parts[at])
        else:
            units = [parts[at + i * period : at + (i + 1) * period] for i in range(rounds)]
            if period == 1:
                parts[at].times = [time for [part] in units for time in part.times]
                result.append(parts[at])
            else:
                times = [tuple(n for part in unit for n in part.nodes) for unit in units]
                result.append(Part("repeat", times, children=units[0]))
        at += period * rounds
    return result


def _best_run(parts: list[Part], keys: list[int], at: int, structure: Structure) -> tuple[int, int]:
    best = (1, 1)
    for period in range(1, min(LONGEST_PERIOD, (len(parts) - at) // 2) + 1):
        rounds = 1
        while keys[at : at + period] == keys[at + rounds * period : at + (rounds + 1) * period]:
            rounds += 1
        if rounds > 1 and period * rounds > best[0] * best[1]:
            units = [
                [n for part in parts[at + i * period : at + (i + 1) * period] for n in part.nodes]
                for i in range(rounds)
            ]
            rounds = structure.chained(units)
            if rounds > 1 and period * rounds > best[0] * best[1]:
                best = (period, rounds)
    return best


# ---------------------------------------------------------------- edges


def picture(graph: Graph, parts: list[Part], structure: Structure, block: Scope | None = None) -> Picture:
    """The picture of these parts: names them, and finds the arrows between them.

    Parts that are the inside of a `block` get an entry for each tensor that flows in, and an exit.
    """
    owner: dict[int, Part] = {}
    for part in parts:
        _own(part, owner)
    for node_id, box in owner.items():
        box.covered.append(graph.node(node_id))
    if block is not None:
        nodes = [graph.node(i) for i in sorted(owner)]
        entries = {t: Part("entry", [()]) for t in sorted(structure.entries(nodes), key=lambda t: (t.node, t.index))}
        exits = [Part("exit", [()], output=Output(None, Tensor(n))) for n in sorted(structure.exits(nodes))]
        parts = [*entries.values(), *parts, *exits]
    else:
        entries = {}
    arrows: dict[tuple[Part, Part], _Arrow] = {}
    shown = {n.id for box in boxes(parts) for n in box.nodes}
    # What is shown comes first, so that a repetition only adds to the arrows of its first round.
    for node_id in sorted(owner, key=lambda i: (i not in shown, i)):
        head = owner[node_id]
        for tensor in graph.node(node_id).inputs:
            tail = owner.get(tensor.node) or entries.get(tensor)
            if tail is None or tail is head or (node_id not in shown and (tail, head) not in arrows):
                continue
            arrows.setdefault((tail, head), _Arrow(tail, head, [])).tensors.append(tensor)
    for box in boxes(parts):
        if box.output is not None:
            tail = owner[box.output.tensor.node]
            arrows[tail, box] = _Arrow(tail, box, [box.output.tensor])
    _unframe(parts, list(arrows.values()))
    drawn = _with_entries(parts, list(arrows.values()))
    for number, part in enumerate(p for top in parts for p in top.walk()):
        part.id = f"p{number}"
    kinds = _edge_kinds(graph, drawn)
    edges = tuple(Edge(a.tail, a.head, kinds[a.tail, a.head], tuple(a.tensors)) for a in drawn)
    return Picture(graph, tuple(parts), edges)


@dataclass(slots=True, eq=False)
class _Arrow:
    """An edge while it is being found."""

    tail: Part
    head: Part
    tensors: list[Tensor]


def _unframe(parts: list[Part], arrows: list[_Arrow]) -> None:
    """Takes away the frames of bodies that a fork or the whole of an inset shows as well."""
    leaving: dict[Part, int] = {}
    for arrow in arrows:
        leaving[arrow.tail] = leaving.get(arrow.tail, 0) + 1

    def needed(part: Part, siblings: list[Part]) -> bool:
        if part.kind != "open" or part.count > 1 or part.scope is None or part.scope.kind != "body":
            return True
        if {p.kind for p in siblings if p is not part} <= {"entry", "exit"}:
            return False
        inside = set(part.walk())
        tails = {a.tail for a in arrows if a.head in inside and a.tail not in inside}
        return not (len(tails) == 1 and all(leaving[tail] > 1 for tail in tails))

    def walk(parts: list[Part]) -> None:
        kept = [p for part in parts for p in ([part] if needed(part, parts) else part.children)]
        if len(kept) != len(parts) or any(a is not b for a, b in zip(kept, parts, strict=True)):
            parts[:] = kept
            walk(parts)
            return
        for part in parts:
            walk(part.children)

    walk(parts)


def _with_entries(parts: list[Part], arrows: list[_Arrow]) -> list[_Arrow]:
    """Gives a frame one entry where what flows in forks to several of its boxes: a skip stays inside its block."""
    around: dict[Part, tuple[Part, ...]] = {}

    def walk(part: Part, frames: tuple[Part, ...]) -> None:
        around[part] = frames
        for child in part.children:
            walk(child, (*frames, part))

    for part in parts:
        walk(part, ())
    entering: dict[Part, list[_Arrow]] = {}
    for arrow in arrows:
        outside = set(around[arrow.tail])
        for frame in around[arrow.head]:
            if frame not in outside:
                entering.setdefault(frame, []).append(arrow)
    result = list(arrows)
    for frame in sorted(entering, key=lambda f: len(around[f])):
        inward = entering[frame]
        deeper = {around[a.head][len(around[frame]) + 1 :][:1] for a in inward}
        if (
            len(inward) > 1
            and len({(a.tail, *a.tensors[:1]) for a in inward}) == 1
            and (len(deeper) > 1 or deeper == {()})
        ):
            entry = Part("entry", [()], inner=True)
            frame.children.insert(0, entry)
            result.append(_Arrow(inward[0].tail, entry, list(inward[0].tensors)))
            for arrow in inward:
                arrow.tail = entry
    return result


def _own(part: Part, owner: dict[int, Part], inner: bool = False) -> None:
    """Enters the box of every node, repetitions of frames included."""
    part.inner = inner
    if not part.children:
        owner.update({n.id: part for time in part.times for n in time})
        return
    for child in part.children:
        _own(child, owner, inner or part.count > 1)
    for time in part.times[1:]:
        owner.update({n.id: owner[first.id] for first, n in zip(part.nodes, time, strict=True)})


def _edge_kinds(graph: Graph, arrows: list[_Arrow]) -> dict[tuple[Part, Part], EdgeKind]:
    """An arrow around others is an identity skip; into a concatenation, around layers of its own resolution, a dense
    connection; one of the two ways into an addition that leads through fewer boxes, a projection."""
    pairs = [(a.tail, a.head) for a in arrows]
    order: dict[Part, int] = {}
    before: dict[Part, list[Part]] = {}
    after: dict[Part, list[Part]] = {}
    for tail, head in pairs:
        order.setdefault(tail, len(order))
        order.setdefault(head, len(order))
        before.setdefault(head, []).append(tail)
        after.setdefault(tail, []).append(head)
    position: dict[Part, float] = {}

    def placed(part: Part) -> float:
        """The place of a part in the network; an entry stands before what it leads to."""
        if part not in position:
            own = float(min((n.id for n in part.covered), default=-1))
            position[part] = min(map(placed, after[part])) - 0.01 if part.kind == "entry" else own
        return position[part]

    for part in order:
        placed(part)
    kinds: dict[tuple[Part, Part], EdgeKind] = dict.fromkeys(pairs, "flow")

    def between(tail: Part, head: Part, last: Part) -> set[Part] | None:
        """What stands on ways from tail to head that do not end with `last`, None where there is none."""
        stack, seen, found = [t for t in before[head] if t is not last], set[Part](), False
        while stack:
            part = stack.pop()
            if part is tail:
                found = True
            elif part not in seen and position[part] > position[tail]:
                seen.add(part)
                stack.extend(before.get(part, ()))
        return seen if found else None

    def dense(arrow: _Arrow, around: set[Part]) -> bool:
        """Whether an identity is one of many into concatenations at one resolution, not what a split sent around."""
        if len(graph.node(arrow.tensors[0].node).shapes) > 1:
            return False
        sizes = graph.shape(arrow.tensors[0])[1:]
        concat = arrow.head.kind == "merge" and arrow.head.nodes[-1].operation.stacks_channels
        return concat and all(graph.shape(Tensor(n.id))[1:] == sizes for part in around for n in part.nodes)

    def chain(part: Part, head: Part) -> list[Part]:
        """The way back from head over boxes with one arrow in and out, to where it forks off."""
        way = [head, part]
        while len(before.get(part, ())) == 1 and len(after[part]) == 1:
            [part] = before[part]
            way.append(part)
        return way

    for arrow in arrows:
        tail, head = arrow.tail, arrow.head
        if len(before[head]) > 1 and len(after[tail]) > 1:
            around = between(tail, head, tail)
            if around is not None:
                kinds[tail, head] = "dense" if dense(arrow, around) else "identity"
    for head, tails in before.items():
        if head.kind != "merge" or not head.nodes[-1].operation.is_sum or len(tails) != 2:
            continue
        short = min((chain(tail, head) for tail in tails), key=len)
        around = between(short[-1], head, short[1])
        if len(short) > 2 and around is not None and len(around) > len(short) - 2:
            for a, b in zip(short[1:], short, strict=False):
                kinds[a, b] = "projection"
    return kinds
