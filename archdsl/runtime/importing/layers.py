"""Layers of PyTorch as operations, derived from the operations' own facts: `Operation.torch`, read backwards.

A layer's attributes are tried as the parameters of each operation that becomes such a layer. An operation is the
layer's if its PyTorch form has the same arguments as the layer; all others of the layer must have their defaults.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules import pooling

from archdsl.dims import DimError
from archdsl.ops import OPERATIONS, Operation, aliases, helpers
from archdsl.ops.base import Example, Rules, Shape
from archdsl.ops.declaration import OperationError
from archdsl.ops.forms import Argument, ModuleForm
from archdsl.ops.sizes import collapse
from archdsl.runtime.importing.dropping import drop_probability
from archdsl.runtime.importing.generated import defined

FREE_ARGUMENTS = frozenset({"device", "dtype", "inplace"})
"""Arguments that say nothing about what a layer computes."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A layer of another package: its operation, the attribute of each parameter, the attributes that it must have."""

    operation: str
    parameters: Mapping[str, str]
    demanded: Mapping[str, object]


FOREIGN = {
    "torchvision.ops.stochastic_depth.StochasticDepth": Foreign("droppath", {"p": "p"}, {"mode": "row"}),
    "torchvision.models.convnext.LayerNorm2d": Foreign("layernorm", {"eps": "eps"}, {}),
    "timm.layers.drop.DropPath": Foreign("droppath", {"p": "drop_prob"}, {"scale_by_keep": True}),
    "timm.layers.norm.LayerNorm2d": Foreign("layernorm", {"eps": "eps", "affine": "elementwise_affine"}, {}),
    "timm.layers.norm.RmsNorm": Foreign("rmsnorm", {"eps": "eps", "affine": "elementwise_affine"}, {}),
    "timm.layers.norm.RmsNorm2d": Foreign("rmsnorm", {"eps": "eps", "affine": "elementwise_affine"}, {}),
}
"""Known layers of other packages, by class."""


class NoOperation(Exception):
    """Why no operation is this layer."""


@dataclass(frozen=True, slots=True)
class Wording:
    """An operation with its arguments: those that differ from the language's defaults. None for the identity."""

    operation: str
    arguments: Mapping[str, object]


@cache
def by_constructor() -> Mapping[str, tuple[type[Operation], ...]]:
    """The operations by the PyTorch class or helper class that they become, found by calls like their examples."""
    found: dict[str, dict[type[Operation], None]] = {}
    for cls in OPERATIONS.values():
        for arguments, shapes in (call for example in cls.examples for call in _like(cls, example)):
            try:
                operation = cls.parse(arguments)
                outputs = operation.infer(shapes, Rules())
            except (OperationError, DimError):  # not for a tensor with so many axes
                continue
            for form in (operation.torch(shapes, outputs), operation.torch_last(shapes, outputs)):
                if isinstance(form, ModuleForm) and is_told(arguments, form):
                    found.setdefault(form.constructor, {})[cls] = None
    return {name: tuple(classes) for name, classes in found.items()}


def is_told(arguments: Mapping[str, object], form: ModuleForm) -> bool:
    """Whether a layer's arguments tell those of the operation: a bias that is there may have parts that are 0."""
    layers = {argument.name or argument.called: argument.value for argument in form.accepted}
    return not any(isinstance(value, tuple) and layers.get(name) is True for name, value in arguments.items())


def _like(cls: type[Operation], example: Example) -> Iterator[tuple[Mapping[str, object], tuple[Shape, ...]]]:
    """The call of an example, those with one switch turned, and all of them for signals, maps and volumes."""
    switches = [name for name in cls.fields if isinstance(default_of(cls, name), bool)]
    turned = [{**example.arguments, n: not example.arguments.get(n, default_of(cls, n))} for n in switches]
    several = [example.inputs]
    if len(example.inputs) == 1 and len(example.inputs[0]) > 1:
        first, *_, last = example.inputs[0]
        several += [((first, *[last] * rank),) for rank in (1, 2, 3) if rank + 1 != len(example.inputs[0])]
    for shapes in several:
        for arguments in (example.arguments, *turned):
            yield arguments, shapes


