"""Changes of the text: the fixes of errors that were tried and work, and the canonical style."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import accumulate

from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostic, Fix
from archdsl.editing.analysis import Analysis
from archdsl.editing.navigation import Project
from archdsl.formatting import format_source


def fixes(analysis: Analysis, project: Project, start: int, end: int) -> Iterator[Diagnostic]:
    """The diagnostics that are shown between two offsets, or marked there, and have a fix that may be made."""
    for diagnostic in fixable(analysis, project):
        spans = [analysis.place(diagnostic), *(m.span for m in diagnostic.marks if m.span.source is analysis.source)]
        fix = diagnostic.fix
        if fix is not None and fix.span.source is analysis.source:
            spans.append(fix.span)
        if any(span.start <= end and start <= span.end for span in spans):
            yield diagnostic


def fixable(analysis: Analysis, project: Project) -> Iterator[Diagnostic]:
    """The diagnostics with a fix that may be made."""
    for diagnostic in analysis.diagnostics():
        if diagnostic.fix is not None and not project.is_fixed(diagnostic.fix.span.source.path):
            yield diagnostic


def together(analysis: Analysis, project: Project) -> list[Diagnostic]:
    """The fixes in this document that do not touch each other, so that all can be made at once."""
    found: list[Diagnostic] = []
    end = -1
    here = [d for d in fixable(analysis, project) if d.fix is not None and d.fix.span.source is analysis.source]
    for diagnostic in sorted(here, key=lambda d: (d.fix.span.start, d.fix.span.end) if d.fix else (0, 0)):
        fix = diagnostic.fix
        if fix is not None and fix.span.start > end:
            found.append(diagnostic)
            end = fix.span.end
    return found


def formatting(source: Source) -> list[Fix]:
    """The changes that bring a text into the canonical style, line by line. Raises SpecError for a syntax error."""
    text = format_source(source)
    before, after = source.text.splitlines(keepends=True), text.splitlines(keepends=True)
    starts = [0, *accumulate(map(len, before))]
    return [
        Fix(Span(source, starts[a], starts[b]), "".join(after[c:d]))
        for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if kind != "equal"
    ]
