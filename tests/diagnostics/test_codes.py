"""Every code has one meaning, described by its entry and triggered by its example."""

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import archdsl
from archdsl import cli, compiler
from archdsl.common.limits import Limits
from archdsl.diagnostics import SpecError
from archdsl.diagnostics.codes import CODES, GROUPS, text

PACKAGE = Path(archdsl.__file__).parent
CODE = re.compile(r"[EW]\d{4}")
EXAMPLES = [code for code in CODES.values() if code.example]
OTHERS = {name for name, code in CODES.items() if not code.example}


def said() -> set[str]:
    """The codes in the package's text, without the registry."""
    trees = [ast.parse(p.read_text("utf-8")) for p in PACKAGE.rglob("*.py") if p.parent.name != "codes"]
    texts = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    return {t for t in texts if isinstance(t, str) and CODE.fullmatch(t)}


def test_the_registry_has_the_codes_that_are_said() -> None:
    assert said() == CODES.keys()


def test_every_entry_is_whole() -> None:
    assert len({c.title for c in CODES.values()}) == len(CODES)
    for name, code in CODES.items():
        assert name[:3] in GROUPS and code.title and code.explanation.endswith(".")
        assert bool(code.example) != bool(code.arises), name


def codes(spec: str | Path, **settings: Limits) -> set[str]:
    try:
        return {d.code for d in compiler.check(spec, **settings).warnings}
    except SpecError as error:
        return {d.code for d in error.diagnostics}


@pytest.mark.parametrize("name", [c.code for c in EXAMPLES])
def test_example(name: str, tmp_path: Path) -> None:
    """The example triggers no other code."""
    path = tmp_path / "net.arch"
    path.write_text(CODES[name].example, "utf-8")
    started = time.process_time()
    assert codes(path) == {name}
    assert time.process_time() - started < 20, "an example is small"


def no_file(folder: Path) -> set[str]:
    return codes(folder / "nosuch.arch")


def a_folder(folder: Path) -> set[str]:
    return codes(folder)


def written(data: bytes, name: str = "net.arch", **settings: Limits) -> Callable[[Path], set[str]]:
    def of(folder: Path) -> set[str]:
        (folder / name).write_bytes(data)
        return codes(folder / name, **settings)

    return of


IMPORTS = b"from resnet import resnet18\nfrom vgg import vgg11\nmodel net { input x[3, 8, 8]\n relu }\n"
PYTHON = b"import torch\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return x + 1\n" * 9
TRIGGERS: dict[str, Callable[[Path], set[str]]] = {
    "E0001": no_file,
    "E0002": a_folder,
    "E0004": written(b"model net { # \xff\n}"),
    "E0005": written(b"model\0net"),
    "E0006": written(b"model net { }", limits=Limits(text_bytes=9)),
    "E0007": written(PYTHON, "train.py"),
    "E0105": written(b"let x = " + b"[" * 201 + b"]" * 201 + b"\nmodel net { input x[3, 8, 8]\n relu }\n"),
    "E0110": written(b"model net {\n" + b"relu relu\n" * 101 + b"}\n"),
    "E0503": written(IMPORTS, limits=Limits(imports=1)),
}
COMMANDS = {
    "E0232": ["explain", "resnet:resnet18:layer9"],
    "E0321": ["check", "lenet:lenet", "--size", "3x32"],
    "E0601": ["build", "lenet:lenet", "--recompute", "dense", "-o", os.devnull],
    "E0606": ["tile", "resnet:resnet18", "--size", "3x4000x4000", "--tile", "512"],
    "E0621": ["plan", "lenet:lenet", "--gpus", "2", "--memory", "1KiB", "--batch", "4"],
    "E0620": ["plan", "lenet:lenet", "--stages", "40"],
    "E0607": ["build", "lenet:lenet", "--memory", "1KiB", "-o", os.devnull],
}
ELSEWHERE = {
    "E0506": "tests/common/test_limits.py has a spec that takes so long; it costs seconds",
    "E0602": "it would be a fault of archdsl; tests/proof breaks modules and sees them refused",
    "E0605": "it would be a fault of archdsl; tests/formatting breaks the layout and sees it refused",
    "E0603": "tests/runtime/test_outside.py has specs whose code is not allowed",
    "E0604": "tests/runtime/test_outside.py has modules that are not what a spec says",
}


# Codes that can hide another one.
FOLLOWS = {"E0110": {"E0101"}}


@pytest.mark.parametrize("name", sorted(TRIGGERS))
def test_trigger(name: str, tmp_path: Path) -> None:
    assert TRIGGERS[name](tmp_path) == {name, *FOLLOWS.get(name, ())}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(COMMANDS[name]) == 1
    assert set(re.findall(r"\[([EW]\d{4})\]", capsys.readouterr().err)) == {name}


def test_every_code_is_triggered_or_has_a_reason() -> None:
    assert TRIGGERS.keys() | COMMANDS.keys() | ELSEWHERE.keys() == OTHERS


@pytest.mark.parametrize("name", CODES)
def test_explain(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", name]) == 0
    out = capsys.readouterr().out
    assert out == text(CODES[name]) and "\x1b" not in out
    assert CODES[name].title in out and CODES[name].explanation in out.replace("\n", " ")


def test_explain_of_an_unknown_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "E0399"]) == 2
    err = capsys.readouterr().err
    assert "E0399" in err and "did you mean `E03" in err
    assert cli.run(["explain", "E030"]) == 2 and cli.run(["explain", "e0301"]) == 0
    assert cli.run(["explain", "X0399"]) == 1, "a SPEC that is not there"


def test_only_explain_imports_the_registry(tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text("model net { }")
    code = "import sys; from archdsl import cli; assert cli.run(['check', 'net.arch']) == 1; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = run.stdout.split()
    assert "archdsl.diagnostics" in modules and "archdsl.diagnostics.codes" not in modules
