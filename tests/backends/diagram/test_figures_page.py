"""The examples of docs/figures.md work."""

import re
import shlex
from pathlib import Path

import pytest

from archdsl import cli
from archdsl.backends.diagram.colours import read_colours
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "figures.md").read_text("utf-8")
COMMANDS = re.findall(r"^archdsl (draw .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[pytest.mark.long] if "resnet" in c else []) for c in COMMANDS]
)
def test_commands(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    assert cli.run(words) == 0
    assert (tmp_path / words[-1]).stat().st_size > 2000


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 5


def test_the_file_of_colours(tmp_path: Path) -> None:
    [text] = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "c.toml").write_text(text)
    found = read_colours(tmp_path / "c.toml")
    assert found.names == {"bottleneck": "Bottleneck"} and found.family_names["attention"] == "self-attention"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--width", "3"], "'3' is not a length"),
        (["--width", "1px"], "is not a length from 0.5in"),
        (["--colours", "wrong.toml"], "it is no TOML"),
        (["--colours", "none.toml"], "does not exist"),
        (["--kernels"], "--kernels needs --style volumes"),
    ],
)
def test_mistakes(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.toml").write_text("[")
    assert cli.run(["draw", "lenet:lenet", *options, "-o", "x.svg"]) == 2
    assert said in capsys.readouterr().err and not Path("x.svg").exists()
