"""Pictures of matrices: the entries are those of the convolution, and the text is readable where it should be."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch

import archdsl
from archdsl import cli
from archdsl.backends.diagram.matrices import MOST, WELL
from archdsl.backends.diagram.scene import Polygon, Text
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Example, Rules
from archdsl.ops.matrix import flat
from tests.helpers import graph_of
from tests.ops.forms import Built

CASES = [
    pytest.param(name, example, id=f"{name}-{i}")
    for name in ("conv", "upconv")
    for i, example in enumerate(OPERATIONS[name].examples)
]


@pytest.mark.parametrize(("name", "example"), CASES)
def test_the_entries_are_those_of_the_layer(name: str, example: Example) -> None:
    """Against the response of PyTorch's layer to each element of the first channel of its group."""
    operation = OPERATIONS[name](**example.arguments)
    (shape,) = example.inputs
    (output,) = operation.infer((shape,), Rules())
    found = operation.matrix(shape, output)
    assert found is not None
    module = Built(operation, (shape,), dtype=torch.float64)
    module.op.weight.requires_grad_(False).copy_(torch.rand_like(module.op.weight) + 0.5)
    kernel = module.op.weight[0, 0]
    count = prod(shape[1:])
    images = torch.zeros(count + 1, *shape, dtype=torch.float64)
    images[:count, 0] = torch.eye(count, dtype=torch.float64).unflatten(1, shape[1:])
    made = module(images)[:, 0].flatten(1)
    matrix = torch.zeros_like(made[:count].T)
    for row, column, place in found.entries():
        matrix[row, column] += kernel[place]
    torch.testing.assert_close(matrix, (made[:count] - made[count]).T)


def scene_of(text: str, path: str = "conv", **options: object) -> tuple[list[Text], list[Polygon]]:
    shapes = archdsl.draw(graph_of(text), matrix=path, **options).scene.shapes
    return [s for s in shapes if isinstance(s, Text)], [s for s in shapes if isinstance(s, Polygon)]


def model(size: str, conv: str) -> str:
    return f"model net {{\n    input x[{size}]\n    conv: {conv}\n}}\n"


@pytest.mark.parametrize(
    ("size", "conv", "name"),
    [
        ("1, T = 8", "conv(1, 3)", "is a Toeplitz matrix, 8 × 8; 22 of its 64"),
        ("1, T = 8", "conv(1, 3, pad = valid)", "is a Toeplitz matrix, 6 × 8; 18 of its 48"),
        ("1, T = 8", "conv(1, 3, pad_mode = circular)", "is a circulant matrix, 8 × 8; 24 of its 64"),
        ("1, H = 5, W = 6", "conv(1, 3)", "is a doubly block Toeplitz matrix, 30 × 30"),
        ("1, H = 6, W = 6", "conv(1, 3, pad_mode = circular)", "is a doubly block circulant matrix, 36 × 36"),
        ("1, D = 3, H = 3, W = 3", "conv(1, 3)", "is a triply block Toeplitz matrix, 27 × 27"),
        ("1, T = 8", "conv(1, 3, pad_mode = reflect)", "is a Toeplitz matrix, except at the edges"),
        ("1, T = 8", "conv(1, 3, 2)", "is a Toeplitz matrix with the rows that the stride leaves, 4 × 8"),
        ("1, T = 4", "upconv(1, 2, 2)", "is a Toeplitz matrix of a convolution with stride 2, transposed, 8 × 4"),
    ],
)
def test_the_picture_names_its_matrix(size: str, conv: str, name: str) -> None:
    texts, _ = scene_of(model(size, conv))
    assert f"M {name}" in " ".join(text.text for text in texts)


def test_every_entry_has_its_letter() -> None:
    texts, _ = scene_of(model("1, H = 5, W = 6", "conv(1, 3)"))
    letters = [text.text for text in texts if len(text.text) == 1 and text.text in "abcdefghi"]
    # The corners of the kernel meet 4 × 5 places of the image, its sides 4 × 6 and 5 × 5, its middle all.
    expected = {"a": 20, "b": 24, "c": 20, "d": 25, "e": 30, "f": 25, "g": 20, "h": 24, "i": 20}
    assert {letter: letters.count(letter) - 1 for letter in "abcdefghi"} == expected  # one more in the kernel


