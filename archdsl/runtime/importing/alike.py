"""Compares modules of one class: one pattern for all, in which leaves have a value for each module."""

from __future__ import annotations

from archdsl.ops import OPERATIONS
from archdsl.runtime.importing.chains import ABSENT, Chain, Many, Node, key
from archdsl.runtime.importing.layers import default_of, may_replace

WITHOUT = {"shift": 0, "pad": False}
"""The arguments of windows that do not give them."""


class CannotMerge(Exception):
    """The modules differ too much for one block."""


def size(chain: Chain) -> int:
    """The number of items, nested ones included."""
    return sum(1 + sum(map(size, node.bodies)) for node in chain)


def lifted(chain: Chain, before: int) -> Chain:
    """A module as a pattern; `before` other modules have none of it."""
    absent: list[object] = [ABSENT] * before

    def lift(node: Node) -> Node:
        return Node(
            node.kind,
            Many([*absent, node.name]),
            {name: Many([*absent, value]) for name, value in node.arguments.items()},
            [[lift(inner) for inner in body] for body in node.bodies],
            node.label,
            node.auto,
            node.weighted,
            Many([*absent, node.into]),
            node.names,
            node.source,
            [False] * before + [True],
        )

    return [lift(node) for node in chain]


def clone(chain: Chain) -> Chain:
    """A copy of a pattern, to be changed."""

    def copied(leaf: object) -> object:
        return Many([*leaf.values]) if isinstance(leaf, Many) else leaf

    return [
        Node(
            node.kind,
            copied(node.name),
            {name: copied(value) for name, value in node.arguments.items()},
            [clone(body) for body in node.bodies],
            node.label,
            node.auto,
            node.weighted,
            copied(node.into),
            node.names,
            node.source,
            None if node.present is None else [*node.present],
        )
        for node in chain
    ]


def unified(chains: list[Chain], unlike: float = 0.5) -> Chain:
    """One pattern for all these modules, of which this part may differ. Raises CannotMerge."""
    pattern = lifted(chains[0], 0)
    for before, chain in enumerate(chains[1:], 1):
        pattern = merged(pattern, chain, before, unlike)
    return pattern


def lack(chain: Chain) -> None:
    """Adds a module that has none of these nodes."""
    for node in chain:
        assert isinstance(node.name, Many) and isinstance(node.into, Many) and node.present is not None
        for leaf in (node.name, node.into, *node.arguments.values()):
            assert isinstance(leaf, Many)
            leaf.values.append(ABSENT)
        node.present.append(False)
        for body in node.bodies:
            lack(body)


def a_value(leaf: object) -> object:
    """A value of a leaf in one of the modules that have it."""
    return next(iter(values_of(leaf)), ABSENT)


def values_of(leaf: object) -> list[object]:
    """The values of a leaf in the modules that have it."""
    return [value for value in leaf.values if value is not ABSENT] if isinstance(leaf, Many) else [leaf]


def cost(one: Chain, two: Chain) -> float:
    return align(one, two)[0]


def align(one: Chain, two: Chain) -> tuple[float, list[tuple[int | None, int | None]]]:
    """The cheapest pairing of two chains in order: its cost, and pairs of positions; None where one lacks the node."""
    rows, columns = len(one), len(two)
    best: list[list[tuple[float, tuple[int | None, int | None]]]] = [
        [(0.0, (None, None))] * (columns + 1) for _ in range(rows + 1)
    ]
    for i in range(rows, -1, -1):
        for j in range(columns, -1, -1):
            options: list[tuple[float, tuple[int | None, int | None]]] = []
            if i < rows and j < columns and (paired := difference(one[i], two[j])) is not None:
                options.append((best[i + 1][j + 1][0] + paired, (i, j)))
            if i < rows:
                options.append((best[i + 1][j][0] + size(one[i : i + 1]), (i, None)))
            if j < columns:
                options.append((best[i][j + 1][0] + size(two[j : j + 1]), (None, j)))
            if options:
                best[i][j] = min(options, key=lambda option: option[0])
    pairs: list[tuple[int | None, int | None]] = []
    i = j = 0
    while (i, j) != (rows, columns):
        pair = best[i][j][1]
        pairs.append(pair)
        i += pair[0] is not None
        j += pair[1] is not None
    return best[0][0][0], pairs


def difference(one: Node, two: Node) -> float | None:
    """How much two nodes differ; None if they cannot be one."""
    if one.kind != two.kind or len(one.bodies) != len(two.bodies):
        return None
    if one.names != two.names and {one.names, two.names} != {(), (one.label,)}:  # the label is written in any case
        return None
    same_label = one.label == two.label or (one.auto and two.auto)
    if not same_label or one.weighted != two.weighted:
        return None
    first, second = a_value(one.name), a_value(two.name)
    found = 0.0
    if first != second:
        if one.kind != "op" or not may_replace(first, second):
            return None
        found += 0.5
    if (one.arguments or two.arguments) and one.kind == "op" and any(name != second for name in values_of(one.name)):
        return None  # a parameter holds an operation without its arguments
    for name in one.arguments.keys() | two.arguments.keys():
        a, b = one.arguments.get(name, ABSENT), two.arguments.get(name, ABSENT)
        if (
            one.kind in ("body", "for")
            and key(a_value(a)) != key(a_value(b))
            and name in ("inputs", "outputs", "first")
        ):
            return None
        found += 0.1 * (_relative(a, one) != _relative(b, two))
    for a_body, b_body in zip(one.bodies, two.bodies, strict=True):
        found += cost(a_body, b_body)
    return found


