"""Functions and methods of PyTorch as operations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

from torch import nn

from archdsl.dims import DimError
from archdsl.ops import OPERATIONS, Operation
from archdsl.ops.base import Rules
from archdsl.ops.declaration import OperationError
from archdsl.ops.forms import FunctionForm
from archdsl.runtime.importing.layers import FREE_ARGUMENTS, NoOperation, Wording, default_of, said, without_defaults
from archdsl.runtime.importing.recorded import Call, Constant, Derived, Owned, Value

Shape: TypeAlias = tuple[int, ...]
OPERATIONS_OF = {
    **dict.fromkeys(("add", "iadd", "radd"), "add"),
    **dict.fromkeys(("mul", "imul", "rmul", "multiply"), "mul"),
    **dict.fromkeys(("sub", "isub", "subtract", "rsub"), "sub"),
    **dict.fromkeys(("div", "truediv", "itruediv", "divide"), "div"),
    "maximum": "maximum",
    "neg": "neg",
}
"""The merges, and arithmetic with numbers, by the names of functions."""


COMPOSITES = {"apply_rot_embed_cat": "timm.layers.pos_embed_sincos"}
"""Functions of other packages that are recorded as one call each, and where they are defined."""


class Meaning:
    """A call as operations: `inputs` flow through `steps`; `parts` are several results of the last one.

    No steps: the identity. `parameter` is the key of the parameter that it owns.
    """

    def __init__(self, inputs: Sequence[Value], *steps: Wording, parameter: str = "") -> None:
        self.inputs, self.steps, self.parameter = [*inputs], steps, parameter


Handler: TypeAlias = Callable[[Call], Meaning]
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return add


def shape_of(value: Value, run: int = 0) -> Shape:
    """The sizes without the batch."""
    return value.shapes[run][1:]


def meaning(call: Call) -> Meaning:
    """What a function call computes. Raises NoOperation."""
    if call.name.startswith("helper "):
        return helped(call, call.name.removeprefix("helper "))
    name = plain_name(call)
    handler = HANDLERS.get(name)
    if handler is not None:
        return handler(call)
    return layer_function(call, name)


def plain_name(call: Call) -> str:
    """The name of a function or method, without the marks of operators and of work in place."""
    return plain(call.name)


def plain(name: str) -> str:
    return name.removeprefix("__").removesuffix("__").removesuffix("_")


def argument(call: Call, position: int, name: str, default: Any = None) -> Any:
    """An argument by position or name."""
    return call.arguments[position] if len(call.arguments) > position else call.named.get(name, default)


@cache
def layer_classes() -> Mapping[str, type[nn.Module]]:
    """PyTorch's layers by the names of their functions, without underscores."""
    classes = {
        name.lower(): cls for name, cls in vars(nn).items() if isinstance(cls, type) and issubclass(cls, nn.Module)
    }
    return {**classes, "interpolate": nn.Upsample}


def layer_function(call: Call, name: str) -> Meaning:
    """A function as the layer of that name with the same arguments."""
    one, result = call.arguments[0] if call.arguments else None, call.results[0]
    if name in element_functions() and isinstance(one, Value) and len(call.arguments) == 1 and not call.named:
        return Meaning([one], Wording(name, {}))
    layer = as_layer(call, name)
    assert isinstance(one, Value)
    found = said(layer, (shape_of(one),), (shape_of(result),))
    return Meaning([one]) if found is None else Meaning([one], found)


@cache
def element_functions() -> Set[str]:
    """The functions of each number that are operations without a layer, such as `exp`."""
    found = set()
    for name, cls in OPERATIONS.items():
        if cls.is_activation and all(not field.is_required for field in cls.fields.values()):
            (shape,) = cls.examples[0].inputs
            if isinstance(cls.parse({}).torch((shape,), (shape,)), FunctionForm):
                found.add(name)
    return found


def as_layer(call: Call, name: str) -> nn.Module:
    """The layer that does what a function does. Raises NoOperation."""
    cls = layer_classes().get(name.replace("_", ""))
    if cls is None or not call.arguments or not isinstance(call.arguments[0], Value):
        raise NoOperation(f"the language has no operation for the function `{call.name}`")
    if any(isinstance(part, Owned | Constant | Derived) for part in [*call.arguments, *call.named.values()]):
        raise NoOperation(f"`{call.name}` is called with a tensor that is not computed from the input")
    accepted = inspect.signature(cls).parameters
    named = {k: v for k, v in call.named.items() if k in accepted and k not in FREE_ARGUMENTS}
    left = {k: v for k, v in call.named.items() if k not in accepted and v not in (None, False)}
    if left.keys() - {"training", "_stacklevel", "input"}:
        raise NoOperation(f"`{call.name}` with {', '.join(f'`{k}`' for k in left)}")
    try:
        return cls(*call.arguments[1 : 1 + len(accepted)], **named)
    except TypeError as error:
        raise NoOperation(f"`{call.name}`: {error}") from None


