"""A module with other tensors in the place of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def own_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters and buffers of a module by their first keys, each attribute of a module within once.

    A module that is there under two names would not get its tensors back from `functional_call` otherwise.
    """
    for path, part in module.named_modules():
        for name, tensor in [*part._parameters.items(), *part._buffers.items()]:
            if tensor is not None:
                yield f"{path}.{name}" if path else name, tensor


def called_with(module: nn.Module, state: Mapping[str, torch.Tensor], inputs: tuple[Any, ...] | list[Any]) -> object:
    """What a module gives with these tensors in the place of its own."""
    from torch.func import functional_call

    return functional_call(module, dict(state), tuple(inputs), tie_weights=False)
