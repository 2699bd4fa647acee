"""The parser of .arch: text in, syntax tree and diagnostics out. It never raises for what a text holds."""

from __future__ import annotations

import errno
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from lark import Lark
from lark.exceptions import UnexpectedToken
from lark.lexer import Token
from lark.parsers.lalr_interactive_parser import InteractiveParser
from lark.parsers.lalr_parser_state import ParseConf, ParserState

from archdsl.diagnostics import Diagnostics
from archdsl.source import Source, Span
from archdsl.syntax import tree
from archdsl.syntax._tables import DATA, MEMO
from archdsl.syntax.builder import Builder
from archdsl.syntax.errors import explain
from archdsl.syntax.lexer import Scanner, TooDeep, classify, pair

MAX_ERRORS: Final = 100
"""How many errors of one text are reported."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""The largest file that is read."""


def parse(source: Source, diagnostics: Diagnostics) -> tree.File:
    """The syntax tree of a text. Where the text breaks the grammar, diagnostics say so, and the tree has the rest."""
    found = Diagnostics()
    file = _Parse(source, found).file()
    found.items.sort(key=lambda d: d.marks[0].span.start)
    for diagnostic in found.items[:MAX_ERRORS]:
        diagnostics.add(diagnostic)
    if len(found.items) > MAX_ERRORS:
        where = found.items[MAX_ERRORS].marks[0]
        diagnostics.error("E0110", f"{len(found.items) - MAX_ERRORS} more errors follow from here on", where)
    return file


def parse_value(source: Source, diagnostics: Diagnostics) -> tree.Value | None:
    """The value that a text is (`--set NAME=VALUE`); None, with diagnostics, where it is none."""
    return _Parse(source, diagnostics).value(0, len(source.text))


def parse_value(source: Source, diagnostics: Diagnostics) -> tree.Value:
    """A text that is one value, such as an argument of the command line; None's literal, with diagnostics, if it is none."""
    found = Diagnostics()
    value = _Parse(source, found).value(0, len(source.text))
    for diagnostic in found.items[:MAX_ERRORS]:
        diagnostics.add(diagnostic)
    return value if value is not None else tree.Literal(Span(source, 0, len(source.text)), None)


@cache
def _language() -> tuple[Lark, Scanner]:
    lark = Lark._load_from_dict(DATA, MEMO)
    return lark, Scanner(lark.terminals, lark.lexer_conf.ignore)


