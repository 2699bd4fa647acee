"""What a module for inference lets go of as soon as nothing reads it any more.

A variable of `forward` holds its tensor until it gets another one, or `forward` returns. That matters where the tensor
is held in the moment of the peak, like what a U-Net has encoded while it decodes. There the module says `del`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from archdsl.analysis.borders import Crossings, borders
from archdsl.analysis.ledger import Profile
from archdsl.analysis.simulation import Simulation
from archdsl.graph import Graph, Node, Scope, Tensor


@dataclass(frozen=True, slots=True)
class Releases:
    """The tensors that must not stay in a variable behind their last use, so that the peak is as small as it can be.

    While a statement with several calls runs, their operands stay: `operands` are those that must not.
    """

    variables: frozenset[Tensor] = frozenset()
    operands: frozenset[Tensor] = frozenset()


NOTHING = Releases()


@dataclass(frozen=True, slots=True)
class Rest:
    """A tensor in a variable that nothing reads behind node `start`.

    It lives until node `end` if it is the operand of a statement that holds several calls, until node `at_most` if no
    other tensor takes its variable. `sure`: no result of the node that reads it last does.
    """

    tensor: Tensor
    start: int
    end: int
    at_most: int
    sure: bool


def releases(graph: Graph) -> Releases:
    """What the form of a network for inference must let go of.

    What fits below the peak at the example sizes stays, both on a CPU, whose convolutions make copies, and elsewhere.
    """
    found = [_needed(Simulation.of(graph, cpu=cpu)) for cpu in (False, True)]
    return Releases(*(frozenset().union(*sets) for sets in zip(*found, strict=True)))


def _needed(run: Simulation) -> tuple[set[Tensor], set[Tensor]]:
    """The tensors that are not to stay in variables, and as operands."""
    run.evaluates = True
    ledger = Profile(0, batch=BATCH)
    run.infer(ledger)
    held = [ledger.most.get(i, 0) for i in range(len(run.graph))]
    peak = max(held, default=0)
    buffers = run.buffers(training=False)
    rests: dict[Tensor, list[Rest]] = {}
    for rest in _rests(run.graph):
        rests.setdefault(buffers[rest.tensor], []).append(rest)
    variables: set[Tensor] = set()
    operands: set[Tensor] = set()
    for buffer in sorted(rests, key=run.bytes):
        found = rests[buffer]
        sample, fixed = run.room(buffer)
        size = fixed + BATCH * sample
        operands.update(r.tensor for r in found if size + max(held[r.start + 1 : r.end + 1], default=0) > peak)
        start, end = min(r.start for r in found) + 1, max(r.at_most for r in found) + 1
        if size + max(held[start:end], default=0) > peak:
            variables.update(r.tensor for r in found)
        elif any(r.sure for r in found):
            held[start:end] = [h + size for h in held[start:end]]
    return variables, operands


def _rests(graph: Graph) -> Iterator[Rest]:
    """The tensors that variables may hold longer than they are read: not those that the caller holds as well."""
    inflow, outflow = borders(graph)
    ends: dict[Member, int] = {node: node.id for node in graph.nodes()}
    for scope in reversed(list(graph.root.scopes())):
        ends[scope] = max((ends[m] for m in scope.members), default=-1)
    for scope in graph.root.scopes():
        readers: dict[Tensor, list[Member]] = {}
        for member in scope.members:
            for tensor in inflow[member] if isinstance(member, Scope) else dict.fromkeys(member.inputs):
                readers.setdefault(tensor, []).append(member)
        kept = {*inflow[scope], *outflow[scope], *(Tensor(n.id) for n in graph.input_nodes)}
        dying: dict[Member, list[Tensor]] = {}
        for tensor, members in readers.items():
            if tensor not in kept:
                dying.setdefault(members[-1], []).append(tensor)
        for member, tensors in dying.items():
            last, sure = ends[_outermost(member, readers, outflow)], len(tensors) > len(_given(member, outflow))
            yield from (Rest(t, ends[member], last, ends[scope], sure) for t in tensors)


Member: TypeAlias = Node | Scope


def _given(member: Member, outflow: Crossings) -> Collection[Tensor]:
    """The results of a member."""
    if isinstance(member, Scope):
        return outflow[member]
    return [Tensor(member.id, i) for i in range(len(member.shapes))]


def _outermost(member: Member, readers: Mapping[Tensor, Sequence[Member]], outflow: Crossings) -> Member:
    """The last member whose call may hold that of a member: those of a line, and a merge, are in one statement."""
    for _ in range(DEEPEST):
        given = list(_given(member, outflow))
        following = readers.get(given[0], ()) if len(given) == 1 else ()
        if len(following) != 1:
            break
        merges = isinstance(following[0], Node) and len(following[0].inputs) > 1
        if not merges and following[0].span.line != member.span.line:
            break
        (member,) = following
        if merges:
            break
    return member


BATCH = 8
"""The batch whose peak is to be small. For one image, copies of weights may count more than all tensors."""
DEEPEST = 4
"""How many calls may be in one statement, at least."""
