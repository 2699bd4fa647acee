"""Which values of a `forward` are lists of the features that dense connections gather."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from archdsl.backends.torch_source.flow import Action, Call, Decision, Flow, Join, Rounds, Value


@dataclass(slots=True, eq=False)
class Gathered:
    """Finds the lists. A value that a condition joins is one if a way to it is, and the features go on one by one."""

    adds: Callable[[Call], bool]
    """Whether a call adds to the features."""
    takes: Callable[[Call], bool]
    """Whether a call takes them one by one."""
    apart: set[Value] = field(default_factory=set)
    """Values that such a call takes, directly or where conditions and loops end."""
    lists: set[Value] = field(default_factory=set)

    def run(self, flow: Flow) -> set[Value]:
        self.find_apart(flow.actions)
        self.find_lists(flow.actions)
        return self.lists

    def find_apart(self, actions: Sequence[Action]) -> None:
        for action in reversed(actions):
            match action:
                case Call():
                    if self.takes(action) or self.adds(action):
                        self.apart.add(action.inputs[0])
                case Decision():
                    for join in action.joins:
                        self.apart.update(ways(join) if join.value in self.apart else ())
                    for branch in action.branches:
                        self.find_apart(branch)
                case Rounds():
                    self.find_apart(action.body)
                    self.apart.update(c.first for c in action.carried if c.value in self.apart)

    def find_lists(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Call():
                    self.lists.update(action.outputs if self.adds(action) else ())
                case Decision():
                    for branch in action.branches:
                        self.find_lists(branch)
                    for join in action.joins:
                        found = {value in self.lists for value in ways(join)}
                        if found == {True} or (any(found) and join.value in self.apart):
                            self.lists.add(join.value)
                case Rounds():
                    self.find_lists(action.body)
                    for carried in action.carried:
                        if carried.after in self.lists:
                            self.lists.update(v for v in (carried.value, carried.final) if v is not None)


def ways(join: Join) -> list[Value]:
    """The values that a condition joins."""
    return [value for value in (*join.branches, join.passed) if value is not None]
