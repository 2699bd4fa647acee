"""The statements of a `forward`, before values have variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from archdsl.backends.torch_source.flow import Call, Decision, Rounds, Value


@dataclass(slots=True, eq=False)
class Assign:
    """`targets = call`. `grows` is the operand that it adds to in place (`y += …`)."""

    call: Call
    nested: dict[Value, Assign] = field(default_factory=dict)
    depth: int = 1
    length: int = 0
    grows: Value | None = None
    line: int = 0
    is_nested: bool = False

    def operands(self) -> Iterator[Value]:
        """The values in variables that it takes."""
        for value in self.call.inputs:
            if value in self.nested:
                yield from self.nested[value].operands()
            else:
                yield value

    def calls(self) -> Iterator[Call]:
        """Its calls, the innermost first."""
        for inner in self.nested.values():
            yield from inner.calls()
        yield self.call


@dataclass(slots=True, eq=False)
class Copy:
    """`targets = sources`: the results of a loop or condition, if they are in other variables."""

    targets: list[Value]
    sources: list[Value]


@dataclass(slots=True, eq=False)
class Release:
    """`del names`: variables whose tensors nothing reads any more, where their memory is needed for others."""

    names: list[str]


@dataclass(slots=True, eq=False)
class When:
    decision: Decision
    branches: list[list[Statement]]
    otherwise: list[Statement] = field(default_factory=list)
    """The statements for the case that no branch is taken."""


@dataclass(slots=True, eq=False)
class Training:
    """The computation of outputs that only a module in training has; they are None otherwise."""

    values: list[Value]
    body: list[Statement]


@dataclass(slots=True, eq=False)
class Each:
    rounds: Rounds
    body: list[Statement]


Statement: TypeAlias = Assign | Copy | Release | When | Training | Each
