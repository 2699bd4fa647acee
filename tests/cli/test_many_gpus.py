"""The examples of docs/many-gpus.md."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from archdsl import cli
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "many-gpus.md").read_text("utf-8")
SHOWN = re.findall(r"^```text\n\$ archdsl (.*?)(?: \| grep \^(\w+))?\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("command", "begins", "output"), SHOWN, ids=[command for command, *_ in SHOWN])
def test_page(command: str, begins: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(command.split())
    lines = capsys.readouterr().out.splitlines(keepends=True)
    assert "".join(line for line in lines if line.startswith(begins)) == output


def test_the_code_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # the page sets what torchrun does
    code = "".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    exec(compile(code, "many-gpus.md", "exec"), {"__name__": "page"})
