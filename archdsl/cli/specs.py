"""Turns a SPEC of the command line into checked graphs."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archdsl.cli.options import Settings, Sizes
from archdsl.cli.printing import busy, note, write_diagnostics
from archdsl.common.choices import NETWORK_FILES
from archdsl.common.escaping import visible
from archdsl.common.missing import what_to_do

if TYPE_CHECKING:
    from archdsl.diagnostics import Diagnostic
    from archdsl.elaborate.spec_files import SpecFile
    from archdsl.graph import Graph
    from archdsl.runtime.importing import Imported


def select(spec: str, settings: Settings, *, every: bool = False) -> tuple[SpecFile, list[str], dict[str, object]]:
    """The file of a SPEC, the models that it means, and the values of `--set`.

    With `every`, they are all models of a file that can be compiled; there may be none.

    Raises SpecError.
    """
    from archdsl.checker.parameters import value_from_text
    from archdsl.checker.spec import locate, model_info, pick
    from archdsl.diagnostics import Diagnostics

    diagnostics = Diagnostics()
    spec_file, name = locate(spec, diagnostics)
    values = {key: value_from_text(text, spec_file, diagnostics) for key, text in settings.items()}
    models = [model_info(spec_file, model, diagnostics) for model in spec_file.models]
    ready = [model.name for model in models if model.missing <= values.keys()]
    if name is None and (every or len(ready) == 1) and (ready or (every and not values)):
        return spec_file, ready, values
    return spec_file, [pick(spec_file, name, diagnostics)], values


def named(spec: str) -> tuple[str, str | None]:
    """The file or family of a SPEC, and the model that it names, if any. Raises SpecError if there is none."""
    from archdsl.checker.spec import locate, pick
    from archdsl.diagnostics import Diagnostics

    diagnostics = Diagnostics()
    spec_file, name = locate(spec, diagnostics)
    if name is not None or not spec_file.models:
        pick(spec_file, name, diagnostics)
    return (spec.removesuffix(":") if name is None else spec.rpartition(":")[0]), name


def means_a_model(spec: str) -> bool:
    """Whether a SPEC means one model: it names one, or its file has only one."""
    from archdsl.checker.spec import locate, pick
    from archdsl.diagnostics import Diagnostics, SpecError

    diagnostics = Diagnostics()
    try:
        pick(*locate(spec, diagnostics), diagnostics)
    except SpecError:
        return False
    return True


def split_path(spec: str) -> tuple[str, str | None]:
    """A SPEC and the path of a layer or block behind it, if there is one: resnet:resnet50:layer1.0.conv1."""
    if not means_a_model(spec):
        # The text after the last colon may be a path, if the text before it is a spec.
        head, colon, tail = spec.rpartition(":")
        if colon and tail and means_a_model(head):
            return head, tail
    return spec, None


def check_model(spec_file: SpecFile, name: str, values: dict[str, object], sizes: Sizes) -> Graph:
    """The checked graph of a model, whose inputs accept these sizes. Raises SpecError."""
    from archdsl.checker import spec
    from archdsl.checker.finished_graph import pin
    from archdsl.diagnostics import Diagnostics

    graph = spec.check_model(spec_file, name, values, Diagnostics())
    pin(graph, sizes)
    return graph


def checked(spec: str, settings: Settings, sizes: Sizes = (), *, trains: bool = False) -> Graph:
    """The checked graph of the one model that a SPEC means; prints its warnings. Raises SpecError.

    A file with a network in another form is imported. A SPEC that is no file or family may name a PyTorch module, which
    is imported, too; its arguments are `settings`. `trains`: it has to be that module in training mode, too.
    """
    if (is_file := is_network_file(spec)) or is_python(spec):
        from archdsl.checker.finished_graph import pin

        found = (
            imported_file(Path(spec), settings, sizes) if is_file else imported(spec, settings, sizes, trains=trains)
        )
        graph = found.graph
        pin(graph, sizes)
        return graph
    spec_file, (name,), values = select(spec, settings)
    graph = check_model(spec_file, name, values, sizes)
    write_diagnostics(graph.warnings)
    return graph


_PYTHON = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def is_python(spec: str) -> bool:
    """Whether a SPEC is no file or family, but names something in a Python module: torchvision.models:resnet50."""
    from importlib.util import find_spec

    from archdsl.checker.spec import split_spec
    from archdsl.diagnostics import Diagnostics, SpecError

    if not _PYTHON.fullmatch(spec):
        return False
    try:
        split_spec(spec, Diagnostics())
    except SpecError:
        with seeing_this_folder(), contextlib.suppress(ImportError, ValueError):
            return find_spec(spec.partition(":")[0]) is not None
    return False


@contextlib.contextmanager
def seeing_this_folder() -> Iterator[None]:
    """Python modules of the current folder can be imported, as with `python -m`."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def is_network_file(spec: str) -> bool:
    """Whether a SPEC is a file with a network in another form, such as ONNX, by its ending."""
    return Path(spec).suffix.lower() in NETWORK_FILES


def imported_file(path: Path, settings: Settings, sizes: Sizes, only: str = "") -> Imported:
    """The spec of the network in a file, or `only` of a part; prints notes. Raises ClickException."""
    from archdsl.runtime.opening import from_file
    from archdsl.runtime.refusal import ImportRefused

    try:
        with busy(f"importing {visible(str(path))}", long=True):
            found = from_file(path, sizes, settings=settings, only=only)
    except ImportRefused as error:
        raise click.ClickException(str(error)) from None
    except ImportError as error:
        if not what_to_do(error):
            raise
        raise click.ClickException(f"a file is compared with its spec: {error}") from None
    for line in found.notes:
        note(line)
    return found


def imported(
    spec: str, settings: Settings, sizes: Sizes, only: str = "", *, trains: bool = True, **options: bool
) -> Imported:
    """The spec of the module that PACKAGE.MODULE:CALLABLE makes, or `only` of one in it; prints notes.

    The options are those of `from_callable`. Without `trains`, the spec of a module that does something else in
    training mode is that of evaluation mode, with a note. Raises ClickException.
    """
    from archdsl.runtime.importing import ImportRefused, TrainingDiffers, from_callable

    values = {key: python_value(text) for key, text in settings.items()}
    run = partial(from_callable, spec, values, [*sizes] or (3, 224, 224), only=only, **options)
    try:
        with seeing_this_folder(), busy(f"importing {spec}", long=True):
            try:
                found = run()
            except TrainingDiffers as error:
                if trains:
                    raise
                found = run(evaluation=True)
                found.notes.append(f"this is the network of evaluation mode: {error.reason}")
    except ImportRefused as error:
        raise click.ClickException(str(error)) from None
    for line in found.notes:
        note(line)
    return found


WORDS = {"true": True, "false": False, "none": None}
"""Values as specs spell them; the text "false" would count as true in Python."""


class _Words(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(WORDS[node.id]) if node.id in WORDS else node


def python_value(text: str) -> object:
    """A value of Python, in which `true`, `false` and `none` are as in a spec; else the text itself."""
    try:
        return ast.literal_eval(_Words().visit(ast.parse(text, mode="eval")))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


@contextlib.contextmanager
def collecting(diagnostics: list[Diagnostic]) -> Iterator[None]:
    """Collects the errors of a spec, so that the next one can be processed."""
    from archdsl.diagnostics import SpecError

    try:
        yield
    except SpecError as error:
        diagnostics.extend(error.diagnostics)
