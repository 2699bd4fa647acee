"""Resource limits of a compilation, for specs from untrusted sources, and the budget spent so far.

`limited` opens a budget. Code whose work depends on a spec takes it from the budget; beyond a limit it raises
`Exceeded`, which becomes a diagnostic where the location in the text is known.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from threading import get_ident

from archdsl.common.source import Span
from archdsl.common.threads import forkable_lock


def _limit(most: int, what: str, code: str) -> int:
    return field(default=most, metadata={"what": what, "code": code})


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one compilation. `--limit NAME=NUMBER` on the command line sets one of these."""

    nodes: int = _limit(250_000, "nodes in a network, and parallel tensors", "E0501")
    rounds: int = _limit(1_000_000, "iterations of loops", "E0502")
    steps: int = _limit(5_000_000, "steps of elaboration: statements, operators, arguments; a call counts 20", "E0502")
    imports: int = _limit(1_000, "files that one spec imports", "E0503")
    import_depth: int = _limit(100, "files in a chain of imports", "E0503")
    depth: int = _limit(100, "nested calls of blocks and labelled bodies", "E0504")
    function_depth: int = _limit(200, "nested calls of functions, and values that depend on values", "E0504")
    list_size: int = _limit(1_000_000, "elements in a list or range, including nested lists", "E0505")
    list_depth: int = _limit(50, "nested lists", "E0505")
    elements: int = _limit(10_000_000, "elements of all lists together", "E0505")
    string_size: int = _limit(100_000, "characters in a computed string", "E0505")
    path_size: int = _limit(4_096, "characters in the path of a node", "E0505")
    bits: int = _limit(4_096, "bits in a computed int", "E0505")
    solver_seconds: int = _limit(5, "seconds of CPU time for solving the valid sizes", "E0506")
    text_bytes: int = _limit(8 * 1024**2, "bytes in a file", "E0006")
    nesting: int = _limit(200, "nested brackets", "E0105")
    operators: int = _limit(1_000, "operators in a row in an expression", "E0105")
    digits: int = _limit(1_000, "digits in a number", "E0103")

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if type(value) is not int or value < 1:
                raise ValueError(f"the limit `{limit.name}` must be an int of at least 1, not {value!r}")


WHAT = {limit.name: str(limit.metadata["what"]) for limit in fields(Limits)}
"""Descriptions of the limits."""

_CODES = {limit.name: str(limit.metadata["code"]) for limit in fields(Limits)}

STACK = 60_000
"""Python's recursion limit while a spec, which may be deeply nested, is processed."""


class Exceeded(Exception):
    """A spec exceeds a limit. `span` is the location; None if only the caller knows it."""

    def __init__(self, limit: str, message: str, span: Span | None = None) -> None:
        super().__init__(message)
        self.limit = limit
        self.message = message
        self.span = span

    @property
    def code(self) -> str:
        return _CODES[self.limit]

    @property
    def help(self) -> str:
        """How to raise the limit."""
        return f"if this is intended, raise the limit: `--limit {self.limit}=…`"


class Stopped(Exception):
    """The compilation was ended by its brake: nobody wants its result any more."""


