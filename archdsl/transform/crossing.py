"""Layers in series that lead from one block into the next, which the scope around both can recompute together.

The last layers of a block are mostly not costly (a batchnorm and an activation behind a convolution), and the first one
of the next block is. So the tensors between the two convolutions need no memory. A concat may be among them: a decoder
of a U-Net stores what its last convolution gives, and recomputes what the next level's first convolution takes. So may
an align before that: the skips of an unpadded U-Net are cropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from archdsl.analysis.layout import Layout
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.graph.series import Series, flows_out_of, made_by
from archdsl.transform.series import Finder, cuts


def crossing(graph: Graph, layout: Layout) -> Iterator[Series]:
    """All series across the borders of blocks, or with a join, that are worth a try.

    The network has no tensors with the channels last.
    """
    found = Finder(graph, layout)
    for scope in graph.root.scopes():
        if scope.is_shared:
            continue
        rows = [*found.longest(scope)]
        joined = [_joined(found, rows, over_skips) for over_skips in (False, True)]
        runs = (run for row in chain(*joined) for run in _runs([n for m in row for n in _laid_out(found, m)]))
        for members in dict.fromkeys(tuple(_gathered(piece.members, scope)) for run in runs for piece in cuts(run)):
            given = _given(found, members)
            series = Series(members, *given[:1])
            if len(given) < 2 and series.scope is scope and _is_possible(found, series):
                yield series


def _given(found: Finder, members: Sequence[Node | Scope]) -> list[Tensor]:
    """The tensors between members that are read elsewhere, too."""
    nodes = {node.id for node in Series(tuple(members)).nodes()}
    between = [tensor for member in members[:-1] for tensor in made_by(member)]
    return [tensor for tensor in between if not nodes.issuperset(found.readers[tensor])]


def _joined(found: Finder, rows: Sequence[Sequence[Node | Scope]], over_skips: bool) -> Iterator[list[Node | Scope]]:
    """Rows of a scope with the joins that lead to them, put together where one of these takes what the last gives.

    `over_skips`: also where something else takes it, too.
    """
    whole: list[Node | Scope] = []
    for row in rows:
        join = found.join(row[0])
        if not whole or not _follows(found, whole[-1], row[0], join, over_skips):
            yield from [whole] if whole else []
            whole = []
        whole += [*join, *row]
    yield from [whole] if whole else []


def _follows(found: Finder, last: Node | Scope, first: Node | Scope, join: Sequence[Node], over_skips: bool) -> bool:
    """Whether a row goes on with another one, or with the join before this."""
    return found.flows_only(last, join[0]) if join else over_skips and found.is_read(last, first)


def _laid_out(found: Finder, member: Node | Scope) -> list[Node | None]:
    """The nodes in series at the beginning of a member and at its end, with None for others between; or all of them."""
    if isinstance(member, Node):
        return [member]
    rows = [*found.longest(member)]
    if not rows:
        return [None]
    first, last = ([n for m in row for n in _laid_out(found, m)] for row in (rows[0], rows[-1]))
    begins = rows[0][0] is member.members[0] and found.takes_alone(rows[0][0], member)
    ends = rows[-1][-1] is member.members[-1] and member.outputs == (flows_out_of(rows[-1][-1]),)
    if len(rows) == 1 and begins and ends and len(rows[0]) == len(member.members):
        return first
    return [*(first if begins else []), None, *(last if ends else [])]


def _runs(nodes: Sequence[Node | None]) -> Iterator[list[Node]]:
    """The nodes between those that are None."""
    run: list[Node] = []
    for node in nodes:
        if node is not None:
            run.append(node)
        elif run:
            yield run
            run = []
    yield from [run] if run else []


def _gathered(nodes: Sequence[Node | Scope], around: Scope) -> Iterator[Node | Scope]:
    """Nodes, or the largest scopes below `around` of which all nodes are among them."""
    ids = {node.id for member in nodes if isinstance(member, Node) for node in [member]}
    done: set[int] = set()
    for node in nodes:
        assert isinstance(node, Node)
        if node.id in done:
            continue
        within = [s for s in node.scope.calls() if s is not around and around in s.calls()]
        wholes = [s for s in within if ids.issuperset(n.id for n in s.nodes())]
        if wholes:
            done.update(n.id for n in wholes[-1].nodes())
        yield wholes[-1] if wholes else node


def _is_possible(found: Finder, series: Series) -> bool:
    nodes = [*series.nodes()]
    concats = sum(map(found.is_concat, nodes))
    given = series.given
    if concats + (given is not None) > 1 or not (concats or series.crosses or given is not None):
        return False
    first, last = nodes[0].id, nodes[-1].id
    return last - first + 1 == len(nodes) and all(t.node < first for t in series.inflow())
