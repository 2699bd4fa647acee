"""Every model of specs/ against published numbers."""

from __future__ import annotations

import re

import pytest
import torch

import archdsl
from archdsl.analysis.costs import costs
from archdsl.checker.spec import models
from archdsl.elaborate.spec_files import library_families, library_tasks
from tests import published
from tests.helpers import ROOT

CONVOLUTIONS = ("conv", "upconv")


def parameters(spec: str, **values: object) -> int:
    return costs(archdsl.check(spec, **values)).total.parameters


@pytest.mark.parametrize("name", published.NAMES)
def test_published_model(name: str) -> None:
    fact = published.facts(name)
    spec = published.spec(name)
    graph = archdsl.check(spec)
    found = costs(graph, published.sizes(graph, fact))
    total = found.total
    # Published numbers are for inference, without training-only parts.
    macs = total.macs - sum(found[node].macs for node in graph.of_training())
    assert macs == fact["macs"] + published.NOT_COUNTED.get(name, 0)
    assert total.parameters == fact["parameters"]
    model = archdsl.load(spec, device="meta", dtype=torch.bfloat16)
    assert {k: list(t.shape) for k, t in model.state_dict().items()} == fact["state"]
    assert sum(p.numel() for p in model.parameters()) == fact["parameters"]
    floating = [t for t in model.state_dict().values() if t.is_floating_point()]
    assert all(t.is_meta and t.dtype == torch.bfloat16 for t in floating)


def test_all_of_a_vision_transformer_is_counted() -> None:
    assert round(costs(archdsl.check("vit:vit_b_16")).total.macs / 1e9, 3) == 17.564  # torchvision's published number


LARGE, WORK = 30_000_000, 20_000_000_000
"""The numbers of parameters and of multiplications above which a network takes long to run."""
DEEPER = {"densenet161", "densenet169", "densenet201", "resnet34"}
"""More layers of the kinds that smaller ones have."""


def runs_long(name: str) -> bool:
    fact = published.facts(name)
    return bool(fact["parameters"] > LARGE or fact["macs"] > WORK or name in DEEPER)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.long] * runs_long(name)) for name in published.NAMES],
)
def test_published_numbers(name: str) -> None:
    # The published biases by position change the outputs by 3e-4 of their deviation: less would not find a wrong index.
    model = archdsl.load(published.spec(name))
    assert published.probe_error(model, published.facts(name)) < 1e-4


def test_the_page_of_the_library_lists_the_families_by_task() -> None:
    text = (ROOT / "docs" / "library.md").read_text("utf-8")
    for task, families in library_tasks().items():
        assert f"| {task} | {', '.join(f'`{family}`' for family in families)} |" in text


@pytest.mark.parametrize("family", library_families())
def test_each_model_says_what_it_is(family: str) -> None:
    assert [model.name for model in models(family) if not model.doc] == []


WITHOUT_A_PAPER = {"edges"}


@pytest.mark.parametrize("family", [name for name in library_families() if name not in WITHOUT_A_PAPER])
def test_each_file_names_its_paper(family: str) -> None:
    head = (ROOT / "specs" / f"{family}.arch").read_text("utf-8").split("\n\n")[0]
    assert head.startswith("# ") and re.search(r"\b(19|20)\d\d\b", head)


def convolutions(spec: str) -> int:
    return sum(n.operation.name in CONVOLUTIONS for n in archdsl.check(spec).nodes())


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("unet:unet", 31_030_658),
        ("fcdensenet:fcdensenet56", 1_376_795),
        ("fcdensenet:fcdensenet67", 3_463_243),
        ("fcdensenet:fcdensenet103", 9_322_091),
        ("densenet:densenet264", 33_337_704),
    ],
)
def test_parameters(spec: str, count: int) -> None:
    assert parameters(spec) == count


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("unet:unet", 23),
        ("fcdensenet:fcdensenet56", 56),
        ("fcdensenet:fcdensenet67", 67),
        ("fcdensenet:fcdensenet103", 103),
    ],
)
def test_convolutions(spec: str, count: int) -> None:
    assert convolutions(spec) == count


def test_resnet152_has_less_than_half_the_parameters_of_vgg19() -> None:
    assert 2 * parameters("resnet:resnet152") < parameters("vgg:vgg19")


@pytest.mark.parametrize(
    ("spec", "size", "output"),
    [
        ("unet:unet", (572, 572), (2, 388, 388)),
        ("fcdensenet:fcdensenet56", (360, 480), (11, 360, 480)),
        ("fcdensenet:fcdensenet103", (360, 480), (11, 360, 480)),
    ],
)
def test_sizes_in_and_out(spec: str, size: tuple[int, int], output: tuple[int, ...]) -> None:
    graph = archdsl.check(spec)
    shape = costs(graph, dict(zip(("H", "W"), size, strict=True))).shape(graph.outputs[0].tensor)
    assert shape == output
