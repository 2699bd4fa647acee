"""The comparison of exports: right files pass at every size, wrong ones are rejected, fixed sizes are reported."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import archdsl
from archdsl import cli
from archdsl.graph import Graph
from archdsl.runtime.export import TESTED, Export, ExportError, prove_onnx, proved_export
from archdsl.runtime.export.drawing import draw
from archdsl.runtime.export.pools import grid
from archdsl.runtime.export.program import images, network, traced
from archdsl.runtime.export.proof import WrongExport
from tests import random_specs
from tests.helpers import graph_of, net_text, random_graph
from tests.random_networks import network as random_network

pytestmark = [
    pytest.mark.usefixtures("one_registry"),
    pytest.mark.skipif(
        [*map(int, torch.__version__.split(".")[:2])] < [*map(int, TESTED.split("."))],
        reason=f"exports are tested with PyTorch {TESTED} and newer",
    ),
]
onnx: Any = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
onnxruntime: Any = pytest.importorskip("onnxruntime", reason="the extra `dev` is not installed")


def check(body: str, inputs: str = "image[3, H = 32, W = 32]") -> Graph:
    return graph_of(net_text(body, inputs))


def axes(data: bytes) -> dict[str, list[int | str]]:
    """The axes of a file's inputs and outputs."""
    file = onnx.load_from_string(data).graph
    return {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in [*file.input, *file.output]
    }


def compared(graph: Graph, made: Export, **sizes: int) -> None:
    """The file of a network without weights and its module agree at these sizes."""
    session = onnxruntime.InferenceSession(made.data)
    inputs = images(graph, sizes, 3)
    names = [value.name for value in session.get_inputs()]
    found = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
    torch.testing.assert_close(torch.from_numpy(found[0]), network(graph, None, False)(*inputs))


# ---------------------------------------------------------------- kinds of networks with export bugs


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize(("n", "cells"), [(1, 3), (4, 4), (5, 7), (31, 6), (45, 2), (64, 5), (9, 1)])
def test_a_grid_is_an_adaptive_pool(n: int, cells: int, largest: bool) -> None:
    x = torch.randn(2, 3, n, 4)
    pool = torch.nn.functional.adaptive_max_pool2d if largest else torch.nn.functional.adaptive_avg_pool2d
    torch.testing.assert_close(grid(x, 2, cells, largest=largest), pool(x, (cells, 4)))


PYRAMID = "(adaptive_avgpool([1, 3]) -> flatten, adaptive_maxpool(4) -> flatten) -> concat"

ONCE_WRONG = {
    PYRAMID: ("image[3, H, W]", {"H": 31, "W": 45}),
    "adaptive_maxpool(5)": ("image[3, T = 20]", {"T": 33}),
    "adaptive_avgpool([2, 1, 3])": ("image[2, D = 6, H = 6, W = 9]", {"D": 5, "H": 7, "W": 8}),
    # Sizes valid by a remainder, which the solver of PyTorch's ONNX exporter cannot express.
    "avgpool(3, 2, 1) -> (avgpool(3, 2, 1), maxpool(2)) -> concat": ("image[3, H = 32, W = 32]", {"H": 43, "W": 52}),
    # Poolings that round up: ONNX counts windows, and what hangs over, in another way.
    "maxpool(1x2, 3, 0, ceil = true) -> avgpool(2, 3, 1, ceil = true)": ("image[2, 19, 20]", {}),
    "avgpool(3, 2, 1, ceil = true, count_pad = false)": ("image[2, H, W]", {"H": 12, "W": 15}),
    # Numbers of windows, which ONNX rounded towards zero.
    "windows(4, pad) { softmax(axis = 1) }": ("image[2, H = 6, W = 9]", {"H": 3, "W": 5}),
}


# Kinds of pools that the pyramid has, of other numbers of axes.
POOLS = ("adaptive_maxpool(5)", "adaptive_avgpool([2, 1, 3])")


@pytest.mark.parametrize(
    "body", [pytest.param(body, marks=[pytest.mark.long] * (body in POOLS)) for body in ONCE_WRONG]
)
def test_what_was_exported_wrong_is_right_at_every_size(body: str) -> None:
    inputs, sizes = ONCE_WRONG[body]
    graph = check(body, inputs)
    made = proved_export(graph, Path("net.onnx"))
    assert not made.pins
    compared(graph, made, **sizes)


