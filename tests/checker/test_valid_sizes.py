"""The set of valid input sizes: compared with brute force, and for typical networks."""

from __future__ import annotations

import re
import time
from itertools import product
from random import Random

import pytest
import torch
from torch import nn

from archdsl import check
from archdsl.checker.finished_graph import pin
from archdsl.diagnostics import SpecError
from archdsl.dims import AnyOf, Region, any_of, describe_sizes, divisible, evaluate, free
from archdsl.graph import Graph
from archdsl.ops.base import Rules
from archdsl.ops.declaration import OperationError
from archdsl.runtime.loading import instantiate
from archdsl.transform.inference import for_inference
from tests.helpers import graph_of, net_text, random_graph
from tests.random_networks import network

LARGEST = 600


def runs(graph: Graph, sizes: dict[str, int], *, training: bool = True) -> bool:
    """Whether every operation accepts its input when all sizes are numbers: no symbols, no sets."""
    aside = {} if training else {node.id for node in graph.of_training()}
    shapes: list[tuple[tuple[int, ...], ...]] = []
    for node in graph.nodes():
        if node.operation.name == "input":
            shapes.append((tuple(evaluate(d, sizes) for d in node.shapes[0]),))
            continue
        if node.id in aside:
            shapes.append(())
            continue
        try:
            incoming = tuple(shapes[t.node][t.index] for t in node.inputs)
            shapes.append(node.operation.infer(incoming, Rules()))
        except OperationError as error:
            if training or not error.training:
                return False
            shapes.append(incoming[:1])
    return True


@pytest.mark.parametrize("networks", [25, pytest.param(300, marks=pytest.mark.long)])
def test_the_set_is_what_brute_force_finds(networks: int) -> None:
    random = Random(11)
    for _ in range(networks):
        text, graph = random_graph(lambda random: network(random, free=True), random)
        name = random.choice(graph.free).name
        found = [n for n in range(1, LARGEST + 1) if runs(graph, {**graph.examples, name: n})]
        solved = [n for n in range(1, LARGEST + 1) if n in graph.sizes[name]]
        assert found == solved, f"{name}: {graph.sizes[name].describe()}\n{text}"


def with_norms(random: Random) -> str:
    """A random network with an `instancenorm` after some of its lines, and free sizes without examples."""
    text = network(random, free=True)
    first, *lines, last = re.sub(r" = \d+(?=[,\]])", "", text, count=3).splitlines()[1:]
    norms = ["", "", " -> instancenorm", " -> instancenorm(track = true)"]
    return "\n".join(["model net {", first, *(line + random.choice(norms) for line in lines), last, ""])


@pytest.mark.parametrize("networks", [40, pytest.param(200, marks=pytest.mark.long)])
def test_sizes_that_are_tied_are_what_brute_force_finds(networks: int) -> None:
    """The set is not a product: instancenorm rejects only a single position, with `track` only in training."""
    random = Random(5)
    tied = apart = 0
    for _ in range(networks):
        text, graph = random_graph(with_norms, random)
        tied += bool(graph.always.choices)
        apart += graph.training is not None
        names = [size.name for size in graph.free]
        for values in product(range(1, 26 if len(names) < 3 else 8), repeat=len(names)):
            sizes = dict(zip(names, values, strict=True))
            found = runs(graph, sizes, training=False), runs(graph, sizes, training=True)
            assert found == (graph.sizes.holds(sizes), graph.always.holds(sizes)), f"{sizes}\n{text}"
    assert tied > networks // 10 and apart > networks // 20


def sizes(text: str) -> str:
    return describe_sizes(graph_of(text).sizes)


LEVEL = """
block level(width, depth) {
    conv(width, 3) -> relu
    if depth > 0 {
        (it, { DOWN -> inner: level(width, depth - 1) -> UP }) -> JOIN
        conv(width, 3) -> relu
    }
}
"""


def u_net(depth: int, down: str = "maxpool(2)", up: str = "upconv(4, 2)", join: str = "concat") -> str:
    level = LEVEL.replace("DOWN", down).replace("UP", up).replace("JOIN", join)
    return level + f"model net {{\n    input image[1, H, W]\n    level(4, {depth})\n}}\n"


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 8])
def test_a_padded_u_net_takes_multiples_of_two_to_its_depth(depth: int) -> None:
    assert sizes(u_net(depth)) == f"H, W: multiples of {2**depth}"


