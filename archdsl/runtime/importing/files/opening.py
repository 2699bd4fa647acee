"""Imports a file: which front end reads it, at which sizes, and the proof against the file itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archdsl.common.choices import NETWORK_FILES
from archdsl.common.escaping import visible
from archdsl.runtime.importing.files.program import Program
from archdsl.runtime.importing.files.reference import compare, of_module, of_onnx
from archdsl.runtime.importing.files.sizes import Chosen, chosen
from archdsl.runtime.importing.importing import evaluated_module, identifier
from archdsl.runtime.importing.proving import Imported, Size
from archdsl.runtime.refusal import ImportRefused


@dataclass(frozen=True, slots=True)
class Wanted:
    """The user's options: the `sizes` of the inputs where the file leaves them free, settings, and a part (`only`)."""

    sizes: Sequence[Size]
    settings: Mapping[str, str]
    only: str

    def demand(self, *names: str, only: bool = False) -> None:
        """Raises ImportRefused for settings that a kind of file does not have, or for a part if it has none."""
        for name in self.settings:
            if name not in names:
                known = f"; it has {' and '.join(names)}" if names else ""
                raise ImportRefused(f"this kind of file has no setting `{visible(name)}`{known}")
        if self.only and not only:
            raise ImportRefused("this kind of file is imported as a whole, without --only")


Opener = Callable[[Path, Wanted], Imported]


def imported(path: Path, program: Program, picked: Chosen, *, random: bool = False) -> Imported:
    """The spec of a program."""
    name = identifier(path.stem.replace(".", "_").replace("-", "_"))
    module = program.module(random=random)
    source = visible(path.name)
    try:
        # A file says what its network computes in evaluation mode.
        found = evaluated_module(module, picked.sizes, name, source, fixed=not picked.free, extern=False)
    except (RuntimeError, MemoryError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportRefused(f"its network cannot run: {first}") from error
    found.notes += program.notes
    return found


def configured(path: Path, program: Program, size: Size, *, free: bool) -> Imported:
    """The spec of a configuration, which has no weights."""
    found = imported(path, program, Chosen([size], 0, free), random=True)
    found.state = {}
    return found


def one_size(wanted: Wanted, otherwise: Size) -> Size:
    """The size of the one input. Raises ImportRefused."""
    if len(wanted.sizes) > 1 or any(len(size) != 3 for size in wanted.sizes):
        raise ImportRefused("it has one input, an image: --size 3x256x256")
    return wanted.sizes[0] if wanted.sizes else otherwise


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A file that is not as its format demands is refused, however that shows."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ImportRefused(f"{visible(path.name)} is not as its format demands ({visible(reason)[:150]})") from error


def from_onnx(path: Path, wanted: Wanted) -> Imported:
    """The spec of an ONNX file, compared with what onnxruntime computes of it."""
    from archdsl.runtime.importing.files.onnx_file import read
    from archdsl.runtime.importing.files.onnx_program import program_of

    wanted.demand()
    with reading(path):
        graph = read(path)
        picked = chosen(graph.file, graph.inputs, wanted.sizes)
        program = program_of(graph, picked.with_batch)
    found = imported(path, program, picked)
    if graph.turned:
        found.notes.append("the file takes the channels last, the spec takes them first")
    compare(found, picked, *of_onnx(path, graph))
    return found


def from_exported(path: Path, wanted: Wanted) -> Imported:
    """The spec of an exported program, compared with its operators one by one."""
    from archdsl.runtime.importing.files.exported_file import read
    from archdsl.runtime.importing.files.exported_program import program_of

    wanted.demand()
    with reading(path):
        graph = read(path)
        picked = chosen(graph.file, graph.inputs, wanted.sizes, graph.examples)
        program = program_of(graph, picked.with_batch)
        whole = program_of(graph, picked.with_batch, whole=False).module()
    found = imported(path, program, picked)
    compare(found, picked, of_module(whole), "the program's operators")
    return found


def from_rows(path: Path, wanted: Wanted) -> Imported:
    """The spec of an Ultralytics-style YAML file."""
    from archdsl.runtime.importing.files.rows import program_of, read

    wanted.demand("scale", "nc", only=True)
    with reading(path):
        size = one_size(wanted, (3, 256, 256))
        program = program_of(path, read(path), size, wanted.settings, wanted.only)
    return configured(path, program, size, free=True)


def from_darknet(path: Path, wanted: Wanted) -> Imported:
    """The spec of a Darknet .cfg file."""
    from archdsl.runtime.importing.files.darknet import program_of, read, size_of

    wanted.demand(only=True)
    with reading(path):
        sections = read(path)
        size = one_size(wanted, size_of(sections))
        program = program_of(path, sections, size, wanted.only)
    return configured(path, program, size, free=True)


OPENERS: dict[str, Opener] = {
    ".onnx": from_onnx,
    ".pt2": from_exported,
    ".yaml": from_rows,
    ".yml": from_rows,
    ".cfg": from_darknet,
}
assert tuple(OPENERS) == tuple(NETWORK_FILES)


def opened(path: Path, sizes: Sequence[Size], settings: Mapping[str, str], only: str) -> Imported:
    """The spec of the network in a file, as `archdsl.from_file` gives it."""
    if path.suffix.lower() not in OPENERS:
        raise ImportRefused(f"{visible(path.name)} does not end with {', '.join(OPENERS)}")
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise ImportRefused(f"{visible(str(path))} {what}")
    return OPENERS[path.suffix.lower()](path, Wanted(sizes, settings, only))
