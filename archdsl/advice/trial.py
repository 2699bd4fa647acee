"""Changes that errors propose, tried before they are shown: each is made to the text, which is checked again.

A change holds where its own place is in order then, and nothing that was in order before is wrong. What lay hidden
behind the mistake may come to light; a change that brings such to light is shown with it, unless another one does not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from archdsl.common.limits import limited, limits
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostic, Fix, Proposal

TRIALS = 32
"""The most changes that are tried of one check; what is not tried is not shown."""

EACH = 8
"""The most changes that are tried of one error."""

STEPS = 200_000
"""Steps of elaboration in all trials of one check together."""

TEXT = 150_000
"""Characters that are read again in all trials of one check together."""

Check = Callable[[Source], Sequence[Diagnostic]]
"""Says what is wrong where a file has the text of this Source, and proposes nothing itself."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """What the check of a changed text found: new errors that lay hidden before, and old ones that are gone."""

    revealed: Sequence[Diagnostic]
    gone: Sequence[Diagnostic]


class Trials:
    """The trials of one check, which found these diagnostics. `hidden` are places that it could not look into.

    A check reads `size` characters. What lies in the folder `fixed` is not the user's to change.
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
        """The diagnostics, each with a change where one holds, else with advice; what another one mends is left out."""
        told: list[Diagnostic] = []
        mended: list[Diagnostic] = []
        for diagnostic in self.found:
            if diagnostic in mended:
                continue
            found = self.best(diagnostic)
            if found is None:
                told.append(replace(diagnostic, proposals=()))
                continue
            proposal, trial = found
            mended += trial.gone
            notes = (*diagnostic.notes, *self.notes(diagnostic, trial))
            told.append(replace(diagnostic, help=proposal.help, fix=proposal.fix, notes=notes, proposals=()))
        return told

    def best(self, diagnostic: Diagnostic) -> tuple[Proposal, _Trial] | None:
        """The first change that leaves nothing to say; else the first that holds."""
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
            notes.append(f"what is proposed here mends line{'s' * (len(lines) > 1)} {listed}, too")
        if trial.revealed and not any(d.code.startswith("E01") for d in self.found):
            first = trial.revealed[0]
            notes.append(f"with this change, line {first.marks[0].span.line} is wrong next: {first.message}")
        return notes

    def attempt(self, diagnostic: Diagnostic, fix: Fix) -> _Trial | None:
        """Checks the text with a change; None where it does not hold, or may not be tried."""
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
        """What the errors that are left say of a change; None where it does not hold."""
        own = diagnostic.marks[0].span
        others = {_place(d): d for d in self.found if d is not diagnostic and d.severity == "error"}
        revealed: list[Diagnostic] = []
        for error in left:
            if not error.marks or error.code.startswith("E05"):
                return None  # about the whole, or a limit that this trial passed
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
        """Whether the check could not have found this error at first."""
        syntax = any(d.code.startswith(("E00", "E01")) for d in self.found)
        if syntax:  # nothing was looked at but the text
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
    """Where a span of the changed text began before the change; None where the change touches it."""
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
