"""The arguments with which modules were made: seen while they are made, or found among their attributes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias
from unittest import mock

import torch
from torch import nn

from archdsl.runtime.importing.layers import NoOperation

Made: TypeAlias = dict[int, tuple[nn.Module, Mapping[str, Any]]]
"""Modules with their constructors' arguments by name, by identity."""


@contextmanager
def watching() -> Iterator[Made]:
    """Notes the arguments of all modules that are made within."""
    made: Made = {}
    plain = nn.Module.__init__

    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if id(self) not in made and (frame := _constructor(self, sys._getframe(1))) is not None:
            made[id(self)] = (self, dict(frame.f_locals))
        plain(self, *args, **kwargs)

    with mock.patch.object(nn.Module, "__init__", init):
        yield made


def _constructor(module: nn.Module, frame: FrameType | None) -> FrameType | None:
    """The frame of the constructor of a module's own class; its base classes' run within."""
    while frame is not None:
        if frame.f_code is getattr(type(module).__init__, "__code__", None):
            return frame if frame.f_locals.get(frame.f_code.co_varnames[0]) is module else None
        frame = frame.f_back
    return None


def _parameters(function: Any) -> Mapping[str, inspect.Parameter] | None:
    """The parameters of a function; None if it has no signature."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


def wrong_arguments(function: Any, values: Mapping[str, object]) -> str:
    """Why a function cannot be called with these arguments: it needs others, or has not all of them; empty if it can.

    Nothing is said of what has no signature.
    """
    if (parameters := _parameters(function)) is None:
        return ""
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    shown = ", ".join(f"`{name}`" for name in named) or "none"
    unknown = [name for name in values if name not in named]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return f"has no argument `{unknown[0]}`; its arguments: {shown}"
    missing = [name for name, p in named.items() if p.default is p.empty and name not in values]
    if not missing:
        return ""
    needed = ", ".join(f"`{name}`" for name in missing)
    given = " ".join(f"--set {name}=VALUE" for name in missing)
    return f"needs {needed}: {given}"


def wrong_inputs(module: nn.Module, given: int) -> str:
    """What to say where a module takes more inputs than there are sizes, or fewer; empty where the number fits."""
    if (parameters := _parameters(module.forward)) is None:
        return ""
    places = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in places if p.default is p.empty]
    most = given if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) else len(places)
    if len(needed) <= given <= most:
        return ""
    shown = ", ".join(f"`{p.name}`" for p in places) or "no tensor by its position"
    return f"its forward takes {shown}: give the size of each input in order (--size, repeated), and no more"


def sayable(value: object) -> bool:
    """Whether a spec can have a value as an argument."""
    if isinstance(value, tuple | list):
        return all(map(sayable, value))
    return value is None or type(value) in (int, float, bool, str)


def arguments_of(module: nn.Module, made: Made) -> dict[str, object]:
    """The arguments that make a module like this one: those that differ from the defaults. Raises NoOperation.

    An argument that a spec cannot have, such as a class, is left out; what that makes must be alike.
    """
    cls = type(module)
    given = made[id(module)][1] if id(module) in made else vars(module)
    found: dict[str, object] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = given.get(name, parameter.default)
        if parameter.kind is parameter.POSITIONAL_ONLY or value is parameter.empty:
            raise NoOperation(f"its argument `{name}` is not known")
        if sayable(value) and not (type(value) is type(parameter.default) and value == parameter.default):
            found[name] = value
    _compare(cls, module, found)
    return found


def _compare(cls: type[nn.Module], module: nn.Module, arguments: Mapping[str, object]) -> None:
    """Raises NoOperation unless a class makes such a module of arguments."""
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    try:
        with torch.device("meta"):
            other = cls(**arguments)
    except Exception as error:
        raise NoOperation(f"{cls.__name__}({shown}) fails: {type(error).__name__}: {error}") from None
    state, mine = other.state_dict(), module.state_dict()
    if [(k, t.shape) for k, t in state.items()] != [(k, t.shape) for k, t in mine.items()]:
        raise NoOperation(f"{cls.__name__}({shown}) has other weights; arguments that are no values are left out")
    if repr(other) != repr(module):
        raise NoOperation(f"{cls.__name__}({shown}) has other layers; arguments that are no values are left out")
