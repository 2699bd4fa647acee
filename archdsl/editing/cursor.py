"""The construct at the cursor, found from the tokens before it: the text behind may be incomplete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics
from archdsl.syntax.lexer import CLOSER, OPENER, Lexeme, ParseAborted
from archdsl.syntax.machine import language

What = Literal[
    "item", "statement", "declaration", "value", "argument", "attribute", "module", "imported", "label", "nothing"
]

DECLARATION: Final = re.compile(r"^(?:from|let|fn|block|model|augment|extern|default)\b", re.MULTILINE)

# After these a value follows, within a body.
_VALUES: Final = frozenset({"EQUAL", "SIGN", "SCALE", "POWER", "COMPARISON", "RANGE", "COMMA", "LSQB", "LPAR"})
_VALUE_WORDS: Final = frozenset({"if", "repeat", "require", "in", "and", "or", "not", "else"})
_HEADS: Final = frozenset({"let", "fn", "for", "if", "repeat", "require", "expect", "input"})


@dataclass(frozen=True, slots=True)
class Callee:
    """An open call: its name, the position of the current argument, and the names of those before it.

    `at` is the offset of the name, `argument` the name of the current argument, if it is given by name.
    """

    name: str
    at: int
    position: int
    given: frozenset[str]
    argument: str | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """The context of an offset: the word before it, from `start` on, and the kinds of words that fit there.

    `callee` is the innermost open call, `module` that of an import, `base` the name before a dot.
    """

    what: What
    start: int
    word: str
    callee: Callee | None = None
    module: str = ""
    base: str = ""
    kind: str = ""
    """The kind of the body or list around it: file, body, augment, extern, parallel, list."""


def cursor(source: Source, offset: int) -> Cursor:
    """The construct at an offset."""
    text = source.text
    start = offset
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    word = text[start:offset]
    line_start = text.rfind("\n", 0, start) + 1
    if _is_in_comment_or_string(text[line_start:start]):
        return Cursor("nothing", start, word)
    tokens = _tokens(source, _declaration_start(text, start), start)
    return _Reader(tokens, start, word).read()


def _is_in_comment_or_string(line: str) -> bool:
    """Whether the end of this part of a line is within a comment or string."""
    rest = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
    return "#" in rest or '"' in rest


def _declaration_start(text: str, offset: int) -> int:
    """Where the declaration around an offset begins: what is before it does not matter."""
    start = 0
    for match in DECLARATION.finditer(text, 0, offset):
        start = match.start()
    return start


def _tokens(source: Source, start: int, end: int) -> list[Lexeme]:
    try:
        return language().scanner.scan(source, start, end, Diagnostics())
    except ParseAborted:
        return []


@dataclass(slots=True)
class _Reader:
    """Reads the tokens before the cursor."""

    tokens: list[Lexeme]
    start: int
    word: str

    def read(self) -> Cursor:
        tokens = self.tokens
        opened = self.open_brackets()
        statement = self.statement(opened)
        last = tokens[-1] if tokens else None
        if last is not None and last.kind == "DOT" and not self.is_import(statement):
            base = tokens[-2].text if len(tokens) > 1 and tokens[-2].kind == "NAME" else ""
            return self.make("attribute", base=base)
        if self.is_import(statement):
            return self.importing(statement)
        callee = self.callee(opened)
        kind = self.kind(opened)
        if callee is not None and opened and tokens[opened[-1]].kind == "LPAR":
            named = last is not None and last.kind in ("LPAR", "COMMA", "NEWLINE")
            return self.make("argument" if named else "value", callee=callee, kind=kind)
        if opened and tokens[opened[-1]].kind == "LSQB":
            return self.make("value", callee=callee, kind="list")
        return self.make(self.place(statement, kind), kind=kind)

    def make(self, what: What, **more: object) -> Cursor:
        return Cursor(what, self.start, self.word, **more)  # type: ignore[arg-type]

    def open_brackets(self) -> list[int]:
        opened: list[int] = []
        for i, token in enumerate(self.tokens):
            if token.kind in CLOSER:
                opened.append(i)
            elif token.kind in OPENER:
                # A bracket that closes nothing is skipped; one that closes an outer one ends what is inside.
                while opened and self.tokens[opened[-1]].kind != OPENER[token.kind]:
                    opened.pop()
                if opened:
                    opened.pop()
        return opened

    def statement(self, opened: list[int]) -> list[Lexeme]:
        """The tokens of the statement so far, without those in closed brackets before it."""
        first = opened[-1] + 1 if opened else 0
        depth = 0
        for i in range(len(self.tokens) - 1, first - 1, -1):
            kind = self.tokens[i].kind
            if kind in OPENER:
                depth += 1
            elif kind in CLOSER:
                depth -= 1
            elif kind == "NEWLINE" and depth == 0 and not self.joins(i):
                return self.tokens[i + 1 :]
        return self.tokens[first:]

    def joins(self, i: int) -> bool:
        """Whether the statement goes on behind the newline at `i`."""
        return i > 0 and self.tokens[i - 1].kind in ("ARROW", "COMMA", "EQUAL")

    def is_import(self, statement: list[Lexeme]) -> bool:
        return (bool(statement) and statement[0].text == "from" and len(statement) != 2) or (
            len(statement) >= 2 and statement[0].text == "from"
        )

    def importing(self, statement: list[Lexeme]) -> Cursor:
        words = [t.text for t in statement]
        if "import" not in words:
            return self.make("module", module="".join(words[1:]))
        module = "".join(words[1 : words.index("import")])
        naming = words[-1] == "as"
        return self.make("nothing" if naming else "imported", module=module)

    def kind(self, opened: list[int]) -> str:
        """The kind of the innermost body, or of a parallel."""
        if not opened:
            return "file"
        token = self.tokens[opened[-1]]
        if token.kind == "LPAR":
            return "parallel"
        head = self.tokens[0].text if self.tokens else ""
        outermost = len([i for i in opened if self.tokens[i].kind == "LBRACE"]) == 1
        if head == "augment":
            return "augment"
        return "extern" if head == "extern" and outermost else "body"

    def callee(self, opened: list[int]) -> Callee | None:
        """The innermost call whose parenthesis is open."""
        for i in reversed(opened):
            token = self.tokens[i]
            if token.kind == "LBRACE":
                return None
            if token.kind == "LPAR" and i > 0 and self.tokens[i - 1].kind == "NAME":
                name = self.tokens[i - 1]
                before = self.tokens[i - 2].text if i > 1 else ""
                if before in ("block", "model", "fn", "extern") or name.text in _VALUE_WORDS:
                    return None
                return self.arguments(i, name)
        return None

    def arguments(self, opening: int, name: Lexeme) -> Callee:
        position, depth, given = 0, 0, set()
        argument: str | None = None
        for i in range(opening + 1, len(self.tokens)):
            kind = self.tokens[i].kind
            if kind in CLOSER:
                depth += 1
            elif kind in OPENER:
                depth -= 1
            elif depth == 0 and kind == "COMMA":
                position, argument = position + 1, None
            elif depth == 0 and kind == "EQUAL" and self.tokens[i - 1].kind == "NAME":
                argument = self.tokens[i - 1].text
                given.add(argument)
        return Callee(name.text, name.start, position, frozenset(given), argument)

    def place(self, statement: list[Lexeme], kind: str) -> What:
        """The kinds of words that fit next in a statement of a body, of a parallel, or of the file."""
        if not statement:
            return "declaration" if kind == "file" else "item" if kind == "parallel" else "statement"
        head, last = statement[0].text, statement[-1]
        if head in ("block", "model", "augment", "extern") and kind == "file":
            return "value" if last.kind == "EQUAL" else "label" if last.text == "augmented" else "nothing"
        if head in ("let", "fn", "for", "input", "default") and len(statement) == 1:
            return "item" if head == "default" else "nothing"
        if head == "output":
            return "label"
        if last.kind in ("ARROW", "COLON") or last.text in ("via",) or (kind == "parallel" and last.kind == "COMMA"):
            return "item"
        if last.kind in _VALUES or last.text in _VALUE_WORDS:
            return "value" if head in _HEADS or last.kind != "COMMA" else "item"
        return "nothing"
