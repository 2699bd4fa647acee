"""Builds are proved: those of the library at the first attempt, wrong texts never."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from archdsl import compiler
from archdsl.common.source import Source
from archdsl.compiler import build, check, prove_build
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.proof import Unproved, prove
from tests import published
from tests.helpers import graph_of, net_text
from tests.proof.networks import NETWORKS

FORMS: dict[str, dict[str, object]] = {
    "plain": {},
    "inference": {"inference": True},
    "dense": {"recompute": "dense"},
    "blocks": {"recompute": "blocks"},
}


def readable(graph: Graph) -> int:
    """Builds every form that a network has, and requires each to be proved at first; returns their number."""
    count = 0
    for options in FORMS.values():
        try:
            made = prove_build(graph, **options)  # type: ignore[arg-type]
        except SpecError as error:
            assert error.diagnostics[0].code == "E0601"  # nothing to recompute
            continue
        assert made.plainness == 0, made.refused
        count += 1
    return count


@pytest.mark.parametrize("name", published.one_of_each(lambda: published.FEW))
def test_the_library_is_proved_as_it_reads_best(name: str) -> None:
    """In every form; the plain one of each kind of model is also built and proved for tests/backends/torch_source."""
    assert readable(check(name)) >= 2


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_all_kinds_are_proved_as_they_read_best(name: str) -> None:
    assert readable(check(Source(f"{name}.arch", NETWORKS[name]))) >= 2


def net(body: str) -> Graph:
    return graph_of(net_text(body, "image[3, H = 8, W = 8]"))


def test_the_variable_of_a_loop_may_be_called_index() -> None:
    """As the number that the generator has for each loop."""
    assert (
        readable(net("for a, index in zip([1, 2, 5], [2, 4, 6]) { conv(it.channels + 2, 1) -> conv(index, 1) }")) >= 2
    )


FOLDED = {
    "two batchnorms": "conv(4, 3) -> batchnorm -> batchnorm",
    "two, and a slice": (
        "conv(6, 3) -> batchnorm -> slice(1, 5) -> batchnorm\n(conv(4, 1), conv(3, 1)) -> concat -> batchnorm"
    ),
    "more than fit a list": "repeat 450 { residual { conv(3, 3) -> batchnorm } }",
}


@pytest.mark.parametrize("name", FOLDED)
def test_batchnorms_taken_into_one_convolution_are_proved(name: str) -> None:
    assert prove_build(net(FOLDED[name]), inference=True).plainness == 0


SHUFFLED = """
block b(widths) {
    for i, w in enumerate(widths) {
        for j, v in enumerate(widths) { (it, "s_{i}_{j}": selu) -> mul }
        {
            channel_shuffle(it.channels)
            "x_{i}": conv(4 * w, 1)
        }
    }
}
model net {
    input x[4, 8]
    b([1]) -> b([1, 2]) -> b([1, 2, 3])
}
"""
HELD = """
model net {
    input x[4, 8]
    for i in 0..3 { "a_{i}": conv(4, 1) -> "class.b_{i}": conv(4, 1) }
}
"""


NOTHING_HELD = """
model net {
    input x[4, 8]
    for i in 1..=3 { "0.a{i}": slice(0, 2) -> conv(4, 1) }
    "0.b": conv(4, 1)
}
"""


@pytest.mark.parametrize(
    "text",
    [SHUFFLED, HELD, NOTHING_HELD],
    ids=["another in each round", "held from the first round on", "held by no function"],
)
def test_members_of_loops_are_made_in_their_place(text: str) -> None:
    made = prove_build(check(Source("net.arch", text)))
    assert made.plainness == 0, made.refused


BARE = """
model net {
    input image[3, H = 12, W = 12]
    fc1: conv(20, 1)
    residual via { (it, bias: parameter([20, 1, 1], stored = flat)) -> add(stretch = true) CONV } {
        weight: scale
        d: conv(20, 3)
    }
}
"""


@pytest.mark.parametrize("more", ["", "-> c: conv(20, 1)"], ids=["alone", "beside a layer"])
def test_parameters_of_a_skip_come_after_those_of_the_body(more: str) -> None:
    made = prove_build(check(Source("net.arch", BARE.replace("CONV", more))))
    assert made.plainness == 0, made.refused


def refusal(text: str, graph: Graph) -> str:
    with pytest.raises(Unproved) as caught:
        prove(text, graph)
    return str(caught.value)


WRONG = {
    "another argument": ("conv(4, 3) -> relu", "4, 3, padding=1", "4, 3, padding=2", "no step of the network"),
    "another key": ("stem: conv(4, 3) -> relu", "self.stem =", "self.stam =", "the network has those of `stem`"),
    "a weight too many": (
        "relu -> tanh",
        "nn.Tanh()",
        "nn.Tanh()\n        self.more = nn.Linear(3, 3)",
        "has the weights of `more`",
    ),
    "a tensor twice": ("x: conv(3, 3) -> y: tanh\n(x, y) -> sub", "x - self.y(x)", "x - x", "no step of the network"),
    "overwritten and read": (
        "x: batchnorm -> relu\n(it, x -> tanh) -> add",
        "nn.ReLU()",
        "nn.ReLU(inplace=True)",
        "after it was overwritten",
    ),
    "a gradient's input": ("conv(3, 3) -> silu", "nn.SiLU()", "nn.SiLU(inplace=True)", "its own gradient needs"),
    "another's gradient's": (
        "x: conv(3, 3) -> tanh -> y: relu",
        "nn.ReLU()",
        "nn.ReLU(inplace=True)",
        "overwrites what Tanh at `1` still needs",
    ),
    "the caller's tensor": ("relu", "nn.ReLU()", "nn.ReLU(inplace=True)", "what the caller gave"),
    "device left out": ("conv(4, 3) -> relu", ", **kw)", ")", "without device and dtype"),
    "a size unchecked": ("conv(4, 3, pad = valid)", 'check_size("W"', 'check_size("H"', "checks something else"),
    "another bound": ("conv(4, 3, pad = valid)", "if size >= 3", "if size >= 2", "accepts H = 2"),
    "an export too free": ("conv(4, 3, pad = valid)", "min=4", "min=1", "lets an export take H = 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_texts_are_refused_with_what_differs(name: str) -> None:
    body, old, new, says = WRONG[name]
    graph = net(body)
    text = build(graph)
    assert old in text
    assert says in refusal(text.replace(old, new), graph)


BEYOND = {
    "another import": ("import torch\n", "import os\nimport torch\n", "imports os"),
    "a function of Python's": (
        "super().__init__",
        "open('x', 'w')\n        super().__init__",
        "name 'open' is not defined",
    ),
    "a way out": ("super().__init__", "self.__class__.__bases__\n        super().__init__", "asks for `.__"),
    "a loop without end": ("super().__init__", "while True: pass\n        super().__init__", "holds a While"),
    "no Python": ("class Net", "class class Net", "is not Python"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_a_built_file_is_refused_and_not_run(name: str) -> None:
    old, new, says = BEYOND[name]
    graph = net("stem: conv(4, 3) -> relu\nhead: conv(2, 1)\noutput head, stem")
    text = build(graph)
    assert old in text
    assert says in refusal(text.replace(old, new, 1), graph)


def test_the_inputs_have_their_names() -> None:
    graph = graph_of(net_text("(left, in) -> sub", "left[1, 8, 8], in[1, 8, 8]"))
    text = build(graph)
    assert "def forward(self, left: Tensor, in_: Tensor)" in text
    for other in ("x: Tensor, y: Tensor", "in_: Tensor, left: Tensor", "left: Tensor, *in_: Tensor"):
        changed = text.replace("left: Tensor, in_: Tensor", other)
        changed = changed.replace("left - in_", "x - y") if other[0] == "x" else changed
        assert "takes" in refusal(changed, graph)


NAMES = ["accepts", "append", "base", "center", "format", "layout", "pop", "start", "table", "type", "weight"]


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_several_dots_are_proved(name: str) -> None:
    label = f"{name}.{name}.{name}"
    graph = net(f'"a.b.{name}": conv(3, 1) -> "{label}": scale -> "{label}1.x": conv(3, 3)')
    assert prove_build(graph).plainness == 0


def test_a_fault_of_the_generator_gives_a_plainer_form(monkeypatch: pytest.MonkeyPatch) -> None:
    source = importlib.import_module("archdsl.backends.torch_source")
    write, tried = source.write_module, []

    def faulty(*args: object, plainness: int, **options: object) -> str:
        tried.append(plainness)
        text = write(*args, plainness=plainness, **options)
        return text if plainness >= 2 else text.replace("padding=1", "padding=2")

    monkeypatch.setattr(source, "write_module", faulty)
    made = compiler.prove_build(net("conv(4, 3) -> relu"))
    assert tried == [0, 1, 2] and made.plainness == 2 and len(made.refused) == 2
    assert "padding=1" in made.text


def test_what_cannot_be_proved_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = importlib.import_module("archdsl.backends.torch_source")
    monkeypatch.setattr(source, "write_module", lambda *args, **options: 1 / 0)
    with pytest.raises(SpecError, match="could not be proved"):
        compiler.build(net("conv(4, 3) -> relu"))


def test_a_proof_imports_no_torch() -> None:
    code = "import sys, archdsl; archdsl.build(archdsl.check('lenet:lenet')); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
