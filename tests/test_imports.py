"""The import order: every module imports only from rooms above its own in the list, and only load() imports torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

PACKAGE = ROOT / "archdsl"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up. A room is a module or a package; imports inside a room are not restricted.
ORDER = [
    "common",
    "diagnostics",
    "dims",
    "ops",
    "augment",
    "syntax",
    "formatting",
    "highlighting",
    "graph",
    "advice",
    "values",
    "elaborate",
    "analysis",
    "checker",
    "transform",
    "planning",
    "report",
    "backends",
    "proof",
    "compiler",
    "built",
    "runtime",
    "importer",
    "editing",
    "language_server",
    "watching",
    "starters",
    "cli",
    "__main__",
]
# Rooms that run networks: only these import torch, and only in functions; the package that reads modules needs it at
# once, and is itself imported only in functions.
RUNNERS = {"runtime"}
READERS = PACKAGE / "runtime" / "importing"
LEVEL = {room: level for level, room in enumerate(ORDER)}


def imported(tree: ast.AST, *, deferred: bool = True) -> set[str]:
    """The names that a module imports, including those in functions if `deferred`, without those for type checkers."""
    found: set[str] = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            stack.extend(node.orelse)
            continue
        if isinstance(node, ast.FunctionDef) and not deferred:
            continue
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            # `from archdsl import dims` is dims, and `from archdsl import __version__` the package itself.
            found |= {f"archdsl.{a.name}" for a in node.names} if module == "archdsl" else {module}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        stack.extend(ast.iter_child_nodes(node))
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    here = room(path)
    tree = ast.parse(path.read_text("utf-8"))
    names = imported(tree)
    if not path.is_relative_to(READERS):
        assert not any(n.partition(".")[0] == "torch" for n in imported(tree, deferred=here not in RUNNERS))
        assert not any("runtime.importing" in n for n in imported(tree, deferred=False))
    if here == "__init__":
        return
    for name in names:
        parts = name.split(".")
        if parts[0] == "archdsl" and len(parts) > 1 and parts[1] in LEVEL and parts[1] != here:
            assert LEVEL[parts[1]] < LEVEL[here], f"{here} imports {parts[1]}"


def test_every_room_has_its_place() -> None:
    assert {room(p) for p in MODULES} - {"__init__"} <= set(LEVEL)


def test_backends_share_their_python_alone() -> None:
    for path in (PACKAGE / "backends").rglob("*.py"):
        own = path.relative_to(PACKAGE / "backends").with_suffix("").parts[0]
        for name in imported(ast.parse(path.read_text("utf-8"))):
            if name.startswith("archdsl.backends."):
                assert name.split(".")[2] in (own, "python")


COMMANDS = [
    ["check", "resnet:resnet18"],
    ["show", "resnet:resnet18"],
    ["show", "resnet:resnet18", "vgg:vgg11", "--gpu-memory", "16GiB"],
    ["explain", "resnet:resnet18:layer1.0.conv1"],
    ["explain", "E0301"],
    ["build", "resnet:resnet18", "-o", "net.py"],
    ["draw", "resnet:resnet18", "-o", "net.svg"],
    ["list"],
    ["diff", "resnet:resnet18", "resnet:resnet34"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_torch_is_not_imported_by(command: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from archdsl import cli
status = cli.run({command!r})
assert status == 0, status
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT)})


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, archdsl; print({'click', 'lark', 'networkx', 'pydantic'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "set()"


def test_a_check_imports_only_what_it_needs() -> None:
    code = """
import sys
from archdsl import cli
assert cli.run(["check", "resnet:resnet18"]) == 0
print({"lark", "networkx", "numpy", "pydantic", "rich", "torch"} & set(sys.modules))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.splitlines()[-1] == "set()"
