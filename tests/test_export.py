"""Exports: every fully convolutional network leaves batch, H and W free, and gives the same numbers elsewhere."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import archdsl
from archdsl.dims import evaluate
from archdsl.export import ExportError, export
from archdsl.graph import Graph, Tensor

CONVOLUTIONAL = [
    ("unet:unet", {"width": 4, "depth": 2}),
    ("unet:unet_padded", {"width": 4, "depth": 2}),
    ("unet:unet_1d", {"width": 4, "depth": 2}),
    ("unet:unet_3d", {"width": 4, "depth": 1}),
    ("fcdensenet:fcdensenet", {"counts": [2, 2, 2], "growth": 4, "width": 8}),
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
    """Valid sizes, each another one, from `start` on."""
    sizes = {}
    for step, free in enumerate(graph.free):
        valid = graph.sizes[free.name]
        above = valid.nearest(start + 17 * step)[1]
        assert above is not None
        sizes[free.name] = above
    return sizes


@pytest.mark.parametrize(("spec", "values"), CONVOLUTIONAL)
def test_torch_export_leaves_every_size_free(spec: str, values: dict[str, Any]) -> None:
    graph = archdsl.check(spec, **values)
    model = archdsl.load(spec, **values).eval()
    free = sys.modules[type(model).__module__].dynamic_shapes()
    assert len(free[0]) == 1 + len(graph.free)
    lowest = 40 if "resnet" in spec or "squeeze" in spec else 20
    program = torch.export.export(
        model,
        tuple(images(graph, small(graph, lowest), 2)),
        dynamic_shapes=free,
        # PyTorch cannot prove its own rule of pools that round up for every size.
        prefer_deferred_runtime_asserts_over_guards="squeeze" in spec,
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    again = torch.export.load(buffer).module()
    for start, batch in ((lowest + 25, 3), (lowest + 40, 5)):
        inputs = images(graph, small(graph, start), batch)
        torch.testing.assert_close(again(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


def test_a_pinned_size_stays_pinned() -> None:
    model = archdsl.load("lenet:lenet")
    ((free),) = sys.modules[type(model).__module__].dynamic_shapes()
    assert list(free) == [0]


@pytest.mark.parametrize(("spec", "values"), [CONVOLUTIONAL[1], CONVOLUTIONAL[4]])
def test_onnxruntime_gives_the_same_numbers(spec: str, values: dict[str, Any], tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    graph = archdsl.check(spec, **values)
    model = archdsl.load(spec, **values).eval()
    weights = tmp_path / "w.pth"
    torch.save(model.state_dict(), weights)
    session = runtime.InferenceSession(export(graph, tmp_path / "net.onnx", weights))
    for start, batch in ((40, 1), (64, 3)):
        inputs = images(graph, small(graph, start), batch)
        names = [n.name for n in session.get_inputs()]
        (found,) = session.run(None, {k: v.numpy() for k, v in zip(names, inputs, strict=True)})
        torch.testing.assert_close(torch.from_numpy(found), model(*inputs).detach(), rtol=1e-3, atol=1e-4)


def test_an_ending_that_means_nothing() -> None:
    with pytest.raises(ExportError, match="pt2"):
        export(archdsl.check("lenet:lenet"), Path("net.tflite"))
