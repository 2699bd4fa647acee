"""Imports a file: which front end reads it, at which sizes, and the proof against the file itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from archdsl.common.choices import NETWORK_FILES
from archdsl.common.escaping import visible
from archdsl.runtime.importing.importing import from_module, identifier
from archdsl.runtime.importing.proving import Imported, Size
from archdsl.runtime.importing.refusal import ImportRefused

Opener = Callable[[Path, Sequence[Size]], Imported]


def from_onnx(path: Path, sizes: Sequence[Size]) -> Imported:
    """The spec of an ONNX file, compared with what onnxruntime computes of it."""
    from archdsl.runtime.importing.files.onnx_file import read
    from archdsl.runtime.importing.files.onnx_program import program_of
    from archdsl.runtime.importing.files.onnx_proof import compare
    from archdsl.runtime.importing.files.onnx_sizes import chosen

    graph = read(path)
    picked = chosen(graph, sizes)
    program = program_of(graph, picked.with_batch)
    found = from_module(
        program.module(), picked.sizes, name=identifier(path.stem.replace(".", "_")), source=visible(path.name), fixed=not picked.free
    )
    compare(path, graph, found, picked)
    return found


OPENERS: dict[str, Opener] = {".onnx": from_onnx}
assert tuple(OPENERS) == NETWORK_FILES


def from_file(path: Path, sizes: Sequence[Size] = ()) -> Imported:
    """The spec of the network in a file; `sizes` are those of its inputs where the file leaves them free.

    Raises ImportRefused, OSError, and ImportError if a package that reads it is not installed.
    """
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise ImportRefused(f"{visible(str(path))} {what}")
    return OPENERS[path.suffix.lower()](path, sizes)
