"""Aligns the members of two networks, scope by scope, by similarity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby
from typing import TypeAlias

from archdsl.graph import Node, Scope
from archdsl.report.compare.changes import Change, Comparison, Detail, Kind, Member

Aligned: TypeAlias = tuple[Member | None, Member | None]
"""A member before and after; None if there is none."""

MOST_CELLS = 1_000_000
"""With this many pairs of members, an alignment only looks for equal ones."""


class _Keys:
    """Numbers shared by members with the same operations in the same order, whatever their names."""

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
            return self._number(("input", member.name) if operation.is_input else (operation, member.again))
        except TypeError:  # a fixed kernel is a list of numbers
            return self._number((type(operation), repr(operation), member.again))

    def bag(self, member: Member) -> Counter[str]:
        """How often each operation occurs in a member."""
        return self._bags[member] if isinstance(member, Scope) else Counter([member.operation.name])

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


class Aligner:
    """Matches members before and after, scope by scope."""

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
        """A changed label changes the keys of all parameters inside."""
        if old.name != new.name and (old.labelled or new.labelled) and new is not self.found.after.root:
            self.found.changes.append(Change("renamed", (old,), (new,), (Detail("name", old.name, new.name),)))

    def _gap(self, run: list[Aligned], scope: Scope, rows: Sequence[Aligned]) -> None:
        """The changes between two matches: layers that were moved into or out of a block, else a change."""
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
        """The members of two scopes side by side, in order, with the most similar ones paired."""
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
        # Needleman and Wunsch (1970): the best total similarity over all alignments of two prefixes.
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
        """From 0, for members that do not match, to about 1.5, for equal ones with the same label."""
        label = 0.3 if old.labelled and new.labelled and old.name == new.name else 0.0
        # Among equal members, prefer the same position: appended members then come last.
        position = 0.1 if old.name == new.name else 0.0
        if self.keys.of(old) == self.keys.of(new):
            return 1.0 + label + position / 10
        if isinstance(old, Node) and isinstance(new, Node):
            if old.operation.is_input:
                return label
            if type(old.operation) is type(new.operation):
                return 0.6 + label + position
            return label + (0.2 + position if old.operation.family == new.operation.family else 0.0)
        if isinstance(old, Scope) and isinstance(new, Scope):
            a, b = self.keys.bag(old), self.keys.bag(new)
            shared = (a & b).total() / max((a | b).total(), 1)
            block = 0.1 if old.definition and new.definition and old.definition.name == new.definition.name else 0.0
            return 0.1 + 0.7 * shared + block + label + position if shared >= 0.3 or label else 0.0
        return 0.0


def _leaves(members: Iterable[Member]) -> list[Node]:
    return [n for m in members for n in (m.nodes() if isinstance(m, Scope) else (m,))]
