"""Facts of published models, and a module held against them: torchvision's, and timm's where a name begins with timm-.

A file of `tests/data/models` holds `state` (key -> shape), `parameters`, `macs` (of convolutions and matrix products at
`input`), and `probe`: what the published model gives in eval mode for a state and an input made by formula,
    value[i] of tensor KEY = frac((i + 1) * 0.6180339887498949 + crc32(KEY) / 2**32), row-major, in float64,
scaled as `fill` below says.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archdsl.checker.spec import models
from archdsl.elaborate.spec_files import library_families
from archdsl.graph import Graph

FOLDER = Path(__file__).parent / "data" / "models"
NAMES = sorted(p.stem for p in FOLDER.glob("*.json"))


def facts(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


@cache
def families() -> dict[str, str]:
    """The file of specs/ that has each model of the library, by the model's name."""
    return {model.name: family for family in library_families() for model in models(family)}


@cache  # many files ask for it as they are collected
def library() -> tuple[str, ...]:
    """The specs of the library's models, those that can be compiled."""
    found = ((family, model) for family in library_families() for model in models(family))
    return tuple(f"{family}:{model.name}" for family, model in found if model.complete)


SIZE, NUMBER = (
    re.compile(r"_(?:tiny|base|large|huge|atto|femto|pico|nano|x*s|[\d_]+[mg]f|\d+x\d+d|[bhlmst]\d*)(?=_|$)"),
    re.compile(r"[\d_]+(?!d)"),
)
"""What names of models of one kind differ by: a word or letter for the size, a number."""


def kinds() -> list[str]:
    """The first of the library's models of each kind, a small one."""
    return list({NUMBER.sub("", SIZE.sub("", name)): name for name in reversed(library())}.values())[::-1]


def first_of_family() -> list[str]:
    """The first of the kinds of each family."""
    return list({name.partition(":")[0]: name for name in reversed(kinds())}.values())[::-1]


FEW = [
    "densenet:densenet121",
    "efficientnet:efficientnet_b0",
    "googlenet:googlenet",
    "inception:inception_v3",
    "mobilenet:mobilenet_v2",
    "mobilevit:mobilevit_xxs",
    "pvt:pvt_v2_b0",
    "regnet:regnet_x_400mf",
    "resnet:resnet18",
    "shufflenet:shufflenet_v2_x0_5",
    "swin:swin_t",
    "unet:unet",
    "video_resnet:r3d_18",
]
"""A fast model for each kind of structure: the default for claims that hold for all models alike."""


def one_of_each(default: Callable[[], Sequence[str]] = kinds) -> list[Any]:
    """The library's models as parameters of a test; all but the first one of each kind or family are `long`."""
    first = set(default())
    return [pytest.param(name, marks=[pytest.mark.long] * (name not in first)) for name in library()]


def spec(name: str) -> str:
    """The spec of a published model."""
    model = name.removeprefix("timm-")
    return f"{families()[model]}:{model}"


def sizes(graph: Graph, fact: dict[str, Any]) -> dict[str, int]:
    """The free sizes of a model at the published input."""
    return dict(zip((free.name for free in graph.free), fact["input"][2:], strict=False))


def sequence(key: str, count: int) -> Tensor:
    steps = torch.arange(1, count + 1, dtype=torch.float64)
    return (steps * 0.6180339887498949 + zlib.crc32(key.encode()) / 2**32) % 1.0


def attention_macs(depth: int, positions: int, width: int) -> int:
    """Of `depth` layers of self-attention: four matrices at each position, and two products of positions."""
    return depth * (4 * positions * width**2 + 2 * positions**2 * width)


# Of these the published count is of convolutions and nn.Linear alone, without nn.MultiheadAttention.
NOT_COUNTED = {"vit_b_16": attention_macs(depth=12, positions=1 + (224 // 16) ** 2, width=768)}


@torch.no_grad()
def fill(model: nn.Module) -> None:
    for key, tensor in model.state_dict().items():
        if not tensor.is_floating_point() and not key.endswith("num_batches_tracked"):
            continue  # an index, which the module makes itself
        value = sequence(key, tensor.numel()).reshape(tensor.shape)
        if key.endswith("num_batches_tracked"):
            value = torch.zeros_like(value)
        elif key.endswith("running_var"):
            value = 0.5 + value
        elif tensor.dim() <= 1:
            value = 0.75 + value / 2 if key.endswith("weight") else (value - 0.5) / 5
        else:
            value = (value - 0.5) * 2 * math.sqrt(3 * tensor.shape[0] / tensor.numel())
        tensor.copy_(value)


@torch.no_grad()
def probe_error(model: nn.Module, fact: dict[str, Any]) -> float:
    """The distance of the model's outputs from the published ones, in standard deviations of its output."""
    model.eval()
    fill(model)
    size = fact["input"]
    image = ((sequence("input", math.prod(size)) - 0.5) * 2).reshape(size).float()
    output = model(image)
    output = output[0] if isinstance(output, tuple) else output
    assert list(output.shape) == fact["output"]
    values = output.double().flatten()[:: fact["probe"]["every"]][:32]
    wanted = torch.tensor(fact["probe"]["values"], dtype=torch.float64)
    return float((values - wanted).abs().max() / fact["probe"]["std"])
