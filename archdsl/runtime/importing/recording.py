"""Runs a module on tensors without data, and records its calls of layers and functions, by scope.

A scope is a call of a module that is not a layer. All values are tensors that flow: each call of a layer or function
takes some and gives new ones; one that works in place gives a new value, too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from archdsl.runtime.importing.calling import called_with, own_tensors
from archdsl.runtime.importing.inputs import arranged, caches, input_names, nested
from archdsl.runtime.importing.places import line_of_python
from archdsl.runtime.refusal import ImportRefused


@dataclass(slots=True, eq=False)
class Value:
    """A tensor that flows. `shapes` are its sizes with the batch, one for each recorded run."""

    shapes: list[tuple[int, ...]]
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Owned:
    """A parameter or buffer of the module as an argument of a function: its key.

    `shape` is that of the tensor, `stored` that of the parameter; they differ after a `view`.
    """

    key: str
    shape: tuple[int, ...]
    stored: tuple[int, ...]
    zeros: tuple[int, int] | None = None
    """The elements that are set to 0."""

    @property
    def is_plain(self) -> bool:
        return self.shape == self.stored


def numbers_by(made: Callable[[], torch.Tensor] | None) -> torch.Tensor | None:
    """The numbers that a function computes; None if they are not known."""
    try:
        return None if made is None else made()
    except (RuntimeError, TypeError, ValueError, NotImplementedError):  # it takes more than numbers
        return None


@dataclass(slots=True, eq=False)
class Constant:
    """A tensor that comes from no input and is no parameter, as an argument of a function."""

    made: Callable[[], torch.Tensor] | None = None
    """Computes its numbers."""

    @property
    def numbers(self) -> torch.Tensor | None:
        """Its numbers; None if they are not known."""
        return numbers_by(self.made)


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """A tensor that is computed from parameters alone: by a function, or by the layer `module` with its `path`."""

    name: str
    arguments: tuple[Any, ...]
    shape: tuple[int, ...]
    path: str = ""
    module: nn.Module | None = None
    made: Callable[[], torch.Tensor] | None = None
    """Computes its numbers, if they follow from buffers."""

    @property
    def numbers(self) -> torch.Tensor | None:
        """Its numbers; None if they are not known."""
        return numbers_by(self.made)


@dataclass(slots=True, eq=False)
class Call:
    """A call of a layer (`module`, with its `path`) or of a function, whose name is `name`.

    `arguments` and `named` are as given, with Values, Owned and Constants for tensors; `again` are those of the
    second run.
    """

    name: str
    path: str
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    results: list[Value]
    line: str
    module: nn.Module | None = None
    again: tuple[Any, ...] = ()
    again_named: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, object] = field(default_factory=dict)
    """Arguments of the operation that the layer does not say."""

    @property
    def inputs(self) -> list[Value]:
        """The values that it takes, in order."""
        return [*values_in(self.arguments), *values_in(tuple(self.named.values()))]

    @property
    def taken(self) -> list[Value]:
        return self.inputs

    @property
    def given(self) -> list[Value]:
        return self.results


@dataclass(slots=True, eq=False)
class ScopeCall:
    """A call of a module that is no layer, with the calls in it."""

    path: str
    module: nn.Module
    line: str
    members: list[Call | ScopeCall] = field(default_factory=list)
    taken: list[Value] = field(default_factory=list)
    """The values that it was called with, in order."""
    given: list[Value] = field(default_factory=list)
    """The values that it returned, in order."""
    others: str = ""
    """What it takes or returns besides: a tensor that is not computed from the input, or an object of another type."""


@dataclass(slots=True, eq=False)
class Recording:
    """The calls of one run. `outputs` are by name, or by position as text."""

    root: ScopeCall
    inputs: list[Value]
    input_names: list[str]
    outputs: list[tuple[str, Value]]


def parts_of(given: object) -> Iterable[object] | None:
    """The parts of a list, a dict or a dataclass; None of anything else."""
    if isinstance(given, Mapping):
        return given.values()
    if isinstance(given, tuple | list):
        return given
    if is_dataclass(given) and not isinstance(given, type):
        return (getattr(given, field.name) for field in fields(given))
    return None


def values_in(given: object) -> Iterator[Value]:
    """The values in arguments, in order, also within lists and dicts."""
    if isinstance(given, Value):
        yield given
    else:
        for part in parts_of(given) or ():
            yield from values_in(part)


def besides(given: object) -> str:
    """What arguments or results have that is no value, of what an `extern` cannot pass on."""
    if isinstance(given, Owned | Constant | Derived):
        return "a tensor that is not computed from the input"
    if isinstance(given, Value) or (parts := parts_of(given)) is None:
        return ""
    return next((found for part in parts if (found := besides(part))), "")


def flat(given: object) -> Iterator[object]:
    """The parts of nested lists."""
    if isinstance(given, tuple | list):
        for part in given:
            yield from flat(part)
    else:
        yield given


def tensors_in(found: object) -> Iterator[torch.Tensor]:
    """The tensors in a result, in order."""
    if isinstance(found, torch.Tensor):
        yield found
    else:
        for part in parts_of(found) or ():
            yield from tensors_in(part)


REPEATED = frozenset({"expand", "expand_as", "repeat"})
"""Methods that give a parameter once for each sample."""
KEPT = frozenset(
    {
        *("to", "contiguous", "clone", "type_as", "float", "type", "view", "reshape", "unsqueeze", "squeeze"),
        *("flatten", "__getitem__", "detach", "data", "unflatten"),
    }
)
"""Methods that give a parameter as it is, or with its numbers in the same order in another shape."""


UNCHANGED = frozenset({"to", "contiguous", "float", "type", "type_as", "expand", "cpu"})
"""Methods that may give the very tensor that they are called on."""
MAKING = frozenset(
    {
        *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "zeros_like", "ones_like", "full_like"),
        *("empty_like", "is_floating_point"),
    }
)
"""Functions that take no more of a tensor than its size and type."""


DECIDING = frozenset({"__bool__", "__int__", "__float__", "__index__", "item", "tolist"})
"""Methods that give numbers of a tensor to Python."""


def derived(name: str, owned: Owned, found: torch.Tensor) -> Owned | None:
    """The result of a method of a parameter, if that is the parameter itself."""
    shape = tuple(found.shape)
    if name in REPEATED and shape[1:] == owned.shape[1:] and owned.shape[:1] == (1,):
        return owned
    converts = name in ("to", "float", "type", "type_as")
    same = name in KEPT and found.numel() == math.prod(owned.shape) and (not converts or found.dtype == torch.float32)
    return Owned(owned.key, shape, owned.stored) if same else None


class Recorder(TorchFunctionMode):  # type: ignore[misc]
    """Records one run of a module."""

    def __init__(self, module: nn.Module, is_layer: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.module, self.is_layer = module, is_layer
        self.buffers = dict(module.named_buffers())
        self.paths: dict[int, str] = {}
        self.names: dict[int, list[str]] = {}
        """All names of a module, and from its first call on the one by which it goes."""
        for name, part in module.named_modules(remove_duplicate=False):
            self.names.setdefault(id(part), []).append(name)
        self.owned: dict[int, Owned] = {}
        self.derived: dict[int, Derived] = {}
        self.constants: dict[int, Constant] = {}
        self.values: dict[int, Value] = {}
        self.kept: list[torch.Tensor] = []
        self.scopes: list[ScopeCall] = []
        self.entered: list[list[tuple[torch.Tensor, Value, int]]] = []
        """What each scope was called with: the tensors, their values and their versions."""
        self.inside: list[Call] = []
        """The layer that runs, whose own calls are not recorded."""

    def bind(self, tensor: torch.Tensor) -> Value:
        """A new value for a tensor, which is kept alive so that no other one gets its identity."""
        value = Value([tuple(tensor.shape)], tensor.dtype)
        self.kept.append(tensor)
        self.values[id(tensor)] = value
        return value

    def known(self, given: Any) -> Any:
        """Arguments with values for tensors."""
        if isinstance(given, torch.Tensor):
            known = (self.values, self.owned, self.derived, self.constants)
            return next((table[id(given)] for table in known if id(given) in table), Constant())
        if isinstance(given, Mapping):
            return {key: self.known(part) for key, part in given.items()}
        if isinstance(given, torch.Size):
            return tuple(given)
        if isinstance(given, tuple | list):
            return tuple(self.known(part) for part in given)
        return given

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if self.inside:
            return func(*args, **kwargs)
        if name == "__get__":  # of an attribute: x.shape, x.T
            name = getattr(func.__self__, "__name__", name)
        arguments, named = self.known(args), self.known(kwargs)
        if name in DECIDING and any(values_in(arguments)):
            raise ImportRefused("it decides by the numbers of a tensor", self.scopes[-1].path, line_of_python())
        result = func(*args, **kwargs)
        found = list(tensors_in(result))
        if name in UNCHANGED and result is args[0]:
            return result
        if name in ("__set__", "__setitem__") and any(values_in((arguments, named))):
            call = Call(name, self.scopes[-1].path, arguments, named, [], line_of_python())
            self.scopes[-1].members.append(call)
        elif (
            len(found) == 1 and arguments and isinstance(arguments[0], Owned) and not any(values_in((arguments, named)))
        ):
            if (owned := derived(name, arguments[0], found[0])) is not None:
                self.kept.append(found[0])
                self.owned[id(found[0])] = owned
            else:
                self.derive(name, arguments, found, again=partial(again, func, arguments, named, 0, self.buffers))
        elif name in ("__set__", "__setitem__"):
            self.constants.pop(id(args[0]), None)
        elif found and any(values_in((arguments, named))) and name not in MAKING:
            call = Call(name, self.scopes[-1].path, arguments, named, [], line_of_python())
            call.results = [self.bind(tensor) for tensor in found]
            self.scopes[-1].members.append(call)
        else:
            self.derive(name, arguments, found, again=partial(again, func, arguments, named, 0, self.buffers))
            self.keep(func, arguments, named, found)
        return result

    def keep(self, func: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], found: list[torch.Tensor]) -> None:
        """Notes tensors that are computed from numbers alone, so that they can be computed again."""
        for number, tensor in enumerate(found):
            if id(tensor) not in self.owned and id(tensor) not in self.derived:
                self.kept.append(tensor)
                self.constants[id(tensor)] = Constant(partial(again, func, arguments, named, number, self.buffers))

    def clear(self, tensor: torch.Tensor, part: Derived) -> None:
        """Notes that a part of a copy of a parameter becomes 0."""
        whole = next((one for one in self.kept if one is tensor._base), None)
        owned = self.owned.get(id(whole))
        index = part.arguments[1] if part.name == "__getitem__" else None
        if owned is not None and len(owned.shape) == 1 and isinstance(index, slice):
            start, stop, _ = index.indices(owned.shape[0])
            self.owned[id(whole)] = Owned(owned.key, owned.shape, owned.stored, (start, stop))
        elif owned is not None:
            del self.owned[id(whole)]

    def path(self, module: nn.Module) -> str:
        """The name of a module: of several, one below the module that calls it first."""
        if id(module) not in self.paths:
            around = f"{self.scopes[-1].path}." if self.scopes and self.scopes[-1].path else ""
            names = self.names[id(module)]
            self.paths[id(module)] = next((name for name in names if name.startswith(around)), names[0])
        return self.paths[id(module)]

    def derive(
        self,
        name: str,
        arguments: tuple[Any, ...],
        found: Sequence[torch.Tensor],
        module: nn.Module | None = None,
        again: Callable[[], torch.Tensor] | None = None,
    ) -> None:
        """Notes a tensor that is computed from parameters alone; `again` computes its numbers."""
        known = module is not None or any(isinstance(part, Owned | Derived) for part in flat(arguments))
        if known and len(found) == 1 and id(found[0]) not in self.owned:
            path = self.path(module) if module is not None else ""
            self.kept.append(found[0])
            self.derived[id(found[0])] = Derived(name, arguments, tuple(found[0].shape), path, module, again)

    # ------------------------------------------------------------ modules

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self.inside:
            return
        path = self.path(module)
        given = self.known((args, kwargs))
        if self.is_layer(module) and self.scopes:
            self.inside.append(Call(type(module).__name__, path, given[0], given[1], [], line_of_python(), module))
        else:
            scope = ScopeCall(path, module, line_of_python(), taken=list(values_in(given)))
            scope.others = "is called with " + kind if (kind := besides(given)) else ""
            self.entered.append(
                [(t, v, t._version) for t in tensors_in((args, kwargs)) if (v := self.values.get(id(t)))]
            )
            if self.scopes:
                self.scopes[-1].members.append(scope)
            self.scopes.append(scope)

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        if self.inside:
            if self.inside[-1].module is not module:
                return
            call = self.inside.pop()
            if not call.inputs and type(module) is nn.Identity:
                return
            if not call.inputs and call.arguments:
                self.derive(call.name, call.arguments, [*tensors_in(result)], module)
                return
            call.results = [self.bind(tensor) for tensor in tensors_in(result)]
            self.scopes[-1].members.append(call)
        elif len(self.scopes) > 1:
            scope = self.scopes.pop()
            scope.given = [v for t in tensors_in(result) if (v := self.values.get(id(t)))]
            scope.others = scope.others or ("returns " + kind if (kind := besides(self.known(result))) else "")
            for tensor, value, version in self.entered.pop():  # a dropout inside may have given the very tensor
                if tensor._version == version and all(tensor is not part for part in tensors_in(result)):
                    self.values[id(tensor)] = value

    def watch_helpers(self) -> list[tuple[dict[str, Any], str, Any]]:
        """Records calls of the helper functions of built files as one each; gives what to restore."""
        from archdsl.runtime.importing.functions import COMPOSITES, helper_functions

        undo = []
        for file in {type(part).__module__ for part in self.module.modules()}:
            namespace = vars(sys.modules[file]) if file in sys.modules else {}
            known = {n for n in COMPOSITES.keys() & namespace.keys() if namespace[n].__module__ == COMPOSITES[n]}
            for name in (helper_functions() & namespace.keys()) | known:
                undo.append((namespace, name, namespace[name]))
                namespace[name] = self.watched(name, namespace[name])
        return undo

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if self.inside:
                return function(*given, **named)
            arguments, by_name = self.known(given), self.known(named)
            made = Call(f"helper {name}", self.scopes[-1].path, arguments, by_name, [], line_of_python())
            self.inside.append(made)
            try:
                result = function(*given, **named)
            finally:
                self.inside.pop()
            made.results = [self.bind(tensor) for tensor in tensors_in(result)]
            self.scopes[-1].members.append(made)
            return result

        return call

    def run(self, inputs: Sequence[torch.Tensor], state: Mapping[str, torch.Tensor] | None) -> Recording:
        """Records a run on these inputs; `state` replaces the parameters and buffers (None: it keeps its own)."""
        taken = [self.bind(tensor) for tensor in inputs]
        for key, tensor in own_tensors(self.module) if state is None else state.items():
            self.owned.setdefault(id(tensor), Owned(key, tuple(tensor.shape), tuple(tensor.shape)))
        undo = self.watch_helpers()
        tables = [(table, dict(table)) for table in caches(self.module)]
        hooks = []
        for module in self.module.modules():
            hooks.append(module.register_forward_pre_hook(self.before, with_kwargs=True, prepend=True))
            hooks.append(module.register_forward_hook(self.after, with_kwargs=True))
        try:
            with torch.no_grad(), self:
                given = arranged(self.module, inputs)
                result = self.module(*given) if state is None else called_with(self.module, state, given)
        finally:
            for hook in hooks:
                hook.remove()
            for namespace, name, function in undo:
                namespace[name] = function
            for table, before in tables:
                table.clear()
                table.update(before)
        return Recording(self.scopes[0], taken, input_names(self.module, len(inputs)), self.named(result))

    def named(self, result: object) -> list[tuple[str, Value]]:
        """The outputs with the names of their fields or keys, else their numbers."""
        if isinstance(result, torch.Tensor):
            pairs: list[tuple[str, object]] = [("0", result)]
        elif isinstance(result, Mapping):
            pairs = [(str(key), part) for key, part in result.items()]
        elif isinstance(result, tuple) and hasattr(result, "_fields"):
            pairs = [*zip(result._fields, result, strict=True)]
        elif isinstance(result, tuple | list):
            pairs = [(str(i), part) for i, part in enumerate(result)]
        elif is_dataclass(result):
            pairs = [(field.name, getattr(result, field.name)) for field in fields(result)]
        else:
            raise ImportRefused(f"it returns an object of type {type(result).__name__}, not tensors")
        found = []
        for name, part in nested(pairs):
            if part is None:
                continue
            value = self.values.get(id(part)) if isinstance(part, torch.Tensor) else None
            if value is None:
                raise ImportRefused(f"its output {name} is not a tensor computed from its input")
            found.append((name, value))
        return found


Numbers: TypeAlias = Mapping[str, torch.Tensor]


def again(func: Any, arguments: object, named: object, number: int, buffers: Numbers) -> torch.Tensor:
    """The result of a function of numbers, this one of several. Raises TypeError for other arguments."""
    with torch.no_grad():
        return [*tensors_in(func(*with_numbers(arguments, buffers), **with_numbers(named, buffers)))][number]


def with_numbers(given: Any, buffers: Numbers) -> Any:
    """Arguments with the numbers of constants and of buffers, on the CPU."""
    if isinstance(given, Constant | Derived) and given.made is not None:
        return given.made()
    if isinstance(given, Owned) and given.key in buffers:
        return buffers[given.key].reshape(given.shape)
    if isinstance(given, Value | Owned | Derived | Constant):
        raise TypeError("numbers that are not known")
    if isinstance(given, torch.device):
        return torch.device("cpu")
    if isinstance(given, Mapping):
        return {key: with_numbers(part, buffers) for key, part in given.items()}
    return tuple(with_numbers(part, buffers) for part in given) if isinstance(given, tuple) else given