def _relative(leaf: object, node: Node) -> object:
    """A value of an argument; one that is the number of incoming channels is the same in every module."""
    value = a_value(leaf)
    return "channels" if type(value) is int and value > 1 and value == a_value(node.into) else key(value)


def merged(pattern: Chain, chain: Chain, before: int, unlike: float = 0.5) -> Chain:
    """The pattern with one more module. Raises CannotMerge if more than this part of them differs."""
    if any(n.kind == "residual" for n in pattern) != any(n.kind == "residual" for n in chain):
        conditional = _residual(clone(pattern), chain, before)
        if conditional is not None:
            return conditional
    spent, pairs = align(pattern, chain)
    if spent > unlike * max(size(pattern), size(chain)) and size(pattern) > 0 and size(chain) > 0:
        raise CannotMerge
    found: Chain = []
    for i, j in pairs:
        if j is None:
            assert i is not None
            lack([pattern[i]])
            found.append(pattern[i])
        elif i is None:
            found += lifted([chain[j]], before)
        else:
            found.append(_paired(pattern[i], chain[j], before))
    return found


def _paired(one: Node, two: Node, before: int) -> Node:
    """A node of the pattern with the same one of one more module."""
    assert isinstance(one.name, Many) and isinstance(one.into, Many) and one.present is not None
    one.auto = one.auto and two.auto
    one.names = one.names or two.names
    one.name.values.append(two.name)
    one.into.values.append(two.into)
    one.present.append(True)
    for name in one.arguments.keys() | two.arguments.keys():
        known = one.arguments.setdefault(name, Many([]))
        assert isinstance(known, Many)
        if not known.values:  # so far each has had the default
            known.values += [_default(one, name) if there else ABSENT for there in one.present[:-1]]
        known.values.append(two.arguments[name] if name in two.arguments else _default(one, name))
    one.bodies = [merged(a, b, before) for a, b in zip(one.bodies, two.bodies, strict=True)]
    return one


def _default(node: Node, name: str) -> object:
    """The value of an argument that a call leaves out."""
    if node.kind == "op":
        return default_of(OPERATIONS[str(a_value(node.name))], name)
    if node.kind == "residual":
        return True  # its condition
    if node.kind == "windows":
        return WITHOUT[name]
    block = a_value(node.name)
    return block.default(name)  # type: ignore[attr-defined]


def _residual(pattern: Chain, chain: Chain, before: int) -> Chain | None:
    """A residual in one of them whose body is without a skip in the other: `residual if`; its skip is the identity."""
    for at, node in enumerate(pattern):
        after = len(pattern) - at - 1
        if node.kind == "residual" and node.bodies[0]:
            continue
        if node.kind == "residual" and at + after <= len(chain) and not any(n.kind == "residual" for n in chain):
            middle = chain[at : len(chain) - after]
            try:
                body = merged(node.bodies[1], middle, before)
                start = merged(pattern[:at], chain[:at], before)
                end = merged(pattern[at + 1 :], chain[len(chain) - after :], before)
            except CannotMerge:
                return None
            return [*start, _conditional(node, body, middle, False), *end]
    for at, node in enumerate(chain):
        after = len(chain) - at - 1
        if node.kind == "residual" and node.bodies[0]:
            continue
        if node.kind == "residual" and at + after <= len(pattern) and not any(n.kind == "residual" for n in pattern):
            middle = pattern[at : len(pattern) - after]
            into = middle[0].into if middle else Many([ABSENT] * before)
            assert isinstance(into, Many)
            there = Node(
                "residual", Many([""] * before), {"if": Many([False] * before)}, [[], []], into=Many([*into.values])
            )
            there.present = [True] * before
            try:
                body = merged(middle, node.bodies[1], before)
                start = merged(pattern[:at], chain[:at], before)
                end = merged(pattern[len(pattern) - after :], chain[at + 1 :], before)
            except CannotMerge:
                return None
            return [*start, _conditional(there, body, [node], True), *end]
    return None


def _conditional(node: Node, body: Chain, other: Chain, skips: bool) -> Node:
    """A residual that is one in some modules; `skips`: in the one that is added."""
    assert isinstance(node.name, Many) and isinstance(node.into, Many) and node.present is not None
    condition = node.arguments.setdefault("if", Many([True] * len(node.present)))
    assert isinstance(condition, Many)
    condition.values.append(skips)
    node.name.values.append("")
    node.into.values.append(other[0].into if other else ABSENT)
    node.present.append(True)
    node.bodies = [node.bodies[0], body]
    return node
