"""Where the network computes what depends on parameters alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from archdsl.runtime.importing.functions import shape_of
from archdsl.runtime.importing.network import Item, Scope
from archdsl.runtime.importing.recorded import Call, Value

Member: TypeAlias = Item | Scope
Places: TypeAlias = Mapping[int, tuple[Scope, list[list[Member]]]]
"""For each call of a module, by its identity, its scope in the network, and the members of each of its own calls."""


def place(root: Scope, items: list[Item], calls: Mapping[int, Call], places: Places) -> None:
    """Puts the items on which others depend into the network: each in its module, where it was called."""
    items = [*each_once(root, items), *items]
    for item in reversed(items):
        users = [*users_of(root, item.outputs)]
        if not users:
            continue
        call = calls.get(id(item))
        *_, (scope, behind) = candidates(item, call, users, places)
        later = {id(user[-1]) for user in users} | {id(member) for member in behind}
        at = next(i for i, m in enumerate(scope.members) if later & {id(m), *map(id, m.items())})
        scope.members.insert(at, item)


def candidates(
    item: Item, call: Call | None, users: Sequence[tuple[Any, ...]], places: Places
) -> Iterator[tuple[Scope, list[Member]]]:
    """The scopes around all that takes an item, from the outermost on, of which it is a part, and what is behind it."""
    homes: dict[int, list[Member]] = {}
    for one, at in call.places if call is not None else ():
        if id(one) in places:
            scope, made = places[id(one)]
            homes[id(scope)] = [member for members in made[at:] for member in members]
    for scope in users[0][:-1]:
        prefix = f"{scope.path}." if scope.path else ""
        if any(scope not in user for user in users) or scope.cut is not None:
            return
        if item.weighted and not item.path.startswith(prefix):
            return
        if call is not None and id(scope) not in homes:
            return
        yield scope, homes.get(id(scope), [])


def users_of(root: Scope, values: Collection[Value]) -> Iterator[tuple[Any, ...]]:
    """The items that take these values, each behind the scopes that it is in."""

    def visit(scope: Scope, around: tuple[Scope, ...]) -> Iterator[tuple[Any, ...]]:
        for member in scope.members:
            if isinstance(member, Scope):
                yield from visit(member, (*around, scope))
            elif any(value in values for value in member.inputs):
                yield (*around, scope, member)

    return visit(root, ())


def each_once(root: Scope, items: list[Item]) -> list[Item]:
    """Takes parameters that the network has more than once out of it, and out of `items`; gives one for each.

    What took others takes that one, turned if need be.
    """
    found: dict[str, list[Item]] = {}
    for item in [*root.items(), *items]:
        if item.operation == "parameter":
            found.setdefault(item.path, []).append(item)
    made: list[Item] = []
    same: dict[Value, Value] = {}
    for first, *others in found.values():
        if not others:
            continue
        again = {id(item) for item in (first, *others)}
        for scope in root.scopes():
            scope.members = [member for member in scope.members if id(member) not in again]
        items[:] = [item for item in items if id(item) not in again]
        made.append(first)
        for other in others:
            if (moved := turned_as(first, other)) is None:
                same[other.outputs[0]] = first.outputs[0]
            else:
                made += moved
    for item in [*root.items(), *items, *made]:
        item.inputs = [same.get(value, value) for value in item.inputs]
    return made


def turned_as(one: Item, other: Item) -> list[Item] | None:
    """The items that give what `other` gives, which is the same parameter in another layout; None if it is no other."""
    now, moved = one.outputs[0], []
    wanted = shape_of(other.outputs[0])
    last = [item.arguments.get("stored") in ("tokens", "rows") for item in (one, other)]
    if last[0] != last[1]:
        axes = [*range(len(shape_of(now)))]
        axes = [*axes[1:], 0] if last[0] else [axes[-1], *axes[:-1]]
        turned = Value([(shape[0], *(shape[1 + axis] for axis in axes)) for shape in now.shapes])
        moved.append(Item("permute", {"axes": (*axes,)}, [now], [turned]))
        now = turned
    if shape_of(now) != wanted:
        moved.append(Item("reshape", {"sizes": wanted}, [now], other.outputs))
    if moved:
        moved[-1].outputs = other.outputs
    return moved or None
