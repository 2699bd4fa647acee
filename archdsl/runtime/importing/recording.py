"""Runs a module on tensors without data, and records its calls of layers and functions, by scope.

A scope is a call of a module that is not a layer. All values are tensors that flow: each call of a layer or function
takes some and gives new ones; one that works in place gives a new value, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from archdsl.runtime.importing.calling import called_with, own_tensors
from archdsl.runtime.importing.inputs import arranged, caches, input_names, nested
from archdsl.runtime.importing.origins import derived, parts, piece_of, zeroed, zeroed_span
from archdsl.runtime.importing.places import line_of_python
from archdsl.runtime.importing.recorded import (
    Call,
    Constant,
    Derived,
    Owned,
    Recording,
    ScopeCall,
    Value,
    besides,
    flat,
    tensors_in,
    values_in,
)
from archdsl.runtime.refusal import ImportRefused

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


def versions_of(given: object) -> dict[int, int]:
    """How often each tensor was changed in place, by its identity."""
    return {id(tensor): tensor._version for tensor in tensors_in(given)}


def of_its_own(result: Any, versions: Mapping[int, int]) -> Any:
    """A result that is not the very tensor that was given, unchanged, as a dropout's is in evaluation."""
    if isinstance(result, torch.Tensor) and versions.get(id(result)) == result._version:
        return result.view_as(result)
    return result


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
        self.batch = 0
        self.scopes: list[ScopeCall] = []
        self.entered: list[list[tuple[torch.Tensor, Value, int]]] = []
        """What each scope was called with: the tensors, their values and their versions."""
        self.inside: list[Call] = []
        """The layer that runs, whose own calls are not recorded."""
        self.versions: dict[int, int] = {}
        """The versions of the tensors that it was called with."""

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
        if name == "_set_grad_enabled" and args == (False,) and self.scopes:
            self.scopes[-1].ungraded = line_of_python()
        if name == "__get__":  # of an attribute: x.shape, x.T
            name = getattr(func.__self__, "__name__", name)
        arguments, named = self.known(args), self.known(kwargs)
        if name in DECIDING and any(values_in(arguments)):
            raise ImportRefused("it decides by the numbers of a tensor", self.scopes[-1].path, line_of_python())
        versions = versions_of((args, kwargs))
        result = func(*args, **kwargs)
        if name in UNCHANGED and result is args[0]:
            return result
        result = of_its_own(result, versions)
        found = list(tensors_in(result))
        changed = args and isinstance(args[0], torch.Tensor) and args[0]._version != versions.get(id(args[0]))
        if changed and not any(values_in((arguments, named))):
            self.overwrite(args[0], name, arguments)
            if id(args[0]) in self.derived:
                return result
        if name in ("__set__", "__setitem__") and any(values_in((arguments, named))):
            call = Call(name, self.scopes[-1].path, arguments, named, [], line_of_python())
            self.scopes[-1].members.append(call)
        elif (
            len(found) == 1 and arguments and isinstance(arguments[0], Owned) and not any(values_in((arguments, named)))
        ):
            if (owned := derived(name, arguments[0], found[0], self.batch)) is not None:
                self.kept.append(found[0])
                self.owned[id(found[0])] = owned
            else:
                self.derive(name, arguments, named, found, again=partial(again, func, arguments, named, self.buffers))
        elif name in ("__set__", "__setitem__"):
            self.constants.pop(id(args[0]), None)
        elif found and any(values_in((arguments, named))) and name not in MAKING:
            call = Call(name, self.scopes[-1].path, arguments, named, [], line_of_python())
            call.results = [self.bind(tensor) for tensor in found]
            self.scopes[-1].members.append(call)
        else:
            self.derive(name, arguments, named, found, again=partial(again, func, arguments, named, self.buffers))
            self.keep(func, arguments, named, found)
        return result

    def keep(self, func: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], found: list[torch.Tensor]) -> None:
        """Notes tensors that are computed from numbers alone, so that they can be computed again."""
        for number, tensor in enumerate(found):
            if id(tensor) not in self.owned and id(tensor) not in self.derived:
                self.kept.append(tensor)
                self.constants[id(tensor)] = Constant(partial(again, func, arguments, named, self.buffers, number))

    def overwrite(self, tensor: torch.Tensor, name: str, arguments: tuple[Any, ...]) -> None:
        """Notes what a tensor that is no value becomes in place; what it is a part of changes with it."""
        base = tensor if tensor._base is None else tensor._base
        whole = self.known(base)
        for one in (base, *(kept for kept in self.kept if kept._base is base)):
            for table in (self.owned, self.derived, self.constants):
                table.pop(id(one), None)
        if not any(isinstance(part, Owned | Derived) for part in (whole, *flat(arguments))):
            return
        span = zeroed_span(tensor, base, name, arguments)
        found = zeroed(whole, span, self.from_parameters) if span is not None else None
        if found is None:
            name = name if tensor is base else "assignment"
            found = self.from_parameters(name, (whole, *arguments[1:]), tuple(base.shape))
        self.kept.append(base)
        self.derived[id(base)] = found

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
        named: Mapping[str, Any],
        found: Sequence[torch.Tensor],
        module: nn.Module | None = None,
        again: Callable[..., torch.Tensor] | None = None,
    ) -> None:
        """Notes tensors that are computed from parameters alone; `again` computes the numbers of one of them."""
        given = [*flat(arguments), *flat(tuple(named.values()))]
        if not found or (module is None and not any(isinstance(part, Owned | Derived) for part in given)):
            return
        self.kept += found
        if len(found) > 1 and isinstance(arguments[0], Owned) and (spans := parts(arguments[0], found)) is not None:
            for tensor, span in zip(found, spans, strict=True):
                self.derived[id(tensor)] = piece_of(arguments[0], span, self.from_parameters)
            return
        results = [Value([tuple(tensor.shape)], tensor.dtype) for tensor in found]
        call = self.learned(name, arguments, named, results, module)
        for number, tensor in enumerate(found):
            if id(tensor) not in self.owned:
                made = None if again is None else partial(again, number)
                self.derived[id(tensor)] = Derived(name, arguments, tuple(tensor.shape), call, number, made)

    def from_parameters(self, name: str, arguments: tuple[Any, ...], shape: tuple[int, ...]) -> Derived:
        """The one result of a function that takes parameters alone."""
        return Derived(name, arguments, shape, self.learned(name, arguments, {}, [Value([shape])]))

    def learned(
        self,
        name: str,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
        results: list[Value],
        module: nn.Module | None = None,
    ) -> Call:
        """A call on parameters alone."""
        path = self.path(module) if module is not None else self.scopes[-1].path
        places = (*((scope, len(scope.members) - (scope is not self.scopes[-1])) for scope in self.scopes),)
        call = Call(name, path, arguments, named, results, line_of_python(), module, places=places)
        self.scopes[-1].learned.append(call)
        return call

    # ------------------------------------------------------------ modules

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self.inside:
            return
        path = self.path(module)
        given = self.known((args, kwargs))
        if self.is_layer(module) and self.scopes:
            self.inside.append(Call(type(module).__name__, path, given[0], given[1], [], line_of_python(), module))
            self.versions = versions_of((args, kwargs))
        else:
            scope = ScopeCall(path, module, line_of_python(), taken=list(values_in(given)))
            scope.others = "is called with " + kind if (kind := besides(given)) else ""
            self.entered.append(
                [(t, v, t._version) for t in tensors_in((args, kwargs)) if (v := self.values.get(id(t)))]
            )
            if self.scopes:
                self.scopes[-1].members.append(scope)
            self.scopes.append(scope)

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> Any:
        """Notes a call of a module; gives what it returns, as tensors of their own."""
        if self.inside:
            if self.inside[-1].module is not module:
                return result
            if not getattr(module, "inplace", False):
                result = of_its_own(result, self.versions)
            call = self.inside.pop()
            if not call.inputs and type(module) is nn.Identity:
                return result
            if not call.inputs and call.arguments:
                self.derive(call.name, call.arguments, call.named, [*tensors_in(result)], module)
                return result
            call.results = [self.bind(tensor) for tensor in tensors_in(result)]
            self.scopes[-1].members.append(call)
        elif len(self.scopes) > 1:
            scope = self.scopes.pop()
            scope.given = [v for t in tensors_in(result) if (v := self.values.get(id(t)))]
            more = besides(self.known(result), returned=True)
            scope.others = scope.others or (f"returns {more}" if more else "")
            for tensor, value, version in self.entered.pop():  # a dropout inside may have given the very tensor
                if tensor._version == version and all(tensor is not part for part in tensors_in(result)):
                    self.values[id(tensor)] = value
        return result

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
            learned = not any(values_in((arguments, by_name)))
            made = Call(f"helper {name}", self.scopes[-1].path, arguments, by_name, [], line_of_python())
            self.inside.append(made)
            try:
                result = function(*given, **named)
            finally:
                self.inside.pop()
            if learned:
                self.derive(made.name, arguments, by_name, [*tensors_in(result)])
                return result
            made.results = [self.bind(tensor) for tensor in tensors_in(result)]
            self.scopes[-1].members.append(made)
            return result

        return call

    def run(self, inputs: Sequence[torch.Tensor], state: Mapping[str, torch.Tensor] | None) -> Recording:
        """Records a run on these inputs; `state` replaces the parameters and buffers (None: it keeps its own)."""
        taken = [self.bind(tensor) for tensor in inputs]
        self.batch = inputs[0].shape[0]
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


def again(func: Any, arguments: object, named: object, buffers: Numbers, number: int) -> torch.Tensor:
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
