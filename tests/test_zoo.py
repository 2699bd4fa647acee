"""Every model of specs/ against published numbers."""

from __future__ import annotations

import pytest

import archdsl
from archdsl.analysis.costs import costs
from archdsl.elaborate.spec_files import library_tasks
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
    assert total.macs - sum(found[node].macs for node in graph.of_training()) == fact["macs"]
    assert total.parameters == fact["parameters"]
    model = archdsl.load(spec, device="meta")
    assert {k: list(t.shape) for k, t in model.state_dict().items()} == fact["state"]
    assert sum(p.numel() for p in model.parameters()) == fact["parameters"]


LARGE, WORK = 30_000_000, 20_000_000_000
"""The numbers of parameters and of multiplications above which a network takes long to run."""


def runs_long(name: str) -> bool:
    fact = published.facts(name)
    return bool(fact["parameters"] > LARGE or fact["macs"] > WORK)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.long] * runs_long(name)) for name in published.NAMES],
)
def test_published_numbers(name: str) -> None:
    model = archdsl.load(published.spec(name), device="meta").to_empty(device="cpu")
    assert published.probe_error(model, published.facts(name)) < 1e-3


def test_the_readme_lists_the_families_by_task() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for task, families in library_tasks().items():
        assert f"| {task} | {', '.join(f'`{family}`' for family in families)} |" in text


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
