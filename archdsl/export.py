"""Networks for other runtimes: PyTorch's exported programs (.pt2) and ONNX, dynamic in the batch and the free sizes."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from archdsl import compiler, dims
from archdsl.backends.torch_source.exporting import exportable
from archdsl.diagnostics import visible
from archdsl.graph import Graph, Tensor

ENDINGS = (".pt2", ".onnx")

TESTED = "2.13"
"""The oldest PyTorch that exports are tested with."""


class ExportError(Exception):
    """An export that cannot be made: an ending that means nothing, a package that is not installed."""


def export(graph: Graph, path: Path, weights: Path | None = None, *, inference: bool = False) -> bytes:
    """The bytes of a network in evaluation mode for a .pt2 or .onnx file, by the ending of the path.

    `weights` are those of the training form; with `inference`, batchnorms become part of convolutions.
    The batch is free, and so are the free sizes that the model's own `dynamic_shapes()` names; the others, which
    `pinned` tells, have the size to show. Several outputs are a tuple, in a .onnx file by their names; those of
    training are left out. Raises ExportError, OSError, WeightsError.
    """
    import torch  # it holds and traces the network

    if path.suffix not in ENDINGS:
        raise ExportError(f"{visible(str(path))}: the ending says the form, one of {', '.join(ENDINGS)}")
    model: Any = compiler.instantiate(graph, inference=inference)
    if weights is not None:
        from archdsl.weights import WeightsError, fit

        state, match = fit(graph, weights)
        if match.missing or match.shapes:
            raise WeightsError(f"{visible(str(weights))} has not all that {graph.name} needs: {match.as_text()}")
        model.load_state_dict(compiler.folded(model, state) if inference else state)
    model.eval()
    values = {name: _traced(graph, name, value) for name, value in graph.examples.items()}
    shapes = [[dims.evaluate(d, values) for d in graph.shape(Tensor(n.id))] for n in graph.input_nodes]
    # A batch of 1 would be taken for a constant.
    images = tuple(torch.zeros(2, *shape) for shape in shapes)
    outputs = [output for output in graph.outputs if not output.training]
    if len(graph.outputs) > 1:
        model.forward = _in_a_tuple(model.forward)
    with torch.no_grad(), _reported(graph):
        free = sys.modules[type(model).__module__].dynamic_shapes()
        if path.suffix == ".pt2":
            buffer = io.BytesIO()
            torch.export.save(torch.export.export(model, images, dynamic_shapes=free), buffer)
            return buffer.getvalue()
        try:
            import onnx  # noqa: F401  # the exporter needs both, and they are an extra
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ExportError(f"ONNX needs the package {error.name}: pip install 'archdsl[onnx]'") from None
        translated = torch.onnx.export(
            model,
            images,
            dynamo=True,
            dynamic_shapes=free,
            input_names=[node.name for node in graph.input_nodes],
            output_names=[output.name or "output" for output in outputs],
            verbose=False,
            optimize=True,
        )
    assert translated is not None
    data: bytes = translated.model_proto.SerializeToString()
    return data


def _in_a_tuple(forward: Callable[..., tuple[object, ...]]) -> Callable[..., tuple[object, ...]]:
    """What a module gives in evaluation as a plain tuple: no file can name the class of a named one."""

    @wraps(forward)
    def plain(*inputs: object) -> tuple[object, ...]:
        return tuple(found for found in forward(*inputs) if found is not None)

    return plain


def pinned(graph: Graph) -> dict[str, int]:
    """The free sizes that an export has to pin, and the size that each gets."""
    return {name: value for name, value in graph.examples.items() if exportable(graph, name) is None}


def _traced(graph: Graph, name: str, example: int) -> int:
    """The size to trace with: the one to show, or the nearest that a program for many sizes takes."""
    valid = exportable(graph, name)
    if valid is None or example in valid:
        return example
    below, above = valid.nearest(example)
    return above or below or example


@contextmanager
def _reported(graph: Graph) -> Iterator[None]:
    """What the exporter cannot do is said in one line; what it tried on its way is not told."""
    import torch

    loggers = [logging.getLogger(name) for name in ("torch.fx.experimental.symbolic_shapes", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ExportError:
        raise
    except Exception as error:  # PyTorch raises many kinds
        cause: BaseException = error
        while cause.__cause__ is not None:  # the ONNX exporter wraps it in advice of its own
            cause = cause.__cause__
        said = next(iter(str(cause).splitlines()), "") or type(cause).__name__
        here = torch.__version__
        older = [*map(int, here.split(".")[:2])] < [*map(int, TESTED.split("."))]
        help = f"; exports are tested with PyTorch {TESTED} and newer, this is {here}" if older else ""
        raise ExportError(f"PyTorch cannot export `{graph.name}`: {said.rstrip('.')}{help}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
