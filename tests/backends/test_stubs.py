"""Stubs: mypy accepts right uses of imported specs, and only those."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from archdsl import cli
from archdsl.backends.stubs import stubs
from archdsl.elaborate.spec_files import library_families
from tests.helpers import ROOT

SPEC = """
block unit(n) {
    linear(n)
}
model net(classes = 10, rate = 0.5, wide = false, kind = "a", scale = 1, part = unit) {
    "A network of 'three' lines {0} %s"
    input x[4]
    linear(classes)
}
model sized(width) {
    input x[4]
    linear(width)
}
model lambda(k = 2) {
    input x[4]
    linear(k)
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.arch"
    path.write_text(SPEC)
    return path


def test_stubs(spec: Path) -> None:
    text = stubs(str(spec))
    functions = {f.name: f for f in ast.parse(text).body if isinstance(f, ast.FunctionDef)}
    assert set(functions) == {"net", "sized"}  # `lambda` cannot be imported
    types = {a.arg: ast.unparse(a.annotation) for a in functions["net"].args.args if a.annotation}
    assert types == dict(classes="int", rate="float", wide="bool", kind="str", scale="float", part="object")
    assert not functions["sized"].args.defaults


@pytest.mark.parametrize("family", library_families())
def test_stubs_of_the_library_are_python(family: str) -> None:
    ast.parse(stubs(family))


def test_archdsl_renews_its_stubs_and_no_others(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = spec.with_suffix(".pyi")
    assert cli.run(["stubs", str(spec), "-o", str(out)]) == cli.run(["stubs", str(spec), "-o", str(out)]) == 0
    out.write_text("def net() -> None: ...\n")
    assert cli.run(["stubs", str(spec), "-o", str(out)]) == 2


@pytest.mark.long
def test_mypy_reads_them(spec: Path) -> None:
    assert cli.run(["stubs", str(spec), "-o", str(spec.with_suffix(".pyi"))]) == 0
    use = spec.with_name("use.py")
    use.write_text("import net\nnet.net(3, rate=1, device='cpu')\nnet.sized(2)\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "use.py"]
    done = subprocess.run(command, cwd=spec.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    use.write_text("import net\nnet.net('three')\nnet.sized()\nnet.other()\n")
    done = subprocess.run(command, cwd=spec.parent, capture_output=True, text=True)
    assert done.stdout.count("error:") == 3, done.stdout


@pytest.mark.long
def test_pyright_reads_them(spec: Path) -> None:
    """In a package, too; and it knows what archdsl has (basedpyright is pyright with a Node of its own)."""
    package = spec.parent / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "py.typed").write_text("")
    spec = spec.rename(package / "net.arch")
    assert cli.run(["stubs", str(spec), "-o", str(spec.with_suffix(".pyi"))]) == 0
    settings = {"typeCheckingMode": "standard", "reportMissingModuleSource": "none", "extraPaths": [str(ROOT)]}
    (spec.parent.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    use = spec.parent.parent / "use.py"
    right = "net(3, rate=1, device='cpu').eval()\nsized(2)\narchdsl.load('x').state_dict()\narchdsl.check('x').name\n"
    wrong = "net('three')\nsized()\narchdsl.nothing\narchdsl.check(3)\n"
    for text, errors in ((right, 0), (wrong, 4)):
        use.write_text(f"import archdsl\nfrom mine.net import net, sized\n{text}")
        command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson", "use.py"]
        done = subprocess.run(command, cwd=use.parent, capture_output=True, text=True)
        found = json.loads(done.stdout)["generalDiagnostics"]
        assert len([d for d in found if d["severity"] == "error"]) == errors, found
