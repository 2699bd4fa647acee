"""`archdsl tile`: the examples of docs/large-images.md, JSON, and wrong input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from archdsl import cli
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "large-images.md").read_text("utf-8")
SHOWN = re.findall(r"^```text\n\$ archdsl (?P<command>.*)\n(?P<output>(?:.*\n)*?)```$", PAGE, re.MULTILINE)
UNET = ["tile", "unet:unet_padded", "--size", "3x20000x30000"]


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_page(command: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(command.split())
    found = capsys.readouterr()
    assert (found.out + found.err.replace(str(ROOT / "specs") + "/", "")) == output


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.chdir(tmp_path)
    code = "".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    exec(compile(code, "large-images.md", "exec"), {"__name__": "page"})
    assert (tmp_path / "result.npy").exists()


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*UNET, "--tile", "512x1024", "--batch", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    height, width = found["axes"]
    assert (height["tile"], width["tile"], height["min"], height["step"]) == (512, 1024, 208, 16)
    assert found["outputs"][0]["halo"] == [[94, 94], [94, 94]]
    assert found["tiles"] == len(height["starts"]) * len(width["starts"]) and found["batch"] == 2
    assert height["starts"][-1] + 512 == 20000


WRONG = {
    "no size": (["tile", "unet:unet_padded"], 2, "give the size of the image"),
    "no number": ([*UNET, "--tile", "large"], 2, "is not a size"),
    "too many": ([*UNET, "--tile", "9x9x9"], 1, "has 2 spatial axes"),
    "too small": ([*UNET, "--tile", "64"], 1, "they must be of at least 208"),
    "too little": ([*UNET, "--memory", "8MiB"], 1, "takes 183 MiB for its smallest exact tiles, 208 × 208"),
    "as large": (["tile", "unet:unet_padded", "--size", "3x192x192", "--tile", "160"], 1, "as large as the image"),
    "fixed": (["tile", "lenet:lenet", "--size", "1x32x32", "--tile", "16"], 1, "leave the size free"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, status, message = WRONG[case]
    assert cli.run(command) == status
    assert message in capsys.readouterr().err
