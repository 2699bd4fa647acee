"""What differs between two networks: layers and blocks that were added, removed or changed, and what that costs.

Scopes are aligned from the model down, members by their structure and their labels, as lines of text are in a diff: an
inserted layer is one change, though all behind it move. What only follows from a change (sizes, costs, positions of
unlabelled layers) is kept apart from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias

from archdsl import dims
from archdsl.analysis import Analysis, Cost
from archdsl.diagnostics import visible
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.tables import Cell, Column, Table

Member: TypeAlias = Node | Scope
Aligned: TypeAlias = tuple[Member | None, Member | None]
"""A member before and after; None where there is none."""

Kind = Literal["added", "removed", "changed", "rewired", "renamed"]

SIGNS: dict[Kind, str] = {"added": "+", "removed": "-", "changed": "~", "rewired": "~", "renamed": "="}

MOST_CELLS = 1_000_000
"""From this many pairs of members on, an alignment looks for equal ones only."""


@dataclass(frozen=True, slots=True)
class Detail:
    """A fact that changed: a parameter of an operation, `inputs`, `size`, …, as texts."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name}: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One change. `before` and `after` are the members that it concerns, neighbours in one scope; one is empty where
    something was added or removed."""

    kind: Kind
    before: tuple[Member, ...]
    after: tuple[Member, ...]
    details: tuple[Detail, ...] = ()


@dataclass(slots=True, eq=False)
class Comparison:
    """Two networks, with the nodes that stand for each other: `pairs` from the ids before to those after.

    `follows` are pairs of equal operations whose sizes, costs or paths are others because of the changes. `placed`
    says of each removed member in front of which member of which scope of the network after it stood (None: at the
    end).
    """

    before: Graph
    after: Graph
    costs: tuple[Analysis, Analysis]
    changes: list[Change] = field(default_factory=list)
    pairs: dict[int, int] = field(default_factory=dict)
    follows: list[tuple[Node, Node]] = field(default_factory=list)
    placed: list[tuple[Member, Scope, Member | None]] = field(default_factory=list)

    def cost(self, members: Iterable[Member], side: Literal[0, 1]) -> Cost:
        return sum((self.costs[side][m] for m in members), Cost())

    def difference(self, change: Change) -> tuple[int, int]:
        """How many parameters and MACs a change adds."""
        old, new = self.cost(change.before, 0), self.cost(change.after, 1)
        return new.parameters - old.parameters, new.macs - old.macs


def compare(costs_before: Analysis, costs_after: Analysis) -> Comparison:
    """What differs between two checked networks, whose costs these are."""
    found = Comparison(costs_before.graph, costs_after.graph, (costs_before, costs_after))
    _Aligner(found).run()
    _Details(found).run()
    order = {id(m): n for n, m in enumerate(_walk(found.after.root))}
    anchors = {id(m): order.get(id(anchor), len(order)) for m, _, anchor in found.placed}

    def place(change: Change) -> float:
        return order[id(change.after[0])] if change.after else anchors[id(change.before[0])] - 0.5

    found.changes.sort(key=place)
    return found


def _walk(root: Scope) -> Iterable[Member]:
    stack: list[Member] = [root]
    while stack:
        member = stack.pop()
        yield member
        if isinstance(member, Scope):
            stack.extend(reversed(member.members))


# ---------------------------------------------------------------- alignment


class _Keys:
    """Numbers that members share which are built of equal operations in equal order, whatever their names."""

    def __init__(self, *roots: Scope) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._scopes: dict[Scope, int] = {}
        self._bags: dict[Scope, Counter[str]] = {}
        for root in roots:
            for scope in reversed(list(root.scopes())):
                self._scopes[scope] = self._number(("scope", *map(self.of, scope.members)))
                bag: Counter[str] = Counter()
                for member in scope.members:
                    bag.update(self.bag(member))
                self._bags[scope] = bag

    def of(self, member: Member) -> int:
        if isinstance(member, Scope):
            return self._scopes[member]
        operation = member.operation
        try:
            return self._number(("input", member.name) if operation.name == "input" else operation)
        except TypeError:  # a fixed kernel is a list of numbers
            return self._number((type(operation), repr(operation)))

    def bag(self, member: Member) -> Counter[str]:
        """How often each operation stands in a member."""
        return self._bags[member] if isinstance(member, Scope) else Counter([member.operation.name])

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


class _Aligner:
    """Finds which member after stands for which before, scope by scope."""

    def __init__(self, found: Comparison) -> None:
        self.found = found
        self.keys = _Keys(found.before.root, found.after.root)
        self.todo: list[tuple[Scope, Scope]] = [(found.before.root, found.after.root)]

    def run(self) -> None:
        while self.todo:
            old, new = self.todo.pop()
            self._rename(old, new)
            rows = self.align(old.members, new.members)
            for matched, run in groupby(rows, key=lambda row: None not in row):
                if matched:
                    for a, b in run:
                        self._match(a, b)
                else:
                    self._gap(list(run), new, rows)

    def _match(self, old: Member | None, new: Member | None) -> None:
        if isinstance(old, Scope) and isinstance(new, Scope):
            self.todo.append((old, new))
        elif isinstance(old, Node) and isinstance(new, Node):
            self.found.pairs[old.id] = new.id
            self._rename(old, new)

    def _rename(self, old: Member, new: Member) -> None:
        """A label that changed changes the keys of all parameters within."""
        if old.name != new.name and (old.labelled or new.labelled) and new is not self.found.after.root:
            self.found.changes.append(Change("renamed", (old,), (new,), (Detail("name", old.name, new.name),)))

    def _gap(self, run: list[Aligned], scope: Scope, rows: Sequence[Aligned]) -> None:
        """What stands between two matches: layers that a block was put around, or taken from, else a change."""
        removed, added = [a for a, _ in run if a is not None], [b for _, b in run if b is not None]
        last = rows.index(run[-1]) + 1
        anchor = rows[last][1] if last < len(rows) else None
        if removed and added and any(isinstance(m, Scope) for m in (*removed, *added)):
            flat = self.align(_leaves(removed), _leaves(added))
            equal = sum(a is not None and b is not None and self.keys.of(a) == self.keys.of(b) for a, b in flat)
            if 2 * equal >= min(len(_leaves(removed)), len(_leaves(added))):
                for i, (a, b) in enumerate(flat):
                    if a is not None and b is not None:
                        self._match(a, b)
                    elif b is not None:
                        self._change("added", [b])
                    elif a is not None:
                        after = next((m for _, m in flat[i:] if m is not None), None)
                        where = after.scope if isinstance(after, Node) else scope
                        self._change("removed", [a], where, after or anchor)
                return
        self._change("removed", removed, scope, added[0] if added else anchor)
        self._change("added", added)

    def _change(
        self, kind: Kind, members: list[Member], scope: Scope | None = None, anchor: Member | None = None
    ) -> None:
        if not members:
            return
        if kind == "added":
            self.found.changes.append(Change(kind, (), tuple(members)))
            return
        assert scope is not None
        self.found.changes.append(Change(kind, tuple(members), ()))
        self.found.placed += [(m, scope, anchor) for m in members]

    # ------------------------------------------------------------ one scope

    def align(self, old: Sequence[Member], new: Sequence[Member]) -> list[Aligned]:
        """The members of two scopes side by side, in order, so that what stands beside each other is most alike."""
        old_keys, new_keys = [self.keys.of(m) for m in old], [self.keys.of(m) for m in new]

        def same(i: int, j: int) -> bool:
            return old_keys[i] == new_keys[j] and (old[i].name if old[i].labelled else "") == (
                new[j].name if new[j].labelled else ""
            )

        start = 0
        while start < min(len(old), len(new)) and same(start, start):
            start += 1
        end = 0
        while end < min(len(old), len(new)) - start and same(len(old) - 1 - end, len(new) - 1 - end):
            end += 1
        middle = self._middle(old[start : len(old) - end], new[start : len(new) - end])
        head: list[Aligned] = list(zip(old[:start], new[:start], strict=True))
        tail: list[Aligned] = list(zip(old[len(old) - end :], new[len(new) - end :], strict=True))
        return [*head, *middle, *tail]

    def _middle(self, old: Sequence[Member], new: Sequence[Member]) -> list[Aligned]:
        if not old or not new:
            return [*((a, None) for a in old), *((None, b) for b in new)]
        if len(old) * len(new) > MOST_CELLS:
            return self._by_key(old, new)
        # Needleman and Wunsch (1970): the best sum of likenesses of all alignments of two beginnings.
        likeness = [[self.likeness(a, b) for b in new] for a in old]
        best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
        for i in range(len(old) - 1, -1, -1):
            row, below, like = best[i], best[i + 1], likeness[i]
            for j in range(len(new) - 1, -1, -1):
                row[j] = max(below[j], row[j + 1], below[j + 1] + like[j] if like[j] else 0.0)
        rows: list[Aligned] = []
        i = j = 0
        while i < len(old) and j < len(new):
            if likeness[i][j] and best[i][j] == best[i + 1][j + 1] + likeness[i][j]:
                rows.append((old[i], new[j]))
                i, j = i + 1, j + 1
            elif best[i][j] == best[i + 1][j]:
                rows.append((old[i], None))
                i += 1
            else:
                rows.append((None, new[j]))
                j += 1
        return [*rows, *((a, None) for a in old[i:]), *((None, b) for b in new[j:])]

    def _by_key(self, old: Sequence[Member], new: Sequence[Member]) -> list[Aligned]:
        from difflib import SequenceMatcher  # only for scopes of thousands of members

        matcher = SequenceMatcher(None, [self.keys.of(m) for m in old], [self.keys.of(m) for m in new])
        rows: list[Aligned] = []
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            if tag == "equal":
                rows += zip(old[i1:i2], new[j1:j2], strict=True)
            else:
                rows += [*((a, None) for a in old[i1:i2]), *((None, b) for b in new[j1:j2])]
        return rows

    def likeness(self, old: Member, new: Member) -> float:
        """From 0, for members that do not stand for each other, to about 1.5, for equal ones of one label."""
        label = 0.3 if old.labelled and new.labelled and old.name == new.name else 0.0
        # Among equal ones, those at one position: what was appended then stands at the end.
        position = 0.1 if old.name == new.name else 0.0
        if self.keys.of(old) == self.keys.of(new):
            return 1.0 + label + position / 10
        if isinstance(old, Node) and isinstance(new, Node):
            if old.operation.name == new.operation.name and old.operation.name != "input":
                return 0.6 + label + position
            if old.operation.family == new.operation.family and old.operation.name != "input":
                return 0.2 + label + position
            return label
        if isinstance(old, Scope) and isinstance(new, Scope):
            a, b = self.keys.bag(old), self.keys.bag(new)
            shared = (a & b).total() / max((a | b).total(), 1)
            block = 0.1 if old.definition and new.definition and old.definition.name == new.definition.name else 0.0
            return 0.1 + 0.7 * shared + block + label + position if shared >= 0.3 or label else 0.0
        return 0.0


def _leaves(members: Iterable[Member]) -> list[Node]:
    return [n for m in members for n in (m.nodes() if isinstance(m, Scope) else (m,))]


# ---------------------------------------------------------------- what differs in a pair


class _Details:
    """Tells of the pairs of nodes what changed in them, and what only follows."""

    def __init__(self, found: Comparison) -> None:
        self.found = found
        self.back = {new: old for old, new in found.pairs.items()}
        self._sources: dict[tuple[bool, Tensor], frozenset[Tensor]] = {}

    def run(self) -> None:
        found = self.found
        for old_id, new_id in sorted(found.pairs.items(), key=lambda pair: pair[1]):
            old, new = found.before.node(old_id), found.after.node(new_id)
            details = self.details(old, new)
            if details:
                kind: Kind = "rewired" if all(d.name == "inputs" for d in details) else "changed"
                found.changes.append(Change(kind, (old,), (new,), tuple(details)))
            elif self.consequence(old, new):
                found.follows.append((old, new))
        self._outputs()

    def details(self, old: Node, new: Node) -> list[Detail]:
        if old.operation.name == new.operation.name == "input":
            sizes = (
                size_text(found_shape(self.found.before, old), self.found.before),
                size_text(found_shape(self.found.after, new), self.found.after),
            )
            return [Detail("size", *sizes)] if sizes[0] != sizes[1] else []
        if type(old.operation) is not type(new.operation):
            captions = [n.operation.caption(_rank(g, n)) for g, n in self.sides(old, new)]
            return [Detail("operation", *captions), *self.inputs(old, new)]
        fields = type(old.operation).model_fields
        values = [(f, getattr(old.operation, f), getattr(new.operation, f)) for f in fields]
        changed = [Detail(f, value_text(a), value_text(b)) for f, a, b in values if a != b]
        return changed + self.inputs(old, new)

    def sides(self, old: Node, new: Node) -> tuple[tuple[Graph, Node], tuple[Graph, Node]]:
        return (self.found.before, old), (self.found.after, new)

    def inputs(self, old: Node, new: Node) -> list[Detail]:
        """Whether a node takes its tensors from elsewhere; from or through what was added or removed is no news."""
        was = [self.sources(t, before=True) for t in old.inputs]
        now = [self.sources(t, before=False) for t in new.inputs]
        old_all, new_all = frozenset[Tensor]().union(*was), frozenset[Tensor]().union(*now)
        if all(s & new_all for s in was) and all(s & old_all for s in now):
            return []
        texts = [
            ", ".join(g.node(t).path or g.node(t).name for t in n.inputs) or "none" for g, n in self.sides(old, new)
        ]
        return [Detail("inputs", *texts)] if texts[0] != texts[1] else []

    def sources(self, tensor: Tensor, *, before: bool) -> frozenset[Tensor]:
        """The tensors after that a tensor stands for; behind what is on one side only, those that flow into that."""
        graph = self.found.before if before else self.found.after
        stack, seen, result = [tensor], set[int](), set[Tensor]()
        key = (before, tensor)
        if key in self._sources:
            return self._sources[key]
        while stack:
            t = stack.pop()
            if before and t.node in self.found.pairs:
                result.add(Tensor(self.found.pairs[t.node], t.index))
            elif not before and t.node in self.back:
                result.add(t)
            elif t.node not in seen:
                seen.add(t.node)
                stack.extend(graph.node(t).inputs)
        return self._sources.setdefault(key, frozenset(result))

    def consequence(self, old: Node, new: Node) -> bool:
        sizes = [[size_text(s, g) for s in g.shapes(_results(n))] for g, n in self.sides(old, new)]
        return sizes[0] != sizes[1] or old.path != new.path or self.found.costs[0][old] != self.found.costs[1][new]

    def _outputs(self) -> None:
        texts = [
            ", ".join((o.name or "output") + (" if training" if o.training else "") for o in g.outputs)
            for g in (self.found.before, self.found.after)
        ]
        if texts[0] != texts[1]:
            roots = ((self.found.before.root,), (self.found.after.root,))
            self.found.changes.append(Change("changed", *roots, (Detail("outputs", *texts),)))


def _results(node: Node) -> tuple[Tensor, ...]:
    return tuple(Tensor(node.id, i) for i in range(len(node.shapes)))


def found_shape(graph: Graph, member: Member) -> tuple[dims.Dim, ...]:
    """The size of the last tensor that a member gives; empty for one that gives none."""
    tensors = member.outputs if isinstance(member, Scope) else _results(member)
    return graph.shape(tensors[-1]) if tensors else ()


def size_text(shape: Sequence[dims.Dim], graph: Graph) -> str:
    return " × ".join(dims.text(d, graph.sizes) for d in shape)


def _rank(graph: Graph, node: Node) -> int:
    return max(len(graph.shape(node.inputs[0])) - 1, 1) if node.inputs else 1


def value_text(value: object) -> str:
    """A parameter's value as a spec writes it, short."""
    match value:
        case bool():
            text = str(value).lower()
        case None:
            text = "none"
        case tuple() if value and all(isinstance(v, int) for v in value):
            text = "x".join(map(str, value))
        case _:
            text = str(value)
    text = visible(text)
    return text if len(text) <= 40 else text[:39] + "…"


