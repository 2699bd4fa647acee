"""Functions and methods of PyTorch as operations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cache
from typing import Any, TypeAlias

from torch import nn

from archdsl.ops import OPERATIONS, Operation
from archdsl.ops.base import Rules
from archdsl.ops.declaration import OperationError
from archdsl.ops.forms import FunctionForm
from archdsl.runtime.importing.layers import FREE_ARGUMENTS, Said, Unsaid, default_of, said
from archdsl.runtime.importing.recording import Call, Constant, Owned, Value, values_in

Shape: TypeAlias = tuple[int, ...]


class Meaning:
    """A call as operations: `inputs` flow through `steps`; `parts` are several results of the last one.

    No steps: the identity. `parameter` is the key of the parameter that it owns.
    """

    def __init__(self, inputs: Sequence[Value], *steps: Said, parameter: str = "") -> None:
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
    """What a function call computes. Raises Unsaid."""
    if call.name.startswith("helper "):
        return helped(call, call.name.removeprefix("helper "))
    name = plain_name(call)
    handler = HANDLERS.get(name)
    if handler is not None:
        return handler(call)
    return layer_function(call, name)


def plain_name(call: Call) -> str:
    """The name of a function or method, without the marks of operators and of work in place."""
    return call.name.removeprefix("__").removesuffix("__").removesuffix("_")


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
    layer = as_layer(call, name)
    assert isinstance(one, Value)
    found = said(layer, (shape_of(one),), (shape_of(result),))
    return Meaning([one]) if found is None else Meaning([one], found)


def as_layer(call: Call, name: str) -> nn.Module:
    """The layer that does what a function does. Raises Unsaid."""
    cls = layer_classes().get(name.replace("_", ""))
    if cls is None or not call.arguments or not isinstance(call.arguments[0], Value):
        raise Unsaid(f"the language has no operation for the function `{call.name}`")
    if any(isinstance(part, Owned | Constant) for part in [*call.arguments, *call.named.values()]):
        raise Unsaid(f"`{call.name}` is called with a tensor that is not computed from the input")
    accepted = inspect.signature(cls).parameters
    named = {k: v for k, v in call.named.items() if k in accepted and k not in FREE_ARGUMENTS}
    left = {k: v for k, v in call.named.items() if k not in accepted and v not in (None, False)}
    if left.keys() - {"training", "_stacklevel", "input"}:
        raise Unsaid(f"`{call.name}` with {', '.join(f'`{k}`' for k in left)}")
    try:
        return cls(*call.arguments[1 : 1 + len(accepted)], **named)
    except TypeError as error:
        raise Unsaid(f"`{call.name}`: {error}") from None


@cache
def helper_calls() -> Mapping[str, list[tuple[type[Operation], Mapping[str, object]]]]:
    """The calls of operations that may become a helper function of a built file, by its name."""
    found: dict[str, list[tuple[type[Operation], Mapping[str, object]]]] = {}
    for cls in OPERATIONS.values():
        for example in cls.examples:
            operation = cls.parse(example.arguments)
            many = example.inputs * 20 if cls.inputs == "many" and not example.arguments else example.inputs
            try:
                form = operation.torch(many, operation.infer(many, Rules()))
            except OperationError:  # it takes a certain number of tensors
                form = operation.torch(example.inputs, operation.infer(example.inputs, Rules()))
            if isinstance(form, FunctionForm) and form.helper is not None:
                known = found.setdefault(form.template.partition("(")[0], [])
                if (cls, example.arguments) not in known:
                    known.append((cls, example.arguments))
    return found


def helper_functions() -> Set[str]:
    return helper_calls().keys()


def helped(call: Call, name: str) -> Meaning:
    """A call of a helper function of a built file."""
    if call.named:
        raise Unsaid(f"`{name}` with {', '.join(f'`{k}`' for k in call.named)}")
    shapes = tuple(shape_of(value) for value in call.inputs)
    for cls, arguments in helper_calls()[name]:
        operation = cls.parse(arguments)
        outputs = operation.infer(shapes, Rules())
        form = operation.torch(shapes, outputs)
        if isinstance(form, FunctionForm) and form.template.partition("(")[0] == name:
            return Meaning(call.inputs, Said(cls.name, dict(arguments)))
    raise Unsaid(f"`{name}` of these sizes")


# ---------------------------------------------------------------- merges


def merge(operation: str, call: Call, neutral: float | None) -> Meaning:
    """Two tensors, or one and the number that changes nothing."""
    if call.named.keys() - {"input", "other", "alpha"} or call.named.get("alpha", 1) != 1:
        raise Unsaid(f"`{call.name}` with {', '.join(f'`{k}`' for k in call.named)}")
    parts = [*call.arguments, *call.named.values()][:2]
    tensors = [part for part in parts if isinstance(part, Value)]
    others = [part for part in parts if not isinstance(part, Value)]
    if not others:
        sizes = {shape_of(tensor) for tensor in tensors}
        if len(sizes) > 1 and operation != "mul":
            raise Unsaid(f"`{operation}` of tensors of different sizes")
        return Meaning(tensors, Said(operation, {}))
    (other,) = others
    if neutral is not None and isinstance(other, int | float) and other == neutral:
        return Meaning(tensors)
    if isinstance(other, Owned) and operation == "mul":
        return scaled(tensors[0], other)
    what = f"the parameter `{other.key}`" if isinstance(other, Owned) else f"{other!r}"
    if isinstance(other, Constant):
        what = "a tensor that is not computed from the input"
    raise Unsaid(f"`{operation}` of a tensor and {what}")


def scaled(tensor: Value, factor: Owned) -> Meaning:
    """A learned factor for each channel."""
    shape = shape_of(tensor)
    if factor.shape == (shape[0], *[1] * (len(shape) - 1)):
        stored = {"stored": "maps"} if len(shape) > 1 else {}
        return Meaning([tensor], Said("scale", stored), parameter=factor.key)
    raise Unsaid(f"the parameter `{factor.key}` of size {list(factor.shape)} as a factor of {list(shape)}")


@handles("add", "iadd", "radd")
def add(call: Call) -> Meaning:
    return merge("add", call, 0)


@handles("mul", "imul", "rmul", "multiply")
def mul(call: Call) -> Meaning:
    return merge("mul", call, 1)


@handles("sub", "isub", "subtract")
def sub(call: Call) -> Meaning:
    return merge("sub", call, 0)


@handles("maximum")
def maximum(call: Call) -> Meaning:
    return merge("maximum", call, None)


@handles("div", "truediv", "itruediv")
def div(call: Call) -> Meaning:
    if argument(call, 1, "other") == 1:
        return Meaning(call.inputs)
    raise Unsaid("a division of tensors")


@handles("cat", "concat", "concatenate")
def cat(call: Call) -> Meaning:
    tensors, axis = call.inputs, argument(call, 1, "dim", call.named.get("axis", 0))
    if len(tensors) != len(argument(call, 0, "tensors")):
        raise Unsaid("`concat` with a tensor that is not computed from the input")
    if len(tensors) == 1:
        return Meaning(tensors)
    if axis not in (1, 1 - len(tensors[0].shapes[0])):
        raise Unsaid(f"`concat` along axis {axis}; the language concatenates channels")
    return Meaning(tensors, Said("concat", {}))


# ---------------------------------------------------------------- shapes


@handles("contiguous", "clone", "detach", "to", "float", "type_as", "alias", "requires_grad", "data")
def same_values(call: Call) -> Meaning:
    if call.results[0].dtype != call.inputs[0].dtype:
        raise Unsaid(f"`{call.name}` changes the type of a tensor to {call.results[0].dtype}")
    return Meaning(call.inputs[:1])


@handles("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as")
def reshaped(call: Call) -> Meaning:
    tensor, result = call.inputs[0], call.results[0]
    before, after = shape_of(tensor), shape_of(result)
    if tensor.shapes[0][0] != result.shapes[0][0]:
        raise Unsaid(
            f"`{call.name}` changes the axis of the batch: {list(tensor.shapes[0])} to {list(result.shapes[0])}"
        )
    if before == after:
        return Meaning([tensor])
    if len(after) == 1:
        return Meaning([tensor], Said("flatten", {}))
    if before[0] == after[0] and len(after) == 2:
        return Meaning([tensor], Said("tokens", {}))
    if before[0] == after[0] and len(before) == 2:
        return Meaning([tensor], Said("maps", {"to": after[1:]}))
    return Meaning([tensor], Said("reshape", {"sizes": after}))


PERMUTATIONS = frozenset({"permute", "transpose", "movedim", "swapaxes", "moveaxis", "T", "mT"})


def order_of(call: Call) -> tuple[int, ...]:
    """The axis of the input that each axis of a permuted tensor is, without the batch, from 0. Raises Unsaid."""
    import torch

    rank = len(call.inputs[0].shapes[0])
    example = torch.empty(*range(2, rank + 2))  # axes of distinct lengths show the order
    method = getattr(torch.Tensor, plain_name(call))
    turned = method(example, *call.arguments[1:], **dict(call.named)) if callable(method) else method.__get__(example)
    order = tuple(n - 2 for n in turned.shape)
    if order[0] != 0:
        raise Unsaid(f"`{call.name}` moves the axis of the batch")
    return tuple(n - 1 for n in order[1:])


@handles("mean")
def mean(call: Call) -> Meaning:
    tensor, result = call.inputs[0], call.results[0]
    axes = argument(call, 1, "dim", call.named.get("axis"))
    rank = len(tensor.shapes[0])
    axes = sorted(a % rank for a in ((axes,) if isinstance(axes, int) else axes or range(rank)))
    if axes != [*range(2, rank)] or rank < 3:
        raise Unsaid(f"`mean` over the axes {axes}; the language has the mean over all positions, `global_avgpool`")
    steps = [Said("global_avgpool", {})]
    if len(result.shapes[0]) == 2:
        steps.append(Said("flatten", {}))
    return Meaning([tensor], *steps)


@handles("chunk", "split", "tensor_split", "split_with_sizes")
def parts(call: Call) -> Meaning:
    tensor = call.inputs[0]
    sizes = [shape_of(result) for result in call.results]
    if (
        len({size[1:] for size in sizes} | {shape_of(tensor)[1:]}) > 1
        or call.results[0].shapes[0][0] != tensor.shapes[0][0]
    ):
        raise Unsaid(f"`{call.name}` along an axis that is not that of the channels")
    if len(sizes) == 1:
        return Meaning([tensor])
    if len({size[0] for size in sizes}) > 1:
        raise Unsaid(f"`{call.name}` into unequal parts")
    return Meaning([tensor], Said("split", {"n": len(sizes)}))


@handles("getitem")
def item(call: Call) -> Meaning:
    tensor, index = call.arguments
    index = index if isinstance(index, tuple) else (index,)
    if any(values_in(index)) or not all(isinstance(part, slice) or part is Ellipsis for part in index):
        raise Unsaid("an index that is not a slice of the channels")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (len(tensor.shapes[0]) - len(index) + 1), *index[at + 1 :])
    taken = [part.indices(size) for part, size in zip(index, tensor.shapes[0], strict=False)]
    whole = [one == (0, size, 1) for one, size in zip(taken, tensor.shapes[0], strict=False)]
    if all(whole):
        return Meaning([tensor])
    if not all(whole[:1] + whole[2:]) or taken[1][2] != 1:
        raise Unsaid("a slice that is not one of the channels")
    return Meaning([tensor], Said("slice", {"start": taken[1][0], "stop": taken[1][1]}))


@handles("interpolate", "upsample")
def interpolate(call: Call) -> Meaning:
    size, again = argument(call, 1, "size"), call.again_named.get("size")
    if len(call.again) > 1:
        again = call.again[1]
    if size is None or size == again or not call.again:
        return layer_function(call, "interpolate")
    if call.named.get("align_corners"):
        raise Unsaid("`resize` has nothing for `align_corners` = True")
    mode = call.named.get("mode", "nearest")
    more = {} if mode == default_of(OPERATIONS["resize"], "mode") else {"mode": mode}
    return Meaning(call.inputs[:1], Said("resize", {"to": SizeOf(call), **more}))


class SizeOf:
    """The size of another tensor, which `resize` is given; `rewriting` finds the tensor."""

    def __init__(self, call: Call) -> None:
        self.shapes = [shape_of(call.results[0], run)[1:] for run in range(len(call.results[0].shapes))]


@handles("pad")
def pad(call: Call) -> Meaning:
    tensor = call.inputs[0]
    amounts, mode = argument(call, 1, "pad"), argument(call, 2, "mode", "constant")
    value = argument(call, 3, "value", 0)
    pairs = [tuple(amounts[i : i + 2]) for i in range(0, len(amounts), 2)][::-1]
    rank = len(shape_of(tensor)) - 1
    pairs = pairs[-rank:] if all(pair == (0, 0) for pair in pairs[:-rank]) else pairs
    modes = {"constant": "zeros", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
    if all(pair == (0, 0) for pair in pairs):
        return Meaning([tensor])
    if len(pairs) != rank or any(a != b or a < 0 for a, b in pairs) or (value or 0) != 0:
        raise Unsaid(f"`pad` by {list(amounts)}; the language pads all positions by as much at both ends, with zeros")
    margin = tuple(a for a, _ in pairs)
    more = {} if mode == "constant" else {"mode": modes[mode]}
    return Meaning([tensor], Said("pad", {"n": margin[0] if len(set(margin)) == 1 else margin, **more}))
