"""Tensors that are padded up to the size of another one, which `align(pad)` does for all that are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archdsl.runtime.importing.functions import OPERATIONS_OF, plain_name
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.moves import MOVERS, emit
from archdsl.runtime.importing.recorded import Call, Value

JOINS = frozenset({*OPERATIONS_OF, "cat", "concat", "concatenate"})
"""Functions that merge tensors of one size."""


def is_up_to(call: Call) -> bool:
    """Whether a padding is one up to the size of another tensor, and nowhere cuts off."""
    shapes = [call.inputs[0].shapes, call.results[0].shapes]
    grows = all(a <= b for one, two in zip(*shapes, strict=True) for a, b in zip(one[2:], two[2:], strict=True))
    return grows and (call.padded_to is not None or call.is_centred)


def aligned(layouts: Layouts, call: Call) -> Call:
    """A call that merges tensors, all of one size, with those that it takes."""
    makers = [layouts.padded[value] for value in call.inputs if value in layouts.padded]
    inputs = [*dict.fromkeys(call.inputs)]
    others = [value for value in inputs if value not in layouts.padded]
    if not makers or call.module is not None or plain_name(call) not in JOINS:
        return call
    if not others or any(maker.padded_to not in (None, *others) for maker in makers):
        return call
    found = dict(zip(inputs, align(layouts, inputs), strict=True))

    def within(part: object) -> object:
        if isinstance(part, tuple):
            return tuple(map(within, part))
        return found.get(part, part) if isinstance(part, Value) else part

    named = {name: within(part) for name, part in call.named.items()}
    return replace(call, arguments=tuple(map(within, call.arguments)), named=named)


def align(layouts: Layouts, values: Sequence[Value]) -> list[Value]:
    """Tensors of one size, each padded if it has to be."""
    given = [layouts.padded[value].inputs[0] if value in layouts.padded else value for value in values]
    made = [Value([*value.shapes], value.dtype) for value in values]
    emit(layouts, "align", {"mode": "pad"}, [layouts.ordered(value) for value in given], made)
    for value, one in zip(values, made, strict=True):
        if layouts.padded.pop(value, None) is not None:
            layouts.same(value, one)
    return made


def padded(layouts: Layouts, value: Value) -> None:
    """Pads a tensor that is used without the one of the size that it gets. Raises NoOperation."""
    if (maker := layouts.padded.get(value)) is None:
        return
    if maker.padded_to is not None:
        align(layouts, [maker.padded_to, value])
    else:
        del layouts.padded[value]
        MOVERS["pad"](layouts, replace(maker, is_centred=False))
