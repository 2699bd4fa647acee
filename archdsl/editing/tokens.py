"""The tokens of a document with what they mean, for colours, and the ranges that fold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics
from archdsl.editing.names import Names, Symbol
from archdsl.syntax.lexer import CLOSER, OPENER, Lexeme, ParseAborted
from archdsl.syntax.machine import language

TYPES: Final = (
    "comment", "string", "number", "keyword", "operator", "class", "function", "parameter", "variable", "property",
    "enumMember", "namespace",
)  # fmt: skip
MODIFIERS: Final = ("declaration", "readonly", "defaultLibrary")

KINDS: Final = {
    "block": "class",
    "model": "class",
    "extern": "class",
    "augment": "class",
    "function": "function",
    "operation": "function",
    "builtin": "function",
    "parameter": "parameter",
    "value": "variable",
    "size": "variable",
    "label": "variable",
    "input": "variable",
    "shared": "variable",
    "import": "class",
    "word": "enumMember",
    "it": "keyword",
}
LITERALS: Final = {"STRING": "string", "OPEN_STRING": "string", "INT": "number", "FLOAT": "number", "SIZE": "number"}
OPERATORS: Final = frozenset({"COMPARISON", "RANGE", "SIGN", "SCALE", "POWER", "ARROW", "EQUAL"})


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of one line with its type and modifiers, as in TYPES and MODIFIERS."""

    start: int
    end: int
    type: str
    modifiers: tuple[str, ...] = ()


def scanned(source: Source) -> list[Lexeme]:
    """The tokens of a text, without what the grammar makes of them."""
    try:
        return language().scanner.scan(source, 0, len(source.text), Diagnostics())
    except ParseAborted:
        return []


def tokens(names: Names, lexemes: list[Lexeme]) -> Iterator[Token]:
    """The tokens that have a colour, in the order of the text."""
    known = {span.start: (span.end, symbol) for span, symbol in names.occurrences}
    keywords = language().scanner.keywords
    text, at = names.source.text, 0
    for i, lexeme in enumerate(lexemes):
        yield from _comments(text, at, lexeme.start)
        at = lexeme.end
        if lexeme.kind in LITERALS:
            yield Token(lexeme.start, lexeme.end, LITERALS[lexeme.kind])
        elif lexeme.kind in OPERATORS:
            yield Token(lexeme.start, lexeme.end, "operator")
        elif lexeme.kind == "NAME":
            before = lexemes[i - 1].kind if i else ""
            if lexeme.start in known and known[lexeme.start][0] == lexeme.end:
                yield _named(lexeme, known[lexeme.start][1])
            elif before == "DOT":
                yield Token(lexeme.start, lexeme.end, "property")
            elif lexeme.text in keywords:
                yield Token(lexeme.start, lexeme.end, "keyword")
    yield from _comments(text, at, len(text))


def _named(lexeme: Lexeme, symbol: Symbol) -> Token:
    modifiers = []
    if any(span.start == lexeme.start for span in symbol.spans):
        modifiers.append("declaration")
    if symbol.kind in ("value", "size", "parameter"):
        modifiers.append("readonly")
    if symbol.kind in ("operation", "builtin"):
        modifiers.append("defaultLibrary")
    return Token(lexeme.start, lexeme.end, KINDS[symbol.kind], tuple(modifiers))


def _comments(text: str, start: int, end: int) -> Iterator[Token]:
    """The comments between two tokens."""
    while (at := text.find("#", start, end)) >= 0:
        stop = text.find("\n", at, end)
        stop = end if stop < 0 else stop
        yield Token(at, stop, "comment")
        start = stop


def folds(source: Source, lexemes: list[Lexeme]) -> Iterator[tuple[int, int, str]]:
    """The ranges of lines, counted from 1, that fold: what is in brackets, and comments of several lines."""
    opened: list[Lexeme] = []
    for lexeme in lexemes:
        if lexeme.kind in CLOSER:
            opened.append(lexeme)
        elif lexeme.kind in OPENER and opened and opened[-1].kind == OPENER[lexeme.kind]:
            first, last = source.position(opened.pop().start)[0], source.position(lexeme.start)[0]
            if last > first:
                yield first, last - 1, "region"
    start = previous = 0
    for number, line in enumerate([*source.text.split("\n"), ""], 1):
        if line.lstrip().startswith("#"):
            start = start or number
            previous = number
        elif start:
            if previous > start:
                yield start, previous, "comment"
            start = 0
