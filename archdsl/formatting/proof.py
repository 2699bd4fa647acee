"""Proves that a formatted text says the same: the tree, the comments in their order, and that it stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from itertools import zip_longest
from typing import Final, NamedTuple

from archdsl.common.source import Source, Span
from archdsl.syntax import tree
from archdsl.syntax.lexer import Lexeme
from archdsl.syntax.machine import END

_COMMENT: Final = re.compile(r"#[^\n]*")


class Difference(NamedTuple):
    """A difference between a text and its formatted form: where, and in which words."""

    span: Span
    what: str


def tree_difference(before: tree.File, after: tree.File) -> Difference | None:
    """The first node whose kind, words or children differ; spans are not compared."""
    stack: list[tuple[object, object]] = [(before.declarations, after.declarations)]
    where = Span(before.source, 0, 0)
    while stack:
        a, b = stack.pop()
        where = getattr(a, "span", where)
        if type(a) is not type(b):
            return Difference(where, "the syntax tree would change here")
        if isinstance(a, tuple):
            assert isinstance(b, tuple)
            if len(a) != len(b):
                return Difference(where, "the syntax tree would have another number of parts here")
            stack.extend(zip(reversed(a), reversed(b), strict=True))
        elif names := _fields(type(a)):  # type: ignore[arg-type]
            stack.extend((getattr(a, name), getattr(b, name)) for name in names)
        elif not isinstance(a, Span) and a != b:
            return Difference(where, "a word or a number would change here")
    return None


@cache
def _fields(kind: type) -> tuple[str, ...]:
    """The fields of a node, last first; none for anything else."""
    if kind.__module__ != tree.__name__:
        return ()
    return tuple(field.name for field in reversed(fields(kind)) if not field.name.endswith("span"))


def comments_difference(
    before: tuple[Source, Sequence[Lexeme]], after: tuple[Source, Sequence[Lexeme]]
) -> Difference | None:
    """The first comment that is lost, changed, or moved past another or past a word.

    A comment may move past a comma, an arrow or a parenthesis. Blanks at the ends of comments do not count.
    """
    end = Span(before[0], len(before[0].text), len(before[0].text))
    for a, b in zip_longest(_comments(*before), _comments(*after)):
        if a is None:
            return Difference(end, "a comment would be added")
        if b is None or a.span.text.rstrip() != b.span.text.rstrip() or a.words != b.words:
            return Difference(a.span, "this comment would change or move")
    return None


class _Comment(NamedTuple):
    """A comment and the number of words before it."""

    span: Span
    words: int


_NO_WORDS: Final = frozenset({"COMMA", "ARROW", "LPAR", "RPAR", END})


def _comments(source: Source, tokens: Sequence[Lexeme]) -> Iterator[_Comment]:
    """The comments, from the text between the tokens."""
    end = words = 0
    for token in tokens:
        if token.kind == "NEWLINE":
            continue
        if token.start > end and "#" in source.text[end : token.start]:
            for match in _COMMENT.finditer(source.text, end, token.start):
                yield _Comment(Span(source, *match.span()), words)
        end = token.end
        words += token.kind not in _NO_WORDS


def text_difference(once: Source, twice: str) -> Difference | None:
    """The first line that formatting a second time would change."""
    if once.text == twice:
        return None
    at = 0
    for a, b in zip(once.text.splitlines(keepends=True), twice.splitlines(keepends=True), strict=False):
        if a != b:
            break
        at += len(a)
    return Difference(Span(once, at, at), "formatting again would change this line of the result")
