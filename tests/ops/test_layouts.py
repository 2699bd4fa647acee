"""Operations accept tensors of any memory layout, and of either order of the axes where they have a form for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from archdsl.ops.base import Example, Operation, Rules
from tests.ops.forms import Built, tensors
from tests.ops.test_sweep import every_example


def layouts(x: Tensor) -> Iterator[Tensor]:
    """The same numbers with other orders of the axes in memory, and as a part of a larger tensor."""
    axes = [*range(1, x.ndim)]
    for order in (axes[::-1], axes[1:] + axes[:1], axes[:-2] + axes[-2:][::-1]):
        places = [0, *order]
        yield x.permute(places).contiguous().permute([places.index(axis) for axis in range(x.ndim)])
    yield torch.stack([x, x + 1], -1)[..., 0]


def results(module: Built, inputs: Sequence[Tensor], training: bool) -> list[Tensor]:
    """The outputs and gradients of a module."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    if not leaves:
        return [module.train(training)()]
    given = module.train(training)(*leaves)
    outputs = [given] if isinstance(given, Tensor) else list(given)  # type: ignore[call-overload]
    if not any(x.requires_grad for x in outputs):  # it takes the size alone
        return outputs
    gradients = torch.autograd.grad(outputs, leaves, [torch.ones_like(x) for x in outputs], allow_unused=True)
    return [*outputs, *(x for x in gradients if x is not None)]


@every_example
def test_gives_the_same_for_every_layout(cls: type[Operation], example: Example) -> None:
    module = Built(cls.parse(example.arguments), example.inputs)
    for training in (True, False) if cls.family != "regularisation" else (False,):  # which draws by the layout
        inputs = tensors(example.inputs)
        try:
            wanted = results(module, inputs, training)
        except ValueError:  # a batchnorm of one position does not train
            assert training
            continue
        for laid in zip(*map(layouts, inputs), strict=False):
            for ours, theirs in zip(results(module, laid, training), wanted, strict=True):
                torch.testing.assert_close(ours, theirs, equal_nan=True)


def last(x: Tensor) -> Tensor:
    """A tensor with the channels last."""
    return x.movedim(1, -1).contiguous()


@every_example
def test_gives_the_same_with_the_channels_last(cls: type[Operation], example: Example) -> None:
    operation = cls.parse(example.arguments)
    outputs = operation.infer(example.inputs, Rules())
    if operation.torch_last(example.inputs, outputs) is None:
        assert cls.layout != "last"
        return
    assert cls.layout != "first"
    first, moved = Built(operation, example.inputs), Built(operation, example.inputs, last=True)
    moved.load_state_dict(first.state_dict())
    for training in (True, False) if cls.family != "regularisation" else (False,):
        inputs = tensors(example.inputs)
        wanted = map(last, results(first, inputs, training))
        for ours, theirs in zip(results(moved, [last(x) for x in inputs], training), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, equal_nan=True)
