"""Patterns of a network that the language says in another way."""

from __future__ import annotations

from archdsl.runtime.importing.functions import shape_of
from archdsl.runtime.importing.network import Item, Network, Scope
from archdsl.runtime.importing.recording import Value


def rewrite(network: Network) -> None:
    """Rewrites the network in place, and connects its scopes."""
    for scope in network.root.scopes():
        shuffles(scope)
    network.connect()
    hoist(network.root)
    grow(network)
    network.connect()


def shuffles(scope: Scope) -> None:
    """A reshape, permute and reshape that interleave groups of channels are one `channel_shuffle`."""
    members: list[Item | Scope] = []
    for member in scope.members:
        members.append(member)
        last = members[-3:]
        if len(last) == 3 and (groups := _groups(last)):
            first, _, third = last
            shuffle = Item("channel_shuffle", {"groups": groups}, first.inputs, third.outputs, line=third.line)
            members[-3:] = [shuffle]
    scope.members = members


def _groups(members: list[Item | Scope]) -> int | None:
    """The groups whose channels three items interleave; None if they do not."""
    if not all(isinstance(member, Item) for member in members):
        return None
    one, two, three = members
    assert isinstance(one, Item) and isinstance(two, Item) and isinstance(three, Item)
    if [one.operation, two.operation, three.operation] != ["reshape", "permute", "reshape"]:
        return None
    if two.inputs != one.outputs or three.inputs != two.outputs:
        return None
    before, within = shape_of(one.inputs[0]), shape_of(one.outputs[0])
    swapped = (1, 0, *range(2, len(within)))
    if two.arguments["axes"] != swapped or shape_of(three.outputs[0]) != before:
        return None
    return within[0] if len(within) == len(before) + 1 and within[2:] == before[1:] else None


MERGES = frozenset({"add", "mul", "sub", "maximum", "concat"})


def hoist(scope: Scope) -> None:
    """Moves a merge at the start of a module out of it, if the module uses its inputs for nothing else."""
    members: list[Item | Scope] = []
    for member in scope.members:
        if isinstance(member, Scope):
            hoist(member)
            while len(member.inputs) > 1 and len(member.members) > 1 and _begins_with_merge(member):
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
