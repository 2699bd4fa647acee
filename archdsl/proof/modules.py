"""torch.nn as far as a built file uses it, with modules that compute terms.

What is kept of PyTorch: how members are registered and named, which names are taken, how often a shared member is
counted, in which order a state_dict has its keys.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import FunctionType
from typing import Any

from archdsl.proof.errors import Unproved
from archdsl.proof.pytorch import ATTRIBUTES, REQUIRED, SIGNATURES, WEIGHTY, weights
from archdsl.proof.terms import Key, Storage, Table, Tensor, frozen, results

DEVICE, DTYPE = object(), object()
"""What a model is asked to be made on, and of."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """torch.tensor: given numbers."""

    nested: object


class Weight(Tensor):
    """A parameter or buffer. `start` is how it starts, `placed` whether device and dtype were passed on to it."""

    __slots__ = ("filled", "fixed", "placed", "sizes", "start", "trainable", "updates")

    def __init__(self, made: object, requires_grad: bool = True) -> None:
        if not isinstance(made, Filled):
            raise Unproved("makes a parameter of something else than a filled tensor")
        if made.taken:
            raise Unproved("makes two parameters of one tensor")
        made.taken.append(self)
        self.filled = made
        self.sizes = made.sizes
        self.start: object = made.start
        self.trainable = requires_grad
        self.placed = made.placed
        self.updates = 0
        self.fixed = False

    def bind(self, table: Table, path: str) -> None:
        """Makes it the weight of that path in a run."""
        super().__init__(table, table.source(("weight", path)), Storage(kept="a weight"))
        self.updates = 0
        self.fixed = True

    def starts(self, start: object) -> None:
        if self.fixed:
            raise Unproved("changes weights after the model was made")
        self.start = start

    def requires_grad_(self, requires_grad: bool = True) -> Weight:
        if self.fixed or not isinstance(requires_grad, bool):
            raise Unproved("changes what is trainable after the model was made")
        self.trainable = requires_grad
        return self

    @property
    def data(self) -> Data:
        return Data(self)


@dataclass(frozen=True, slots=True)
class Data:
    """The numbers of a weight, which is all that may be changed without a gradient."""

    _weight: Weight

    def copy_(self, numbers: object) -> None:
        if not isinstance(numbers, Numbers):
            raise Unproved("fills a weight with something else than a tensor of numbers")
        self._weight.starts(("numbers", frozen(numbers.nested, [])))


class Parameter(Weight):
    """nn.Parameter."""

    __slots__ = ()


class Buffer(Weight):
    """A buffer, of statistics."""

    __slots__ = ()

    def clone(self) -> Buffer:
        return Buffer(replace(self.filled, taken=[]))


@dataclass(frozen=True, slots=True)
class Filled:
    """A new tensor: its size, how it starts, and whether it is where, and of which type, the model was asked to be."""

    sizes: tuple[int, ...]
    start: object
    placed: bool
    taken: list[object] = field(default_factory=list, compare=False)
    """The parameter that it became."""


def _refused(self: object, *args: object, **kwargs: object) -> object:
    raise Unproved("uses a method of nn.Module that a proof does not know")


class Module:
    """nn.Module."""

    training: bool
    _parameters: dict[str, Parameter]
    _buffers: dict[str, Buffer]
    _modules: dict[str, Module]

    def __init__(self) -> None:
        for name in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "training", True)

    def __setattr__(self, name: str, value: object) -> None:
        self._changes(isinstance(value, Buffer))
        if isinstance(value, Parameter):
            self._drop(name, self._modules)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._drop(name, self._parameters)
            self._modules[name] = value
        elif name in self._buffers and isinstance(value, Buffer):
            self._buffers[name] = value
        elif name in self._modules or name in self._parameters or name in self._buffers or name in ATTRIBUTES:
            raise Unproved(f"sets the member `{name}` to something else")
        else:
            object.__setattr__(self, name, value)

    def _drop(self, name: str, others: dict[str, Any]) -> None:
        for members in (self.__dict__, self._buffers, others):
            members.pop(name, None)

    def _changes(self, counts: bool = False) -> None:
        """Raises Unproved where a module that is made, or a layer, is changed; statistics may be kept in copies."""
        if self.__dict__.get("_sealed", False) and not counts:
            raise Unproved("changes a module after the model was made")

    def _seal(self) -> None:
        """From here on it is as it is. Raises Unproved where it holds what changes as it is used."""
        for name, value in self.__dict__.items():
            if name not in MEMBERS and not _is_constant(value):
                raise Unproved(f"keeps `{name}`, a {type(value).__name__}, between calls")
        self.__dict__["_sealed"] = True

    def __getattr__(self, name: str) -> Any:
        for members in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(members, {})
            if name in found:
                return found[name]
        raise Unproved(f"reads `{name}`, which {type(self).__name__} has not got")

    def _register(self, name: object, value: object, members: dict[str, Any]) -> None:
        self._changes()
        if not isinstance(name, str) or "." in name or not name:
            raise Unproved(f"registers a member as {name!r}")
        if name not in members and hasattr_(self, name):
            raise Unproved(f"registers `{name}`, a name that every module has")
        members[name] = value

    def add_module(self, name: str, module: object) -> None:
        if not isinstance(module, Module):
            raise Unproved(f"adds a member `{name}` that is no module")
        self._register(name, module, self._modules)

    register_module = add_module

    def register_parameter(self, name: str, parameter: object) -> None:
        if not isinstance(parameter, Parameter):
            raise Unproved(f"registers a parameter `{name}` that is none")
        self._register(name, parameter, self._parameters)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        seen: set[int] = set()
        for name, module in self._modules.items():
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        for _, module in self.named_children():
            yield module

    def modules(self) -> Iterator[Module]:
        seen: set[int] = set()
        stack: list[Module] = [self]
        while stack:
            module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                stack.extend(reversed(module._modules.values()))

    def named_parameters(self, recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        for path, module in self._named(recurse):
            for name, parameter in module._parameters.items():
                yield path + name, parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        for _, parameter in self.named_parameters(recurse):
            yield parameter

    def named_buffers(self, recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        for path, module in self._named(recurse):
            for name, buffer in list(module._buffers.items()):
                yield path + name, buffer

    def _named(self, recurse: bool) -> Iterator[tuple[str, Module]]:
        """This module and, where asked for, all within, with what their keys begin with."""
        stack: list[tuple[str, Module]] = [("", self)]
        while stack:
            path, module = stack.pop()
            yield path, module
            if recurse:
                stack.extend((f"{path}{name}.", m) for name, m in reversed(module._modules.items()))

    def get_submodule(self, path: str) -> Module:
        module = self
        for name in path.split("."):
            found = getattr(module, name)
            if not isinstance(found, Module):
                raise Unproved(f"asks for a submodule `{path}` that is none")
            module = found
        return module

    def get_parameter(self, path: str) -> Parameter:
        head, _, name = path.rpartition(".")
        found = getattr(self.get_submodule(head) if head else self, name)
        if not isinstance(found, Parameter):
            raise Unproved(f"asks for a parameter `{path}` that is none")
        return found

    def train(self, mode: bool = True) -> Module:
        self._changes()
        for module in self.modules():
            if "training" in module._modules or "training" in module._parameters:
                raise Unproved("has a member called `training`, which is in the way of train() and eval()")
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Module:
        return self.train(False)

    def __call__(self, *inputs: object) -> Any:
        return self.forward(*inputs)

    forward: Callable[..., Any] = _refused


MEMBERS = frozenset({"_modules", "_parameters", "_buffers"})


def _is_constant(value: object) -> bool:
    """Whether a value is one that using it does not change."""
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, bool | int | float | str | Module | FunctionType | partial | type)


def hasattr_(module: Module, name: str) -> bool:
    """PyTorch's `hasattr` of a module."""
    try:
        getattr(module, name)
    except (Unproved, AttributeError):
        return False
    return True


