"""Imports a file: which front end reads it, at which sizes, and the proof against the file itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from archdsl.common.choices import NETWORK_FILES
from archdsl.common.escaping import visible
from archdsl.runtime.importing.files.program import Program
from archdsl.runtime.importing.files.reference import compare, of_module, of_onnx
from archdsl.runtime.importing.files.sizes import Chosen, chosen
from archdsl.runtime.importing.importing import from_module, identifier
from archdsl.runtime.importing.proving import Imported, Size
from archdsl.runtime.importing.refusal import ImportRefused

Opener = Callable[[Path, Sequence[Size]], Imported]


def imported(path: Path, program: Program, picked: Chosen) -> Imported:
    """The spec of a program."""
    name = identifier(path.stem.replace(".", "_"))
    return from_module(program.module(), picked.sizes, name=name, source=visible(path.name), fixed=not picked.free)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A file that is not as its format demands is refused, however that shows."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ImportRefused(f"{visible(path.name)} is not as its format demands ({visible(reason)[:150]})") from error


def from_onnx(path: Path, sizes: Sequence[Size]) -> Imported:
    """The spec of an ONNX file, compared with what onnxruntime computes of it."""
    from archdsl.runtime.importing.files.onnx_file import read
    from archdsl.runtime.importing.files.onnx_program import program_of

    with reading(path):
        graph = read(path)
        picked = chosen(graph.file, graph.inputs, sizes)
        program = program_of(graph, picked.with_batch)
    found = imported(path, program, picked)
    compare(found, picked, *of_onnx(path, graph))
    return found


def from_exported(path: Path, sizes: Sequence[Size]) -> Imported:
    """The spec of an exported program, compared with its operators one by one."""
    from archdsl.runtime.importing.files.exported_file import read
    from archdsl.runtime.importing.files.exported_program import program_of

    with reading(path):
        graph = read(path)
        picked = chosen(graph.file, graph.inputs, sizes, graph.examples)
        program = program_of(graph, picked.with_batch)
        whole = program_of(graph, picked.with_batch, whole=False).module()
    found = imported(path, program, picked)
    compare(found, picked, of_module(whole), "the program's operators")
    return found


OPENERS: dict[str, Opener] = {".onnx": from_onnx, ".pt2": from_exported}
assert tuple(OPENERS) == NETWORK_FILES


def from_file(path: Path, sizes: Sequence[Size] = ()) -> Imported:
    """The spec of the network in a file; `sizes` are those of its inputs where the file leaves them free.

    Raises ImportRefused, OSError, and ImportError if a package that reads it is not installed.
    """
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise ImportRefused(f"{visible(str(path))} {what}")
    return OPENERS[path.suffix.lower()](path, sizes)
