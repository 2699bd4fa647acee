"""docs/architecture.md: its rooms are those of the package, and its worked changes apply and do what the page says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.test_imports import ORDER

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
SECTION = re.compile(r"^## Add (?P<title>.*?)\n(?P<text>.*?)(?=^## |\Z)", re.M | re.S)
DIFF = re.compile(r"^```diff\n(?P<text>.*?)^```\n", re.M | re.S)
CHANGES = {found["title"]: found["text"] for found in SECTION.finditer(PAGE)}

NET = "model net(width = 8) {\n    input x[3, H, W]\n    conv(width, 3)\n}\n"


def changed(title: str, folder: Path) -> Path:
    """A copy of the repository with the change of a section."""
    if shutil.which("git") is None:
        pytest.skip("git, which applies the page's diffs, is not installed")
    copy = folder / "changed"
    for name in ("archdsl", "grammars", "specs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (diff,) = DIFF.findall(CHANGES[title])
    command = ["git", "apply", "-p1", "-"]
    done = subprocess.run(command, cwd=copy, input=diff, text=True, capture_output=True)
    assert done.returncode == 0, f"the diff of `Add {title}` is out of date: {done.stderr}"
    return copy


def run(copy: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, text=True)


def test_the_rooms_are_those_of_the_package() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == ORDER


def test_a_new_operation_works(tmp_path: Path) -> None:
    copy = changed("an operation", tmp_path)
    spec = copy / "net.arch"
    spec.write_text(NET.replace("conv(width, 3)", "conv(width, 3) -> hardmish"))
    built = run(copy, "archdsl", "build", str(spec), "-o", "net.py")
    assert built.returncode == 0, built.stderr
    code = (
        "import torch, net; m = net.Net(); x = torch.randn(1, 3, 5, 5); y = m.get_submodule('0')(x);"
        "assert torch.allclose(m(x), y / 2 * (y + 2).clamp(0, 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "min(max(" in run(copy, "archdsl", "explain", f"{spec}:net:1").stdout


def test_a_new_output_format_works(tmp_path: Path) -> None:
    copy = changed("an output format", tmp_path)
    spec = copy / "net.arch"
    spec.write_text(NET)
    done = run(copy, "archdsl", "draw", str(spec), "-o", "net.mmd")
    assert done.returncode == 0, done.stderr
    assert "flowchart" in (copy / "net.mmd").read_text("utf-8")


def test_a_new_statement_works(tmp_path: Path) -> None:
    copy = changed("a statement", tmp_path)
    done = run(copy, "archdsl.syntax.build_tables")
    assert done.returncode == 0, done.stderr
    spec = copy / "net.arch"
    spec.write_text(NET.replace("    conv", '    forbid width % 8 != 0, "not a multiple of 8"\n    conv'))
    done = run(copy, "archdsl", "check", str(spec), "--set", "width=7")
    assert done.returncode == 1 and "error[E0216]: not a multiple of 8" in done.stderr
    built = run(copy, "archdsl", "build", str(spec), "-o", "net.py")
    assert built.returncode == 0, built.stderr