def test_align_frees_a_u_net() -> None:
    assert sizes(u_net(4, join="align(crop) -> concat")) == "H, W: any from 16"


def test_encoder_by_strided_convolutions_and_decoder_by_upsampling() -> None:
    """As in segmentation_models: an encoder of stride 32, a decoder that doubles and concatenates."""
    assert sizes(u_net(5, "conv(4, 3, stride = 2)", "upsample(2)")) == "H, W: multiples of 32"


@pytest.mark.parametrize(
    ("spec", "valid"),
    [
        ("unet:unet", "H, W ≡ 12 (mod 16), at least 188"),
        ("unet:unet_padded", "H, W: multiples of 16"),
        ("fcdensenet:fcdensenet103", "H, W: any from 32"),
        ("resnet:resnet18", "any H, W"),
        ("resnet:resnet152", "any H, W"),
        ("vgg:vgg16", "H, W: any from 32"),
    ],
)
def test_the_library(spec: str, valid: str) -> None:
    assert describe_sizes(check(spec).sizes) == valid


def test_flatten_refuses_a_free_size_and_says_what_to_pin() -> None:
    with pytest.raises(SpecError) as caught:
        sizes("model net {\n    input image[3, H, W]\n    conv(8, 3) -> flatten -> linear(10)\n}\n")
    (diagnostic,) = caught.value.diagnostics
    assert "fix H and W" in (diagnostic.help or "")


def test_deep_networks_are_solved_at_once() -> None:
    """1,000 poolings and convolutions, and moduli of 2^20, each well under a second of solving."""
    start = time.process_time()
    deep = "".join("    conv(4, 3, pad = valid) -> maxpool(2)\n" for _ in range(500))
    text = "model net {\n    input image[1, H, W]\n" + deep + "}\n"
    graph = graph_of(text)
    # One step takes n to ⌊(n - 2) / 2⌋, so what gives 1 after k steps is 3 * 2^k - 2.
    assert graph.sizes["H"].minimum == 3 * 2**500 - 2
    assert sizes(u_net(20)) == f"H, W: multiples of {2**20}"
    assert time.process_time() - start < 10


def test_sizes_of_two_names_that_meet_are_refused() -> None:
    with pytest.raises(SpecError, match="same name"):
        sizes("model net {\n    input image[3, H, W]\n    (it, permute([0, 2, 1])) -> add\n}\n")
    assert sizes("model net {\n    input image[3, N, N]\n    (it, permute([0, 2, 1])) -> add\n}\n") == "any N"


# ---------------------------------------------------------------- dependent sizes


def net(body: str, size: str = "H, W", before: str = "") -> Graph:
    return graph_of(net_text(body, f"image[4, {size}]", before))


@pytest.mark.parametrize(
    ("body", "size", "valid"),
    [
        ("instancenorm", "H, W", "any H, W; H or W at least 2"),
        ("groupnorm(4)", "H, W", "any H, W; H or W at least 2"),
        ("groupnorm(2)", "H, W", "any H, W"),
        ("instancenorm", "D, H, W", "any D, H, W; D or H or W at least 2"),
        ("conv(8, 3, 2) -> conv(8, 3, 2) -> instancenorm", "H, W", "any H, W; H or W at least 5"),
        ("conv(8, 3, stride = 4x2) -> instancenorm", "H, W", "any H, W; H at least 5 or W at least 3"),
        # The strongest implies the others; one axis that is long enough frees the other; one that never is leaves no
        # choice.
        ("instancenorm -> maxpool(2) -> instancenorm", "H, W", "H, W: any from 2; H or W at least 4"),
        ("maxpool(2x1, pad = 0) -> instancenorm -> expect [4, 1, _]", "H, W", "H: only 2, 3; W: any from 2"),
        ("expect [4, _, W / 2 * 2]\n instancenorm", "H, W", "H: any; W: multiples of 2"),
        ("instancenorm", "H, 1", "H: any from 2"),
        ("instancenorm", "H, H", "any from 2"),
        ("global_avgpool -> (it, instancenorm)", "H, W", ""),
    ],
)
def test_not_all_sizes_may_be_one(body: str, size: str, valid: str) -> None:
    body = body.replace(" -> expect", "\n expect").replace("\n ", "\n    ")
    if not valid:
        with pytest.raises(SpecError, match="more than one position"):
            net(body, size)
        return
    if valid.startswith("any from"):
        valid = f"H: {valid}"
    assert describe_sizes(net(body, size).sizes) == valid


