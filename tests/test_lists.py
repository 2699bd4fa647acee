"""Lists of tensors, as pyramids, HRNet and U-Net++ need them: against the same networks in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archdsl.backends.torch_source import Plainness
from archdsl.compiler import prove_build
from tests.helpers import graph_of
from tests.modules import inputs, module_of

FUSION = """
# Sun et al., Deep high-resolution representation learning, 2019: each stream receives all streams.
block fuse(widths) {
    it -> xs: it
    (for i, out in enumerate(widths) {
        (for j, x in enumerate(xs) {
            x -> "fuse.{i}.{j}": scope {
                if j > i { conv(out, 1, bias = false) -> batchnorm -> upsample(2 ** (j - i)) }
                for k in 0..i - j {
                    scope {
                        conv(widths[j] if k < i - j - 1 else out, 3, stride = 2, bias = false) -> batchnorm
                        if k < i - j - 1 { relu }
                    }
                }
            }
        }) -> add -> relu
    })
}
model net {
    input image[4, H = 16, W = 16]
    let widths = [4, 6, 8]
    (for i, w in enumerate(widths) { "stem{i}": conv(w, 3, 2 ** i) }) -> fused: fuse(widths)
    (for i, x in enumerate(fused) { x -> "head{i}": conv(2, 1) -> resize(fused[0].size, nearest) }) -> concat
}
"""


def fusion(of: Callable[..., Tensor], x: Tensor) -> Tensor:
    xs = [of(f"stem{i}", F.conv2d, x, stride=2**i, padding=1) for i in range(3)]
    sums = []
    for i in range(3):
        total = torch.zeros(())
        for j in range(3):
            y = xs[j]
            if j > i:
                y = of(f"fused.fuse.{i}.{j}.1", F.batch_norm, of(f"fused.fuse.{i}.{j}.0", F.conv2d, y))
                y = F.interpolate(y, scale_factor=2.0 ** (j - i))
            for k in range(i - j):
                y = of(f"fused.fuse.{i}.{j}.{k}.0", F.conv2d, y, stride=2, padding=1)
                y = of(f"fused.fuse.{i}.{j}.{k}.1", F.batch_norm, y)
                y = y.relu() if k < i - j - 1 else y
            total = total + y
        sums.append(total.relu())
    heads = [of(f"head{i}", F.conv2d, y) for i, y in enumerate(sums)]
    return torch.cat([F.interpolate(y, size=sums[0].shape[2:]) for y in heads], 1)


PYRAMID = """
# Lin et al., Feature pyramid networks for object detection, 2017; the keys are torchvision's.
block pyramid(width) {
    (for i, x in enumerate(it) { x -> "inner_blocks.{i}": scope { conv(width, 1) } }) -> inner: it
    inner[-1] -> sums: it
    for i in range(len(inner) - 2, -1, -1) {
        ((inner[i], sums[0] -> resize(inner[i].size, nearest)) -> add, sums) -> sums: it
    }
    (for i, x in enumerate(sums) { x -> "layer_blocks.{i}": scope { conv(width, 3) } })
}
model net {
    input image[4, H = 16, W = 16]
    c0: conv(4, 3) -> levels: it
    for i, width in enumerate([6, 8, 10]) {
        (levels, levels[-1] -> "c{i + 1}": conv(width, 3, stride = 2)) -> levels: it
    }
    levels -> fpn: pyramid(6)
    (for x in it { x -> resize(levels[0].size, nearest) }) -> concat
}
"""


def pyramid(of: Callable[..., Tensor], x: Tensor) -> Tensor:
    levels = [of("c0", F.conv2d, x, padding=1)]
    for i in range(1, 4):
        levels.append(of(f"c{i}", F.conv2d, levels[-1], stride=2, padding=1))
    inner = [of(f"fpn.inner_blocks.{i}.0", F.conv2d, y) for i, y in enumerate(levels)]
    last = inner[3]
    out = [of("fpn.layer_blocks.3.0", F.conv2d, last, padding=1)]
    for i in (2, 1, 0):
        last = inner[i] + F.interpolate(last, size=inner[i].shape[2:])
        out.insert(0, of(f"fpn.layer_blocks.{i}.0", F.conv2d, last, padding=1))
    return torch.cat([F.interpolate(y, size=levels[0].shape[2:]) for y in out], 1)


NESTED = """
# Zhou et al., UNet++: a nested U-Net architecture, 2018; the nodes are listed column by column.
fn at(i, j, depth) = j * (depth + 1) - j * (j - 1) / 2 + i
block unit(width) { conv(width, 3) -> relu }
model net(width = 2, depth = 3) {
    input image[4, H = 16, W = 16]
    x0_0: unit(width) -> nodes: it
    for i in 1..=depth { (nodes, nodes[-1] -> maxpool(2) -> "x{i}_0": unit(width * 2 ** i)) -> nodes: it }
    for j in 1..=depth {
        for i in 0..=depth - j {
            (
                nodes,
                (for k in 0..j { nodes[at(i, k, depth)] }, nodes[at(i + 1, j - 1, depth)] -> upsample(2))
                    -> concat -> "x{i}_{j}": unit(width * 2 ** i),
            ) -> nodes: it
        }
    }
    (for j in 1..=depth { nodes[at(0, j, depth)] -> "final{j}": conv(1, 1) }) -> mean
}
"""


def nested(of: Callable[..., Tensor], x: Tensor) -> Tensor:
    found: dict[tuple[int, int], Tensor] = {}
    for i in range(4):
        y = x if i == 0 else F.max_pool2d(found[i - 1, 0], 2)
        found[i, 0] = of(f"x{i}_0.0", F.conv2d, y, padding=1).relu()
    for j in range(1, 4):
        for i in range(4 - j):
            left = [found[i, k] for k in range(j)]
            y = torch.cat([*left, F.interpolate(found[i + 1, j - 1], scale_factor=2.0)], 1)
            found[i, j] = of(f"x{i}_{j}.0", F.conv2d, y, padding=1).relu()
    return torch.stack([of(f"final{j}", F.conv2d, found[0, j]) for j in range(1, 4)]).mean(0)


@pytest.mark.parametrize(("text", "plain"), [(FUSION, fusion), (PYRAMID, pyramid), (NESTED, nested)])
def test_it_is_the_network_of_the_paper(text: str, plain: Callable[..., Tensor]) -> None:
    graph = graph_of(text)
    built = prove_build(graph)
    assert built.plainness == Plainness.READABLE, built.refused
    model: nn.Module = module_of(built.text)[1](dtype=torch.double).eval()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = torch.rand_like(buffer) + 0.5
    (x,) = inputs(graph)
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    used: set[str] = set()

    def of(path: str, function: Callable[..., Tensor], y: Tensor, **given: int) -> Tensor:
        """A layer of PyTorch's functions with the weights at a path."""
        own = {key.removeprefix(f"{path}."): value for key, value in state.items() if key.startswith(f"{path}.")}
        assert own
        used.update(f"{path}.{name}" for name in own)
        own.pop("num_batches_tracked", None)
        return function(y, **own, **given)

    expected = plain(of, x)
    torch.testing.assert_close(model(x), expected)
    assert used == state.keys()
    weights = list(model.parameters())
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), weights) for y in (model(x), expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_the_lines_of_a_list_read_as_by_hand() -> None:
    """The nodes of U-Net++ bear the names of the paper in `forward`."""
    text = prove_build(graph_of(NESTED)).text
    assert "x0_2 = self.x0_2(torch.cat([x0_0, x0_1, self.upsample(x1_1)], 1))" in text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("(relu, tanh) -> xs: it\n(xs[0], xs[-1]) -> concat", 8),
        ("(relu, tanh, elu) -> xs: it\n(xs[1..3], xs[0..=0]) -> concat", 12),
        ("(for i in 0..3 { conv(1 + i, 1) }) -> concat", 6),
        ("(relu, repeat 2 { conv(1, 1) }, if true { tanh } else { elu }, if false { elu }) -> concat", 10),
        ("(relu, tanh) -> xs: it\n(for x, w in zip(xs, [1, 2]) { x -> conv(w * len(xs), 1) }) -> concat", 6),
        ("for i in 0..3 { relu -> y: it\n (y, it -> conv(1, 1)) -> concat }", 7),
        ("{ it -> xs: it\n (xs, xs[0] -> conv(2, 1)) -> xs: it\n xs -> concat }", 6),
        ("(for w in [2, 3] { (for v in [1, 2] { conv(w * v, 1) }) }) -> xs: it\n xs -> concat", 15),
        ("(relu, conv(2, 1)) -> xs: it\n xs -> concat -> conv(xs[1].channels + len(it.size), 1)", 4),
    ],
)
def test_what_lists_mean(body: str, expected: int) -> None:
    graph = graph_of(f"model net {{\n    input x[4, 16, 16]\n    {body}\n}}\n")
    assert graph.shape(graph.outputs[0].tensor)[0] == expected
    assert prove_build(graph).plainness == Plainness.READABLE


def test_a_name_given_twice_is_warned_of_unless_it_is_renewed() -> None:
    twice = graph_of("model net {\n    input x[4, 8, 8]\n    relu -> y: it\n    (x, y) -> add\n    tanh -> y: it\n}\n")
    renewed = graph_of("model net {\n    input x[4, 8, 8]\n    relu -> y: it\n    (y, x) -> add -> y: it\n}\n")
    assert [w.code for w in twice.warnings] == ["W0606"]
    assert not renewed.warnings
