"""What is shared: one member with one set of weights, called several times, in every part of the product."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archdsl.analysis.costs import costs
from archdsl.analysis.receptive import receptive_fields
from archdsl.backends.torch_source import Plainness
from archdsl.compiler import diff, draw, prove_build
from archdsl.graph import Graph
from archdsl.graph import Tensor as Edge
from archdsl.proof import Unproved, prove
from archdsl.report.explain import explain
from archdsl.report.layers import Layers, Options
from archdsl.runtime.weights import state_shapes
from archdsl.transform.inference import for_inference
from tests.helpers import graph_of
from tests.modules import inputs, module_of

SIAMESE = """
model net {
    input left[3, H = 16, W = 16], right[3, H, W]
    share tower: { conv(4, 3) -> batchnorm -> relu -> maxpool(2) -> last: conv(4, 3) }
    (left -> tower, right -> tower) -> concat -> conv(2, 1)
}
"""
PYRAMID = """
block head(width, classes) {
    repeat 2 { conv(width, 3) -> batchnorm -> relu }
    conv(classes, 3)
}
model net {
    input image[4, H = 16, W = 16]
    relu -> levels: it
    repeat 2 { (levels, levels[-1] -> maxpool(2)) -> levels: it }
    share classify: head(4, 3)
    share scale_of: scale(0.5)
    (for i, x in enumerate(levels) { x -> classify -> scale_of -> upsample(2 ** i) }) -> add
}
"""
REFINE = """
model net {
    input x[4, H = 8, W = 8]
    share step: { residual { conv(4, 3) -> batchnorm -> relu -> conv(4, 3) } }
    share act: prelu
    repeat 3 { step -> act }
}
"""
EVERY = {"siamese": SIAMESE, "pyramid": PYRAMID, "refine": REFINE}


def built(graph: Graph, **options: bool) -> str:
    found = prove_build(graph, **options)  # type: ignore[arg-type]
    assert found.plainness == Plainness.READABLE, found.refused
    return found.text


def module(graph: Graph, **options: bool) -> nn.Module:
    torch.manual_seed(0)
    return module_of(built(graph, **options))[1](dtype=torch.double)


# ---------------------------------------------------------------- the numbers, in plain PyTorch


def siamese(state: dict[str, Tensor], left: Tensor, right: Tensor, training: bool) -> Tensor:
    def tower(x: Tensor) -> Tensor:
        y = F.conv2d(x, state["tower.0.weight"], state["tower.0.bias"], padding=1)
        y = norm(state, "tower.1", y, training)
        return F.conv2d(F.max_pool2d(y.relu(), 2), state["tower.last.weight"], state["tower.last.bias"], padding=1)

    return F.conv2d(torch.cat([tower(left), tower(right)], 1), state["2.weight"], state["2.bias"])


def pyramid(state: dict[str, Tensor], image: Tensor, training: bool) -> Tensor:
    x, total = image.relu(), torch.zeros((), dtype=image.dtype)
    for i in range(3):
        y = x
        for at in (0, 3):
            y = F.conv2d(y, state[f"classify.{at}.weight"], state[f"classify.{at}.bias"], padding=1)
            y = norm(state, f"classify.{at + 1}", y, training).relu()
        y = F.conv2d(y, state["classify.6.weight"], state["classify.6.bias"], padding=1)
        total = total + F.interpolate(y * state["scale_of"].reshape(1, -1, 1, 1), scale_factor=2.0**i)
        x = F.max_pool2d(x, 2)
    return total


def refine(state: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
    for _ in range(3):
        y = F.conv2d(x, state["step.0.weight"], state["step.0.bias"], padding=1)
        y = norm(state, "step.1", y, training).relu()
        x = F.prelu(x + F.conv2d(y, state["step.3.weight"], state["step.3.bias"], padding=1), state["act.weight"])
    return x


def norm(state: dict[str, Tensor], path: str, x: Tensor, training: bool) -> Tensor:
    statistics = state[f"{path}.running_mean"], state[f"{path}.running_var"]
    return F.batch_norm(x, *statistics, state[f"{path}.weight"], state[f"{path}.bias"], training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "plain"), [("siamese", siamese), ("pyramid", pyramid), ("refine", refine)])
def test_outputs_gradients_and_statistics(name: str, plain: Callable[..., Tensor], training: bool) -> None:
    """The statistics are those of one update at each call, in order."""
    graph = graph_of(EVERY[name])
    model = module(graph).train(training)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = torch.rand_like(buffer) + 0.5
    parameters = dict(model.named_parameters())
    state = {**parameters, **{k: v.clone() for k, v in model.named_buffers()}}
    given = inputs(graph)
    expected, found = plain(state, *given, training), model(*given)
    torch.testing.assert_close(found, expected)
    weights = list(parameters.values())
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), weights) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)
    for key, buffer in model.named_buffers():
        if buffer.is_floating_point():
            torch.testing.assert_close(buffer, state[key])


@pytest.mark.parametrize("name", EVERY)
def test_the_form_for_inference_folds_each_batchnorm_once(name: str) -> None:
    graph = graph_of(EVERY[name])
    model = module(graph).eval()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = torch.rand_like(buffer) + 0.5
    found, made = module_of(built(graph, inference=True))
    form = made(dtype=torch.double)
    form.load_state_dict(found.fold_batchnorms(model.state_dict()))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in form.modules())
    torch.testing.assert_close(form(*inputs(graph)), model(*inputs(graph)))


@pytest.mark.parametrize(
    ("body", "folds"),
    [
        ("share c: conv(4, 3)\n(c -> batchnorm, relu -> c -> batchnorm) -> add", 0),
        ("share b: batchnorm\n(conv(4, 3) -> b, conv(4, 1) -> b) -> add", 0),
        ("share c: conv(4, 3)\nshare b: batchnorm\n(c -> b, relu -> c -> b) -> add", 2),
        ("share c: conv(4, 3)\nshare b: batchnorm\n(c -> b, relu -> c) -> add", 0),
        ("share u: { conv(4, 3) -> batchnorm }\n(u, u -> batchnorm) -> add", 2),
    ],
)
def test_a_batchnorm_is_folded_only_where_all_calls_agree(body: str, folds: int) -> None:
    graph = graph_of(f"model net {{\n    input x[4, 8, 8]\n    {body}\n}}\n")
    assert len(for_inference(graph)[1].folded) == folds
    model = module(graph).eval()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = torch.rand_like(buffer) + 0.5
    found, made = module_of(built(graph, inference=True))
    form = made(dtype=torch.double)
    form.load_state_dict(found.fold_batchnorms(model.state_dict()) if folds else model.state_dict())
    torch.testing.assert_close(form.eval()(*inputs(graph)), model(*inputs(graph)))


# ---------------------------------------------------------------- the text


def test_it_reads_as_by_hand() -> None:
    text = built(graph_of(SIAMESE))
    assert text.count("nn.BatchNorm2d(") == 1
    assert "torch.cat([self.tower(left), self.tower(right)], 1)" in text
    text = built(graph_of(REFINE))
    assert "for _ in range(3):\n            x = self.act(self.step(x))" in text


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (
            SIAMESE,
            "torch.cat([self.tower(left), self.tower(right)], 1)",
            "torch.cat([self.tower(right), self.tower(left)], 1)",
        ),
        (
            SIAMESE,
            "torch.cat([self.tower(left), self.tower(right)], 1)",
            "torch.cat([self.tower(left), self.tower(left)], 1)",
        ),
        (REFINE, "range(3)", "range(2)"),
    ],
)
def test_a_wrong_text_is_refused(text: str, old: str, new: str) -> None:
    graph = graph_of(text)
    module = built(graph)
    assert old in module
    with pytest.raises(Unproved):
        prove(module.replace(old, new), graph)


def test_statistics_in_another_order_are_refused() -> None:
    graph = graph_of(SIAMESE)
    text = built(graph)
    line = next(line for line in text.splitlines() if "torch.cat([self.tower(left), self.tower(right)], 1)" in line)
    early = "        y = self.tower(right)\n" + line.replace("self.tower(right)", "y")
    with pytest.raises(Unproved, match="in another order"):
        prove(text.replace(line, early), graph)


def test_a_call_for_training_alone_comes_before_the_next_one() -> None:
    body = """
    share head: { conv(3, 3) -> batchnorm }
    conv(3, 3) -> x: relu -> maxpool(2) -> y: relu
    x -> aux: head
    y -> logits: head"""
    graph = graph_of(
        "model net {\n    input image[3, H = 8, W = 8]" + body + "\n    output logits, aux if training\n}\n"
    )
    text = built(graph)
    assert text.index("if self.training") < text.index("aux = self.head(") < text.index("logits = self.head(")


def test_a_member_of_its_own_for_each_call_is_refused() -> None:
    graph = graph_of("model net {\n    input x[4, 8, 8]\n    share c: conv(4, 3)\n    c -> relu -> c\n}\n")
    text = built(graph)
    member = next(line for line in text.splitlines() if line.strip().startswith("self.c ="))
    twice = text.replace(member, f"{member}\n{member.replace('self.c', 'self.d')}").replace("self.c(x)", "self.d(x)")
    with pytest.raises(Unproved):
        prove(twice, graph)


# ---------------------------------------------------------------- keys, costs, reports


def test_keys_stand_where_share_does() -> None:
    graph = graph_of(
        "model net {\n    input x[4, 8, 8]\n    conv(4, 1)\n    share last: conv(4, 3)\n"
        '    share body: "features.0": { conv(4, 1) }\n    conv(4, 1) -> body -> last -> body\n}\n'
    )
    keys = [key.removesuffix(".weight") for key in state_shapes(graph) if key.endswith("weight")]
    assert keys == ["0", "last", "features.0.0", "3"]
    assert [key for key in module(graph).state_dict() if key.endswith("weight")] == [f"{key}.weight" for key in keys]


def test_parameters_count_once_and_macs_at_each_call() -> None:
    graph = graph_of(PYRAMID)
    total = costs(graph).total
    assert total.parameters == sum(p.numel() for p in module(graph).parameters())
    head = 4 * 4 * 9 * 2 + 4 * 3 * 9
    assert total.macs == head * (256 + 64 + 16)
    rows = Layers(graph, Options()).table.as_data()
    first, *again = [row for row in rows if row["path"] == "classify.0"]
    assert [row["parameters"] for row in (first, *again)] == [148, 0, 0]
    assert [str(row["operation"]).endswith("(again)") for row in (first, *again)] == [False, True, True]


def test_each_call_has_its_own_size_and_receptive_field() -> None:
    graph = graph_of(PYRAMID)
    calls = [n for n in graph.nodes() if n.path == "classify.6"]
    assert [prod(costs(graph).shape(Edge(n.id))[1:]) for n in calls] == [256, 64, 16]
    found = receptive_fields(graph, {"H": 16, "W": 16})
    fields = [next(iter(found[Edge(n.id)].values())) for n in calls]  # type: ignore[union-attr]
    assert [axes[0].extents(0)[0] for axes in fields] == [7, 14, 28]


def test_explain_and_diff_speak_of_it() -> None:
    graph = graph_of(PYRAMID)
    assert "shared: 3 calls use the same weights" in explain(graph, "classify")
    own = graph_of(
        PYRAMID.replace("share classify: head(4, 3)\n", "").replace("x -> classify", 'x -> "h{i}": head(4, 3)')
    )
    assert diff(graph, graph).changes == []
    assert diff(graph, own).changes


def test_the_diagram_marks_it() -> None:
    assert "tower (shared A)" in draw(graph_of(SIAMESE)).dot
    assert "shared A, call 2 of 2" in draw(graph_of(SIAMESE), depth=0).dot


def test_what_nothing_calls_is_warned_of() -> None:
    graph = graph_of("model net {\n    input x[4, 8, 8]\n    share c: conv(4, 3)\n    share _d: relu\n    relu\n}\n")
    assert [(w.code, w.message) for w in graph.warnings] == [("W0602", "nothing uses the shared `c`")]
    assert list(state_shapes(graph)) == []


def test_each_round_of_a_loop_may_share_its_own() -> None:
    graph = graph_of(
        "model net {\n    input x[4, 8, 8]\n    for i in 0..3 {\n"
        '        share unit: "units.{i}": conv(4, 3)\n        (unit, relu -> unit) -> add\n    }\n}\n'
    )
    assert [key for key in state_shapes(graph) if key.endswith("weight")] == [f"units.{i}.weight" for i in range(3)]
    built(graph)


def test_names_mean_what_they_meant_where_it_is_shared() -> None:
    graph = graph_of(
        "block unit(width) {\n    let inner = width\n    share c: conv(inner, 3)\n"
        "    c -> relu -> skip: c\n    (it, skip) -> add\n}\n"
        "model net {\n    input x[4, 8, 8]\n    let w = 4\n    share u: unit(w)\n    for w in [6, 8] { u }\n}\n"
    )
    assert {n.path for n in graph.nodes() if n.operation.name == "conv"} == {"u.c"}
    assert sum(n.operation.name == "conv" for n in graph.nodes()) == 4
    built(graph)


def test_learned_and_computed_tensors_may_flow_into_the_same_part() -> None:
    """A Perceiver: its latents are learned before the first round, and computed before the next."""
    graph = graph_of(
        """
        block cross(heads) { input z[C, _], x[_, _]
            z -> layernorm -> query: it
            (z, (query, x) -> attention(heads)) -> add }
        model net {
            input image[3, H = 4, W = 4]
            tokens -> bytes: it
            share read: cross(2)
            parameter([4, 5], init = normal(1))
            repeat 3 { (it, bytes) -> read }
        }"""
    )
    net = module(graph).eval()
    calls: list[tuple[int, ...]] = []
    net.get_submodule("read").register_forward_pre_hook(lambda _, given: calls.append(tuple(given[0].shape)))
    net(torch.randn(2, 3, 5, 7, dtype=torch.double))
    assert calls == [(2, 5, 4)] * 3
