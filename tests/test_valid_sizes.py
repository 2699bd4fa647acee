"""The set of valid input sizes: against brute force, and for the networks that people ask about."""

from __future__ import annotations

import time
from random import Random

import pytest

from archdsl import check
from archdsl.diagnostics import SpecError
from archdsl.dims import describe_sizes, evaluate
from archdsl.graph import Graph
from archdsl.ops.base import OperationError, Rules
from archdsl.source import Source
from tests.random_networks import network

LARGEST = 600


def runs(graph: Graph, sizes: dict[str, int]) -> bool:
    """Whether every operation takes its input when all sizes are numbers: no symbols, no sets."""
    shapes: list[tuple[tuple[int, ...], ...]] = []
    for node in graph.nodes():
        if node.operation.name == "input":
            shapes.append((tuple(evaluate(d, sizes) for d in node.shapes[0]),))
            continue
        try:
            incoming = tuple(shapes[t.node][t.index] for t in node.inputs)
            shapes.append(node.operation.infer(incoming, Rules()))
        except OperationError:
            return False
    return True


@pytest.mark.parametrize("networks", [60, pytest.param(300, marks=pytest.mark.long)])
def test_the_set_is_what_brute_force_finds(networks: int) -> None:
    random = Random(11)
    checked = 0
    while checked < networks:
        text = network(random, free=True)
        try:
            graph = check(Source("net.arch", text))
        except SpecError:
            continue
        checked += 1
        name = random.choice(graph.free).name
        found = [n for n in range(1, LARGEST + 1) if runs(graph, {**graph.examples, name: n})]
        solved = [n for n in range(1, LARGEST + 1) if n in graph.sizes[name]]
        assert found == solved, f"{name}: {graph.sizes[name].describe()}\n{text}"


def sizes(text: str) -> str:
    return describe_sizes(check(Source("net.arch", text)).sizes)


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
    assert "pin H and W" in (diagnostic.help or "")


def test_deep_networks_are_solved_at_once() -> None:
    """1,000 poolings and convolutions, and moduli of 2^20, each well under a second of solving."""
    start = time.perf_counter()
    deep = "".join("    conv(4, 3, pad = valid) -> maxpool(2)\n" for _ in range(500))
    text = "model net {\n    input image[1, H, W]\n" + deep + "}\n"
    graph = check(Source("net.arch", text))
    # One step takes n to ⌊(n - 2) / 2⌋, so what gives 1 after k steps is 3 * 2^k - 2.
    assert graph.sizes["H"].minimum == 3 * 2**500 - 2
    assert sizes(u_net(20)) == f"H, W: multiples of {2**20}"
    assert time.perf_counter() - start < 10


def test_sizes_of_two_names_that_meet_are_refused() -> None:
    with pytest.raises(SpecError, match="one name"):
        sizes("model net {\n    input image[3, H, W]\n    (it, permute([0, 2, 1])) -> add\n}\n")
    assert sizes("model net {\n    input image[3, N, N]\n    (it, permute([0, 2, 1])) -> add\n}\n") == "any N"
