"""The LALR automaton of the grammar. Lark builds and loads the tables; this code runs them with the builder.

Lark's own loop is general. This one looks up no rule by its text, skips the many single-symbol rules that only set
operator precedence, and returns errors instead of raising them, so that parsing can continue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

from lark import Lark
from lark.grammar import Rule
from lark.parsers.lalr_analysis import Shift

from archdsl.syntax._tables import DATA, MEMO
from archdsl.syntax.lexer import Scanner

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
        self.lark: Lark = Lark._load_from_dict(DATA, MEMO)  # type: ignore[no-untyped-call]
        self.scanner = Scanner(self.lark.terminals, self.lark.lexer_conf.ignore)
        self.rules = self.lark.rules
        numbers = {rule: number for number, rule in enumerate(self.rules)}
        reductions = {rule: _reduction(rule, number) for rule, number in numbers.items()}
        table: Any = self.lark.parser.parser._parse_table
        self.starts, self.ends = table.start_states, table.end_states
        self.rows: dict[int, dict[str, int | Reduction]] = {
            state: {symbol: arg if action is Shift else reductions[arg] for symbol, (action, arg) in row.items()}
            for state, row in table.states.items()
        }

    def callbacks(self, builder: object) -> list[Callable[[list[Any]], Any]]:
        """The builder's method for each rule, by the rule's number."""
        found = self.lark._parse_tree_builder.create_callback(builder)  # type: ignore[no-untyped-call]
        return [found[rule] for rule in self.rules]


@cache
def language() -> Language:
    return Language()


def _reduction(rule: Rule, number: int) -> Reduction:
    size = len(rule.expansion)
    passes = size == 1 and rule.options.expand1 and not rule.alias
    return Reduction(size, rule.origin.name, None if passes else number)


class Machine:
    """One run of the automaton for the rule `start`, over terminals with their values."""

    def __init__(self, language: Language, callbacks: list[Callable[[list[Any]], Any]], start: str) -> None:
        self.rows, self.callbacks = language.rows, callbacks
        self.end = language.ends[start]
        self.states = [language.starts[start]]
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
            size, origin, rule = action  # type: ignore[misc]
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
        trial.callbacks = [_nothing] * len(self.callbacks)
        trial.states, trial.values = self.states.copy(), [None] * len(self.values)
        return trial.feed(kind, None)

    def unwind(self, height: int) -> bool:
        """Pops the stack to this many states; False if reductions have gone below that."""
        if len(self.states) < height:
            return False
        del self.states[height:], self.values[height - 1 :]
        return True


def _nothing(children: list[Any]) -> None:
    """Replaces the builder when no tree is needed."""
