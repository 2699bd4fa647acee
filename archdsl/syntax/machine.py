"""The LALR automaton of the grammar. Lark makes its tables (`build_tables`); this code runs them with the builder.

Lark's own loop is general, and slow to import. This one looks up no rule by its text, skips the many single-symbol
rules that only set operator precedence, and returns errors instead of raising them, so that parsing can continue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

from archdsl.syntax._tables import ENDS, IGNORED, LITERALS, PATTERNS, RULES, STARTS, STATES
from archdsl.syntax.lexer import Lexeme, Scanner

END: Final = "$END"

MISSING: Final = "MISSING"
"""The terminal of a statement that could not be read."""


class Reduction(NamedTuple):
    """A reduction of `size` symbols to the symbol `origin`. `rule` is the rule's number; None if the value stays."""

    size: int
    origin: str
    rule: int | None


class Language:
    """The grammar's tables: for each state and symbol, the next state or a reduction."""

    def __init__(self) -> None:
        self.scanner = Scanner(LITERALS, PATTERNS, IGNORED)
        self.starts, self.ends = STARTS, ENDS
        reductions = [
            Reduction(size, origin, None if method is None else number)
            for number, (origin, size, method) in enumerate(RULES)
        ]
        self.rows: list[dict[str, int | Reduction]] = [
            {symbol: to if to >= 0 else reductions[-1 - to] for symbol, to in row.items()} for row in STATES
        ]

    def callbacks(self, builder: object) -> list[Callable[[list[Any]], Any]]:
        """The builder's method for each rule, by the rule's number."""
        return [nothing if method is None else getattr(builder, method) for _, _, method in RULES]


@cache
def language() -> Language:
    return Language()


class Machine:
    """One run of the automaton for the rule `start`, over terminals with their values."""

    def __init__(self, language: Language, callbacks: list[Callable[[list[Any]], Any]], start: str) -> None:
        self.rows, self.callbacks = language.rows, callbacks
        self.end = language.ends[start]
        self.states: list[Any] = [language.starts[start]]
        self.values: list[Any] = []

    def feed(self, kind: str, value: object) -> bool:
        """Shifts a terminal. Returns False if it does not fit; reductions before it have then been done."""
        rows, states, values = self.rows, self.states, self.values
        while True:
            action = rows[states[-1]].get(kind)
            if action.__class__ is int:
                states.append(action)
                values.append(value)
                return True
            if action is None:
                return kind == END and states[-1] == self.end
            size, origin, rule = action
            if rule is None:
                states[-1] = rows[states[-2]][origin]
                continue
            if size:
                children = values[-size:]
                del states[-size:], values[-size:]
            else:
                children = []
            values.append(self.callbacks[rule](children))
            states.append(rows[states[-1]][origin])

    def accepted(self) -> set[str]:
        """The terminals that fit in the current state."""
        return {k for k in self.rows[self.states[-1]] if k.isupper() and k != MISSING and self._fits(k)}

    def _fits(self, kind: str) -> bool:
        trial = Machine.__new__(Machine)
        trial.rows, trial.end = self.rows, self.end
        trial.callbacks = [nothing] * len(self.callbacks)
        trial.states, trial.values = self.states.copy(), [None] * len(self.values)
        return trial.feed(kind, None)

    def unwind(self, height: int) -> bool:
        """Pops the stack to this many states; False if reductions have gone below that."""
        if len(self.states) < height:
            return False
        del self.states[height:], self.values[height - 1 :]
        return True


def nothing(children: list[Any]) -> None:
    """Replaces the builder when no tree is needed."""


def is_value(language: Language, tokens: list[Lexeme]) -> bool:
    """Whether tokens are an expression."""
    machine = Machine(language, [nothing] * len(RULES), "value")
    return bool(tokens) and all(machine.feed(token.kind, token) for token in [*tokens, Lexeme(END, "", 0, 0)])
