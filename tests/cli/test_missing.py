"""Missing packages: each command says what is missing and how to install it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch  # noqa: F401  # a torch first imported without numpy stays without it

from archdsl import cli
from archdsl.common import missing
from tests.helpers import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Removes a package."""

    def take(package: str) -> None:
        for name in [package, *sys.modules]:
            if name.partition(".")[0] == package:
                monkeypatch.setitem(sys.modules, name, None)

    return take


@pytest.mark.parametrize(
    ("package", "command", "install"),
    [
        ("torch", "weights lenet:lenet w.pth", "'archdsl[torch]'"),
        ("torch", "weights lenet:lenet w.pth -o out.pth", "'archdsl[torch]'"),
        ("torch", "export lenet:lenet -o out.onnx", "'archdsl[torch]'"),
        ("torch", "export lenet:lenet -o out.pt2", "'archdsl[torch]'"),
        ("torch", "probe lenet:lenet", "'archdsl[torch]'"),
        ("torch", "look lenet:lenet --image w.pth -o out.html", "'archdsl[torch]'"),
        ("numpy", "look lenet:lenet --image w.pth -o out.html", "'archdsl[torch]'"),
        ("PIL", "look lenet:lenet --image w.pth -o out.html", "'archdsl[pictures]'"),
        ("safetensors", "weights lenet:lenet w.safetensors", "'archdsl[torch]'"),
        ("onnx", "export lenet:lenet -o out.onnx", "'archdsl[onnx]'"),
        ("onnxscript", "export lenet:lenet -o out.onnx", "'archdsl[onnx]'"),
        ("matplotlib", "show lenet:lenet -o out.svg", "'archdsl[plots]'"),
        ("matplotlib", "probe lenet:lenet -o out.svg", "'archdsl[plots]'"),
        ("watchfiles", "watch lenet:lenet -o out.svg", "'archdsl[watch]'"),
        ("watchfiles", "watch lenet:lenet --page", "'archdsl[watch]'"),
        ("uvicorn", "watch lenet:lenet --page", "'archdsl[watch]'"),
    ],
)
def test_a_missing_package_is_said_with_what_installs_it(
    folder: Path, capsys, without, package: str, command: str, install: str
):
    torch_writes(folder)
    without(package)
    status = cli.run(command.split())
    out, err = capsys.readouterr()
    assert (status, out) == (2, "") and err.endswith(f"pip install {install}\n") and err.count("\n") == 1, err
    assert not [p for p in folder.iterdir() if p.stem == "out"]


def torch_writes(folder: Path) -> None:
    """Weight files, reduced to their first bytes."""
    (folder / "w.pth").write_bytes(b"\x80\x02}.")
    (folder / "w.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")


def test_a_file_names_the_extra_that_reads_it():
    code = """
import sys
sys.modules["torch"] = None
from archdsl import cli
for line in ("import net.onnx", "show net.yaml", "draw net.cfg -o out.svg"):
    assert cli.run(line.split()) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.rpartition("pip install ")[2] for line in done.stderr.splitlines()] == [
        "'archdsl[onnx]'",
        "'archdsl[yaml]'",
        "'archdsl[torch]'",
    ]


AUGMENTED = """
augment mirrored { hflip(p = 0.5) }

model net augmented mirrored {
    input image[3, H = 32, W = 32]
    conv(8, 3)
}
"""


@pytest.mark.parametrize("package", ["torch", "kornia"])
def test_an_augmentation_is_drawn_without_pictures_where_nothing_makes_them(
    folder: Path, capsys, without, package: str
):
    (folder / "augmented.arch").write_text(AUGMENTED)
    without(package)
    status = cli.run(["draw", "augmented.arch", "-o", "out.svg"])
    out, err = capsys.readouterr()
    assert (status, out) == (0, "") and "<image" not in (folder / "out.svg").read_text("utf-8")
    install = "'archdsl[augment]'" if package == "kornia" else "'archdsl[torch]'"
    assert (
        err.startswith("note: the augmentation is drawn without example images: ") and f"pip install {install}\n" in err
    )
    assert cli.run(["build", "augmented.arch", "-o", "out.py"]) == 0


def test_each_module_that_an_extra_installs_is_of_that_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    for module, extra in missing.EXTRAS.items():
        package = missing.PACKAGES.get(module, module)
        assert any(re.match(rf"{package}\b", requirement, re.IGNORECASE) for requirement in extras[extra]), module


def test_a_package_that_is_broken_and_a_module_of_ours():
    broken = ImportError("libtorch.so: no such file", name="torch._C")
    assert missing.what_to_do(broken) == "torch is installed, but cannot be imported: libtorch.so: no such file"
    assert missing.what_to_do(ModuleNotFoundError("No module named 'archdsl.nets'", name="archdsl.nets")) is None
    assert missing.what_to_do(ImportError("no name")) is None


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("torch", "torch", "load('augmented.arch')"),
        ("torch", "torch", "from_module"),
        ("torch", "onnx", "from_file('net.onnx')"),
        ("torch", "yaml", "from_file('net.yaml')"),
        ("pandas", "pandas", "check('augmented.arch').to_pandas()"),
        pytest.param("kornia", "augment", "load_augment('augmented.arch')", marks=pytest.mark.long),
    ],
)
def test_python_says_it_too(folder: Path, package: str, extra: str, call: str):
    (folder / "augmented.arch").write_text(AUGMENTED)
    code = f"import sys; sys.modules[{package!r}] = None; import archdsl; archdsl.{call}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stderr.splitlines()[-1].endswith(f"which is not installed: pip install 'archdsl[{extra}]'")
