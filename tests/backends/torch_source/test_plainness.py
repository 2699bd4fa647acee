"""The plainer forms of a generated module: the same keys and numbers, and less of a hand's manner on each level."""

from __future__ import annotations

import ast

import pytest

from archdsl.backends.torch_source import Plainness, write_module
from archdsl.compiler import check
from archdsl.runtime.weights import state_shapes
from archdsl.transform.inference import for_inference
from archdsl.transform.recompute import recompute
from tests.helpers import graph_of
from tests.modules import class_of
from tests.random_checks import holds

PLAINER = [level for level in Plainness if level]


@pytest.mark.parametrize(
    "spec", ["resnet:resnet50", "densenet:densenet121", "efficientnet:efficientnet_b0", "unet:unet", "vgg:vgg16_bn"]
)
def test_keys_are_those_of_the_graph_in_the_order_of_the_readable_form(spec: str) -> None:
    graph = check(spec)
    orders = []
    for level in Plainness:
        state = class_of(graph, plainness=level)(device="meta").state_dict()
        assert {k: tuple(t.shape) for k, t in state.items()} == state_shapes(graph)
        orders.append(list(state))
    assert all(order == orders[0] for order in orders)


NET = """
    block unit(width, stride = 1) {
        residual via skip: { if stride != 1 or it.channels != width { conv(width, 1, stride) -> batchnorm } } {
            conv(width, 3, stride) -> bn: batchnorm -> relu
            conv(width, 3)
        }
        relu
    }
    block layer(growth) { conv(growth, 3) -> relu }
    model net {
        input x[3, H = 8, W = 8]
        unit(4) -> unit(4) -> unit(6, 2)
        for i in 0..4 { if i % 2 == 0 { "a{i}": conv(6, 3) -> relu } else { relu } }
        dense { layer(2) } -> dense { layer(2) }
        aux: conv(2, 1)
        aux -> last: relu
        output last, aux if training
    }
"""


def forwards(text: str) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef) and n.name == "forward"]


def test_each_level_has_what_it_promises() -> None:
    graph = graph_of(NET)
    texts = {level: write_module(graph, plainness=level) for level in Plainness}
    texts[Plainness.OUT_OF_PLACE] += write_module(
        graph, recompute=recompute(graph, "dense"), plainness=Plainness.OUT_OF_PLACE
    )
    assert "inplace=True" in texts[Plainness.READABLE] and " += " in texts[Plainness.READABLE]
    for level in PLAINER:
        assert "inplace=True" not in texts[level]
        for forward in forwards(texts[level]):
            assert not any(isinstance(n, ast.AugAssign) for n in ast.walk(forward))
            assert not any(isinstance(n, ast.Attribute) and n.attr == "append" for n in ast.walk(forward))
    for level in (Plainness.UNFOLDED, Plainness.STRAIGHT):
        assert texts[level].count("class Unit") == 3
        assert " else " not in texts[level].split("class ", 1)[1].replace("if self.training else None", "")
    found = forwards(texts[Plainness.STRAIGHT])
    assert len(found) == len(list(graph.root.scopes()))
    for forward in found:
        assert not any(isinstance(n, ast.For) for n in ast.walk(forward))
        names = [n.id for n in ast.walk(forward) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        assert len(names) - len(set(names)) <= 1  # an output of training is None before
        calls = [len([n for n in ast.walk(s) if isinstance(n, ast.Call)]) for s in forward.body]
        assert max(calls) <= 2  # get_submodule("0")(x)


def test_all_levels_compute_what_the_graph_says() -> None:
    holds(graph_of(NET), tuple(Plainness))


@pytest.mark.parametrize("level", PLAINER)
def test_the_form_for_inference_has_all_levels(level: Plainness) -> None:
    changed, folding = for_inference(check("resnet:resnet18"))
    text = write_module(changed, folding, plainness=level)
    assert "inplace" not in text and "fold_batchnorms" in text
