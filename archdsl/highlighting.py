"""A lexer for Pygments, which colours specs in documentation, notebooks and LaTeX: ```` ```arch ````.

The tokens are those of the parser, so a word is coloured as a keyword only where it is one. Pygments finds the lexer by
its entry point.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar, Final, TypeAlias

from pygments.lexer import Lexer
from pygments.token import (
    Comment,
    Error,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
    _TokenType,
)

from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics
from archdsl.ops import OPERATIONS
from archdsl.syntax.builder import LABEL_PIECE
from archdsl.syntax.lexer import Lexeme
from archdsl.syntax.machine import language
from archdsl.syntax.parser import classified

Piece: TypeAlias = tuple[int, _TokenType, str]

_WORDS: Final = {
    **dict.fromkeys(("TRUE", "FALSE", "NONE"), Keyword.Constant),
    **dict.fromkeys(("AND", "OR", "NOT", "IN"), Operator.Word),
    **dict.fromkeys(("FROM", "IMPORT", "AS"), Keyword.Namespace),
    **dict.fromkeys(("LET", "FN", "BLOCK", "MODEL", "AUGMENT", "EXTERN", "DEFAULT", "SHARE"), Keyword.Declaration),
}
_KINDS: Final = {
    "INT": Number.Integer,
    "FLOAT": Number.Float,
    "SIZE": Number,
    "STRING": String.Double,
    "NEWLINE": Whitespace,
    **dict.fromkeys(("COMPARISON", "RANGE", "SIGN", "SCALE", "POWER", "ARROW", "EQUAL"), Operator),
    **dict.fromkeys(("LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE", "COMMA", "COLON", "DOT"), Punctuation),
}
_GAP: Final = re.compile(r"(?P<blank>\s+)|(?P<comment>#[^\n]*)|(?P<other>[^\s#]+)")
_DEFINED: Final = {"BLOCK": Name.Class, "MODEL": Name.Class, "FN": Name.Function, "AUGMENT": Name.Class}


class ArchLexer(Lexer):  # type: ignore[misc]
    """Specs of archdsl. A text with mistakes is coloured too; what has no meaning is an Error."""

    name = "archdsl"
    aliases: ClassVar = ["arch", "archdsl"]
    filenames: ClassVar = ["*.arch"]
    mimetypes: ClassVar = ["text/x-arch"]
    url = ""

    def get_tokens_unprocessed(self, text: str) -> Iterator[Piece]:
        """The pieces of a text: offset, kind, characters. Together they are the whole text."""
        tokens = classified(Source("spec", text), Diagnostics())
        end = 0
        for index, token in enumerate(tokens):
            if token.start < end or token.end <= token.start:
                continue  # what the parser puts in where something is missing
            yield from _between(text, end, token.start)
            yield from _colours(text, tokens, index)
            end = token.end
        yield from _between(text, end, len(text))


def _between(text: str, start: int, end: int) -> Iterator[Piece]:
    kinds = {"blank": Whitespace, "comment": Comment.Single, "other": Error}
    for match in _GAP.finditer(text, start, end):
        yield match.start(), kinds[match.lastgroup or "other"], match[0]


def _colours(text: str, tokens: list[Lexeme], index: int) -> Iterator[Piece]:
    token = tokens[index]
    before = tokens[index - 1].kind if index else "NEWLINE"
    after = tokens[index + 1].kind if index + 1 < len(tokens) else "NEWLINE"
    written = text[token.start : token.end]
    if token.kind == "STRING" and after == "COLON":
        yield from _label(written, token.start)
    elif token.kind == "STRING" and before == "LBRACE":
        yield token.start, String.Doc, written
    elif token.kind == "NAME":
        yield token.start, _name(written, before, after), written
    elif token.kind in _KINDS:
        yield token.start, _KINDS[token.kind], written
    else:
        known = token.text in language().scanner.keywords
        yield token.start, _WORDS.get(token.kind, Keyword) if known else Error, written


def _name(word: str, before: str, after: str) -> _TokenType:
    if before in _DEFINED:
        return _DEFINED[before]
    if after == "COLON":
        return Name.Label
    if word == "it":
        return Name.Builtin.Pseudo
    if after == "EQUAL" and before in ("LPAR", "COMMA"):
        return Name.Attribute
    return Name.Builtin if word in OPERATIONS and before != "DOT" else Name


def _label(text: str, start: int) -> Iterator[Piece]:
    """A quoted label, with its computed parts."""
    end = 0
    for match in LABEL_PIECE.finditer(text, 1, len(text) - 1):
        if match.lastgroup == "value":
            yield start + end, String.Double, text[end : match.start()]
            yield start + match.start(), String.Interpol, match[0]
            end = match.end()
    yield start + end, String.Double, text[end:]
