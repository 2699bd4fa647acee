"""Tries the fixes that errors propose before they are shown: applies each to the text and checks again.

A fix works if its own place is then correct, and nothing that was correct before is wrong. It may reveal errors that
the first one hid; such a fix is shown only if no other works without doing so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from archdsl.common.limits import limited, limits
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostic, Fix, Proposal

TRIALS = 32
"""The maximum number of fixes tried per check; untried ones are not shown."""

EACH = 8
"""The maximum number of fixes tried per error."""

STEPS = 200_000
"""Total elaboration steps for all trials of one check."""

TEXT = 150_000
"""Total characters parsed again in all trials of one check."""

Check = Callable[[Source], Sequence[Diagnostic]]
"""Returns the errors of a file with the text of this Source, without proposals."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """The errors found in the changed text: new ones that were hidden before, and old ones that are gone."""

    revealed: Sequence[Diagnostic]
    gone: Sequence[Diagnostic]


class Trials:
    """The trials of one check, which found these diagnostics. `hidden` are places that it could not check.

    A check parses `size` characters. Files in the folder `fixed` must not be changed.
    """

    def __init__(
        self,
        found: Sequence[Diagnostic],
        hidden: Collection[Span],
        again: Check,
        *,
        size: int = 0,
        fixed: Path | None = None,
    ) -> None:
        self.found, self.again, self.size, self.fixed = found, again, size, fixed
        self.hidden: dict[str, list[Span]] = {}
        for span in hidden:
            self.hidden.setdefault(span.source.name, []).append(span)
        self.left, self.steps, self.text = TRIALS, STEPS, TEXT

    def diagnostics(self) -> list[Diagnostic]:
        """The diagnostics, each with a fix that works, else with advice; omits those that another fix also resolves."""
        reported: list[Diagnostic] = []
        mended: list[Diagnostic] = []
        for diagnostic in self.found:
            if diagnostic in mended:
                continue
            found = self.best(diagnostic)
            if found is None:
                reported.append(replace(diagnostic, proposals=()))
                continue
            proposal, trial = found
            mended += trial.gone
            notes = (*diagnostic.notes, *self.notes(diagnostic, trial))
            reported.append(replace(diagnostic, help=proposal.help, fix=proposal.fix, notes=notes, proposals=()))
        return reported

    def best(self, diagnostic: Diagnostic) -> tuple[Proposal, _Trial] | None:
        """The first fix that leaves no errors; else the first that works."""
        second: tuple[Proposal, _Trial] | None = None
        tried: set[Fix] = set()
        for proposal in diagnostic.proposals:
            if len(tried) >= EACH:
                break
            if proposal.fix in tried:
                continue
            tried.add(proposal.fix)
            trial = self.attempt(diagnostic, proposal.fix)
            if trial is not None and not trial.revealed:
                return proposal, trial
            if trial is not None:
                second = second or (proposal, trial)
        return second

    def notes(self, diagnostic: Diagnostic, trial: _Trial) -> list[str]:
        notes = []
        lines = sorted({d.marks[0].span.line for d in trial.gone} - {diagnostic.marks[0].span.line})
        if lines:
            listed = ", ".join(map(str, lines[:8])) + ("…" if len(lines) > 8 else "")
            notes.append(
                f"this fix also resolves the error{'s' * (len(lines) > 1)} in line{'s' * (len(lines) > 1)} {listed}"
            )
        if trial.revealed and not any(d.code.startswith("E01") for d in self.found):
            first = trial.revealed[0]
            notes.append(f"with this fix, line {first.marks[0].span.line} is wrong next: {first.message}")
        return notes

    def attempt(self, diagnostic: Diagnostic, fix: Fix) -> _Trial | None:
        """Checks the text with a fix applied; None if it does not work, or must not be tried."""
        source = fix.span.source
        if not diagnostic.marks or self.left <= 0 or self.steps <= 0 or self.size > self.text:
            return None
        if self.fixed is not None and source.path is not None and source.path.is_relative_to(self.fixed):
            return None
        self.left -= 1
        self.text -= self.size
        text = source.text[: fix.span.start] + fix.text + source.text[fix.span.end :]
        changed = Source(source.name, text, source.path)
        with limited(replace(limits(), steps=min(limits().steps, self.steps), solver_seconds=1)) as budget:
            left = [d for d in self.again(changed) if d.severity == "error"]
        self.steps -= max(budget.steps, 1)
        return self.judged(diagnostic, fix, left)

    def judged(self, diagnostic: Diagnostic, fix: Fix, left: Sequence[Diagnostic]) -> _Trial | None:
        """Judges a fix by the remaining errors; None if it does not work."""
        own = diagnostic.marks[0].span
        others = {_place(d): d for d in self.found if d is not diagnostic and d.severity == "error"}
        revealed: list[Diagnostic] = []
        for error in left:
            if not error.marks or error.code.startswith("E05"):
                return None  # about the whole, or a limit that this trial exceeded
            span = error.marks[0].span
            at = _before(span, fix)
            if at is not None and others.pop((span.source.name, at), None) is not None:
                continue
            if at is None or (span.source.name == own.source.name and _touch(at, own)):
                return None
            if not self.was_hidden(error, fix):
                return None
            revealed.append(error)
        return _Trial(revealed, list(others.values()))

    def was_hidden(self, error: Diagnostic, fix: Fix) -> bool:
        """Whether the original check could not have found this error."""
        syntax = any(d.code.startswith(("E00", "E01")) for d in self.found)
        if syntax:  # only the syntax was checked
            return not error.code.startswith(("E00", "E01"))
        for mark in error.marks:
            at = _before(mark.span, fix)
            if at is not None and any(s.start <= at < s.end for s in self.hidden.get(mark.span.source.name, ())):
                return True
        return False


def _place(diagnostic: Diagnostic) -> tuple[str, int]:
    if not diagnostic.marks:
        return diagnostic.message, -1
    return diagnostic.marks[0].span.source.name, diagnostic.marks[0].span.start


def _before(span: Span, fix: Fix) -> int | None:
    """The position of a span of the changed text before the change; None if the change touches it."""
    if span.source.name != fix.span.source.name:
        return span.start
    if span.end <= fix.span.start and span.start < fix.span.start:
        return span.start
    end = fix.span.start + len(fix.text)
    if span.start < fix.span.start:
        return span.start
    if span.start >= end and (fix.text or span.start > end):
        return span.start - len(fix.text) + fix.span.end - fix.span.start
    return None


def _touch(at: int, own: Span) -> bool:
    return own.start <= at < max(own.end, own.start + 1)
