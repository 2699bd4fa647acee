"""Where a recomputation stops that ends with an operation: before its result, if all that is saved is there by then."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from archdsl.ops import OPERATIONS
from archdsl.ops.base import Example, Operation
from tests.ops.forms import Built, tensors

CASES = [
    pytest.param(cls, example, id=f"{cls.spell(example.arguments)} of {'+'.join(str(list(s)) for s in example.inputs)}")
    for cls in OPERATIONS.values()
    if cls.saves_first
    for example in cls.examples
    if not cls.parse(example.arguments).saves(example.inputs, example.inputs, False).outputs
]


class Kernels(TorchDispatchMode):
    """Records the kernels that run, without those that only make views."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if not func.is_view and "view" not in func.name():
            self.found.append(func.name())
        return result


def backward(module: Built, example: Example, again: bool) -> tuple[list[str], list[str]]:
    """The kernels of a forward pass and of its backward pass; `again`: it is recomputed in between."""
    torch.manual_seed(1)
    given = [x.requires_grad_() for x in tensors(example.inputs)]
    with Kernels() as forth:
        result = checkpoint(module, *given, use_reentrant=False) if again else module(*given)
    with Kernels() as back:
        result.sum().backward()
    return forth.found, back.found


@pytest.mark.parametrize(("cls", "example"), CASES)
def test_does_not_compute_a_result_that_is_not_saved(cls: type[Operation], example: Example) -> None:
    module = Built(cls.parse(example.arguments), example.inputs)
    forth, plain = backward(module, example, again=False)
    _, with_again = backward(module, example, again=True)
    assert forth[-1] not in Counter(with_again) - Counter(plain)
