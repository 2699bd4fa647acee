"""The parser of .arch files: text to syntax tree and diagnostics. It never raises because of the text."""

from __future__ import annotations

import errno
import re
from bisect import bisect_left, bisect_right
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final, cast

from archdsl.common.files import read_most
from archdsl.common.limits import limits
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostics, Mark, did_you_mean
from archdsl.syntax import tree
from archdsl.syntax.brackets import pair
from archdsl.syntax.builder import Builder
from archdsl.syntax.errors import explain
from archdsl.syntax.heads import mended_parameters
from archdsl.syntax.lexer import GIVE_UP, Lexeme, ParseAborted, classify, span_of
from archdsl.syntax.machine import END, MISSING, Machine, language

MAX_ERRORS: Final = 100
"""How many errors of one text are reported."""


def parse(source: Source, diagnostics: Diagnostics) -> tree.File:
    """The syntax tree of a text. Syntax errors become diagnostics, and the tree has everything else."""
    return parse_tokens(source, diagnostics)[0]


def parse_tokens(source: Source, diagnostics: Diagnostics) -> tuple[tree.File, list[Lexeme]]:
    """The syntax tree of a text, as `parse` gives it, and the tokens of which the grammar makes it, with the end."""
    found = Diagnostics()
    parse = _Parse(source, found)
    file = parse.file()
    found.items.sort(key=lambda d: d.marks[0].span.start)
    if not _looks_like_a_spec(source, len(found.items)):
        number = f"{len(found.items):,}" if len(found.items) <= GIVE_UP else f"more than {GIVE_UP:,}"
        errors = "syntax error" if len(found.items) == 1 else "syntax errors"
        message = f"`{source.name}` does not look like a spec: it has {number} {errors}"
        first = Mark(found.items[0].marks[0].span, "the first one" if len(found.items) > 1 else "")
        diagnostics.error("E0007", message, first, help=_meant(source.name))
        return tree.File(source, ()), []
    for diagnostic in found.items[:MAX_ERRORS]:
        diagnostics.add(diagnostic)
    if len(found.items) > MAX_ERRORS:
        where = found.items[MAX_ERRORS].marks[0]
        number = f"{len(found.items) - MAX_ERRORS}" if len(found.items) <= GIVE_UP else f"{GIVE_UP - MAX_ERRORS} and"
        diagnostics.error("E0110", f"{number} more errors follow", where)
    return file, parse.tokens


def classified(source: Source, diagnostics: Diagnostics) -> list[Lexeme]:
    """The tokens of a text, its keywords distinguished from names, whether or not they make a file."""
    parse = _Parse(source, diagnostics)
    parse.file()
    return parse.tokens


def parse_value(source: Source, diagnostics: Diagnostics) -> tree.Value:
    """The expression in a text (`--set NAME=VALUE`); `none`, with diagnostics, if it is invalid."""
    found = Diagnostics()
    value = _Parse(source, found).value(0, len(source.text))
    for diagnostic in found.items[:MAX_ERRORS]:
        diagnostics.add(diagnostic)
    return value if value is not None else tree.Literal(Span(source, 0, len(source.text)), None)


FEW: Final = 10
"""The number of errors that a .arch file may have if nothing else indicates that it is a spec."""

BODY: Final = re.compile(r"^\s*(?:block|model|augment)\s+\w+\s*[({=]", re.MULTILINE)
DECLARATION: Final = re.compile(r"^(?:fn\s+\w+\s*\(|let\s+\w+\s*=|default\s+\w+\s*\()", re.MULTILINE)


def _looks_like_a_spec(source: Source, errors: int) -> bool:
    """Whether a text with so many errors is a spec with mistakes rather than another language."""
    if not errors or source.path is None:
        return True
    bodies, others = len(BODY.findall(source.text)), len(DECLARATION.findall(source.text))
    if source.path.suffix in ("", ".arch"):
        return bodies > 0 or errors <= max(FEW, others)
    return errors <= 4 * bodies + others


def _meant(name: str) -> str:
    """Advice for a file that is not a spec."""
    match Path(name).suffix.lower():
        case ".pth" | ".pt" | ".ckpt" | ".safetensors":
            return f"to compare weights, run `archdsl weights SPEC {name}`"
        case ".py":
            return "archdsl writes Python but does not read it; a spec contains `model NAME { input image[3, H, W] … }`"
        case ".onnx" | ".pt2":
            return "archdsl writes such files but does not read them"
        case _:
            return (
                "name a .arch file, with `model NAME { input image[3, H, W] … }`, or a model listed by `archdsl list`"
            )


