"""`expect parameters == …`, and the same of macs and field."""

from __future__ import annotations

import pytest

import archdsl
from archdsl.analysis.expected import last_extents
from archdsl.common.source import Source
from archdsl.diagnostics import SpecError
from archdsl.report.layers import Layers, Options
from archdsl.report.totals import last_field

NET = "model net {{\n    input x[3, H = 32, W = 32]\n    conv(8, 3) -> maxpool(2) -> conv(16, 3)\n    {}\n}}\n"


def problem(line: str) -> str:
    """The first error of a network with this line; empty if it checks."""
    try:
        archdsl.check(Source("net.arch", NET.format(line)))
    except SpecError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "line",
    [
        "expect parameters == 1_392",
        "expect parameters != 1",
        "expect macs == 3 * 9 * 8 * 32 * 32 + 8 * 9 * 16 * 16 * 16",
        "expect macs < 5.2e5",
        "expect field == 8",
        "expect: relu\n    expect -> relu",
        "if 1 > 0 { expect field >= 8 }",
    ],
)
def test_what_holds_is_silent(line: str) -> None:
    assert problem(line) == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("expect parameters == 1_400", "[E0311]: the model has 1,392 parameters"),
        ("expect macs < 5.1e5", "[E0311]: the model has 516,096 MACs"),
        ("expect field >= 9", "[E0311]: the model has 8 elements in the receptive field of the last map"),
        ("expect paramters == 1", "did you mean `parameters`?"),
        ('expect field == "wide"', "[E0211]"),
        ("expect parameters == 1_392 and macs < 5.2e5", "write an `expect` for each cost"),
        ("part: { relu\n expect field == 8 }", "[E0238]"),
    ],
)
def test_what_fails_says_what_is_there(line: str, message: str) -> None:
    assert message in problem(line)


def test_the_difference_is_given() -> None:
    assert "8 fewer than expected" in problem("expect parameters == 1_400")
    assert "expects == 1,400" in problem("expect parameters == 1_400")


def test_the_field_is_that_of_the_last_map_along_each_axis() -> None:
    text = "model net {\n    input x[3, H, W]\n    conv(8, 3x5) -> global_avgpool\n    expect field >= %d\n}\n"
    assert archdsl.check(Source("net.arch", text % 3))
    with pytest.raises(SpecError, match="3 × 5 elements"):
        archdsl.check(Source("net.arch", text % 4))


def test_the_field_of_neighbours_that_differ_is_a_range() -> None:
    body = "maxpool(2) -> upsample(2) -> conv(4, 2, pad = valid)"
    text = f"model net {{\n    input x[3, H, W]\n    {body}\n    expect field > 99\n}}\n"
    with pytest.raises(SpecError, match="the model has 2–4 elements"):
        archdsl.check(Source("net.arch", text))


@pytest.mark.parametrize("name", ["resnet:resnet18", "unet:unet", "s3d:s3d", "efficientnet:efficientnet_b0"])
def test_the_field_is_the_one_that_show_lists(name: str) -> None:
    graph = archdsl.check(name)
    extents = last_extents(graph)
    axes = ["–".join(map(str, sorted(set(extents[i : i + 2])))) for i in range(0, len(extents), 2)]
    shown = axes[0] if len(set(axes)) == 1 else "×".join(axes)
    listed = last_field(Layers(graph, Options(graph.examples)))
    assert listed in (shown, f"everything ({shown})")
