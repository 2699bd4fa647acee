"""Attention compared with nn.MultiheadAttention, and the messages about its sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from archdsl import dims
from archdsl.compiler import build
from archdsl.diagnostics import SpecError
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Rules
from archdsl.ops.declaration import OperationError
from archdsl.proof import Unproved, prove
from archdsl.runtime.export import proved_export
from archdsl.transform.inference import for_inference
from tests.helpers import graph_of, net_text
from tests.modules import class_of

H, W = dims.free("H"), dims.free("W")


def attention(**arguments: object) -> object:
    return OPERATIONS["attention"].parse(arguments)


def rows(x: Tensor) -> Tensor:
    """[N, C, …] as [N, T, C]."""
    return x.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("shapes", "chain"),
    [
        ([(8, 6)], "a"),
        ([(8, 3, 4)], "a"),
        ([(8, 3, 4), (8, 12)], "(a, b)"),
        ([(8, 3, 4), (6, 12)], "(a, b)"),
        ([(8, 12), (6, 12), (4, 12)], "(a, b, c)"),
    ],
)
def test_outputs_and_gradients_are_those_of_pytorchs_layer(
    shapes: list[tuple[int, ...]], chain: str, causal: bool
) -> None:
    inputs = ", ".join(f"{name}[{', '.join(map(str, s))}]" for name, s in zip("abc", shapes, strict=False))
    text = net_text(f"{chain} -> mix: attention(2, causal = {str(causal).lower()})", inputs)
    ours = class_of(graph_of(text))().double()
    widths = [s[0] for s in shapes]
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, kdim=widths[min(1, len(widths) - 1)], vdim=widths[-1])
    theirs = theirs.double()
    theirs.load_state_dict({k.removeprefix("mix."): v for k, v in ours.state_dict().items()})
    given = [torch.randn(2, *s, dtype=torch.double, requires_grad=True) for s in shapes]
    query, key, value = (rows(given[min(i, len(given) - 1)]) for i in range(3))
    behind = torch.ones(query.shape[1], key.shape[1], dtype=torch.bool).triu(1) if causal else None
    wanted = theirs(query, key, value, need_weights=False, attn_mask=behind)[0].transpose(1, 2).reshape(given[0].shape)
    found = ours(*given)
    torch.testing.assert_close(found, wanted)
    factor = torch.randn_like(found)
    pairs = [torch.autograd.grad((y * factor).sum(), given) for y in (found, wanted)]
    torch.testing.assert_close(*pairs)


def test_gradients_before_it_are_right_whatever_their_layout() -> None:
    """PyTorch's nn.InstanceNorm takes gradients with the batch inside for others: those of its own attention."""
    model = class_of(graph_of(net_text("instancenorm -> attention(2)")))().double()
    x = torch.randn(2, 4, 16, 16, dtype=torch.double, requires_grad=True)
    norm, mix = list(model.children())
    y = norm(x)
    inner = torch.autograd.grad((mix(y) ** 2).sum(), y, retain_graph=True)[0].contiguous()
    wanted = torch.autograd.grad(y, x, inner)
    torch.testing.assert_close(torch.autograd.grad((model(x) ** 2).sum(), x), wanted)


def test_its_dropout_is_that_of_the_scores_and_absent_from_inference() -> None:
    graph = graph_of(net_text("attention(2, dropout = 0.5)"))
    text = build(graph)
    assert "dropout=0.5" in text
    inference, _ = for_inference(graph)
    assert "dropout" not in build(graph, inference=True).partition("class Net(")[2]
    assert [n.operation.dropout for n in inference.nodes() if n.operation.name == "attention"] == [0.0]  # type: ignore[attr-defined]
    model = class_of(graph)()
    x = torch.randn(2, 4, 16, 16)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "shapes", "message", "help"),
    [
        ({"heads": 5}, [(12, 7)], "12 is not a multiple of 5", "`heads = 4`"),
        ({"heads": 2}, [(12,)], "mixes positions, such as those of [C, H, W]", "before the `flatten`"),
        ({"heads": 2}, [(12, 4), (12, 5), (12, 6)], "keys and values at the same positions", None),
        ({"heads": 2, "causal": True}, [(12, 4), (12, 5)], "queries and keys at the same positions", None),
        ({"heads": 2}, [(12, 4)] * 5, "`(q, k, v)` or `(q, k, v, bias)`; 5 flow in", None),
        ({"heads": 2}, [(12, 4)] * 4, "the bias of `attention` must have the size of the scores", None),
        ({"heads": 2, "causal": True}, [(12, 4)] * 3 + [(2, 4, 4)], "cannot be `causal` with a bias", "leave out"),
        ({"heads": 2}, [(H, 4)], "needs a known number of channels", "fix"),
        ({"heads": 0}, [(12, 4)], "`heads` must be an int of at least 1", None),
        ({"heads": 2, "dropout": 1.0}, [(12, 4)], "from 0 to below 1", None),
        ({"num_heads": 2}, [(12, 4)], "has no parameter `num_heads`", "`heads`"),
    ],
)
def test_what_it_refuses(
    arguments: dict[str, object], shapes: list[tuple[object, ...]], message: str, help: str | None
) -> None:
    with pytest.raises(OperationError) as caught:
        attention(**arguments).infer(tuple(shapes), Rules())  # type: ignore[attr-defined]
    told = (caught.value, *caught.value.also)
    assert any(message in error.message for error in told)
    said = " ".join(filter(None, [*(e.help for e in told), *(m.help for e in told for m in e.mends)]))
    assert help is None or help in said


