"""The examples of docs/import.md are what archdsl writes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from archdsl.runtime.importing import from_module
from archdsl.runtime.opening import from_file
from tests.helpers import ROOT

PAGE = ROOT / "docs" / "import.md"
SHOWN = re.compile(r"<!-- module -->\n```python\n(.*?)```\n.*?<!-- spec -->\n```\n(.*?)```\n", re.S)


ONNX = re.compile(r"<!-- onnx -->\n```\n(.*?)```\n", re.S)
ROWS = re.compile(r"<!-- rows -->\n```yaml\n(.*?)```\n.*?<!-- rows spec -->\n```\n(.*?)```\n", re.S)


def written(shown: re.Match[str] | None, text: str, update: bool) -> None:
    """The last group of what the page shows is this text."""
    page = PAGE.read_text("utf-8")
    assert shown is not None
    group = shown.re.groups
    if update:
        PAGE.write_text(f"{page[: shown.start(group)]}{text}{page[shown.end(group) :]}", "utf-8")
    else:
        assert text == shown[group]


def test_the_example_of_onnx(tmp_path: Path, update: bool) -> None:
    page = PAGE.read_text("utf-8")
    shown = SHOWN.search(page)
    assert shown is not None
    names: dict[str, object] = {"nn": nn, "F": F, "__name__": "nets"}
    exec(shown[1], names)
    torch.manual_seed(0)
    module = names["Net"]().eval()  # type: ignore[operator]
    axes = {"image": {0: "batch", 2: "height", 3: "width"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.randn(2, 3, 32, 32)
        path = str(tmp_path / "net.onnx")
        torch.onnx.export(module, (image,), path, input_names=["image"], dynamic_axes=axes, dynamo=False)
    written(ONNX.search(page), from_file(tmp_path / "net.onnx", [(3, 32, 32)]).text, update)


def test_the_example_of_rows(tmp_path: Path, update: bool) -> None:
    shown = ROWS.search(PAGE.read_text("utf-8"))
    assert shown is not None
    (tmp_path / "net.yaml").write_text(shown[1], "utf-8")
    written(shown, from_file(tmp_path / "net.yaml").text, update)


def test_the_example(update: bool) -> None:
    page = PAGE.read_text("utf-8")
    shown = SHOWN.search(page)
    assert shown is not None
    names: dict[str, object] = {"nn": nn, "F": F, "__name__": "nets"}
    exec(shown[1], names)
    torch.manual_seed(0)
    text = from_module(names["Net"](), (3, 32, 32), source="nets:Net").text  # type: ignore[operator]
    if update:
        PAGE.write_text(f"{page[: shown.start(2)]}{text}{page[shown.end(2) :]}", "utf-8")
    else:
        assert text == shown[2]