def snake_case(name: str) -> str:
    """A class's name as that of a block."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip("_")).lower()


def class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


NO_COMPUTATION = frozenset({"__init__", "__repr__", "extra_repr", "reset_parameters", "_get_name"})
"""Methods that change nothing of what a layer computes."""


def layer_class(module: nn.Module) -> type[nn.Module]:
    """The class of torch.nn that a class extends without computing anything else; otherwise the class itself."""
    cls = type(module)
    for base in cls.__mro__:
        if base.__module__.startswith("torch.nn."):
            return base
        changed = {name for name, value in vars(base).items() if callable(value) and hasattr(nn.Module, name)}
        helped = {name for name, value in vars(base).items() if callable(value) and hasattr(base.__mro__[1], name)}
        if (changed | helped) - NO_COMPUTATION:
            break
    return cls


@cache
def extended() -> Mapping[str, type[nn.Module]]:
    """The classes that the layers of built files extend, by the names of these."""
    found = [part for part in vars(helpers).values() if isinstance(part, helpers.Helper)]
    return {part.name: cls.__mro__[1] for part in found if isinstance(cls := defined(part.name, part.source), type)}


def constructor_name(module: nn.Module) -> str:
    """The name of a layer's class as in a built file: `nn.Conv2d`, or its own."""
    name = layer_class(module).__name__
    if name == helpers.MAX_POOL_FREE.name:  # the same for torch.export
        return "nn.MaxPool1d"
    if not isinstance(module, extended().get(name, nn.Module)):
        return class_name(module)  # of somebody else, by the same name
    return f"nn.{name}" if getattr(nn, name, None) is layer_class(module) else name


def is_layer(module: nn.Module) -> bool:
    """Whether a module is recorded as one call: a layer of torch.nn, or one that an operation becomes."""
    if class_name(module) in FOREIGN or drop_probability(module) is not None:
        return True
    if type(module) is nn.Identity:  # it gives the very tensor that it takes
        return False
    if layer_class(module).__module__.startswith("torch.nn.") and layer_class(module) is not nn.Module:
        # One that consists of layers is a scope, apart from those that an operation stands for.
        plain = not any(module.children()) and not issubclass(
            layer_class(module), nn.Sequential | nn.ModuleList | nn.ModuleDict
        )
        return plain or isinstance(module, nn.MultiheadAttention)
    inner = any(module.children()) and not isinstance(module, nn.MultiheadAttention)
    return constructor_name(module) in by_constructor() and not inner


def recorded_layers(module: nn.Module) -> Callable[[nn.Module], bool]:
    """Which modules within one are recorded as one call each: layers, and identities in the place of an activation."""
    known = {id(part): is_layer(part) for part in module.modules()}
    empty: dict[tuple[type, str], list[nn.Module]] = {}
    active: set[tuple[type, str]] = set()
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Identity:
                empty.setdefault((type(parent), name), []).append(child)
            elif type(parent) is not nn.Sequential and is_activation(child):
                active.add((type(parent), name))
    known |= {id(child): True for place in active for child in empty.get(place, ())}
    return lambda part: known.get(id(part), False)


def is_activation(module: nn.Module) -> bool:
    return any(cls.is_activation for cls in by_constructor().get(constructor_name(module), ()))


def may_replace(one: object, two: object) -> bool:
    """Whether an operation can be in the place of another one in a block that gets it as a parameter."""
    return all(isinstance(name, str) and (name == "identity" or OPERATIONS[name].is_activation) for name in (one, two))


def said(
    module: nn.Module, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], *, last: bool = False
) -> Wording | None:
    """The operation that is this layer for these sizes without the batch; None for the identity. Raises NoOperation.

    `last`: its tensors have the channels at the end; the sizes are given with the channels first, as everywhere.
    """
    if isinstance(module, nn.Identity):
        return None
    if (made := computed_weight(module)) is not None:
        raise NoOperation(
            f"a {type(module).__name__} whose weight `{made}` computes; `torch.nn.utils.parametrize."
            "remove_parametrizations` (or `remove_spectral_norm`, `remove_weight_norm`) leaves the computed one"
        )
    if (reduced := _along_one_axis(module)) is not None:
        return reduced
    name = class_name(module)
    if name in FOREIGN:
        return _foreign(module, FOREIGN[name], shapes)
    if (probability := drop_probability(module, len(shapes[0]))) is not None:
        return Wording("droppath", {"p": probability})
    candidates = by_constructor().get(constructor_name(module), ())
    if not candidates:
        raise NoOperation(aliases.without(f"the layer {type(module).__name__}", type(module).__name__))
    found, reasons = [], []
    for cls in candidates:
        try:
            found.append(_as(cls, module, shapes, outputs, last))
        except NoOperation as reason:
            reasons.append(str(reason))
    if not found:
        raise NoOperation(reasons[0])
    return min(found, key=lambda one: len(one.arguments))


