"""How weights start: the formulas of the rules, and what the generated module says where."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import archdsl
from archdsl.backends.torch_source import helpers as file_helpers
from archdsl.backends.torch_source.names import RESERVED
from archdsl.graph import Graph
from archdsl.ops import OPERATIONS, helpers
from archdsl.ops.forms import ModuleForm
from archdsl.ops.init import RULES
from archdsl.runtime import loading
from archdsl.runtime.weights import state_shapes
from tests import random_blocks, random_networks
from tests.helpers import ROOT, graph_of, net_text, random_graph

SPEC = ROOT / "specs" / "resnet.arch"


def net(body: str, before: str = "") -> Graph:
    return graph_of(net_text(body, "x[32, 8, 8]", before))


def fans(weight: Tensor) -> tuple[int, int]:
    """What nn.init reads off a weight's shape: second and first size, times the positions of the kernel."""
    positions = math.prod(weight.shape[2:])
    return weight.shape[1] * positions, weight.shape[0] * positions


VARIANCES: dict[str, Callable[[int, int], float]] = {
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "he_fan_out": lambda fan_in, fan_out: 2 / fan_out,
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "xavier_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
    "zeros": lambda fan_in, fan_out: 0.0,
    "normal(0.05)": lambda fan_in, fan_out: 0.05**2,
    "truncated_normal(0.1)": lambda fan_in, fan_out: 0.1**2,
}
LAYERS = [
    ("conv(96, 3, groups = 4, {})", (8 * 9, 96 * 9)),
    ("upconv(64, 3, groups = 2, {})", (32 * 9, 32 * 9)),
    ("flatten -> linear(96, {})", (32 * 64, 96)),
]


