"""Exports to PyTorch's exported programs (.pt2) and ONNX, with dynamic batch and free sizes.

Every file is compared with its module, at sizes chosen from the valid ones, before it is returned.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archdsl.backends.torch_source.exporting import exportable
from archdsl.common.choices import EXPORTS
from archdsl.diagnostics import visible
from archdsl.dims import free_sizes
from archdsl.graph import Graph, Node
from archdsl.runtime.export.program import (
    TESTED,
    ExportError,
    Pin,
    Renamed,
    first_pins,
    network,
    place,
    reported,
    traceable,
    traced,
)
from archdsl.runtime.export.proof import Proof, WrongExport, prove_onnx, prove_program
from archdsl.runtime.outside import allowing

if TYPE_CHECKING:
    import torch

    from archdsl.runtime.export.quantizing import Quantized

__all__ = ["TESTED", "Export", "ExportError", "Pin", "Proof", "proved_export", "quantized_export"]


@dataclass(frozen=True, slots=True)
class Export:
    """A file's bytes, its fixed sizes, and the sizes at which it was compared.

    `renamed` are the parts of its keys that differ from the module's. `quantized` has the comparison of an int8 file
    with the float32 one, which `proof` is about.
    """

    data: bytes
    pins: tuple[Pin, ...]
    proof: Proof
    renamed: Renamed
    quantized: Quantized | None = None

    def lines(self) -> list[str]:
        """What to say about it."""
        notes = [*map(str, self.pins), *self.renamed.lines()]
        if self.quantized is None:
            return [*notes, str(self.proof)]
        return [*notes, f"in float32 it {self.proof}", str(self.quantized)]


def proved_export(
    graph: Graph,
    path: Path,
    weights: Path | None = None,
    *,
    inference: bool = False,
    allow_extern: str | Iterable[str] = (),
) -> Export:
    """A network in eval mode as a .pt2 or .onnx file, by the path's ending; does not write the file.

    `weights` are those of the training form; with `inference`, batchnorms are folded into convolutions. The batch and
    the free sizes of the spec are dynamic. If no correct file is found with a free size, it is fixed to its example.
    Several outputs are a tuple, named in a .onnx file; training outputs are left out. `allow_extern` as in
    `archdsl.load`. Raises ExportError, also if a file would give other outputs than the module; OSError, WeightsError,
    SpecError.
    """
    if path.suffix not in EXPORTS:
        raise ExportError(f"{visible(str(path))}: the ending must be one of {', '.join(EXPORTS)}")
    if path.suffix == ".onnx":
        _need_onnx()
    with allowing(allow_extern):
        model = network(graph, weights, inference)
        renamed = traceable(graph, model, inference)
    pins = first_pins(graph, path.suffix)
    while True:
        try:
            return _proved(graph, model, renamed, path.suffix, pins)
        except ExportError as error:
            named = f"{place(error.node)}: {error}" if error.node else str(error)
            more = _to_pin(graph, error.node, pins)
            if not more:
                start = f"{visible(str(path))} is not written: " if isinstance(error, WrongExport) else ""
                raise ExportError(start + named) from error
            pins = pins | {name: Pin(name, graph.examples[name], named) for name in more}


def quantized_export(
    graph: Graph,
    path: Path,
    folder: Path,
    weights: Path | None = None,
    *,
    allow_extern: str | Iterable[str] = (),
) -> Export:
    """The form of a network for inference as a .onnx file in int8; does not write the file.

    `folder` has the samples for calibration, see `quantizing.samples`. Otherwise like `proved_export`.
    """
    from archdsl.runtime.export.quantizing import quantized

    if path.suffix != ".onnx":
        raise ExportError(f"{visible(str(path))}: only a .onnx file can be quantised")
    made = proved_export(graph, path, weights, inference=True, allow_extern=allow_extern)
    changed = quantized(graph, made.data, folder)
    return replace(made, data=changed.data, quantized=changed)


def _to_pin(graph: Graph, node: Node | None, pins: Mapping[str, Pin]) -> list[str]:
    """The free sizes to fix next: those that flow into the failing operation, or else all."""
    left = [name for name in graph.examples if name not in pins]
    shapes = graph.shapes(node.inputs) if node else ()
    read = free_sizes(*(size for shape in shapes for size in shape))
    return [name for name in left if name in read] or left


def _proved(graph: Graph, model: torch.nn.Module, renamed: Renamed, ending: str, pins: Mapping[str, Pin]) -> Export:
    import torch

    program = traced(renamed.graph, renamed.model, pins)
    values = {name: pin.value for name, pin in pins.items()}
    if ending == ".pt2":
        buffer = io.BytesIO()
        with reported(graph):
            torch.export.save(program, buffer)
        data = buffer.getvalue()
        # For some of the smallest sizes PyTorch would trace another program, so this one rejects them.
        valid = {name: sizes for name in graph.sizes if name not in pins and (sizes := exportable(graph, name))}
        return Export(data, (*pins.values(),), prove_program(graph, model, data, valid, values), renamed)
    from archdsl.runtime.export.translation import translated

    translation = translated(renamed.graph, program, pins)
    valid = {name: sizes for name, sizes in graph.sizes.items() if name not in pins}
    proof = prove_onnx(graph, model, translation, valid, values)
    return Export(translation.SerializeToString(), (*pins.values(),), proof, renamed)


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401  # the exporter needs both, and they are an extra
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(f"ONNX needs the package {error.name}: pip install 'archdsl[onnx]'") from None
