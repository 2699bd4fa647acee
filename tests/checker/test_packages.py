"""Specs in Python packages: `package:file.arch:model`."""

from pathlib import Path

import pytest

import archdsl
from archdsl import cli
from archdsl.diagnostics import SpecError

NET = "model net(classes = 2) {\n    input x[4]\n    linear(classes)\n}\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "nets_of_mine"
    (folder / "specs").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('the package was run')\n")
    (folder / "net.arch").write_text(NET)
    (folder / "specs" / "deep.arch").write_text(NET.replace("net", "deep") + NET.replace("net", "wide"))
    monkeypatch.syspath_prepend(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("spec", "model"),
    [
        ("nets_of_mine:net.arch", "net"),
        ("nets_of_mine:net.arch:net", "net"),
        ("nets_of_mine:specs/deep.arch:wide", "wide"),
        ("nets_of_mine.specs:deep.arch:deep", "deep"),
    ],
)
def test_a_spec_in_a_package(spec: str, model: str, package: Path) -> None:
    assert archdsl.check(spec, classes=3).name == model
    assert cli.run(["check", spec]) == 0


def test_an_output_is_no_spec_in_a_package(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (package / "net.py").write_text("# by hand\n")
    assert cli.run(["build", "nets_of_mine:net.arch", "-o", str(package / "net.py")]) == 2
    assert "not written by archdsl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nets_of_mine:none.arch", "the package `nets_of_mine` has no file `none.arch`"),
        ("nets_of_nobody:net.arch:net", "there is no Python package `nets_of_nobody`"),
        ("nets_of_mine:net.arch:other", "has no model `other`"),
    ],
)
def test_what_is_not_there_is_named(spec: str, said: str, package: Path) -> None:
    with pytest.raises(SpecError, match=said):
        archdsl.check(spec)
