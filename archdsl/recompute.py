"""Which activations a training step computes a second time instead of keeping them (activation checkpointing).

Chen et al., Training deep nets with sublinear memory cost, 2016; Pleiss et al., Memory-efficient implementation of
DenseNets, 2017 (arXiv:1707.06990).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from archdsl.diagnostics import Diagnostic, Mark, SpecError
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.memory import memory
from archdsl.syntax import tree

Mode: TypeAlias = Literal["none", "dense", "blocks"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True, eq=False)
class Recompute:
    """The scopes that keep what flows in alone, and run again in the backward pass; none stands within another.

    `grown` are the concats of dense connections around such scopes: what they give is not kept either, but put together
    from its parts wherever it is read.
    """

    scopes: frozenset[Scope] = frozenset()
    grown: frozenset[Node] = frozenset()


NOTHING = Recompute()


def recompute(graph: Graph, mode: Mode) -> Recompute:
    """What is computed a second time: the bodies of dense connections, or calls of blocks.

    Of the blocks those are chosen whose calls lower the peak of a training step the most. Raises SpecError where a
    network has nothing of the kind.
    """
    match mode:
        case "none":
            return NOTHING
        case "dense":
            return _dense(graph)
        case "blocks":
            return _blocks(graph)


def _dense(graph: Graph) -> Recompute:
    readers: Counter[Tensor] = Counter(t for node in graph.nodes() for t in node.inputs)
    scopes: set[Scope] = set()
    grown: set[Node] = set()
    in_place: list[Node] = []
    for node in graph.nodes():
        if node.operation.name != "concat" or len(node.inputs) != 2:
            continue
        whole, new = node.inputs
        body = next((s for s in graph.node(new).scope.calls() if s.parent is node.scope), None)
        if body is None:
            if isinstance(node.origin, tree.Dense):
                in_place.append(node)
        elif readers[new] == 1 and body.outputs == (new,) and body.inflow() == [whole]:
            scopes.add(body)
            grown.add(node)
    if scopes:
        return Recompute(frozenset(scopes), frozenset(grown))
    if in_place:
        marks = tuple(Mark(n.span, "its layers are written in place" if i == 0 else "") for i, n in enumerate(in_place))
        raise SpecError(
            [
                Diagnostic(
                    "E0601",
                    f"{graph.name} has no dense connection whose body can be computed a second time",
                    marks[:1],
                    help="write the body as a block and call it: `dense { layer(growth) }`",
                )
            ]
        )
    raise _nothing(graph, "no dense connections", "`blocks` computes calls of blocks a second time")


def _blocks(graph: Graph) -> Recompute:
    calls: dict[int, list[Scope]] = {}
    for scope in graph.root.scopes():
        if scope.kind == "block" and scope.definition is not None:
            calls.setdefault(id(scope.definition.syntax), []).append(scope)
    if not calls:
        raise _nothing(graph, "no calls of blocks", "give what repeats a name: `block NAME(…) { … }`")
    chosen: list[Scope] = []
    lowest = _peak(graph, ())
    rest = list(calls.values())
    while True:
        # Of equal peaks the first: the outer block.
        trials = [(_peak(graph, _outermost([*chosen, *scopes])), number) for number, scopes in enumerate(rest)]
        peak, number = min(trials, default=(lowest, 0))
        if peak >= lowest:
            break
        lowest = peak
        chosen = _outermost([*chosen, *rest.pop(number)])
    if not chosen:
        raise _nothing(graph, "no block whose second computation lowers the memory of a training step", None)
    return Recompute(frozenset(chosen))


def _nothing(graph: Graph, lack: str, help: str | None) -> SpecError:
    return SpecError([Diagnostic("E0601", f"{graph.name} has {lack}: there is nothing to recompute", help=help)])


def _peak(graph: Graph, scopes: Iterable[Scope]) -> int:
    """Bytes a sample at the peak of a training step."""
    return max(m.sample for m in memory(graph, cpu=False, recompute=tuple(scopes)).training("sgd").moments)


def _outermost(scopes: Sequence[Scope]) -> list[Scope]:
    given = set(scopes)
    return [s for s in dict.fromkeys(scopes) if given.isdisjoint(list(s.calls())[1:])]
