"""The arrows of a picture: where they begin and end, and of which kind each is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from archdsl.backends.diagram.picture import Edge, EdgeKind, Part, Picture, boxes, frames_around, neighbours
from archdsl.backends.diagram.structure import Structure
from archdsl.graph import Graph, Node, Output, Scope, Tensor
from archdsl.syntax.tree import Residual


def picture(
    graph: Graph,
    parts: list[Part],
    structure: Structure,
    block: Scope | None = None,
    gathered: Sequence[Node] = (),
) -> Picture:
    """The picture of these parts: names them, and finds the arrows between them.

    Parts that are the inside of a `block`, or of a box that holds `gathered` nodes, get an entry for each tensor that
    flows in, and an exit for each result.
    """
    owner: dict[int, Part] = {}
    for part in parts:
        _own(part, owner)
    entries: dict[Tensor, Part] = {}
    inside = gathered if block is None else block.nodes()
    if nodes := sorted(inside, key=lambda n: n.id):
        taken = sorted(structure.entries(nodes), key=lambda t: (t.node, t.index))
        names: dict[Tensor, str] = {}
        if block is not None and len(taken) > 1:
            names = dict(zip(block.inputs, block.input_names, strict=False))
        entries = {t: Part("entry", [()], name=names.get(t, "")) for t in taken}
        results = structure.results(nodes)
        exits = [Part("exit", [()], output=Output(None, t), name=_name(graph, t, results)) for t in results]
        parts = [*entries.values(), *parts, *exits]
    arrows = _arrows(graph, parts, owner, entries)
    _unframe(parts, arrows)
    drawn = _with_entries(parts, arrows)
    for number, part in enumerate(p for top in parts for p in top.walk()):
        part.id = f"p{number}"
    kinds = _Kinds(graph, drawn)
    found = kinds.find()
    edges = tuple(Edge(a.tail, a.head, found[a.tail, a.head], _streams(a), kinds.leads_around(a)) for a in drawn)
    return Picture(graph, tuple(parts), edges)


def _name(graph: Graph, tensor: Tensor, among: list[Tensor]) -> str:
    """The label of a tensor that is one of several results."""
    node = graph.node(tensor)
    return node.name if node.labelled and len(among) > 1 else ""


def _streams(arrow: _Arrow) -> tuple[tuple[Tensor, ...], ...]:
    """The tensors of an arrow, those that are one in several rounds of its tail together."""
    if len(arrow.tensors) == 1:
        return (tuple(arrow.tensors),)
    tail = arrow.origin
    covered = sorted(n.id for n in tail.covered)
    places = {node: i % len(tail.nodes) for i, node in enumerate(covered)}
    streams: dict[Tensor, list[Tensor]] = {}
    for tensor in dict.fromkeys(arrow.tensors):
        same = Tensor(places[tensor.node], tensor.index) if tensor.node in places else tensor
        streams.setdefault(same, []).append(tensor)
    return tuple(map(tuple, streams.values()))


def _arrows(graph: Graph, parts: list[Part], owner: dict[int, Part], entries: dict[Tensor, Part]) -> list[_Arrow]:
    """The arrows between boxes. `owner` has the box of each node."""
    arrows: dict[tuple[Part, Part], _Arrow] = {}
    shown = {n.id for box in boxes(parts) for n in box.nodes}

    def origin(tensor: Tensor) -> Tensor:
        """The tensor that a box gives: what cuts and joins windows has none."""
        node = graph.node(tensor)
        while tensor.node not in owner and tensor not in entries and (node.operation.cuts or node.operation.joins):
            if not node.sources:  # in a comparison, where what it came from is no more
                break
            tensor = node.sources[0]
            node = graph.node(tensor)
        return tensor

    # Shown nodes come first, so that a repetition only adds to the arrows of its first round.
    for node_id in (*sorted(shown), *sorted(owner.keys() - shown)):
        head = owner[node_id]
        for source in graph.node(node_id).sources:
            if owner.get(source.node) is head:
                continue
            tensor = origin(source)
            tail = owner.get(tensor.node) or entries.get(tensor)
            if tail is None or tail is head or (node_id not in shown and (tail, head) not in arrows):
                continue
            arrows.setdefault((tail, head), _Arrow(tail, head, [], tail)).tensors.append(tensor)
    for box in boxes(parts):
        if box.output is not None:
            tensor = origin(box.output.tensor)
            tail = owner[tensor.node]
            arrows[tail, box] = _Arrow(tail, box, [tensor], tail)
    return list(arrows.values())


@dataclass(slots=True, eq=False)
class _Arrow:
    """An edge while it is being found. `origin` is the box whose tensors flow through its tail."""

    tail: Part
    head: Part
    tensors: list[Tensor]
    origin: Part


def _unframe(parts: list[Part], arrows: list[_Arrow]) -> None:
    """Takes away the frames of bodies that a fork or the whole of an inset shows as well."""
    leaving: dict[Part, int] = {}
    for arrow in arrows:
        leaving[arrow.tail] = leaving.get(arrow.tail, 0) + 1

    def needed(part: Part, siblings: list[Part]) -> bool:
        if part.kind != "open" or part.count > 1 or part.scope is None or part.scope.kind != "body":
            return True
        if part.scope.use is not None:  # its frame says that it is shared
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
    around = frames_around(parts)
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
            and len({(a.tail, frozenset(a.tensors)) for a in inward}) == 1
            and (len(deeper) > 1 or deeper == {()})
        ):
            entry = Part("entry", [()], inner=True)
            frame.children.insert(0, entry)
            result.append(_Arrow(inward[0].tail, entry, list(inward[0].tensors), inward[0].origin))
            for arrow in inward:
                arrow.tail = entry
    return result


def _own(part: Part, owner: dict[int, Part], inner: bool = False) -> None:
    """Enters the box of every node, and the nodes that each box covers, repetitions of frames included."""
    part.inner = inner
    if not part.children:
        part.covered = [n for time in part.times for n in time]
        owner.update({n.id: part for n in part.covered})
        return
    for child in part.children:
        _own(child, owner, inner or part.count > 1)
    drawn = [owner.get(first.id) for first in part.nodes]
    for time in part.times[1:]:
        for box, node in zip(drawn, time, strict=True):
            if box is not None:
                owner[node.id] = box
                box.covered.append(node)


def _is_learned(part: Part) -> bool:
    """Whether a box is a learned tensor, which belongs to no stream: what it gives leads around nothing."""
    return part.kind == "layers" and part.nodes[-1].operation.is_learned


def _of_skip(merge: Node) -> list[Node]:
    """The layers that `residual via` puts on the skip which a node adds; none for another node."""
    origin = merge.origin
    if not isinstance(origin, Residual) or origin.via is None:
        return []
    via, around = origin.via.span, len(merge.rounds)
    own = (
        member
        for member in merge.scope.members
        if member.span.source is via.source
        and via.start <= member.span.start
        and member.span.end <= via.end
        and member.rounds[:around] == merge.rounds
    )
    return [n for member in own for n in ([member] if isinstance(member, Node) else member.nodes())]


class _Kinds:
    """Finds the kind of each arrow.

    An arrow around others is an identity skip where it is added, if the other way begins with the same tensor; where it
    is concatenated, it is a dense connection around layers of its own resolution, else a skip. The layers of
    `residual via` are a projection; of the two paths into another addition, the one through fewer boxes is. All others
    are the flow of the network, such as what a gate is multiplied with.
    """

    def __init__(self, graph: Graph, arrows: list[_Arrow]) -> None:
        self.graph = graph
        self.arrows = arrows
        self.before, self.after = neighbours((a.tail, a.head) for a in arrows)
        self.leaving: dict[Part, list[_Arrow]] = {}
        for arrow in arrows:
            self.leaving.setdefault(arrow.tail, []).append(arrow)
        self._boxes = {n.id: part for part in {*self.before, *self.after} for n in part.nodes}
        self._positions: dict[Part, float] = {}
        self._around = {(a.tail, a.head): around for a in arrows if (around := self._leads_around(a)) is not None}

    def leads_around(self, arrow: _Arrow) -> bool:
        """Whether an arrow leads around boxes that are on another way between its ends."""
        return (arrow.tail, arrow.head) in self._around

    def _leads_around(self, arrow: _Arrow) -> set[Part] | None:
        """The boxes around which an arrow leads."""
        tail, head = arrow.tail, arrow.head
        if len(self.before[head]) < 2 or len(self.after[tail]) < 2 or _is_learned(tail) or self._is_stream(arrow):
            return None
        return self._between(tail, head, tail)

    def find(self) -> dict[tuple[Part, Part], EdgeKind]:
        kinds: dict[tuple[Part, Part], EdgeKind] = {(a.tail, a.head): "flow" for a in self.arrows}
        for arrow in self.arrows:
            tail, head = arrow.tail, arrow.head
            around = self._around.get((tail, head))
            if around is None or head.kind != "merge":
                continue
            merge, whole = head.nodes[-1].operation, len(self.graph.node(arrow.tensors[0]).shapes) == 1
            if merge.is_sum:
                kinds[tail, head] = "identity" if self._is_taken_twice(arrow) else "flow"
            elif merge.stacks() == 0 and whole:  # a part of a split is no skip
                kinds[tail, head] = "dense" if self._is_dense(arrow, around) else "skip"
        for head, tails in self.before.items():
            if head.kind != "merge" or not head.nodes[-1].operation.is_sum:
                continue
            if own := self._own_layers(head):
                flow = [pair for pair in self._through(own, head) if kinds[pair] == "flow"]
                kinds |= dict.fromkeys(flow, "projection")
            if own or len(tails) != 2:
                continue
            short = min((self._chain(tail, head) for tail in tails), key=len)
            around = self._between(short[-1], head, short[1])
            if len(short) > 2 and around is not None and len(around) > len(short) - 2 and self._forks(short, around):
                for a, b in zip(short[1:], short, strict=False):
                    kinds[a, b] = "projection"
        return kinds

    def _is_taken_twice(self, arrow: _Arrow) -> bool:
        """Whether each of an arrow's tensors also takes another way to its head, on which something is done to it."""
        carried, first = set(arrow.tensors), min(t.node for t in arrow.tensors)
        stack = [t for n in arrow.head.nodes for t in n.sources if self._whence(t, carried) not in carried]
        seen = set[Tensor]()
        while stack:
            tensor = stack.pop()
            if tensor not in seen and tensor.node >= first:
                seen.add(tensor)
                stack.extend(self.graph.node(tensor).sources)
        return all(not seen.isdisjoint(stream) for stream in _streams(arrow))

    def _whence(self, tensor: Tensor, known: Collection[Tensor]) -> Tensor:
        """The tensor that is known, of which a tensor is windows or from whose windows it is put together."""
        node = self.graph.node(tensor)
        while tensor not in known and (node.operation.cuts or node.operation.joins) and node.sources:
            tensor = node.sources[0]
            node = self.graph.node(tensor)
        return tensor

    def _own_layers(self, merge: Part) -> set[Part]:
        """The boxes, and entries of frames, of the layers that the skip of a `residual via` has."""
        inside = {n.id for n in _of_skip(merge.nodes[-1])}
        found = {p for p in (self._boxes.get(i) for i in inside) if p is not None and {n.id for n in p.nodes} <= inside}
        entries = [tail for part in found for tail in self.before.get(part, ()) if tail.kind == "entry"]
        for entry in entries:  # which grows by those of frames around frames
            if found.issuperset(self.after[entry]):
                found.add(entry)
                entries += [tail for tail in self.before.get(entry, ()) if tail.kind == "entry" and tail not in entries]
        return found

    def _through(self, own: set[Part], merge: Part) -> Iterator[tuple[Part, Part]]:
        """The ends of the arrows of a skip with layers of its own, from where it forks off on."""
        for part in own:
            yield from ((part, head) for head in self.after.get(part, ()) if head is merge or head in own)
            for tail in self.before.get(part, ()):
                taken = [set(a.tensors) for a in self.leaving[tail] if a.head in own]
                others = [set(a.tensors) for a in self.leaving[tail] if a.head not in own]
                if tail not in own and any(a & b for a in taken for b in others):
                    yield tail, part

    def _is_stream(self, arrow: _Arrow) -> bool:
        """Whether an arrow carries several results from one block to another: the streams of the network itself."""
        inside = {n.id for n in arrow.head.nodes}
        taken = {t for i in inside for t in self.graph.node(i).sources}
        return arrow.head.kind == "block" and len({t.node for t in arrow.tensors if t in taken}) > 1

    def _forks(self, short: list[Part], around: set[Part]) -> bool:
        """Whether a projection, whose boxes these are, begins with a tensor that takes the other way as well."""
        tail = short[-1]
        taken = [set(a.tensors) for a in self.arrows if a.tail is tail and a.head is short[-2]]
        others = [set(a.tensors) for a in self.arrows if a.tail is tail and a.head in around]
        return any(a & b for a in taken for b in others)

    def _position(self, part: Part) -> float:
        """The place of a part in the network; an entry is placed before the parts after it."""
        if part not in self._positions:
            if part.kind == "entry":
                self._positions[part] = min(map(self._position, self.after[part])) - 0.01
            else:
                self._positions[part] = float(min((n.id for n in part.covered), default=-1))
        return self._positions[part]

    def _between(self, tail: Part, head: Part, last: Part) -> set[Part] | None:
        """The parts on paths from tail to head that do not end with `last`, None if there is no such path."""
        stack, seen, found = [t for t in self.before[head] if t is not last], set[Part](), False
        while stack:
            part = stack.pop()
            if part is tail:
                found = True
            elif part not in seen and self._position(part) > self._position(tail):
                seen.add(part)
                stack.extend(self.before.get(part, ()))
        return seen if found else None

    def _is_dense(self, arrow: _Arrow, around: set[Part]) -> bool:
        """Whether all that an arrow into a concatenation leads around has its resolution."""
        sizes = self.graph.shape(arrow.tensors[0])[1:]
        return all(self.graph.shape(Tensor(n.id))[1:] == sizes for part in around for n in part.nodes)

    def _chain(self, part: Part, head: Part) -> list[Part]:
        """The path back from head over boxes with one arrow in and out, to where it forks off."""
        path = [head, part]
        while len(self.before.get(part, ())) == 1 and len(self.after[part]) == 1:
            [part] = self.before[part]
            path.append(part)
        return path
