"""The example of docs/import.md is what archdsl writes."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import nn

from archdsl.runtime.importing import from_module
from tests.helpers import ROOT

PAGE = ROOT / "docs" / "import.md"
SHOWN = re.compile(r"<!-- module -->\n```python\n(.*?)```\n.*?<!-- spec -->\n```\n(.*?)```\n", re.S)


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
