"""No accepted pooling has a window of padding alone: for it, PyTorch writes outside the tensor in its backward pass."""

import pytest
import torch

from archdsl import check
from archdsl.diagnostics import SpecError
from archdsl.ops.windows import smallest_covered
from archdsl.runtime.loading import instantiate
from tests.helpers import source_of


def smallest(kernel: int, stride: int, dilation: int, pad: int, ceil: bool) -> int:
    """One more than the largest size with a window of padding alone, by trying every window."""
    worst = 0
    for size in range(1, 40):
        room = size + 2 * pad - dilation * (kernel - 1) - 1
        count = (-(-room // stride) if ceil else room // stride) + 1
        count -= ceil and (count - 1) * stride >= size + pad
        starts = [-pad + i * stride for i in range(max(count, 0))]
        if any(not any(0 <= start + dilation * j < size for j in range(kernel)) for start in starts):
            worst = size
    return worst + 1


@pytest.mark.parametrize("kernel", range(1, 6))
def test_the_smallest_size_is_exact(kernel: int) -> None:
    for stride in range(1, 5):
        for dilation in range(1, 7):
            for pad in range(kernel // 2 + 1):
                for ceil in (False, True):
                    numbers = (kernel, stride, dilation, pad, ceil)
                    assert smallest_covered(*numbers) == smallest(*numbers), numbers


def test_a_window_of_padding_alone_is_refused() -> None:
    net = "model net {{\n input x[2, {}]\n maxpool(2, dilation = 2, pad = 1, stride = 2)\n}}\n"
    with pytest.raises(SpecError, match="contains only padding"):
        check(source_of(net.format("1, 1")))
    graph = check(source_of(net.format("H, W")))
    assert "any from 2" in graph.valid
    x = torch.randn(1, 2, 2, 2, requires_grad=True)
    instantiate(graph)(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
