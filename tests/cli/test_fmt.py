"""`archdsl fmt`: what it writes, says and refuses."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archdsl import cli
from tests.helpers import ROOT

ROUGH, DONE = "let a=1 # one\n", "let a = 1  # one\n"


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Runs the command line in a folder with files; returns status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rough.arch").write_text(ROUGH)
    (tmp_path / "done.arch").write_text(DONE)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(arguments)
        sys.stdout.flush()
        return status, *capfd.readouterr()

    return run


def test_files_are_written(said, tmp_path: Path) -> None:
    assert said("fmt", "rough.arch", "done.arch", "./rough.arch") == (
        0,
        "",
        "1 file formatted, 1 file already formatted\n",
    )
    assert (tmp_path / "rough.arch").read_text() == DONE
    assert said("fmt", "rough.arch") == (0, "", "1 file already formatted\n")


def test_check_and_diff_write_nothing(said, tmp_path: Path) -> None:
    status, out, err = said("fmt", "--check", "rough.arch", "done.arch")
    assert (status, out) == (1, "rough.arch: not formatted\n") and "1 file would be formatted" in err
    status, out, _ = said("fmt", "--diff", "rough.arch")
    assert status == 1 and "-let a=1 # one\n+let a = 1  # one\n" in out
    assert (tmp_path / "rough.arch").read_text() == ROUGH
    assert said("fmt", "--check", "done.arch")[0] == said("fmt", "--diff", "done.arch")[0] == 0


def test_folders(said, tmp_path: Path) -> None:
    for name in ("a/b/c.arch", ".venv/d.arch", "a/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(ROUGH)
    assert said("fmt", ".")[2] == "2 files formatted, 1 file already formatted\n"
    assert (tmp_path / "a" / "b" / "c.arch").read_text() == DONE
    assert (tmp_path / ".venv" / "d.arch").read_text() == (tmp_path / "a" / "e.txt").read_text() == ROUGH
    (tmp_path / "bare").mkdir()
    assert said("fmt", "bare") == (0, "", "note: bare has no .arch files\n")


def test_standard_input(said, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(data: bytes, *more: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return said("fmt", "-", *more)

    assert given(ROUGH.encode()) == (0, DONE, "") and given(DONE.encode()) == (0, DONE, "")
    assert given(b"") == (0, "", "") and given(b"\xef\xbb\xbflet a=1\r\n") == (0, "\ufefflet a = 1\r\n", "")
    assert given(ROUGH.encode(), "--check")[:2] == (1, "-: not formatted\n")
    status, out, err = given(b"model {")
    assert (status, out) == (1, "") and "standard input:1:7" in err
    assert given(b"\xff")[0] == 1


def test_windows_files_stay_so(said, tmp_path: Path) -> None:
    (tmp_path / "rough.arch").write_bytes(b"\xef\xbb\xbflet a=1\r\n\r\n\r\n# b\r\n")
    assert said("fmt", "rough.arch")[0] == 0
    assert (tmp_path / "rough.arch").read_bytes() == b"\xef\xbb\xbflet a = 1\r\n\r\n# b\r\n"


def test_what_is_wrong_stays(said, tmp_path: Path) -> None:
    """One wrong file keeps no other from being formatted."""
    (tmp_path / "wrong.arch").write_text("model net {\n  conv(3\n")
    (tmp_path / "binary.arch").write_bytes(b"a\0b")
    status, _, err = said("fmt", "wrong.arch", "binary.arch", "nosuch.arch", "rough.arch")
    assert status == 1 and err.endswith("1 file formatted, 3 files with errors\n")
    assert "wrong.arch:2:" in err and "E0005" in err and "E0001" in err
    assert (tmp_path / "wrong.arch").read_text() == "model net {\n  conv(3\n"
    assert (tmp_path / "rough.arch").read_text() == DONE
    (tmp_path / "locked.arch").write_text(ROUGH)
    (tmp_path / "locked.arch").chmod(0o444)
    status, _, err = said("fmt", "locked.arch")
    assert status == 2 and "write-protected" in err and (tmp_path / "locked.arch").read_text() == ROUGH
    os.mkfifo(tmp_path / "pipe.arch")
    assert said("fmt", "pipe.arch")[0] == 2


def test_links_stay(said, tmp_path: Path) -> None:
    (tmp_path / "link.arch").symlink_to("rough.arch")
    assert said("fmt", "link.arch")[0] == 0
    assert (tmp_path / "link.arch").is_symlink() and (tmp_path / "rough.arch").read_text() == DONE


def test_torch_and_the_checker_stay_out() -> None:
    code = "import sys; from archdsl import cli; cli.run(['fmt', '--check', 'specs/lenet.arch']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"torch", "archdsl.checker", "archdsl.elaborate"} & set(out.split())
