"""Which call of a block a document shows, and the sizes at the ends of its lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from archdsl.common.source import Source, Span
from archdsl.editing.alone import ENDING
from archdsl.editing.analysis import Analysis, Model
from archdsl.editing.positions import LineMap
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.fields import shape_text
from archdsl.syntax import tree

Sizes = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call of a block in a checked model, or the model itself, whose path is empty."""

    model: Model
    graph: Graph
    scope: Scope

    @property
    def key(self) -> tuple[str, str]:
        """Its name from one check to the next: its model and its path."""
        return self.model.name, self.scope.path

    def sizes(self, tensors: Iterable[Tensor]) -> Sizes:
        """The sizes of tensors as text; empty if one of them is not known."""
        found: list[str] = []
        for tensor in tensors:
            shape = self.graph.node(tensor).shapes[tensor.index] if tensor.node >= 0 else None
            if shape is None:
                return ()
            text = self.model.texts.get(id(shape))  # comparing formulas would take longer than writing them
            if text is None:
                text = self.model.texts[id(shape)] = shape_text(shape, self.graph.sizes)
            found.append(text)
        return tuple(found)

    @property
    def title(self) -> str:
        """`layer1.0 of resnet50`."""
        if self.model.name.endswith(ENDING) and self.scope.definition is not None:
            return f"{self.scope.definition.name} alone"
        return f"{self.scope.path} of {self.model.name}" if self.scope.path else self.model.name


Choice = dict[str, tuple[str, str]]
"""The call that the user chose to see, by the name of the block or model."""


@dataclass(eq=False)
class Calls:
    """The calls of each block and model of a document, in order. `chosen` is the user's choice."""

    analysis: Analysis
    chosen: Choice
    of: dict[str, list[Call]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shown = self.analysis.alone or self.analysis
        source = shown.source
        for model in list(shown.models.values()):  # more may be checked meanwhile
            if model.graph is None:
                continue
            for scope in model.graph.root.scopes():
                written = scope.definition
                if written is not None and written.syntax.span.source is source:
                    self.of.setdefault(written.name, []).append(Call(model, model.graph, scope))

    def shown(self, name: str) -> Call | None:
        """The call of a block that is shown: the chosen one, else the first."""
        calls = self.of.get(name, [])
        chosen = self.chosen.get(name)
        return next((c for c in calls if c.key == chosen), calls[0] if calls else None)

    def around(self, offset: int) -> Call | None:
        """The call that is shown of the block around an offset."""
        definition = definition_at(self.analysis.syntax, offset)
        return self.shown(definition.name.name) if definition is not None else None


def definition_at(file: tree.File, offset: int) -> tree.Block | tree.Model | None:
    """The block or model around an offset."""
    for declaration in definitions(file):
        if declaration.span.start <= offset <= declaration.span.end:
            return declaration
    return None


def definitions(file: tree.File) -> Iterator[tree.Block | tree.Model]:
    return (d for d in file.declarations if isinstance(d, tree.Block | tree.Model))


def inside(scope: Scope) -> Iterator[Node | Scope]:
    """The nodes and calls that the text of a block places at one call, without those inside of these calls."""
    for member in scope.members:
        yield member
        if isinstance(member, Scope) and member.kind == "body":
            yield from inside(member)


# ---------------------------------------------------------------- sizes at the ends of lines


@dataclass(frozen=True, slots=True)
class Hint:
    """A size shown behind a place of the text; `tooltip` says whose it is."""

    offset: int
    text: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class _Event:
    """An item that ends on a line, in one round of the loops around it."""

    line: int
    end: int
    start: int
    rounds: tuple[int, ...]
    before: Sizes
    after: Sizes


def hints(analysis: Analysis, calls: Calls) -> list[Hint]:
    """The sizes at the ends of the lines where the size changes, in the shown call of each block."""
    found: list[Hint] = []
    checked = analysis.alone or analysis
    for definition in definitions(checked.syntax):
        call = calls.shown(definition.name.name)
        behind = definition.span.start >= len(analysis.source.text)  # a model that was written for a block alone
        if behind or call is None or call.scope.definition is None:
            continue
        if call.scope.definition.syntax is definition:
            found += _of_call(call, definition, checked.source)
    return sorted(found, key=lambda hint: hint.offset)


def _of_call(call: Call, definition: tree.Block | tree.Model, source: Source) -> Iterator[Hint]:
    if isinstance(definition, tree.Block):
        head = source.position(definition.body.span.start)[0]
        one_line = head == source.position(definition.body.span.end)[0]
        incoming = call.sizes(call.scope.inputs)
        if incoming and not one_line:
            text = f"{_listed(incoming)} →"
            yield Hint(_line_end(source, head), text, f"what flows into `{call.title}`")
    events = sorted(_events(call, source), key=lambda e: (e.line, e.rounds, e.end, -e.start))
    for line, group in groupby(events, key=lambda e: e.line):
        change = _of_line(list(group))
        if change is not None:
            yield Hint(_line_end(source, line), change, f"in `{call.title}`, without the batch")


def _of_line(events: Sequence[_Event]) -> str | None:
    """The size behind a line, if it changes it: that of the first round, and of the last one if it differs."""
    rounds = [list(group) for _, group in groupby(events, key=lambda e: e.rounds)]
    changes = [(round_[0].before, round_[-1].after) for round_ in rounds]
    if all(set(before) == set(after) and len(after) == 1 for before, after in changes):
        return None
    first, last = changes[0][1], changes[-1][1]
    if not first:
        return None
    return f"→ {_listed(first)}" if first == last else f"→ {_listed(first)} … {_listed(last)}"


def _events(call: Call, source: Source) -> Iterator[_Event]:
    outer = len(call.scope.rounds)
    for member in inside(call.scope):
        span = member.span
        if span.source is not source:
            continue
        if isinstance(member, Node):
            if member.operation.is_input or (member.call is None and member.origin is None):
                continue
            before = call.sizes(member.inputs)
            after = call.sizes([Tensor(member.id, i) for i in range(len(member.shapes))])
        else:
            before, after = call.sizes(member.inputs), call.sizes(member.outputs)
        rounds = tuple(number for _, number in member.rounds[outer:])
        yield _Event(source.position(span.end)[0], span.end, span.start, rounds, before, after)


def _listed(shown: Sizes) -> str:
    """Sizes side by side; equal ones once, with their number."""
    groups = [(text, len(list(group))) for text, group in groupby(shown)]
    return ", ".join(f"{number} × {text}" if number > 1 else text for text, number in groups)


def _line_end(source: Source, line: int) -> int:
    """The offset behind the last character of a line that is no space."""
    start = source.start_of(line)
    return start + len(source.line(line).rstrip())


def placed(call: Call, span: Span) -> list[Node | Scope]:
    """The nodes or calls that an item of the text places in a call, one for each round."""
    return [
        m
        for m in inside(call.scope)
        if m.span.source is span.source and (m.span.start, m.span.end) == (span.start, span.end)
    ]


def merged(new: Iterable[Hint], source: Source, old: Iterable[Hint], before: Source) -> list[Hint]:
    """The hints of a broken text, with those of the text before it for lines that have none and are unchanged."""
    found = {source.position(hint.offset)[0]: hint for hint in new}
    lines = LineMap(before.text, source.text)
    for hint in old:
        line = lines.line(before.position(hint.offset)[0] - 1)
        if line is not None and line + 1 not in found:
            found[line + 1] = Hint(_line_end(source, line + 1), hint.text, hint.tooltip)
    return sorted(found.values(), key=lambda hint: hint.offset)