@pytest.mark.parametrize(("layer", "expected"), LAYERS)
@pytest.mark.parametrize("rule", VARIANCES)
def test_weights_have_the_mean_and_variance_of_the_rule(rule: str, layer: str, expected: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = loading.instantiate(net(layer.format(f"init = {rule}")))
    state = model.state_dict()
    (weight,) = [t for key, t in state.items() if key.endswith("weight")]
    (bias,) = [t for key, t in state.items() if key.endswith("bias")]
    assert fans(weight) == expected
    assert not bias.any()
    # Five standard errors: of a mean s / √n, of a standard deviation s / √(2 n) at most.
    std = math.sqrt(VARIANCES[rule](*expected))
    assert abs(weight.mean().item()) <= 5 * std / math.sqrt(weight.numel())
    assert abs(weight.std().item() - std) <= 5 * std / math.sqrt(2 * weight.numel())
    if "uniform" in rule:
        assert weight.abs().max().item() <= math.sqrt(3) * std
    elif std:
        assert weight.abs().max().item() > 2.5 * std


def test_every_rule_is_tried() -> None:
    (words, *_) = [get_args(a) for a in get_args(OPERATIONS["conv"].fields["init"].annotation) if get_args(a)]
    assert {rule.partition("(")[0] for rule in VARIANCES} == set(RULES) == {*words, "normal", "truncated_normal"}


@pytest.mark.parametrize("name", ["conv", "upconv", "linear", "batchnorm", "layernorm", "groupnorm", "instancenorm"])
def test_operations_with_weights_take_it(name: str) -> None:
    assert "init" in OPERATIONS[name].fields


# ---------------------------------------------------------------- what the module says


def statements(graph: Graph) -> list[str]:
    return [line.strip() for line in archdsl.build(graph).splitlines() if "nn.init." in line]


def test_one_loop_for_a_type_of_which_all_start_alike(tmp_path: Path) -> None:
    """As torchvision writes it, and with the very numbers that its loop gives."""
    spec = tmp_path / "resnet.arch"
    spec.write_text("default conv(init = he_fan_out)\n" + SPEC.read_text())
    plain, started = archdsl.check("resnet:resnet50"), archdsl.check(f"{spec}:resnet50")
    assert len(archdsl.build(started).splitlines()) <= len(archdsl.build(plain).splitlines()) + 8
    torch.manual_seed(1)
    ours = loading.instantiate(started)
    torch.manual_seed(1)
    theirs = loading.instantiate(plain)
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_a_statement_behind_a_member() -> None:
    block = (
        "block b { residual { c1: conv(32, 3) -> n1: batchnorm -> c2: conv(32, 3) -> n2: batchnorm(init = zeros) } }"
    )
    assert statements(net("b -> b -> flatten -> fc: linear(4, init = normal(0.01))", block)) == [
        "nn.init.zeros_(self.n2.weight)",
        "nn.init.normal_(self.fc.weight, std=0.01)",
        "nn.init.zeros_(self.fc.bias)",
    ]


def test_a_helper_within_an_expression() -> None:
    source = archdsl.build(net("conv(8, 3, init = zeros) -> relu -> conv(8, 3)"))
    assert source.count("init_zeros(nn.Conv2d(32, 8, 3, padding=1, **kw))") == source.count("def init_zeros(") == 1


def test_a_standard_deviation_is_an_argument() -> None:
    block = (
        "block b(std, n) { c: conv(8, 3) -> for_fc: global_avgpool -> flatten -> fc: linear(n, init = normal(std)) }"
    )
    source = archdsl.build(net("(b(0.1, 3), b(0.2, 4)) -> concat", block))
    assert source.count("class B(") == 1 and "nn.init.normal_(self.fc.weight, std=std)" in source


@pytest.mark.parametrize("first", range(0, 24, 6))
def test_random_networks_start_as_their_specs_say(first: int) -> None:
    assert sum(map(checked_starts, range(first, first + 6))) >= 30


def checked_starts(seed: int) -> int:
    """Checks the initial weights of a random network; how many there are."""

    def network(random: Random) -> str:
        text = random_blocks.network(random) if seed % 2 else random_networks.network(random)
        ways = [", init = zeros)", ", init = normal(0.01))", ", init = he)", ")", ")"]
        text = re.sub(r"(?<=conv)\(([^()]*)\)", lambda m: f"({m[1]}{random.choice(ways)}", text)
        return re.sub(r"batchnorm\b", lambda m: random.choice(["batchnorm", "batchnorm(init = zeros)"]), text)

    _, graph = random_graph(network, Random(seed), weights=300_000)
    torch.manual_seed(0)
    state = loading.instantiate(graph).state_dict()
    assert {key: tuple(t.shape) for key, t in state.items()} == state_shapes(graph)
    met = 0
    for node in (n for n in graph.nodes() if n.operation.name != "input"):
        form = node.operation.torch(graph.shapes(node.inputs), node.shapes)  # type: ignore[arg-type]
        weight = state.get(f"{node.path}.weight")
        if isinstance(form, ModuleForm) and form.factory and weight is not None:
            met += 1
            rule = form.start.rule if form.start is not None else ""
            assert bool(weight.any()) is (rule != "zeros"), node.path
            assert rule != "normal" or weight.abs().max() < 0.06
            if rule in ("normal", "he", "zeros") and form.start is not None and form.start.bias:
                assert not state[f"{node.path}.bias"].any()
    return met


MIXED = """
default conv(init = he)
block b(n, std) {
    "x.0": conv(n, 3, init = normal(std)) -> batchnorm(init = zeros) -> relu
    for i in 0..n { "c{i}": conv(n + i, 3, bias = false) -> "n{i}": layernorm(init = zeros) }
    inner: { conv(4, 3, init = truncated_normal(0.5)) -> upconv(4, 2, init = xavier_uniform) }
    "modules": conv(4, 3, init = none) -> conv(4, 3, pad = same_upper, stride = 2, init = lecun)
    conv(4, 3, trainable = false, init = zeros)
}
"""


def mixed() -> Graph:
    """A network in which weights start in every way, said in every place."""
    return net("b(3, 0.1) -> b(4, 0.2) -> flatten -> linear(3, init = xavier)", MIXED)


def test_devices_types_and_seeds() -> None:
    graph = mixed()
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        state = loading.instantiate(graph, dtype=dtype).state_dict()
        assert all(t.dtype == dtype and t.isfinite().all() for t in state.values() if t.is_floating_point())
    assert all(t.is_meta for t in loading.instantiate(graph, device="meta").state_dict().values())
    states: list[dict[str, Any]] = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(loading.instantiate(graph).state_dict())
    first, second, third = states
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not any(torch.equal(first[k], third[k]) for k in first if k.endswith("fc.weight") or ".c0.weight" in k)


def test_no_name_of_a_spec_hides_a_helper() -> None:
    """Whatever a generated file may define beside its classes is refused as the name of a variable."""
    sources = [
        v for module in (helpers, file_helpers) for v in vars(module).values() if isinstance(v, str | helpers.Helper)
    ]
    sources += [helpers.align_resize(mode) for mode in ("linear", "bilinear", "trilinear")]
    defined = {n for s in sources for n in re.findall(r"^def (\w+)", s if isinstance(s, str) else s.source, re.M)}
    assert {"filled", "member", "crop_to_smallest", "same_upper_pads"} <= defined <= RESERVED
    block = "block b(filled, member, OrderedDict) { q: { a: conv(filled, weight = [[1]]) -> conv(OrderedDict, 1) }\n"
    block += '"modules": conv(member, 1) -> check_size: relu -> conv(2, 1) -> (check_size, it) -> concat }'
    loading.instantiate(net("b(2, 3, 4) -> b(3, 4, 5)", block.replace(" -> (", "\n (")))


def test_calls_that_differ_in_what_is_frozen_are_two_classes() -> None:
    block = "block b(t) { conv(32, weight = [[1, 2]], pad = 0, trainable = t) -> relu }"
    source = archdsl.build(net("b(true) -> b(false) -> b(true) -> b(false)", block))
    assert source.count("class B") == 2


@pytest.mark.parametrize("arguments", ["", ", trainable = false", ", trainable = false, flip = true", ", bias = true"])
def test_a_given_kernel_is_all_that_a_convolution_does_at_first(arguments: str) -> None:
    """A bias is there under its key, starts from 0, and is frozen with the kernel."""
    module = loading.instantiate(net(f"a: conv(32, weight = [[1, 2, 1]], groups = 32{arguments}, pad = valid)"))
    x = torch.randn(2, 32, 8, 8)
    assert torch.allclose(module(x), x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:], atol=1e-5)
    assert [*module.state_dict()] == ["a.weight", "a.bias"]
    assert {p.requires_grad for p in module.parameters()} == {"trainable" not in arguments}
