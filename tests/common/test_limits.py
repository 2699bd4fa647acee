"""Resource limits for untrusted specs: each gives a clear error quickly, without using much memory."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import archdsl
from archdsl import cli
from archdsl.common import files
from archdsl.common.limits import WHAT, Limits
from tests.helpers import ROOT

HEAD = "model m {\ninput x[1, 8]\n"
NET = HEAD + "relu\n}\n"


def lets(first: str, step: str, count: int = 60) -> str:
    """`let v0 = …`, then each value from the previous one."""
    return f"let v0 = {first}\n" + "".join(
        f"let v{i} = {step.replace('v', f'v{i - 1}')}\n" for i in range(1, count + 1)
    )


CALLS = "block b0 { relu }\n" + "".join(f"block b{i} {{ b{i - 1}\nb{i - 1}\nb{i - 1}\n}}\n" for i in range(1, 30))
PRIMES = 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47

HOSTILE = {
    "repeat": ("E0502", HEAD + "repeat 1000000000000 { relu }\n}"),
    "nested repeat": ("E0501", HEAD + "repeat 1000 { repeat 1000 { repeat 1000 { relu } } }\n}"),
    "nested for": ("E0501", HEAD + "for i in 0..999 { for j in 0..999 { for k in 0..999 { relu } } }\n}"),
    "empty rounds": ("E0502", HEAD + "repeat 999999 { repeat 999999 { } }\nrelu\n}"),
    "doubling recursion": ("E0501", "block b(n) { if n > 0 { b(n - 1)\nb(n - 1) }\nrelu }\n" + HEAD + "b(40)\n}"),
    "doubling recursion of nothing": (
        "E0502",
        "block b(n) { if n > 0 { b(n - 1)\nb(n - 1) } }\n" + HEAD + "b(40)\nrelu\n}",
    ),
    "tripling blocks": ("E0501", CALLS + HEAD + "b29\n}"),
    "doubling tensors": ("E0501", HEAD + "it" + " -> (it, it)" * 60 + " -> concat\n}"),
    "deep recursion": ("E0504", "block b(n) { if n > 0 { b(n - 1) }\nrelu }\n" + HEAD + "b(10000)\n}"),
    "deep function": ("E0504", "fn f(n) = f(n - 1) + 1 if n > 0 else 0\n" + HEAD + "conv(f(10000), 1)\n}"),
    "slow function": ("E0502", "fn f(n) = f(n - 1) + f(n - 2) if n > 1 else 1\n" + HEAD + "conv(f(60), 1)\n}"),
    "deep values": ("E0504", "".join(f"let v{i} = v{i + 1}\n" for i in range(9999)) + "let v9999 = 1\n" + NET),
    "deep members": ("E0504", "".join(f"model m{i} = m{i + 1}\n" for i in range(9999)) + "model m9999 { relu }"),
    "deep bodies": ("E0105", HEAD + "{" * 10000 + "relu" + "}" * 10000 + "\n}"),
    "deep parentheses": ("E0105", "let v = " + "(" * 10000 + "1" + ")" * 10000 + "\n" + NET),
    "deep lists": ("E0105", "let v = " + "[" * 10000 + "1" + "]" * 10000 + "\n" + NET),
    "many operators": ("E0105", "let v = " + "1 + " * 10000 + "1\n" + NET),
    "many signs": ("E0105", "let v = " + "-" * 10000 + "1\n" + NET),
    "many conditions": ("E0105", "let v = " + "1 if true else " * 10000 + "1\n" + NET),
    "range": ("E0505", "let v = 0..1000000000000000000000000000000\n" + NET),
    "steps of a range": ("E0505", "let v = range(0, 1000000000000000000000000000000, 7)\n" + NET),
    "doubling list": ("E0505", lets("[1]", "v + v") + NET),
    "multiplied list": ("E0505", "let v = [1] * 1000000000000\n" + NET),
    "lists in lists": ("E0505", lets("[1]", "[v, v, v]") + NET),
    "deep list": ("E0505", lets("[1]", "[v]", 150) + NET),
    "many lists": ("E0505", HEAD + "repeat 100000 { let v = 0..100000\n}\nrelu\n}"),
    "zip": ("E0505", "let v = zip(0..900000, 0..900000)\n" + NET),
    "power": ("E0505", lets("10", "v * v") + NET),
    "digits": ("E0103", "let v = 1" + "0" * 5000 + "\n" + NET),
    "shift of a round": ("E0211", "let v = round(1, -1000000000)\n" + NET),
    "doubling string": ("E0505", lets('"ab"', "v + v") + NET),
    "long path": ("E0505", lets('"ab"', "v + v", 14) + HEAD + '"{v14}": relu\n}'),
    "deep path": ("E0505", "block b(n) { if n > 0 { \"" + "a" * 99 + '": b(n - 1) }\nrelu }\n' + HEAD + "b(90)\n}"),
    "sizes": ("E0228", HEAD + "reshape([1] * 1000000)\n}"),
    "results": ("E0228", "model m {\ninput x[1000000000000, 8]\nsplit(1000000000000) -> concat\n}"),
    "intricate sizes": (
        "E0305",
        "model m {\ninput x[1, W]\n"
        + "".join(
            f"conv(1, {3 + i % 5}, stride = {2 + i % 7}, pad = valid)\nupsample({(3, 5, 7, 11, 13)[i % 5]})\n"
            for i in range(40)
        )
        + "}",
    ),
}  # fmt: skip


def codes(text: str, **limits: int) -> list[str]:
    try:
        archdsl.check(archdsl.Source("hostile.arch", text), limits=Limits(**limits))
    except archdsl.SpecError as error:
        return [d.code for d in error.diagnostics]
    return []


SLOW = {"doubling recursion of nothing", "doubling tensors", "nested for", "nested repeat", "slow function"}
"""What the bounds as they are let run for seconds before it is refused."""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_spec_is_refused(name: str) -> None:
    code, text = HOSTILE[name]
    bounds = {"nodes": 20_000, "steps": 500_000} if name in SLOW else {}
    start = time.process_time()
    assert code in codes(text, **bounds)
    assert time.process_time() - start < 20  # some 3 s at worst, and more on a busy machine


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SLOW))
def test_what_is_refused_last(name: str) -> None:
    code, text = HOSTILE[name]
    start = time.process_time()
    assert code in codes(text)
    assert time.process_time() - start < 40  # some 5 s, and more on a busy machine


def test_the_solver_runs_out_of_time() -> None:
    # The text is what was once seen to take hours: residues modulo a product of many primes.
    rows = "".join(f"conv(1, 1, stride = {p})\nupsample({p})\nexpect [1, W]\n" for p in PRIMES)
    start = time.process_time()
    assert codes("model m {\ninput x[1, W]\n" + rows + "}", solver_seconds=1) == ["E0506"]
    assert time.process_time() - start < 6


# For each file of the folder: the status, and the seconds of computing; no more memory than the bytes given.
CHECKS = """
import resource, sys, time
from pathlib import Path
from archdsl import cli
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for path in sorted(Path().glob("*.arch")):
    start = time.process_time()
    status = cli.run(["check", str(path)])
    print(f"{path.stem}: {status} {time.process_time() - start}", flush=True)
