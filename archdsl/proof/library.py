"""The imports and Python builtins that a built file may use, as stand-ins for a proof."""

from __future__ import annotations

import builtins
import collections
import collections.abc
import contextlib
import functools
import math
import typing
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any

from archdsl.proof.budget import Budget
from archdsl.proof.errors import Unproved
from archdsl.proof.inference import Channels
from archdsl.proof.kornia import KORNIA
from archdsl.proof.layers import LAYERS
from archdsl.proof.modules import (
    DEVICE,
    DTYPE,
    ONES,
    ZEROS,
    Filled,
    Module,
    ModuleDict,
    ModuleList,
    Numbers,
    Parameter,
    Sequential,
    Weight,
)
from archdsl.proof.reader import Helper
from archdsl.proof.repeating import Repeatable
from archdsl.proof.terms import Key, Several, Table, Tensor, apply, frozen
from archdsl.proof.vocabulary import WORDS


def _set(owner: object, name: str, value: object) -> None:
    """Python's setattr, only for modules."""
    if not isinstance(owner, Module):
        raise Unproved("sets an attribute of something else than a module")
    setattr(owner, name, value)


BUILTINS: Mapping[str, object] = {
    **{word: getattr(builtins, word) for word in WORDS},
    "setattr": _set,
    "sum": lambda items: sum(items),  # not for lists
    "__build_class__": builtins.__build_class__,
}

STANDARD: Mapping[str, Mapping[str, object]] = {
    "collections": {"OrderedDict": collections.OrderedDict},
    "collections.abc": {
        n: getattr(collections.abc, n) for n in ("Callable", "Iterator", "Iterable", "Mapping", "Sequence")
    },
    "contextlib": {"contextmanager": contextlib.contextmanager, "nullcontext": contextlib.nullcontext},
    "functools": {"partial": functools.partial, "wraps": functools.wraps},
    "typing": {n: getattr(typing, n) for n in ("Any", "NamedTuple", "TypeAlias", "TypedDict", "Unpack")},
}
"""The imports from Python's own modules."""


@dataclass(slots=True, eq=False)
class Run:
    """A run of a text: the table, and PyTorch's answers about its state."""

    table: Table
    state: dict[str, bool] = field(default_factory=dict)
    """The answers that differ from plain training: see NORMAL."""
    asked: dict[str, bool] = field(default_factory=dict)
    """The questions of the text, in order, with the answers."""
    questions: int = 0
    """How often it asked, or ran something again: such a call does not always do the same."""
    training: bool = True
    """Whether the model trains; statistics are updated only then."""
    recomputed: list[tuple[Module, tuple[int, ...]]] = field(default_factory=list)
    """The modules whose forward runs again in the backward pass, with the terms that they take."""
    in_series: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    """Of the layers in series that do, the terms that they take and give."""
    dims: list[FreeDim] = field(default_factory=list)
    """The sizes that `dynamic_shapes` leaves dynamic."""

    def answer(self, question: str) -> bool:
        self.questions += 1
        return self.asked.setdefault(question, self.state.get(question, NORMAL[question]))


NORMAL = {"grad": True, "compiling": False, "exporting": False}
"""PyTorch's answers about its state in plain training."""


@dataclass(frozen=True, slots=True)
class FreeDim:
    """torch.export.Dim: a size from `least` on, times `factor`, plus `shift`."""

    name: str
    least: int
    factor: int = 1
    shift: int = 0

    def __mul__(self, factor: int) -> FreeDim:
        return FreeDim(self.name, self.least, self.factor * factor, self.shift * factor)

    __rmul__ = __mul__

    def __add__(self, shift: int) -> FreeDim:
        return FreeDim(self.name, self.least, self.factor, self.shift + shift)

    def __sub__(self, shift: int) -> FreeDim:
        return self + -shift


class DeviceMesh:
    """What only the function that spreads a training uses, which is compared by its text."""


