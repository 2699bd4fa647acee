"""Real system errors: a one-line message, the right exit status, the old output intact."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import archdsl
from archdsl import cli
from archdsl.runtime.running import encode_png
from tests.helpers import ROOT

ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
RUN = [sys.executable, "-m", "archdsl"]
NET = """
block unit(width) { conv(width, 3) -> batchnorm -> relu }
model net {
    input image[3, H = 32, W = 32]
    for i in 1..20 { "layer{i}": unit(8 * i) }
}
model seen {
    input image[3, H = 16, W = 16]
    a: unit(4) -> b: unit(4) -> global_avgpool -> flatten -> linear(10)
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
    """Whether a process may mount its own file systems."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


OUTPUTS = """
    build net.arch:net -o disk/out.py
    build net.arch:net --for inference -o disk/out.py
    draw net.arch:net -o disk/out.svg
    draw net.arch:net -o disk/out.png
    draw net.arch:net -o disk/out.tex
    draw net.arch:net -o disk/out.html
    draw net.arch:seen -o disk/out.svg
    show net.arch:net -o disk/out.svg
    diff net.arch:net lenet:lenet -o disk/out.svg
    weights lenet:lenet weights.pth -o disk/out.safetensors
    export lenet:lenet -o disk/out.pt2
    probe net.arch:seen -o disk/out.svg
    look net.arch:seen --image picture.png -o disk/out.png
"""
EVERY = """
import contextlib, io, json, os, sys
from archdsl import cli
for command in sys.argv[1].split("\\n"):
    said, out = io.StringIO(), command.split()[-1]
    with contextlib.suppress(OSError), open(out, "x") as file:
        file.write("old")
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = cli.run([*command.split(), "--force"])
    with open(out, "rb") as file:
        kept = file.read() == b"old"
    print(json.dumps([command, status, said.getvalue(), kept, os.listdir("disk")]))
    with contextlib.suppress(OSError):
        os.unlink(out)
"""
# Everything but the folder for the output, without a home; what is mounted elsewhere too.
NOTHING_TO_WRITE_IN = """
mount --rbind / /mnt
mount -t tmpfs none disk
mount -o remount,bind,ro /mnt
mount --bind disk /mnt$PWD/disk
mount -t tmpfs -o ro none /mnt/dev/shm
exec chroot /mnt sh -ec 'cd "$0"; HOME=/nowhere "$@"' "$PWD" "$@"
"""
DISKS = {
    "full": "mount -t tmpfs -o size=4k none disk",
    "read-only": "mount -t tmpfs none disk; cd disk; for out in $OUT; do printf old > $out; done; cd ..;"
    "mount -o remount,ro disk",
    "no temporary folder": NOTHING_TO_WRITE_IN,
}
REASONS = {
    "full": "No space left on device",
    "read-only": "Read-only file system",
    "no temporary folder": "temporary directory",
}


@pytest.mark.skipif(not mounts(), reason="no file system can be mounted here")
@pytest.mark.parametrize("disk", [pytest.param(d, marks=[pytest.mark.long] * (d != "full")) for d in DISKS])
def test_a_machine_that_takes_nothing(disk: str, folder: Path) -> None:
    """Every command that writes a file, all in one process, since torch starts slowly."""
    for package in ("torch", "matplotlib", "PIL"):
        pytest.importorskip(package)
    import torch

    torch.save(archdsl.load("lenet:lenet").state_dict(), "weights.pth")
    Path("picture.png").write_bytes(encode_png(torch.rand(3, 20, 20)))
    (folder / "disk").mkdir()
    commands = [line.strip() for line in OUTPUTS.strip().splitlines()]
    outs = {Path(command.split()[-1]).name for command in commands}
    script = f'{DISKS[disk]}\nexec "$@"'
    command = ["unshare", "-rm", "sh", "-ec", script, "sh", sys.executable, "-c", EVERY, "\n".join(commands)]
    env = {**ENV, "OUT": " ".join(outs)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [command for command, *_ in found] == commands
    for command, status, said, kept, left in found:
        assert left == [Path(command.split()[-1]).name] or disk == "read-only", (command, left)
        if disk == "no temporary folder" and status == 0:
            assert not said and not kept
        else:
            assert status == 2 and said.count("\n") == 1 and REASONS[disk] in said and kept, (command, status, said)


def test_folders_that_take_nothing(folder: Path) -> None:
    for out in ("missing/out.py", "net.arch/out.py", "/proc/out.py", "/dev/null/out.py"):
        done = run("build", "net.arch:net", "-o", out)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done


# ---------------------------------------------------------------- writers that die or meet

WRITER = """
import itertools, sys
from archdsl.common.files import write_whole
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
    for number in range(4):
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
    assert (folder / "out.py").read_text() in [archdsl.build(archdsl.check(name)) for name in names]
    assert sorted(p.name for p in folder.iterdir()) == ["net.arch", "out.py"]


@pytest.mark.parametrize("command", [["check", "net.arch:large"], ["build", "net.arch:large", "-o", "out.py"]])
def test_interrupted(command: list[str], folder: Path) -> None:
    process = subprocess.Popen([*RUN, *command], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT) and out == "" and one_line(err.lstrip()), err
    assert sorted(p.name for p in folder.iterdir()) == ["net.arch"]


# What Ctrl-C meets at some import: nobody that swallows it, one that does, one that makes another error of it.
SWALLOWED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt as error:
                {then}
sys.meta_path.insert(0, Finder())
sys.argv = ["archdsl", *{command!r}]
from archdsl.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["click", "archdsl.compiler", "torch"])
@pytest.mark.parametrize("then", ["raise", "raise ImportError('half imported') from None"])
def test_interrupted_while_something_is_imported(module: str, then: str, folder: Path) -> None:
    command = ["export", "lenet:lenet", "-o", "net.pt2"]
    code = SWALLOWED.format(module=module, then=then, command=command)
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, timeout=120)
    # Where exec() ran what was interrupted, Python ends itself by the signal, which a shell tells as 130, too.
    assert done.returncode in (130, -signal.SIGINT) and done.stderr.lstrip() == "archdsl: interrupted\n", done
    assert sorted(p.name for p in folder.iterdir()) == ["net.arch"]


