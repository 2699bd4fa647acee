"""Exported and compiled programs: batch, H and W dynamic in one graph, the same outputs, the same rejections."""

from __future__ import annotations

import io
import itertools
import keyword
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import archdsl
from archdsl import cli
from archdsl.dims import evaluate
from archdsl.graph import Graph, Tensor
from archdsl.runtime import loading
from archdsl.runtime.export import TESTED, ExportError, proved_export
from tests.helpers import graph_of, net_text, source_of

pytestmark = [
    pytest.mark.usefixtures("one_registry"),
    pytest.mark.skipif(
        [*map(int, torch.__version__.split(".")[:2])] < [*map(int, TESTED.split("."))],
        reason=f"exports, and compilation without a break, are tested with PyTorch {TESTED} and newer",
    ),
]

CONVOLUTIONAL = [
    ("unet:unet", {"width": 2, "depth": 1}),
    ("unet:unet_padded", {"width": 2, "depth": 2}),
    ("unet:unet_1d", {"width": 2, "depth": 1}),
    ("unet:unet_3d", {"width": 2, "depth": 1}),
    ("fcdensenet:fcdensenet", {"counts": [1, 1], "growth": 2, "width": 4}),
    ("edges:edges", {}),
    ("edges:edges_1d", {}),
    ("resnet:resnet18", {"classes": 3}),
    ("squeezenet:squeezenet1_1", {"classes": 3}),
]


