"""Generates `_tables.py`, the parse tables of grammars/arch.lark, with `python -m archdsl.syntax.build_tables`.

Only this needs Lark: what runs the tables (`machine`, `lexer`) reads `_tables.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lark import Lark
from lark.lexer import PatternStr
from lark.parsers.lalr_analysis import Shift

TABLES: Final = Path(__file__).with_name("_tables.py")
START: Final = ["file", "value", "documented"]

_HEAD: Final = '''"""The parse tables of grammars/arch.lark, made by archdsl.syntax.build_tables: do not edit."""

# ruff: noqa
# fmt: off
'''


def grammar_file() -> Path:
    """The grammar, beside the package in a checkout; an installed package has its tables alone."""
    return Path(__file__).resolve().parents[2] / "grammars" / "arch.lark"


def build(*, strict: bool = False) -> Lark:
    """The parser for the grammar. With `strict`, Lark also rejects ambiguous terminals (this needs interegular)."""
    text = grammar_file().read_text(encoding="utf-8")
    lexer = "contextual" if strict else "basic"
    return Lark(
        text, parser="lalr", lexer=lexer, strict=strict, start=START, keep_all_tokens=True, maybe_placeholders=False
    )


def text_of_tables() -> str:
    """The text of `_tables.py`. The same grammar gives the same text."""
    lark = build()
    rules = {rule: number for number, rule in enumerate(lark.rules)}
    table: Any = lark.parser.parser._parse_table
    states = _numbered(table)
    literals = {t.name: t.pattern.value for t in lark.terminals if isinstance(t.pattern, PatternStr)}
    patterns = {t.name: t.pattern.to_regexp() for t in lark.terminals if t.name not in literals}
    rows = (
        {
            symbol: states[argument] if action is Shift else -1 - rules[argument]
            for symbol, (action, argument) in sorted(table.states[state].items())
        }
        for state in states
    )
    return _HEAD + "".join(
        (
            _mapping("LITERALS", "dict[str, str]", literals),
            _mapping("PATTERNS", "dict[str, str]", patterns),
            _sequence("IGNORED", "tuple[str, ...]", lark.lexer_conf.ignore),
            "# The symbol that each rule gives, its length, and the builder's method; None where the value stays.\n",
            _sequence("RULES", "tuple[tuple[str, int, str | None], ...]", map(_rule, rules)),
            "# For each state the next one by symbol, or -1 - a rule's number to reduce by that.\n",
            _sequence("STATES", "tuple[dict[str, int], ...]", rows),
            _mapping("STARTS", "dict[str, int]", {name: states[s] for name, s in sorted(table.start_states.items())}),
            _mapping("ENDS", "dict[str, int]", {name: states[s] for name, s in sorted(table.end_states.items())}),
        )
    )


def _rule(rule: Any) -> tuple[str, int, str | None]:
    size, origin = len(rule.expansion), str(rule.origin.name)
    stays = size == 1 and rule.options.expand1 and not rule.alias
    return origin, size, None if stays else str(rule.alias or origin)


def _numbered(table: Any) -> dict[object, int]:
    """The states by new numbers, in the order of a walk: Lark's depend on the order of sets."""
    number: dict[object, int] = {}
    waiting = [state for _, state in sorted(table.start_states.items(), reverse=True)]
    while waiting:
        state = waiting.pop()
        if state not in number:
            number[state] = len(number)
            row = sorted(table.states[state].items())
            waiting += [to for _, (action, to) in reversed(row) if action is Shift]
    return number


def _mapping(name: str, annotation: str, entries: Mapping[str, object]) -> str:
    return _literal(f"{name}: {annotation} = {{", (f"{key!r}: {value!r}" for key, value in entries.items()), "}")


def _sequence(name: str, annotation: str, entries: Iterable[object]) -> str:
    return _literal(f"{name}: {annotation} = (", map(repr, entries), ")")


def _literal(head: str, entries: Iterable[str], end: str) -> str:
    return "".join((f"{head}\n", *(f"    {entry},\n" for entry in entries), f"{end}\n"))


if __name__ == "__main__":
    TABLES.write_text(text_of_tables(), encoding="utf-8", newline="\n")
