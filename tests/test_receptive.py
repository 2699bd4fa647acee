"""Receptive fields against published numbers, and against where the gradient of an output is not zero."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archdsl import check
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph, Node
from archdsl.graph import Tensor as Result
from archdsl.ops.base import Operation
from archdsl.receptive import Receptive, receptive_fields
from archdsl.source import Source
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
    for extents, stride, _, _ in field(spec, path):
        assert extents == (size, size) and stride == 32


def test_global_pooling_sees_everything() -> None:
    assert all(sees_all and stride == 0 for _, stride, _, sees_all in field("resnet:resnet18"))


def test_behind_a_gate_that_sees_everything_all_do() -> None:
    gate = "conv(3, 3) -> (it, global_avgpool -> conv(3, 1) -> sigmoid) -> mul -> conv(3, 3, stride = 2)"
    found = field(Source("net.arch", f"model m() {{\n input x[3, H = 32, W = 32]\n {gate}\n}}"))
    assert all(sees_all for _, _, _, sees_all in found)


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
    ],
)
def test_one_axis(body: str, wanted: list[tuple[object, ...]]) -> None:
    found = field(Source("net.arch", f"model net {{\n input x[1, 96]\n {body}\n}}"))
    if "align" in body:
        # Strides that differ: the field grows along the axis.
        assert found[0][1:3] == (None, None)
    else:
        assert [f[:3] for f in found] == wanted


def test_unequal_axes_swap_with_them() -> None:
    text = "model net {\n input x[1, 64, 96]\n conv(1, 3x5, stride = 1x2)\n permute([0, 2, 1])\n conv(1, 1x3)\n}"
    assert [f[:2] for f in field(Source("net.arch", text))] == [((5, 5), 1), ((5, 5), 2)]


# ---------------------------------------------------------------- against gradients


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
    """The window of a convolution or pooling as a plain sum over it, channels for themselves."""
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
    """The operation itself, with positive weights, all that is not linear left out, and sums for maxima."""
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
    """The same for all channels as one: enough for large networks, where fields are those of all channels anyway."""
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
    # The other axis is narrow: the fields of the two are the same.
    fields = receptive_fields(graph, {"H": n, "W": 64})
    image = torch.ones(1, 1, n, 64, dtype=torch.float64, requires_grad=True)
    values = run(graph, fields, {0: image}, one_channel)
    tensor = next(s for s in graph.root.scopes() if s.path == path).outputs[0]
    middle = fields.shape(tensor)[1] // 2
    along, _ = reached(values[tensor], (middle, 0), image)
    assert along == fields[tensor][0][0].at(middle)
    assert along[1] - along[0] + 1 == size


def away_from_edges(graph: Graph, fields: Receptive, tensor: Result, position: tuple[int, ...]) -> bool:
    """Whether no window on the way to an element hangs over an edge."""
    wanted: dict[Result, list[tuple[int, int]]] = {tensor: [(p, p) for p in position]}
    for node in reversed(list(graph.nodes())):
        for result in range(len(node.shapes)):
            spans = wanted.pop(Result(node.id, result), None)
            if spans is None or node.operation.name == "input":
                continue
            incoming = tuple(fields.shape(t) for t in node.inputs)
            for i, maps in node.operation.sight(result, incoming, fields.shapes[node.id]).items():
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


def test_gradients_of_random_networks_reach_as_far_as_their_fields() -> None:
    random = Random(11)
    compared = 0
    for _ in range(400):
        text = network(random, free=True)
        try:
            graph = check(Source("net.arch", text))
        except SpecError:
            continue
        size = {1: 160, 2: 48, 3: 20}[len(graph.shape(graph.outputs[0].tensor)) - 1]
        nearest = {name: found.nearest(size) for name, found in graph.sizes.items()}
        fields = receptive_fields(graph, {name: above or below for name, (below, above) in nearest.items()})
        tensor = graph.outputs[0].tensor
        if fields[tensor] is None or max(torch.Size(s).numel() for shapes in fields.shapes for s in shapes) > 10**6:
            continue
        sizes = fields.shape(tensor)[1:]
        positions = [
            p
            for p in ([n // 2 for n in sizes], [n // 2 + 1 for n in sizes], [n // 3 for n in sizes])
            if all(i < n for i, n in zip(p, sizes, strict=True)) and away_from_edges(graph, fields, tensor, tuple(p))
        ]
        if not positions:
            continue
        image = torch.rand(1, *fields.shapes[0][0], dtype=torch.float64, requires_grad=True)
        output = run(graph, fields, {0: image}, positive)[tensor]
        for position in positions:
            wanted = [axis.at(position[axis.along or 0]) for axis in fields[tensor][0]]
            # An interpolation that falls on an element gives its neighbour a weight of a rounding error.
            assert reached(output, tuple(position), image, above=1e-12) == wanted, text
            compared += 1
    assert compared > 150
