"""A spec as nested pieces: brackets hold items, items are chains of links, links are words and brackets.

A comment belongs to the piece beside it. The pieces come from the tokens and the text between them alone, so
a new statement of the grammar needs nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from archdsl.syntax.lexer import CLOSER, OPENER, Lexeme
from archdsl.syntax.machine import END

Role: TypeAlias = Literal["file", "body", "choices", "parallel", "call", "group", "list", "index"]
"""The kind of a bracket: `{ }` of statements or of `one_of`, `( )` of branches, arguments or one value, `[ ]` of values
or after a value."""


class Comment(NamedTuple):
    """A comment; `own` has a line of its own, `blank` an empty line above."""

    text: str
    own: bool
    blank: bool


class Word(NamedTuple):
    """A token other than a bracket; `space` says whether a space is before it."""

    text: str
    kind: str
    space: bool


@dataclass(slots=True, eq=False)
class Link:
    """One step of a chain. `before` and `after` are comments above its arrow and behind its last word."""

    parts: list[Part] = field(default_factory=list)
    before: list[Comment] = field(default_factory=list)
    after: Comment | None = None
    split: bool = False
    """Whether the author put its arrow on a new line."""
    padded: bool = False
    column: int = 0
    """In the author's text: whether it or its arrow follows more spaces than needed, and its column."""
    flat: str | None = ""
    """The link on one line; None if it needs several."""


@dataclass(slots=True, eq=False)
class Item:
    """A statement, an element or a declaration."""

    links: list[Link]
    before: list[Comment] = field(default_factory=list)
    after: Comment | None = None
    blank: bool = False
    """Whether an empty line is above it (below its comments)."""
    fresh: bool = False
    """Whether it begins a line."""
    flat: str | None = None

    def split(self) -> bool:
        """Whether its arrows are on lines of their own, by the author's choice or for a comment."""
        return any(link.split or link.before for link in self.links[1:]) or any(
            link.after is not None for link in self.links[:-1]
        )


@dataclass(slots=True, eq=False)
class Bracket:
    """A pair of brackets. `note` is a comment behind the opening one, `last` are those above the closing one."""

    role: Role
    opening: str
    space: bool
    items: list[Item] = field(default_factory=list)
    note: Comment | None = None
    last: list[Comment] = field(default_factory=list)
    hard: bool = False
    """Whether it takes several lines whatever its length."""
    flat: str | None = None

    @property
    def closing(self) -> str:
        return {"(": ")", "[": "]", "{": "}"}[self.opening]

    @property
    def comma(self) -> bool:
        """Whether a comma may follow its last item."""
        return self.role in ("parallel", "call") or (self.role == "list" and bool(self.items))


Part: TypeAlias = Word | Bracket | Comment

# ---------------------------------------------------------------- spaces

_CALLED: Final = frozenset({"NAME", "WINDOWS", "GRID"})
_OPERANDS: Final = frozenset({"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE", "RPAR", "RSQB"})
_NUMBERS: Final = frozenset({"INT", "FLOAT", "SIZE"})
_TIGHT_AFTER: Final = frozenset({"", "DOT", "RANGE", "UNARY"})
_TIGHT_BEFORE: Final = frozenset({"COMMA", "COLON"})
_JOINED: Final = frozenset({"DOT", "RANGE"})
_ENDS: Final = frozenset({"NAME", "RPAR", "RBRACE"})
_INDEXED: Final = frozenset({"NAME", "STRING", "RPAR", "RSQB"})


def _space(before: str, kind: str) -> bool:
    """Whether a space is between two kinds of tokens; `before` is "" at the start of a link."""
    if before in _TIGHT_AFTER or kind in _TIGHT_BEFORE:
        return False
    if kind in _JOINED:
        return before in _NUMBERS and (kind == "DOT" or before == "SIZE")
    if kind == "LPAR":
        return before not in _CALLED
    if kind == "LSQB":
        return before not in _INDEXED
    return True


# ---------------------------------------------------------------- reading

