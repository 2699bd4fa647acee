"""What a module calls in training mode alone, or otherwise than in evaluation, and where it has no gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archdsl.runtime.importing.functions import argument, plain
from archdsl.runtime.importing.recorded import Call, ScopeCall, parts_of
from archdsl.runtime.importing.training import TrainingDiffers

SWITCHED = {
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), (2, True)),
    **dict.fromkeys(("alpha_dropout", "feature_alpha_dropout"), (2, False)),
    "batch_norm": (5, False),
}
"""Functions that are told by an argument whether they train: its place, and its default."""
DETACHING = frozenset({"detach", "data"})
"""Functions and attributes that give a tensor without its history."""


def differences(evaluated: ScopeCall, trained: ScopeCall) -> dict[str, TrainingDiffers]:
    """The innermost modules whose own calls differ between evaluation and training, by their paths, and how."""
    inner: dict[str, TrainingDiffers] = {}
    for one, two in zip(evaluated.members, trained.members, strict=False):
        if not alike(one, two):
            return {evaluated.path: differs(evaluated.path, one, two)}
        if isinstance(two, Call) and not trains(two):
            reason = f"`{plain(two.name)}` stays in evaluation mode when its module trains"
            return {evaluated.path: TrainingDiffers(reason, evaluated.path, two.line)}
        if isinstance(one, ScopeCall) and isinstance(two, ScopeCall):
            inner |= differences(one, two)
    if len(evaluated.members) != len(trained.members):
        count = min(len(evaluated.members), len(trained.members))
        more = (evaluated.members[count:], trained.members[count:])
        return {evaluated.path: differs(evaluated.path, *(found[0] if found else None for found in more))}
    return inner


def alike(one: Call | ScopeCall, two: Call | ScopeCall) -> bool:
    if type(one) is not type(two) or one.path != two.path:
        return False
    if not isinstance(one, Call) or not isinstance(two, Call):
        return True
    return one.name == two.name and (given(one) == given(two) or switched(one, two))


def given(call: Call) -> object:
    """The arguments of a call, whatever tensors they are."""
    return shown((call.arguments, call.named))


def shown(part: Any) -> object:
    """An argument as a value to compare; one kind of tensor is as another."""
    if isinstance(part, dict):
        return {key: shown(value) for key, value in part.items()}
    if isinstance(part, tuple | list):
        return [shown(value) for value in part]
    return part if isinstance(part, bool | int | float | str | None) and parts_of(part) is None else type(part).__name__


def trains(call: Call) -> bool:
    """Whether a call is not of a function that is told not to train."""
    name = plain(call.name)
    return name not in SWITCHED or bool(argument(call, SWITCHED[name][0], "training", SWITCHED[name][1]))


def switched(one: Call, two: Call) -> bool:
    """Whether two calls differ in that the second one trains, and the first does not."""
    if plain(one.name) not in SWITCHED:
        return False
    was, now = ([*call.arguments, *(call.named[key] for key in sorted(call.named))] for call in (one, two))
    if len(was) != len(now) or [*one.named] != [*two.named]:
        return False
    apart = [(a, b) for a, b in zip(was, now, strict=True) if shown(a) != shown(b)]
    return apart == [(False, True)]


def differs(path: str, one: Call | ScopeCall | None, two: Call | ScopeCall | None) -> TrainingDiffers:
    """The report on the first calls of a module that differ."""
    before, now = (called(call) for call in (one, two))
    if before == now:
        what = f"{now} with other arguments than in evaluation mode"
    elif two is None:
        what = f"nothing where it calls {before} in evaluation mode"
    else:
        what = f"{now}, in evaluation mode {'nothing' if one is None else before}"
    line = two.line if two is not None else one.line if one is not None else ""
    return TrainingDiffers(f"in training mode it calls {what}", path, line)


def called(call: Call | ScopeCall | None) -> str:
    if call is None:
        return ""
    return f"`{call.name}`" if isinstance(call, Call) and call.module is None else f"the module `{call.path}`"


def without_gradients(scope: ScopeCall) -> Iterator[tuple[str, TrainingDiffers]]:
    """The modules that cut gradients off, by their paths."""
    detached = next((m for m in scope.members if isinstance(m, Call) and plain(m.name) in DETACHING and m.inputs), None)
    if detached is not None or scope.ungraded:
        what = "`torch.no_grad`" if detached is None else f"`{plain(detached.name)}`"
        line = scope.ungraded if detached is None else detached.line
        yield scope.path, TrainingDiffers(f"{what} cuts off gradients, which no spec does", scope.path, line)
    for member in scope.members:
        if isinstance(member, ScopeCall):
            yield from without_gradients(member)