class Library:
    """The modules that a text may import, for one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.budget = Budget(1_000_000 + 1_000 * len(run.table.terms))
        self.functions: dict[str, object] = {}
        """Functions of helpers, by name."""
        nn = SimpleNamespace(
            Module=Module,
            Sequential=Sequential,
            ModuleDict=ModuleDict,
            ModuleList=ModuleList,
            Parameter=Parameter,
            init=_Init(),
            functional=_Functions(run, "F"),
            **LAYERS,
        )
        self.torch = _Torch(run, "torch")
        self.torch.nn = nn
        self.modules: dict[str, object] = {
            **{name: SimpleNamespace(**members) for name, members in STANDARD.items()},
            "torch": self.torch,
            "torch.nn": nn,
            "torch.nn.functional": nn.functional,
            "torch.export": SimpleNamespace(Dim=_Dim()),
            "kornia": KORNIA,
            "kornia.augmentation": KORNIA.augmentation,
            "torch.distributed.device_mesh": SimpleNamespace(DeviceMesh=DeviceMesh),
            "torch.utils.checkpoint": SimpleNamespace(checkpoint=self.checkpoint),
        }

    def load(
        self, name: str, _globals: object = None, _locals: object = None, names: object = (), level: int = 0
    ) -> Any:
        """Python's __import__, for these modules alone."""
        if name not in self.modules or level:
            raise Unproved(f"imports {name}")
        return self.modules[name if names else name.partition(".")[0]]

    def function(self, helper: Helper, draws: bool = False) -> Callable[..., Tensor | Several]:
        """A function known by its name; `draws`: it may draw at random, so that two calls differ."""

        def call(*args: object, **kwargs: object) -> Tensor | Several:
            return apply(self.run.table, helper.name, helper.complete(args, kwargs), kwargs, draws)

        return call

    def maker(self, name: str, shapes: Mapping[tuple[int, ...], tuple[int, ...]]) -> Callable[..., Filled]:
        """A function that makes a buffer of numbers."""

        def make(*numbers: int, **where: object) -> Filled:
            if any(type(n) is not int for n in numbers) or numbers not in shapes or where.keys() - {"device", "dtype"}:
                raise Unproved(f"makes a buffer by {name} that the network has not got")
            placed = where.get("device") is DEVICE and where.get("dtype") is DTYPE
            return Filled(shapes[numbers], (name, numbers), placed)

        return make

    def globals(self, repeats: bool = False) -> dict[str, object]:
        """The names that a text has at first; `repeats`: it makes calls again."""
        words = {**BUILTINS, **self.budget.words(), "__import__": self.load}
        words["FORWARD__"] = partial(Repeatable, run=self.run) if repeats else _itself
        return {"__name__": "built", "__builtins__": words}

    def known(self) -> Mapping[str, object]:
        """The values of names that helpers use."""
        found = {name: thing for members in STANDARD.values() for name, thing in members.items()}
        nn = self.torch.nn
        found["DeviceMesh"] = DeviceMesh
        return found | {"torch": self.torch, "nn": nn, "F": nn.functional, "Tensor": Tensor}

    def checkpoint(
        self,
        function: Callable[..., Any],
        *inputs: Module | Tensor | tuple[Tensor, ...] | None,
        use_reentrant: bool,
        context_fn: Callable[[], tuple[Any, Any]] | None = None,
    ) -> Any:
        """torch.utils.checkpoint: runs its function now, and again in the backward pass on the same inputs."""
        if use_reentrant:
            raise Unproved("recomputes by the reentrant way")
        code = function.function if isinstance(function, Repeatable) else function
        if not isinstance(code, FunctionType) or set(code.__code__.co_freevars) - {"__class__"}:
            raise Unproved("recomputes a function that takes tensors from around it")
        modules = [x for x in inputs if isinstance(x, Module)]
        given = [x for some in inputs for x in (some if isinstance(some, tuple) else (some,))]
        tensors = [x for x in given if isinstance(x, Tensor)]  # what only training needs is None otherwise
        for tensor in tensors:
            tensor.read()
            tensor.storage.kept = "what is computed a second time from it"
        self.run.questions += 1
        first, again = (nullcontext(), nullcontext()) if context_fn is None else context_fn()
        table = self.run.table
        drawn = len(table.drawn)
        buffers = [(m, dict(m._buffers)) for module in modules for m in module.modules() if m._buffers]
        with first:
            result = function(*inputs)
        numbers = tuple([t.read().number for t in tensors])
        if isinstance(inputs[0], Module):
            self.run.recomputed.append((inputs[0], numbers))
        else:
            results = result if isinstance(result, tuple) else (result,)
            self.run.in_series.append((numbers, tuple([t.read().number for t in results])))
        if not self.run.state.get("compiling", False):  # under torch.compile, side effects happen once
            counts = len(self.run.recomputed), len(self.run.in_series)
            first_draws = table.rewind(drawn)  # the second run draws the same random numbers
            with again:
                function(*inputs)
            if table.drawn[drawn:] != first_draws:
                raise Unproved("draws other random numbers when it runs again")
            del self.run.recomputed[counts[0] :], self.run.in_series[counts[1] :]
        for owner, kept in buffers:
            if any(owner._buffers[name] is not buffer for name, buffer in kept.items()):
                raise Unproved("leaves the statistics of a recomputed part in copies")
        return result