_LINES: Final = re.compile(r"\n|#[^\n]*")


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.bracket = Bracket("file", "", False, hard=True)
        self.open: list[tuple[Bracket, Item | None, str]] = []
        self.item: Item | None = None
        self.before = ""
        """The kind of the last token of the current link, "" at its start; a sign without a left operand is UNARY."""
        self.waiting: list[Comment] = []
        """Comments above the next item."""
        self.fresh, self.blank, self.spaces = True, False, 0
        """Whether the next token begins a line, whether an empty line is above it, and the spaces before it."""
        self.line = -1
        """The offset of the last line feed."""

    def run(self, tokens: list[Lexeme]) -> Bracket:
        text, end, last = self.text, 0, ""
        for token in tokens:
            kind = token.kind
            if kind == "NEWLINE":
                self.item = None
                continue
            gap = text[end : token.start]
            if gap in ("", " "):
                self.fresh = self.blank = False
                self.spaces = len(gap)
            else:
                self.between(gap, end, last, kind)
            if kind in CLOSER:
                self.opened(token)
            elif kind in OPENER:
                self.closed()
            elif kind == "ARROW":
                self.arrow(token)
            elif kind == "COMMA" and self.separates():
                self.item = None
            elif kind != END:
                self.word(token)
            end, last = token.end, kind
        self.bracket.last = self.waiting
        return self.bracket

    def separates(self) -> bool:
        """Whether a comma ends an item: in a body it does not, nor between the names of a `for`."""
        if self.bracket.role in ("file", "body", "choices"):
            return False
        parts = self.item.links[-1].parts if self.item else []
        names = [part.kind for part in parts if isinstance(part, Word)]
        return not names or names[0] != "FOR" or "IN" in names

    # ------------------------------------------------------------ the text between two tokens

    def between(self, gap: str, start: int, last: str, kind: str) -> None:
        """Notes the lines and comments of a gap from an offset. `last` and `kind` are the tokens around it."""
        lines = 0 if last else 1
        comments: list[Comment] = []
        for match in _LINES.finditer(gap):
            if match[0] == "\n":
                lines += 1
            else:
                comments.append(Comment(match[0].rstrip(), lines > 0, lines > 1))
                lines = 0
        self.fresh, self.blank, self.spaces = lines > 0, lines > 1, len(gap)
        if "\n" in gap:
            self.line = start + gap.rindex("\n")
        if comments:
            self.place(comments, last, kind)

    def place(self, comments: list[Comment], last: str, kind: str) -> None:
        if not comments[0].own and self.behind(comments[0], last, kind):
            comments = comments[1:]
        ends = kind in OPENER or kind in ("ARROW", END) or (kind == "COMMA" and self.separates())
        if self.item is not None and not ends and last != "ARROW":
            self.item.links[-1].parts += comments
        elif last == "ARROW" and self.item is not None:
            self.item.links[-1].before += [c._replace(own=True) for c in comments]
        else:
            self.waiting += [c._replace(own=True) for c in comments]

    def behind(self, comment: Comment, last: str, kind: str) -> bool:
        """Places a comment on the line of what is before it; False if it belongs between words, or if a comment
        that comes first has no place there."""
        if last in CLOSER:
            self.bracket.note = comment
            return True
        ends = kind in OPENER or kind == END or (kind == "COMMA" and self.separates())
        piece: Item | Link | None = None
        if self.item is not None and (last == "ARROW" or kind == "ARROW"):
            piece = self.item.links[-2 if last == "ARROW" else -1]
            passed = self.item.links[-1].before if last == "ARROW" else []
        elif (self.item is None or ends) and self.bracket.items:
            piece, passed = self.bracket.items[-1], self.waiting
        if piece is None or piece.after is not None or passed:
            return False
        piece.after = comment
        return True

    # ------------------------------------------------------------ tokens

    def link(self, token: Lexeme) -> Link:
        """The current link; a new item begins if there is none."""
        if self.bracket.role == "choices" and self.before in _ENDS and token.kind in ("NAME", "ONE_OF"):
            self.item = None
        if self.item is None:
            blank = self.blank and bool(self.bracket.items or self.waiting)
            padded = not self.fresh and self.spaces > (len(self.bracket.items) > 0)
            first = Link(padded=padded, column=self.column(token))
            self.item = Item([first], self.waiting, None, blank, self.fresh)
            self.bracket.items.append(self.item)
            self.waiting, self.before = [], ""
        link = self.item.links[-1]
        if self.fresh and not link.parts and len(self.item.links) > 1:
            link.split = True
        return link

    def word(self, token: Lexeme) -> None:
        kind = token.kind
        parts = self.link(token).parts
        space = _space(self.before, kind)
        if kind == "SIGN" and self.before not in _OPERANDS:
            kind = "UNARY"
        parts.append(Word(token.text, kind, space))
        self.before = kind

    def column(self, token: Lexeme) -> int:
        """The column of a token, for the links that may be aligned."""
        return token.start - self.line

    def arrow(self, token: Lexeme) -> None:
        assert self.item is not None
        padded = not self.fresh and self.spaces > 1
        self.item.links.append(Link([], self.waiting, None, self.fresh, padded, self.column(token)))
        self.waiting, self.before = [], ""

    def opened(self, token: Lexeme) -> None:
        link = self.link(token)
        bracket = Bracket(self.role(token.kind), token.text, _space(self.before, token.kind))
        link.parts.append(bracket)
        self.open.append((self.bracket, self.item, token.kind))
        self.bracket, self.item, self.before = bracket, None, ""

    def role(self, kind: str) -> Role:
        before = self.before
        if kind == "LBRACE":
            return "choices" if before == "ONE_OF" else "body"
        if kind == "LSQB":
            return "list" if _space(before, kind) or before == "" else "index"
        if not _space(before, kind) and before:
            return "call"
        if before in ("CALL", "FIELD"):
            return "call"
        items = self.bracket.role in ("body", "parallel")
        return "parallel" if items and before in ("", "COLON", "VIA") else "group"

    def closed(self) -> None:
        bracket = self.bracket
        bracket.last, self.waiting = self.waiting, []
        outer, item, kind = self.open.pop()
        _settle(bracket)
        self.bracket, self.item, self.before = outer, item, CLOSER[kind]


