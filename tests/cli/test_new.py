"""`archdsl new`, and the hooks for pre-commit."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from archdsl import cli, starters
from archdsl.common.choices import STARTERS
from tests.helpers import ROOT

HOOKS = re.compile(r"entry: (.+)")


@pytest.mark.parametrize("kind", STARTERS)
def test_starter(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it writes is formatted, valid without warnings, and passes its own test."""
    monkeypatch.chdir(tmp_path)
    assert cli.run(["new", "my_net", "--kind", kind]) == 0
    assert {path.name for path in Path("my_net").iterdir()} == {
        "my_net.arch",
        "test_my_net.py",
        ".pre-commit-config.yaml",
    }
    out = capsys.readouterr().out
    assert out.endswith("cd my_net && archdsl watch my_net.arch --page\n") and "my_net/my_net.arch\n" in out
    assert (Path("my_net") / "my_net.arch").read_text("utf-8").count("#") > 2
    commands = HOOKS.findall((Path("my_net") / ".pre-commit-config.yaml").read_text("utf-8"))
    commands += HOOKS.findall((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert len(commands) == 4
    for command in commands:
        before = Path("my_net/my_net.arch").read_bytes()
        program, *arguments = shlex.split(command)
        assert program == "archdsl" and cli.run([*arguments, "my_net/my_net.arch"]) == 0
        assert Path("my_net/my_net.arch").read_bytes() == before
    names: dict[str, object] = {"__file__": str(tmp_path / "my_net" / "test_my_net.py")}
    exec(compile(Path("my_net/test_my_net.py").read_text("utf-8"), "test_my_net.py", "exec"), names)
    tests = [test for name, test in names.items() if name.startswith("test_") and callable(test)]
    assert len(tests) == 2
    for test in tests:
        test()


def test_every_kind_has_its_files() -> None:
    assert set(starters.SIZES) == set(STARTERS) == {path.stem for path in starters.HERE.glob("*.arch")}


@pytest.mark.parametrize("name", ["1net", "my-net", "a/b/net", "", "..", "n\u00e9t"])
def test_names_that_do_not_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["new", name]) == 2 and list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    assert cli.run(["new", "net"]) == 2 and list((tmp_path / "net").iterdir()) == []


@pytest.mark.long
def test_pre_commit_runs_the_hooks(tmp_path: Path) -> None:
    """pre-commit itself, in a clone of this repository; it installs archdsl anew."""
    pytest.importorskip("pre_commit")
    (tmp_path / "net.arch").write_text("model net { input x[3,8,8]\n relu }\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "pre_commit", "try-repo", str(ROOT), "--all-files"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "format specs" in done.stdout and "Failed" in done.stdout and "check specs" in done.stdout, done.stdout
    assert "input x[3, 8, 8]" in (tmp_path / "net.arch").read_text()
