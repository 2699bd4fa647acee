"""Receptive fields compared with published numbers, and with the inputs for which an output has a gradient."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from time import process_time

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archdsl import check
from archdsl.analysis.receptive import Receptive, receptive_fields
from archdsl.common.source import Source
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph, Node
from archdsl.graph import Tensor as Result
from archdsl.ops.base import Operation
from archdsl.report.layers import Layers, Options
from tests.helpers import graph_of, net_text, random_graph, source_of
from tests.ops.forms import Built
from tests.random_networks import network

LAST_MAP = {
    "vgg:vgg16": ("features", 212),
    "vgg:vgg19": ("features", 268),
    "resnet:resnet18": ("layer4", 435),
    "resnet:resnet34": ("layer4", 899),
    "resnet:resnet50": ("layer4", 427),
    "resnet:resnet101": ("layer4", 971),
    "resnet:resnet152": ("layer4", 1451),
    "densenet:densenet121": ("features", 2071),
}


def field(spec: str | Source, path: str | None = None, **sizes: int) -> list[tuple[object, ...]]:
    """Extents, stride and offset of each axis, at a path or at the end."""
    graph = check(spec)
    fields = receptive_fields(graph, sizes)
    parts = {p.path: p for p in (*graph.root.scopes(), *graph.nodes())}
    found = fields[parts[path] if path is not None else graph.outputs[0].tensor]
    assert found is not None
    ((_, axes),) = found.items()
    return [(a.extents(), a.stride, a.offset, a.sees_all) for a in axes]


@pytest.mark.parametrize("spec", LAST_MAP)
def test_published_fields(spec: str) -> None:
    path, size = LAST_MAP[spec]
    assert [(extents, stride) for extents, stride, _, _ in field(spec, path)] == [((size, size), 32)] * 2


def test_global_pooling_sees_everything() -> None:
    assert [(stride, sees_all) for _, stride, _, sees_all in field("resnet:resnet18")] == [(0, True)] * 2


def test_behind_a_gate_that_sees_everything_all_do() -> None:
    gate = "conv(3, 3) -> (it, global_avgpool -> conv(3, 1) -> sigmoid) -> mul -> conv(3, 3, stride = 2)"
    found = field(source_of(f"model m() {{\n input x[3, H = 32, W = 32]\n {gate}\n}}"))
    assert [sees_all for _, _, _, sees_all in found] == [True, True]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("conv(1, 3)", [((3, 3), 1, 0)]),
        ("conv(1, 3, stride = 2)", [((3, 3), 2, 0)]),
        ("conv(1, 4, stride = 2, pad = 1)", [((4, 4), 2, 0.5)]),
        ("conv(1, 3, dilation = 4)", [((9, 9), 1, 0)]),
        ("conv(1, 2, pad = valid) -> conv(1, 2, pad = valid)", [((3, 3), 1, 1)]),
        ("upsample(2)", [((1, 1), 0.5, -0.25)]),
        ("upsample(2, bilinear)", [((2, 2), 0.5, -0.25)]),
        ("conv(1, 2, stride = 2, pad = 0) -> upsample(2)", [((2, 2), 1, 0)]),
        ("upconv(1, 3, stride = 2)", [((1, 2), 0.5, -0.5)]),
        ("upconv(1, 1, stride = 2)", [((0, 1), 0.5, 0)]),
        ("(conv(1, 1), conv(1, 7)) -> add", [((7, 7), 1, 0)]),
        ("(conv(1, 1, pad = 0), conv(1, 3, stride = 2)) -> align -> add", [((65, 65), None, None)]),
        ("adaptive_avgpool(24)", [((4, 4), 4, 1.5)]),
        ("adaptive_avgpool(64)", [((2, 2), 1.5, 0.25)]),
        ("resize(to = 192)", [((2, 2), 0.5, -0.25)]),
        ("crop(5) -> conv(1, 3)", [((3, 3), 1, 5)]),
        ("linear(4) -> conv(1, 3)", [((3, 3), 1, 0)]),
    ],
)
def test_one_axis(body: str, wanted: list[tuple[object, ...]]) -> None:
    found = field(source_of(net_text(body, "x[1, 96]")))
    if "align" in body:
        # Strides that differ: the field grows along the axis.
        assert found[0][1:3] == (None, None)
    else:
        assert [f[:3] for f in found] == wanted


def test_unequal_axes_swap_with_them() -> None:
    text = "model net {\n input x[1, 64, 96]\n conv(1, 3x5, stride = 1x2)\n permute([0, 2, 1])\n conv(1, 1x3)\n}"
    assert [f[:2] for f in field(source_of(text))] == [((5, 5), 1), ((5, 5), 2)]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("conv(2, 3, stride = 2)", "conv(1, 3)"),
        ("conv(2, 3x5, stride = 1x2)", "conv(1, 1x3)"),
        ("upconv(2, 3, stride = 2)", "maxpool(2)"),
        ("residual { conv(1, 5) }", "residual { conv(1, 3) }"),
    ],
)
def test_fields_survive_a_row_of_tokens(first: str, then: str) -> None:
    net = "model net {{\n input x[1, 12, 10]\n y: {{ {first} }}\n {row}{then}\n}}"
    in_a_row = "tokens -> linear(1) -> maps(y.size)\n "
    plain, rowed = (source_of(net.format(first=first, row=row, then=then)) for row in ("", in_a_row))
    assert field(plain) == field(rowed)
    graph = graph_of(rowed.text)
    fields, tensor = receptive_fields(graph), graph.outputs[0].tensor
    image = torch.rand(1, 1, 12, 10, dtype=torch.float64, requires_grad=True)
    position = [n // 2 for n in fields.shape(tensor)[1:]]
    found = reached(run(graph, fields, {0: image}, positive)[tensor], tuple(position), image)
    assert found == [axis.at(position[axis.along or 0]) for axis in (fields[tensor] or {})[0]]


def test_fields_of_a_row_of_tokens() -> None:
    text = "model net {\n input x[1, 12, 10]\n conv(2, 3x5, stride = 2) -> tokens\n}"
    assert [f[0] for f in field(source_of(text))] == [(3, 3), (5, 5)]
    graph = graph_of(text)
    (axes,) = receptive_fields(graph)[graph.outputs[0].tensor].values()  # type: ignore[union-attr]
    assert [axis.at(7) for axis in axes] == [(1, 3), (2, 6)]  # in the second line of 5, the third
    assert Layers(graph, Options()).field_columns(graph.outputs[0].tensor)[0]["stride"] == ""


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ("split(2) -> add", 7),
        ("slice(0, 4)", 3),
        ("slice(2, 6)", 7),
        ("relu -> maxpool(3, 1, 1) -> batchnorm -> slice(0, 4)", 5),
        ("channel_shuffle(2) -> slice(0, 1)", 3),
        ("channel_shuffle(2) -> slice(1, 2)", 7),
        ("channel_shuffle(4) -> slice(0, 4)", 7),
        ("conv(8, 3, groups = 2) -> slice(0, 4)", 5),
        ("conv(16, 3, groups = 8) -> slice(6, 8)", 5),
        ("upconv(2, 3, stride = 1, pad = 1, groups = 2) -> slice(0, 1)", 5),
        ("conv(8, 3) -> slice(0, 4)", 9),
        ("softmax -> slice(0, 4)", 7),
        ("layernorm -> slice(0, 4)", 7),
        ("groupnorm(2) -> slice(0, 4)", 40),
        ("lrn(3) -> slice(0, 3)", 3),
        ("lrn(3) -> slice(0, 4)", 7),
        ("(slice(0, 4), slice(4, 8)) -> mul", 7),
        ("(slice(0, 4), slice(0, 4)) -> add", 3),
        ("(it, it) -> concat -> slice(8, 12)", 3),
    ],
)
def test_parts_of_the_channels_see_what_these_see(body: str, size: int) -> None:
    text = f"model net {{\n input x[4, 40]\n (conv(4, 3), conv(4, 7)) -> concat\n {body}\n}}"
    ((extents, *_, sees_all),) = field(source_of(text))
    assert sees_all if size == 40 else extents == (size, size)


def test_fields_of_many_parts_take_linear_time() -> None:
    # Each iteration adds a run of channels with a larger field.
    def seconds(rounds: int) -> float:
        body = f"repeat {rounds} {{ dense {{ conv(1, 3) }} }}\n split({rounds + 1}) -> add"
        graph = graph_of(net_text(body, "x[1, 40]"))
        start = process_time()
        fields = receptive_fields(graph)
        assert fields[graph.outputs[0].tensor][0][0].extents() == (2 * rounds + 1,) * 2
        return process_time() - start

    assert seconds(1600) < 4 * 4 * min(seconds(400) for _ in range(2))


# ---------------------------------------------------------------- against gradients


def test_published_fields_behind_statistics_and_gates() -> None:
    """wav2vec 2.0's encoder (Baevski et al., 2020) has a groupnorm; EfficientNet-B0 a gate in every block."""
    layers = [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]
    body = " -> groupnorm(4) -> ".join(f"conv(4, {k}, stride = {s}, pad = valid)" for k, s in layers)
    wav = graph_of(f"model m() {{\n input x[1, T = 16000]\n {body}\n}}")
    (axis,) = receptive_fields(wav, windows=True)[wav.outputs[0].tensor][0]
    assert (axis.extents(), axis.stride, axis.offset) == ((400, 400), 320, Fraction(399, 2))
    (axis,) = receptive_fields(wav)[wav.outputs[0].tensor][0]
    assert axis.sees_all
    net = check("efficientnet:efficientnet_b0")
    scope = next(s for s in net.root.scopes() if s.path == "features.8")
    for axis in receptive_fields(net, windows=True)[scope][0]:
        assert (axis.extents(), axis.stride) == ((851, 851), 32)


