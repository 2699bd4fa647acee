"""torch.nn as far as a built file uses it, with modules that compute terms.

It models how PyTorch registers and names members, which names are taken, how often a shared member counts, and the
order of keys in a state_dict.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType
from typing import Any

from archdsl.proof.errors import Unproved
from archdsl.proof.pytorch import ATTRIBUTES
from archdsl.proof.terms import Storage, Table, Tensor, frozen

ONES, ZEROS = ("ones_", ()), ("zeros_", ())
"""The initialisation of weights that are filled with one number, by functions of nn.init."""

DEVICE, DTYPE = object(), object()
"""The device and dtype that a model is asked for."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """torch.tensor: given numbers."""

    nested: object


class Weight(Tensor):
    """A parameter or buffer. `start` is its initialisation, `placed` whether device and dtype were passed to it.

    `updates` are the terms that a buffer has counted into its statistics, in order.
    """

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
        self.updates: list[tuple[int, ...]] = []
        self.fixed = False

    def bind(self, table: Table, path: str) -> None:
        """Makes it the weight with that path in a run."""
        super().__init__(table, table.source(("weight", path)), Storage(kept="a weight"))
        self.updates = []
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
    """The numbers of a weight: only these may be changed without a gradient."""

    _weight: Weight

    def copy_(self, numbers: object) -> None:
        if not isinstance(numbers, Numbers):
            raise Unproved("fills a weight with something else than a tensor of numbers")
        self._weight.starts(("numbers", frozen(numbers.nested, [])))


class Parameter(Weight):
    """nn.Parameter."""

    __slots__ = ()


class Buffer(Weight):
    """A buffer for statistics."""

    __slots__ = ()

    def clone(self) -> Buffer:
        made = Buffer(Filled(self.sizes, self.filled.start, self.placed))
        if self.fixed:  # in a run, a copy has the same numbers
            Tensor.__init__(made, self.table, self.read(), Storage(kept="a weight"))
            made.fixed = True
        return made


@dataclass(frozen=True, slots=True)
class Filled:
    """A new tensor: its size, its initialisation, and whether it has the requested device and dtype."""

    sizes: tuple[int, ...]
    start: object
    placed: bool
    taken: list[object] = field(default_factory=list, compare=False)
    """The parameter made from it."""


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
        """Raises Unproved if a finished module, or a layer, is changed; statistics may be kept in copies."""
        if self.__dict__.get("_sealed", False) and not counts:
            raise Unproved("changes a module after the model was made")

    def _seal(self) -> None:
        """Freezes it. Raises Unproved if it contains something that changes when used."""
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

    def register_buffer(self, name: str, made: object) -> None:
        if not isinstance(made, Filled):
            raise Unproved(f"registers a buffer `{name}` that is none")
        self._register(name, Buffer(made), self._buffers)

    def get_buffer(self, path: str) -> Buffer:
        head, _, name = path.rpartition(".")
        found = getattr(self.get_submodule(head) if head else self, name)
        if not isinstance(found, Buffer):
            raise Unproved(f"asks for a buffer `{path}` that is none")
        return found

    @property
    def _inside(self) -> tuple[Module, ...]:
        """The modules within it that are none of its members here."""
        return ()

    def children(self) -> Iterator[Module]:
        for _, module in self.named_children():
            yield module

    def modules(self) -> Iterator[Module]:
        found = self.__dict__.get("_all")
        if found is None:
            found = list(self._walk())
            if "_sealed" in self.__dict__:  # its members stay
                self.__dict__["_all"] = found
        return iter(found)

    def _walk(self) -> Iterator[Module]:
        seen: set[int] = set()
        stack: list[Module] = [self]
        while stack:
            module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                if module._modules or module._inside:
                    stack.extend(reversed([*module._modules.values(), *module._inside]))

    def named_parameters(self, recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        for path, module in self._named(recurse):
            for name, parameter in module._parameters.items():
                yield path + name, parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        for _, parameter in self.named_parameters(recurse):
            yield parameter

    def named_buffers(self, recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        for path, module in self._named(recurse) if recurse else (("", self),):
            for name, buffer in list(module._buffers.items()):
                yield path + name, buffer

    def _named(self, recurse: bool) -> Iterator[tuple[str, Module]]:
        """This module and, if requested, all modules inside, with the prefixes of their keys."""
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
            if "training" in module._modules or "training" in module.__dict__.get("_parameters", ()):
                raise Unproved("has a member called `training`, which is in the way of train() and eval()")
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Module:
        return self.train(False)

    def __call__(self, *inputs: object) -> Any:
        self.__dict__["_called"] = True
        if "_sharded" in self.__dict__:
            _keep(inputs, "what a sharded module takes")
        given = self.forward(*inputs)
        if "_divided" in self.__dict__:
            _keep([given], "what a divided layer gives")
        return given

    forward: Callable[..., Any] = _refused


def _keep(tensors: Iterable[object], why: str) -> None:
    """Forbids that anything overwrites these tensors."""
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            tensor.storage.kept = tensor.storage.kept or why


MEMBERS = frozenset({"_modules", "_parameters", "_buffers"})


def _is_constant(value: object) -> bool:
    """Whether using a value does not change it."""
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


class ModuleList(Module):
    """nn.ModuleList: modules that nothing calls but by their numbers."""

    def __init__(self, members: Iterable[object] = ()) -> None:
        super().__init__()
        for i, member in enumerate(members):
            self.add_module(str(i), member)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self._modules.values()))

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        if isinstance(index, int) and index in range(len(self)):
            return self._modules[str(index)]
        raise Unproved("takes a part of an nn.ModuleList that is not one of its modules")


class ModuleDict(Module):
    """nn.ModuleDict: a module whose members are its elements, too."""

    def __init__(self, members: object = None) -> None:
        super().__init__()
        if members is None:
            return
        if type(members) is not dict:
            raise Unproved("makes an nn.ModuleDict of something else than a table")
        for name, member in members.items():
            self.add_module(name, member)

    def __setitem__(self, name: str, module: object) -> None:
        self.add_module(name, module)

    def __getitem__(self, name: str) -> Module:
        if name not in self._modules:
            raise Unproved(f"reads the member {name!r}, which there is not")
        return self._modules[name]

    keys = values = items = update = clear = pop = _refused
