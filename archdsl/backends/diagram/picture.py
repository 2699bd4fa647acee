"""The parts of a diagram: which blocks are open, and which neighbours are one box `× 6`.

The arrows are found in `arrows.py`, the words in `captions.py`, the looks in `dot.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from archdsl.backends.diagram.structure import Structure
from archdsl.graph import Graph, Node, Output, Partition, Scope, Tensor

Kind = Literal["input", "output", "entry", "exit", "layers", "merge", "block", "open", "windows", "repeat"]
EdgeKind = Literal["flow", "identity", "skip", "dense", "projection"]


def main_node(nodes: Sequence[Node]) -> Node:
    """The layer that a box is there for: the first one that does not lead to or follow another."""
    shown = drawn(nodes)
    apart = [n for n in shown if not n.operation.follows]
    return next((n for n in apart if not n.operation.leads), apart[0] if apart else shown[0])


def drawn(nodes: Sequence[Node]) -> Sequence[Node]:
    """The nodes of a box that it mentions: all of them if none is worth it."""
    return [n for n in nodes if n.operation.drawn] or nodes


@dataclass(slots=True, eq=False)
class Part:
    """A piece of the picture: a box, or, where it has `children`, a frame around others.

    `times` holds the nodes of each repetition that the part shows; the first is the one that is drawn. `covered` has
    all the nodes of a box, including those of repeated frames around it. `inner` parts have a repeated frame around
    them, or any frame for an entry. `name` is that of an entry or exit where a block has several.
    """

    kind: Kind
    times: list[tuple[Node, ...]]
    scope: Scope | None = None
    children: list[Part] = field(default_factory=list)
    output: Output | None = None
    name: str = ""
    id: str = ""
    covered: list[Node] = field(default_factory=list)
    inner: bool = False

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.times[0]

    @property
    def count(self) -> int:
        return len(self.times)

    def rounds(self) -> list[list[Node]]:
        """All the nodes of a box, one list for each time that it is in the network."""
        length, covered = max(len(self.nodes), 1), sorted(self.covered, key=lambda n: n.id)
        return [covered[i : i + length] for i in range(0, len(covered), length)]

    def copy(self) -> Part:
        """An equal part, as it is before a picture names it and finds its arrows."""
        return Part(self.kind, [*self.times], self.scope, [c.copy() for c in self.children], self.output, self.name)

    def walk(self) -> Iterator[Part]:
        """This part and all within it, outer before inner."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between two boxes, for all tensors that flow from one to the other.

    `streams` has an entry for each of them; where a repetition is drawn once, with the tensors of all its rounds.
    `is_skip`: the arrow leads around others.
    """

    tail: Part
    head: Part
    kind: EdgeKind
    streams: tuple[tuple[Tensor, ...], ...]
    is_skip: bool = False

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All its tensors, those of later rounds included."""
        return tuple(t for stream in self.streams for t in stream)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Parts and arrows, in the order of the network."""

    graph: Graph
    parts: tuple[Part, ...]
    edges: tuple[Edge, ...]

    def boxes(self) -> list[Part]:
        """The parts that are drawn as boxes, not as frames."""
        return boxes(self.parts)

    def walk(self) -> Iterator[Part]:
        """All parts, outer before inner."""
        return (p for part in self.parts for p in part.walk())

    def trunk(self) -> list[Part]:
        """The longest path through the picture that takes no projection."""
        edges = [edge for edge in self.edges if edge.kind != "projection"]
        before, after = neighbours((e.tail, e.head) for e in edges)
        parts = dict.fromkeys(part for edge in edges for part in (edge.tail, edge.head))
        waiting = {part: len(before.get(part, ())) for part in parts}
        order = [part for part in parts if not waiting[part]]
        for part in order:  # which grows meanwhile
            for head in after.get(part, ()):
                waiting[head] -= 1
                if not waiting[head]:
                    order.append(head)
        paths: dict[Part, tuple[int, Part | None]] = {}
        """The length of the longest path to each part, and the part before."""
        for part in order:
            tail = max(before.get(part, ()), key=lambda p: paths[p][0], default=None)
            paths[part] = (paths[tail][0] + 1 if tail else 1, tail)
        last = max(paths, key=lambda p: paths[p][0], default=None)
        found = []
        while last is not None:
            found.append(last)
            last = paths[last][1]
        return found[::-1]

    def neighbours(self) -> tuple[dict[Part, list[Part]], dict[Part, list[Part]]]:
        """The parts before each part, and those after it."""
        return neighbours((e.tail, e.head) for e in self.edges)


def frames_around(parts: Iterable[Part]) -> dict[Part, tuple[Part, ...]]:
    """The frames around each part and all within it, outer ones first."""
    found: dict[Part, tuple[Part, ...]] = {}
    stack: list[tuple[Part, tuple[Part, ...]]] = [(part, ()) for part in parts]
    while stack:
        part, frames = stack.pop()
        found[part] = frames
        stack += [(child, (*frames, part)) for child in part.children]
    return found


def neighbours(pairs: Iterable[tuple[Part, Part]]) -> tuple[dict[Part, list[Part]], dict[Part, list[Part]]]:
    """The tails of the arrows into each part, and the heads of those out of it, of pairs of tail and head."""
    before: dict[Part, list[Part]] = {}
    after: dict[Part, list[Part]] = {}
    for tail, head in pairs:
        before.setdefault(head, []).append(tail)
        after.setdefault(tail, []).append(head)
    return before, after


def boxes(parts: tuple[Part, ...] | list[Part]) -> list[Part]:
    return [p for part in parts for p in part.walk() if not p.children]


# ---------------------------------------------------------------- folding


class Folder:
    """Cuts a graph into parts. `opened` says of a scope whether its contents are drawn."""

    def __init__(self, graph: Graph, structure: Structure) -> None:
        self.graph = graph
        self.structure = structure
        self._nodes: dict[Scope, tuple[Node, ...]] = {}
        self._whole: dict[Callable[[Scope], bool], list[Part]] = {}

    def nodes(self, scope: Scope) -> tuple[Node, ...]:
        if scope not in self._nodes:
            self._nodes[scope] = tuple(sorted(scope.nodes(), key=lambda n: n.id))
        return self._nodes[scope]

    def whole(self, opened: Callable[[Scope], bool]) -> list[Part]:
        """The parts of the whole network; folded once for equal `opened`, and given as copies."""
        if opened not in self._whole:
            self._whole[opened] = self.fold(self.graph.root, opened)
        return [part.copy() for part in self._whole[opened]]

    def fold(self, scope: Scope, opened: Callable[[Scope], bool]) -> list[Part]:
        """The parts of a scope's contents, in order."""
        return self._parts(scope.members, opened)

    def _parts(self, members: Sequence[Node | Scope], opened: Callable[[Scope], bool]) -> list[Part]:
        parts: list[Part] = []
        waiting: list[Node] = []
        """Nodes that belong to the box of the next one."""
        inside = self._windows(members)
        leads = self._begins_with_dropout(members)
        until = 0
        for at, member in enumerate(members):
            if at < until:
                continue
            if waiting and isinstance(member, Scope):
                parts += [Part("layers", [(node,)]) for node in waiting]
                waiting = []
            if isinstance(member, Scope):
                if self.nodes(member):
                    parts.append(self._scope(member, opened, parts[-1] if parts else None))
            elif at in inside:
                until = inside[at]
                parts.append(self._window(members[at:until], opened))
            elif not member.operation.drawn:
                waiting.append(member)
            elif waiting or not parts or (leads and member.operation.ends_box) or not self._joins(parts[-1], member):
                parts.append(Part(self._kind(member), [(*waiting, member)]))
                waiting = []
            else:
                parts[-1].times[0] += (member,)
        parts += [Part("layers", [(node,)]) for node in waiting]
        return self._filled(collapse(parts, self.structure), opened)

    def _filled(self, parts: list[Part], opened: Callable[[Scope], bool]) -> list[Part]:
        """The parts with the contents of open ones that are still shown after equal neighbours became one."""
        for part in parts:
            if part.kind == "repeat":
                self._filled(part.children, opened)
            elif part.kind == "open" and part.scope is not None and not part.children:
                part.children = self.fold(part.scope, opened)
        return parts

    @staticmethod
    def _begins_with_dropout(members: Sequence[Node | Scope]) -> bool:
        """Whether regularisations stand before layers, so that those behind others belong to the next one, too."""
        return bool(members) and isinstance(members[0], Node) and members[0].operation.ends_box

    def _windows(self, members: Sequence[Node | Scope]) -> dict[int, int]:
        """Where bodies of `windows` begin and end among the members: the first cut, and what follows the last join."""
        first: dict[Partition, int] = {}
        found: dict[int, int] = {}
        for at, member in enumerate(members):
            if isinstance(member, Scope):
                continue
            if member.operation.cuts and member.windows is not None:
                first.setdefault(member.windows, at)
            elif (joined := self._joined(member)) is not None and joined in first:
                found[first[joined]] = at + 1
        return found

    def _joined(self, node: Node) -> Partition | None:
        """The windows that a node puts together."""
        return self.graph.node(node.inputs[0]).windows if node.operation.joins and node.inputs else None

    def _window(self, members: Sequence[Node | Scope], opened: Callable[[Scope], bool]) -> Part:
        """The frame around a body of `windows`, without what cuts and joins it."""
        own = members[0].windows if isinstance(members[0], Node) else None
        nodes = [n for m in members for n in ([m] if isinstance(m, Node) else self.nodes(m))]
        around = {n for n in nodes if n.operation.cuts and n.windows is own}
        around |= {n for n in nodes if n.operation.joins and self._joined(n) is own}
        body = [m for m in members if m not in around]
        return Part("windows", [tuple(nodes)], children=self._parts(body, opened))

    def _scope(self, scope: Scope, opened: Callable[[Scope], bool], before: Part | None) -> Part:
        """The part of a scope; without its contents if it is a call like the one before, of which it may be a round."""
        nodes = self.nodes(scope)
        if not opened(scope):
            only = self._only(scope)
            return only or Part("block", [nodes], scope)
        if before is not None and before.kind == "open" and self._alike(before, scope):
            return Part("open", [nodes], scope)
        children = self.fold(scope, opened)
        if len(children) == 1 and children[0].kind == "layers":
            return children[0]
        return Part("open", [nodes], scope, children)

    def _alike(self, before: Part, scope: Scope) -> bool:
        """Whether a scope is a call of the same block as a part, and does the same."""
        called = before.scope.definition if before.scope is not None else None
        if called is None or scope.definition is None or called.syntax is not scope.definition.syntax:
            return False
        return self.structure.part_key(before.nodes) == self.structure.part_key(self.nodes(scope))

    def _only(self, scope: Scope) -> Part | None:
        """The box of a scope that holds one layer (such as a convolution with its normalisation and activation)."""
        if len(self.nodes(scope)) > 6:
            return None
        children = self.fold(scope, lambda _: False)
        return children[0] if len(children) == 1 and children[0].kind == "layers" else None

    @staticmethod
    def _kind(node: Node) -> Kind:
        if node.operation.is_input:
            return "input"
        return "merge" if node.operation.is_join else "layers"

    def _joins(self, part: Part, node: Node) -> bool:
        """Whether a node belongs to the box of the nodes before it."""
        last, first = part.nodes[-1], part.nodes[0].operation
        if part.count > 1 or self.structure.consumers(last.id) != [node.id] or len(last.shapes) != len(node.sources):
            return False
        if part.kind == "merge":
            # Sizes are brought together for the sake of the merge that follows.
            return node.operation.is_join
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
