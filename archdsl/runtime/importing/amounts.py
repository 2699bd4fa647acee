"""Which sizes the amounts of paddings come from: a second recording, in which sizes remember their tensors.

Amounts are plain numbers in a recording, and a padding up to the size of another tensor pads nothing where the two are
of one size. A module that cannot run with such numbers keeps the plain recording.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from archdsl.runtime.importing.functions import argument, plain_name
from archdsl.runtime.importing.recorded import Call, Recording, ScopeCall, Value
from archdsl.runtime.importing.recording import Recorder

Leaf: TypeAlias = tuple[Value, int]
"""An axis of a tensor."""
Sizes: TypeAlias = Mapping[Leaf, int]


class Count(int):
    """A number that is computed from sizes: `leaves` are these, `compute` gives it for others."""

    leaves: frozenset[Leaf]
    compute: Callable[[Sizes], int]

    @staticmethod
    def of(number: int, leaves: frozenset[Leaf], compute: Callable[[Sizes], int]) -> Count:
        found = Count(number)
        found.leaves, found.compute = leaves, compute
        return found


def computed(given: object, sizes: Sizes) -> int:
    """A number for other sizes."""
    return given.compute(sizes) if isinstance(given, Count) else int(given)  # type: ignore[call-overload]


def leaves_of(given: object) -> frozenset[Leaf]:
    return given.leaves if isinstance(given, Count) else frozenset()


def _follow(name: str, function: Callable[..., Any], turned: bool) -> None:
    plain = getattr(int, name)

    def method(self: Count, *others: Any) -> Any:
        number = plain(self, *others)
        if type(number) is not int:  # it is for another type to say, as with a fraction
            return number
        given = (*others, self) if turned else (self, *others)
        leaves = frozenset().union(*map(leaves_of, given))
        return Count.of(number, leaves, lambda sizes: function(*(computed(part, sizes) for part in given)))

    setattr(Count, name, method)


for _name, _function in {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod")},
    **{name: getattr(operator, name) for name in ("neg", "pos", "abs")},
}.items():
    _follow(f"__{_name}__", _function, turned=False)
    if hasattr(int, f"__r{_name}__"):
        _follow(f"__r{_name}__", _function, turned=True)


def count(value: Value, axis: int, size: int) -> Count:
    """The size of an axis of a tensor."""
    leaf = (value, axis)
    return Count.of(size, frozenset([leaf]), lambda sizes: sizes[leaf])


class SizeRecorder(Recorder):
    """Records a run in which sizes remember their tensors."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        value = self.values.get(id(args[0])) if args else None
        if value is None or self.inside:
            return result
        if isinstance(result, torch.Size):
            return torch.Size([count(value, axis, n) for axis, n in enumerate(result)])
        if getattr(func, "__name__", "") == "size" and type(result) is int:
            axis = args[1] if len(args) > 1 else (kwargs or {})["dim"]
            return count(value, axis % args[0].ndim, result)
        return result


def calls_of(scope: ScopeCall) -> Iterator[Call]:
    """The calls in a scope and those within, in order."""
    for member in scope.members:
        if isinstance(member, ScopeCall):
            yield from calls_of(member)
        else:
            yield member


def is_padding(call: Call) -> bool:
    return call.module is None and plain_name(call) == "pad" and bool(call.results)


def note_amounts(recording: Recording, again: Callable[[], Recording]) -> None:
    """Notes what paddings of a recording depend on, if there are any; `again` makes the recording of sizes."""
    calls = [*calls_of(recording.root)]
    if not any(map(is_padding, calls)):
        return
    try:
        tracked = again()
    except Exception:  # code that takes no numbers of another type
        return
    others = [*calls_of(tracked.root)]
    if [(c.name, c.path, len(c.results)) for c in calls] != [(c.name, c.path, len(c.results)) for c in others]:
        return
    known = dict(zip(tracked.inputs, recording.inputs, strict=True))
    for call, other in zip(calls, others, strict=True):
        if is_padding(call):
            note_padding(call, other, known)
        known.update(zip(other.results, call.results, strict=True))


def note_padding(call: Call, tracked: Call, known: Mapping[Value, Value]) -> None:
    """Notes whether a padding is up to the size of another tensor, or depends on its size otherwise."""
    amounts, tensor = argument(tracked, 1, "pad", ()), tracked.arguments[0] if tracked.arguments else None
    leaves = frozenset().union(*map(leaves_of, amounts))
    found = {value for value, _ in leaves}
    if not isinstance(tensor, Value) or not found or found == {tensor}:
        return
    if tensor not in found:  # an exported program computes all from the sizes of its input
        call.is_centred = all(centred(amounts, dict.fromkeys(leaves, LEAST + more)) for more in range(SIZES))
        return
    call.by_sizes = any(len({value for value, _ in leaves_of(n)}) > 1 for n in amounts)  # by a difference of them
    if len(found) == 2:
        (larger,) = found - {tensor}
        sizes = ({leaf: LEAST + more * (leaf[0] is larger) for leaf in leaves} for more in DIFFERENCES)
        if is_difference(amounts, tensor, larger) and all(centred(amounts, one) for one in sizes):
            call.padded_to = known.get(larger)


DIFFERENCES, SIZES, LEAST = range(8), 64, 64
"""The differences of sizes, and the sizes, at which amounts are compared."""


def centred(amounts: Sequence[object], sizes: Sizes) -> bool:
    """Whether half of what is added to each axis is before it, and the rest behind it."""
    numbers = [computed(n, sizes) for n in amounts]
    return all(a == (a + b) // 2 and a + b >= 0 for a, b in zip(numbers[::2], numbers[1::2], strict=True))


def is_difference(amounts: Sequence[object], tensor: Value, larger: Value) -> bool:
    """Whether what is added to each axis of positions is what another tensor has more of it; the last axis is first."""
    rank = len(tensor.shapes[0])
    if len(larger.shapes[0]) != rank or len(amounts) != 2 * (rank - 2):
        return False
    for number, (before, behind) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        axis = rank - 1 - number
        leaves = {(tensor, axis), (larger, axis)}
        if leaves_of(before) != leaves or leaves_of(behind) != leaves:
            return False
        for more in DIFFERENCES:
            sizes = {(tensor, axis): LEAST, (larger, axis): LEAST + more}
            if computed(before, sizes) + computed(behind, sizes) != more:
                return False
    return True