# ---------------------------------------------------------------- telling


COLUMNS = (
    Column("change", "change"),
    Column("path", "path"),
    Column("what", "what"),
    Column("output", "output size"),
    Column("parameters", "parameters", numeric=True),
    Column("macs", "MACs", numeric=True),
)


def described(graph: Graph, members: Sequence[Member]) -> str:
    """`conv 3×3, 64 · batchnorm`, `2 × basic`."""
    words = []
    for m in members:
        if isinstance(m, Node):
            words.append(m.operation.caption(_rank(graph, m)))
        else:
            words.append(m.definition.name if m.definition is not None and m.kind == "block" else m.name or "body")
    period = next(p for p in range(1, len(words) + 1) if words == words[:p] * (len(words) // p))
    if period <= 4 and period < len(words):
        unit = " · ".join(words[:period])
        return f"{len(words) // period} × {unit if period == 1 else f'({unit})'}"
    runs = [(word, len(list(run))) for word, run in groupby(words)]
    shown = [word if count == 1 else f"{count} × {word}" for word, count in runs]
    return " · ".join(shown if len(shown) <= 6 else [*shown[:5], f"{len(shown) - 5} more"])


def paths(members: Sequence[Member]) -> str:
    """`layer1.2`, `layer3.4 … layer3.22`."""
    named = [m.path or m.name for m in members]
    return named[0] if len(named) == 1 else f"{named[0]} … {named[-1]}"


def table(found: Comparison) -> Table:
    """A row a change."""
    rows: list[tuple[Cell, ...]] = []
    for change in found.changes:
        parameters, macs = found.difference(change)
        old, new = (paths(m) if m else "" for m in (change.before, change.after))
        what = "; ".join(map(str, change.details))
        if not what:
            what = described(found.after if change.after else found.before, change.after or change.before)
        root = change.after[:1] == (found.after.root,)
        rows.append(
            (
                f"{SIGNS[change.kind]} {change.kind}",
                old if not new or old == new else new if not old else f"{old} → {new}",
                what,
                _sizes(found, change),
                "" if root else signed(parameters),
                "" if root else signed(macs),
            )
        )
    return Table(COLUMNS, rows)


def _sizes(found: Comparison, change: Change) -> str:
    """What comes out, in numbers: formulas are too wide for a table."""
    texts = []
    for costs, members in zip(found.costs, (change.before, change.after), strict=True):
        for member in members[-1:]:
            tensors = member.outputs if isinstance(member, Scope) else _results(member)
            texts += [" × ".join(map(str, costs.shape(t))) for t in tensors[-1:]]
    return " → ".join(dict.fromkeys(texts))


def signed(number: int) -> str:
    return f"{number:+,}" if number else ""


def totals(found: Comparison) -> list[tuple[str, str]]:
    """The two networks against each other, in lines of a name and a text."""
    old, new = (costs.total for costs in found.costs)
    lines = [
        (name, f"{a:,} → {b:,} ({signed(b - a) or 'the same'})")
        for name, a, b in (("parameters", old.parameters, new.parameters), ("MACs", old.macs, new.macs))
    ]
    valid = [dims.describe_sizes(g.sizes) or "fixed" for g in (found.before, found.after)]
    if valid[0] != valid[1]:
        lines.append(("valid sizes", f"{valid[0]} → {valid[1]}"))
    kinds = Counter(c.kind for c in found.changes)
    changes = ", ".join(f"{kinds[k]} {k}" for k in SIGNS if kinds[k]) or "none"
    lines.append(("changes", changes))
    if found.follows:
        moved = sum(a.path != b.path for a, b in found.follows)
        keys = f"; {moved} have another path" if moved else ""
        lines.append(("follow", f"{len(found.follows)} layers whose size, cost or path follows from these{keys}"))
    return lines


def as_data(found: Comparison) -> dict[str, object]:
    """The comparison for JSON."""

    def side(graph: Graph, costs: Analysis, members: Sequence[Member]) -> list[dict[str, object]]:
        return [
            {
                "path": m.path,
                "what": described(graph, [m]),
                "output": size_text(found_shape(graph, m), graph),
                "parameters": costs[m].parameters,
                "macs": costs[m].macs,
                "line": m.span.line,
                "file": m.span.source.name,
            }
            for m in members
        ]

    changes = []
    for change in found.changes:
        parameters, macs = found.difference(change)
        changes.append(
            {
                "kind": change.kind,
                "before": side(found.before, found.costs[0], change.before),
                "after": side(found.after, found.costs[1], change.after),
                "details": [{"name": d.name, "before": d.before, "after": d.after} for d in change.details],
                "parameters": parameters,
                "macs": macs,
            }
        )
    return {
        **{
            key: {
                "model": g.name,
                "valid_sizes": dims.describe_sizes(g.sizes),
                "at": dict(costs.sizes),
                "parameters": costs.total.parameters,
                "macs": costs.total.macs,
            }
            for key, g, costs in (
                ("before", found.before, found.costs[0]),
                ("after", found.after, found.costs[1]),
            )
        },
        "changes": changes,
        "follows": [
            {
                "before": side(found.before, found.costs[0], [a])[0],
                "after": side(found.after, found.costs[1], [b])[0],
            }
            for a, b in found.follows
        ],
        "moved": {a.path: b.path for a, b in found.follows if a.path != b.path},
    }
