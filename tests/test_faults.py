"""Faults of the machine, made for real: a line that says so, the right exit status, the old output whole."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
RUN = [sys.executable, "-m", "archdsl"]
NET = """
block unit(width) { conv(width, 3) -> batchnorm -> relu }
model net {
    input image[3, H = 32, W = 32]
    for i in 1..20 { "layer{i}": unit(8 * i) }
}
model large {
    input image[3, H = 32, W = 32]
    for i in 0..60000 { "a{i}": conv(3 + i % 7, 1) -> "b{i}": relu }
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.arch").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, **settings) -> subprocess.CompletedProcess:  # type: ignore[no-untyped-def, type-arg]
    return subprocess.run(
        [*RUN, *arguments], capture_output=True, text=True, errors="replace", timeout=120, **{"env": ENV, **settings}
    )


def one_line(text: str) -> bool:
    return text.startswith("archdsl: ") and text.count("\n") == 1


# ---------------------------------------------------------------- disks


def mounts() -> bool:
    """Whether a process may mount file systems of its own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


OUTPUTS = [
    "build net.arch:net -o disk/out.py",
    "draw net.arch:net -o disk/out.svg",
    "draw net.arch:net -o disk/out.png",
]


@pytest.mark.skipif(not mounts(), reason="no file system can be mounted here")
@pytest.mark.parametrize("command", OUTPUTS)
@pytest.mark.parametrize(
    ("options", "reason"), [("size=4k", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_disk_that_takes_nothing(command: str, options: str, reason: str, folder: Path) -> None:
    out = command.split()[-1]
    (folder / "disk").mkdir()
    mount = f"mount -t tmpfs -o {'size=4k' if options == 'ro' else options} none disk && echo old > {out}"
    if options == "ro":
        mount += " && mount -o remount,ro disk"
    script = f"{mount} && {shlex.join(RUN)} {command}; status=$?; cat {out}; ls -A disk; exit $status"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], env=ENV, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == f"old\n{Path(out).name}\n", done
    assert one_line(done.stderr) and reason in done.stderr


def test_folders_that_take_nothing(folder: Path) -> None:
    for out in ("missing/out.py", "net.arch/out.py", "/proc/out.py", "/dev/null/out.py"):
        done = run("build", "net.arch:net", "-o", out)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done


# ---------------------------------------------------------------- writers that die or meet

WRITER = """
import itertools, sys
from archdsl.files import write_whole
print("ready", flush=True)
for letter in itertools.cycle(b"ab"):
    write_whole("out.py", bytes([letter]) * 3_000_000)
"""


def whole(path: Path) -> bool:
    data = path.read_bytes()
    return len(data) == 3_000_000 and len({*data}) == 1


def test_killed_in_the_middle_of_a_write(folder: Path) -> None:
    out = folder / "out.py"
    out.write_bytes(b"a" * 3_000_000)
    for number in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER], env=ENV, stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        time.sleep(0.01 + number * 0.003)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert whole(out)


def test_many_writers_of_one_file(folder: Path) -> None:
    out = folder / "out.py"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER], env=ENV, stdout=subprocess.PIPE) for _ in range(3)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert not out.exists() or whole(out)
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert whole(out)


def test_two_builds_into_one_file(folder: Path) -> None:
    names = ["resnet:resnet18", "lenet:lenet"]
    builds = [subprocess.Popen([*RUN, "build", name, "-o", "out.py"], env=ENV) for name in names * 2]
    assert [build.wait() for build in builds] == [0] * 4
    assert (folder / "out.py").read_text() in [run("build", name).stdout for name in names]
    assert sorted(p.name for p in folder.iterdir()) == ["net.arch", "out.py"]


@pytest.mark.parametrize("command", [["check", "net.arch:large"], ["build", "net.arch:large", "-o", "out.py"]])
def test_interrupted(command: list[str], folder: Path) -> None:
    process = subprocess.Popen([*RUN, *command], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "") and one_line(err.lstrip()), err
    assert sorted(p.name for p in folder.iterdir()) == ["net.arch"]


# ---------------------------------------------------------------- strange surroundings

BARE = {"PATH": "/nowhere", "PYTHONPATH": str(ROOT)}
PLACES = {
    "no environment at all": BARE,
    "no temporary folder": {**BARE, "TMPDIR": "/nowhere", "HOME": "/nowhere"},
    "a home that is no folder": {**BARE, "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"},
    "ascii": {**BARE, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    "latin-1": {**BARE, "PYTHONIOENCODING": "latin-1"},
    "no columns": {**BARE, "COLUMNS": "0", "LINES": "x", "TERM": "unknown"},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "command",
    ["check net.arch:net", "show net.arch:net", "list", "build net.arch:net -o o.py", "draw net.arch:net -o o.svg"],
)
def test_strange_surroundings(place: str, command: str, folder: Path) -> None:
    done = run(*command.split(), env=PLACES[place])
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "-o" not in command or Path(command.split()[-1]).stat().st_size > 1000


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_closed_streams(closed: str, folder: Path) -> None:
    streams = " ".join(f"{n}{'<' if n == '0' else '>'}&-" for n in closed)
    for command, status in (("check net.arch:net", 0), ("show net.arch:net", 0), ("check nothing", 1)):
        done = subprocess.run(
            ["sh", "-c", f"{shlex.join(RUN)} {command} {streams}"], env=ENV, capture_output=True, text=True
        )
        assert done.returncode == status and "Traceback" not in done.stderr, done


@pytest.mark.parametrize("seconds", [0, 315532800 + 1, 2**32 + 5])
def test_files_of_another_age(seconds: int, folder: Path) -> None:
    os.utime("net.arch", (seconds, seconds))
    os.utime(folder, (seconds, seconds))
    assert run("build", "net.arch:net", "-o", "out.py").returncode == 0


def test_little_memory(folder: Path) -> None:
    script = f"ulimit -v 130000; exec {shlex.join(RUN)} check net.arch:large"
    done = subprocess.run(["sh", "-c", script], env=ENV, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr == "archdsl: the memory is full\n", done
