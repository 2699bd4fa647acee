"""The order in which the members of a module are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from archdsl.runtime.importing.network import Item, Scope
from archdsl.runtime.importing.recorded import Value
from archdsl.runtime.refusal import ImportRefused

Member = Item | Scope


def is_region(member: Member) -> bool:
    """Whether a member is no module of its own, but windows in one."""
    return isinstance(member, Scope) and member.cut is not None


def own_name(path: str, scope: Scope) -> str:
    """The name of a module below a scope, relative to that scope."""
    prefix = f"{scope.path}." if scope.path else ""
    if not path.startswith(prefix):
        raise ImportRefused(f"it is called by `{scope.path}`, of which it is no part", path)
    return path[len(prefix) :]


def needed(scope: Scope, results: Iterable[Value]) -> list[Member]:
    """The members of a scope on which its results depend, in order."""
    wanted = set(results)
    kept: list[Member] = []
    for member in reversed(scope.members):
        if wanted & set(member.outputs):
            kept.append(member)
            if not member.inputs and isinstance(member, Scope):
                raise ImportRefused("it takes no tensor", member.path, member.line)
            wanted |= set(member.inputs)
        elif member.weighted:
            raise ImportRefused("its result is not used", member.path, member.line)
    return kept[::-1]


def as_registered(members: list[Member], scope: Scope) -> list[Member]:
    """Members with those that take only what enters the module in the order of its children, which is that of its keys.

    The queries of attention, say, come before the keys, whichever are computed first. Others stay: what is computed one
    after the other reads best in that order.
    """
    registered = {name: place for place, (name, _) in enumerate(scope.module.named_modules())}
    calls = Counter(m.path for m in members if m.path)
    found: list[Member] = []
    places: list[int] = []
    last = -1
    for member in members:
        once = member.path and member.weighted and not is_region(member) and calls[member.path] == 1
        place = registered.get(own_name(member.path, scope), -1) if once else -1
        at = len(found)
        if 0 <= place < last and all(value in scope.inputs for value in member.inputs):
            at = next(i for i in range(at) if places[i] > place)
        found.insert(at, member)
        places.insert(at, place)
        last = max(last, place)
    return found