@pytest.mark.long
@pytest.mark.parametrize("sizes", [{"H": 3, "W": 5}, {"H": 8, "W": 11}])
def test_a_shift_that_hangs_on_the_size_is_right_at_every_size(sizes: dict[str, int]) -> None:
    graph = check("windows(4, 3, pad) { (it, it, it) -> attend(1) }", "image[2, H = 6, W = 9]")
    made = proved_export(graph, Path("net.onnx"))
    assert not made.pins
    compared(graph, made, **sizes)


def test_axes_have_the_names_of_the_spec() -> None:
    graph = check("conv(4, 3, 2) -> maxpool(2)", "im[3, H = 64, Width = 64]")
    made = proved_export(graph, Path("net.onnx"))
    assert axes(made.data) == {
        "im": ["batch", 3, "H", "Width"],
        "output": ["batch", 4, "(H + 1) // 4", "(Width + 1) // 4"],
    }
    values = [
        d.dim_param for v in onnx.load_from_string(made.data).graph.value_info for d in v.type.tensor_type.shape.dim
    ]
    assert any("Width" in text for text in values) and not any("s53" in text or "s0" in text for text in values)


# ---------------------------------------------------------------- mutants

BODY = """
 stem: conv(4, 3, stride = 2) -> batchnorm -> relu
 (it, side: conv(4, 3)) -> sub
 maxpool(3, 2, 1)
 (it, avgpool(3, 1, 1)) -> concat
 global_avgpool -> flatten -> head: linear(5)
"""


def node(model: Any, kind: str, which: int = 0) -> Any:
    return [n for n in model.graph.node if n.op_type == kind][which]


def attribute(name: str, values: list[int], kind: str = "Conv", which: int = 0) -> Callable[[Any], None]:
    def mutate(model: Any) -> None:
        at = node(model, kind, which)
        kept = [a for a in at.attribute if a.name != name]
        del at.attribute[:]
        at.attribute.extend([*kept, onnx.helper.make_attribute(name, values)])

    return mutate


def swapped(kind: str) -> Callable[[Any], None]:
    def mutate(model: Any) -> None:
        at = node(model, kind)
        at.input[0], at.input[1] = at.input[1], at.input[0]

    return mutate


def kind_changed(old: str, new: str) -> Callable[[Any], None]:
    def mutate(model: Any) -> None:
        node(model, old).op_type = new

    return mutate


def weight(change: Callable[[Any], Any], kind: str, slot: int) -> Callable[[Any], None]:
    def mutate(model: Any) -> None:
        name = node(model, kind).input[slot]
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor).copy()), name))

    return mutate


def fixed(sizes: list[int]) -> Callable[[Any], None]:
    """A Reshape to the sizes of one run, after the first Relu."""

    def mutate(model: Any) -> None:
        at = node(model, "Relu")
        model.graph.initializer.append(onnx.numpy_helper.from_array(torch.tensor(sizes).numpy(), "fixed"))
        reshape = onnx.helper.make_node("Reshape", ["loose", "fixed"], [at.output[0]], name="fixing")
        at.output[0] = "loose"
        model.graph.node.insert([*model.graph.node].index(at) + 1, reshape)

    return mutate


def rolled(values: Any) -> Any:
    values[[0, 1]] = values[[1, 0]]
    return values


MUTANTS: dict[str, Callable[[Any], None]] = {
    "another stride": attribute("strides", [1, 1]),
    "a stride of one axis": attribute("strides", [2, 1]),
    "no padding": attribute("pads", [0, 0, 0, 0]),
    "padding of one side": attribute("pads", [0, 0, 2, 2]),
    "dilation": lambda model: (
        attribute("dilations", [2, 2], which=1)(model),
        attribute("pads", [2] * 4, which=1)(model),
    ),
    "a stride of the pooling": attribute("strides", [1, 1], "MaxPool"),
    "a kernel of the pooling": attribute("kernel_shape", [2, 2], "MaxPool"),
    "padding counted no longer": attribute("count_include_pad", 0, "AveragePool"),  # type: ignore[arg-type]
    "a difference turned round": swapped("Sub"),
    "a concat turned round": swapped("Concat"),
    "another activation": kind_changed("Relu", "Abs"),
    "a sum for a difference": kind_changed("Sub", "Add"),
    "a bias": weight(lambda values: values + 0.01, "Gemm", 2),
    "one weight in a hundred": weight(lambda values: values * 1.01, "Gemm", 1),
    "two channels swapped": weight(rolled, "Conv", 1),
    "a batch fixed at 2": fixed([2, 4, -1, 16]),
    "a width fixed at 16": fixed([-1, 4, 16, 16]),
}


