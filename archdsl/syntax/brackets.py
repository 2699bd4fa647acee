"""Pairs brackets; for an unmatched one, the indentation decides which bracket the message is about."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from archdsl.common.limits import limits
from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics, Mark
from archdsl.syntax.lexer import CLOSER, OPENER, Lexeme, Paired, ParseAborted, span_of

_TEXT: Final = {"RPAR": ")", "RSQB": "]", "RBRACE": "}"}


def pair(source: Source, tokens: list[Lexeme], broken: list[int], diagnostics: Diagnostics) -> Paired:
    """Pairs the brackets; reports and inserts missing ones, reports and drops stray ones. Raises ParseAborted.

    `broken` has the offsets of unscannable text, in order: it may have swallowed a bracket on its line.
    """
    partner: dict[int, int] = {}
    open_: list[int] = []
    most = limits().nesting
    missing: list[tuple[int, int]] = []  # an opening bracket's index, and that before which to insert its end
    stray: set[int] = set()

    def unclosed(lost: list[int], at: int) -> None:
        ends = [_line_end(tokens, partner, index, at) for index in lost]
        missing.extend(zip(lost, ends, strict=True))
        reported: set[int] = set()
        for opener, end in zip(reversed(lost), reversed(ends), strict=True):
            # Of the brackets that end at one place, report only the innermost, and braces.
            brace = tokens[opener].kind == "LBRACE"
            if end in reported or (brace and reported):
                continue
            reported.add(end)
            stop = tokens[end].start if end < len(tokens) else tokens[-1].end
            swallowed = bisect_left(broken, stop) > bisect_left(broken, tokens[opener].start)
            if brace or not swallowed:
                _report_unclosed(source, tokens, partner, opener, at, diagnostics)

    for i, token in enumerate(tokens):
        kind = token.kind
        if kind in CLOSER:
            open_.append(i)
            if len(open_) > most:
                diagnostics.error("E0105", f"brackets are nested deeper than {most}", span_of(source, token))
                raise ParseAborted
        elif kind in OPENER:
            if open_ and tokens[open_[-1]].kind == OPENER[kind]:
                partner[open_.pop()] = i
                continue
            j = _match(source, tokens, open_, i)
            if j is None:
                stray.add(_report_stray(source, tokens, partner, i, diagnostics))
            else:
                unclosed(open_[j + 1 :], i)
                partner[open_[j]] = i
                del open_[j:]
        elif kind == "NAME" and open_ and _declares(source, tokens, i, open_[0]):
            unclosed(open_, i)
            open_ = []
    if open_:
        unclosed(open_, len(tokens))
    if not missing and not stray:
        return Paired(tokens, partner)
    return _mended(tokens, missing, stray)


def _indent(source: Source, token: Lexeme) -> int:
    """The columns before the first character of a token's line."""
    line = source.line(source.position(token.start)[0])
    return len(line) - len(line.lstrip())


def _starts_line(source: Source, token: Lexeme) -> bool:
    return source.position(token.start)[1] == _indent(source, token) + 1


def _report_unclosed(
    source: Source, tokens: list[Lexeme], partner: dict[int, int], opener: int, at: int, diagnostics: Diagnostics
) -> None:
    """Reports that a bracket is not closed before the token at `at`, or another one to which the indentation points."""
    note = "still open here"
    kind = tokens[opener].kind
    # The first closing bracket that is indented less than its opening one was meant for an outer one.
    for a, b in sorted(partner.items(), key=lambda pair: pair[1]):
        alike = opener < a and tokens[a].kind == kind and _starts_line(source, tokens[b])
        if alike and _indent(source, tokens[b]) < _indent(source, tokens[a]):
            opener, at, note = a, b, "this is indented less, so it closes another"
            break
    marks = [Mark(span_of(source, tokens[opener]), "opened here")]
    help = f"add `{_TEXT[CLOSER[kind]]}`"
    if at < len(tokens):
        marks.append(Mark(span_of(source, tokens[at]), note))
        if kind == "LBRACE" and _starts_line(source, tokens[at]):
            help += f" before line {marks[-1].span.line}"
    diagnostics.error("E0102", f"`{tokens[opener].text}` is never closed", *marks, help=help)


