"""Operations that published networks need, compared with their formulas, number by number."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import nn

from archdsl.ops import OPERATIONS
from tests.ops.forms import Built


def given(name: str, x: torch.Tensor, **arguments: object) -> torch.Tensor:
    """What an operation gives for a batch, with the channels first and, moved there and back, last."""
    operation = OPERATIONS[name].parse(arguments)
    shapes = (tuple(x.shape[1:]),)
    first, last = (
        Built(operation, shapes, dtype=x.dtype, last=last)(x.movedim(1, -1) if last else x) for last in (False, True)
    )
    torch.testing.assert_close(last.movedim(-1, 1), first)
    return first


def test_rotary_turns_pairs_of_channels() -> None:
    x = torch.randn(1, 16, 3, 4, dtype=torch.float64)
    for pairs in ("neighbours", "halves"):
        found = given("rotary", x, heads=2, temperature=100.0, pairs=pairs)
        for head, y, z, angle in product(range(2), range(3), range(4), range(4)):
            a, b = (2 * angle, 2 * angle + 1) if pairs == "neighbours" else (angle, angle + 4)
            phi = (y, z)[angle // 2] * 100.0 ** (-(angle % 2) / 2)
            one, two = (complex(*t[0, [8 * head + a, 8 * head + b], y, z].tolist()) for t in (x, found))
            assert abs(one * complex(math.cos(phi), math.sin(phi)) - two) < 1e-6


def test_centred_positions_of_rotary_are_middles_of_equal_parts() -> None:
    x = torch.zeros(1, 2, 4, dtype=torch.float64)
    x[:, 0] = 1
    found = given("rotary", x, heads=1, positions="centred")
    for i, part in enumerate((-0.75, -0.25, 0.25, 0.75)):
        assert torch.allclose(
            found[0, :, i], torch.tensor([math.cos(math.tau * part), math.sin(math.tau * part)]).double()
        )


def test_products_of_turned_tensors_depend_on_differences_alone() -> None:
    q, k = (torch.randn(1, 8, 1, dtype=torch.float64).expand(1, 8, 9) for _ in range(2))
    q, k = (given("rotary", x, heads=1) for x in (q, k))
    scores = (q[0].T @ k[0]).numpy()
    assert all(abs(scores[i, j] - scores[i + 1, j + 1]) < 1e-5 for i, j in product(range(8), range(8)))


def test_differences_are_on_a_logarithmic_scale() -> None:
    for scale in ("relative", "positions"):
        found = given("differences", torch.zeros(1, 1, 3, 4, dtype=torch.float64), scale=scale)
        assert found.shape == (1, 2, 5, 7)
        for i, j in product(range(5), range(7)):
            for channel, d, side in ((0, i - 2, 3), (1, j - 3, 4)):
                far = abs(d) / (side - 1) * 8 if scale == "relative" else abs(d)
                wanted = math.copysign(math.log(1 + far) / (math.log(8) if scale == "relative" else 1), d)
                assert abs(float(found[0, channel, i, j]) - wanted) < 1e-12


def test_blur_is_a_convolution_with_binomials() -> None:
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64)
    found = Built(OPERATIONS["blur"].parse({"kernel": 3, "stride": 2}), ((2, 6, 7),))(x)
    for c, i, j in product(range(2), *map(range, found.shape[2:])):
        wanted = sum(
            (1, 2, 1)[a] * (1, 2, 1)[b] / 16 * float(x[0, c, 2 * i + a, 2 * j + b])
            for a, b in product(range(3), range(3))
        )
        assert abs(float(found[0, c, i, j]) - wanted) < 1e-12


def test_kernels_are_standardised() -> None:
    for gamma in (None, 1.7):
        operation = OPERATIONS["stdconv"].parse({"out": 4, "kernel": 3, "gamma": gamma, "eps": 1e-3})
        module = Built(operation, ((3, 5, 5),), dtype=torch.float64)
        plain = nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64)
        for kernel, own in zip(plain.weight.data, module.op.weight.data, strict=True):
            numbers = own.flatten().tolist()
            mean = sum(numbers) / 27
            variance = sum((n - mean) ** 2 for n in numbers) / 27
            scale = 1.0 if gamma is None else gamma / math.sqrt(27)
            kernel.copy_((own - mean) / math.sqrt(variance + 1e-3) * scale)
        plain.bias.data.copy_(module.op.bias.data)
        x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
        torch.testing.assert_close(module(x), plain(x))