def test_given_numbers_stand_in_the_cells() -> None:
    texts, _ = scene_of(model("1, T = 6", "conv(1, weight = [1, -1], pad = valid, flip = true)"))
    found = [text.text for text in texts]
    assert found.count("−1") == 6 and found.count("1") == 5 + 1 + 2  # in the kernel, and two numbers of elements


def test_large_layers_are_drawn_at_smaller_sizes() -> None:
    """Every convolution of the library's ResNet and U-Net: at most MOST rows, and the layer's own size is told."""
    for spec in ("resnet:resnet50", "unet:unet", "dcgan:generator"):
        graph = archdsl.check(spec)
        for node in [n for n in graph.nodes() if n.operation.has_filters][:4]:
            diagram = archdsl.draw(graph, matrix=node.path)
            texts = " ".join(s.text for s in diagram.scene.shapes if isinstance(s, Text))
            left, low, right, high = diagram.scene.bounds
            assert right - left < 1500 and high - low < 1500
            whole = node.operation.matrix(*(tuple(map(int, s)) for s in shapes_of(graph, node)))
            own = all(prod(size[1:]) <= WELL for size in (whole.shape, whole.output))
            assert ("the layer itself maps" in texts) != own


def shapes_of(graph: archdsl.compiler.Graph, node: object) -> list[tuple[int, ...]]:
    from archdsl.analysis.costs import costs

    found = costs(graph)
    return [found.shape(node.inputs[0]), found.shapes[node.id][0]]


def test_texts_keep_apart_and_within_the_picture() -> None:
    for size, conv in (("1, T = 12", "conv(1, 5, pad_mode = reflect)"), ("3, H = 6, W = 6", "conv(8, 3)")):
        for theme in ("light", "dark", "print"):
            diagram = archdsl.draw(graph_of(model(size, conv)), matrix="conv", theme=theme)
            left, low, right, high = diagram.scene.bounds
            boxes = []
            for text in (s for s in diagram.scene.shapes if isinstance(s, Text)):
                (x, y), half = text.at, text.width / 2.1
                assert left <= x - half and x + half <= right and low <= y <= high
                boxes.append((x - half, y, x + half, y + 0.6 * text.size, text.text))
            for i, (a, b) in enumerate(product(boxes, boxes)):
                if i // len(boxes) < i % len(boxes):
                    assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_one_number_for_a_place() -> None:
    assert [flat(place, (2, 3)) for place in product(range(2), range(3))] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["lenet:lenet"], 2, "--matrix draws that of one layer: name it, SPEC:PATH"),
        (["lenet:lenet:nothing"], 1, "no layer or block at the path `nothing`"),
        (["nothing.arch:conv"], 1, "there is no file `nothing.arch`"),
        (["resnet:resnet50:fc"], 2, "every entry is a weight of its own"),
        (["resnet:resnet50:bn1"], 2, "has no matrix in which weights repeat; convolutions"),
        (["resnet:resnet50:layer1"], 2, "is a block; name a convolution in it, such as layer1.0."),
        (["resnet:resnet50:conv1", "--depth", "2"], 2, "--depth is for pictures of networks, not for --matrix"),
        (["resnet:resnet50:conv1", "-o", "m.html"], 2, "a matrix has no page"),
        (["vit:vit_b_32:conv_proj"], 2, f"at most {MOST} rows and columns"),
    ],
)
def test_what_has_no_picture(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(str(tmp_path))
    output = [] if "-o" in arguments else ["-o", "m.svg"]
    assert cli.run(["draw", "--matrix", *arguments, *output]) == status
    assert message in " ".join(capsys.readouterr().err.split())


def test_every_format(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    for ending in ("svg", "pdf", "tex", "dot", "png"):
        assert cli.run(["draw", "resnet:resnet50:conv1", "--matrix", "--width", "3.3in", "-o", f"m.{ending}"]) == 0