def test_interrupted_where_nobody_can_catch_it(folder: Path) -> None:
    """As in a callback of the import system, which Python would tell of and go on."""
    code = """
import os, signal, weakref
from archdsl.common import interrupts
interrupts.remember()
class Thing: pass
thing = Thing()
reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
del thing
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "archdsl: interrupted\n"), done


# ---------------------------------------------------------------- streams that nobody reads, or that are full

TALKING = """
    check net.arch:net
    show net.arch:net
    show net.arch:net --json
    explain net.arch:net
    diff net.arch:net lenet:lenet
    build net.arch:net
    list
    completion bash
    --help
    show --help
    --version
"""


@pytest.mark.parametrize("command", [line.strip() for line in TALKING.strip().splitlines()])
def test_a_closed_pipe(command: str, folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*RUN, *command.split()], env=ENV, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("command", ["show net.arch:net", "--help", "build net.arch:net"])
def test_a_full_standard_output(command: str, folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*RUN, *command.split()], env=ENV, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr == "archdsl: No space left on device\n"


@pytest.mark.parametrize("command", ["nonsense", "build net.arch:net -o /proc/nowhere/out.py", "check nothing"])
def test_a_full_standard_error(command: str, folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*RUN, *command.split()], env=ENV, stdout=subprocess.PIPE, stderr=full, text=True)
    assert (done.returncode, done.stdout) == (2, "")


# ---------------------------------------------------------------- strange surroundings

BARE = {"PATH": "/nowhere", "PYTHONPATH": str(ROOT)}
PLACES = {
    "no environment at all": BARE,
    "no temporary folder": {**BARE, "TMPDIR": "/nowhere", "HOME": "/nowhere"},
    "ascii": {**BARE, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    "latin-1": {**BARE, "PYTHONIOENCODING": "latin-1"},
    "a home that is no folder, and no columns": {
        **{**BARE, "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"},
        **{"COLUMNS": "0", "LINES": "x", "TERM": "unknown"},
    },
}


# Several commands, as `main` runs one: starting Python takes longer than most of them.
SEVERAL = """
import sys
from archdsl import cli
cli.prepare(sys.stdout, sys.stderr)
sys.exit(max(cli.run(command.split()) for command in sys.argv[1:]))
"""


def run_several(*commands: str, before: Sequence[str] = (), **settings) -> subprocess.CompletedProcess:  # type: ignore[no-untyped-def, type-arg]
    command = [*before, sys.executable, "-c", SEVERAL, *commands]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=120, **{"env": ENV, **settings}
    )


@pytest.mark.parametrize("place", PLACES)
def test_strange_surroundings(place: str, folder: Path) -> None:
    talking = ["check net.arch:net", "show net.arch:net", "list"]
    writing = ["build net.arch:net -o o.py", "draw net.arch:net -o o.svg"]
    done = run_several(*talking, *writing, env=PLACES[place])
    assert (done.returncode, done.stderr) == (0, ""), done
    for command in writing:
        assert Path(command.split()[-1]).stat().st_size > 1000
    if place == "ascii":
        assert done.stdout.isascii() and "x" in done.stdout


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_closed_streams(closed: str, folder: Path) -> None:
    streams = " ".join(f"{n}{'<' if n == '0' else '>'}&-" for n in closed)
    for command, status in (("show net.arch:net", 0), ("check nothing", 1)):
        done = subprocess.run(
            ["sh", "-c", f"{shlex.join(RUN)} {command} {streams}"], env=ENV, capture_output=True, text=True
        )
        assert done.returncode == status and "Traceback" not in done.stderr, done


@pytest.mark.parametrize("seconds", [0, 315532800 + 1, 2**32 + 5])
def test_files_of_another_age(seconds: int, folder: Path) -> None:
    os.utime("net.arch", (seconds, seconds))
    os.utime(folder, (seconds, seconds))
    assert cli.run(["build", "net.arch:net", "-o", "out.py"]) == 0


@pytest.mark.skipif(not shutil.which("faketime"), reason="there is no faketime, which sets a clock for one process")
def test_the_clock_says_1980(folder: Path) -> None:
    outs = {"o.py": "build", "o.html": "draw", "o.pdf": "draw"}

    def made(*clock: str) -> list[bytes]:
        done = run_several(*(f"{command} net.arch:net -o {out}" for out, command in outs.items()), before=clock)
        assert (done.returncode, done.stderr) == (0, "")
        return [Path(out).read_bytes() for out in outs]

    assert made("faketime", "-f", "@1980-01-01 00:00:00") == made()


def test_little_memory(folder: Path) -> None:
    code = """
import resource, sys
from archdsl import cli, compiler
with open("/proc/self/statm") as file:
    most = int(file.read().split()[0]) * resource.getpagesize() + (15 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.exit(cli.run(["check", "net.arch:large"]))
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr == "archdsl: out of memory\n", done
