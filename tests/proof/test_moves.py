"""Files that move axes: the proof finds what they compute by itself, and refuses wrong moves where all sizes agree."""

from __future__ import annotations

import pytest

from archdsl.backends.torch_source import write_module
from archdsl.graph import Graph
from archdsl.proof import Unproved, prove
from archdsl.transform.inference import for_inference
from tests.helpers import graph_of, net_text

BODY = """
    a: conv(8, 3) -> b: layernorm -> c: linear(8) -> d: gelu -> s: scale(0.5) -> drop: dropout(0.1)
    e: linear(8)
    residual { f: linear(8) -> soft: softmax }
    (it, { g: linear(8) }) -> concat
    split(2) -> (left, right)
    (left, right) -> maximum
    h: linear(8)
    i: slice(0, 4)
    j: linear(8) -> attend: attention(2)
    k: conv(8, 3)
"""
"""With eight channels and eight positions on either axis, so that no size tells the axes apart."""


@pytest.fixture(scope="module")
def net() -> Graph:
    return graph_of(net_text(BODY.replace("split(2) -> (left, right)\n    (left, right)", "split(2)"), "x[8, 8, 8]"))


@pytest.fixture(scope="module")
def text(net: Graph) -> str:
    return write_module(net)


def test_accepts_what_is_written(net: Graph, text: str) -> None:
    prove(text, net)
    graph, folding = for_inference(net)
    prove(write_module(graph, folding), graph, folding=folding)


WRONG = {
    "other axes": (".permute(0, 2, 3, 1)", ".permute(0, 3, 2, 1)"),
    "the batch moved": (".permute(0, 2, 3, 1)", ".permute(2, 0, 3, 1)"),
    "an axis twice": (".permute(0, 2, 3, 1)", ".permute(0, 2, 3, 3)"),
    "too few axes": (".permute(0, 2, 3, 1)", ".permute(0, 2, 1)"),
    "the way there once more": (".permute(0, 3, 1, 2)", ".permute(0, 2, 3, 1)"),
    "no move there": (".permute(0, 2, 3, 1)", ""),
    "no move back": (".permute(0, 3, 1, 2)", ""),
    "softmax along an axis": ("dim=-1", "dim=1"),
    "concat along an axis": ("], -1)", "], 1)"),
    "split along an axis": (".chunk(2, -1)", ".chunk(2, 1)"),
    "slice along an axis": ("[..., :4]", "[:, :4]"),
    "factors along an axis": (" * self.s", " * self.s[None, :, None, None]"),
    "a helper for the channels first": (
        "self.c = nn.Linear(8, 8, **kw)",
        "self.c = ChannelLinear(8, 8, **kw)",
    ),
}


@pytest.mark.parametrize(("right", "wrong"), WRONG.values(), ids=WRONG)
def test_refuses_wrong_moves(net: Graph, text: str, right: str, wrong: str) -> None:
    assert text.count(right) >= 1
    with pytest.raises(Unproved):
        prove(text.replace(right, wrong, 1), net)


def test_accepts_moves_elsewhere(net: Graph, text: str) -> None:
    """The same moves at other places are the same computation."""
    there, back = ".permute(0, 2, 3, 1)", ".permute(0, 3, 1, 2)"
    prove(text.replace(there, there + back + there, 1), net)
    assert text.count("x = self.e(") == 1
    prove(text.replace("x = self.e(x)", f"x = self.e(x{back}{there})"), net)
    prove(text.replace(there, ".permute(0, 3, 2, 1).permute(0, 2, 1, 3)", 1), net)


FIRST = net_text("a: conv(8, 3) -> b: linear(8) -> c: conv(8, 3)", "x[8, 8, 8]")


def test_refuses_a_layer_along_another_axis() -> None:
    graph = graph_of(FIRST)
    text = write_module(graph)
    prove(text, graph)
    assert "self.b = ChannelLinear" in text
    with pytest.raises(Unproved):
        prove(text.replace("self.b = ChannelLinear", "self.b = nn.Linear"), graph)


def test_refuses_a_permute_of_the_network_that_is_left_out() -> None:
    body = "a: linear(8) -> permute([1, 2, 0]) -> b: linear(8) -> permute([2, 0, 1]) -> c: linear(8) -> layernorm"
    graph = graph_of(net_text(body, "x[8, 8, 8]"))
    text = write_module(graph)
    prove(text, graph)
    assert text.count(".permute(") >= 3
    for axes in ("(0, 2, 3, 1)", "(0, 3, 1, 2)"):
        for place in range(text.count(f".permute{axes}")):
            parts = text.split(f".permute{axes}")
            wrong = f".permute{axes}".join(parts[: place + 1]) + f".permute{axes}".join(parts[place + 1 :])
            with pytest.raises(Unproved):
                prove(wrong, graph)


def test_refuses_a_sum_of_tensors_in_unlike_orders() -> None:
    graph = graph_of(net_text("a: linear(8) -> residual { b: linear(8) -> c: linear(8) }", "x[8, 8, 8]"))
    text = write_module(graph)
    prove(text, graph)
    assert "y += x" in text
    with pytest.raises(Unproved):
        prove(text.replace("y += x", "y += x.permute(0, 3, 1, 2)"), graph)
    with pytest.raises(Unproved):
        prove(text.replace("y += x", "y += x.permute(0, 2, 1, 3)"), graph)


def test_refuses_another_draw_of_a_dropout(net: Graph, text: str) -> None:
    assert text.count("self.drop(") == 1
    drawn = "x = self.drop(self.d(x) * self.s)"
    assert drawn in text
    twice = "y = self.d(x) * self.s\n        _ = self.drop(y)\n        x = self.drop(y)"
    with pytest.raises(Unproved, match="Dropout"):
        prove(text.replace(drawn, twice), net)


def test_refuses_a_wrong_move_in_a_sequence() -> None:
    row = '"0": conv(8, 3) -> "2": layernorm -> "3": linear(8) -> "4": gelu -> "5": linear(8)'
    graph = graph_of(net_text(f"block: {{ {row} }} -> conv(8, 1)", "x[8, 8, 8]"))
    text = write_module(graph)
    prove(text, graph)
    assert "Permute((0, 3, 1, 2))" in text
    for right, wrong in (
        ("Permute((0, 3, 1, 2))", "Permute((0, 3, 2, 1))"),
        ("Permute((0, 2, 3, 1))", "nn.Identity()"),
        ("x.permute(self.dims)", "x"),
    ):
        with pytest.raises(Unproved):
            prove(text.replace(right, wrong), graph)
