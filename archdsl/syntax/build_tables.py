"""Writes `_tables.py`, the parse tables of grammars/arch.lark: run `python -m archdsl.syntax.build_tables` after a change of it.

Building them takes Lark a third of a second, loading them a few milliseconds.
"""

from __future__ import annotations

import pprint
from pathlib import Path

from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

TABLES = Path(__file__).with_name("_tables.py")
START = ["file", "value", "documented"]


def grammar_file() -> Path:
    """The grammar: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "grammars" / "arch.lark"
    return inside if inside.is_file() else package.parent / "grammars" / "arch.lark"


def build(*, strict: bool = False) -> Lark:
    """The parser made from the grammar. `strict` has Lark refuse ambiguous terminals too (it needs interegular)."""
    text = grammar_file().read_text(encoding="utf-8")
    lexer = "contextual" if strict else "basic"
    return Lark(
        text, parser="lalr", lexer=lexer, strict=strict, start=START, keep_all_tokens=True, maybe_placeholders=False
    )


def text_of_tables() -> str:
    """The text of `_tables.py`: what Lark serialises, as Python literals."""
    data, memo = build().memo_serialize([TerminalDef, Rule])
    return (
        '"""The parse tables of grammars/arch.lark, made by archdsl.syntax.build_tables: do not edit."""\n\n'
        f"# ruff: noqa\n# fmt: off\nDATA: dict = {_literal(data)}\nMEMO: dict = {_literal(memo)}\n"
    )


def _literal(value: object) -> str:
    return pprint.pformat(value, width=118, compact=True, sort_dicts=False)


if __name__ == "__main__":
    TABLES.write_text(text_of_tables(), encoding="utf-8", newline="\n")