class _Parse:
    """The parse of one source, and of the values in its quoted labels."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source, self.diagnostics = source, diagnostics
        self.lark, self.scanner = _language()
        builder = Builder(source, diagnostics, self.value)
        self.callbacks = self.lark._parse_tree_builder.create_callback(builder)  # type: ignore[no-untyped-call]

    def file(self) -> tree.File:
        nothing = tree.File(self.source, ())
        return cast(tree.File, self.text("file", 0, len(self.source.text)) or nothing)

    def value(self, start: int, end: int) -> tree.Value | None:
        """The value that stands between two offsets; None, with diagnostics, where none does."""
        return cast(tree.Value | None, self.text("value", start, end))

    def text(self, rule: str, start: int, end: int) -> object | None:
        try:
            paired = pair(self.source, self.scanner.scan(self.source, start, end, self.diagnostics), self.diagnostics)
        except TooDeep:
            return None
        tokens = classify(paired, self.scanner.keywords, value=rule == "value")
        tokens.append(Token("$END", "", end, None, None, None, None, end))
        run = _Run(self, tokens, paired.doubtful)
        result = run.rule(rule, 0, len(tokens) - 1)
        while run.skipped:
            # What stands in braces behind a broken head is read for its own mistakes.
            run.rule("documented", *run.skipped.pop())
        return result


class _Run:
    """One walk of the parser over tokens, with recovery: after an error it goes on at the next statement."""

    def __init__(self, parse: _Parse, tokens: list[Token], doubtful: list[tuple[int, int]]) -> None:
        self.parse, self.tokens, self.doubtful = parse, tokens, doubtful
        self.skipped: list[tuple[int, int]] = []

    def rule(self, rule: str, start: int, end: int) -> object | None:
        """What the rule makes of the tokens from index `start` to `end`, or None if no part of them can be used."""
        table = self.parse.lark.parser.parser._parse_table
        state: ParserState[int] = ParserState(ParseConf(table, self.parse.callbacks, rule), cast(Any, None))
        tokens, stack, feed = self.tokens, state.state_stack, state.feed_token
        # For each open body: the height of the stack, and the token, at which its newest statement starts.
        bodies = [(len(stack), start)]
        i = start
        while i < end:
            token = tokens[i]
            kind = token.type
            try:
                feed(token)
            except UnexpectedToken:
                i = self.recover(state, bodies[-1], i, end, rule)
                if i < 0:
                    return None
                continue
            i += 1
            if kind == "NEWLINE":
                bodies[-1] = (len(stack), i)
            elif kind == "LBRACE":
                bodies.append((len(stack), i))
            elif kind == "RBRACE":
                bodies.pop()
        last = tokens[end]
        final = Token("$END", "", last.start_pos, None, None, None, None, last.end_pos)
        try:
            return cast(object, feed(final, True))
        except UnexpectedToken:
            self.report(state, final, end, bodies[-1][1])
        if rule != "file" or len(stack) < bodies[0][0]:
            return None
        self.unwind(state, bodies[0][0])
        return cast(object, feed(final, True))

    def recover(self, state: ParserState[int], body: tuple[int, int], i: int, end: int, rule: str) -> int:
        """Reports the token at `i`, takes the stack back to the start of its statement, and says where to go on."""
        height, start = body
        self.report(state, self.tokens[i], i, start)
        if rule == "value" or len(state.state_stack) < height:
            return -1
        self.unwind(state, height)
        return self.skip(i, end)

    def unwind(self, state: ParserState[int], height: int) -> None:
        del state.state_stack[height:]
        del state.value_stack[height - 1 :]

    def skip(self, i: int, end: int) -> int:
        """The index of the next statement, or of the brace that ends this body. Bodies on the way are noted."""
        depth = opening = 0
        while i < end:
            kind = self.tokens[i].type
            if kind == "LBRACE":
                if depth == 0:
                    opening = i
                depth += 1
            elif kind == "RBRACE":
                if depth == 0:
                    return i
                depth -= 1
                if depth == 0 and any(t.type == "NEWLINE" for t in self.tokens[opening:i]):
                    self.skipped.append((opening, i + 1))
            elif kind == "NEWLINE" and depth == 0:
                return i + 1
            i += 1
        return i

    def report(self, state: ParserState[int], token: Token, i: int, start: int) -> None:
        """Says what is wrong at a token, unless a bracket is missing there, which has been said."""
        at = token.start_pos or 0
        if any(a <= at <= b for a, b in self.doubtful):
            return
        accepted = InteractiveParser(cast(Any, None), state, cast(Any, _NoLexer)).accepts()
        explain(self.parse.source, self.parse.diagnostics, self.tokens, i, start, accepted)


class _NoLexer:
    """Stands for the lexer in Lark's trials of what would be accepted, which reads nothing from it but this."""

    _Token = Token


# ---------------------------------------------------------------- files


def read(path: Path | str, diagnostics: Diagnostics) -> Source | None:
    """The text of a file; None, with a diagnostic, where there is none to be had. Line ends become `\\n`, a BOM is skipped."""
    name = str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        diagnostics.error("E0001", f"there is no file `{name}`")
        return None
    except IsADirectoryError:
        diagnostics.error("E0002", f"`{name}` is a directory", help="name a .arch file in it")
        return None
    except PermissionError:
        diagnostics.error("E0006", f"`{name}` cannot be read: permission denied")
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        code = "E0001" if isinstance(error, OSError) and error.errno == errno.ENOTDIR else "E0006"
        diagnostics.error(code, f"`{name}` cannot be read: {reason[:1].lower()}{reason[1:]}")
        return None
    if len(data) > MAX_BYTES:
        diagnostics.error("E0006", f"`{name}` cannot be read: it is larger than {MAX_BYTES // 1024**2} MiB")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Offsets of the decoder count from behind a BOM.
        at = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, at) + 1
        where = f"byte 0x{data[at]:02x} at offset {at}, line {line}"
        help = "save it as UTF-8" + (" (it looks like UTF-16)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "")
        diagnostics.error("E0004", f"`{name}` is not UTF-8: {where}", help=help)
        return None
    if "\0" in text:
        at = data.index(0)
        line = data.count(b"\n", 0, at) + 1
        diagnostics.error("E0005", f"`{name}` is not a text: it has a NUL byte at offset {at}, line {line}")
        return None
    return Source(name, text.replace("\r\n", "\n").replace("\r", "\n"), Path(path))