def _along_one_axis(module: nn.Module) -> Wording | None:
    """An adaptive pooling that leaves one position on one axis, and all on the others."""
    kinds = {pooling._AdaptiveAvgPoolNd: "reduce_mean", pooling._AdaptiveMaxPoolNd: "reduce_max"}
    operation = next((name for cls, name in kinds.items() if isinstance(module, cls)), None)
    size = getattr(module, "output_size", None)
    if operation is None or not isinstance(size, tuple) or sorted(map(str, size)) != ["1", *["None"] * (len(size) - 1)]:
        return None
    axis = 1 + size.index(1)
    return Wording(operation, {"axis": axis} if axis > 1 else {})


def computed_weight(module: nn.Module) -> str | None:
    """The name of a parametrisation of a layer's weights, such as SpectralNorm; None if it has none."""
    for parts in getattr(module, "parametrizations", {}).values():
        return type(parts[0]).__name__.strip("_")
    hooks = [type(hook).__name__ for hook in module._forward_pre_hooks.values()]
    return next((name for name in hooks if name in ("SpectralNorm", "WeightNorm")), None)


def _foreign(module: nn.Module, known: Foreign, shapes: tuple[Shape, ...]) -> Wording:
    for attribute, wanted in known.demanded.items():
        if getattr(module, attribute) != wanted:
            raise NoOperation(f"{type(module).__name__} with `{attribute}` = {getattr(module, attribute)!r}")
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and shapes[0][0] != weight.shape[0]:
        raise NoOperation(f"{type(module).__name__} over another axis than the channels")
    cls = OPERATIONS[known.operation]
    arguments = {field: value_of(module, name) for field, name in known.parameters.items()}
    return Wording(known.operation, without_defaults(cls, arguments))


def default_of(cls: type[Operation], field: str) -> object:
    """The default of a parameter; PydanticUndefined if it has none."""
    return cls.fields[field].default


def without_defaults(cls: type[Operation], arguments: Mapping[str, object]) -> dict[str, object]:
    return {k: v for k, v in arguments.items() if not same(v, default_of(cls, k))}


def same(one: object, two: object) -> bool:
    """Whether two values are equal, ints and bools apart, and a number and a tuple of it alike."""
    one, two = _plain(one), _plain(two)
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    return (type(one) in (int, float) and type(two) in (int, float) and one == two) or (type(one), one) == (
        type(two),
        two,
    )


def _plain(value: object) -> object:
    if isinstance(value, tuple | list):
        return collapse([_plain(v) for v in value]) if value else ()
    return value


MISSING = object()
FEW_NUMBERS = 49
"""A kernel of up to so many numbers is written down if it is fixed."""


def value_of(module: nn.Module, attribute: str) -> Any:
    """An attribute as a value of the language; MISSING for a tensor. A bias says only whether it is there."""
    value = getattr(module, attribute, MISSING)
    if attribute == "padding" and value in ("same", "valid"):
        value = _padding(module, str(value))
    if attribute == "bias" and value is not MISSING and not isinstance(value, bool):
        return value is not None
    return MISSING if isinstance(value, torch.Tensor) else _plain(value)


def _padding(module: nn.Module, word: str) -> object:
    """The numbers that PyTorch's word for a padding stands for; the word, if the ends differ."""
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if word == "same" and any(n % 2 for n in reach):
        return word
    return tuple(0 if word == "valid" else n // 2 for n in reach)


def _as(
    cls: type[Operation], module: nn.Module, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], last: bool
) -> Wording:
    """The module as a call of this operation. Raises NoOperation."""

    def wrong(arguments: Mapping[str, object]) -> str | None:
        return mismatch(cls, arguments, module, shapes, outputs, last)

    names = {field: cls.pytorch_names.get(field, field) for field in cls.fields}
    arguments = {field: value for field, name in names.items() if (value := value_of(module, name)) is not MISSING}
    if wrong(arguments) is not None:
        others = [*_others(cls, arguments)]
        reasons = [wrong(other) for other in others]
        if None not in reasons:
            raise NoOperation(str(reasons[0]))
        arguments = others[reasons.index(None)]
    for field in [name for name, parameter in cls.fields.items() if not parameter.is_required]:
        fewer = {k: v for k, v in arguments.items() if k != field}
        if field in arguments and wrong(fewer) is None:
            arguments = fewer
        elif same(arguments.get(field, MISSING), 0):  # no padding has a word
            words = (word for word in cls.words(field) if wrong({**arguments, field: word}) is None)
            arguments[field] = next(words, 0)
    return Wording(cls.name, _given_kernel(cls, arguments, module, wrong))


