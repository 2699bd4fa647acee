"""The built wheel, installed elsewhere, behaves like the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import archdsl
from tests.helpers import ROOT

LEFT_OUT = ("architecture.md", "gallery.md", "lecture.md", "zoo.md")
"""The pages that need their pictures, or are about the repository."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents, installed like pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    # 1.21 MB of it are the modules, 0.92 without their comments and docstrings; pages 0.12, specs 0.03, and 0.1 the
    # archive's directory and hashes, of 560 files. So 1 MB would need less code, or less text that explains it.
    assert wheel.stat().st_size < 1_550_000
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder / "site"]
    subprocess.run([*pip, wheel], check=True)
    return folder / "site"


def run(installed: Path, folder: Path, code: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_compiles_its_library(installed: Path, tmp_path: Path) -> None:
    code = """
import archdsl, archdsl.importer
from archdsl import cli
print(archdsl.__file__)
assert cli.run(["check", "lenet:lenet", "resnet:resnet18"]) == 0
assert cli.run(["build", "lenet:lenet", "-o", "built.py"]) == 0
assert cli.run(["draw", "lenet:lenet", "-o", "built.svg"]) == 0
assert cli.run(["draw", "lenet:lenet", "-o", "built.html"]) == 0
assert cli.run(["help", "limits"]) == 0
import built
from archdsl.specs.lenet import lenet
assert [k for k, _ in lenet().named_parameters()] == [k for k, _ in built.Lenet().named_parameters()]
"""
    out = run(installed, tmp_path, code)
    assert out.splitlines()[0].startswith(str(installed))
    assert "resnet18: " in out


def test_the_wheel_holds_what_it_should(installed: Path) -> None:
    version = archdsl.__version__
    assert (installed / f"archdsl-{version}.dist-info").is_dir()
    ours = {p.name for p in (ROOT / "specs").iterdir()}
    assert {p.name for p in (installed / "archdsl" / "specs").iterdir()} == ours
    pages = {p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")} - {Path(p) for p in LEFT_OUT}
    folder = installed / "archdsl" / "docs"
    assert {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} == pages
    assert (installed / "archdsl" / "py.typed").is_file()
    assert not (installed / "tests").exists()