WHOLE = ["instancenorm", "groupnorm(1)", "(it, global_avgpool -> sigmoid) -> mul", "(it, adaptive_maxpool(1)) -> mul"]


def test_windows_alone_see_what_a_network_without_statistics_and_gates_sees() -> None:
    random, compared = Random(3), 0
    for number in range(60):
        plain, graph = random_graph(lambda r, n=number: network(r, free=True, parts=n % 2 == 0), random)
        first, *lines, last = plain.splitlines()[1:]
        with_whole = ["model net {", first, *(f"{line} -> {random.choice(WHOLE)}" for line in lines), last]
        try:
            whole = graph_of("\n".join(with_whole))
        except SpecError:  # a statistic of one position
            continue
        compared += 1
        wanted = receptive_fields(graph)[graph.outputs[0].tensor]
        assert receptive_fields(whole, windows=True)[whole.outputs[0].tensor] == wanted, plain
    assert compared > 30


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("conv(4, 3) -> instancenorm", ("everything (3)", "(1)")),
        ("conv(4, 3x5, stride = 1x2) -> instancenorm", ("everything (3×5)", "(1×2)")),
        ("conv(4, 3) -> batchnorm", ("3", "1")),
        ("conv(4, 3) -> global_avgpool", ("everything", "")),
        ("conv(4, 3) -> flatten -> linear(3)", ("everything", "")),
        ("instancenorm -> global_avgpool -> conv(4, 1)", ("everything", "")),
        ("(conv(2, 3), conv(2, 7)) -> concat -> groupnorm(1) -> slice(0, 2)", ("everything (3)", "(1)")),
        ("conv(4, 3) -> permute([1, 0, 2])", ("all×3", "-×1")),
    ],
)
def test_fields_in_words(body: str, told: tuple[str, str]) -> None:
    graph = graph_of(f"model m() {{\n input x[4, 16, 16]\n {body}\n}}")
    (found,) = (Layers(graph, Options()).field_columns(graph.outputs[0].tensor) or {}).values()
    assert (found["field"], found["stride"]) == told


