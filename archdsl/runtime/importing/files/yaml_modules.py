"""The modules that rows of an Ultralytics-style YAML file name, as their papers and tables define them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch.nn.functional as F
from torch import nn

from archdsl.runtime.importing.files.configured import MOST_CHANNELS, Builder

Module: TypeAlias = Callable[..., str]


def conv(
    b: Builder, x: str, out: int, k: int = 1, s: int = 1, p: int | None = None, g: int = 1, d: int = 1, act: Any = True
) -> str:
    """Conv: convolution, batchnorm, SiLU; padding keeps the size at stride 1."""
    if not 0 < out <= MOST_CHANNELS:
        raise b.refused(f"{out} channels")
    pad = (d * (k - 1) + 1) // 2 if p is None else p
    make = partial(nn.Conv2d, b.channels(x), out, k, s, pad, dilation=d, groups=g, bias=False)
    x = b.layer("conv", make, x)
    x = b.layer("bn", partial(nn.BatchNorm2d, out, eps=1e-3, momentum=0.03), x)
    return b.act(b.activation, x) if act else x


def depthwise(b: Builder, x: str, out: int, k: int = 1, s: int = 1, d: int = 1, act: Any = True) -> str:
    """DWConv: as Conv, with a group for each channel that they have in common."""
    return conv(b, x, out, k, s, None, math.gcd(b.channels(x), out), d, act)


def bottleneck(
    b: Builder,
    x: str,
    out: int,
    shortcut: bool = True,
    g: int = 1,
    k: tuple[int, int] = (3, 3),
    e: float = 0.5,
) -> str:
    """Bottleneck: two convolutions with a skip where the channels agree."""
    y = conv(b.within("cv1", "Conv"), x, int(out * e), k[0])
    y = conv(b.within("cv2", "Conv"), y, out, k[1], g=g)
    return b.function(lambda u, v: u + v, x, y) if shortcut and b.channels(x) == out else y


def c3(b: Builder, x: str, out: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> str:
    """C3: a cross-stage partial block with three convolutions."""
    hidden = int(out * e)
    y = conv(b.within("cv1", "Conv"), x, hidden)
    inside = b.within("m", plain=True)
    for i in range(n):
        y = bottleneck(inside.within(str(i), "Bottleneck"), y, hidden, shortcut, g, (1, 3), 1.0)
    z = conv(b.within("cv2", "Conv"), x, hidden)
    return conv(b.within("cv3", "Conv"), b.concat([y, z]), out)


def c2f(b: Builder, x: str, out: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5) -> str:
    """C2f: a cross-stage partial block in which each bottleneck's result is kept."""
    hidden = int(out * e)
    y = conv(b.within("cv1", "Conv"), x, 2 * hidden)
    parts = b.functions(lambda t: t.chunk(2, 1), y, 2)
    inside = b.within("m", plain=True)
    for i in range(n):
        parts.append(bottleneck(inside.held(str(i), "Bottleneck"), parts[-1], hidden, shortcut, g, (3, 3), 1.0))
    return conv(b.within("cv2", "Conv"), b.concat(parts), out)


def sppf(b: Builder, x: str, out: int, k: int = 5) -> str:
    """SPPF: three poolings after each other, concatenated."""
    y = conv(b.within("cv1", "Conv"), x, b.channels(x) // 2)
    parts = [y]
    for _ in range(3):
        parts.append(b.function(partial(F.max_pool2d, kernel_size=k, stride=1, padding=k // 2), parts[-1]))
    return conv(b.within("cv2", "Conv"), b.concat(parts), out)


def spp(b: Builder, x: str, out: int, k: tuple[int, ...] = (5, 9, 13)) -> str:
    """SPP: poolings of several sizes, concatenated."""
    y = conv(b.within("cv1", "Conv"), x, b.channels(x) // 2)
    pooled = [b.function(partial(F.max_pool2d, kernel_size=n, stride=1, padding=n // 2), y) for n in k]
    return conv(b.within("cv2", "Conv"), b.concat([y, *pooled]), out)


def classify(b: Builder, x: str, out: int, k: int = 1, s: int = 1, p: int | None = None, g: int = 1) -> str:
    """Classify: convolution, mean over all positions, linear layer; it gives logits, as in training."""
    x = conv(b.within("conv", "Conv"), x, 1280, k, s, p, g)
    x = b.function(partial(F.adaptive_avg_pool2d, output_size=1), x)
    x = b.function(lambda t: t.flatten(1), x)
    return b.layer("linear", partial(nn.Linear, 1280, out), x)


WITH_CHANNELS: dict[str, Module] = {
    "Conv": conv,
    "DWConv": depthwise,
    "Bottleneck": bottleneck,
    "C3": c3,
    "C2f": c2f,
    "SPPF": sppf,
    "SPP": spp,
    "Classify": classify,
}
"""Modules whose first argument is the number of channels that they give."""
REPEATING = frozenset({"C3", "C2f"})
"""Modules that take the number of repeats, as their second argument."""


def upsample(b: Builder, name: str, x: str, size: Any = None, factor: Any = None, mode: str = "nearest") -> str:
    if size is not None or not isinstance(factor, int) or mode != "nearest":
        raise b.refused("nn.Upsample is read with a whole factor and mode nearest")
    return b.function(partial(F.interpolate, scale_factor=factor, mode=mode), x)


def max_pool(
    b: Builder,
    name: str,
    x: str,
    k: int,
    s: int | None = None,
    p: int = 0,
    d: int = 1,
    _: bool = False,
    c: bool = False,
) -> str:
    return b.function(partial(F.max_pool2d, kernel_size=k, stride=s, padding=p, dilation=d, ceil_mode=c), x)


def average_pool(b: Builder, name: str, x: str, k: int, s: int | None = None, p: int = 0) -> str:
    return b.function(partial(F.avg_pool2d, kernel_size=k, stride=s, padding=p), x)


def zero_pad(b: Builder, name: str, x: str, pads: Any) -> str:
    return b.function(partial(F.pad, pad=[pads] * 4 if isinstance(pads, int) else list(pads)), x)


def plain_conv(
    b: Builder, x: str, out: int, k: int, s: int = 1, p: int = 0, d: int = 1, g: int = 1, bias: bool = True
) -> str:
    make = partial(nn.Conv2d, b.channels(x), out, k, s, p, dilation=d, groups=g, bias=bias)
    return b.layer("conv", make, x)


def upconv(
    b: Builder, x: str, out: int, k: int, s: int = 1, p: int = 0, o: int = 0, g: int = 1, bias: bool = True
) -> str:
    return b.layer("conv", partial(nn.ConvTranspose2d, b.channels(x), out, k, s, p, o, g, bias), x)


def batchnorm(b: Builder, name: str, x: str, *_: Any) -> str:
    return b.layer(name, partial(nn.BatchNorm2d, b.channels(x)), x)


PLAIN: dict[str, Module] = {
    "nn.Upsample": upsample,
    "nn.MaxPool2d": max_pool,
    "nn.AvgPool2d": average_pool,
    "nn.ZeroPad2d": zero_pad,
    "nn.BatchNorm2d": batchnorm,
    "nn.Identity": lambda b, name, x: x,
    "nn.ReLU": lambda b, name, x, *_: b.function(F.relu, x),
    "nn.SiLU": lambda b, name, x, *_: b.function(F.silu, x),
}
"""Layers of torch.nn whose arguments are as in the file: each is called with its name."""
WITH_CHANNELS |= {"nn.Conv2d": plain_conv, "nn.ConvTranspose2d": upconv}