def images(graph: Graph, sizes: dict[str, int], batch: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [[evaluate(d, sizes) for d in graph.shape(Tensor(n.id))] for n in graph.input_nodes]
    return [torch.randn(batch, *shape) for shape in shapes]


def small(graph: Graph, start: int) -> dict[str, int]:
    """Valid sizes, all different, from `start` on."""
    sizes = {}
    for step, free in enumerate(graph.free):
        valid = graph.sizes[free.name]
        above = valid.nearest(start + 17 * step)[1]
        assert above is not None
        sizes[free.name] = above
    return sizes


def reloaded(program: Any) -> Any:
    """A program saved and loaded again, as a module."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer).module()


def exported(graph: Graph, model: torch.nn.Module, sizes: dict[str, int]) -> Any:
    """The module's export, as anyone would write it."""
    free = sys.modules[type(model).__module__].dynamic_shapes()
    return reloaded(torch.export.export(model, tuple(images(graph, sizes, 2)), dynamic_shapes=free))


LONG = ("edges:edges_1d", "resnet:resnet18", "squeezenet:squeezenet1_1", "unet:unet_3d")
"""As others, of another number of axes or with fewer kinds of layers."""


@pytest.mark.parametrize(
    ("spec", "values"), [pytest.param(*case, marks=[pytest.mark.long] * (case[0] in LONG)) for case in CONVOLUTIONAL]
)
def test_torch_export_leaves_every_size_free(spec: str, values: dict[str, Any]) -> None:
    graph = archdsl.check(spec, **values)
    model = archdsl.load(spec, **values).eval()
    free = sys.modules[type(model).__module__].dynamic_shapes()
    assert len(free[0]) == 1 + len(graph.free)
    lowest = 20 if graph.name.startswith(("unet", "fcdensenet", "edges")) else 70
    again = exported(graph, model, small(graph, lowest))
    for start, batch in ((lowest + 25, 3), (lowest + 40, 1)):
        inputs = images(graph, small(graph, start), batch)
        torch.testing.assert_close(again(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


# Sizes that PyTorch cannot prove, or that no progression says: the exported program checks them when it runs.
UNPROVEN = {
    "maxpool(3, 2, ceil = true) -> conv(1, 3)": "any from 2",
    "conv(1, 3, stride = 2, pad = same_upper)": "any",
    "(it -> conv(1, 3, pad = valid), it -> conv(1, 5)) -> align(pad) -> add": "any from 3",
    "(it -> maxpool(2) -> conv(1, 1, stride = 3), it -> maxpool(6)) -> add": "≡ 0, 1 (mod 6), at least 6",
    "(it -> maxpool(4) -> upsample(2), it -> maxpool(2)) -> add": "≡ 0, 1 (mod 4), at least 4",
    "conv(4, 4, 4, pad = valid) -> residual { layernorm -> conv(4, 1) -> scale(0.1) }": "any from 4",
}


@pytest.mark.parametrize(("body", "valid"), UNPROVEN.items())
def test_sizes_beyond_proof_are_free_as_well(body: str, valid: str) -> None:
    graph = graph_of(net_text(body, "image[1, H, W]"))
    assert graph.sizes["H"].describe() == valid
    model = loading.instantiate(graph).eval()
    again = exported(graph, model, small(graph, 30))
    for start in range(31, 44):
        inputs = images(graph, small(graph, start), 3)
        torch.testing.assert_close(again(*inputs), model(*inputs))
    odd = torch.zeros(2, 1, 47, 47)
    if 47 not in graph.sizes["H"]:
        with pytest.raises(AssertionError, match="Guard failed"):
            again(odd)


def test_what_goes_by_cases_is_pinned(tmp_path: Path) -> None:
    """A pooling that rounds up and drops a window for some sizes needs one program for each case."""
    file = tmp_path / "net.pt2"
    spec = tmp_path / "net.arch"
    spec.write_text("model net {\n input image[1, H = 30, W = 30]\n maxpool(1x2, 2, 0, ceil = true)\n}\n")
    found = CliRunner().invoke(cli.cli, ["export", str(spec), "-o", str(file)])
    pinned, proved = found.output.splitlines()
    assert found.exit_code == 0
    assert pinned == f"{file}: H is pinned to 30: `maxpool` ({spec}:3) behaves differently at some sizes"
    assert proved.startswith(f"{file}: matches the module in PyTorch ")
    again = torch.export.load(file).module()
    assert again(torch.zeros(3, 1, 30, 41)).shape == (3, 1, 15, 21)


def test_an_example_size_that_is_too_small_to_trace_is_pinned(tmp_path: Path) -> None:
    graph = graph_of("model net {\n input image[1, H = 2, W = 3]\n maxpool(2)\n}\n")
    made = proved_export(graph, tmp_path / "net.pt2")
    assert [(pin.name, pin.value) for pin in made.pins] == [("H", 2), ("W", 3)] and not made.proof.refused
    (tmp_path / "net.pt2").write_bytes(made.data)
    assert torch.export.load(tmp_path / "net.pt2").module()(torch.zeros(1, 1, 2, 3)).shape == (1, 1, 1, 1)
    assert not proved_export(graph, tmp_path / "net.onnx").pins


HEADS = """
model heads {
    input left[3, H = 32, W = 32], right[3, H, W]
    (left, right) -> add -> trunk: conv(4, 3)
    side: conv(2, 1)
    trunk -> relu -> logits: conv(2, 1)
    output logits, aux = side%s
}
"""


@pytest.mark.parametrize(("training", "names"), [("", ["logits", "aux"]), (" if training", ["logits"])])
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_several_outputs(training: str, names: list[str], ending: str, tmp_path: Path) -> None:
    graph = graph_of(HEADS % training)
    weights, file = tmp_path / "weights.pth", tmp_path / f"net{ending}"
    model = loading.instantiate(graph).eval()
    torch.save(model.state_dict(), weights)
    file.write_bytes(proved_export(graph, file, weights).data)
    inputs = images(graph, {"H": 21, "W": 34}, 3)
    wanted = [getattr(model(*inputs), name) for name in names]
    if ending == ".pt2":
        found = torch.export.load(file).module()(*inputs)
        assert type(found) is tuple
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(file)
        assert [o.name for o in session.get_outputs()] == names
        values = session.run(None, {n.name: x.numpy() for n, x in zip(graph.input_nodes, inputs, strict=True)})
        found = tuple(map(torch.from_numpy, values))
    torch.testing.assert_close(found, tuple(wanted), rtol=1e-4, atol=1e-5)


# One compiled graph for all valid sizes


@pytest.mark.parametrize(
    ("spec", "values"),
    [CONVOLUTIONAL[1], pytest.param(*CONVOLUTIONAL[4], marks=pytest.mark.long), *((b, {}) for b in UNPROVEN)],
)
def test_the_check_breaks_no_graph_and_compiles_none_again(spec: str, values: dict[str, Any]) -> None:
    text = net_text(spec, "image[1, H, W]")
    graph = archdsl.check(source_of(text) if spec in UNPROVEN else spec, **values)
    model = loading.instantiate(graph).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    compiled(*images(graph, small(graph, 36), 2))
    with torch.compiler.set_stance("fail_on_recompile"):
        for start in range(38, 62, 5):
            inputs = images(graph, small(graph, start), 2)
            torch.testing.assert_close(compiled(*inputs), model(*inputs))


def test_a_compiled_model_refuses_a_size_in_the_same_sentence() -> None:
    model = archdsl.load("unet:unet_padded", width=2, depth=4).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, dynamic=True, backend="eager")
    compiled(torch.zeros(1, 3, 32, 48))
    sentence = "^unet_padded: H must be a multiple of 16, got 100; the nearest are 96 and 112$"
    with pytest.raises(ValueError, match=sentence):
        compiled(torch.zeros(1, 3, 100, 96))
    torch._dynamo.reset()
    whole = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match=sentence[1:-1]):
        whole(torch.zeros(1, 3, 100, 96))


def test_a_pinned_size_stays_pinned() -> None:
    model = archdsl.load("lenet:lenet")
    ((free),) = sys.modules[type(model).__module__].dynamic_shapes()
    assert list(free) == [0]


@pytest.mark.parametrize(
    ("spec", "values"), [CONVOLUTIONAL[1], pytest.param(*CONVOLUTIONAL[4], marks=pytest.mark.long)]
)
def test_onnxruntime_gives_the_same_numbers(spec: str, values: dict[str, Any], tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    graph = archdsl.check(spec, **values)
    model = archdsl.load(spec, **values).eval()
    weights = tmp_path / "w.pth"
    torch.save(model.state_dict(), weights)
    session = runtime.InferenceSession(proved_export(graph, tmp_path / "net.onnx", weights).data)
    for start, batch in ((40, 1), (64, 3)):
        inputs = images(graph, small(graph, start), batch)
        names = [n.name for n in session.get_inputs()]
        (found,) = session.run(None, {k: v.numpy() for k, v in zip(names, inputs, strict=True)})
        torch.testing.assert_close(torch.from_numpy(found), model(*inputs).detach(), rtol=1e-3, atol=1e-4)


def labelled(names: Iterable[str]) -> str:
    """A network whose layers, learned factors and bodies have these labels, in turn."""
    forms = ("conv(2, 1)", "scale", "{ conv(2, 1) -> bn: batchnorm }")
    lines = (f'"{name}": {form}' for name, form in zip(names, itertools.cycle(forms), strict=False))
    return net_text("\n".join([*lines, "body: { eval: scale -> exec: conv(2, 1) -> if: batchnorm }"]), "image[2, H, W]")


SOME = ("eval", "except", "_modules", "graph", "half", "state_dict", "append", "eval_", "it2")


@pytest.mark.parametrize("ending", [".pt2", pytest.param(".onnx", marks=pytest.mark.long)])
def test_labels_may_be_names_of_pytorchs_own(ending: str, tmp_path: Path) -> None:
    """Its exporter takes no member that is called as an attribute of a module, or as a word of Python."""
    graph = graph_of(labelled(SOME))
    made = proved_export(graph, tmp_path / f"net{ending}")
    (told,) = made.renamed.lines()
    assert "`eval` is `eval__`" in told and "`it2`" not in told
    assert not made.pins


@pytest.mark.long
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_every_attribute_of_a_module_may_be_a_label(ending: str, tmp_path: Path) -> None:
    module = torch.fx.GraphModule(torch.nn.Module(), torch.fx.Graph())
    containers = (torch.nn.Sequential(), torch.nn.ModuleList(), torch.nn.ModuleDict())
    names = {name for one in (module, *containers) for name in dir(one)} - {"training"}
    graph = graph_of(labelled(sorted({*names, *keyword.kwlist, *keyword.softkwlist})))
    assert proved_export(graph, tmp_path / f"net{ending}").renamed.names.keys() >= names


@pytest.mark.long
@pytest.mark.parametrize("inference", [False, True])
def test_weights_are_exported_under_other_names_too(inference: bool, tmp_path: Path) -> None:
    graph = graph_of(labelled(SOME))
    weights = tmp_path / "weights.pth"
    model = loading.instantiate(graph)
    torch.manual_seed(0)
    torch.save({k: torch.rand_like(v) if v.is_floating_point() else v for k, v in model.state_dict().items()}, weights)
    model.load_state_dict(torch.load(weights))
    data = proved_export(graph, tmp_path / "net.pt2", weights, inference=inference).data
    image = torch.rand(2, 2, 5, 6)
    found = torch.export.load(io.BytesIO(data)).module()(image)
    torch.testing.assert_close(found, model.eval()(image), rtol=1e-3, atol=1e-4)


def test_an_ending_that_means_nothing() -> None:
    with pytest.raises(ExportError, match="pt2"):
        proved_export(archdsl.check("lenet:lenet"), Path("net.tflite"))
