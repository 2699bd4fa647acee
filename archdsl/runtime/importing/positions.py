"""Tensors with their positions before the batch, as PyTorch's attention takes them by default."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from torch import nn

from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.recorded import Call, Value
from archdsl.runtime.importing.views import View, axis_of, permuted


def is_second(view: View) -> bool:
    """Whether the batch is the second axis of a view, behind the positions."""
    return len(view.axes) > 1 and view.axes[0] != axis_of(view.base, 0) == view.axes[1]


def batch_first(layouts: Layouts, tensor: Value) -> Value:
    """A tensor whose second axis is the batch, with its first two axes exchanged."""
    found = Value([(shape[1], shape[0], *shape[2:]) for shape in tensor.shapes], tensor.dtype)
    layouts.views[found] = exchanged(layouts.view(tensor))
    return found


def exchanged(view: View) -> View:
    return permuted(view, (1, 0, *range(2, len(view.axes))))


def is_positions_first(layouts: Layouts, call: Call) -> bool:
    """Whether a call is of attention of such tensors."""
    module = call.module
    return (
        isinstance(module, nn.MultiheadAttention)
        and type(module) is nn.MultiheadAttention  # not that of a built file
        and not module.batch_first
        and all(is_second(layouts.view(value)) for value in call.inputs)
    )


def positions_first(layouts: Layouts, call: Call) -> None:
    """Says such a call as one with the batch first."""
    module = copy(call.module)
    assert isinstance(module, nn.MultiheadAttention)
    module.batch_first = True
    by = {value: batch_first(layouts, value) for value in call.inputs}
    result = Value([(shape[1], shape[0], *shape[2:]) for shape in call.results[0].shapes], call.results[0].dtype)
    arguments = tuple(by[part] if isinstance(part, Value) else part for part in call.arguments)
    named = {key: by[part] if isinstance(part, Value) else part for key, part in call.named.items()}
    results = [result, *call.results[1:]]
    layouts.translate(replace(call, module=module, arguments=arguments, named=named, results=results))
    layouts.views[call.results[0]] = exchanged(layouts.view(result))