def test_choices_are_decided_together() -> None:
    """Each demand is satisfiable, and each two of them, but not all three."""
    H, W = free("H"), free("W")
    region = Region.everything(["H", "W"])
    for demand in (
        any_of(divisible(H, 2), divisible(W, 2)),
        any_of(divisible(H + 1, 2), divisible(W, 2)),
        any_of(divisible(H, 2), divisible(W + 1, 2)),
    ):
        assert isinstance(demand, AnyOf)
        narrowed = region.narrow(demand)
        assert narrowed is not None
        region = narrowed
    left = [(h, w) for h in range(1, 9) for w in range(1, 9) if region.holds({"H": h, "W": w})]
    assert left == [(h, w) for h in range(1, 9) for w in range(1, 9) if not h % 2 and not w % 2]
    assert region.near({"H": 63, "W": 63}) == {"H": 64, "W": 64}
    last = any_of(divisible(H + 1, 2), divisible(W + 1, 2))
    assert isinstance(last, AnyOf) and region.narrow(last) is None
    assert any_of(True, last.demands[0]) is True and any_of(False, False) is False
    assert any_of(False, last.demands[0]) is last.demands[0]


@pytest.mark.parametrize(
    ("body", "size", "said"),
    [
        ("instancenorm", "H = 1, W = 1", "H = 1, W = 1: these sizes are not valid together: H or W must be at least 2"),
        ("instancenorm\n    expect [4, 1, 1]", "H, W", "the tensor here is"),
        ("instancenorm(track = true)", "H = 1, W = 1", "not valid together in training: H or W must be at least 2"),
        ("instancenorm(track = true)", "H = 1, 1", "H = 1 is not a valid size in training: it must be at least 2"),
    ],
)
def test_sizes_to_show_are_valid_together(body: str, size: str, said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)):
        net(f"    {body}", size)
    assert net("    instancenorm", "H = 1, W").examples == {"H": 1, "W": 64}


def test_a_size_that_is_asked_for_is_valid_in_both_modes() -> None:
    graph = net(HEAD.format(aux="conv(4, 33, pad = valid) -> global_avgpool -> flatten"))
    assert pin(graph, [(4, 33, 33)]) == {"H": 33, "W": 33} and graph.examples == {"H": 64, "W": 64}
    with pytest.raises(SpecError, match="W = 32 is a valid size of `net` in evaluation only"):
        pin(graph, [(4, 33, 32)])


def test_a_size_that_is_asked_for_is_valid_with_the_others() -> None:
    graph = net("    instancenorm")
    assert pin(graph, [(4, 1, 2)]) == {"H": 1, "W": 2}
    with pytest.raises(SpecError, match="H = 1, W = 1 is not a valid size of `net`: H or W must be at least 2"):
        pin(graph, [(4, 1, 1)])


# ---------------------------------------------------------------- demands of training only

HEAD = """    trunk: conv(8, 3)
    {aux}
    aux: linear(10)
    trunk -> global_avgpool -> flatten
    logits: linear(10)
    output logits, aux if training"""


@pytest.mark.parametrize(
    ("aux", "valid"),
    [
        ("conv(4, 33, pad = valid) -> global_avgpool -> flatten", "H, W: any from 33"),
        ("maxpool(2)\n    expect [8, H / 2, W / 2]\n    global_avgpool -> flatten", "H, W: multiples of 2"),
        ("adaptive_avgpool(1) -> (it, it -> resize(1)) -> add -> flatten", ""),
        ("head(4) -> flatten", "H, W: multiples of 4"),
        ("instancenorm -> global_avgpool -> flatten", "any H, W; H or W at least 2"),
    ],
)
def test_an_output_of_training_asks_nothing_of_evaluation(aux: str, valid: str) -> None:
    head = "block head(n) {\n    let h = it.size[0] / n\n    let w = it.size[1] / n\n    global_avgpool\n}\n"
    graph = net(HEAD.format(aux=aux), before=head)
    assert describe_sizes(graph.sizes) == "any H, W"
    assert (graph.training.describe() if graph.training is not None else "") == valid
    assert all(narrowing.training for narrowing in graph.narrowings) and bool(graph.narrowings) is bool(valid)
    inference, _ = for_inference(graph)
    assert describe_sizes(inference.sizes) == "any H, W" and inference.training is None


