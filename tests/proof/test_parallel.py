"""The function that spreads a training: how it looks, and that only the right one is proved."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import archdsl
from archdsl.proof import Unproved, prove
from archdsl.transform.parallel import matches, parallel, patterns
from tests.helpers import graph_of

NORMS = """
block unit(width) {
    "A convolution with its normalisation."
    conv: conv(width, 3) -> bn: batchnorm
    relu -> conv(width, 1)
}
model norms {
    input x[3, H, W]
    stem: conv(4, 3)
    a: unit(4)
    body: { unit(5) -> unit(6) }
    global_avgpool -> flatten -> linear(5)
}
"""
PLAIN = "model plain {\n    input x[3, H, W]\n    conv(4, 3) -> relu -> conv(2, 1)\n}\n"


@pytest.mark.parametrize("text", [NORMS, PLAIN], ids=["norms", "plain"])
def test_it_is_written_in_the_style_of_the_file(text: str, tmp_path: Path) -> None:
    assert shutil.which("ruff", path=str(Path(sys.executable).parent)), "ruff is one of the dev extra"
    (tmp_path / "net.py").write_text(archdsl.build(graph_of(text), parallel=True), "utf-8")
    for command in (["check", "--isolated"], ["format", "--isolated", "--diff"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "net.py"], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


WRONG = {
    "another unit": ('UNITS = ("a", "body.*")', 'UNITS = ("a", "body")'),
    "a unit too few": ('UNITS = ("a", "body.*")', 'UNITS = ("a",)'),
    "a layer": ('UNITS = ("a", "body.*")', 'UNITS = ("a", "stem", "body.*")'),
    "no table": ('UNITS = ("a", "body.*")', "RENAMED = {}"),
    "no text": ('UNITS = ("a", "body.*")', 'UNITS = ("a", "body.*", 1)'),
    "another function": ("fully_shard(unit, mesh=mesh, mp_policy=policy)", "fully_shard(unit, mesh=mesh)"),
    "another helper": ("any(\n            fnmatchcase", "all(\n            fnmatchcase"),
    "another import": ("from fnmatch import fnmatchcase", "from functools import wraps as fnmatchcase"),
}


@pytest.mark.parametrize(("old", "new"), WRONG.values(), ids=WRONG)
def test_wrong_ones_are_refused(old: str, new: str) -> None:
    graph = graph_of(NORMS)
    text = archdsl.build(graph, parallel=True)
    prove(text, graph, parallel=parallel(graph))
    assert old in text
    with pytest.raises(Unproved):
        prove(text.replace(old, new), graph, parallel=parallel(graph))


def test_a_function_that_nobody_asked_for_is_refused() -> None:
    graph = graph_of(NORMS)
    with pytest.raises(Unproved):
        prove(archdsl.build(graph, parallel=True), graph)


def test_patterns_match_the_paths_and_no_others() -> None:
    paths = ["a.0", "a.1", "b.x1.c", "b.x2.c", "d"]
    found = patterns(paths, {"a", "b", "b.x1", "b.x1.d", "a.0.1"})
    assert found == ("a.*", "b.x*.c", "d")
    assert patterns(["a.0", "a.1"], {"a.2"}) == ("a.0", "a.1")
    assert matches("a.10", "a.*") and not matches("a.1.2", "a.*")


def test_the_inference_form_has_none() -> None:
    with pytest.raises(ValueError, match="does not train"):
        archdsl.build(graph_of(PLAIN), inference=True, parallel=True)
