"""Runs a module on tensors without data, and records its calls of layers and functions, by scope.

A scope is a call of a module that is not a layer. All values are tensors that flow: each call of a layer or function
takes some and gives new ones; one that works in place gives a new value, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from archdsl.runtime.importing.refusal import ImportRefused

_NOT_SHOWN = tuple(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__))
"""The folders whose lines are not the user's."""


@dataclass(slots=True, eq=False)
class Value:
    """A tensor that flows. `shapes` are its sizes with the batch, one for each recorded run."""

    shapes: list[tuple[int, ...]]
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Owned:
    """A parameter or buffer of the module as an argument of a function: its key."""

    key: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that comes from no input and is no parameter, as an argument of a function."""


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

    @property
    def inputs(self) -> list[Value]:
        """The values that it takes, in order."""
        return [*values_in(self.arguments), *values_in(tuple(self.named.values()))]


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


@dataclass(slots=True, eq=False)
class Recording:
    """The calls of one run. `outputs` are by name, or by position as text."""

    root: ScopeCall
    inputs: list[Value]
    input_names: list[str]
    outputs: list[tuple[str, Value]]


def values_in(given: object) -> Iterator[Value]:
    """The values in arguments, in order, also within lists and dicts."""
    if isinstance(given, Value):
        yield given
    elif isinstance(given, Mapping):
        for part in given.values():
            yield from values_in(part)
    elif isinstance(given, tuple | list):
        for part in given:
            yield from values_in(part)


def tensors_in(found: object) -> Iterator[torch.Tensor]:
    """The tensors in a result, in order."""
    if isinstance(found, torch.Tensor):
        yield found
    elif isinstance(found, Mapping):
        for part in found.values():
            yield from tensors_in(part)
    elif isinstance(found, tuple | list):
        for part in found:
            yield from tensors_in(part)


REPEATED = frozenset({"expand", "expand_as", "repeat", "to", "contiguous", "clone", "type_as"})
"""Methods that give a parameter once for each sample, or as it is."""


class Recorder(TorchFunctionMode):  # type: ignore[misc]
    """Records one run of a module."""

    def __init__(self, module: nn.Module, is_layer: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.module, self.is_layer = module, is_layer
        self.paths: dict[int, str] = {}
        for name, part in module.named_modules():
            self.paths.setdefault(id(part), name)
        self.owned: dict[int, Owned] = {}
        self.values: dict[int, Value] = {}
        self.kept: list[torch.Tensor] = []
        self.scopes: list[ScopeCall] = []
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
            found = self.values.get(id(given)) or self.owned.get(id(given))
            return Constant() if found is None else found
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
        result = func(*args, **kwargs)
        found = list(tensors_in(result))
        if name == "__set__" or (name == "__setitem__" and any(values_in((arguments, named)))):
            path = self.scopes[-1].path if self.scopes else ""
            raise ImportRefused(f"`{name}` changes a part of a tensor", path, line_of_python())
        if len(found) == 1 and arguments and isinstance(arguments[0], Owned) and not any(values_in((arguments, named))):
            if name in REPEATED and found[0].shape[1:] == arguments[0].shape[1:]:
                self.kept.append(found[0])
                self.owned[id(found[0])] = arguments[0]
        elif found and any(values_in((arguments, named))):
            call = Call(name, self.scopes[-1].path, arguments, named, [], line_of_python())
            call.results = [self.bind(tensor) for tensor in found]
            self.scopes[-1].members.append(call)
        return result

    # ------------------------------------------------------------ modules

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self.inside:
            return
        path = self.paths[id(module)]
        given = self.known((args, kwargs))
        if self.is_layer(module) and self.scopes:
            self.inside.append(Call(type(module).__name__, path, given[0], given[1], [], line_of_python(), module))
        else:
            scope = ScopeCall(path, module, line_of_python(), taken=list(values_in(given)))
            if self.scopes:
                self.scopes[-1].members.append(scope)
            self.scopes.append(scope)

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        if self.inside:
            if self.inside[-1].module is not module:
                return
            call = self.inside.pop()
            call.results = [self.bind(tensor) for tensor in tensors_in(result)]
            self.scopes[-1].members.append(call)
        elif len(self.scopes) > 1:
            self.scopes.pop().given = [v for t in tensors_in(result) if (v := self.values.get(id(t)))]

    def watch_helpers(self) -> list[tuple[dict[str, Any], str, Any]]:
        """Records calls of the helper functions of built files as one each; gives what to restore."""
        from archdsl.runtime.importing.functions import helper_functions

        undo = []
        for file in {type(part).__module__ for part in self.module.modules()}:
            namespace = vars(sys.modules[file]) if file in sys.modules else {}
            for name in helper_functions() & namespace.keys():
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
        from torch.func import functional_call

        taken = [self.bind(tensor) for tensor in inputs]
        own = [*self.module.named_parameters(), *self.module.named_buffers()] if state is None else [*state.items()]
        for key, tensor in own:
            self.owned[id(tensor)] = Owned(key, tuple(tensor.shape))
        undo = self.watch_helpers()
        hooks = []
        for module in self.module.modules():
            hooks.append(module.register_forward_pre_hook(self.before, with_kwargs=True, prepend=True))
            hooks.append(module.register_forward_hook(self.after, with_kwargs=True))
        try:
            with torch.no_grad(), self:
                result = (
                    self.module(*inputs) if state is None else functional_call(self.module, dict(state), tuple(inputs))
                )
        finally:
            for hook in hooks:
                hook.remove()
            for namespace, name, function in undo:
                namespace[name] = function
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
        else:
            raise ImportRefused(f"it returns an object of type {type(result).__name__}, not tensors")
        found = []
        for name, part in pairs:
            if part is None:
                continue
            value = self.values.get(id(part)) if isinstance(part, torch.Tensor) else None
            if value is None:
                raise ImportRefused(f"its output {name} is not a tensor computed from its input")
            found.append((name, value))
        return found


def input_names(module: nn.Module, count: int) -> list[str]:
    """The names of the arguments of `forward`."""
    import inspect

    names = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    names = ["x" if name == "input" else name for name in names[:count]]
    return [*names, *(f"x{i}" for i in range(len(names), count))]


_place: ContextVar[str] = ContextVar("place", default="")


@contextmanager
def working_at(place: str) -> Iterator[None]:
    """Calls in the context come from this place, such as a node of a file, and not from a line of Python."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def line_of_python() -> str:
    """The innermost line outside of torch and this package that runs now, or the place of `working_at`."""
    if place := _place.get():
        return place
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_NOT_SHOWN):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def record(
    module: nn.Module, sizes: Sequence[tuple[int, ...]], batch: int, is_layer: Callable[[nn.Module], bool]
) -> Recording:
    """The calls of a run on inputs of these sizes, without the batch.

    First on tensors without data; where the module makes tensors of its own that have some, on random ones.
    """
    state = {
        key: torch.empty_like(tensor, device="meta")
        for key, tensor in [*module.named_parameters(), *module.named_buffers()]
    }
    try:
        with torch.device("meta"):
            empty = [torch.empty(batch, *size) for size in sizes]
            return Recorder(module, is_layer).run(empty, state)
    except ImportRefused:
        raise
    except Exception:
        if module.training:
            raise
    real = [torch.randn(batch, *size) for size in sizes]
    return Recorder(module, is_layer).run(real, None)


def combine(first: Recording, second: Recording) -> None:
    """Adds the sizes and arguments of a second run to those of the first. Raises ImportRefused if its calls differ."""
    for one, two in zip(first.inputs, second.inputs, strict=True):
        one.shapes += two.shapes
    _combine(first.root, second.root)


def _combine(one: ScopeCall, two: ScopeCall) -> None:
    if len(one.members) != len(two.members):
        raise ImportRefused("its calls depend on the size of the input", one.path, one.line)
    for a, b in zip(one.members, two.members, strict=True):
        if type(a) is not type(b) or a.path != b.path:
            raise ImportRefused("its calls depend on the size of the input", one.path, a.line)
        if isinstance(a, ScopeCall) and isinstance(b, ScopeCall):
            _combine(a, b)
        elif isinstance(a, Call) and isinstance(b, Call):
            if a.name != b.name or len(a.results) != len(b.results):
                raise ImportRefused("its calls depend on the size of the input", a.path, a.line)
            a.again, a.again_named = b.arguments, b.named
            for x, y in zip(a.results, b.results, strict=True):
                x.shapes += y.shapes
