"""How elaboration reports errors: each once, with the calls of blocks that lead there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from archdsl.common.limits import Exceeded
from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostics, Mark, Proposal
from archdsl.elaborate.place import Place
from archdsl.graph import Definition, Scope
from archdsl.syntax import tree
from archdsl.syntax.walk import parts
from archdsl.values import Failure, Poisoned, Unknown

MAX_ERRORS: Final = 50
"""The maximum number of errors reported per network."""


class Stop(Exception):
    """A limit was exceeded, or there are enough errors: elaboration ends here."""


@dataclass(slots=True, eq=False)
class Reports:
    """The errors of one network."""

    diagnostics: Diagnostics
    reported: dict[object, tuple[int, Scope | None]] = field(default_factory=dict)
    """The index of each error among the diagnostics, and the call in which it was found first."""
    repeated: list[tuple[int, str]] = field(default_factory=list)
    """The index of each error that was found again, and the path of the other call of a block."""
    troubles: int = 0
    """How often something was reported, again or for the first time, or not checked."""

    def report(
        self,
        code: str,
        message: str,
        scope: Scope | None,
        *marks: Span | Mark,
        help: str | None = None,
        notes: Sequence[str] = (),
        proposals: Sequence[Proposal] = (),
    ) -> None:
        """Reports an error once for each place in the text, with the calls of blocks that lead to it."""
        first = marks[0].span if isinstance(marks[0], Mark) else marks[0]
        key = (code, first.source, first.start, first.end)
        self.troubles += 1
        if key in self.reported:
            position, at = self.reported[key]
            if scope is not None and at is not None and called(scope) is not called(at):
                self.repeated.append((position, called(scope).path))
            return
        self.reported[key] = len(self.diagnostics.items), scope
        self.diagnostics.error(
            code, message, *marks, notes=[*notes, *call_notes(scope)], help=help, proposals=proposals
        )
        if len(self.reported) >= MAX_ERRORS:
            # The code after it was not checked.
            self.diagnostics.hidden.add(Span(first.source, 0, len(first.source.text)))
            raise Stop

    def hide(self, span: Span) -> None:
        """Notes a place that cannot be checked."""
        self.troubles += 1
        self.diagnostics.hidden.add(span)

    def fail(self, failure: Failure, scope: Scope | None) -> None:
        help, proposals = failure.help, failure.proposals
        if isinstance(failure, Unknown) and (what := declared_below(failure.name, failure.span, scope)):
            help, proposals = f"`{failure.name}` {what} below: {failure.below}", ()
        self.report(failure.code, failure.message, scope, failure.span, *failure.others, help=help, proposals=proposals)

    @contextmanager
    def guarded(self, place: Place, span: Span) -> Iterator[None]:
        """Reports an error of a statement and continues; the flow after it is unknown."""
        try:
            yield
        except Failure as failure:
            self.fail(failure, place.scope)
            place.lose()
        except Poisoned:
            self.hide(span)
            place.lose()
        except Exceeded as error:
            self.exceeded(error, span, place.scope)
            raise Stop from None

    def exceeded(self, error: Exceeded, span: Span, scope: Scope) -> None:
        self.report(error.code, error.message, scope, error.span or span, help=error.help)

    def finish(self) -> None:
        """Adds to each error the other calls in which it was met."""
        again: dict[int, dict[str, None]] = {}
        for position, path in self.repeated:
            again.setdefault(position, {})[path] = None
        for position, paths in again.items():
            diagnostic = self.diagnostics.items[position]
            self.diagnostics.items[position] = replace(diagnostic, notes=(*diagnostic.notes, same_at(list(paths))))


def call_notes(scope: Scope | None) -> list[str]:
    """`in block `bottleneck`, called at resnet.arch:40`, innermost first; a long chain is cut in its middle."""
    notes: list[str] = []
    while scope is not None and scope.parent is not None:
        if scope.kind == "block" and scope.definition is not None:
            at = f"{scope.span.source.name}:{scope.span.line}"
            path = scope.path if len(scope.path) <= 60 else "…" + scope.path[-59:]
            notes.append(f"in block `{scope.definition.name}` (`{path}`), called at {at}")
        scope = scope.parent
    if len(notes) > 5:
        notes = [*notes[:3], f"… {len(notes) - 4} more calls …", notes[-1]]
    return notes


def definition_around(scope: Scope, span: Span) -> Definition | None:
    """The block or model of a scope, if its text has this place."""
    around = next((s.definition for s in scope.calls() if s.definition is not None), None)
    return around if around is not None and around.syntax.span.source is span.source else None


def declared_below(name: str, span: Span, scope: Scope | None) -> str | None:
    """How the block or model declares a name behind a place in its text; None if it does not."""
    around = definition_around(scope, span) if scope is not None else None
    for part in parts(around.syntax.body) if around is not None else ():
        match part:
            case tree.Label(quoted=False) if name in part.parts:
                what, at = "is a label", part.span
            case tree.Pattern() if any(part_name.name == name for part_name in part.names):
                what, at = "is a label", part.span
            case tree.Let() if part.name.name == name:
                what, at = "gets its value", part.name.span
            case tree.Share() if part.name.name == name:
                what, at = "is shared", part.name.span
            case _:
                continue
        if at.start > span.end:
            return what
    return None


def called(scope: Scope) -> Scope:
    """The enclosing call of a block, or the model, of a scope."""
    return next(s for s in scope.calls() if s.kind != "body")


MOST_CALLS = 6
"""The maximum number of calls of a block listed with an error in it."""


def same_at(paths: Sequence[str]) -> str:
    """Other calls in which the same place of the text has the same error."""
    shown = ", ".join(f"`{path}`" for path in paths[:MOST_CALLS])
    return f"the same at {shown}" + (f", and {len(paths) - MOST_CALLS} more" if len(paths) > MOST_CALLS else "")
