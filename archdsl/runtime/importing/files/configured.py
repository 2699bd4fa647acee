"""Networks that a configuration lists: what YAML and .cfg files have in common. They have no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from archdsl.common.escaping import visible
from archdsl.runtime.importing.files.program import Program, Ref, Scope
from archdsl.runtime.refusal import ImportRefused

MOST_TEXT = 1024 * 1024
"""The most bytes of a configuration."""
MOST_CHANNELS = 1 << 20

ACTIVATIONS: Mapping[str, Callable[..., Any] | None] = {
    "linear": None,
    "identity": None,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky": partial(F.leaky_relu, negative_slope=0.1),
    "leakyrelu": partial(F.leaky_relu, negative_slope=0.1),
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "elu": F.elu,
    "selu": F.selu,
    "hardswish": F.hardswish,
    "logistic": F.sigmoid,
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
}
"""Activations by their name in a configuration."""


def text_of(path: Path) -> str:
    """The text of a configuration. Raises ImportRefused."""
    if path.stat().st_size > MOST_TEXT:
        raise ImportRefused(f"{visible(path.name)} is larger than {MOST_TEXT:,} bytes, so it is no configuration")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ImportRefused(f"{visible(path.name)} is not text in UTF-8") from None


class Builder:
    """Adds layers to a program, each within the modules of `scopes`; a value is the name of a tensor."""

    def __init__(self, file: str, size: tuple[int, ...]) -> None:
        self.program = Program(file)
        self.program.take("image", (2, *size))
        self.scopes: tuple[Scope, ...] = ()
        self.place = ""
        self.activation = "silu"
        """The value for modules that do not give theirs."""

    def within(self, name: str, kind: str = "", *, plain: bool = False) -> Builder:
        """The same builder inside of a module: `kind` is its class."""
        inner = copy(self)
        inner.scopes = (*self.scopes, Scope(self.path(name), kind, plain))
        return inner

    def held(self, name: str, kind: str) -> Builder:
        """The builder of a module in a list of modules, which is not called itself."""
        inner = self.within(name, kind)
        inner.scopes = (*self.scopes[:-1], inner.scopes[-1])
        return inner

    def path(self, name: str) -> str:
        return f"{self.scopes[-1].path}.{name}" if self.scopes else name

    def name(self) -> str:
        return f"v{len(self.program.values)}"

    def channels(self, value: str) -> int:
        return int(self.program.values[value].shape[1])

    def layer(self, name: str, make: Callable[[], nn.Module], value: str) -> str:
        """A layer with weights."""
        result = self.name()
        self.program.layer(self.path(name), make, {}, [Ref(value)], [result], self.scopes, self.place)
        return result

    def function(self, run: Callable[..., Any], *values: object) -> str:
        """A function of tensors by name, or of a list of them."""
        result = self.name()
        takes = [Ref(v) if isinstance(v, str) else v for v in values]
        self.program.add(run, takes, [result], self.scopes, self.place)
        return result

    def functions(self, run: Callable[..., Any], value: str, count: int) -> list[str]:
        """A function with several results."""
        start = len(self.program.values)
        results = [f"v{start + i}" for i in range(count)]
        self.program.add(run, [Ref(value)], results, self.scopes, self.place)
        return results

    def concat(self, values: Sequence[str]) -> str:
        if len(values) == 1:
            return values[0]
        return self.function(partial(torch.cat, dim=1), [Ref(value) for value in values])

    def act(self, name: str, value: str) -> str:
        """An activation by its name in the file. Raises ImportRefused."""
        plain = name.lower()
        if plain not in ACTIVATIONS:
            raise self.refused(f"the activation {visible(name)!r} is not known")
        function = ACTIVATIONS[plain]
        return value if function is None else self.function(function, value)

    def refused(self, reason: str) -> ImportRefused:
        return ImportRefused(reason, "", self.place)
