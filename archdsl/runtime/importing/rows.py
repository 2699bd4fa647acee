"""Modules of several tensors that each go first through a layer of their own, as a loop over the tensors."""

from __future__ import annotations

from archdsl.runtime.importing.chains import Node, walk
from archdsl.runtime.importing.runs import distance, loop, masked


def in_a_row(node: Node) -> None:
    """Writes the first layers of a body that takes several tensors as one loop, if only a number in labels differs.

    `x1 -> "a.0": f -> y1: it`, `x2 -> "a.1": f -> y2: it` is `(for i, x in enumerate(it) { x -> "a.{i}": f })`, whose
    results are y1 and y2; the tensors that enter need no names then.
    """
    names, (chain,) = node.arguments["inputs"], node.bodies
    assert isinstance(names, tuple)
    count = len(names)
    starts, members, rest = chain[: 2 * count : 2], chain[1 : 2 * count : 2], chain[2 * count :]
    if count < 2 or len(members) < count or [(n.kind, n.name) for n in starts] != [("ref", name) for name in names]:
        return
    if any(m.kind not in ("op", "use", "body") or len(m.names) != 1 for m in members):
        return
    if any(inner.kind == "ref" and inner.name in names for inner in walk(rest)):
        return
    given = [m.names[0] for m in members]
    for member in members:
        member.names = ()
    first = members[:1]
    if not all(masked([m]) == masked(first) and distance(first, [m]) == k for k, m in enumerate(members[1:], 1)):
        for member, name in zip(members, given, strict=True):
            member.names = (name,)
        return
    each = loop(first, members[1:2], count)
    each.name = "x"
    each.bodies[0].insert(0, Node("ref", "x"))
    each.arguments["each"] = True
    row = Node("parallel", bodies=[[each]], names=tuple(given))
    starts_named = rest and (rest[0].kind == "ref" or (rest[0].kind == "parallel" and [] not in rest[0].bodies))
    node.bodies = [[row, *([] if starts_named else [Node("ref", given[-1])]), *rest]]
    node.arguments["inputs"] = ()
