"""The arguments of a module's `forward`, and what a module keeps and returns, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn


def caches(module: nn.Module) -> Iterator[dict[Any, Any]]:
    """The dicts in which modules keep what they compute, such as biases by device."""
    for part in module.modules():
        for name, value in vars(part).items():
            if type(value) is dict and not name.startswith("_"):
                yield value


def nested(pairs: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    """Outputs by name, those in lists by name and number."""
    for name, part in pairs:
        if isinstance(part, tuple | list):
            yield from nested((f"{name}_{i}", one) for i, one in enumerate(part))
        else:
            yield name, part


def arranged(module: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[Any, ...]:
    """The arguments of `forward`: the inputs, or one list of them if it takes a list alone."""
    import inspect

    parameters = [*inspect.signature(module.forward).parameters.values()]
    first = str(parameters[0].annotation) if parameters else ""
    is_list = first.lower().startswith(("list[", "typing.list[", "<class 'list'>", "sequence["))
    takes_one = len(parameters) == 1 and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL
    return ([*inputs],) if takes_one and (is_list or len(inputs) > 1) else tuple(inputs)


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
