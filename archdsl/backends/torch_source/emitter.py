"""The statements of a method while it is written: where the next one goes, and what is put before an open block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from archdsl.backends.python.tree import Statement


@dataclass(slots=True, eq=False)
class Emitter:
    """`top` are the statements of the method, `bodies` the lists of those blocks that are open, the outermost first."""

    top: list[Statement] = field(default_factory=list)
    bodies: list[list[Statement]] = field(default_factory=list)
    outermost: Statement | None = None
    """The statement of `top` whose blocks are open."""

    def add(self, *statements: Statement) -> None:
        self.body.extend(statements)

    @property
    def body(self) -> list[Statement]:
        """Where the next statement goes."""
        return self.bodies[-1] if self.bodies else self.top

    @contextmanager
    def within(self, body: list[Statement]) -> Iterator[list[Statement]]:
        """Statements go into a block of the last statement."""
        if not self.bodies:
            self.outermost = self.top[-1]
        self.bodies = [*self.bodies, body]
        yield body
        self.bodies = self.bodies[:-1]

    def put_before(self, statement: Statement) -> None:
        """Adds a statement before all open blocks."""
        if not self.bodies or self.outermost is None:
            self.top.append(statement)
        else:
            self.top.insert(self.top.index(self.outermost), statement)

    def is_open(self, body: list[Statement]) -> bool:
        """Whether what was made in a list of statements is there for the next one."""
        return body is self.top or any(body is inner for inner in self.bodies)
