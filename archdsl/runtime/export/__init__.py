"""Networks for other runtimes: PyTorch's exported programs (.pt2) and ONNX, dynamic in the batch and the free sizes.

Every file is proved before it is given: run beside its module at sizes drawn from the valid ones.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archdsl.backends.torch_source.exporting import exportable
from archdsl.common.choices import EXPORTS
from archdsl.diagnostics import visible
from archdsl.dims import Expr
from archdsl.graph import Graph, Node
from archdsl.runtime.export.program import TESTED, ExportError, Pin, first_pins, network, place, traced
from archdsl.runtime.export.proof import Proof, WrongExport, prove_onnx, prove_program

if TYPE_CHECKING:
    import torch

__all__ = ["TESTED", "Export", "ExportError", "Pin", "Proof", "export"]


@dataclass(frozen=True, slots=True)
class Export:
    """A file's bytes, the free sizes that it has at one value, and what it was compared at."""

    data: bytes
    pins: tuple[Pin, ...]
    proof: Proof


def export(graph: Graph, path: Path, weights: Path | None = None, *, inference: bool = False) -> Export:
    """A network in evaluation mode for a .pt2 or .onnx file, by the ending of the path; nothing is written there.

    `weights` are those of the training form; with `inference`, batchnorms become part of convolutions.
    The batch is free, and so are the free sizes of the spec. A size for which no right file is found is pinned to the
    size to show. Several outputs are a tuple, in a .onnx file by their names; those of training are left out.
    Raises ExportError, also where a file would give other numbers than the module; OSError, WeightsError.
    """
    if path.suffix not in EXPORTS:
        raise ExportError(f"{visible(str(path))}: the ending says the form, one of {', '.join(EXPORTS)}")
    if path.suffix == ".onnx":
        _need_onnx()
    model = network(graph, weights, inference)
    pins = first_pins(graph)
    while True:
        try:
            return _proved(graph, model, path.suffix, pins)
        except ExportError as error:
            named = f"{place(error.node)}: {error}" if error.node else str(error)
            more = _to_pin(graph, error.node, pins)
            if not more:
                start = f"{visible(str(path))} is not written: " if isinstance(error, WrongExport) else ""
                raise ExportError(start + named) from error
            pins = pins | {name: Pin(name, graph.examples[name], named) for name in more}


def _to_pin(graph: Graph, node: Node | None, pins: Mapping[str, Pin]) -> list[str]:
    """The free sizes to pin next: those that flow into the operation that fails, or else all."""
    left = [name for name in graph.examples if name not in pins]
    shapes = graph.shapes(node.inputs) if node else ()
    read = {size.variable for shape in shapes for size in shape if isinstance(size, Expr)}
    return [name for name in left if name in read] or left


def _proved(graph: Graph, model: torch.nn.Module, ending: str, pins: Mapping[str, Pin]) -> Export:
    import torch

    program = traced(graph, model, pins)
    values = {name: pin.value for name, pin in pins.items()}
    if ending == ".pt2":
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        # For some of the smallest sizes PyTorch would trace another program: this one refuses them.
        valid = {name: sizes for name in graph.sizes if name not in pins and (sizes := exportable(graph, name))}
        return Export(
            buffer.getvalue(), (*pins.values(),), prove_program(graph, model, buffer.getvalue(), valid, values)
        )
    from archdsl.runtime.export.translation import translated

    translation = translated(graph, program, pins)
    valid = {name: sizes for name, sizes in graph.sizes.items() if name not in pins}
    return Export(
        translation.SerializeToString(), (*pins.values(),), prove_onnx(graph, model, translation, valid, values)
    )


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401  # the exporter needs both, and they are an extra
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(f"ONNX needs the package {error.name}: pip install 'archdsl[onnx]'") from None