def _report_stray(
    source: Source, tokens: list[Lexeme], partner: dict[int, int], at: int, diagnostics: Diagnostics
) -> int:
    """Reports that the bracket at `at` closes nothing, or one to which the indentation points. Returns its index."""
    token = tokens[at]
    for a, b in sorted(partner.items(), key=lambda pair: pair[1]):
        alike = tokens[b].kind == token.kind == "RBRACE"
        if not alike or _indent(source, tokens[b]) <= _indent(source, tokens[a]):
            continue
        if any(_declares(source, tokens, i, a) for i in range(b + 1, at) if tokens[i].kind == "NAME"):
            continue
        opener = span_of(source, tokens[a])
        diagnostics.error(
            "E0102",
            "one `}` too many, or a missing `{`",
            Mark(span_of(source, tokens[b]), f"closes the `{{` of line {opener.line}, which is indented less"),
            Mark(span_of(source, token), "so that this closes nothing"),
            help="remove it, or add the missing `{`",
        )
        partner[a] = at
        return b
    diagnostics.error("E0102", f"`{token.text}` closes nothing", span_of(source, token), help="remove it")
    return at


def _match(source: Source, tokens: list[Lexeme], open_: list[int], at: int) -> int | None:
    """The index in `open_` of the bracket that the one at `at` closes, even if others are still open inside it."""
    opener = OPENER[tokens[at].kind]
    line = None
    for j in range(len(open_) - 1, -1, -1):
        kind = tokens[open_[j]].kind
        if kind == opener:
            return j
        if kind == "LBRACE":
            # A `)` does not end the statements of a body, unless the whole body is on one line.
            line = line or source.position(tokens[at].start)[0]
            if source.position(tokens[open_[j]].start)[0] != line:
                return None
    return None


def _line_end(tokens: list[Lexeme], partner: dict[int, int], opener: int, before: int) -> int:
    """The index at which a missing closing bracket is inserted: at the end of its line; for a brace, at `before`."""
    if tokens[opener].kind == "LBRACE" or opener + 1 >= before or tokens[opener + 1].kind == "NEWLINE":
        return before
    i = opener + 1
    while i < before and tokens[i].kind != "NEWLINE":
        i = partner.get(i, i) + 1
    return min(i, before)


def _declares(source: Source, tokens: list[Lexeme], i: int, outermost: int) -> bool:
    """Whether a declaration that is not allowed in a body starts here, so that open brackets were meant to be closed.

    One that is indented deeper than the open bracket is meant to be inside it, which is a different error.
    """
    if i + 2 >= len(tokens) or tokens[i - 1].kind != "NEWLINE" or tokens[i + 1].kind != "NAME":
        return False
    following = {
        "block": ("LPAR", "LBRACE"),
        "model": ("LPAR", "LBRACE", "EQUAL"),
        "augment": ("LBRACE",),
        "extern": ("LPAR", "EQUAL"),
        "fn": ("LPAR",),
    }
    if tokens[i].text == "from":
        starts = tokens[i + 2].kind == "DOT" or tokens[i + 2].text == "import"
    else:
        starts = tokens[i + 2].kind in following.get(tokens[i].text, ())
    return starts and _indent(source, tokens[outermost]) >= _indent(source, tokens[i])


def _mended(tokens: list[Lexeme], missing: list[tuple[int, int]], stray: set[int]) -> Paired:
    put: dict[int, list[int]] = {}
    for opener, before in missing:
        put.setdefault(before, []).append(opener)
    paired = Paired([], {})
    open_: list[int] = []
    for i in range(len(tokens) + 1):
        # Close inner brackets first.
        for opener in sorted(put.get(i, ()), reverse=True):
            kind = CLOSER[tokens[opener].kind]
            at = tokens[i - 1].end if i else 0
            # In a body without its closing brace, everything else can still be checked.
            paired.doubtful.append((at if kind == "RBRACE" else tokens[opener].start, at))
            if open_:
                paired.partner[open_.pop()] = len(paired.tokens)
            paired.tokens.append(Lexeme(kind, _TEXT[kind], at, at))
        if i == len(tokens) or i in stray:
            continue
        if tokens[i].kind in CLOSER:
            open_.append(len(paired.tokens))
        elif tokens[i].kind in OPENER and open_:
            paired.partner[open_.pop()] = len(paired.tokens)
        paired.tokens.append(tokens[i])
    return paired