for _name in ATTRIBUTES:
    if not hasattr(Module, _name) and _name not in ("training", "_parameters", "_buffers", "_modules"):
        setattr(Module, _name, _refused)


class Sequential(Module):
    """nn.Sequential."""

    def __init__(self, *members: object) -> None:
        super().__init__()
        first = members[0] if len(members) == 1 else None
        named = first.items() if isinstance(first, OrderedDict) else ((str(i), m) for i, m in enumerate(members))
        for name, member in named:
            self.add_module(name, member)

    def append(self, module: object) -> Sequential:
        self.add_module(str(len(self)), module)
        return self

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self._modules.values()))

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        found = list(self._modules.values())[index]
        if isinstance(found, Module):
            return found
        raise Unproved("takes a part of an nn.Sequential")

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input


class Spec:
    """What a layer is made with: equal specs compute the same of equal weights and tensors."""

    __slots__ = ("arguments", "hash", "is_random", "key", "kind", "overwrites", "parts", "placed")

    def __init__(self, made: type[Layer], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        signature, self.kind = made.signature, made.kind
        given = dict(zip(signature, args, strict=False))
        if len(args) > len(signature) or given.keys() & kwargs.keys():
            raise Unproved(f"gives {self.kind} too many arguments")
        kwargs = dict(kwargs)
        self.placed = True
        if made.base.startswith(WEIGHTY):
            self.placed = kwargs.pop("device", None) is DEVICE and kwargs.pop("dtype", None) is DTYPE
        if unknown := kwargs.keys() - signature.keys():
            raise Unproved(f"gives {self.kind} the argument `{min(unknown)}`, which it has not got")
        values = {**signature, **given, **kwargs}
        if missing := [n for n, v in values.items() if v is REQUIRED]:
            raise Unproved(f"makes {self.kind} without `{missing[0]}`")
        _check_types(self.kind, values, rank_of(made.base))
        self.overwrites = bool(values.pop("inplace", False))
        if "kernel_size" in values and values.get("stride", 1) is None:
            values["stride"] = values["kernel_size"]
        self.arguments = {k: _collapsed(v) if k != "normalized_shape" else v for k, v in values.items()}
        self.key = (self.kind, frozen(tuple(self.arguments.values()), []))
        self.hash = hash(self.key)
        self.is_random = "Drop" in self.kind
        norm = "Norm" in made.base
        parameters, buffers = weights(made.base, self.arguments)
        self.parts = [
            (n, s, False, (ONES if n == "weight" else ZEROS) if norm else None) for n, s in parameters.items()
        ]
        self.parts += [(n, s, True, None) for n, s in buffers.items()]
        """The weights: name, shape, whether it is a buffer, how it starts where that is not the constructor's own."""

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Spec) and self.key == other.key)

    @property
    def has_statistics(self) -> bool:
        return bool(self.parts) and self.parts[-1][2]


