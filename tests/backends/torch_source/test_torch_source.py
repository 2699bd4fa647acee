"""The generated module: what a reader sees, and that it computes what the graph says."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch

import archdsl
from archdsl.compiler import prove_build
from archdsl.runtime.export import TESTED
from tests import published
from tests.backends.torch_source.test_starts import mixed
from tests.helpers import ROOT, graph_of, net_text, random_graph
from tests.random_checks import READABLE, Wrong, holds
from tests.random_networks import network

GOLDEN = ROOT / "tests" / "golden"


def test_random_networks_compute_what_their_graphs_say() -> None:
    random = Random(3)
    for _ in range(30):
        text, graph = random_graph(network, random)
        try:
            holds(graph, READABLE)
        except Wrong as error:
            raise AssertionError(text) from error


@pytest.mark.parametrize("spec", ["resnet:resnet50", "densenet:densenet121", "mobilenet:mobilenet_v2", "unet:unet"])
def test_golden(spec: str, update: bool) -> None:
    path = GOLDEN / f"{spec.split(':')[1]}.py"
    source = archdsl.build(archdsl.check(spec))
    if update:
        path.write_text(source)
    assert path.read_text() == source
    assert source == archdsl.build(archdsl.check(spec))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with built files of the library's models, as they read best, and of one with all ways to start."""
    folder = tmp_path_factory.mktemp("built")
    for spec in published.kinds():
        made = prove_build(archdsl.check(spec))
        assert made.plainness == 0, made.refused
        (folder / f"{spec.split(':')[1]}.py").write_text(made.text)
    (folder / "net.py").write_text(archdsl.build(mixed()))
    return folder


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with forms for inference and forms that recompute."""
    folder = tmp_path_factory.mktemp("forms")
    for spec in ("resnet:resnet50", "densenet:densenet121", "vgg:vgg16_bn", "fcdensenet:fcdensenet56"):
        graph = archdsl.check(spec)
        (folder / f"{graph.name}_inference.py").write_text(archdsl.build(graph, inference=True))
    for spec, mode in (("densenet:densenet121", "dense"), ("unet:unet_padded", "blocks"), ("unet:unet", "blocks")):
        graph = archdsl.check(spec)
        (folder / f"{graph.name}_{mode}.py").write_text(archdsl.build(graph, recompute=mode))
    for number, body in enumerate(CHANNELS):
        graph = graph_of(net_text(body, "x[4, 8, 8]"))
        (folder / f"net{number}.py").write_text(archdsl.build(graph, inference=True))
    return folder


CHANNELS = (
    "upconv(6, 2, groups = 2) -> batchnorm",
    "(conv(3, 1), conv(5, 3)) -> concat -> batchnorm(affine = false) -> relu",
    "aux: conv(3, 1)\n x -> dropout(0.1) -> conv(4, 1) -> logits: batchnorm\n output logits, aux if training",
)


def run(*command: str, cwd: Path) -> None:
    found = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


# The types of PyTorch before those that exports are tested with do not know Dim.DYNAMIC.
OLDER = [*map(int, torch.__version__.split(".")[:2])] < [*map(int, TESTED.split("."))]
KNOWN = ["--disable-error-code=attr-defined"] if OLDER else []


def files(*folders: Path) -> list[str]:
    return [str(path) for folder in folders for path in sorted(folder.glob("*.py"))]


def test_linter_formatter_and_type_checker_pass_on_built_files(built: Path, forms: Path, tmp_path: Path) -> None:
    assert shutil.which("ruff", path=str(Path(sys.executable).parent)), "ruff is one of the dev extra"
    for folder in (built, forms):
        run("ruff", "check", "--isolated", ".", cwd=folder)
        run("ruff", "format", "--isolated", "--check", ".", cwd=folder)
    config = Path(__file__).with_name("mypy.ini")
    run("mypy", *KNOWN, f"--config-file={config}", f"--cache-dir={tmp_path}", *files(built, forms), cwd=tmp_path)


@pytest.mark.long
def test_type_checker_passes_with_all_types_of_torch(built: Path, forms: Path, tmp_path: Path) -> None:
    """As a user runs it, for whom it reads all of torch."""
    run("mypy", "--strict", *KNOWN, "--config-file=", f"--cache-dir={tmp_path}", *files(built, forms), cwd=tmp_path)


def test_imports_torch_alone_and_the_model_stands_last(built: Path) -> None:
    allowed = {"torch", "typing", "collections", "functools"}
    for path in built.glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert {name.split(".")[0] for name in imported} <= allowed, path.name
        assert isinstance(tree.body[-1], ast.ClassDef)
        camel = "".join(part[:1].upper() + part[1:] for part in path.stem.split("_"))
        assert tree.body[-1].name == camel


FORBIDDEN = {"item", "tolist", "cpu", "numpy", "cuda", "to", "nonzero", "synchronize"}


def runs_freely(text: str) -> None:
    """Requires that no forward waits for a GPU, copies a tensor or keeps anything."""
    tree = ast.parse(text)
    methods = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "forward"]
    assert methods
    for node in (inner for method in methods for inner in ast.walk(method)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in FORBIDDEN
            assert isinstance(node.ctx, ast.Load), "forward sets an attribute"
        assert not isinstance(node, ast.Global | ast.Nonlocal | ast.While)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"float", "int", "bool", "print"}


def test_forward_neither_waits_nor_copies_nor_keeps_anything(built: Path) -> None:
    for path in built.glob("*.py"):
        runs_freely(path.read_text())


@pytest.mark.long
@pytest.mark.parametrize("spec", published.library())
def test_no_forward_waits_or_copies_or_keeps_anything(spec: str) -> None:
    runs_freely(archdsl.build(archdsl.check(spec)))


def test_repetition_folds() -> None:
    def lines(spec: str) -> int:
        return len(archdsl.build(archdsl.check(spec)).splitlines())

    assert lines("resnet:resnet152") <= lines("resnet:resnet50") + 2
    assert lines("resnet:resnet152") <= lines("resnet:resnet18") + 30  # a bottleneck has a third convolution
    assert lines("densenet:densenet264") == lines("densenet:densenet121")


def test_an_invalid_size_is_refused_in_a_sentence() -> None:
    model = archdsl.load("unet:unet_padded", width=4)
    with pytest.raises(ValueError, match="H must be a multiple of 16, got 100; the nearest are 96 and 112"):
        model(torch.zeros(1, 3, 100, 96))
