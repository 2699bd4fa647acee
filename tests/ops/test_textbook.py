"""The operations compared with textbook formulas, computed with scipy and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch

from archdsl.ops import OPERATIONS
from tests.ops.forms import Built

PADS = ["valid", "same", "full"]


def nested(values: np.ndarray) -> list[object]:
    return values.tolist()


def apply(name: str, x: np.ndarray, **arguments: object) -> np.ndarray:
    """The operation applied to [N, C, …] in double precision."""
    module = Built(OPERATIONS[name].parse(arguments), (x.shape[1:],), dtype=torch.float64).eval()
    with torch.no_grad():
        result = module(torch.from_numpy(x))
    assert isinstance(result, torch.Tensor)
    return result.numpy()


def toeplitz(kernel: np.ndarray, n: int, pad: str) -> np.ndarray:
    """The matrix whose product with a signal of length n is its convolution with an odd kernel."""
    full = scipy.linalg.toeplitz(np.r_[kernel, np.zeros(n - 1)], np.r_[kernel[0], np.zeros(n - 1)])
    cut = {"full": 0, "same": (len(kernel) - 1) // 2, "valid": len(kernel) - 1}[pad]
    return full[cut : len(full) - cut]


@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize(("n", "k"), [(9, 3), (12, 5), (7, 1), (7, 7)])
def test_flipped_convolution_is_the_toeplitz_product(n: int, k: int, pad: str) -> None:
    random = np.random.default_rng(n * k)
    signal, kernel = random.normal(size=n), random.normal(size=k)
    found = apply("conv", signal[None, None], out=1, weight=nested(kernel), pad=pad, bias=False, flip=True)
    np.testing.assert_allclose(found[0, 0], toeplitz(kernel, n, pad) @ signal, atol=1e-12)


@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize(
    ("size", "kernel"),
    [((8, 9), (3, 3)), ((6, 7), (1, 5)), ((5, 6, 7), (3, 3, 3)), ((4, 7, 5), (3, 1, 5)), ((9,), (3,))],
)
@pytest.mark.parametrize("flip", [True, False])
def test_convolution_is_scipys(size: tuple[int, ...], kernel: tuple[int, ...], pad: str, flip: bool) -> None:
    random = np.random.default_rng(sum(size))
    image, weight = random.normal(size=size), random.normal(size=kernel)
    found = apply("conv", image[None, None], out=1, weight=nested(weight), pad=pad, bias=False, flip=flip)
    function = scipy.signal.convolve if flip else scipy.signal.correlate
    np.testing.assert_allclose(found[0, 0], function(image, weight, mode=pad, method="direct"), atol=1e-12)


@pytest.mark.parametrize("mode", ["replicate", "reflect", "circular"])
def test_boundary_values_are_numpys(mode: str) -> None:
    image = np.random.default_rng(1).normal(size=(6, 7))
    weight = np.random.default_rng(2).normal(size=(3, 5))
    word = {"replicate": "edge", "reflect": "reflect", "circular": "wrap"}[mode]
    padded = np.pad(image, ((1, 1), (2, 2)), mode=word)
    found = apply("conv", image[None, None], out=1, weight=nested(weight), pad_mode=mode, bias=False)
    np.testing.assert_allclose(found[0, 0], scipy.signal.correlate(padded, weight, mode="valid"), atol=1e-12)
    np.testing.assert_allclose(apply("pad", image[None, None], n=(1, 2), mode=mode)[0, 0], padded)


def test_a_fixed_kernel_serves_every_pair_of_channels_or_every_channel() -> None:
    image = np.random.default_rng(3).normal(size=(2, 3, 5, 6))
    weight = [[1.0, -1.0]]
    edges = image[:, :, :, :-1] - image[:, :, :, 1:]
    alone = apply("conv", image, out=3, weight=weight, pad="valid", bias=False, groups=3, trainable=False)
    np.testing.assert_allclose(alone, edges, atol=1e-12)
    pairs = apply("conv", image, out=2, weight=weight, pad="valid", bias=False)
    np.testing.assert_allclose(pairs, np.repeat(edges.sum(1, keepdims=True), 2, 1), atol=1e-12)


@pytest.mark.parametrize(("n", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (9, 4, 3), (5, 2, 2), (6, 5, 1), (7, 2, 5)])
def test_same_upper_pads_behind(n: int, kernel: int, stride: int) -> None:
    """TensorFlow's rule: ⌈n / stride⌉ outputs, the odd padding element at the end."""
    x = np.random.default_rng(n).normal(size=n)
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    pads = (total // 2, total - total // 2)

    def windows(values: np.ndarray) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(values, kernel)[::stride]

    weight = np.arange(1.0, kernel + 1)
    given = {"kernel": kernel, "stride": stride, "pad": "same_upper"}
    zeros = windows(np.pad(x, pads))
    lowest = windows(np.pad(x, pads, constant_values=-np.inf))
    counts = windows(np.pad(np.ones(n), pads)).sum(1)
    conv = apply("conv", x[None, None], out=1, weight=nested(weight), bias=False, **given)
    np.testing.assert_allclose(conv[0, 0], zeros @ weight, atol=1e-12)
    np.testing.assert_allclose(apply("maxpool", x[None, None], **given)[0, 0], lowest.max(1))
    np.testing.assert_allclose(apply("avgpool", x[None, None], **given)[0, 0], zeros.mean(1))
    real = apply("avgpool", x[None, None], **given, count_pad=False)
    np.testing.assert_allclose(real[0, 0], zeros.sum(1) / counts)


@pytest.mark.parametrize("size", [(4,), (4, 9), (4, 5, 6), (4, 2, 3, 4)])
def test_batchnorm_is_its_formula(size: tuple[int, ...]) -> None:
    x = np.random.default_rng(5).normal(3, 2, size=(8, *size))
    module = Built(OPERATIONS["batchnorm"].parse({"eps": 1e-3, "momentum": 0.3}), (size,)).double()
    weight, bias = torch.linspace(1, 2, 4).double(), torch.linspace(-1, 1, 4).double()
    with torch.no_grad():
        module.op.weight.copy_(weight)  # type: ignore[union-attr, operator]
        module.op.bias.copy_(bias)  # type: ignore[union-attr, operator]
        trained = module(torch.from_numpy(x))
        after = module.eval()(torch.from_numpy(x))

    axes = (0, *range(2, x.ndim))
    column = (1, -1, *(1,) * (x.ndim - 2))
    mean, variance = x.mean(axes), x.var(axes)
    w, b = weight.numpy().reshape(column), bias.numpy().reshape(column)

    def formula(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        return (x - mean.reshape(column)) / np.sqrt(variance.reshape(column) + 1e-3) * w + b

    np.testing.assert_allclose(trained, formula(mean, variance), atol=1e-10)
    count = x.size // 4
    np.testing.assert_allclose(after, formula(0.3 * mean, 0.7 + 0.3 * variance * count / (count - 1)), atol=1e-10)


def test_layernorm_is_over_the_channels() -> None:
    x = np.random.default_rng(6).normal(3, 2, size=(2, 5, 4, 3))
    wanted = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(apply("layernorm", x), wanted, atol=1e-10)


def test_droppath_zeroes_whole_samples_and_keeps_the_mean() -> None:
    module = Built(OPERATIONS["droppath"].parse({"p": 0.25}), ((3, 4),))
    torch.manual_seed(0)
    trained = module(torch.ones(4000, 3, 4))
    assert isinstance(trained, torch.Tensor)
    assert ((trained == 0) | torch.isclose(trained, torch.tensor(4 / 3))).all()
    assert (trained == trained[:, :1, :1]).all()
    assert 0.72 < (trained[:, 0, 0] != 0).double().mean() < 0.78
    assert (module.eval()(torch.ones(4, 3, 4)) == 1).all()  # type: ignore[attr-defined]


def test_align_is_centred() -> None:
    large, small = torch.arange(7.0).expand(1, 1, 7), torch.arange(4.0).expand(1, 1, 4)
    shapes = ((1, 7), (1, 4))
    crop = Built(OPERATIONS["align"].parse({}), shapes)(large, small)
    assert crop[0].tolist() == [[[1, 2, 3, 4]]] and crop[1].tolist() == [[[0, 1, 2, 3]]]  # type: ignore[index]
    pad = Built(OPERATIONS["align"].parse({"mode": "pad"}), shapes)(large, small)
    assert pad[0] is large or pad[0].tolist() == large.tolist()  # type: ignore[index]
    assert pad[1].tolist() == [[[0, 0, 1, 2, 3, 0, 0]]]  # type: ignore[index]


@pytest.mark.parametrize("r", [2, 3])
def test_pixel_shuffle_of_other_ranks_is_the_2d_ones(r: int) -> None:
    """PyTorch's own 2-d shuffle of a tensor with an additional axis of size 1 gives the 1-d and 3-d results."""
    x = np.random.default_rng(7).normal(size=(2, 3 * r**3, 2, 4, 5))
    shuffled = apply("pixel_shuffle", x, r=r)
    # By hand: channel (c, i, j, k) at (d, h, w) goes to c at (d·r + i, h·r + j, w·r + k).
    wanted = np.zeros_like(shuffled)
    for i in range(r):
        for j in range(r):
            for k in range(r):
                wanted[:, :, i::r, j::r, k::r] = x.reshape(2, 3, r, r, r, 2, 4, 5)[:, :, i, j, k]
    np.testing.assert_array_equal(shuffled, wanted)
    np.testing.assert_array_equal(apply("pixel_unshuffle", shuffled, r=r), x)
    line = x[:, : 2 * r, 0, 0]
    np.testing.assert_array_equal(apply("pixel_unshuffle", apply("pixel_shuffle", line, r=r), r=r), line)