_specs: dict[object, Spec] = {}
"""Those of the proofs that run now."""


def forget() -> None:
    """Lets go of the specs of a proof."""
    _specs.clear()


def spec_of(made: type[Layer], args: tuple[object, ...], kwargs: dict[str, object]) -> Spec:
    """The spec of a layer, the same one for the same arguments as long as there is room."""
    values = (*args, *kwargs.values())
    types = tuple(
        [(type(v), tuple(map(type, v)) if type(v) is tuple else None) for v in values]
    )  # 3.0 == 3 == True + 2
    key = (made, args, tuple(kwargs.items()), types)
    try:
        found = _specs.get(key)
    except TypeError:  # a list among the arguments
        return Spec(made, args, kwargs)
    if found is None:
        found = _specs[key] = Spec(made, args, kwargs)
    return found


class Layer(Module):
    """A module of PyTorch, or of a helper. Its weights are made when something asks for them."""

    kind = ""
    base = ""
    """The class of torch.nn that it is or extends, empty for a helper that extends nn.Module alone."""
    signature: Mapping[str, object] = {}

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.__dict__.update(spec=spec_of(type(self), args, kwargs), path="", runs=0, training=True, _modules={})

    def _changes(self, counts: bool = False) -> None:
        if not counts:
            raise Unproved(f"changes a {self.kind} after it was made")

    def train(self, mode: bool = True) -> Module:
        if self.__dict__.get("_sealed", False):
            self._changes()
        self.__dict__["training"] = mode
        return self

    def _seal(self) -> None:
        self.__dict__["_sealed"] = True
        if not self.is_as_made:
            for weight in self._parameters.values():
                weight.fixed = True

    def __getattr__(self, name: str) -> Any:
        if name not in ("_parameters", "_buffers"):
            own = {**self._parameters, **self._buffers}
            if name not in own and name in ("weight", "bias") and self.base.startswith(WEIGHTY):
                return None  # one that the layer could have
            return own[name] if name in own else super().__getattr__(name)
        spec: Spec = self.__dict__["spec"]
        parameters = {n: Parameter(Filled(s, start, spec.placed)) for n, s, buffer, start in spec.parts if not buffer}
        buffers = {n: Buffer(Filled(s, None, spec.placed)) for n, s, buffer, _ in spec.parts if buffer}
        for buffer in buffers.values():
            buffer.updates = self.__dict__["runs"]
        for parameter in parameters.values():
            parameter.fixed = "_sealed" in self.__dict__
        self.__dict__.update(_parameters=parameters, _buffers=buffers)
        return self.__dict__[name]

    @property
    def is_as_made(self) -> bool:
        """Whether nothing has asked for its weights."""
        return "_parameters" not in self.__dict__

    def reset(self) -> None:
        """Forgets how often its statistics were updated."""
        self.__dict__["runs"] = 0
        if not self.is_as_made:
            for buffer in self._buffers.values():
                buffer.updates = 0

    @property
    def updates(self) -> int:
        """How often its statistics were updated; -1 where they disagree."""
        counts = {self.__dict__["runs"]} if self.is_as_made else {b.updates for b in self._buffers.values()}
        return counts.pop() if len(counts) == 1 else -1

    def forward(self, *inputs: Any) -> Any:
        spec: Spec = self.__dict__["spec"]
        if not inputs or not all(isinstance(x, Tensor) for x in inputs):
            raise Unproved(f"gives {spec.kind} something else than tensors")
        if (spec.is_random or spec.has_statistics) and "_sealed" not in self.__dict__:
            raise Unproved(f"runs a {spec.kind} that is no member of the model, and never leaves its mode")
        if spec.has_statistics:
            if self.is_as_made:
                self.__dict__["runs"] += 1
            else:
                for buffer in self._buffers.values():
                    buffer.updates += 1
        return compute(spec, self.__dict__["path"], inputs)


