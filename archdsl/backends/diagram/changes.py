"""The picture of what differs between two networks: the one after, with what was removed from the one before put back
as ghosts, and every change marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from archdsl.analysis.costs import Analysis, Cost, IntShape
from archdsl.backends.diagram.captions import Caption, Captions, quantity
from archdsl.backends.diagram.choose import level, whole
from archdsl.backends.diagram.dot import NOTE, TITLE, Style, Writer
from archdsl.backends.diagram.labels import Entry, Line, Words
from archdsl.backends.diagram.picture import Edge, Folder, Part, Picture, boxes
from archdsl.backends.diagram.structure import Structure
from archdsl.dims import Region
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.graph.rewriting import Rewriting
from archdsl.report.compare import Comparison, Detail, Member

BUDGET = 60
"""The most boxes of a picture that was not told how deep to go."""

SIGNS = {"added": "+", "removed": "\u2212", "changed": "~"}

MOST_NOTES = 4


@dataclass(frozen=True, slots=True)
class Mark:
    """What happened to a node, and the words for it."""

    kind: str
    notes: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Merged:
    """Both networks as one graph. `ends` are the arrows out of removed nodes, which the graph does not have."""

    graph: Graph
    analysis: Analysis
    marks: dict[int, Mark] = field(default_factory=dict)
    ends: list[tuple[Tensor, int]] = field(default_factory=list)
    differences: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Parameters and MACs that a node has more than before."""


def mark_changes(comparison: Comparison, style: Style, depth: int | None) -> tuple[Picture, Writer]:
    """The picture of a comparison, and who writes it. Blocks without a change stay folded."""
    found = _merge(comparison)
    structure = Structure(found.graph, found.marks)
    folder = Folder(found.graph, structure)
    touched = {scope for i in found.marks for scope in found.graph.node(i).scope.calls()}

    def opened(scope: Scope, limit: int) -> bool:
        kinds = {found.marks[n.id].kind if n.id in found.marks else "" for n in folder.nodes(scope)}
        return scope in touched and level(scope) <= limit and kinds not in ({"added"}, {"removed"})

    deepest = max((level(s) for s in touched), default=0)
    limits = range(deepest, -1, -1) if depth is None else [depth]
    for limit in limits:
        parts = folder.fold(found.graph.root, lambda scope, limit=limit: opened(scope, limit))  # type: ignore[misc]
        if len(boxes(parts)) <= BUDGET:
            break
    captions = _Captions(found, comparison)
    return _with_ends(whole(folder, parts), found), _Writer(captions, style)


# ---------------------------------------------------------------- one graph of two


def _merge(comparison: Comparison) -> Merged:
    """The network after, with copies of the removed nodes where they stood."""
    before, after = comparison.before, comparison.after
    new = Rewriting()
    copies: dict[Node, Node] = {}
    costs: list[Cost] = []
    shapes: list[tuple[IntShape, ...]] = []

    def here(tensor: Tensor, ghost: bool) -> Tensor | None:
        """A tensor of the network after, or before, as far as what gives it is placed."""
        if ghost and tensor.node in comparison.pairs:
            tensor, ghost = Tensor(comparison.pairs[tensor.node], tensor.index), False
        found = copies.get((before if ghost else after).node(tensor))
        return Tensor(found.id, tensor.index) if found else None

    for member, home in _in_order(comparison):
        ghost = home is not None
        if isinstance(member, Scope):
            new.open(member, home, **({"inputs": (), "outputs": (), "input_names": ()} if ghost else {}))
            continue
        inputs = [t for t in (here(t, ghost) for t in member.inputs) if t is not None]
        copies[member] = new.place(member, inputs, home)
        side = comparison.costs[0 if ghost else 1]
        costs.append(side[member])
        shapes.append(side.shapes[member.id])

    def stands(tensor: Tensor) -> list[Tensor]:
        return [t for t in [here(tensor, False)] if t is not None]

    # Two nodes may stand on one path, before and after; and nothing flows into a node whose source is no more.
    names = {f.name for f in after.free}
    free = (*after.free, *(f for f in before.free if f.name not in names))
    outputs = [replace(o, tensor=t) for o in after.outputs for t in stands(o.tensor)]
    both = Graph(after.name, after.root, free, sizes=Region({**before.sizes, **after.sizes}))
    graph = new.finish(both, stands, outputs, paths=False, sizes=False)
    sums = {scope: Cost() for scope in graph.root.scopes()}
    found = Merged(graph, Analysis(graph, comparison.costs[1].sizes, tuple(shapes), tuple(costs), sums))
    _mark(found, comparison, copies)
    for node in before.nodes():
        for tensor in node.inputs:
            tail = here(tensor, True)
            if node.id in comparison.pairs and tensor.node not in comparison.pairs and tail is not None:
                head = copies[after.node(comparison.pairs[node.id])].id
                if tail.node < head:
                    found.ends.append((tail, head))
    return found


