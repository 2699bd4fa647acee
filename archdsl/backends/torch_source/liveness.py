"""Where in a `forward` each value is still needed: two whose stretches are apart may share a variable.

The statements are numbered in the order of the text. A value lives from the point behind the statement that makes it
to the point before the last one that takes it; statement n has the points 2n, before it, and 2n + 1, behind it. What
lives on one side of a condition does not meet what lives on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from archdsl.backends.torch_source.flow import Decision, Flow, Value
from archdsl.backends.torch_source.statements import Assign, Copy, Each, Release, Statement, Training, When

Stretch: TypeAlias = tuple[int, int]
"""The first and last point of a stretch of the text."""


@dataclass(slots=True, eq=False)
class Spot:
    """A statement with the points before it and before its end, and the bodies in it, each with the point at its end.

    A condition has one body more than branches: that of whatever passes by.
    """

    statement: Statement
    start: int
    bodies: list[tuple[list[Spot], int]]
    end: int


@dataclass(slots=True, eq=False)
class Lives:
    """The stretches in which each value lives, and the point before each condition, where copies can go."""

    stretches: dict[Value, list[Stretch]] = field(default_factory=dict)
    heads: dict[Decision, int] = field(default_factory=dict)
    lasts: dict[Assign, tuple[int, list[Value]]] = field(default_factory=dict)
    """The point behind each call, and the values in variables that nothing takes behind it."""
    clock: int = 0

    @staticmethod
    def of(flow: Flow, statements: Sequence[Statement]) -> Lives:
        """The lives in a `forward` where every value that a condition or loop hands on is copied at its end."""
        lives = Lives()
        spots = lives.number(statements)
        ends = dict.fromkeys(flow.outputs, lives.next())
        lives.back(spots, ends)
        for value in flow.inputs:
            lives.live(value, 0, ends.get(value, 0))
        for value, found in lives.stretches.items():
            lives.stretches[value] = joined(found)
        return lives

    def next(self) -> int:
        """The point before the next statement."""
        self.clock += 2
        return self.clock

    def number(self, statements: Sequence[Statement]) -> list[Spot]:
        """The points at which statements begin, with those of the statements within and at which each body ends."""
        found: list[Spot] = []
        for statement in statements:
            start = self.next()
            match statement:
                case When():
                    bodies: list[list[Statement]] = [*statement.branches, []]
                case Training() | Each():
                    bodies = [statement.body]
                case _:
                    bodies = []
            inner = [(self.number(body), self.next()) for body in bodies]
            found.append(Spot(statement, start, inner, self.next() if bodies else start))
        return found

    def live(self, value: Value, start: int, end: int) -> None:
        self.stretches.setdefault(value, []).append((start, end))

    # ------------------------------------------------------------ backwards

    def back(self, spots: Sequence[Spot], ends: dict[Value, int]) -> None:
        """Goes back over statements. `ends` says until where each value lives that lives at their end, then start."""
        for spot in reversed(spots):
            match spot.statement:
                case Assign() as assign:
                    for value in assign.call.outputs:
                        if value.uses:
                            self.live(value, spot.start + 1, ends.pop(value, spot.start + 1))
                    operands = dict.fromkeys(assign.operands())
                    self.lasts[assign] = spot.start + 1, [v for v in operands if v not in ends]
                    for value in operands:
                        ends.setdefault(value, spot.start)
                case When() as when:
                    self.back_when(when, spot, ends)
                case Each() as each:
                    self.back_loop(each, spot, ends)
                case Training() as training:
                    self.back_training(training, spot, ends)
                case Copy() | Release():
                    raise AssertionError("these come later")

    def leave(self, spot: Spot, ends: Mapping[Value, int]) -> set[Value]:
        """The values alive after a compound statement."""
        for value, end in ends.items():
            self.live(value, spot.end + 1, end)
        return set(ends)

    def back_when(self, when: When, spot: Spot, ends: dict[Value, int]) -> None:
        joins = when.decision.joins
        after = self.leave(spot, ends) - {join.value for join in joins}
        self.heads[when.decision] = spot.start + 1
        ends.clear()
        for number, (body, end) in enumerate(spot.bodies):
            inner = dict.fromkeys(after, end + 1)
            for join in joins:
                source = join.passed if number == len(when.branches) else join.branches[number]
                self.live(join.value, end + 1, end + 1)
                if source is not None:
                    inner.setdefault(source, end)
            self.back(body, inner)
            for value, last in inner.items():
                self.live(value, body[0].start if body else end, last)
            ends.update(dict.fromkeys(inner, spot.start + 1))

    def back_loop(self, each: Each, spot: Spot, ends: dict[Value, int]) -> None:
        carried = each.rounds.carried
        finals = {c.final: c.value for c in carried if c.final is not None}
        values = {c.value for c in carried}
        after = {finals.get(value, value) for value in self.leave(spot, ends)} - values
        ((body, end),) = spot.bodies
        ends.clear()
        # Once more round: what a round needs lives through the round before.
        for lives, through in ((Lives(), after), (self, after)):
            inner = dict.fromkeys((through | ends.keys()) - values, end + 1)
            inner.update((c.after, end) for c in carried if c.after is not None and c.after not in inner)
            lives.back(body, inner)
            ends.update(dict.fromkeys(inner, spot.start + 1))
        for value, last in inner.items():
            self.live(value, spot.start + 1, last)
        for c in carried:
            self.live(c.value, spot.start + 1, spot.start + 1)
            self.live(c.value, end + 1, end + 1)
            ends.pop(c.value, None)
        for c in carried:
            ends.setdefault(c.first, spot.start)

    def back_training(self, training: Training, spot: Spot, ends: dict[Value, int]) -> None:
        after = self.leave(spot, ends)
        ((body, end),) = spot.bodies
        inner = dict.fromkeys(after, end + 1)
        self.back(body, inner)
        for value, last in inner.items():
            self.live(value, spot.start + 1, last)
        for value in training.values:
            self.live(value, spot.start + 1, spot.end + 1)
        ends.clear()
        ends.update(dict.fromkeys((after | inner.keys()) - set(training.values), spot.start + 1))


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Stretches in order, those that touch made one."""
    found: list[Stretch] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def meet(a: Sequence[Stretch], b: Sequence[Stretch]) -> bool:
    """Whether two rows of stretches, each in order, have a point in common."""
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i][1] < b[j][0]:
            i += 1
        elif b[j][1] < a[i][0]:
            j += 1
        else:
            return True
    return False
