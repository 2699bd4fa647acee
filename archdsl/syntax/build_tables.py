"""Generates `_tables.py`, the parse tables of grammars/arch.lark, with `python -m archdsl.syntax.build_tables`.

Building them takes Lark a third of a second, loading them a few milliseconds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

TABLES: Final = Path(__file__).with_name("_tables.py")
START: Final = ["file", "value", "documented"]
_SHIFT: Final = 0
_WIDTH: Final = 118


def grammar_file() -> Path:
    """The grammar: in the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "grammars" / "arch.lark"
    return inside if inside.is_file() else package.parent / "grammars" / "arch.lark"


def build(*, strict: bool = False) -> Lark:
    """The parser for the grammar. With `strict`, Lark also rejects ambiguous terminals (this needs interegular)."""
    text = grammar_file().read_text(encoding="utf-8")
    lexer = "contextual" if strict else "basic"
    return Lark(
        text, parser="lalr", lexer=lexer, strict=strict, start=START, keep_all_tokens=True, maybe_placeholders=False
    )


def text_of_tables() -> str:
    """The text of `_tables.py`: Lark's serialised tables as Python literals. The same grammar gives the same text."""
    data, memo = build().memo_serialize([TerminalDef, Rule])
    data["parser"]["parser"] = _ordered(data["parser"]["parser"])
    return (
        '"""The parse tables of grammars/arch.lark, made by archdsl.syntax.build_tables: do not edit."""\n\n'
        "# ruff: noqa\n# fmt: off\nfrom typing import Any\n\n"
        f"DATA: dict[str, Any] = {_literal(data)}\nMEMO: dict[int, Any] = {_literal(memo)}\n"
    )


def _ordered(table: dict[str, Any]) -> dict[str, Any]:
    """Renumbers the tokens and states of a serialised parse table: Lark's numbers depend on the order of sets."""
    names: dict[int, str] = table["tokens"]
    rows = {
        state: sorted((names[token], action) for token, action in row.items()) for state, row in table["states"].items()
    }
    tokens = {name: number for number, name in enumerate(sorted(names.values()))}
    number: dict[int, int] = {}
    waiting = [state for _, state in sorted(table["start_states"].items(), reverse=True)]
    while waiting:
        state = waiting.pop()
        if state not in number:
            number[state] = len(number)
            waiting += [to for _, (kind, to) in reversed(rows[state]) if kind == _SHIFT]

    def action(kind: int, argument: Any) -> tuple[int, Any]:
        return kind, number[argument] if kind == _SHIFT else argument

    return {
        "tokens": {index: name for name, index in tokens.items()},
        "states": {number[s]: {tokens[name]: action(*a) for name, a in rows[s]} for s in number},
        "start_states": {rule: number[s] for rule, s in sorted(table["start_states"].items())},
        "end_states": {rule: number[s] for rule, s in sorted(table["end_states"].items())},
    }


def _literal(value: object) -> str:
    """A literal broken into lines after closing brackets (pprint's indentation would double its length)."""
    lines = [""]
    for piece in re.split(r"(?<=[}\])],) ", repr(value)):
        if len(lines[-1]) + len(piece) > _WIDTH:
            lines.append("")
        lines[-1] += f" {piece}" if lines[-1] else piece
    return "\n".join(lines)


if __name__ == "__main__":
    TABLES.write_text(text_of_tables(), encoding="utf-8", newline="\n")
