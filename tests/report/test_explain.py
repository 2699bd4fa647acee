"""The output of `explain`: numbers compared with the matrix of a convolution, and the wording."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from archdsl import check, cli
from archdsl.common.source import Source
from archdsl.diagnostics import SpecError
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Rules
from archdsl.report.explain import explain
from archdsl.report.explain.explainer import Explainer
from archdsl.report.layers import Layers, Options
from tests.helpers import graph_of, net_text, source_of
from tests.ops.forms import Built


def net(body: str) -> Source:
    return source_of(net_text(body, "x[1, T = 8]"))


@pytest.mark.parametrize(
    "body",
    [
        "conv(1, 3)",
        "conv(1, 3, stride = 2)",
        "conv(1, 3, pad = valid, dilation = 2)",
        "conv(1, 4, pad = full)",
        "conv(1, 2, pad = same_upper, stride = 3)",
        "conv(1, 3, pad = valid, flip = true)",
    ],
)
def test_the_matrix_drawn_is_the_matrix_of_the_convolution(body: str) -> None:
    graph = check(net(body))
    lines = explain(graph, "0").splitlines()
    start = next(i for i, line in enumerate(lines) if "from one channel to one" in line)
    names = lines[start].partition("kernel ")[2].rstrip(":").split()
    rows = [line.split() for line in lines[start + 1 :] if re.fullmatch(r" {6}[a-l·]( [a-l·])*", line)]
    kernel = torch.arange(1.0, len(names) + 1)
    drawn = torch.tensor([[names.index(c) + 1.0 if c != "·" else 0.0 for c in row] for row in rows])
    operation = next(n.operation for n in graph.nodes() if n.path == "0")
    window = operation.window(((1, 8),))
    assert window is not None
    after = (len(rows) - 1) * window.stride[0] + window.dilation[0] * (len(names) - 1) + 1 - 8 - window.pad[0]
    images = F.pad(torch.eye(8)[:, None], (window.pad[0], after))
    weight = kernel.flip(0) if "flip" in body else kernel
    matrix = F.conv1d(images, weight[None, None], None, window.stride, 0, window.dilation)[:, 0].T
    assert torch.equal(drawn, matrix)
    told = re.search(r"of which ([\d,]+) entries are not zero", "\n".join(lines))
    assert told is not None and int(told[1]) == int((matrix != 0).sum())


@pytest.mark.parametrize(
    "body",
    [
        "upconv(1, 2)",
        "upconv(1, 3, stride = 1)",
        "upconv(1, 3, stride = 2, pad = 1)",
        "upconv(1, 2, stride = 1, dilation = 2)",
        "upconv(1, 3, stride = 2, pad = 1, output_pad = 1)",
    ],
)
def test_the_matrix_drawn_is_the_matrix_of_the_transposed_convolution(body: str) -> None:
    graph = graph_of(net_text(body, "x[1, 5]"))
    lines = explain(graph, "0").splitlines()
    rows = [line.split() for line in lines if re.fullmatch(r" {6}[a-l·]( [a-l·])*", line)]
    module = Built(next(n.operation for n in graph.nodes() if n.path == "0"), ((1, 5),)).op
    kernel = torch.arange(1.0, module.weight.numel() + 1)
    drawn = torch.tensor([["abc".index(c) + 1.0 if c != "·" else 0.0 for c in row] for row in rows])
    module.weight.data.copy_(kernel.view_as(module.weight))
    module.bias.data.zero_()
    matrix = module(torch.eye(5)[:, None])[:, 0].T
    assert torch.equal(drawn, matrix)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("conv1", ["y[o, i, j] = Σ_c Σ_uv w[o, c, u, v] · x[c, 2i + u - 3, 2j + v - 3]", "/ 2⌋ + 1 = 112"]),
        ("conv1", ["64 kernels of 3 × 7 × 7 = 9,408 numbers", "150,528 × 802,816 = 120,846,286,848 weights"]),
        ("bn1", ["y = γ · (x - mean) / √(σ² + ε) + β", "ε = 1e-05", "2 × 64 numbers"]),
        ("layer1.1", ["y = h + NN(h)", "dL/dh = dL/dy + Jᵀ dL/dy", "the short path is the identity"]),
        ("layer1.0", ["y = A h + NN(h)", "layer1.0.downsample.0 → layer1.0.downsample.1", "Aᵀ dL/dy", "is linear"]),
        ("layer1.0", ["y here is what the relu behind the add takes"]),
        ("layer4", ["each element sees 427 elements of `image`"]),
        ("fc", ["2,048 × 1,000 = 2,048,000", "all of `image`"]),
        (None, ["56×56: 3 … layer1.2", "at its end an element sees 427 of the input", "54 layers"]),
    ],
)  # fmt: skip
def test_words(path: str | None, words: list[str]) -> None:
    told = explain(check("resnet:resnet50"), path)
    assert [w for w in words if w not in told] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("upconv(1, 3, stride = 2)", "length: (8 - 1) · 2 + 1 · (3 - 1) + 1 = 17"),
        ("upconv(1, 3, stride = 2, pad = 1, output_pad = 1)", "1 · (3 - 1) + 1 - 1 = 16"),
        ("upconv(2, 3)", " numbers, and 2 biases"),
        ("maxpool(2)", "the largest of each window of 2"),
        ("maxpool(2)", "every element is in one window"),
        ("maxpool(3, 2, 1)", "neighbouring windows overlap"),
        ("maxpool(3, 2, 1)", "padding never wins"),
        ("avgpool(3, 2, 1, count_pad = false)", "padding is left out of the means"),
        ("upconv(1, 3, stride = 2)", "y[o, p] = Σ w[c, o, u] · x[c, i] + b[o]"),
        ("upconv(1, 3, stride = 2)", "over all channels c, and where 2i + u = p"),
        ("upconv(1, 3, stride = 2)", "outputs get 1 or 2 strokes in turn"),
        ("upconv(1, 4, stride = 2)", "every output gets 2 strokes"),
        ("upsample(2)", "y[i] = x[⌊i · n / m⌋]"),
        ("upsample(2)", "length: 8 → 16 = 8 · 2"),
        ("upsample(2, linear)", "(1 - t) · x[⌊p⌋] + t · x[⌊p⌋ + 1]"),
        ("conv(4, 3) -> groupnorm(2)", "over a group of 2 channels and 8 positions"),
        ("conv(4, 3) -> layernorm", "over the 4 channels, at each position"),
        ("global_avgpool -> flatten", "a view of what came in"),
        ("maxpool(3, 2, 1, ceil = true)", "length: ⌈(8 + 2·1 - 1·(3 - 1) - 1) / 2⌉ + 1 = 5"),
        ("conv(1, 3, pad_mode = reflect)", "outside of the image x is the image in a mirror"),
        ("global_avgpool -> flatten -> linear(3, bias = false)", "y[o] = Σ_i w[o, i] · x[i]: every"),
        ("avgpool(2)", "the mean of each window of 2"),
        ("conv(4, 3) -> conv(4, 3, groups = 2)", "over all 2 channels c of its group"),
        ("(it, it) -> concat", "the channels behind each other"),
        ("batchnorm(affine = false)", "without γ and β here"),
    ],
)
def test_words_of_operations(body: str, words: str) -> None:
    graph = check(net(body))
    assert words in "".join(explain(graph, n.path) for n in graph.nodes())


@pytest.mark.parametrize("spec", ["unet:unet_3d", "mobilenet:mobilenet_v2", "squeezenet:squeezenet1_1", "edges:edges"])
def test_every_layer_and_block_can_be_explained(spec: str) -> None:
    graph = check(spec)
    explainer = Explainer(Layers(graph, Options(graph.examples)))
    for part in (*graph.nodes(), *graph.root.scopes()):
        assert next(explainer.part(part)).startswith(part.path or graph.name)
        assert all(len(line) < 200 for line in explainer.part(part))


def test_no_index_has_the_name_of_the_weights() -> None:
    text = "model net {\n input x[1, 4, 6, 8]\n a: conv(2, 3)\n b: upconv(2, 2)\n}"
    graph = graph_of(text)
    assert "w[o, c, t, u, v] · x[c, h + t - 1, i + u - 1, j + v - 1]" in explain(graph, "a")
    assert "y[o, p, q, r] = Σ w[c, o, t, u, v] · x[c, h, i, j] + b[o]" in explain(graph, "b")


def test_an_unknown_path_is_said_with_a_proposal() -> None:
    with pytest.raises(SpecError, match="did you mean `layer4`"):
        explain(check("resnet:resnet50"), "layer9")


@pytest.mark.parametrize(
    ("spec", "begin"),
    [("resnet:resnet18", "resnet18: "), ("resnet:resnet18:layer1.0.conv1", "layer1.0.conv1: conv 3×3")],
)
def test_command(spec: str, begin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", spec]) == 0
    assert capsys.readouterr().out.startswith(begin)


@pytest.mark.parametrize("spec", ["resnet:resnet99", "resnet:resnet18:nosuch", "nosuch:nosuch:nosuch", ":", "a:b:"])
def test_command_on_what_is_not_there(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", spec]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "error[" in err


def test_a_short_path_with_an_activation_is_not_called_linear() -> None:
    body = "conv(2, 3)\n b: { residual via { conv(2, 1) -> relu } { conv(2, 3) -> relu -> conv(2, 3) } }"
    told = explain(check(net(body)), "b")
    assert "y = S(h) + NN(h)" in told and "S'ᵀ dL/dy" in told and "linear" not in told


def test_dense_connections() -> None:
    told = explain(check("densenet:densenet121"), "features.denseblock1")
    assert "6 layers, each of which sees all channels so far and adds 32" in told
    assert "channels 64 → 96 → 128 → 160 → 192 → 224 → 256" in told


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("conv", "upconv", "linear")])
def test_every_operation_has_its_formula(name: str) -> None:
    cls = OPERATIONS[name]
    for example in cls.examples:
        operation = cls.parse(example.arguments)
        first, *_ = operation.explanation(example.inputs, operation.infer(example.inputs, Rules()))
        assert first.title == "formula" and first.lines


GATED = """
block gate { input x[C, _, _]
 (x, x -> global_avgpool -> conv(C, 1) -> sigmoid) -> mul }
