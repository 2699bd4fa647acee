"""Tensors that PyTorch code repeats: merges do that by themselves; other operations take a repeated tensor."""

from __future__ import annotations

from dataclasses import replace

from archdsl.runtime.importing.aligning import padded
from archdsl.runtime.importing.functions import OPERATIONS_OF, SizeOf, plain_name
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.moves import emit
from archdsl.runtime.importing.recorded import Call, Value
from archdsl.runtime.importing.settling import shapes_of
from archdsl.runtime.importing.views import Numbers, divided, is_one, permuted, sizes_of, whole

MOST = 16
"""A tensor is put together of so many copies at most."""


def merging(layouts: Layouts, call: Call) -> Call:
    """A call in which arithmetic repeats the tensors by itself, so that it takes them as they were before."""
    if call.module is not None or plain_name(call) not in OPERATIONS_OF or not call.results:
        return call
    full = [v for v in call.inputs if v.shapes == call.results[0].shapes and v not in layouts.repeated]

    def before(part: object) -> object:
        if not isinstance(part, Value) or (source := layouts.repeated.get(part)) is None:
            return part
        sizes = zip(sizes_of(source), sizes_of(part), strict=True)
        return source if all(is_one(a) or a == b for a, b in sizes) else part

    return replace(call, arguments=tuple(map(before, call.arguments))) if full else call


def real(layouts: Layouts, value: Value) -> None:
    """Adds the items that repeat a tensor, if it is repeated, or pad it to a size. Raises NoOperation."""
    padded(layouts, value)
    if (source := layouts.repeated.get(value)) is None:
        return
    real(layouts, source)
    base, order = layouts.place(source)
    wanted = [sizes_of(value)[1 + order.index(axis)] for axis in range(len(order))]
    if any(is_one(n) and n != wanted[axis] for axis, n in enumerate(sizes_of(base)[1:]) if axis):
        base = resized(layouts, base, wanted)
    for axis in range(len(order)):
        base = copied(layouts, base, axis, wanted[axis])
    layouts.views[value] = permuted(whole(base), (0, *(axis + 1 for axis in order)))
    del layouts.repeated[value]


def resized(layouts: Layouts, base: Value, wanted: list[Numbers]) -> Value:
    """A map whose axes of one position have many of it."""
    batch, channels, *have = sizes_of(base)
    sizes = [want if is_one(n) else n for n, want in zip(have, wanted[1:], strict=True)]
    same = all(len(set(size)) == 1 for size in sizes)
    to: object = tuple(size[0] for size in sizes) if same else SizeOf(shapes_of(sizes))
    made = Value(shapes_of([batch, channels, *sizes]), base.dtype)
    emit(layouts, "resize", {"to": to}, [base], [made])
    return made


def copied(layouts: Layouts, base: Value, axis: int, wanted: Numbers) -> Value:
    """Copies of a tensor behind each other along an axis."""
    have = sizes_of(base)[1 + axis]
    count = divided(wanted, have)
    if count is None or len(set(count)) > 1 or count[0] > MOST:
        raise NoOperation(f"a tensor of size {list(base.shapes[0])} that is repeated to {wanted[0]} along an axis")
    if count[0] == 1:
        return base
    sizes = sizes_of(base)
    made = Value(shapes_of([*sizes[: 1 + axis], wanted, *sizes[2 + axis :]]), base.dtype)
    emit(layouts, "concat", {"axis": axis} if axis else {}, [base] * count[0], [made])
    return made
