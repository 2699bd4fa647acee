"""Patterns of a network that the language says in another way."""

from __future__ import annotations

from archdsl.runtime.importing.network import Item, Network, Scope
from archdsl.runtime.importing.recording import Value


def rewrite(network: Network) -> None:
    """Rewrites the network in place, and connects its scopes."""
    network.connect()
    hoist(network.root)
    grow(network)
    network.connect()


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
