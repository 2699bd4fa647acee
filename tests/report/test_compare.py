"""The differences between two networks: one change per edit, whatever else moves."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from archdsl import cli
from archdsl.common.source import Source
from archdsl.compiler import check, diff, draw
from archdsl.report.compare import Comparison, Detail, as_data, described, paths, table

BASE = """
block unit(width) { residual { conv(width, 3) -> relu -> conv(width, 3) } }
model m() {
    input x[3, H = 32, W = 32]
    conv(16, 3) -> batchnorm -> relu
    conv(16, 3) -> relu
    unit(16)
    maxpool(2)
    conv(32, 3)
    global_avgpool -> flatten
    fc: linear(10)
}
"""


def compared(before: str, after: str) -> Comparison:
    return diff(check(Source("a.arch", before)), check(Source("b.arch", after)))


def told(found: Comparison) -> list[tuple[str, str, str]]:
    """Kind, path and words of each change."""
    rows = []
    for c in found.changes:
        members = c.after or c.before
        words = "; ".join(map(str, c.details)) or described(found.after if c.after else found.before, members)
        rows.append((c.kind, paths(members), words))
    return rows


EDITS = {
    "nothing": ("", "", []),
    "a layer inserted": ("    conv(16, 3) -> relu\n", "    conv(16, 3) -> dropout -> relu\n", ["added 4 dropout 0.5"]),
    "a block inserted": ("    maxpool(2)\n", "    unit(16)\n    maxpool(2)\n", ["added 6 unit"]),
    "three blocks": ("    maxpool(2)\n", "    repeat 3 { unit(16) }\n    maxpool(2)\n", ["added 6 … 8 3 × unit"]),
    "a chain inserted": (
        "    maxpool(2)\n",
        "    conv(8, 1) -> gelu -> upconv(16, 2)\n    maxpool(2)\n",
        ["added 6 … 8 conv 1×1, 8 · gelu · upconv 2×2, 16, by 2"],
    ),
    "a layer removed": ("    maxpool(2)\n", "", ["removed 6 maxpool 2×2, /2"]),
    "an argument changed": ("conv(32, 3)", "conv(64, 3, stride = 2)", ["changed 7 out: 32 → 64; stride: 1 → 2"]),
    "an operation replaced": ("batchnorm -> relu", "batchnorm -> gelu", ["changed 2 operation: relu → gelu"]),
    "a label changed": ("fc: linear", "head: linear", ["renamed head name: fc → head"]),
    "an input changed": ("x[3,", "x[1,", ["changed x size: 3 × H × W → 1 × H × W"]),
    "a block around": (
        "    maxpool(2)\n    conv(32, 3)\n",
        "    down: { maxpool(2)\n    conv(32, 3) }\n",
        [],
    ),
    "a skip around": ("    conv(16, 3) -> relu\n", "    residual { conv(16, 3) -> relu }\n", ["added 5 add"]),
    "outputs": (
        "    fc: linear(10)\n",
        "    fc: linear(10)\n    output logits = fc\n",
        ["changed m outputs: output → logits"],
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), EDITS.values(), ids=EDITS.keys())
def test_one_edit_is_one_change(old: str, new: str, expected: list[str]) -> None:
    found = compared(BASE, BASE.replace(old, new, 1) if old else BASE)
    assert [" ".join((kind, path or "m", words)) for kind, path, words in told(found)] == expected
    # An addition in one direction is a removal in the other.
    back = compared(BASE.replace(old, new, 1) if old else BASE, BASE)
    mirror = {"added": "removed", "removed": "added"}
    assert sorted(mirror.get(c.kind, c.kind) for c in found.changes) == sorted(c.kind for c in back.changes)


def test_what_only_follows_is_no_change() -> None:
    found = compared(BASE, BASE.replace("    maxpool(2)\n", ""))
    assert {(a.path, b.path) for a, b in found.follows} == {
        ("7", "6"),
        ("8", "7"),
        ("9", "8"),
    }
    assert not compared(BASE, BASE).follows


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (
            ("resnet:resnet18", "resnet:resnet34"),
            [
                ("layer1.2", "basic"),
                ("layer2.2 … layer2.3", "2 × basic"),
                ("layer3.2 … layer3.5", "4 × basic"),
                ("layer4.2", "basic"),
            ],
        ),
        (
            ("vgg:vgg16", "vgg:vgg19"),
            [
                ("features.16 … features.17", "conv 3×3, 256 · relu"),
                ("features.25 … features.26", "conv 3×3, 512 · relu"),
                ("features.28 … features.29", "conv 3×3, 512 · relu"),
            ],
        ),
    ],
    ids=lambda v: v[0] if isinstance(v[0], str) else "",
)
def test_published_networks(models: tuple[str, str], expected: list[tuple[str, str]]) -> None:
    found = diff(*map(check, models))
    assert [(path, words) for _, path, words in told(found)] == expected
    assert {c.kind for c in found.changes} == {"added"}
    old, new = (c.total for c in found.costs)
    differences = [found.difference(c) for c in found.changes]
    assert sum(p for p, _ in differences) == new.parameters - old.parameters
    assert sum(m for _, m in differences) == new.macs - old.macs


@pytest.mark.parametrize(
    "models",
    [
        ("resnet:resnet18", "resnet:resnet50"),
        ("densenet:densenet121", "densenet:densenet161"),
        ("unet:unet", "unet:unet_padded"),
        ("mobilenet:mobilenet_v2", "squeezenet:squeezenet1_1"),
        ("alexnet:alexnet", "vgg:vgg16_bn"),
    ],
    ids=lambda pair: "-".join(m.partition(":")[2] for m in pair),
)
def test_changes_and_what_follows_make_up_the_whole_difference(models: tuple[str, str]) -> None:
    """Nothing is listed twice, nothing is left out, for any pair of networks."""
    found = diff(*map(check, models))
    steps = [found.difference(c) for c in found.changes]
    for old, new in found.follows:
        was, now = found.costs[0][old], found.costs[1][new]
        steps.append((now.parameters - was.parameters, now.macs - was.macs))
    before, after = (c.total for c in found.costs)
    assert tuple(map(sum, zip(*steps, strict=True))) == (after.parameters - before.parameters, after.macs - before.macs)
    assert draw(found).svg().count("<svg") == 1
    assert all(len(repr(x)) < 200 for x in (found, found.before, found.before.root, draw(found)))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("conv(4, 3)", "conv(4, 3, pad = 1)"),
        ("conv(4, 3, pad = same_upper)", "conv(4, 3x3, pad = 1x1)"),
        ("conv(4, 2, pad = full)", "conv(4, 2, pad = 1)"),
        ("conv(4, 5, pad = valid, dilation = 2)", "conv(4, 5, pad = 0, dilation = 2)"),
        ("conv(4, weight = [[1, 2]], pad = full)", "conv(4, weight = [[1, 2]], pad = 0x1)"),
        ("upconv(4, 3, stride = 2, pad = same)", "upconv(4, 3, stride = 2, pad = 1)"),
        ("upconv(4, 2)", "upconv(4, 2, stride = 2)"),
        ("maxpool(3, pad = same)", "maxpool(3, stride = 3, pad = 1)"),
        ("avgpool(3, pad = valid)", "avgpool(3, pad = 0)"),
    ],
)
def test_the_same_padding_in_other_words_is_no_change(one: str, two: str) -> None:
    text = "model m() {\n input x[4, 16, 16]\n LAYER\n}"
    assert not compared(text.replace("LAYER", one), text.replace("LAYER", two)).changes


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ("conv(4, 3)", "conv(4, 5)", "kernel: 3 → 5"),
        ("conv(4, 3)", "conv(4, 3, pad = valid)", "pad: same → valid"),
        ("conv(4, 3)", "conv(4, 3, pad = 0)", "pad: same → 0"),
        ("conv(4, 3, stride = 2)", "conv(4, 3, stride = 2, pad = same_upper)", "pad: same → same_upper"),
        ("maxpool(3, pad = 1)", "maxpool(3, pad = valid)", "pad: 1 → valid"),
    ],
)
def test_another_padding_is_said_as_it_is_written(one: str, two: str, words: str) -> None:
    text = "model m() {\n input x[4, 16, 16]\n LAYER\n}"
    assert [row[2] for row in told(compared(text.replace("LAYER", one), text.replace("LAYER", two)))] == [words]


def test_a_wiring_that_changed_is_told() -> None:
    text = "model m() {\n input x[4, 8, 8]\n a: conv(4, 3)\n b: conv(4, 3)\n (a, b) -> add\n}"
    assert told(compared(text, text.replace("(a, b)", "(x, b)"))) == [("rewired", "2", "inputs: a, b → x, b")]


# ---------------------------------------------------------------- the diagram


def signs(comparison: Comparison) -> str:
    """The signs in the boxes of a picture, in order."""
    return "".join(re.findall(r"<B>([+−~]) </B>", draw(comparison).dot))


def test_the_picture_marks_changes_and_folds_the_rest() -> None:
    comparison = diff(check("resnet:resnet18"), check("resnet:resnet34"))
    assert signs(comparison) == "++++"
    dot = draw(comparison).dot
    # One convolution is outside blocks; no block without changes is open.
    assert dot.count("<B>conv ") == 1 and "<B>basic</B>" in dot
    assert "resnet18 → resnet34" in dot and "+10.1 M parameters" in dot


@pytest.mark.parametrize(
    ("edit", "there", "back"),
    [
        ("nothing", "", ""),
        ("a layer inserted", "~", "−"),
        ("a block inserted", "+", "−"),
        ("three blocks", "+", "−"),
        ("a chain inserted", "++", "−−"),
        ("an argument changed", "~", "~"),
        ("an operation replaced", "~", "~"),
        ("a label changed", "~", "~"),
    ],
)
def test_every_change_stands_in_the_picture(edit: str, there: str, back: str) -> None:
    old, new, _ = EDITS[edit]
    changed = BASE.replace(old, new, 1) if old else BASE
    assert signs(compared(BASE, changed)) == there
    assert signs(compared(changed, BASE)) == back


def test_what_was_removed_stands_where_it_was() -> None:
    dot = draw(compared(BASE, BASE.replace("    maxpool(2)\n", ""))).dot
    assert dot.count("maxpool 2×2, /2") == 1
    [name] = [line.split()[0] for line in dot.splitlines() if "maxpool 2×2, /2" in line]
    arrows = [line for line in dot.splitlines() if "->" in line and name in line.partition("[")[0].split()]
    assert len(arrows) == 2 and all("dashed" in a for a in arrows)


# ---------------------------------------------------------------- the command


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.cli, ["diff", *arguments], standalone_mode=False)
    assert result.exception is None, result.exception
    return int(result.return_value), result.output


def test_the_command_compares_settings_of_one_model(tmp_path: Path) -> None:
    status, out = run("resnet:resnet18", "--set-after", "classes=10", "--json", "-o", str(tmp_path / "d.svg"))
    data = json.loads(out)
    assert status == 0 and (tmp_path / "d.svg").read_text("utf-8").startswith("<?xml")
    assert [(c["kind"], c["after"][0]["path"], c["parameters"]) for c in data["changes"]] == [
        ("changed", "fc", -507870)
    ]
    assert data["changes"][0]["details"] == [{"name": "out", "before": "1000", "after": "10"}]


def test_the_table_and_the_data_agree() -> None:
    found = diff(check("resnet:resnet18"), check("resnet:resnet50"))
    rows, data = table(found).rows, as_data(found)["changes"]
    assert isinstance(data, list) and len(rows) == len(data) > 5
    assert [row[0].split()[1] for row in rows if isinstance(row[0], str)] == [c["kind"] for c in data]
    status, out = run("resnet:resnet18", "resnet:resnet18")
    assert status == 0 and out.splitlines()[-1].split() == ["changes", "none"]


def test_numbers_have_the_digits_that_tell_them_apart() -> None:
    assert str(Detail("p", "0.018181818181818184", "0.013043478260869565")) == "p: 0.0182 → 0.013"
    assert str(Detail("p", "0.1", "0.10000004")) == "p: 0.1 → 0.10000004"
    assert str(Detail("size", "3", "0.12345")) == "size: 3 → 0.123"
    assert str(Detail("scale", "none", "0.12345")) == "scale: none → 0.12345"


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ("split([6, 6, 4]) -> concat", "split([7, 5, 4]) -> concat", "n: [6, 6, 4] → [7, 5, 4]"),
        ("reshape([4, 4, 32, 32]) -> reshape([16, 32, 32])", "reshape([8, 2, 32, 32]) -> reshape([16, 32, 32])", "["),
        ("linear(6, bias = [true, false])", "linear(6, bias = [false, true])", "bias: [true, false] → [false, true]"),
        ("conv(16, 3x3)", "conv(16, 5x7)", "kernel: 3 → 5x7"),
        (
            "conv(16, 1x3, weight = [[1, 0, 1]])",
            "conv(16, 1x3, weight = [[1, 0, -1]])",
            "weight: [[1, 0, 1]] → [[1, 0, -1]]",
        ),
        ("windows(4x8) { conv(16, 3) }", "windows(8x4) { conv(16, 3) }", "4x8 → 8x4"),
    ],
)
def test_lists_and_sizes_are_written_as_in_specs(one: str, two: str, words: str) -> None:
    base = "model m {{ input x[3, 32, 32]\n conv(16, 1) -> {} }}"
    found = compared(base.format(one), base.format(two))
    assert words in " ".join(str(detail) for change in found.changes for detail in change.details)
