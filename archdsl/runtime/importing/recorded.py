"""What a recording consists of: the tensors of a run, and the calls of layers and functions, by scope."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import nn


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
    repeated: bool = False
    """Whether it is repeated for each sample along its first axis, which has size 1 in `shape`."""

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
    """A tensor that is computed from parameters alone: the result `number` of a call of a function or layer."""

    name: str
    arguments: tuple[Any, ...]
    shape: tuple[int, ...]
    call: Call
    number: int = 0
    made: Callable[[], torch.Tensor] | None = None
    """Computes its numbers, if they follow from buffers."""

    @property
    def module(self) -> nn.Module | None:
        return self.call.module

    @property
    def path(self) -> str:
        """The path of the layer; empty for a function."""
        return self.call.path if self.call.module is not None else ""

    @property
    def value(self) -> Value:
        return self.call.results[self.number]

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
    padded_to: Value | None = None
    """Of a padding up to the size of another tensor, half of the difference before each axis: that tensor."""
    is_centred: bool = False
    """Whether it pads by amounts that depend on the size of another tensor, half of them before each axis."""
    by_sizes: bool = False
    """Whether it pads by amounts that depend on its size and that of another tensor."""
    places: tuple[tuple[ScopeCall, int], ...] = ()
    """Of a call on parameters alone: the scopes that it is in, outermost first, and how many members each had."""

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
    learned: list[Call] = field(default_factory=list)
    """The calls in it that take parameters alone."""
    ungraded: str = ""
    """The line at which it turns gradients off."""
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
    if isinstance(given, Owned | Constant | Derived):
        return None
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


def besides(given: object, *, returned: bool = False) -> str:
    """What arguments or results have that is no value, of what an `extern` cannot pass on."""
    if returned and isinstance(given, int | float | str):
        return f"an object of type {type(given).__name__} beside tensors"
    if isinstance(given, Owned | Constant | Derived):
        return "a tensor that is not computed from the input"
    if isinstance(given, Value) or (parts := parts_of(given)) is None:
        return ""
    return next((found for part in parts if (found := besides(part, returned=returned))), "")


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