def _given_kernel(
    cls: type[Operation],
    arguments: Mapping[str, object],
    module: nn.Module,
    wrong: Callable[[Mapping[str, object]], str | None],
) -> Mapping[str, object]:
    """The arguments with the numbers of a frozen layer's kernel, if it is one for all channels, and small."""
    tensors = dict(module.named_parameters(recurse=False))
    weight = tensors.get("weight")
    if weight is None or weight.is_meta or weight.ndim < 3 or any(t.requires_grad for t in tensors.values()):
        return arguments
    kernel = weight.detach()[0, 0]
    if kernel.numel() > FEW_NUMBERS or not torch.equal(weight, kernel.expand_as(weight)):
        return arguments
    if any(bool(tensor.any()) for name, tensor in tensors.items() if name != "weight"):
        return arguments  # beside a given kernel the bias starts at 0
    rest = {name: value for name, value in arguments.items() if name != "kernel"}
    given = {**rest, "weight": _numbers(kernel.tolist()), "trainable": False}
    return arguments if wrong(given) is not None else given


def _numbers(values: Any) -> Any:
    """Nested numbers as a spec has them: whole ones as ints, others as the shortest that are the same float32."""
    if isinstance(values, list):
        return tuple(map(_numbers, values))
    if values.is_integer():
        return int(values)
    short = float(f"{values:.7g}")
    return short if torch.tensor(short).item() == values else float(f"{values:.9g}")


def _others(cls: type[Operation], arguments: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The same with whole floats as ints, with a word for 0, and with an argument more or less."""
    whole = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in arguments.items()}
    yield whole
    for field in cls.fields:
        if field not in arguments or same(arguments[field], 0):
            for word in cls.words(field):
                yield {**whole, field: word}
        if field not in arguments and (default := default_of(cls, field)) in (True, False):
            yield {**whole, field: not default}
    for field in arguments:
        yield {k: v for k, v in whole.items() if k != field}


def mismatch(
    cls: type[Operation],
    arguments: Mapping[str, object],
    module: nn.Module,
    shapes: tuple[Shape, ...],
    outputs: tuple[Shape, ...],
    last: bool,
) -> str | None:
    """Why this call is not the module; None if it is."""
    try:
        operation = cls.parse(arguments)
        results = operation.infer(shapes, Rules())
        form = operation.torch_last(shapes, results) if last else operation.torch(shapes, results)
    except (OperationError, DimError) as error:
        return str(error)
    if not isinstance(form, ModuleForm) or form.constructor != constructor_name(module):
        return f"`{cls.name}` becomes another layer"
    if results != outputs:
        return f"`{cls.name}` would give another size"
    accepted = {argument.name or argument.called: argument for argument in form.accepted}
    if getattr(module, "weight", MISSING) is None:  # then it has no bias either, whatever the argument says
        accepted.pop("bias", None)
    parameters = inspect.signature(layer_class(module).__init__).parameters
    for name, argument in accepted.items():
        may_be_none = name not in parameters or parameters[name].default in (None, inspect._empty)
        if (value := value_of(module, name)) is not MISSING and not _agrees(value, argument, may_be_none):
            return f"{type(module).__name__} with `{name}` = {value!r}"
    for name, parameter in parameters.items():
        value = value_of(module, name)
        if name in accepted or name in FREE_ARGUMENTS or value is MISSING or parameter.default is inspect._empty:
            continue
        if name == "bias" and value is (getattr(module, "weight", None) is not None):
            continue  # a normalisation has both or none
        if not same(value, parameter.default) and not (value is False and parameter.default is None):
            return f"`{cls.name}` has nothing for `{name}` = {value!r} of {type(module).__name__}"
    return None


def _agrees(value: object, argument: Argument, may_be_none: bool) -> bool:
    """Whether a layer's attribute is the argument; None stands for a default, unless it is another value than that."""
    given = argument.value
    if value is None and may_be_none and same(given, argument.default):
        return True
    with suppress(TypeError, ValueError):
        if isinstance(given, float) or isinstance(value, float):
            return float(value) == float(given)  # type: ignore[arg-type]
    return same(value, given)