def test_free_sizes_of_keys_and_values_must_agree() -> None:
    rules = Rules()
    shapes = ((8, H, W), (8, H, 6), (8, W, 6))
    assert attention(heads=2).infer(shapes, rules) == ((8, H, W),)  # type: ignore[attr-defined]
    assert len(rules.constraints) == 1


def test_other_numbers_of_tensors_are_refused_in_the_spec() -> None:
    with pytest.raises(SpecError, match="5 flow in"):
        graph_of(net_text("(x, x, x, x, x) -> attention(2)", "x[4, 8]"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Attention(4, 2", "Attention(4, 4"),
        ("dropout=0.2", "dropout=0.1"),
        (", dropout=0.2", ""),
        ("x = self.a(x)", "x = self.a(x)\n        self.a(x)"),
        ("self.cross(x, y)", "self.cross(y, x)"),
        ("self.cross(x, y)", "self.cross(x, y, x)"),
        ("is_causal=True", "is_causal=False"),
        ("batch_first=True", "batch_first=False"),
        ("        self.cross =", "        self.a.num_heads = 1\n        self.cross ="),
        ("        self.cross =", "        self.a.out_proj = nn.Linear(4, 4, **kw)\n        self.cross ="),
    ],
)
def test_a_wrong_text_is_not_proved(old: str, new: str) -> None:
    graph = graph_of(
        net_text("a: attention(2, dropout = 0.2)\n y: tanh\n (x, y) -> cross: attention(2, causal = true)", "x[4, 9]")
    )
    text = build(graph)
    if "self.a(x)" in old:
        assert "self.a(x)" in text
        old = text[text.index("    def forward", text.index("class Net(")) :].splitlines()[1].strip()
        new = f"self.a(x)\n        {old}"
    assert old in text
    prove(text, graph)
    with pytest.raises(Unproved):
        prove(text.replace(old, new), graph)


LINEAR = """
model net {
    input x[4, 6]
    residual { attention(2) -> conv(4, 1) }
    flatten -> linear(8, init = xavier_uniform) -> linear(8, init = xavier_uniform)
}
"""


def test_a_loop_that_starts_all_linear_layers_leaves_those_within_attention_alone() -> None:
    """nn.MultiheadAttention has an nn.Linear, which `modules` of the model gives, too."""
    graph = graph_of(LINEAR)
    text = build(graph)
    assert "isinstance(module, nn.Linear)" not in text
    prove(text, graph)
    loop = (
        "\n        for module in self.modules():\n            if isinstance(module, nn.Linear):\n"
        "                nn.init.xavier_uniform_(module.weight)\n                nn.init.zeros_(module.bias)\n"
    )
    head, forward, rest = text.rpartition("\n    def forward")
    with pytest.raises(Unproved, match=r"out_proj"):
        prove(f"{head}{loop}{forward}{rest}", graph)


@pytest.mark.parametrize("ending", ["pt2", pytest.param("onnx", marks=pytest.mark.long)])
def test_an_exported_program_takes_free_sizes(ending: str, tmp_path: Path) -> None:
    body = "attention(2, causal = true)\n y: conv(6, 1, stride = 2)\n (x, y) -> attention(4)"
    made = proved_export(graph_of(net_text(body, "x[4, H = 6, W = 6]")), tmp_path / f"net.{ending}")
    assert not made.pins
