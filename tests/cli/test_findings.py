"""`check` for machines and for files without models: formats, --strict, exit statuses."""

import json
from pathlib import Path

import jsonschema
import pytest

from archdsl import cli
from archdsl.cli.reading import CODE
from tests.helpers import ROOT, net_text

WRONG = net_text("residual { conv(8, 3) }", "x[3, H, W]")
WARNED = net_text("let unused = 1\n    relu", "x[3, H, W]")
BLOCKS = """from resnet import basic
block unit(width) { conv(width, 3) -> relu }
block other { relu }
let rate = 0.5
fn f(x) = x
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command line in a folder with files; returns status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    files = {"wrong": WRONG, "warned": WARNED, "blocks": BLOCKS, "empty": "", "fine": net_text("relu")}
    for name, text in files.items():
        (tmp_path / f"{name}.arch").write_text(text)
    (tmp_path / "sp ace, %.arch").write_text(WRONG)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(arguments)
        return status, *capsys.readouterr()

    return run


def test_strict(said) -> None:
    assert said("check", "warned.arch")[0] == 0 and said("check", "warned.arch", "--strict")[0] == 1
    assert said("check", "fine.arch", "--strict")[0] == 0


def test_files_without_models(said) -> None:
    line = "blocks.arch: no model; 2 blocks (unit, other), 1 value (rate), 1 function (f)\n"
    assert said("check", "blocks.arch") == (0, line, "")
    assert said("check", "empty.arch") == (0, "empty.arch: no model; nothing else\n", "")
    status, out, _ = said("check", "blocks.arch", "--json")
    assert status == 0 and json.loads(out)["files"][0]["blocks"] == ["unit", "other"]


def test_families(said, tmp_path: Path) -> None:
    (tmp_path / "family.arch").write_text("model net(width) {\n    input x[3, 8, 8]\n    conv(width, 3)\n}\n")
    assert said("check", "family.arch") == (0, "family.arch: no complete model; 1 model (net)\n", "")
    assert said("check", "family.arch:net")[0] == 1
    assert said("check", "family.arch", "--set", "width=4")[0] == 0
    assert said("check", "blocks.arch", "--set", "width=4")[0] == 1
    (tmp_path / "broken.arch").write_text("let x = 1 / 0\nblock b { relu }\n")
    assert said("check", "broken.arch")[0] == 1


def test_github(said) -> None:
    status, out, err = said("check", "wrong.arch", "sp ace, %.arch", "nosuch.arch", "warned.arch", "--format", "github")
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("::error file=wrong.arch,line=3,col=5,endColumn=28,title=E0301::")
    assert "file=sp ace%2C %25.arch," in lines[1] and lines[2].startswith("::error title=E0001::")
    assert lines[3].startswith("::warning file=warned.arch,line=3,") and "%0Ahelp: " in lines[0]


def test_sarif(said) -> None:
    status, out, _ = said("check", "wrong.arch", "sp ace, %.arch", "nosuch.arch", "warned.arch", "--format", "sarif")
    log = json.loads(out)
    jsonschema.validate(log, json.loads((ROOT / "tests" / "data" / "sarif-2.1.0.json").read_text("utf-8")))
    (run,) = log["runs"]
    assert status == 1 and [result["level"] for result in run["results"]] == ["error"] * 3 + ["warning"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(CODE.fullmatch(rule) for rule in rules)
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    places = [result["locations"][0]["physicalLocation"] for result in run["results"] if "locations" in result]
    assert places[0]["artifactLocation"]["uri"] == "wrong.arch" and places[0]["region"]["startLine"] == 3
    assert places[1]["artifactLocation"]["uri"] == "sp%20ace%2C%20%25.arch"
    assert "fixes" in run["results"][0], "the advice of an error is a fix"


def test_sarif_of_what_is_fine(said) -> None:
    status, out, _ = said("check", "fine.arch", "--format", "sarif")
    assert status == 0 and json.loads(out)["runs"][0]["results"] == []