def test_what_both_modes_run_counts_for_both() -> None:
    """A layer like the one of the side output, further down where it always runs."""
    both = "    trunk: relu\n    aux: maxpool(4)\n    trunk\n    last: maxpool(4)\n    output last, aux if training"
    graph = net(both)
    assert describe_sizes(graph.sizes) == "H, W: any from 4" and graph.training is None


@pytest.mark.parametrize("inference", [False, True])
def test_a_built_module_checks_the_sizes_of_its_mode(inference: bool) -> None:
    aux = "conv(4, 33, pad = valid) -> instancenorm -> global_avgpool -> flatten"
    graph = net(HEAD.format(aux=aux).replace("trunk: conv(8, 3)", "trunk: conv(8, 3, pad = valid)"))
    module = instantiate(graph, inference=inference)
    assert module.eval()(torch.zeros(2, 4, 3, 3)) is not None
    evaluation = "" if inference else " in evaluation"
    with pytest.raises(ValueError, match=f"net: H must be at least 3{evaluation}, got 2; the nearest is 3"):
        module(torch.zeros(2, 4, 2, 64))
    if inference:
        return
    module.train()
    with pytest.raises(ValueError, match="net: W must be at least 35 in training, got 34; the nearest is 35"):
        module(torch.zeros(2, 4, 35, 34))
    with pytest.raises(ValueError, match="net: H or W must be at least 36 in training, got H = 35, W = 35"):
        module(torch.zeros(2, 4, 35, 35))
    assert module(torch.zeros(2, 4, 35, 36)).aux is not None
    for training, sizes in ((True, (35, 36)), (False, (3, 4))):
        compiled = torch.compile(module.train(training), fullgraph=True, backend="eager")
        assert compiled(torch.zeros(2, 4, *sizes)).logits is not None
    torch._dynamo.reset()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        "instancenorm",
        "instancenorm(track = true)",
        "instancenorm(affine = true)",
        "groupnorm(4)",
        "groupnorm(2)",
        "layernorm",
        "batchnorm",
        "lrn(3)",
        "conv(4, 3, 2) -> maxpool(2, ceil = true) -> instancenorm -> conv(4, 2, pad = valid)",
        "(conv(4, 3, stride = 2), conv(4, 3, stride = 2)) -> concat -> groupnorm(8) -> instancenorm(track = true)",
    ],
)
def test_pytorch_takes_the_sizes_and_no_others(body: str, training: bool) -> None:
    """For the smallest sizes, with a batch of 1; in training, batchnorm depends on the batch, not only on sizes."""
    graph = net(f"    {body}")
    module = instantiate(graph).train(training)
    region = graph.always if training else graph.sizes
    forward = nn.Sequential.forward.__get__(module) if isinstance(module, nn.Sequential) else module
    for h, w in product(range(1, 7), repeat=2):
        try:
            found = bool(forward(torch.zeros(1 + (training and body == "batchnorm"), 4, h, w)).numel())
        except (RuntimeError, ValueError):
            found = False
        assert found == region.holds({"H": h, "W": w}), (h, w)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_no_window_of_same_upper_sees_padding_alone(kernel: int, dilation: int, stride: int) -> None:
    call = f"maxpool({kernel}, {stride}, same_upper, dilation = {dilation})"
    graph = graph_of(net_text(call, "x[1, T]"))
    for size in range(1, 9):
        before = max(dilation * (kernel - 1) - (size - 1) % stride, 0) // 2
        starts = [i * stride - before for i in range(-(-size // stride))]
        seen = all(any(0 <= s + dilation * i < size for i in range(kernel)) for s in starts)
        assert (size in graph.sizes["T"]) == seen, size