class Brake:
    """Ends a compilation from another thread: once `on`, its next step raises Stopped."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False


# Only this thread's time: other threads do not work on this spec.
_seconds = time.thread_time


class Budget:
    """The limits of one compilation, and the amounts spent so far."""

    __slots__ = ("brake", "depth", "elements", "limits", "rounds", "seconds", "started", "steps")

    def __init__(self, limits: Limits, brake: Brake | None = None) -> None:
        self.limits = limits
        self.brake = brake or Brake()
        self.steps = self.rounds = self.elements = self.depth = 0
        self.seconds = 0.0
        self.started: float | None = None

    def step(self, number: int = 1, span: Span | None = None) -> None:
        self.steps += number
        if self.steps > self.limits.steps:
            raise Exceeded("steps", f"this takes more than {self.limits.steps:,} steps", span)
        if self.brake.on:
            raise Stopped

    def round(self, number: int, span: Span) -> None:
        """Spends the iterations of a loop, before the first one runs."""
        self.rounds += number
        if self.rounds > self.limits.rounds:
            raise Exceeded("rounds", f"more than {self.limits.rounds:,} iterations of loops", span)

    def list(self, number: int, span: Span, what: str = "list") -> None:
        """Spends the elements of a flat list, before it is created."""
        if number > self.limits.list_size:
            raise Exceeded("list_size", f"a {what} of more than {self.limits.list_size:,} elements", span)
        self.elements += number
        if self.elements > self.limits.elements:
            raise Exceeded("elements", f"all lists together have more than {self.limits.elements:,} elements", span)

    def nested(self, items: Sequence[object], span: Span) -> None:
        """Spends the elements of a nested list. A list that occurs twice counts twice, since code walks it twice."""
        level: Sequence[object] = items
        total = depth = 0
        while level:
            total, depth = total + len(level), depth + 1
            if depth > self.limits.list_depth:
                raise Exceeded("list_depth", f"lists are nested more than {self.limits.list_depth} deep", span)
            inner = [item for item in level if isinstance(item, tuple)]
            if total + sum(map(len, inner)) > self.limits.list_size:
                total = self.limits.list_size + 1
                break
            level = [part for item in inner for part in item]
        self.list(total, span)

    @contextmanager
    def deeper(self, span: Span, message: str) -> Iterator[None]:
        """One more level of function calls, or of values that depend on values."""
        if self.depth >= self.limits.function_depth:
            raise Exceeded("function_depth", f"{message} more than {self.limits.function_depth} deep", span)
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    @contextmanager
    def solving(self) -> Iterator[None]:
        """Counts the time of the context as time spent solving for sizes."""
        if self.started is not None:
            yield
            return
        self.started = _seconds()
        self.tick()
        try:
            yield
        finally:
            self.seconds += _seconds() - self.started
            self.started = None

    def tick(self) -> None:
        """Called regularly by the solver: raises Exceeded once its time is up."""
        if self.brake.on:
            raise Stopped
        if self.started is not None:
            spent = self.seconds + _seconds() - self.started
            if spent > self.limits.solver_seconds:
                message = f"the valid input sizes take more than {self.limits.solver_seconds} seconds to compute"
                raise Exceeded("solver_seconds", message)


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


def budget() -> Budget:
    """The budget of the current compilation."""
    return _budget.get() or Budget(Limits())


def limits() -> Limits:
    """The limits of the current compilation."""
    return budget().limits


@contextmanager
def limited(given: Limits | None = None, brake: Brake | None = None) -> Iterator[Budget]:
    """A new compilation, with these limits and brake or the enclosing ones, and nothing spent yet."""
    around = budget()
    opened = Budget(given if given is not None else around.limits, brake or around.brake)
    token = _budget.set(opened)
    try:
        yield opened
    finally:
        _budget.reset(token)


@contextmanager
def ongoing() -> Iterator[Budget]:
    """The current compilation, or a new one if there is none."""
    if (opened := _budget.get()) is not None:
        yield opened
        return
    with limited() as opened:
        yield opened


class _Room:
    """The recursion limit, shared by all threads: raised by the first that needs it, restored by the last."""

    def __init__(self) -> None:
        self.lock = forkable_lock()
        self.inside: list[int] = []  # the thread of each active `deep_calls`
        self.before = 0
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self.keep_own)

    def enter(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = sys.getrecursionlimit()
                sys.setrecursionlimit(max(self.before, STACK))
            self.inside.append(get_ident())

    def leave(self) -> None:
        with self.lock:
            self.inside.remove(get_ident())
            self.put_back()

    def put_back(self) -> None:
        """Restores the limit, unless a thread still needs it or another limit was set meanwhile."""
        if not self.inside and sys.getrecursionlimit() == max(self.before, STACK):
            sys.setrecursionlimit(self.before)

    def keep_own(self) -> None:
        """Removes the other threads, which a forked process does not have."""
        others = [thread for thread in self.inside if thread != get_ident()]
        if others:
            self.inside = [get_ident()] * (len(self.inside) - len(others))
            self.put_back()


_room = _Room()


@contextmanager
def deep_calls() -> Iterator[None]:
    """Allows deep recursion, since nesting in a spec becomes recursion in Python. Raises Exceeded if it is too deep."""
    _room.enter()
    try:
        yield
    except RecursionError:
        raise Exceeded("depth", "calls, bodies and values are nested too deeply") from None
    finally:
        _room.leave()