def compute(spec: Spec, path: str, inputs: Sequence[Tensor]) -> Any:
    """What a layer gives."""
    if spec.kind in ("Identity", "Flatten"):
        if spec.kind == "Identity":
            return inputs[0]
        if tuple(spec.arguments.values()) == (1, -1):
            return inputs[0].flatten(1)  # type: ignore[operator]  # a method, as any other name of a tensor
    table = inputs[0].table
    key: Key = (spec, path if spec.parts else "", tuple([x.read().number for x in inputs]))
    if spec.is_random:  # each time it draws anew
        number = table.ran[key]
        table.ran[key] += 1
        key = (key, number)
    entry = table.entries.get(key)
    if entry is None:
        entry = table.new(key, f"{spec.kind}{f' at `{path}`' if path else ''}")
    if not spec.overwrites:
        return results(table, entry, inputs)
    if entry.in_place is None or (table.gradients and entry.in_place[0]):
        raise Unproved(f"{entry.says} overwrites what its own gradient needs")
    inputs[0].overwrite(entry.says)
    return results(table, entry, (), inputs[0].storage)


ONES, ZEROS = ("ones_", ()), ("zeros_", ())


def rank_of(base: str) -> int:
    """How many spatial axes a class of torch.nn is for; 0 for those that do not say."""
    return int(base[-2]) if base[-2:] in ("1d", "2d", "3d") else 0


def _check_types(kind: str, values: Mapping[str, object], rank: int) -> None:
    """Raises Unproved where PyTorch would want a whole number, a bool or a tuple of another length."""
    for name, value in values.items():
        if name in BOOLS and not isinstance(value, bool):
            raise Unproved(f"gives {kind} {value!r} for `{name}`")
        if name in INTS and not isinstance(value, str | None):
            parts = value if isinstance(value, tuple) else (value,)
            lengths = {rank * 2 if "Pad" in kind else rank} if rank else {len(parts)}
            if any(type(p) is not int for p in parts) or (isinstance(value, tuple) and len(value) not in lengths):
                raise Unproved(f"gives {kind} {value!r} for `{name}`")
        elif isinstance(value, bool) and name not in BOOLS and name in FLOATS:
            raise Unproved(f"gives {kind} {value!r} for `{name}`")


_BOOLS = "bias affine track_running_stats ceil_mode count_include_pad return_indices inplace elementwise_affine"
BOOLS = frozenset(_BOOLS.split())
_INTS = (
    "in_channels out_channels kernel_size stride padding dilation groups output_padding num_features output_size "
    "in_features out_features num_groups num_channels num_parameters normalized_shape dim start_dim end_dim size "
    "upscale_factor downscale_factor"
)
INTS = frozenset(_INTS.split())
_FLOATS = "eps momentum p alpha beta k negative_slope threshold init scale_factor"
FLOATS = frozenset(_FLOATS.split())


def _collapsed(value: object) -> object:
    """One number for a tuple of equal ones."""
    if isinstance(value, tuple) and value and all(v == value[0] for v in value):
        return value[0]
    return value


def layer_class(kind: str, base: str, signature: Mapping[str, object], extends: type[Layer] = Layer) -> type[Layer]:
    return type(kind, (extends,), {"kind": kind, "base": base, "signature": signature})


LAYERS: Mapping[str, type[Layer]] = {name: layer_class(name, name, found) for name, found in SIGNATURES.items()}
"""The layers of torch.nn."""