"""


def checked_in(folder: Path, texts: dict[str, str], most: int) -> tuple[dict[str, float], str]:
    """The seconds until each text is answered, all in one process, and the answers."""
    for name, text in texts.items():
        (folder / f"{name}.arch").write_text(text, "utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHECKS, str(most)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(": ") for line in done.stdout.splitlines() if line.partition(":")[0] in texts)
    assert found.keys() == texts.keys() and all(said[0] in "01" for said in found.values())
    return {name: float(said.split()[1]) for name, said in found.items()}, done.stderr


def test_a_small_spec_takes_little_memory(tmp_path: Path) -> None:
    names = ["repeat", "nested repeat", "doubling recursion", "tripling blocks", "lists in lists"]
    seconds, said = checked_in(tmp_path, {name: HOSTILE[name][1] for name in names}, 200 << 20)
    assert seconds["repeat"] < 1 and all(HOSTILE[name][0] in said for name in names)
    assert "out of memory" not in said


LONG = {
    "string": 'let v = "' + "ab" * 500_000 + '"\n' + NET,
    "escapes": 'let v = "' + r"\n" * 500_000 + '"\n' + NET,
    "quotes": "'" + "ab" * 500_000 + "'",
    "open string": '"' + "ab" * 500_000,
    "size": "let v = " + "1x" * 500_000 + "1\n" + NET,
    "bad number": "let v = 1" + ".a" * 500_000,
    "label": HEAD + '"' + "a" * 1_000_000 + '": relu\n}',
    "name": HEAD + "a" * 1_000_000 + "(1)\n}",
    "bad characters": "é " * 500_000,
    "foreign signs": ";" * 1_000_000,
    "wrong lines": "a a\n" * 100_000,
    "parameters": f"block b({', '.join(f'p{i} = 1' for i in range(5_000))}) {{ relu }}\n" + HEAD + "b\n}",
}
"""Texts of some 1 MB."""


def test_long_texts_take_little_time_and_memory(tmp_path: Path) -> None:
    """The answers are short, too."""
    seconds, said = checked_in(tmp_path, LONG, 400 << 20)
    assert max(seconds.values()) < 10, seconds
    assert max(map(len, said.splitlines())) < 3_000


REACHED = {
    "nodes": HEAD + "relu\nrelu\n}",
    "rounds": HEAD + "repeat 2 { relu }\n}",
    "steps": NET,
    "depth": "block b { relu }\nblock c { b }\n" + HEAD + "c\n}",
    "function_depth": "fn f(n) = g(n)\nfn g(n) = n\nlet v = f(1)\n" + NET,
    "list_size": "let v = [1, 2]\n" + NET,
    "list_depth": "let v = [[1]]\n" + NET,
    "elements": "let v = [1]\nlet w = [1]\n" + NET,
    "string_size": 'let v = "a" + "b"\n' + NET,
    "path_size": HEAD + "label: relu\n}",
    "bits": "let v = 2 + 2\n" + NET,
    "nesting": HEAD + "{ relu }\n}",
    "operators": "let v = 1 + 1 + 1\n" + NET,
    "digits": "let v = 10\n" + NET,
}


@pytest.mark.parametrize("name", REACHED)
def test_each_limit_can_be_set(name: str) -> None:
    assert codes(REACHED[name]) == []
    assert codes(REACHED[name], **{name: 1})
    assert codes(REACHED[name], **{name: 1000}) == []


def test_limits_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        (tmp_path / f"f{i}.arch").write_text(f"from f{i + 1} import v{i + 1} as v{i}\n")
    (tmp_path / "f5.arch").write_text("let v5 = 1\n")
    (tmp_path / "net.arch").write_text("from f0 import v0\n" + NET)
    spec = str(tmp_path / "net.arch")
    assert cli.run(["check", spec]) == 0
    for limit, code in (("imports=4", "E0503"), ("import_depth=4", "E0503"), ("text_bytes=9", "E0006")):
        assert cli.run(["check", spec, "--limit", limit]) == 1
        assert code in capsys.readouterr().err
    assert cli.run(["check", spec, "--limit", "imports=9", "--limit", "nodes=7"]) == 0
    assert {*WHAT} == {*REACHED, "imports", "import_depth", "text_bytes", "solver_seconds"}


@pytest.mark.parametrize(
    "given", ["nodes", "nodes=0", "nodes=-1", "nodes=many", "nodes=٣", "mice=3", "nodes=9" + "9" * 30]
)
def test_limits_are_numbers(given: str) -> None:
    assert cli.run(["check", "lenet:lenet", "--limit", given]) == 2


def test_limits_of_the_api() -> None:
    with pytest.raises(ValueError, match="nodes"):
        Limits(nodes=0)
    with pytest.raises(archdsl.SpecError, match="more than 3 nodes"):
        archdsl.check("lenet:lenet", limits=Limits(nodes=3))


# ---------------------------------------------------------------- imports

SECRET = "root:x:0:0:secret\n"


@pytest.mark.parametrize("way", ["link out", "folder out", "fifo", "device", "folder", "circle"])
def test_imports_stay_beneath_the_spec(way: str, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    (out / "secret.arch").write_text(SECRET)
    name = "sub.secret" if way == "folder out" else "secret"
    match way:
        case "link out":
            (home / "secret.arch").symlink_to(out / "secret.arch")
        case "folder out":
            (home / "sub").symlink_to(out)
        case "fifo":
            os.mkfifo(home / "secret.arch")
        case "device":
            (home / "secret.arch").symlink_to("/dev/zero")
        case "folder":
            (home / "secret.arch").mkdir()
        case "circle":
            (home / "secret.arch").symlink_to(home / "secret.arch")
    (home / "net.arch").write_text(f"from {name} import x\n" + NET)
    with pytest.raises(archdsl.SpecError) as caught:
        archdsl.check(home / "net.arch")
    assert [d.code for d in caught.value.diagnostics] == ["E0003"]
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize("name", ["..secret", ".secret", "/etc/passwd", '"/etc/passwd"', "a" * 5000, "a." * 3000 + "b"])
def test_strange_imports(name: str, tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text(f"from {name} import x\n" + NET)
    with pytest.raises(archdsl.SpecError):
        archdsl.check(tmp_path / "net.arch")


def test_a_system_without_named_pipes_reads_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.arch").write_text(NET)
    for name in ("O_NONBLOCK", "set_blocking"):  # as on Windows
        monkeypatch.delattr(os, name)
    assert len(archdsl.check(tmp_path / "net.arch"))


def test_a_pipe_is_waited_for_as_long_as_somebody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "net.arch"
    os.mkfifo(pipe)
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    with pytest.raises(archdsl.SpecError, match="without a writer"):
        archdsl.check(pipe)

    def write() -> None:
        with open(pipe, "w") as file:
            for line in NET.splitlines(True):
                time.sleep(0.2)
                file.write(line)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert archdsl.check(pipe)
    writer.join()


def test_too_many_imports_are_told_once(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"f{i}.arch").write_text("let v = 3\n")
    (tmp_path / "net.arch").write_text("".join(f"from f{i} import v as v{i}\n" for i in range(9)) + NET)
    with pytest.raises(archdsl.SpecError) as caught:
        archdsl.check(tmp_path / "net.arch", limits=Limits(imports=4))
    assert [d.code for d in caught.value.diagnostics] == ["E0503"]


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "one.arch").write_text("let v = 3\n")
    (tmp_path / "two.arch").symlink_to(tmp_path / "one.arch")
    (tmp_path / "net.arch").write_text("from two import v\n" + HEAD + "conv(v, 1)\n}")
    assert archdsl.check(tmp_path / "net.arch")
