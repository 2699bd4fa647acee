"""Measured gradient flow: the norms against PyTorch's own gradients, and what skips do to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import archdsl
from archdsl import cli
from archdsl.runtime.gradients import BATCH, GradientFlow, LayerGradient, curves, gradient_flow, inputs_of, loss_of
from archdsl.runtime.running import RunError, network_of
from tests.helpers import graph_of

DEEP = """
block unit(skip) {
    if skip { residual { conv(8, 3) -> relu -> conv(8, 3) } }
    else { conv(8, 3) -> relu -> conv(8, 3) }
    relu
}

model deep(skip, units = 10) {
    input image[3, H = 16, W = 16]
    conv(8, 3) -> relu
    repeat units { unit(skip) }
    global_avgpool -> flatten -> linear(10)
}

model plain = deep(skip = false)
model residual = deep(skip = true)
"""


def test_the_norms_are_those_of_pytorch() -> None:
    """By hand: the same images and classes, the gradients of torch.autograd.grad."""
    graph = graph_of("model net { input x[3, 8, 8]\n a: conv(4, 3, bias = false) -> relu -> flatten -> b: linear(5) }")
    found = {layer.path: layer for layer in gradient_flow(graph, seed=3).layers}
    network = network_of(graph, None, 3).train()
    torch.manual_seed(3)
    (images,), _ = inputs_of(graph, None, None)
    middle = F.conv2d(images, network.a.weight, padding=1)
    out = network.b(middle.relu().flatten(1))
    loss = loss_of(out)
    by = torch.autograd.grad(loss, [network.a.weight, network.b.weight, middle, out])
    samples = [(BATCH * g).flatten(1).norm(dim=1).square().mean().sqrt() for g in by[2:]]
    expected = dict(zip("ab", zip([g.norm() for g in by[:2]], samples, strict=True), strict=True))
    for path, (weights, result) in expected.items():
        assert (found[path].weights, found[path].result) == pytest.approx((float(weights), float(result)), rel=1e-4)


@pytest.fixture
def deep(tmp_path: Path) -> str:
    (tmp_path / "deep.arch").write_text(DEEP)
    return str(tmp_path / "deep.arch")


def test_skips_keep_the_gradient(deep: str) -> None:
    plain, residual = (gradient_flow(archdsl.check(f"{deep}:{name}")) for name in ("plain", "residual"))
    assert [layer.depth for layer in plain.layers] == list(range(1, 23)) == [n.depth for n in residual.layers]
    assert plain.share is not None and residual.share is not None
    assert plain.share < 1e-6 and residual.share > 1e-2


def test_a_measurement_leaves_pytorchs_generator_alone(deep: str) -> None:
    state = torch.get_rng_state()
    found = [gradient_flow(archdsl.check(f"{deep}:plain"), seed=5) for _ in range(2)]
    assert found[0] == found[1] and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("model net { input x[4, T = 16]\n a: conv(4, 3) -> b: upconv(2, 2, 2) }", "a b"),  # no image: noise
        ("model net { input x[3, 8, 8], y[3, 8, 8]\n (x, y) -> add -> a: conv(1, 3) }", "a"),  # one channel
        ("model net { input x[3, 8, 8]\n a: conv(4, 3, trainable = false) -> b: conv(4, 3) }", "b"),
        ("model net { input x[3, 8, 8]\n share s: conv(3, 3)\n s -> relu -> s }", "s"),  # called twice
        ("model net { input x[12]\n a: linear(4) }", "a"),
        ("model net { input x[3, 8, 8]\n a: conv(4, 3) -> b: conv(4, 3)\n output one = a, two = b }", "a b"),
    ],
)
def test_networks_of_all_kinds(text: str, layers: str) -> None:
    flow = gradient_flow(graph_of(text))
    assert [layer.path for layer in flow.layers] == layers.split()
    assert all(layer.weights and layer.result for layer in flow.layers)


def test_windows_count_as_parts_of_their_sample() -> None:
    """An identity around windows changes no norm."""
    bodies = ("b: conv(4, 1)", "windows(4) { b: conv(4, 1) }")
    texts = [f"model net {{ input x[3, 8, 8]\n a: conv(4, 3)\n {body}\n c: conv(2, 1) }}" for body in bodies]
    plain, cut = (gradient_flow(graph_of(text)) for text in texts)
    for one, other in zip(plain.layers, cut.layers, strict=True):
        assert one.result == pytest.approx(other.result, rel=1e-4)


def test_what_has_no_gradient() -> None:
    with pytest.raises(RunError, match="no layer with trainable weights"):
        gradient_flow(archdsl.check("edges:edges"))


def test_command(deep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specs = [f"{deep}:plain", f"{deep}:residual"]
    picture = tmp_path / "flow.svg"
    assert cli.run(["probe", "--gradients", *specs, "-o", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "plain: by the weights of the first of 22 layers" in out and "random weights" in out
    assert "residual: by weights" in out
    assert picture.read_text().lstrip().startswith("<?xml") and "norm of the gradient" in picture.read_text()
    assert cli.run(["probe", "--gradients", *specs, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [m["depth"] for m in data["measured"]] == [*range(1, 23)] * 2
    assert cli.run(["probe", "--gradients", specs[0], "--csv"]) == 0
    assert capsys.readouterr().out.startswith("network,depth,path,layer,weights,result\nplain,1,0,")


def test_wrong_use(deep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specs = [f"{deep}:plain", f"{deep}:residual"]
    assert cli.run(["probe", *specs]) == 2
    assert "several only with --gradients" in capsys.readouterr().err
    torch.save({}, tmp_path / "w.pt")
    assert cli.run(["probe", "--gradients", *specs, "--weights", str(tmp_path / "w.pt")]) == 2
    assert "--weights are those of one network" in capsys.readouterr().err


def test_curves_of_a_gradient_that_is_0() -> None:
    """Such as behind a ReLU that lets nothing through: a logarithm has no place for it, and the curve goes on."""
    layers = [LayerGradient(depth, "a", "conv", norm, norm) for depth, norm in enumerate((1.0, 0.0, 1e-9), 1)]
    flow = GradientFlow("net", "noise", 1.0, tuple(layers))
    assert curves([flow]) == curves([flow]) and "nan" not in curves([flow]).decode()
    dead = GradientFlow("dead", "noise", 1.0, (LayerGradient(1, "a", "conv", 0.0, 0.0),))
    assert "no gradient reaches" in dead.summary() and curves([dead])