def run(graph: Graph, fields: Receptive, inputs: dict[int, Tensor], apply) -> dict[Result, Tensor]:
    values: dict[Result, Tensor] = {}
    for node in graph.nodes():
        if node.operation.name == "input":
            values[Result(node.id)] = inputs[node.id]
            continue
        incoming = tuple(fields.shape(t) for t in node.inputs)
        out = apply(node, incoming, fields.shapes[node.id], [values[t] for t in node.inputs])
        for i, tensor in enumerate([out] if isinstance(out, Tensor) else out):
            values[Result(node.id, i)] = tensor
    return values


def summed(operation: Operation, x: Tensor, incoming: tuple[int, ...], out: tuple[int, ...], channels: int) -> Tensor:
    """The window of a convolution or pooling as a plain sum over it, channels kept apart."""
    window = operation.window((incoming,))
    assert window is not None
    sides: list[int] = []
    for n, o, k, s, d, p in zip(
        incoming[1:], out[1:], window.kernel, window.stride, window.dilation, window.pad, strict=True
    ):
        sides = [p, (o - 1) * s + d * (k - 1) + 1 - n - p, *sides]
    weight = torch.ones(channels, 1, *window.kernel, dtype=x.dtype)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(window.kernel) - 1]
    return convolve(F.pad(x, sides), weight, None, window.stride, 0, window.dilation, channels)