def _in_order(comparison: Comparison) -> Iterator[tuple[Member, Scope | None]]:
    """The members of the network after, outer before inner, and among them the removed ones, each with its new home."""
    ghosts: dict[tuple[Scope, Member | None], list[Member]] = {}
    for member, scope, anchor in comparison.placed:
        at = anchor if anchor in scope.members else None
        ghosts.setdefault((scope, at), []).append(member)
    stack: list[tuple[Member, Scope | None]] = [(comparison.after.root, None)]
    while stack:
        member, home = stack.pop()
        yield member, home
        if not isinstance(member, Scope):
            continue
        if home is not None:
            stack.extend((inner, member) for inner in reversed(member.members))
            continue
        inside: list[tuple[Member, Scope | None]] = []
        for inner in (*member.members, None):
            inside += [(ghost, member) for ghost in ghosts.get((member, inner), ())]
            inside += [(inner, None)] if inner is not None else []
        stack.extend(reversed(inside))


def _nodes(member: Member | None) -> list[Node]:
    return list(member.nodes()) if isinstance(member, Scope) else [member] if member is not None else []


def _mark(found: Merged, comparison: Comparison, copies: Mapping[Node, Node]) -> None:
    for change in comparison.changes:
        if change.kind in ("added", "removed"):
            for node in (n for m in (change.before or change.after) for n in _nodes(m)):
                found.marks[copies[node].id] = Mark(change.kind)
        else:
            for node in _nodes(change.after[0]) if change.after[0] is not comparison.after.root else ():
                at = copies[node].id
                old = found.marks.get(at)
                notes = tuple(map(_note, change.details)) if isinstance(change.after[0], Node) or old is None else ()
                found.marks[at] = Mark("changed", (*(old.notes if old else ()), *notes))
    for old_id, new_id in comparison.pairs.items():
        was = comparison.costs[0][comparison.before.node(old_id)]
        now = comparison.costs[1][comparison.after.node(new_id)]
        at = copies[comparison.after.node(new_id)].id
        found.differences[at] = (now.parameters - was.parameters, now.macs - was.macs)
    for at, mark in found.marks.items():
        cost = found.analysis[found.graph.node(at)]
        sign = {"added": 1, "removed": -1}.get(mark.kind, 0)
        if sign:
            found.differences[at] = (sign * cost.parameters, sign * cost.macs)


def _note(detail: Detail) -> str:
    return f"{detail.before} → {detail.after}" if detail.name == "operation" else str(detail)


def _with_ends(picture: Picture, found: Merged) -> Picture:
    owner = {n.id: box for box in picture.boxes() for n in box.covered}
    known = {(e.tail, e.head) for e in picture.edges}
    more: dict[tuple[Part, Part], Edge] = {}
    for tensor, head in found.ends:
        pair = (owner[tensor.node], owner[head])
        if pair[0] is not pair[1] and pair not in known:
            more.setdefault(pair, Edge(*pair, "identity", (tensor,)))
    return replace(picture, edges=(*picture.edges, *more.values()))


# ---------------------------------------------------------------- words and looks