model m() {
    input x[3, H = 32, W = 32]
    conv(8, 3) -> gate
    conv(16, 3, stride = 2) -> gate
    conv(16, 3) -> last: gate
}
"""


def test_gates_do_not_break_the_story_into_pieces() -> None:
    told = explain(graph_of(GATED))
    assert re.findall(r"^    (\d\S*): (.*)$", told, re.MULTILINE) == [
        ("32×32", "x … 1"),
        ("16×16", "2 … last"),
    ]


def test_masks_of_shifted_windows_are_no_stage_of_their_own() -> None:
    body = "conv(8, 3)\n windows(4, 2, pad) { linear(24) -> split(3) -> attend(2) -> linear(8) }\n conv(8, 3)"
    told = explain(graph_of(net_text(body, "x[3, H = 16, W = 24]")))
    stages = told[told.index("stages") :]
    assert stages.count("weighted layers") == 1 and "weighted layers: 4" in stages


def test_fields_that_move_unevenly_are_said_to() -> None:
    told = explain(check(net("(conv(1, 1), conv(1, 3, stride = 2)) -> align -> add")), "3")
    assert "the distance to the next one's field varies" in told and "centre is at \n" not in told


def test_depth_is_the_longest_way() -> None:
    """ResNet-50 has 50 layers in a row; four projections are beside them."""
    words = explain(check("resnet:resnet50"))
    assert "54 layers with learned weights (50 of them in a row, on the longest way)" in words
    assert "5 layers with learned weights, 0 joins" in explain(check("lenet:lenet"))


def test_skips_of_an_encoder_decoder() -> None:
    found = explain(check("unet:unet")).partition("skips across resolutions\n")[2].splitlines()
    assert len(found) == 5
    assert found[-1].strip() == (
        "[64, 568, 568] of 0.encode.3, brought to [64, 392, 392], to 0.5 (concat); the other way goes down to 32×32"
    )
    assert "skips across resolutions" not in explain(check("resnet:resnet18"))


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ("maxpool(2)", F.max_pool2d),
        ("maxpool(3, 2, pad = 1)", F.max_pool2d),
        ("avgpool(2)", F.avg_pool2d),
        ("avgpool(2x3, 2x1)", F.avg_pool2d),
    ],
)
def test_pooling_is_shown_with_numbers(body: str, function: Callable[..., torch.Tensor]) -> None:
    graph = graph_of(net_text(body, "x[1, H = 16, W = 16]"))
    example = explain(graph, "0").partition("with numbers, in the middle of an image\n")[2].partition("\n  cost")[0]
    rows = [re.split(r"  [→ ]  ", line.strip()) for line in example.splitlines()]
    digits, results = (
        [[*map(float, part.split())] for part in side]
        for side in ([row[0] for row in rows], [row[1] for row in rows if len(row) > 1])
    )
    window = next(n.operation for n in graph.nodes() if n.path == "0").window(((1, 16, 16),))
    assert window is not None
    made = function(torch.tensor(digits)[None, None], window.kernel, window.stride)[0, 0]
    torch.testing.assert_close(torch.tensor(results), made, rtol=0.01, atol=0)


def test_a_flipped_convolution_has_the_textbooks_formula() -> None:
    words = explain(check("edges:edges_1d"), "0")
    assert "y[o, i] = Σ_c Σ_u w[o, c, u] · x[c, i - u]\n" in words


MERGED = """
block layer {
    input x[C, _], y[_, _]
    (x -> conv(C, 3) -> tanh, x -> conv(C, 3) -> sigmoid) -> g: mul
    g -> r: conv(C, 1)
    (x, r) -> first: add
    (first, y -> conv(C, 3)) -> second: add
    output second, g
}
model net {
    input a[8, 16], b[8, 16]
    (a, b) -> (c, d): layer
    output c, d
}
"""


def test_a_long_path_that_branches_is_told_whole_and_a_sum_of_two_tensors_is_no_skip() -> None:
    graph = graph_of(MERGED)
    told = explain(graph, graph.root.members[-1].path)
    assert "NN: (conv k3, 8 → tanh; conv k3, 8 → sigmoid) → mul → conv k1, 8" in told
    assert told.count("y = h + NN(h)") == 1
