"""Exports a network to a file: `archdsl.export`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from archdsl.common.marks import save
from archdsl.compiler import Network, checked
from archdsl.runtime.export import Export, proved_export, quantized_export


def export(
    network: Network,
    path: str | Path,
    weights: str | Path | None = None,
    *,
    inference: bool = False,
    quantize: str | Path | None = None,
    allow_extern: str | Iterable[str] = (),
) -> Export:
    """Writes a network in eval mode to a .onnx or .pt2 file, after a comparison with the module at several sizes.

    `weights` are those of the training form; with `inference`, batchnorms are folded into convolutions. The result
    has the sizes that were fixed (`pins`), and those that were compared (`proof`). `allow_extern` as in `archdsl.load`.
    `quantize` is a folder of samples for calibration: then the file is the form for inference in int8, .onnx alone.
    An existing file is overwritten. Raises ExportError, SpecError, WeightsError, OSError.
    """
    path = Path(path)
    file = None if weights is None else Path(weights)
    if quantize is not None:
        made = quantized_export(checked(network), path, Path(quantize), file, allow_extern=allow_extern)
    else:
        made = proved_export(checked(network), path, file, inference=inference, allow_extern=allow_extern)
    save(path, made.data)
    return made