class _Captions(Captions):
    """Says of a box what changed in it, in place of its share of the whole."""

    def __init__(self, found: Merged, comparison: Comparison) -> None:
        super().__init__(found.graph, found.analysis, comparison.costs[1].sizes)
        self.found = found
        self.comparison = comparison

    def mark(self, part: Part) -> str:
        """`added`, `removed`, `changed`, or empty."""
        kinds = {self.found.marks[n.id].kind if n.id in self.found.marks else "" for n in part.covered}
        if kinds <= {""}:
            return ""
        return kinds.pop() if len(kinds) == 1 else "changed"

    def box(self, part: Part) -> Caption:
        caption = super().box(part)
        if part.kind in ("block", "input", "output") or not self.mark(part):
            return caption
        return replace(caption, notes=(*caption.notes, *self.news(part), *filter(None, [self.share(part)])))

    def news(self, part: Part) -> list[str]:
        """`kernel: 3 → 1`, `+ batchnorm`."""
        whole_part = self.mark(part)
        notes: list[str] = []
        for node in part.nodes:
            mark = self.found.marks.get(node.id)
            if mark is None:
                continue
            if mark.kind == "changed":
                single = len(part.nodes) == 1
                notes += [n if single or node.operation.name in n else f"{node.operation.name} {n}" for n in mark.notes]
            elif mark.kind != whole_part:
                notes.append(f"{SIGNS[mark.kind]} {self.operation(node)}")
        return notes if len(notes) <= MOST_NOTES else [*notes[: MOST_NOTES - 1], f"{len(notes) - MOST_NOTES + 1} more"]

    def share(self, part: Part) -> str:
        """`+590,080 params · −1.2 G MACs`."""
        found = [self.found.differences.get(n.id, (0, 0)) for n in part.covered]
        amounts = [(sum(p for p, _ in found), "params"), (sum(m for _, m in found), "MACs")]
        return " · ".join(f"{difference_text(n)} {name}" for n, name in amounts if n)

    def summary(self) -> tuple[str, str]:
        comparison = self.comparison
        old, new = (c.total for c in comparison.costs)
        facts = [
            f"{difference_text(new.parameters - old.parameters)} parameters",
            f"{difference_text(new.macs - old.macs)} MACs",
            f"{len(comparison.changes)} changes",
        ]
        return f"{comparison.before.name} → {comparison.after.name}", ", ".join(facts)


def difference_text(number: int) -> str:
    """`+9.44 M`, `±0`."""
    return f"{'+' if number > 0 else SIGNS['removed']}{quantity(abs(number)).strip()}" if number else "±0"


class _Writer(Writer):
    """Marks changes by a coloured outline and a sign; what is as it was is pale."""

    captions: _Captions

    def _found(self, part: Part) -> list[Line]:
        found = super()._found(part)
        mark = self.captions.mark(part)
        if mark and found and part.kind != "merge":
            title = self.captions.box(part).title
            found[title] = [Words(f"{SIGNS[mark]} ", TITLE, self.theme.changes[mark], True), *found[title]]
        return found

    def box(self, part: Part) -> dict[str, str]:
        looks = super().box(part)
        mark = self.captions.mark(part)
        if mark:
            style = looks.get("style", "rounded,filled")
            looks |= {
                "color": self.theme.changes[mark],
                "penwidth": "2.4",
                "style": f"{style},dashed" if mark == "removed" else style,
            }
        return looks

    def arrow(self, edge: Edge) -> dict[str, str]:
        looks = super().arrow(edge)
        marks = {self.captions.mark(edge.tail), self.captions.mark(edge.head)}
        for mark in ("removed", "added"):
            if mark in marks:
                style = {"style": "dashed", "weight": "1"} if mark == "removed" else {}
                return looks | {"color": self.theme.changes[mark], "penwidth": "1.6"} | style
        return looks

    def legend(self, pictures: Sequence[Picture]) -> list[Entry]:  # type: ignore[override]
        shown = list(pictures)
        marks = {self.captions.mark(part) for picture in shown for part in picture.boxes()}
        entries = [
            Entry(Words(mark, NOTE, self.theme.muted), sign=Words(sign, TITLE, self.theme.changes[mark], True))
            for mark, sign in SIGNS.items()
            if mark in marks
        ]
        return [*super().legend(shown), *entries]
