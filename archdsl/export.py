"""Networks for other runtimes: PyTorch's exported programs (.pt2) and ONNX, dynamic in the batch and the free sizes."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from archdsl import compiler, dims
from archdsl.graph import Graph, Tensor

ENDINGS = (".pt2", ".onnx")


class ExportError(Exception):
    """An export that cannot be made: an ending that means nothing, a package that is not installed."""


def export(graph: Graph, path: Path, weights: Path | None = None) -> bytes:
    """The bytes of a network in evaluation mode for a .pt2 or .onnx file, by the ending of the path.

    The batch is free, and so are the free sizes that the model's own `dynamic_shapes()` names; the others are pinned to
    the size to show. Raises ExportError, OSError, WeightsError.
    """
    import torch  # it holds and traces the network

    if path.suffix not in ENDINGS:
        raise ExportError(f"{path}: the ending says the form, one of {', '.join(ENDINGS)}")
    model: Any = compiler.instantiate(graph)
    if weights is not None:
        from archdsl.weights import WeightsError, fit

        state, match = fit(graph, weights)
        if match.missing or match.shapes:
            raise WeightsError(f"{weights} has not all that {graph.name} needs: {match.as_text()}")
        model.load_state_dict(state)
    model.eval()
    values = graph.examples
    shapes = [[dims.evaluate(d, values) for d in graph.shape(Tensor(n.id))] for n in graph.input_nodes]
    # A batch of 1 would be taken for a constant.
    images = tuple(torch.zeros(2, *shape) for shape in shapes)
    free = sys.modules[type(model).__module__].dynamic_shapes()
    buffer = io.BytesIO()
    with torch.no_grad():
        if path.suffix == ".pt2":
            program = torch.export.export(model, images, dynamic_shapes=free)
            torch.export.save(program, buffer)
            return buffer.getvalue()
        try:
            import onnx  # noqa: F401  # the exporter needs both, and they are an extra
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ExportError(f"ONNX needs the package {error.name}: pip install 'archdsl[onnx]'") from None
        names = [node.name for node in graph.input_nodes]
        translated = torch.onnx.export(
            model, images, dynamo=True, dynamic_shapes=free, input_names=names, verbose=False, optimize=True
        )
    assert translated is not None
    data: bytes = translated.model_proto.SerializeToString()
    return data
