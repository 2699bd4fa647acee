"""How branches are joined: residual and dense connections, or a parallel; which labels and numbers that takes."""

from __future__ import annotations

from collections.abc import Iterable

from archdsl.ops import OPERATIONS
from archdsl.runtime.importing.chains import Chain, Node, Text
from archdsl.runtime.importing.network import Item, Scope


def is_deep(member: Item | Scope, branches: list[Chain]) -> bool:
    """Whether skip connections that end in concats or modules are nested, which read better with labels."""
    if isinstance(member, Item) and member.operation == "add":
        return False
    if [] not in branches:
        return False
    return any(
        node.kind == "dense" or (node.kind == "parallel" and [] in node.bodies)
        for branch in branches
        for node in branch
    )


def combined(node: Node, branches: list[Chain], into: int | None, named: bool = False) -> Chain:
    """A merge of branches: a residual or dense connection, or a parallel before it; `into` are the channels before."""
    named = named or bool(node.names) or any(takes_nothing(branch) for branch in branches)
    if node.kind == "op" and node.name == "add" and len(branches) == 2 and not named:
        if [] in branches:
            at = branches.index([])
            return [Node("residual", bodies=[[], branches[1 - at]], into=into)]
        short, long = sorted(branches, key=size)
        if size(short) * 2 <= size(long) and not any(n.kind == "ref" for n in (*short[:1], *long[:1])):
            return [Node("residual", bodies=[short, long], into=into)]
    grows = len(branches) == 2 and branches[0] == [] and branches[1] and not node.arguments
    if node.kind == "op" and node.name == "concat" and not named and grows:
        return [Node("dense", bodies=[branches[1]], into=into)]
    return [Node("parallel", bodies=branches, into=into), node]


def unnested(chain: Chain, channels: list[int]) -> Chain:
    """A merge whose one long branch, with parallels in it, is written before it, if all others begin with names.

    Those before it are no more than names, so the order of layers stays. `channels` are those of what is merged.
    """
    first, *rest = chain
    if first.kind != "parallel":
        return chain
    at = next((i for i, body in enumerate(first.bodies) if not is_name(body)), 0)
    deep, *others = first.bodies[at:] or [[]]
    named = all(body and body[0].kind == "ref" for body in others)
    if not named or not any(node.kind == "parallel" for node in deep):
        return chain
    first.bodies[at], first.into = [], channels[at]
    return [*deep, first, *rest]


def is_name(chain: Chain) -> bool:
    """Whether a chain is the name of a tensor."""
    return len(chain) == 1 and chain[0].kind == "ref"


LONGEST = 3
"""So many items, the name of a tensor among them, read well as a branch."""


def inlined(chain: Chain) -> Chain:
    """A chain in which what begins with a name, and only goes into a parallel, is a branch: (a, b -> upsample(2))."""
    found: Chain = []
    for node in chain:
        if node.kind in ("parallel", "residual", "dense"):
            node.bodies = [inlined(body) for body in node.bodies]
        start = next((i for i in range(len(found) - 1, -1, -1) if found[i].kind == "ref"), None)
        if node.kind == "parallel" and node.bodies.count([]) == 1 and start is not None:
            at, run = node.bodies.index([]), found[start:]
            plain = all(n.kind in ("op", "use", "call") for n in run[1:]) and not any(n.names for n in run)
            if plain and 1 < len(run) <= LONGEST and all(n.kind == "ref" for b in node.bodies[:at] for n in b):
                del found[start:]
                node.bodies[at], node.into = run, None
        found.append(node)
    return found


def takes_nothing(branch: Chain) -> bool:
    """Whether a branch begins with a parameter, or with several."""
    if branch and branch[0].kind == "parallel":
        return all(takes_nothing(body) for body in branch[0].bodies)
    name = str(branch[0].name) if branch and branch[0].kind == "op" else ""
    return name in OPERATIONS and OPERATIONS[name].inputs == "none"


def in_sight(chain: Chain, known: set[str], later: set[str]) -> bool:
    """Whether each reference is where its label is known, and the labels of `later` are at the end.

    A label in a body is not known outside of it.
    """
    for node in chain:
        if node.kind == "ref" and node.name not in known and node.name != "it":
            return False
        if any(name not in known for name in names_in(node.arguments.values())):
            return False
        if node.kind != "body" and not all(in_sight(body, {*known}, set()) for body in node.bodies):
            return False
        known |= set(node.names)
    return later <= known


def names_in(values: Iterable[object]) -> list[str]:
    """The labels whose sizes arguments take."""
    return [value.text.partition(".")[0] for value in values if isinstance(value, Text)]


def size(chain: Chain) -> int:
    return sum(1 for node in chain for inner in node.walk() if inner.kind in ("op", "use"))


def number_labels(chain: Chain) -> None:
    """Marks the labels that an item has by its position."""
    count = 0

    def visit(nodes: Chain) -> None:
        nonlocal count
        for node in nodes:
            if node.kind in ("op", "body", "use"):
                if node.kind == "body" and not node.bodies[0]:
                    continue
                if node.kind == "body" and node.label is None:
                    visit(node.bodies[0])
                    continue
                node.auto = node.label == str(count)
                count += 1
            elif node.kind == "windows":  # the cut and the join have numbers
                count += 1
                visit(node.bodies[0])
                count += 1
            elif node.kind in ("parallel", "residual", "dense"):
                for body in node.bodies:
                    visit(body)
                count += node.kind != "parallel"

    visit(chain)