class _Parse:
    """The parse of one source and of the expressions in its quoted labels."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source, self.diagnostics = source, diagnostics
        self.language = language()
        self.callbacks = self.language.callbacks(Builder(source, diagnostics, self.value))
        self.tokens: list[Lexeme] = []

    def file(self) -> tree.File:
        nothing = tree.File(self.source, ())
        return cast(tree.File, self.text("file", 0, len(self.source.text)) or nothing)

    def value(self, start: int, end: int) -> tree.Value | None:
        """The expression between two offsets; None, with diagnostics, if it is invalid."""
        return cast(tree.Value | None, self.text("value", start, end))

    def text(self, rule: str, start: int, end: int) -> object | None:
        before = len(self.diagnostics.items)
        scanner = self.language.scanner
        try:
            tokens = scanner.scan(self.source, start, end, self.diagnostics)
            broken = [d.marks[0].span.start for d in self.diagnostics.items[before:]]
            paired = pair(self.source, tokens, broken, self.diagnostics)
        except ParseAborted:
            return None
        tokens = classify(paired, scanner.keywords, value=rule == "value")
        tokens.append(Lexeme(END, "", end, end))
        if rule == "file":
            self.tokens = tokens
        run = _Pass(self, tokens, paired.doubtful, broken)
        try:
            result = run.rule(rule, 0, len(tokens) - 1)
            while run.skipped:
                # Parse the body after a broken head, to find its own errors.
                run.rule("documented", *run.skipped.pop())
        except ParseAborted:
            return None
        return result


class _Pass:
    """One pass of the parser over tokens, with recovery: after an error it continues at the next statement."""

    def __init__(self, parse: _Parse, tokens: list[Lexeme], doubtful: list[tuple[int, int]], broken: list[int]) -> None:
        self.parse, self.tokens, self.doubtful, self.broken = parse, tokens, doubtful, broken
        self.skipped: list[tuple[int, int]] = []

    def rule(self, rule: str, start: int, end: int) -> object | None:
        """The result of the rule for the tokens from index `start` to `end`; None if nothing can be recovered."""
        machine = Machine(self.parse.language, self.parse.callbacks, rule)
        tokens, states, feed = self.tokens, machine.states, machine.feed
        # For each open body: the stack height and the token at the start of its current statement.
        bodies = [(len(states), start)]
        i = start
        while i < end:
            token = tokens[i]
            kind = token.kind
            if feed(kind, token):
                i += 1
                if kind == "NEWLINE":
                    bodies[-1] = (len(states), i)
                elif kind == "LBRACE":
                    bodies.append((len(states), i))
                elif kind == "RBRACE":
                    bodies.pop()
                continue
            height, begin = bodies[-1]
            self.report(machine, i, begin)
            if rule == "value" or not machine.unwind(height):
                return None
            outermost, at = rule == "file" and len(bodies) == 1, i
            i = self.skip(i, end, outermost=outermost)
            self.leave_gap(machine, begin, i)
            if outermost and (mended := self.mend(begin, at, i)) is not None and machine.feed(MISSING, mended):
                machine.feed("NEWLINE", Lexeme("NEWLINE", "", mended.span.end, mended.span.end))
            bodies[-1] = (len(states), i)
        if not feed(END, tokens[end]):
            height, begin = bodies[-1]
            self.report(machine, end, begin)
            if rule != "file" or not machine.unwind(height) or not feed(END, tokens[end]):
                return None
        return cast(object, machine.values[-1])

    def leave_gap(self, machine: Machine, start: int, end: int) -> None:
        """Puts a `Missing` for the tokens of a broken statement; lists of other lines simply lack it."""
        a, b = self.tokens[start].start, self.tokens[max(start, end - 1)].end
        if machine.feed(MISSING, Lexeme(MISSING, "", a, b)):
            machine.feed("NEWLINE", Lexeme("NEWLINE", "", b, b))

    def mend(self, start: int, at: int, end: int) -> tree.Block | tree.Model | None:
        """The block or model of these tokens, whose head has an error at index `at`, as far as the head can be read."""
        tokens = self.tokens
        if tokens[start].kind not in ("BLOCK", "MODEL") or tokens[start + 1].kind != "NAME":
            return None
        opening = next((i for i in range(start, end) if tokens[i].kind == "LBRACE"), end)
        closing = next((i for i in range(end - 1, opening, -1) if tokens[i].kind == "RBRACE"), end)
        if closing == end or at > opening:
            return None
        before = {(d.code, d.marks[0].span.start) for d in self.parse.diagnostics.items if d.marks}
        number = len(self.parse.diagnostics.items)
        parameters = mended_parameters(self.parse.language, tokens[start + 2 : opening])
        stop = tokens[closing].end
        mended = [*tokens[start : start + 2], *parameters, *tokens[opening : closing + 1], Lexeme(END, "", stop, stop)]
        inner = _Pass(self.parse, mended, self.doubtful, self.broken)
        inner.skipped, found = [], inner.rule("file", 0, len(mended) - 1)
        while inner.skipped:
            inner.rule("documented", *inner.skipped.pop())
        self.skipped = [(a, b) for a, b in self.skipped if not opening <= a < end]
        items = self.parse.diagnostics.items
        items[number:] = [d for d in items[number:] if not d.marks or (d.code, d.marks[0].span.start) not in before]
        for declaration in found.declarations if isinstance(found, tree.File) else ():
            if isinstance(declaration, tree.Block | tree.Model):
                return replace(declaration, mended=True)
        return None

    def skip(self, i: int, end: int, *, outermost: bool) -> int:
        """The index of the next statement, or of the brace that ends this body. Records the bodies on the way."""
        depth = opening = 0
        while i < end:
            kind = self.tokens[i].kind
            if kind == "LBRACE":
                if depth == 0:
                    opening = i
                depth += 1
            elif kind == "RBRACE":
                if depth == 0:
                    return i
                depth -= 1
                text = self.parse.source.text
                if depth == 0 and "\n" in text[self.tokens[opening].end : self.tokens[i].start]:
                    self.skipped.append((opening, i + 1))
            elif kind == "NEWLINE" and depth == 0 and not self.continues(i + 1, outermost):
                return i + 1
            i += 1
        return i

    def continues(self, i: int, outermost: bool) -> bool:
        """Whether the line at `i` belongs to the broken one above: it is its body, or is indented without a brace."""
        token = self.tokens[i]
        if token.kind == "LBRACE" or not outermost:
            return token.kind == "LBRACE"
        indented = self.parse.source.position(token.start)[1] > 1
        return indented and token.kind not in ("BLOCK", "MODEL", "AUGMENT", "EXTERN", "FN", "FROM", "LET", "DEFAULT")

    def report(self, machine: Machine, i: int, start: int) -> None:
        """Reports the error at a token, unless a missing bracket or unscannable text was reported there."""
        at = self.tokens[i].start
        if any(a <= at <= b for a, b in self.doubtful):
            return
        # Unscannable text right after it may be the cause.
        behind = self.tokens[min(i + 1, len(self.tokens) - 1)].start
        if bisect_right(self.broken, behind) > bisect_left(self.broken, self.tokens[min(start, i)].start):
            return
        if len(self.parse.diagnostics.items) > GIVE_UP:
            raise ParseAborted
        if len(self.parse.diagnostics.items) > MAX_ERRORS:
            # From here on errors are only counted.
            self.parse.diagnostics.error("E0101", "a syntax error", span_of(self.parse.source, self.tokens[i]))
        else:
            explain(self.parse.source, self.parse.diagnostics, self.tokens, i, start, machine.accepted())


# ---------------------------------------------------------------- files


def _near(path: Path) -> str | None:
    """A file next to a missing one with a similar name."""
    try:
        near = did_you_mean(path.name, [p.name for p in islice(path.parent.glob("*.arch"), 1000)])
    except OSError:
        return None
    return near


def read(path: Path | str, diagnostics: Diagnostics) -> Source | None:
    """The text of a file; None, with a diagnostic, if it cannot be read. Line endings become `\n`, a BOM is skipped."""
    text = read_as_it_is(path, diagnostics)
    if text is None:
        return None
    return Source(str(path), text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), Path(path))


def read_as_it_is(path: Path | str, diagnostics: Diagnostics) -> str | None:
    """The text of a file with its BOM and line endings; None, with a diagnostic, if it cannot be read."""
    name = str(path)
    most = limits().text_bytes
    try:
        data = read_most(path, most + 1)
    except FileNotFoundError:
        diagnostics.error("E0001", f"there is no file `{name}`", help=_near(Path(path)))
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
    return decode(name, data, diagnostics)


def decode(name: str, data: bytes, diagnostics: Diagnostics) -> str | None:
    """The text of the bytes of a file; None, with a diagnostic, if they are no text, or too many."""
    most = limits().text_bytes
    is_utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    if b"\0" in data and not is_utf16:
        at = data.index(0)
        line = data.count(b"\n", 0, at) + 1
        message = f"`{name}` is not text: it has a NUL byte at offset {at}, line {line}"
        diagnostics.error("E0005", message, help=_meant(name))
        return None
    if len(data) > most:
        diagnostics.error("E0006", f"`{name}` cannot be read: it has more than {most:,} bytes")
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        line = data.count(b"\n", 0, at) + 1
        where = f"byte 0x{data[at]:02x} at offset {at}, line {line}"
        help = "save it as UTF-8" + (" (it looks like UTF-16)" if is_utf16 else "")
        diagnostics.error("E0004", f"`{name}` is not UTF-8: {where}", help=help)
        return None
