"""Lists of modules in YAML and .cfg become specs that name what they number; what cannot be said is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import archdsl
from archdsl import cli
from archdsl.common.source import Source
from archdsl.runtime.importing import ImportRefused
from archdsl.runtime.opening import from_file

ROWS = """
nc: 10
scales:
  n: [0.34, 0.25, 1024]
  s: [0.34, 0.50, 128]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 3, C2f, [64, True]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 6, C3, [128]]
  - [-1, 1, SPPF, [128, 5]]
head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 1], 1, Concat, [1]]
  - [-1, 3, C2f, [64]]
  - [[7, 4], 1, Detect, [nc]]
"""
CLASSIFIER = """
nc: 7
depth_multiple: 1.0
width_multiple: 0.5
backbone:
  [[-1, 1, Conv, [32, 6, 2, 2]],
   [-1, 2, Bottleneck, [32]],
   [-1, 1, nn.MaxPool2d, [2]],
   [-1, 1, DWConv, [64, 3, 2]]]
head:
  [[-1, 1, Classify, [nc]]]
"""


def conv(filters: int, size: int = 3, stride: int = 1) -> str:
    numbers = f"filters={filters}\nsize={size}\nstride={stride}"
    return f"[convolutional]\nbatch_normalize=1\n{numbers}\npad=1\nactivation=leaky\n"


UNIT = conv(8, 1) + conv(16) + "[shortcut]\nfrom=-3\nactivation=linear\n"
NET = "[net]\nchannels=3\nheight=64\nwidth=64\n"
RESIDUAL = f"{NET}{conv(16, 3, 2)}{UNIT * 3}[avgpool]\n[connected]\noutput=5\nactivation=linear\n[softmax]\n"
PLAIN = "[convolutional]\nfilters=9\nsize=1\nactivation=linear\n"
TINY = (
    f"{NET}{conv(8)}[maxpool]\nsize=2\nstride=2\n{conv(16)}[maxpool]\nsize=2\nstride=1\n{PLAIN}[yolo]\nmask=0\n"
    f"[route]\nlayers=-4\n[upsample]\nstride=2\n[route]\nlayers=-1, 0\n{PLAIN}# the last one\n[yolo]\nmask=1\n"
)


def imported(path: Path, text: str, **given: object) -> str:
    path.write_text(text, "utf-8")
    found = from_file(path, [(3, 64, 64)], **given)  # type: ignore[arg-type]
    archdsl.check(Source("net.arch", found.text))
    return found.text


def test_rows_have_names(tmp_path: Path) -> None:
    text = imported(tmp_path / "net8n.yaml", ROWS, only="neck")
    assert "upsample(2)\n    (it, c2f1) -> concat\n    c2f2: " in text
    assert "output row4 = sppf, row7 = c2f2" in text
    assert "conv1: conv_block(16, 3, stride = 2)" in text and "repeat 2 { bottleneck } }" in text


def test_a_scale_is_a_setting(tmp_path: Path) -> None:
    text = imported(tmp_path / "net8n.yaml", ROWS, only="backbone", settings={"scale": "s"})
    assert "conv1: conv_block(32, 3, stride = 2)" in text  # half of 64
    assert "conv2: conv_block(64, 3, stride = 2)" in text


def test_a_classifier_of_rows(tmp_path: Path) -> None:
    text = imported(tmp_path / "net.yaml", CLASSIFIER, settings={"nc": "4"})
    assert "bottleneck: { repeat 2 { " in text or "bottleneck: {" in text
    assert "linear: linear(4)" in text and "maxpool(2)" in text and "padding = 2" in text


def test_residuals_of_sections_become_stages(tmp_path: Path) -> None:
    text = imported(tmp_path / "net.cfg", RESIDUAL)
    assert "stage1: { repeat 3 { residual_block } }" in text
    assert "global_avgpool -> flatten -> connected1: linear(5) -> softmax" in text


def test_a_tiny_detector_without_its_heads(tmp_path: Path) -> None:
    text = imported(tmp_path / "net.cfg", TINY, only="neck")
    assert "maxpool(2, stride = 1, pad = same_upper)" in text and "maxpool(2, ceil = true)" in text
    assert "output scale1 = conv3, scale2 = conv4" in text


WRONG = {
    "a head": ("net.yaml", ROWS, "the module Detect is none that is read; --only neck leaves out the last row"),
    "a section": ("net.cfg", TINY, "the section [yolo] is not known; --only neck leaves such heads out"),
    "no rows": ("net.yaml", "a: 1", "needs `backbone:` and `head:`"),
    "a tag": ("net.yaml", "backbone: !!python/object/apply:os.system ['true']", "is not YAML"),
    "aliases": ("net.yaml", "a: &a [1]\nbackbone: [*a, *a]", "has anchors or aliases"),
    "a row of three": ("net.yaml", "backbone: [[-1, 1, Conv]]", "row 0 is not [from, repeats, module, arguments]"),
    "a later row": ("net.yaml", "backbone: [[3, 1, Conv, [8]]]", "row 0 takes from 3, which is no row before it"),
    "a text for a number": ("net.yaml", "backbone: [[-1, 1, Conv, [8, three]]]", "its arguments do not fit"),
    "many arguments": ("net.yaml", "backbone: [[-1, 1, Conv, [8, 1, 1, 0, 1, 1, 1, 1]]]", "its arguments do not fit"),
    "many repeats": ("net.yaml", "backbone: [[-1, 1000000, Conv, [8]]]", "repeats 1000000 times"),
    "many channels": ("net.yaml", "backbone: [[-1, 1, Conv, [1000000000]]]", "channels"),
    "deep nesting": ("net.yaml", "backbone: " + "[" * 5000, "nests brackets"),
    "an activation": ("net.cfg", NET + conv(8).replace("leaky", "loggy"), "the activation 'loggy' is not known"),
    "no net": ("net.cfg", conv(8), "does not begin with [net]"),
    "no key": ("net.cfg", NET + "what\n", "line 5 is no [section] and no key = value"),
    "a later section": ("net.cfg", NET + "[route]\nlayers=4\n", "takes from section 4, which is none before it"),
    "a large image": ("net.cfg", NET.replace("64", "99999999") + conv(8), "not a whole number that is read"),
    "sizes that differ": (
        "net.cfg",
        NET + conv(8) + conv(4) + "[shortcut]\nfrom=-2\nactivation=linear\n",
        "it adds tensors of sizes",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    file, text, reason = WRONG[name]
    (tmp_path / file).write_text(text, "utf-8")
    with pytest.raises(ImportRefused) as error:
        from_file(tmp_path / file)
    assert reason in str(error.value)


def test_from_python(tmp_path: Path) -> None:
    path = tmp_path / "net.cfg"
    path.write_text(RESIDUAL, "utf-8")
    found = archdsl.from_file(str(path), only="")
    assert found.name == "net" and not found.state
    with pytest.raises(ImportRefused, match="does not end with"):
        archdsl.from_file(tmp_path / "net.txt")


def test_a_configuration_has_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.cfg"
    path.write_text(RESIDUAL, "utf-8")
    assert cli.run(["import", str(path), "--weights", str(tmp_path / "net.pth")]) == 2
    assert "has no weights" in capsys.readouterr().err
    assert cli.run(["import", str(path), "--set", "scale=s"]) == 2
    assert "has no setting `scale`" in capsys.readouterr().err
    assert cli.run(["show", str(path)]) == 0