_KEPT: Final = frozenset({"body", "choices", "parallel", "list"})
"""Brackets that stay on several lines if the author has put their first item on a new one."""


def _settle(bracket: Bracket) -> None:
    """Decides, at its end, whether a bracket can be on one line, and its text there."""
    items = bracket.items
    noted = bracket.note is not None or bool(bracket.last)
    wide = bracket.role in _KEPT and bool(items) and items[0].fresh
    lines = bracket.role == "body" and len(items) > 1
    lines = lines or (bracket.role == "choices" and any(item.fresh for item in items))
    bracket.hard = noted or wide or lines or any(item.before or item.after for item in items)
    for item in items:
        _flatten(item)
    if bracket.hard or any(item.flat is None for item in items):
        bracket.hard = True
        return
    texts = [item.flat or "" for item in items]
    if bracket.role in ("body", "choices"):
        bracket.flat = f"{{ {'  '.join(texts)} }}" if texts else "{}"
    else:
        bracket.flat = f"{bracket.opening}{', '.join(texts)}{bracket.closing}"


def _flatten(item: Item) -> None:
    for link in item.links:
        _branches(link)
        link.flat = flat_text(link.parts)
    item.flat = None
    if all(link.flat is not None for link in item.links) and not item.split():
        item.flat = " -> ".join(link.flat or "" for link in item.links)


def _branches(link: Link) -> None:
    """Where one branch of an `if` takes several lines, all do."""
    first = link.parts[0] if link.parts else None
    if isinstance(first, Word) and first.kind == "IF":
        bodies = [part for part in link.parts if isinstance(part, Bracket) and part.role == "body"]
        if any(body.hard for body in bodies):
            for body in bodies:
                body.hard = body.hard or bool(body.items)
                body.flat = None if body.hard else body.flat


def flat_text(parts: Sequence[Part]) -> str | None:
    """The text of parts on one line; None if they need several."""
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Comment):
            return None
        text = part.text if isinstance(part, Word) else part.flat
        if text is None:
            return None
        texts.append(f" {text}" if part.space and texts else text)
    return "".join(texts)


def read_pieces(text: str, tokens: list[Lexeme]) -> Bracket:
    """The pieces of a text without syntax errors; `tokens` as the parser reads them, with the end."""
    whole = _Reader(text).run(tokens)
    for item in whole.items:
        _flatten(item)
    return whole