def positive(node: Node, incoming: tuple, outputs: tuple, tensors: list[Tensor]) -> object:
    """The operation itself, linearised: with positive weights, and sums for maxima."""
    operation = node.operation
    if operation.family in ("activation", "regularisation") or operation.name == "batchnorm":
        return tensors[0]
    if operation.name == "maxpool":
        return summed(operation, tensors[0], incoming[0], outputs[0], incoming[0][0])
    built = Built(operation, incoming, dtype=torch.float64)
    for parameter in built.parameters():
        nn.init.uniform_(parameter, 0.5, 1)
    return built(*tensors)


def one_channel(node: Node, incoming: tuple, outputs: tuple, tensors: list[Tensor]) -> object:
    """The same with all channels as one: enough for large networks, whose fields are those of all channels anyway."""
    operation = node.operation
    if operation.family == "merge":
        return sum(tensors) / len(tensors)
    if operation.name in ("conv", "maxpool", "avgpool"):
        result = summed(operation, tensors[0], incoming[0], outputs[0], 1)
        return result / result.detach().max()
    if operation.name in ("flatten", "linear") or "_avgpool" in operation.name:  # behind the last map
        return tensors[0].mean(dim=tuple(range(2, tensors[0].ndim)), keepdim=True)
    assert operation.family in ("activation", "regularisation", "normalisation")
    return tensors[0]


def reached(output: Tensor, position: tuple[int, ...], image: Tensor, above: float = 0) -> list[tuple[int, int] | None]:
    """Along each axis, the first and last element of the image with a gradient."""
    at = output[(0, slice(None), *position)]
    (gradient,) = torch.autograd.grad(at.sum(), image, retain_graph=True, allow_unused=True)
    if gradient is None or not gradient.any():
        return [None] * (image.ndim - 2)
    found: list[tuple[int, int] | None] = []
    for axis in range(2, image.ndim):
        seen = (gradient > above * gradient.max()).movedim(axis, -1).flatten(0, -2).any(0).nonzero().flatten()
        found.append((int(seen[0]), int(seen[-1])))
    return found


@pytest.mark.parametrize("spec", LAST_MAP)
def test_gradients_reach_as_far_as_published_fields(spec: str) -> None:
    path, size = LAST_MAP[spec]
    n = size + 256 - size % 32
    graph = check(spec)
    # The other axis is narrow: both have equal fields.
    fields = receptive_fields(graph, {"H": n, "W": 64})
    image = torch.ones(1, 1, n, 64, dtype=torch.float64, requires_grad=True)
    values = run(graph, fields, {0: image}, one_channel)
    tensor = next(s for s in graph.root.scopes() if s.path == path).outputs[0]
    middle = fields.shape(tensor)[1] // 2
    along, _ = reached(values[tensor], (middle, 0), image)
    assert along == fields[tensor][0][0].at(middle)
    assert along[1] - along[0] + 1 == size


