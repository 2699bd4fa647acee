"""The bounds of a compilation: what a spec from a stranger may ask for, and what of it is spent.

`limited` opens a budget. Whoever does work that a spec asks for takes it from there; past a bound, `Exceeded` is
raised, which becomes a diagnostic where the place in the text is known.
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
    """The most that one compilation may ask for. `--limit NAME=NUMBER` on the command line sets one of these."""

    nodes: int = _limit(250_000, "nodes in a network, and tensors that flow side by side", "E0501")
    rounds: int = _limit(1_000_000, "rounds of loops", "E0502")
    steps: int = _limit(5_000_000, "steps of elaboration: statements, operators, arguments; a call counts 20", "E0502")
    imports: int = _limit(1_000, "files that one spec imports", "E0503")
    import_depth: int = _limit(100, "files that import each other in a row", "E0503")
    depth: int = _limit(100, "calls of blocks and labelled bodies within each other", "E0504")
    function_depth: int = _limit(200, "calls of functions within each other, and values that need values", "E0504")
    list_size: int = _limit(1_000_000, "elements in a list or range, those of the lists in it included", "E0505")
    list_depth: int = _limit(50, "lists within each other", "E0505")
    elements: int = _limit(10_000_000, "elements of all lists that are made", "E0505")
    string_size: int = _limit(100_000, "characters in a string that is computed", "E0505")
    path_size: int = _limit(4_096, "characters in the path of a node", "E0505")
    bits: int = _limit(4_096, "bits in an int that is computed", "E0505")
    solver_seconds: int = _limit(5, "seconds of computing in which the valid sizes are solved", "E0506")
    text_bytes: int = _limit(8 * 1024**2, "bytes in a file", "E0006")
    nesting: int = _limit(200, "brackets within each other", "E0105")
    operators: int = _limit(1_000, "operators in a row in one value", "E0105")
    digits: int = _limit(1_000, "digits in a number", "E0103")

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if type(value) is not int or value < 1:
                raise ValueError(f"the limit `{limit.name}` must be an int of at least 1, not {value!r}")


WHAT = {limit.name: str(limit.metadata["what"]) for limit in fields(Limits)}
"""What each limit bounds."""

_CODES = {limit.name: str(limit.metadata["code"]) for limit in fields(Limits)}

STACK = 60_000
"""Calls of Python within each other that a spec's nesting may take."""


class Exceeded(Exception):
    """A spec asks for more than a limit allows. `span` is where, None where only the catcher knows."""

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
        """How to allow more."""
        return f"if that is meant, allow more: `--limit {self.limit}=…`"


# Of this thread alone: what others compute meanwhile is no work of this spec.
_seconds = time.thread_time


class Budget:
    """The limits of one compilation, and what is spent so far."""

    __slots__ = ("depth", "elements", "limits", "rounds", "seconds", "started", "steps")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.steps = self.rounds = self.elements = self.depth = 0
        self.seconds = 0.0
        self.started: float | None = None

    def step(self, number: int = 1, span: Span | None = None) -> None:
        self.steps += number
        if self.steps > self.limits.steps:
            raise Exceeded("steps", f"this takes more than {self.limits.steps:,} steps", span)

    def round(self, number: int, span: Span) -> None:
        """Takes rounds of a loop, before the first of them is run."""
        self.rounds += number
        if self.rounds > self.limits.rounds:
            raise Exceeded("rounds", f"more than {self.limits.rounds:,} rounds of loops", span)

    def list(self, number: int, span: Span, what: str = "list") -> None:
        """Takes a list of plain values, before it is made."""
        if number > self.limits.list_size:
            raise Exceeded("list_size", f"a {what} of more than {self.limits.list_size:,} elements", span)
        self.elements += number
        if self.elements > self.limits.elements:
            raise Exceeded("elements", f"all lists together have more than {self.limits.elements:,} elements", span)

    def nested(self, items: Sequence[object], span: Span) -> None:
        """Takes a list whose elements may be lists: the same list twice in it counts twice, since all walk it twice."""
        level: Sequence[object] = items
        total = depth = 0
        while level:
            total, depth = total + len(level), depth + 1
            if depth > self.limits.list_depth:
                raise Exceeded("list_depth", f"lists stand more than {self.limits.list_depth} deep in lists", span)
            inner = [item for item in level if isinstance(item, tuple)]
            if total + sum(map(len, inner)) > self.limits.list_size:
                total = self.limits.list_size + 1
                break
            level = [part for item in inner for part in item]
        self.list(total, span)

    @contextmanager
    def deeper(self, span: Span, message: str) -> Iterator[None]:
        """A function's call, or a value computed for another."""
        if self.depth >= self.limits.function_depth:
            raise Exceeded("function_depth", f"{message} more than {self.limits.function_depth} deep", span)
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    @contextmanager
    def solving(self) -> Iterator[None]:
        """What is done within counts as solving of sizes."""
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
        """Asked again and again by the solver: raises Exceeded once its time is over."""
        if self.started is not None:
            spent = self.seconds + _seconds() - self.started
            if spent > self.limits.solver_seconds:
                message = f"the valid input sizes take more than {self.limits.solver_seconds} seconds to compute"
                raise Exceeded("solver_seconds", message)


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


def budget() -> Budget:
    """The budget of the compilation that runs."""
    return _budget.get() or Budget(Limits())


def limits() -> Limits:
    """The limits of the compilation that runs."""
    return budget().limits


@contextmanager
def limited(given: Limits | None = None) -> Iterator[Budget]:
    """A compilation of its own: with these limits, or those in force around it, and nothing spent yet."""
    opened = Budget(given if given is not None else limits())
    token = _budget.set(opened)
    try:
        yield opened
    finally:
        _budget.reset(token)


@contextmanager
def ongoing() -> Iterator[Budget]:
    """The compilation that runs, or one of its own where none does."""
    if (opened := _budget.get()) is not None:
        yield opened
        return
    with limited() as opened:
        yield opened


class _Room:
    """The recursion limit, which all threads share: raised by the first that needs it, put back by the last."""

    def __init__(self) -> None:
        self.lock = forkable_lock()
        self.inside: list[int] = []  # the thread of each `deep_calls` that runs
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
        """Unless somebody needs it still, or has set another limit meanwhile."""
        if not self.inside and sys.getrecursionlimit() == max(self.before, STACK):
            sys.setrecursionlimit(self.before)

    def keep_own(self) -> None:
        """In a forked process, which has none of the other threads."""
        others = [thread for thread in self.inside if thread != get_ident()]
        if others:
            self.inside = [get_ident()] * (len(self.inside) - len(others))
            self.put_back()


_room = _Room()


@contextmanager
def deep_calls() -> Iterator[None]:
    """Room for what nests in a spec, since it nests in calls of Python. Raises Exceeded where there is not enough."""
    _room.enter()
    try:
        yield
    except RecursionError:
        raise Exceeded("depth", "calls, bodies and values nest too deep in each other") from None
    finally:
        _room.leave()
