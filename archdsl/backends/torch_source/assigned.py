"""Variables of a `forward` that a copy may read unset, in calls where their value is of no use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from archdsl.backends.torch_source.flow import Value
from archdsl.backends.torch_source.statements import Assign, Copy, Each, Release, Statement, Training, When


def unassigned(statements: Sequence[Statement], names: Mapping[Value, str], known: set[str]) -> Iterator[Value]:
    """The values that copies read from variables that may be unset; `known` are those set, here and then behind.

    What a member or function takes is always set: the flow of values sees to it.
    """
    for statement in statements:
        match statement:
            case Assign():
                known.update(names[v] for v in statement.call.outputs if v.uses)
            case Copy():
                yield from (v for v in statement.sources if names[v] not in known)
                known.update(names[v] for v in statement.targets)
            case When():
                lanes = sum(s.group.count for s in statement.decision.segments)
                passes = [statement.otherwise] if lanes < statement.decision.choice.group.count else []
                ways: list[set[str]] = []
                for branch in (*statement.branches, *passes):
                    ways.append(set(known))
                    yield from unassigned(branch, names, ways[-1])
                known |= set.intersection(*ways)
            case Training():
                known.update(names[v] for v in statement.values)
                yield from unassigned(statement.body, names, set(known))
            case Each():
                yield from unassigned(statement.body, names, set(known))
            case Release():
                raise AssertionError("these come later")