@cache
def helper_calls() -> Mapping[str, list[tuple[type[Operation], Mapping[str, object]]]]:
    """The calls of operations that may become a helper function of a built file, by its name."""
    found: dict[str, list[tuple[type[Operation], Mapping[str, object]]]] = {}
    for cls in OPERATIONS.values():
        for example in cls.examples:
            operation = cls.parse(example.arguments)
            many = example.inputs * 20 if cls.inputs == "many" and not example.arguments else example.inputs
            try:
                outputs = operation.infer(many, Rules())
            except OperationError:  # it takes a certain number of tensors
                many = example.inputs
                outputs = operation.infer(many, Rules())
            lasting = operation.torch_last(many, outputs) if cls.layout == "any" else None
            for form in (operation.torch(many, outputs), lasting):
                if isinstance(form, FunctionForm) and form.helper is not None:
                    known = found.setdefault(form.template.partition("(")[0], [])
                    if (cls, example.arguments) not in known:
                        known.append((cls, example.arguments))
    return found


def helper_functions() -> Set[str]:
    return helper_calls().keys()


def helped(call: Call, name: str) -> Meaning:
    """A call of a helper function of a built file."""
    return Meaning(call.inputs, helper_wording(call, name, tuple(shape_of(value) for value in call.inputs)))


def helper_wording(call: Call, name: str, shapes: tuple[Shape, ...], *, last: bool = False) -> Wording:
    """The operation that becomes a helper function. `last`: it works on tensors with the channels at the end."""
    if call.named:
        raise NoOperation(f"`{name}` with {', '.join(f'`{k}`' for k in call.named)}")
    for cls, example in helper_calls()[name]:
        with suppress(OperationError, DimError):
            form = helper_form(cls, example, shapes, last)
            names = [str(argument.name) for argument in form.arguments] if form is not None else []
            given = call.arguments[-len(names) :] if names and {*names} <= cls.fields.keys() else ()
            arguments = without_defaults(cls, {**example, **dict(zip(names, given, strict=False))})
            form = helper_form(cls, arguments, shapes, last)
            if form is not None and form.template.partition("(")[0] == name:
                return Wording(cls.name, arguments)
    raise NoOperation(f"`{name}` of these sizes")


def helper_form(
    cls: type[Operation], arguments: Mapping[str, object], shapes: tuple[Shape, ...], last: bool
) -> FunctionForm | None:
    """The function that an operation becomes; None for a layer."""
    operation = cls.parse(arguments)
    outputs = operation.infer(shapes, Rules())
    form = operation.torch_last(shapes, outputs) if last else operation.torch(shapes, outputs)
    return form if isinstance(form, FunctionForm) else None


@handles("interpolate", "upsample")
def interpolate(call: Call) -> Meaning:
    size, again = argument(call, 1, "size"), call.again_named.get("size")
    scale = argument(call, 2, "scale_factor")
    if isinstance(scale, float) and scale < 1 and len({shape_of(call.results[0], i) for i in (0, -1)}) == 1:
        more = {k: v for k, v in call.named.items() if k not in ("size", "scale_factor", "recompute_scale_factor")}
        whole = replace(call, arguments=call.arguments[:1], named={**more, "size": shape_of(call.results[0])[1:]})
        return layer_function(whole, "interpolate")
    if len(call.again) > 1:
        again = call.again[1]
    if size is None or size == again or not call.again:
        return layer_function(call, "interpolate")
    if call.named.get("align_corners"):
        raise NoOperation("`resize` has nothing for `align_corners` = True")
    mode = call.named.get("mode", "nearest")
    spatial = [shape[2:] for shape in call.results[0].shapes]
    more = {} if mode == default_of(OPERATIONS["resize"], "mode") else {"mode": mode}
    return Meaning(call.inputs[:1], Wording("resize", {"to": SizeOf(spatial), **more}))


@handles("hardtanh", "clamp", "clip", "clamp_min")
def clamped(call: Call) -> Meaning:
    """Numbers cut off below 0, and perhaps above 6."""
    low, high = {"hardtanh": ("min_val", "max_val"), "clamp_min": ("min", "")}.get(plain_name(call), ("min", "max"))
    least = argument(call, 1, low, -1 if low == "min_val" else None)
    most = argument(call, 2, high, 1 if low == "min_val" else None)
    names = {(0, None): "relu", (0, 6): "relu6"}
    if (least, most) not in names or len(call.inputs) != 1:
        raise NoOperation(f"`{call.name}` to other numbers than at least 0, or from 0 to 6")
    return Meaning(call.inputs, Wording(names[least, most], {}))


class PerRun(tuple[int, ...]):
    """A number that differs between the runs."""


class SizeOf:
    """The size of another tensor, in each run, which `resize` or `maps` is given; `structure` finds the tensor."""

    def __init__(self, shapes: list[Shape]) -> None:
        self.shapes = shapes
