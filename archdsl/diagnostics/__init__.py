"""Diagnostics as data, the sink that collects them, and their renderers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from archdsl.common.escaping import visible as visible
from archdsl.common.source import Span

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A span with a note; the first mark of a diagnostic is its cause."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Fix:
    """A text change that resolves the diagnostic: `span` is replaced by `text`."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A fix that may resolve an error, with its explanation. Shown only after `archdsl.advice.trial` has tried it."""

    help: str
    fix: Fix


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or warning. `code` is stable across releases, `message` says what is wrong in the user's terms.

    `proposals` are fixes to try, most likely first. The first that works becomes `fix`, and its text becomes `help`;
    otherwise `help` is general advice.
    """

    code: str
    message: str
    marks: tuple[Mark, ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None
    fix: Fix | None = None
    severity: Severity = "error"
    proposals: tuple[Proposal, ...] = ()


@dataclass(slots=True)
class Diagnostics:
    """The sink of all passes. Keeps a repeated diagnostic at the same place only once.

    `hidden` are places that could not be checked because something they depend on failed; they may have more errors.
    """

    items: list[Diagnostic] = field(default_factory=list)
    hidden: set[Span] = field(default_factory=set)
    _seen: set[object] = field(default_factory=set)

    def add(self, diagnostic: Diagnostic) -> None:
        where = [(m.span.source.name, m.span.start, m.span.end) for m in diagnostic.marks[:1]]
        key = (diagnostic.code, diagnostic.message, *where)
        if key not in self._seen:
            self._seen.add(key)
            self.items.append(diagnostic)

    def error(
        self,
        code: str,
        message: str,
        *marks: Mark | Span,
        notes: Iterable[str] = (),
        help: str | None = None,
        proposals: Iterable[Proposal] = (),
    ) -> None:
        spans = tuple(m if isinstance(m, Mark) else Mark(m) for m in marks)
        self.add(Diagnostic(code, message, spans, tuple(notes), help, proposals=tuple(proposals)))

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.items if d.severity == "error"]

    def stop_on_errors(self) -> None:
        """Raises SpecError with everything collected, if any of it is an error."""
        if self.errors:
            raise SpecError(self.items, self.hidden)


class SpecError(Exception):
    """A spec is wrong. `diagnostics` has the errors; str() renders them. `hidden`: see Diagnostics."""

    def __init__(self, diagnostics: Iterable[Diagnostic], hidden: Iterable[Span] = ()) -> None:
        self.diagnostics = tuple(diagnostics)
        self.hidden = frozenset(hidden)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return render(self.diagnostics)


def proposed(help: str | None, fix: Fix | None) -> tuple[Proposal, ...]:
    """The one fix to try, if there is one."""
    return (Proposal(help, fix),) if help and fix else ()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to an unknown one; None if none is close."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A suggestion of the closest known name; None if none is close."""
    near = nearest(name, known)
    return f"did you mean `{near}`?" if near else None


def renamed(span: Span, name: str, known: Iterable[str]) -> tuple[Proposal, ...]:
    """A fix that replaces an unknown name by the closest known one."""
    near = nearest(name, known)
    return (Proposal(f"did you mean `{near}`?", Fix(span, near)),) if near else ()


# ---------------------------------------------------------------- renderers


LONGEST_LINE = 200
"""How many characters of a spec line are shown around a mark."""

LONGEST_TEXT = 2_000
"""The maximum length of a message, which may contain a name from the spec."""


