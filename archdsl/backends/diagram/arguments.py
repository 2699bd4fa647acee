"""The arguments of a block's calls that a diagram shows: those in which its calls differ, the same ones in all."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from archdsl.dims import Expr
from archdsl.dims import text as dim_text
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.syntax.tree import Literal

LONGEST = 18
"""The most letters of one value."""


@dataclass(slots=True)
class _Calls:
    """The calls of one block, with the channels that flow into each and out of it."""

    scopes: list[Scope] = field(default_factory=list)
    into: list[object] = field(default_factory=list)
    out: list[object] = field(default_factory=list)


class Arguments:
    """Chooses the parameters of each block whose values its boxes show."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._calls: dict[Hashable, _Calls] = {}
        self._chosen: dict[Hashable, tuple[str, ...]] = {}
        for scope in graph.root.scopes():
            if scope.definition is not None and scope.kind == "block":
                calls = self._calls.setdefault(_key(scope), _Calls())
                calls.scopes.append(scope)
                calls.into.append(self._channels(scope.inputs[:1]))
                calls.out.append(self._channels(scope.outputs[-1:]))

    def _channels(self, tensors: Sequence[Tensor]) -> object:
        return self._graph.shape(tensors[0])[0] if tensors else None

    def chosen(self, scope: Scope) -> tuple[str, ...]:
        """The names of the parameters to show of each call of a block: those that differ, of a single call the unusual
        ones.

        A parameter that is the channels of the result in every call, or those of the input, is none of them: a box has
        these anyway.
        """
        key = _key(scope)
        if key not in self._chosen:
            self._chosen[key] = self._choose(self._calls[key]) if key in self._calls else tuple(scope.arguments)
        return self._chosen[key]

    @staticmethod
    def _choose(calls: _Calls) -> tuple[str, ...]:
        definition = calls.scopes[0].definition
        assert definition is not None
        usual = {p.name.name: p.default for p in definition.syntax.parameters}
        differing, unusual = [], []
        for name in usual:
            values = [s.arguments.get(name) for s in calls.scopes]
            if values in (calls.out, calls.into):
                continue
            default = usual[name]
            if len({value_text(v) for v in values}) > 1:
                differing.append(name)
            elif default is None or (isinstance(default, Literal) and default.value != values[0]):
                unusual.append(name)
        return tuple(differing if len(calls.scopes) > 1 else unusual)

    def texts(self, scope: Scope, rounds: Sequence[Sequence[Node]]) -> list[str]:
        """`stride 1` for each parameter that is shown; of what differs between the repetitions of a box, its range."""
        if scope.definition is None or scope.kind != "block":
            return []
        calls = [scope]
        for nodes in rounds[1:]:
            calls += [s for s in nodes[0].scope.calls() if s.depth == scope.depth][:1]
        return [f"{name} {values_text([call.arguments.get(name) for call in calls])}" for name in self.chosen(scope)]


def _key(scope: Scope) -> Hashable:
    assert scope.definition is not None
    return scope.definition.syntax.span


def values_text(values: Sequence[object]) -> str:
    """A value, the range of numbers that differ, or what there is of other values: `relu | silu`."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        return span([value_text(v) for v in _ordered(numbers)])
    return " | ".join(cut(text) for text in dict.fromkeys(map(value_text, values)))


def _ordered(numbers: Sequence[float]) -> list[float]:
    """The first and the last of numbers that fall, else the smallest and the largest."""
    falling = all(a >= b for a, b in pairwise(numbers))
    return [numbers[0], numbers[-1]] if falling else [min(numbers), max(numbers)]


def span(ends: Iterable[str]) -> str:
    """`0…0.1`, of two equal texts one."""
    low, *_, high = [*ends] * 2
    return low if low == high else f"{low}…{high}"


def value_text(value: object) -> str:
    """A block's argument in words."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.3g}"
        case int() | str():
            return str(value)
        case Expr():
            return dim_text(value)
        case tuple():
            return "[" + ", ".join(map(value_text, value)) + "]"
        case _:
            return str(getattr(value, "name", "")) or "a tensor"


def cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