@pytest.fixture(scope="module")
def right() -> tuple[Graph, torch.nn.Module, Any]:
    """A network, its module with distinctive batchnorm statistics, and its ONNX model."""
    from archdsl.runtime.export.translation import translated

    torch.manual_seed(0)
    graph = check(BODY)
    model = network(graph, None, False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    return graph, model, translated(graph, traced(graph, model, {}), {})


def test_the_unchanged_file_passes(right: tuple[Graph, torch.nn.Module, Any]) -> None:
    graph, model, file = right
    assert prove_onnx(graph, model, file, graph.sizes, {}).worst < 0.5


@pytest.mark.parametrize("name", MUTANTS)
def test_a_changed_file_is_refused(name: str, right: tuple[Graph, torch.nn.Module, Any]) -> None:
    graph, model, file = right
    mutant = onnx.ModelProto()
    mutant.CopyFrom(file)
    MUTANTS[name](mutant)
    with pytest.raises(WrongExport):
        prove_onnx(graph, model, mutant, graph.sizes, {})


def test_the_operation_that_goes_wrong_is_named(right: tuple[Graph, torch.nn.Module, Any]) -> None:
    graph, model, file = right
    mutant = onnx.ModelProto()
    mutant.CopyFrom(file)
    attribute("dilations", [2, 2], which=1)(mutant)
    attribute("pads", [2] * 4, which=1)(mutant)
    with pytest.raises(WrongExport) as caught:
        prove_onnx(graph, model, mutant, graph.sizes, {})
    assert caught.value.node is not None and caught.value.node.path == "side"


def test_without_onnxruntime_small_sizes_are_compared(
    right: tuple[Graph, torch.nn.Module, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, model, file = right
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "reference evaluator" in prove_onnx(graph, model, file, graph.sizes, {}).by
    mutant = onnx.ModelProto()
    mutant.CopyFrom(file)
    MUTANTS["a difference turned round"](mutant)
    with pytest.raises(WrongExport):
        prove_onnx(graph, model, mutant, graph.sizes, {})


# ---------------------------------------------------------------- messages and leftovers on disk


@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_a_wrong_export_is_not_written(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*given: object) -> None:
        raise WrongExport("its numbers are off")

    monkeypatch.setattr("archdsl.runtime.export.proof.compare", wrong)
    spec, file = tmp_path / "net.arch", tmp_path / f"net{ending}"
    spec.write_text("model net {\n input image[1, 8, 8]\n relu\n}\n")
    file.write_bytes(b"the file of yesterday")
    found = CliRunner().invoke(cli.cli, ["export", str(spec), "-o", str(file), "--force"])
    assert found.exit_code == 1
    assert f"{file} is not written: its numbers are off" in found.output
    assert file.read_bytes() == b"the file of yesterday"
    assert {p.name for p in tmp_path.iterdir()} == {"net.arch", file.name}


def test_a_size_that_goes_wrong_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no right file with a free size is found, the size is fixed, and the operation named."""
    from archdsl.runtime.export import translation

    translated = translation.translated

    def wrong(graph: Graph, program: Any, pins: Any) -> Any:
        model = translated(graph, program, pins)
        if "W" not in pins:
            attribute("pads", [1, 0, 1, 2])(model)
        return model

    monkeypatch.setattr(translation, "translated", wrong)
    made = proved_export(check("conv(2, 3)", "image[1, 9, W = 12]"), Path("net.onnx"))
    ((pin),) = made.pins
    assert (pin.name, pin.value) == ("W", 12)
    assert str(pin).startswith("W is pinned to 12: `conv` (net.arch:3): its outputs differ by ")
    assert axes(made.data) == {"image": ["batch", 1, 9, 12], "output": ["batch", 2, 9, 12]}


def test_large_networks_are_compared_within_a_budget() -> None:
    graph = archdsl.check("unet:unet")
    tries, left = draw(graph, graph.sizes, {})
    assert left and tries[0].sizes == {name: sizes.minimum for name, sizes in graph.sizes.items()}
    tries, left = draw(archdsl.check("resnet:resnet18"), archdsl.check("resnet:resnet18").sizes, {})
    assert {t.batch for t in tries} == {1, 2, 3} and 224 in {t.sizes["H"] for t in tries}
    assert any(t.sizes["H"] % 2 and t.sizes["H"] > 200 for t in tries) and any(t.sizes["H"] > 300 for t in tries)


def test_paddings_stay_apart_from_the_poolings_behind_them() -> None:
    """onnxruntime would make each part of the pooling, which pads otherwise, and by less than the kernel."""
    paths = ("pad(2) -> a: avgpool(2)", "pad(1) -> b: maxpool(2)", "pad(3) -> c: maxpool(2, ceil = true)")
    graph = check("\n".join([*(f"image -> {path}" for path in paths), "output a, b, c"]), "image[2, H = 12, W = 13]")
    assert not proved_export(graph, Path("net.onnx")).pins


def test_the_example_size_is_never_rejected() -> None:
    """A program for several numbers of windows takes no single one; nor would it take this image."""
    graph = check("windows(4, pad) { linear(4) }", "image[2, H = 4, W = 9]")
    ((pin),) = proved_export(graph, Path("net.pt2")).pins
    assert str(pin) == "H is pinned to 4: a size within the network is 1 then, and a file for others rejects 4"


def test_outputs_keep_their_names_beside_weights_that_are_called_so() -> None:
    """The key of a `scale` is its path, which is the name of the output here."""
    graph = check("global_avgpool -> flatten -> a: scale -> b: scale(2)\n output b = a, a = b", "x[4, H = 8, W = 8]")
    model = onnx.load_from_string(proved_export(graph, Path("net.onnx")).data)
    assert [value.name for value in model.graph.output] == ["b", "a"]
    assert {"a_weight", "b_weight"} <= {i.name for i in model.graph.initializer}


# ---------------------------------------------------------------- random networks


def exported(seed: int, ending: str) -> str:
    """The result for a random network: proved, pinned, refused."""
    _, graph = random_graph(lambda r: random_network(r, free=True, parts=r.random() < 0.5), Random(seed))
    return exported_as(graph, ending)


def exported_as(graph: Graph, ending: str) -> str:
    try:
        made = proved_export(graph, Path(f"net{ending}"))
    except ExportError as error:
        assert len(str(error).split()) > 5 and "NotImplementedError" not in str(error)
        return "refused"
    assert made.proof.tries
    assert all(pin.reason and pin.name in graph.sizes for pin in made.pins)
    return "pinned" if made.pins else "proved"


@pytest.mark.parametrize("seed", [5, 6])
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_random_networks_are_proved(seed: int, ending: str) -> None:
    assert exported(seed, ending) == "proved"


@pytest.mark.long
@pytest.mark.parametrize("first", range(100, 300, 25))
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_more_random_networks_are_proved_pinned_or_refused(first: int, ending: str) -> None:
    found = Counter(exported(seed, ending) for seed in range(first, first + 25))
    assert found["proved"] >= 15 and found["refused"] <= 5, found


FORMS = {"attention", "attend", "relative", "tokens", "matmul", "parameter", "windows", "grid", "normalize", "expand"}
"""Operations of tokens, attention and windows, some of which a network below has."""


def exported_forms(seed: int, ending: str) -> str:
    """The result for a network of every form of the language: proved, pinned, refused; empty for another one."""
    found = random_specs.spec(seed)
    if found is None or found[1].outside:
        return ""
    text, graph = found
    if "share " not in text and not FORMS & {node.operation.name for node in graph.nodes()}:
        return ""
    return exported_as(graph, ending)


def test_a_network_of_many_forms_is_proved() -> None:
    assert exported_forms(6, ".pt2") == "proved"


@pytest.mark.long
@pytest.mark.parametrize("seed", [3, 8, 10, 13, 14, 24, 25, 26])
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_more_networks_of_many_forms_are_proved(seed: int, ending: str) -> None:
    assert exported_forms(seed, ending) == "proved"
