"""Turns text into the grammar's tokens: scanning, pairing (in `brackets`), then newlines and keywords.

The comments at the top of grammars/arch.lark give the rules for newlines and keywords.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostics, Fix, proposed

CLOSER: Final = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
OPENER: Final = {closer: opener for opener, closer in CLOSER.items()}

# Syntax of other languages with an obvious meaning: reported, then read as the correct token.
_FOREIGN: Final = {
    "&&": ("AND", "and", "write `and`"),
    "||": ("OR", "or", "write `or`"),
    "!": ("NOT", "not ", "write `not`"),
    "=>": ("ARROW", "->", "write `->`"),
    "|": ("ARROW", "->", "write `->`"),
    "^": ("POWER", "**", "write `**` for a power"),
    ";": ("NEWLINE", "\n", "a statement ends with its line; write the next one on a new line"),
}


@dataclass(slots=True, eq=False)
class Lexeme:
    """A token: its terminal, its text, and its start and end offsets."""

    kind: str
    text: str
    start: int
    end: int


def span_of(source: Source, token: Lexeme) -> Span:
    return Span(source, token.start, token.end)


GIVE_UP: Final = 1_000
"""Scanning stops after this many errors: the text is probably in another language."""


class ParseAborted(Exception):
    """Ends parsing: the text is nested too deeply, or has too many errors. The error has been reported."""


class Scanner:
    """Splits a text into tokens. Reports invalid text and, if its meaning is obvious, produces the intended token."""

    def __init__(self, literals: Mapping[str, str], patterns: Mapping[str, str], ignored: Iterable[str]) -> None:
        """`literals` and `patterns` are the terminals by name: words and signs, and regular expressions."""
        self.keywords = {text: name for name, text in literals.items() if text.isidentifier()}
        signs = [(name, text) for name, text in literals.items() if not text.isidentifier()]
        order = [
            ("FOREIGN", r"&&|\|\|?|!(?!=)|=>|\^|;"),
            *((name, _possessive(pattern)) for name, pattern in patterns.items()),
            ("BAD_NUMBER", r"\.?[0-9](?:[0-9A-Za-z_]|\.(?!\.))*+"),
            *((name, re.escape(text)) for name, text in sorted(signs, key=lambda sign: -len(sign[1]))),
            ("SINGLE_QUOTED", r"'(?:[^'\\\r\n]|\\[^\r\n])*+'?"),
            ("OPEN_STRING", r'"[^\r\n]*'),
            ("BAD_CHARACTERS", r"[^\x00-\x7f]+|[\s\S]"),
        ]
        self._pattern = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in order))
        self._ignored = frozenset(ignored)

    def scan(self, source: Source, start: int, end: int, diagnostics: Diagnostics) -> list[Lexeme]:
        """The tokens of the text from offset `start` to `end`, with all newlines, and every word as a NAME.

        Raises ParseAborted.
        """
        tokens: list[Lexeme] = []
        ignored = self._ignored
        for match in self._pattern.finditer(source.text, start, end):
            kind = match.lastgroup
            assert kind is not None
            if kind in ignored:
                continue
            a, b = match.span()
            if kind in _BAD:
                token = _bad(kind, Span(source, a, b), diagnostics)
                if len(diagnostics.items) > GIVE_UP:
                    raise ParseAborted
                if token is None:
                    continue
            else:
                token = Lexeme(kind, match.group(), a, b)
            tokens.append(token)
        return tokens


def _possessive(pattern: str) -> str:
    """Makes the repeated groups of a terminal possessive; no terminal of the grammar needs to backtrack.

    The regex engine keeps a kilobyte for each repetition to which it might backtrack.
    """
    return pattern.replace(")*", ")*+").replace(")+", ")++")


# Non-ASCII characters that editors and papers substitute for others.
_LOOKALIKES: Final = {
    "\u2192": ("ARROW", "->"),
    "\u2212": ("SIGN", "-"),
    "\u2013": ("SIGN", "-"),
    "\u201c": (None, '"'),
    "\u201d": (None, '"'),
    "\u2018": (None, '"'),
    "\u2019": (None, '"'),
    "\u00d7": (None, "x"),
    "\u00a0": (None, " "),
    "\u2026": (None, ".."),
}

_BAD: Final = frozenset({"FOREIGN", "BAD_NUMBER", "SINGLE_QUOTED", "OPEN_STRING", "BAD_CHARACTERS"})


def _bad(kind: str, span: Span, diagnostics: Diagnostics) -> Lexeme | None:
    """Reports an invalid token; returns the intended one, or None if that is unclear."""

    def token(kind: str, text: str) -> Lexeme:
        return Lexeme(kind, text, span.start, span.end)

    text = span.text
    if kind == "FOREIGN":
        terminal, meant, help = _FOREIGN[text]
        fix = Fix(span, meant) if meant else None
        diagnostics.error(
            "E0103",
            f"`{text}` is not part of this language",
            span,
            help=help,
            proposals=proposed(help, fix),
        )
        return token(terminal, meant or text)
    if kind == "BAD_NUMBER":
        mended = _mended_number(text)
        help = f"write {mended}" if mended else "a number is an int (`64`), a float (`0.5`, `1e-5`) or a size (`3x3`)"
        before = re.search(r"[A-Za-z_][A-Za-z0-9_]*$", span.source.text[max(0, span.start - 64) : span.start])
        if text.startswith(".") and before:
            mended, help = None, f'quote a label with a dot: `"{before[0]}{text}": …`'
        elif text[0].isdigit() and text[-1].isalpha() and not mended:
            help += "; a name begins with a letter or `_`"
        fix = Fix(span, mended) if mended else None
        diagnostics.error("E0103", f"`{text}` is not a number", span, help=help, proposals=proposed(help, fix))
        return token("FLOAT" if mended and not mended.isdigit() else "INT", mended or "1")
    if kind == "SINGLE_QUOTED":
        if len(text) > 1 and text.endswith("'"):
            inner = text[1:-1].replace("\\'", "'").replace('"', '\\"')
            fix = Fix(span, f'"{inner}"')
            diagnostics.error(
                "E0103", "write strings in double quotes", span, proposals=proposed(f"write {fix.text}", fix)
            )
            return token("STRING", fix.text)
        diagnostics.error("E0103", "`'` has no meaning here", span, help="write strings in double quotes")
        return None
    if kind == "OPEN_STRING":
        diagnostics.error("E0104", "unterminated string", span, help='end the string with `"` on the same line')
        return token("STRING", text.rstrip("\\") + '"')
    return _bad_characters(span, diagnostics)


def _bad_characters(span: Span, diagnostics: Diagnostics) -> Lexeme | None:
    text = span.text
    shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    kind, meant = _LOOKALIKES.get(text[0], (None, None))
    help = f"write {'a plain space' if meant == ' ' else f'`{meant}`'}" if meant else None
    if help is None and any(c.isalpha() for c in text):
        kind, help = "NAME", "names consist of the letters a to z, digits and `_`"
    fix = Fix(span, meant) if meant and len(text) == 1 else None
    diagnostics.error("E0103", f"`{shown}` has no meaning here", span, help=help, proposals=proposed(help, fix))
    return Lexeme(kind, meant or "_", span.start, span.end) if kind else None


def _mended_number(text: str) -> str | None:
    plain = text.replace("_", "")
    if plain.startswith("."):
        plain = "0" + plain
    if plain.endswith("."):
        plain += "0"
    return plain if plain != text and re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", plain) else None


@dataclass(slots=True)
class Paired:
    """Tokens whose brackets all pair: `partner` maps the index of an opening bracket to its closing one.

    `doubtful` has the ranges of text in which a bracket was missing; no further errors are reported there.
    """

    tokens: list[Lexeme]
    partner: dict[int, int]
    doubtful: list[tuple[int, int]] = field(default_factory=list)


# ---------------------------------------------------------------- newlines and keywords

_AFTER_OPERAND: Final = frozenset({"and", "or", "if", "else", "in", "as", "via", "import"})
_OPERAND: Final = frozenset(
    {"NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "NONE", "RPAR", "RSQB", "RBRACE", "RESIDUAL"}
)
_VALUE_WORDS: Final = frozenset({"not", "true", "false", "none"})
_BEFORE_NAME: Final = frozenset(
    {"let", "for", "block", "model", "augment", "extern", "fn", "from", "default", "input", "output", "share"}
)
_EXTERN_LINES: Final = frozenset({"input", "output", "weight", "frozen", "buffer", "counter", "call", "macs", "field"})
_BEFORE_VALUE: Final = frozenset({"if", "repeat", "require"})
_BRANCHES: Final = frozenset({"for", "if", "repeat"})
_ITEM_ENDS: Final = frozenset({"ARROW", "COLON", "EQUAL", "NEWLINE", "RBRACE", "RPAR", "COMMA", "$END"})
_NAMING: Final = frozenset(
    {
        *("LET", "FOR", "BLOCK", "MODEL", "AUGMENT", "AUGMENTED", "EXTERN", "FN", "FROM", "DEFAULT"),
        *("INPUT", "OUTPUT", "SHARE"),
        *("DOT", "AS", "IMPORT"),
    }
)
_NO_OPERAND: Final = _ITEM_ENDS | {"RSQB", "LBRACE", "COMPARISON", "RANGE", "SCALE", "POWER", "DOT"}
_STATEMENT_STARTS: Final = frozenset({"NEWLINE", "LBRACE", "$START"})
_ITEM_STARTS: Final = _STATEMENT_STARTS | {"ARROW", "COLON", "VIA"}


class _Filter:
    """One pass over paired tokens. `inside` has the kind of each open bracket: body, extern, parallel, parameters or
    values."""

    def __init__(self, paired: Paired, keywords: dict[str, str], value: bool) -> None:
        self.tokens, self.partner, self.keywords = paired.tokens, paired.partner, keywords
        self.inside = ["values" if value else "body"]
        self.last = ["LPAR" if value else "$START"] * 3
        """The kinds of the last tokens returned, newest first."""

    def kind_at(self, i: int) -> str:
        return self.tokens[i].kind if i < len(self.tokens) else "$END"

    def run(self) -> list[Lexeme]:
        kept: list[Lexeme] = []
        newline: Lexeme | None = None
        inside, keywords = self.inside, self.keywords
        last = self.last
        for i, token in enumerate(self.tokens):
            kind = token.kind
            if kind == "NAME":
                if token.text in keywords:
                    kind = self.keyword(i, token.text)
                    token.kind = kind
            elif kind == "NEWLINE":
                first = newline or token
                if not self.separates(i):
                    newline = first if self.kind_at(i + 1) == "NEWLINE" else None
                    continue
                token, newline = first, None
            elif kind == "LPAR":
                inside.append(self.parenthesis())
            elif kind == "LSQB":
                inside.append("values")
            elif kind == "LBRACE":
                inside.append("extern" if last[0] == "STRING" and last[1] == "EQUAL" else "body")
            elif kind in OPENER:
                inside.pop()
            last[2] = last[1]
            last[1] = last[0]
            last[0] = kind
            kept.append(token)
        return kept

    def separates(self, i: int) -> bool:
        """Whether the newline at `i` ends a statement."""
        if self.inside[-1] not in ("body", "extern") or self.last[0] in ("$START", "NEWLINE", "LBRACE", "ARROW"):
            return False
        following = self.kind_at(i + 1)
        if following in ("NEWLINE", "ARROW", "RBRACE", "$END"):
            return False
        joins = self.last[0] == "RBRACE" and following == "NAME" and self.tokens[i + 1].text == "else"
        return not (joins and (self.kind_at(i + 2) == "LBRACE" or self.word_at(i + 2) == "if"))

    def word_at(self, i: int) -> str | None:
        return self.tokens[i].text if self.kind_at(i) == "NAME" else None

    def parenthesis(self) -> str:
        """The kind of content that the `(` after the last token opens."""
        if self.starts_item():
            return "parallel"
        if self.last[0] == "NAME" and self.last[1] in ("BLOCK", "MODEL", "FN", "EXTERN"):
            return "parameters"
        return "values"

    def starts_item(self) -> bool:
        last = self.last[0]
        return last in _ITEM_STARTS or (last in ("LPAR", "COMMA") and self.inside[-1] == "parallel")

    def has_body(self, i: int) -> bool:
        """Whether the body of an item begins there; behind `via`, the residual's own comes after it."""
        if self.kind_at(i) != "LBRACE" or self.last[0] != "VIA":
            return self.kind_at(i) == "LBRACE"
        behind = self.partner[i] + 1
        return self.kind_at(behind) == "LBRACE" or self.word_at(behind) == "if"

    def keyword(self, i: int, word: str) -> str:
        """The terminal of a word at this position: its keyword, or NAME."""
        last, following = self.last[0], self.kind_at(i + 1)
        if word in _AFTER_OPERAND and last in _OPERAND:
            keyword = True
        elif word in _VALUE_WORDS:
            keyword = self.expects_value() and following not in (_NO_OPERAND if word == "not" else ("EQUAL", "COLON"))
        elif word in ("residual", "dense", "scope"):
            opens = following == "LBRACE" or (word == "residual" and self.word_at(i + 1) in ("if", "via"))
            keyword = opens and self.starts_item()
        elif word in ("windows", "grid"):
            keyword = following == "LPAR" and self.starts_item() and self.has_body(self.partner[i + 1] + 1)
        elif word == "one_of":
            keyword = following == "LBRACE" and self.starts_item()
        elif word == "augmented" and last in ("NAME", "RPAR"):
            keyword = following == "NAME"
        elif last in _STATEMENT_STARTS or (word in _BRANCHES and last in ("LPAR", "COMMA") and self.starts_item()):
            keyword = (
                (word in _BEFORE_NAME and following == "NAME")
                or (word == "expect" and following in ("LSQB", "NAME"))
                or (word in _BEFORE_VALUE and self.takes_value(i, word))
                or (word in _EXTERN_LINES and self.inside[-1] == "extern")
            )
        elif word == "fn" and last == "EXTERN":
            keyword = following == "NAME"
        else:
            keyword = word == "if" and last == "ELSE" and self.last[1] == "RBRACE"
        return self.keywords[word] if keyword else "NAME"

    def expects_value(self) -> bool:
        """Whether a value comes next, rather than an item, the name of something, or an operator."""
        last, before, before_that = self.last
        if self.inside[-1] == "parameters":
            return last == "EQUAL"
        if self.inside[-1] == "body" and (last, before) == ("EQUAL", "NAME"):
            return before_that not in ("MODEL", "OUTPUT", "COMMA")
        if self.inside[-1] == "body" and last == "COMMA":
            return False  # of the names in an `input`, `output`, `for` or `import`
        return not (last in _OPERAND or last in _NAMING or self.starts_item())

    def takes_value(self, i: int, word: str) -> bool:
        """Whether `if`, `repeat` or `require` at `i` starts a statement, rather than being an item."""
        i += 1
        if self.kind_at(i) == "LPAR":
            i = self.partner[i] + 1
            if word == "require":
                return self.kind_at(i) != "ARROW"
        if self.kind_at(i) == "NEWLINE" and self.kind_at(i + 1) == "LBRACE":
            return True
        return self.kind_at(i) not in _ITEM_ENDS


def classify(paired: Paired, keywords: dict[str, str], *, value: bool = False) -> list[Lexeme]:
    """Distinguishes keywords from names, and keeps only the newlines that end a statement.

    `value` says that the text is a single expression rather than a file.
    """
    return _Filter(paired, keywords, value).run()