def away_from_edges(graph: Graph, fields: Receptive, tensor: Result, position: tuple[int, ...]) -> bool:
    """Whether no window on the way to an element extends past an edge."""
    wanted: dict[Result, list[tuple[int, int]]] = {tensor: [(p, p) for p in position]}
    for node in reversed(list(graph.nodes())):
        for result in range(len(node.shapes)):
            spans = wanted.pop(Result(node.id, result), None)
            if spans is None or node.operation.name == "input":
                continue
            incoming = tuple(fields.shape(t) for t in node.inputs)
            for i, maps in node.operation.index_maps(result, incoming, fields.shapes[node.id]).items():
                read = []
                for n, by in zip(incoming[i][1:], maps, strict=True):
                    low, high = (0, 0) if by.out is None else spans[by.out]
                    taps = [
                        q * by.step + t
                        for j in range(low, high + 1)
                        for q, r in [divmod(j, by.period)]
                        for t in by.taps[r]
                    ]
                    if not taps or min(taps) < 0 or max(taps) >= n:
                        return False
                    read.append((min(taps), max(taps)))
                before = wanted.get(node.inputs[i], read)
                wanted[node.inputs[i]] = [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(before, read, strict=True)]
    return True


def leaves_gaps(graph: Graph, fields: Receptive) -> bool:
    """Whether a transposed convolution has a stride beyond its kernel.

    In a gap along one axis there is no field, but along another there may be: fields are reported per axis.
    """
    upconvs = [n for n in graph.nodes() if n.operation.name == "upconv"]
    windows = [n.operation.window((fields.shape(n.inputs[0]),)) for n in upconvs]
    return any(k < s for w in windows for k, s in zip(w.kernel, w.scale, strict=True))


def agree(random: Random, networks: int, sizes: dict[int, int], largest: int) -> int:
    """Compares the fields of random networks with gradients; returns the number of elements compared."""
    compared = 0
    for number in range(networks):
        text, graph = random_graph(lambda r, n=number: network(r, free=True, parts=n % 2 == 0), random)
        size = sizes[len(graph.shape(graph.outputs[0].tensor)) - 1]
        nearest = {name: found.nearest(size) for name, found in graph.sizes.items()}
        fields = receptive_fields(graph, {name: above or below for name, (below, above) in nearest.items()})
        tensor = graph.outputs[0].tensor
        if fields[tensor] is None or leaves_gaps(graph, fields):
            continue
        if max(torch.Size(s).numel() for shapes in fields.shapes for s in shapes) > largest:
            continue
        shape = fields.shape(tensor)[1:]
        positions = [
            p
            for p in ([n // 2 for n in shape], [n // 2 + 1 for n in shape], [n // 3 for n in shape])
            if all(i < n for i, n in zip(p, shape, strict=True)) and away_from_edges(graph, fields, tensor, tuple(p))
        ]
        if not positions:
            continue
        image = torch.rand(1, *fields.shapes[0][0], dtype=torch.float64, requires_grad=True)
        output = run(graph, fields, {0: image}, positive)[tensor]
        for position in positions:
            wanted = [axis.at(position[axis.along or 0]) for axis in fields[tensor][0]]
            # An interpolation exactly on an element gives its neighbour a weight of rounding size.
            found = reached(output, tuple(position), image, above=1e-12)
            assert found == wanted, text
            for axis, span in zip(fields[tensor][0], found, strict=True):
                if span and axis.even and axis.tracks[0].period == 1:
                    assert axis.offset + position[axis.along or 0] * axis.stride == Fraction(sum(span), 2)
            compared += 1
    return compared


def test_gradients_of_random_networks_reach_as_far_as_their_fields() -> None:
    assert agree(Random(11), 120, {1: 100, 2: 32, 3: 14}, largest=30_000) > 100


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_gradients_of_many_random_networks_reach_as_far_as_their_fields(seed: int) -> None:
    assert agree(Random(seed), 400, {1: 160, 2: 48, 3: 20}, largest=300_000) > 300
