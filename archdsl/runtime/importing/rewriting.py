"""Patterns of a network that the language says in another way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import isclose, sqrt

from archdsl.ops import OPERATIONS
from archdsl.runtime.importing.functions import shape_of
from archdsl.runtime.importing.network import Item, Network, Scope
from archdsl.runtime.importing.recorded import Value


def rewrite(network: Network) -> None:
    """Rewrites the network in place, and connects its scopes."""
    while lift(network.root):
        pass
    fold_scales(network.root)
    network.connect()
    for scope in network.root.scopes():
        flatten_sums(scope)
    hoist(network.root)
    grow(network)
    network.connect()
    order_outputs(network.root)


def order_outputs(root: Scope) -> None:
    """Gives the results of modules in the order in which others take them all, so that they flow on.

    Modules of a class have one order.
    """
    orders: dict[tuple[type, int], Counter[tuple[int, ...]]] = {}
    for scope in root.scopes():
        taken = [m for m in scope.members if isinstance(m, Scope) and len(m.inputs) > 1]
        for member in scope.members:
            if not isinstance(member, Scope) or len(member.outputs) < 2:
                continue
            place = {value: i for i, value in enumerate(member.outputs)}
            for user in taken:
                if {*user.inputs} == {*place}:
                    kind = (type(member.module), len(place))
                    orders.setdefault(kind, Counter())[tuple(place[value] for value in user.inputs)] += 1
    for scope in root.scopes():
        if scope is not root and (found := orders.get((type(scope.module), len(scope.outputs)))):
            scope.outputs = [scope.outputs[i] for i in found.most_common(1)[0][0]]


def lift(scope: Scope) -> bool:
    """Moves parameters of modules around a module out of it; whether there were any."""
    members: list[Item | Scope] = []
    found = False
    for member in scope.members:
        if isinstance(member, Scope):
            found |= lift(member)
            prefix = f"{member.path}." if member.path else ""
            for item in [m for m in member.members if isinstance(m, Item)]:
                if not item.inputs and not item.path.startswith(prefix):
                    member.members.remove(item)
                    members.append(item)
                    found = True
        members.append(member)
    scope.members = members
    return found


def fold_scales(root: Scope) -> None:
    """Queries that are multiplied by a number before attention: the number is a scale of the scores."""
    users: dict[Value, int] = {}
    for item in root.items():
        for value in item.inputs:
            users[value] = users.get(value, 0) + 1
    for scope in root.scopes():
        made = {value: m for m in scope.members if isinstance(m, Item) for value in m.outputs}
        for member in [
            m for m in scope.members if isinstance(m, Item) and "heads" in m.arguments and len(m.inputs) > 2
        ]:
            by = made.get(member.inputs[0])
            if by is None or by.arguments.keys() != {"scale"} or by.path or users[by.outputs[0]] > 1:
                continue
            each = shape_of(member.inputs[0])[0] // int(str(member.arguments["heads"]))
            scale = float(str(member.arguments.get("scale", 1 / sqrt(each)))) * float(str(by.arguments["scale"]))
            rest = {k: v for k, v in member.arguments.items() if k != "scale"}
            member.arguments = rest if isclose(scale, 1 / sqrt(each), rel_tol=1e-6) else {**rest, "scale": scale}
            member.inputs = [by.inputs[0], *member.inputs[1:]]
            scope.members.remove(by)


def flatten_sums(scope: Scope) -> None:
    """Writes sums of sums, (a + b) + c, as one, unless the tensors flow from each other, as beside a skip."""
    users: Counter[Value] = Counter(value for member in scope.members for value in member.inputs)
    users.update(scope.outputs)
    sums = [m for m in scope.members if isinstance(m, Item) and m.outside is None and OPERATIONS[m.operation].is_sum]
    by = {m.outputs[0]: m for m in sums if not m.path and not m.arguments and users[m.outputs[0]] == 1}
    made = {value: member for member in scope.members for value in member.outputs}
    inner: set[int] = set()
    for member in sums:
        before = by.get(member.inputs[0])
        if before is None or member.arguments:
            continue
        parts = [*before.inputs, *member.inputs[1:]]
        if not any(_sources(made, part) & set(parts) for part in parts):
            member.inputs = parts
            inner.add(id(before))
    if inner:
        scope.members = [member for member in scope.members if id(member) not in inner]


def _sources(made: Mapping[Value, Item | Scope], value: Value) -> set[Value]:
    """The tensors from which one is computed within a scope; itself, if it is a parameter."""
    if value in made and not made[value].inputs:
        return {value}
    found: set[Value] = set()
    stack = [value]
    while stack:
        member = made.get(stack.pop())
        new = [v for v in member.inputs if v not in found] if member is not None else []
        found.update(new)
        stack += new
    return found


MERGES = frozenset({"add", "mul", "sub", "maximum", "concat"})


def hoist(scope: Scope) -> None:
    """Moves a merge at the start of a module out of it, if the module uses its inputs for nothing else."""
    members: list[Item | Scope] = []
    for member in scope.members:
        if isinstance(member, Scope):
            hoist(member)
            while (
                member.cut is None and len(member.inputs) > 1 and len(member.members) > 1 and _begins_with_merge(member)
            ):
                merge = member.members.pop(0)
                members.append(merge)
                member.inputs = list(merge.outputs)
        members.append(member)
    scope.members = members


def _begins_with_merge(scope: Scope) -> bool:
    first, *others = scope.members
    if not isinstance(first, Item) or first.operation not in MERGES or set(first.inputs) != set(scope.inputs):
        return False
    used = {value for member in others for item in member.items() for value in item.inputs}
    return not used & set(first.inputs)


def grow(network: Network) -> None:
    """A concat that begins with all that an earlier one took takes its result instead: a, b, c as (a, b), c."""
    known: dict[tuple[Value, ...], Value] = {}
    for item in network.root.items():
        if item.operation != "concat":
            continue
        given = tuple(item.inputs)
        for end in range(len(given) - 1, 1, -1):
            if given[:end] in known:
                item.inputs = [known[given[:end]], *given[end:]]
                break
        known[given] = item.outputs[0]
