"""Where a `forward` deletes variables, so that the memory of their tensors is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from archdsl.backends.torch_source.flow import Value
from archdsl.backends.torch_source.liveness import Stretch, meet
from archdsl.backends.torch_source.statements import Assign, Copy, Each, Release, Statement, Training, When


@dataclass(frozen=True, slots=True, eq=False)
class Releasing:
    """Places `del` behind the last use of what must not stay.

    `lasts` has the point behind each call and what nothing takes any more there, `life` where a value's variable holds
    what is needed.
    """

    lasts: Mapping[Assign, tuple[int, list[Value]]]
    must_go: Callable[[Value], bool]
    life: Callable[[Value], Sequence[Stretch]]
    names: Mapping[Value, str]

    def over(self, statements: Sequence[Statement]) -> list[Statement]:
        """The statements of a `forward`, which lets go of everything at its end."""
        copied = self.copied(statements)
        return [*self.within(statements[:-1], copied), *self.within(statements[-1:], copied, last=True)]

    def within(self, statements: Sequence[Statement], copied: set[str], *, last: bool = False) -> list[Statement]:
        found: list[Statement] = []
        for statement in statements:
            found.append(statement)
            match statement:
                case When():
                    statement.branches = [self.within(b, copied) for b in statement.branches]
                case Training() | Each():
                    statement.body = self.within(statement.body, copied)
                case Assign() if not last:
                    names = self.free(statement, copied)
                    found += [Release(names)] if names else []
                case _:
                    pass
        return found

    def free(self, statement: Assign, copied: set[str]) -> list[str]:
        """The variables to delete behind a call."""
        taken = {*copied, *(self.names[v] for v in statement.call.outputs if v.uses)}
        point, ended = self.lasts[statement]
        gone = [v for v in ended if self.must_go(v) and not meet(self.life(v), [(point, point)])]
        return [name for name in dict.fromkeys(self.names[v] for v in gone) if name not in taken]

    def copied(self, statements: Sequence[Statement]) -> set[str]:
        """The variables that copies read: some read them where their value is of no use."""
        found: set[str] = set()
        for statement in statements:
            match statement:
                case Copy():
                    found.update(self.names[v] for v in statement.sources)
                case When():
                    found |= self.copied([s for branch in (*statement.branches, statement.otherwise) for s in branch])
                case Training() | Each():
                    found |= self.copied(statement.body)
                case _:
                    pass
        return found