def _shorten(text: str) -> str:
    return visible(text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…")


def _shortened(text: str, start: int) -> tuple[str, int]:
    """The part of a line shown around a column, and the column's position in it."""
    if len(text) <= LONGEST_LINE:
        return text, start
    first = max(0, min(start - 60, len(text) - LONGEST_LINE))
    last = first + LONGEST_LINE
    before, after = "…" if first else "", "…" if last < len(text) else ""
    return before + text[first + len(before) : last - len(after)] + after, start - first


def render(diagnostics: Iterable[Diagnostic], *, color: bool = False) -> str:
    """The diagnostics as terminal text, each with its lines of the spec and carets under its spans."""
    paint = _painter(color)
    return "\n\n".join(_render_one(d, paint) for d in diagnostics)


Paint: TypeAlias = Callable[[str, str], str]
"""Gives a text the colour of a part of a diagnostic."""


def _painter(color: bool) -> Paint:
    if not color:
        return lambda text, style: text
    import click  # only needed for colours

    styles: dict[str, dict[str, Any]] = {
        "error": {"fg": "red", "bold": True},
        "warning": {"fg": "yellow", "bold": True},
        "frame": {"fg": "blue", "bold": True},
        "cause": {"fg": "red", "bold": True},
        "other": {"fg": "blue", "bold": True},
        "bold": {"bold": True},
    }
    return lambda text, style: click.style(text, **styles[style])


def _render_one(d: Diagnostic, paint: Paint) -> str:
    head = paint(f"{d.severity}[{d.code}]", d.severity) + paint(f": {_shorten(d.message)}", "bold")
    lines = [head]
    width = max((len(str(m.span.line)) for m in d.marks), default=1)
    bar = paint(" " * width + " |", "frame")
    shown: str | None = None
    for source_name, marks in _by_source(d.marks):
        first = marks[0].span if shown is None else min((m.span for m in marks), key=lambda s: s.start)
        arrow = "-->" if shown is None else ":::"
        lines.append(paint(" " * width + arrow, "frame") + f" {visible(source_name)}:{first.line}:{first.column}")
        lines.append(bar)
        shown = source_name
        line = ""
        for mark in sorted(marks, key=lambda m: (m.span.line, m.span.start)):
            text, under = _render_mark(mark, mark is d.marks[0], width, bar, paint)
            lines += [text, under] if text != line else [under]
            line = text
    for note in d.notes:
        lines.append(" " * width + " = note: " + _shorten(note))
    if d.help:
        lines.append(" " * width + " = help: " + _shorten(d.help))
    if d.fix and (changed := _changed_line(d.fix)):
        where = d.fix.span.source.name
        place = "" if not d.marks or where == d.marks[0].span.source.name else f" of {visible(where)}"
        lines.append(" " * width + f" = line {d.fix.span.line}{place} becomes: {visible(changed)}")
    return "\n".join(lines)


def _changed_line(fix: Fix) -> str | None:
    """The line of the spec after the fix; None for a fix of several lines."""
    span = fix.span
    text = span.source.line(span.line)
    start = span.column - 1
    end = start + span.end - span.start
    if end > len(text) or "\n" in fix.text:
        return None
    return _shortened(text[:start] + fix.text + text[end:], start)[0].strip()


def _by_source(marks: tuple[Mark, ...]) -> list[tuple[str, list[Mark]]]:
    groups: dict[str, list[Mark]] = {}
    for mark in marks:
        groups.setdefault(mark.span.source.name, []).append(mark)
    return list(groups.items())


def _render_mark(mark: Mark, cause: bool, width: int, bar: str, paint: Paint) -> tuple[str, str]:
    """The line of the spec and the marks below it."""
    span = mark.span
    text, start = _shortened(span.source.line(span.line), span.column - 1)
    length = max(1, min(span.end - span.start, len(text) - start))
    before, under = visible(text[:start]), visible(text[start : start + length])
    number = paint(str(span.line).rjust(width) + " |", "frame")
    caret = ("^" if cause else "-") * max(1, len(under))
    note = f" {_shorten(mark.text)}" if mark.text else ""
    return (
        f"{number} {visible(text)}",
        f"{bar} {' ' * len(before)}{paint(caret + note, 'cause' if cause else 'other')}",
    )


def as_data(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """The diagnostics as plain data for JSON; lines and columns count from 1, the end is exclusive."""

    def place(span: Span) -> dict[str, object]:
        line, column = span.source.position(span.start)
        end_line, end_column = span.source.position(span.end)
        return {
            "file": span.source.name,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
        }

    return [
        {
            "code": d.code,
            "severity": d.severity,
            "message": d.message,
            "marks": [{**place(m.span), "text": m.text} for m in d.marks],
            "notes": list(d.notes),
            "help": d.help,
            "fix": {**place(d.fix.span), "text": d.fix.text} if d.fix else None,
        }
        for d in diagnostics
    ]