def _itself(function: object) -> object:
    return function


class _Functions:
    """Functions of PyTorch by name."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name = run, name

    def __getattr__(self, name: str) -> Callable[..., Tensor | Several]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: apply(self._run.table, f"{self._name}.{name}", args, kwargs)


class _Torch(_Functions):
    """torch itself."""

    Tensor = Tensor
    nn: Any

    class device:
        pass

    class dtype:
        pass

    def is_grad_enabled(self) -> bool:
        return self._run.answer("grad")

    @property
    def compiler(self) -> object:
        return SimpleNamespace(
            is_exporting=lambda: self._run.answer("exporting"), is_compiling=lambda: self._run.answer("compiling")
        )

    def ones(self, *sizes: object, **where: object) -> Filled:
        return _filled(sizes, ONES, where)

    def empty(self, *sizes: object, **where: object) -> Filled:
        return _filled(sizes, EMPTY, where)

    def zeros(self, *sizes: object, **where: object) -> Filled:
        return _filled(sizes, ZEROS, where)

    def full(self, sizes: object, value: float, **where: object) -> Filled:
        if not isinstance(value, float):
            raise Unproved("fills a tensor with whole numbers")
        return _filled((sizes,), full(value), where)

    def sqrt(self, x: Channels) -> Channels:
        return x.map(math.sqrt)

    def rsqrt(self, x: Channels) -> Channels:
        return x.map(lambda value: 1 / math.sqrt(value))

    def zeros_like(self, x: Channels) -> Channels:
        return x.map(lambda value: 0.0)

    def tensor(self, numbers: object) -> Numbers:
        return Numbers(numbers)


EMPTY: Key = ("empty", ())
"""The state of memory that nothing has filled."""


def full(value: float) -> Key:
    """The initialisation of a weight that is filled with one number."""
    return ONES if value == 1 else ZEROS if value == 0 else ("full", value)


def _filled(sizes: tuple[object, ...], start: object, where: dict[str, object]) -> Filled:
    first = sizes[0] if len(sizes) == 1 else None
    shape: tuple[Any, ...] = tuple(first) if isinstance(first, tuple | list) else sizes
    if not all(type(n) is int for n in shape) or where.keys() - {"device", "dtype"}:
        raise Unproved("makes a tensor of an unknown size or kind")
    return Filled(shape, start, where.get("device") is DEVICE and where.get("dtype") is DTYPE)


class _Init:
    """nn.init: initialisation of a weight, or of a new tensor that becomes one."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        def fill(weight: object, *args: object, **kwargs: object) -> object:
            start = (name, frozen((*args, *sorted(kwargs.items())), []))
            if isinstance(weight, Filled):
                if weight.taken:
                    raise Unproved(f"fills by nn.init.{name} what is a weight already")
                return replace(weight, start=start)
            if not isinstance(weight, Weight):
                raise Unproved(f"gives nn.init.{name} something else than a weight")
            weight.starts(start)
            return weight

        return fill


class _Dim:
    """torch.export.Dim and Dim.DYNAMIC."""

    def __call__(self, name: str, *, min: int = 0) -> FreeDim:
        return FreeDim(name, min)

    def DYNAMIC(self, *, min: int = 0) -> FreeDim:
        return FreeDim("", min)
