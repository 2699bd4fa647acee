"""Windows: the layers between a cut and its join are a body, which treats each window as a sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import gcd

from archdsl.runtime.importing.functions import PerRun
from archdsl.runtime.importing.network import Item, Scope
from archdsl.runtime.importing.recorded import Value
from archdsl.runtime.importing.settling import JOIN
from archdsl.runtime.importing.views import sizes_of
from archdsl.runtime.refusal import ImportRefused

Member = Item | Scope
ROLL = "roll"
"""The operation of an item that rolls a map, which a spec names only as the shift of windows."""


def with_regions(scope: Scope, inside: Mapping[Value, Item]) -> None:
    """Puts what is between cuts and joins into scopes of their own, with the shift and padding around them.

    Raises ImportRefused for a roll, a cut or a join without its counterpart in this module.
    """
    while (joined := next((m for m in scope.members if isinstance(m, Item) and m.operation == JOIN), None)) is not None:
        region(scope, joined, inside)
    for member in scope.members:
        if isinstance(member, Item) and (member.operation == ROLL or opens(member, inside)):
            what = "it rolls a map" if member.operation == ROLL else "it cuts a map into windows"
            raise ImportRefused(f"{what} and does not undo that", scope.path, member.line)
        if isinstance(member, Item) and member.operation == "pad":
            complete(member)
        if isinstance(member, Item) and any(isinstance(v, PerRun) for v in member.arguments.values()):
            raise ImportRefused("a size depends on that of the input", scope.path, member.line)


def complete(pad: Item) -> None:
    """Makes a padding whose amounts depend on the size of the input one up to a multiple, if it is one."""
    given = [amount for amount in pad.arguments.values() if isinstance(amount, PerRun)]
    if given and (multiple := multiple_of(pad)) is not None:
        pad.operation, pad.arguments = "pad_to_multiple", {"size": multiple}


def multiple_of(pad: Item) -> object:
    """The least multiples, for each axis or one for all, up to which a map is padded behind; None if it is not."""
    if pad.arguments["n"] != 0 or "after" not in pad.arguments or "mode" in pad.arguments:
        return None
    sizes = [*zip(sizes_of(pad.inputs[0])[2:], sizes_of(pad.outputs[0])[2:], strict=True)]
    found = [least_multiple([*zip(before, after, strict=True)]) for before, after in sizes]
    together = least_multiple([pair for before, after in sizes for pair in zip(before, after, strict=True)])
    if together is not None:
        return together
    return None if None in found else tuple(found)


def least_multiple(pairs: Sequence[tuple[int, int]]) -> int | None:
    """The least number of which each second size is the multiple that follows the first; None if there is none."""
    most = max(after - before for before, after in pairs)
    whole = gcd(*(after for _, after in pairs))
    return next((n for n in range(most + 1, whole + 1) if whole % n == 0), None)


def is_ambiguous(item: Item) -> bool:
    """Whether a padding by the same amounts in all runs may be one up to a multiple: other runs would show it."""
    return item.operation == "pad" and multiple_of(item) is not None


def opens(member: Member, inside: Mapping[Value, Item]) -> bool:
    """Whether a member is a cut."""
    return isinstance(member, Item) and any(inside.get(value) is member for value in member.outputs)


def region(scope: Scope, joined: Item, inside: Mapping[Value, Item]) -> None:
    """Makes a scope of the windows that a join ends."""
    opened = inside[joined.inputs[0]]
    cuts = [
        m
        for m in scope.members
        if isinstance(m, Item)
        and opens(m, inside)
        and m.arguments == opened.arguments
        and m.operation == opened.operation
    ]
    wanted, free = {joined.inputs[0]}, unmoved(scope)
    made: list[Member] = []
    at = scope.members.index(joined)
    for member in reversed(scope.members[:at]):
        if member in cuts and wanted & {*member.outputs}:
            continue
        if wanted & {*outputs_of(member)} and all(v in inside or v in free for v in outputs_of(member)):
            made.append(member)
            wanted |= {*inputs_of(member)}
    used = [cut for cut in cuts if wanted & {*cut.outputs}]
    members = made[::-1]
    known = {value for member in members for value in outputs_of(member)} | {v for cut in used for v in cut.outputs}
    if any(value not in known for member in members for value in inputs_of(member)):
        raise ImportRefused("within windows it uses a tensor of the whole map", scope.path, joined.line)
    if not members or not used:
        raise ImportRefused("it joins windows that another module has cut", scope.path, joined.line)
    rest = [member for member in scope.members if member not in members and member not in used]
    renamed = {value: cut.inputs[0] for cut in used for value in cut.outputs} | {joined.inputs[0]: joined.outputs[0]}
    for member in members:
        rename(member, renamed)
    found = Scope(scope.path, scope.module, members, line=opened.line)
    found.cut = Item(opened.operation, dict(opened.arguments), [cut.inputs[0] for cut in used], joined.outputs)
    rest[rest.index(joined)] = found
    scope.members = rest
    if len(used) == 1:
        absorb(scope, found, found.cut)


def unmoved(scope: Scope) -> set[Value]:
    """What depends on no input: parameters, and what is computed of them."""
    known: set[Value] = set()
    for item in scope.items():
        if all(value in known for value in item.inputs):
            known |= {*item.outputs}
    return known


def inputs_of(member: Member) -> Iterable[Value]:
    made = {value for item in member.items() for value in item.outputs}
    return (value for item in member.items() for value in item.inputs if value not in made)


def outputs_of(member: Member) -> Iterable[Value]:
    return (value for item in member.items() for value in item.outputs)


def rename(member: Member, renamed: Mapping[Value, Value]) -> None:
    """Replaces values in a member and all within."""
    for item in member.items():
        item.inputs = [renamed.get(value, value) for value in item.inputs]
        item.outputs = [renamed.get(value, value) for value in item.outputs]
    if isinstance(member, Scope):
        for scope in member.scopes():
            if scope.cut is not None:
                scope.cut.inputs = [renamed.get(value, value) for value in scope.cut.inputs]
                scope.cut.outputs = [renamed.get(value, value) for value in scope.cut.outputs]


# ---------------------------------------------------------------- around a region


def absorb(scope: Scope, found: Scope, cut: Item) -> None:
    """Makes a roll and a padding around windows their shift and their word `pad`."""
    size = cut.arguments["size"]
    before, after = around(scope, cut)
    if before is not None and after is not None and before.operation == after.operation == ROLL:
        shifts = before.arguments["shifts"]
        assert isinstance(shifts, tuple)
        if after.arguments["shifts"] == tuple(-n for n in shifts):
            amounts = tuple(-n for n in shifts)
            cut.arguments = {**cut.arguments, "shift": amounts[0] if len(set(amounts)) == 1 else amounts}
            take(scope, found, cut, [before], [after])
    before, after = around(scope, cut)
    padded = sizes_of(cut.inputs[0])[2:]
    if before is not None and before.operation == "pad":
        whole = sizes_of(before.inputs[0])[2:]
        each = size if isinstance(size, tuple) else (size,) * len(padded)
        fits = all(
            p == tuple(-(-n // int(str(s))) * int(str(s)) for n in w)
            for p, w, s in zip(padded, whole, each, strict=True)
        )
        crops: list[Item] = []
        value = cut.outputs[0]
        while (crop := after_of(scope, value)) is not None and crop.operation in ("slice", "crop"):
            crops.append(crop)
            value = crop.outputs[0]
        if fits and crops and sizes_of(value)[2:] == whole:
            cut.arguments = {**cut.arguments, "pad": True}
            take(scope, found, cut, [before], crops)


def take(scope: Scope, found: Scope, cut: Item, before: list[Item], after: list[Item]) -> None:
    """Replaces items around windows by these windows."""
    renamed = {cut.inputs[0]: before[0].inputs[0], cut.outputs[0]: after[-1].outputs[0]}
    rename(found, renamed)
    scope.members = [member for member in scope.members if member not in before and member not in after]


def after_of(scope: Scope, value: Value) -> Item | None:
    """The item that alone takes a value."""
    users = [member for member in scope.members if value in {*inputs_of(member)}]
    return users[0] if len(users) == 1 and isinstance(users[0], Item) else None


def around(scope: Scope, cut: Item) -> tuple[Item | None, Item | None]:
    """The items just before and behind windows, which nothing else is connected to."""
    value = cut.inputs[0]
    makers = [m for m in scope.members if isinstance(m, Item) and value in m.outputs]
    users = [m for m in scope.members if value in {*inputs_of(m)}]
    before = makers[0] if makers and len(users) == 1 else None
    return before, after_of(scope, cut.outputs[0])
