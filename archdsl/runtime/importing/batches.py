"""Calls on tensors whose batch is not the first axis, as in transformers that have the sequence first."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

from torch import nn

from archdsl.runtime.importing.functions import OPERATIONS_OF, plain_name
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.recorded import Call, Value
from archdsl.runtime.importing.views import View, axis_of


def batch_of(call: Call, layouts: Layouts) -> tuple[int | None, int]:
    """The axis that is the batch in the tensors of a call that have it, and the number of axes. Raises NoOperation."""
    views = [layouts.view(value) for value in call.inputs]
    rank = max((len(view.axes) for view in views), default=0)
    found = set()
    for view in views:
        batch = axis_of(view.base, 0)
        at = [i for i, axis in enumerate(view.axes) if any(atom.axis == 0 for atom in axis)]
        if any(view.axes[i] != batch for i in at):
            raise NoOperation("a tensor of parameters beside one whose batch counts other things, too")
        found |= {i + rank - len(view.axes) for i in at}
    if len(found) > 1:
        raise NoOperation("tensors with the batch at different axes")
    return (found.pop() if found else None), rank


def is_sequence_first(call: Call) -> bool:
    """Whether a call is of attention that has the batch behind the positions."""
    module = call.module
    if not isinstance(module, nn.MultiheadAttention) or type(module) is not nn.MultiheadAttention:
        return False
    return not module.batch_first and len(call.results[0].shapes[0]) == 3


def translated(layouts: Layouts, call: Call) -> None:
    """Adds the items of a call; the batch may be behind another axis. Raises NoOperation."""
    try:
        with layouts.undone():
            layouts.translate(call)
    except NoOperation as reason:
        try:
            in_front(layouts, call)
        except NoOperation:
            raise reason from None


def in_front(layouts: Layouts, call: Call) -> None:
    """Translates a call as one of tensors with the batch in front; the results have it where it was.

    Raises NoOperation for other calls than arithmetic and layers of channels.
    """
    at, rank = batch_of(call, layouts)
    layer = isinstance(call.module, nn.MultiheadAttention | nn.LayerNorm | nn.Linear)
    if not at or not (layer or (call.module is None and plain_name(call) in OPERATIONS_OF)):
        raise NoOperation(f"`{call.name}` of tensors with the batch behind another axis")
    given = {value: moved(layouts, value, at) for value in call.inputs if len(value.shapes[0]) == rank}
    kept = call.results[:1] if isinstance(call.module, nn.MultiheadAttention) else call.results
    results = [Value([(s[at], *s[:at], *s[at + 1 :]) for s in value.shapes], value.dtype) for value in kept]
    module = call.module
    if isinstance(module, nn.MultiheadAttention) and is_sequence_first(call):
        module = copy(module)
        module.batch_first = True
    layouts.translate(replace(renamed(call, given), results=results, module=module))
    for value, found in zip(kept, results, strict=True):
        batch, *axes = layouts.view(found).axes
        layouts.views[value] = View(layouts.view(found).base, (*axes[:at], batch, *axes[at:]))


def moved(layouts: Layouts, value: Value, at: int) -> Value:
    """The same tensor with this axis in front."""
    view = layouts.view(value)
    found = View(view.base, (view.axes[at], *view.axes[:at], *view.axes[at + 1 :]))
    made = Value([(s[at], *s[:at], *s[at + 1 :]) for s in value.shapes], value.dtype)
    layouts.views[made] = found
    return made


def renamed(call: Call, given: Mapping[Value, Value]) -> Call:
    """A call with other values."""

    def within(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(map(within, part))
        return given.get(part, part) if isinstance(part, Value) else part

    named = {key: within(part) for key, part in call.named.items()}
    return replace(call, arguments=within(call.arguments), named=named)
