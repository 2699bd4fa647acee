"""The names that `import archdsl` offers, and what they return."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

import archdsl
from archdsl import cli
from archdsl.runtime.weights import WeightsError
from tests.helpers import ROOT

NET = """
model net {
    input x[3, H = 8, W = 8]
    a: conv(4, 3) -> relu -> b: conv(2, 3)
}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "net.arch").write_text(NET)
    return tmp_path / "net.arch"


def test_dir_shows_what_is_offered_and_all_of_it_is_there() -> None:
    assert dir(archdsl) == sorted(archdsl.__all__)
    assert all(callable(getattr(archdsl, name)) for name in archdsl.__all__ if name != "__version__")
    code = "import archdsl; print(dir(archdsl))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == str(sorted(archdsl.__all__))


def test_show_prints_what_the_command_prints(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show", str(file), "--size", "3x8x8"]) == 0
    assert str(archdsl.show(file, size=(3, 8, 8))) == capsys.readouterr().out
    assert cli.run(["show", str(file), "lenet:lenet"]) == 0
    assert str(archdsl.show(file, "lenet:lenet")) == capsys.readouterr().out


def test_a_size_that_is_not_accepted_is_an_error(file: Path) -> None:
    with pytest.raises(archdsl.SpecError):
        archdsl.show(file, size=(4, 8, 8))


def test_tables_show_themselves_in_notebooks(file: Path) -> None:
    graph = archdsl.check(file)
    assert graph.table()._repr_html_().count("<tr>") == len(graph) + 2
    assert "<table>" in archdsl.show(graph)._repr_html_()
    found = archdsl.diff(graph, archdsl.check(archdsl.Source("b.arch", NET.replace("conv(4", "conv(5"))))
    assert "4 → 5" in found._repr_html_() and "parameters: 186 →" in found._repr_html_()
    html = archdsl.show(archdsl.check(archdsl.Source("b.arch", NET.replace("a:", '"a.b":'))))._repr_html_()
    assert "<script" not in html


def test_a_table_becomes_a_data_frame(file: Path) -> None:
    frame = archdsl.check(file).to_pandas()
    assert list(frame["path"]) == ["x", "a", "1", "b"] and frame["parameters"].sum() == 186


def test_explain_draw_and_build_take_a_spec(file: Path) -> None:
    assert archdsl.explain(file, "a").startswith("a: ")
    assert archdsl.build(file) == archdsl.build(archdsl.check(file))
    assert archdsl.draw(file)._repr_mimebundle_()


LONG = "x" * 300
"""Longer than a file's name may be."""


@pytest.mark.parametrize("call", [archdsl.build, archdsl.show, archdsl.explain, archdsl.draw, archdsl.load])
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (NET, r"this is text: `model net \{ …`.*\n.*Source\("),
        (NET.replace("\n", " ") * 40, "this is text"),
        ("{", "this is text"),
        (LONG, "no file or library family"),
        (f"{LONG}.arch", "file name too long"),
        (f"{LONG}:{LONG}.arch", "there is no Python package"),
        ("a\0.arch", "null byte"),
    ],
    ids=lambda value: value[:8] if isinstance(value, str) else None,
)
def test_what_is_no_name_of_a_spec(call: Callable[..., object], spec: str, said: str) -> None:
    with pytest.raises(archdsl.SpecError, match=said):
        call(spec, "a") if call is archdsl.explain else call(spec)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: archdsl.check(None), TypeError, "this is NoneType"),
        (lambda: archdsl.show(b"net.arch"), TypeError, "this is bytes"),
        (lambda: archdsl.show("lenet", siz="1x32x32"), TypeError, "no option `siz`: did you mean `size`"),
        (lambda: archdsl.show("lenet", size="1,32,32"), ValueError, "'1,32,32' is not a size such as"),
        (lambda: archdsl.show("lenet", dtype="float17"), ValueError, "there is no number type 'float17'"),
        (lambda: archdsl.show("lenet", optimizer="adamm"), ValueError, "there is no optimizer 'adamm'"),
        (lambda: archdsl.show("lenet", limit="16"), ValueError, "write 16GiB, or 16B for bytes"),
        (lambda: archdsl.draw("lenet", width="3"), ValueError, "'3' is not a length from 0.5in"),
        (lambda: archdsl.draw("lenet", width=-3), ValueError, "-3 is not a length"),
        (lambda: archdsl.draw("lenet", depth=-1), ValueError, "the depth is"),
        (lambda: archdsl.from_module(torch.nn.ReLU), TypeError, "this is the class ReLU"),
        (lambda: archdsl.from_module("resnet18"), TypeError, "this is of str"),
    ],
)
def test_wrong_arguments(call: Callable[[], object], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=re.escape(said)):
        call()


def test_sizes_and_widths_may_be_texts() -> None:
    assert str(archdsl.show("lenet", size="1x32x32")) == str(archdsl.show("lenet", size=(1, 32, 32)))
    assert str(archdsl.show("lenet", limit="1GiB")) == str(archdsl.show("lenet", limit=2**30))
    request = archdsl.draw("lenet", width="3.3in").request
    assert request is not None and request.width == pytest.approx(3.3 * 72)


def test_export_writes_the_file(file: Path, tmp_path: Path) -> None:
    made = archdsl.export(file, tmp_path / "net.onnx")
    assert made.proof and onnx.load(tmp_path / "net.onnx").graph.output


def test_weights_must_fit_unless_asked(file: Path, tmp_path: Path) -> None:
    state = archdsl.load(file).state_dict()
    torch.save(state, tmp_path / "w.pth")
    loaded = archdsl.load(file, weights=tmp_path / "w.pth")
    assert torch.equal(loaded.state_dict()["a.weight"], state["a.weight"])
    del state["b.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"(?s)b\.bias.*strict=False loads what fits"):
        archdsl.load(file, weights=tmp_path / "w.pth")
    with pytest.warns(match=r"b\.bias"):
        archdsl.load(file, weights=tmp_path / "w.pth", strict=False)
