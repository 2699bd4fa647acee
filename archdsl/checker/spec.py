"""From a SPEC to a checked graph: find the file and model, bind the parameters, check.

Fixes that errors propose are tried here, by checking again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from archdsl.advice.trial import Trials
from archdsl.checker import finished_graph
from archdsl.checker.lints import lints
from archdsl.checker.parameters import bind_model, in_file
from archdsl.common.limits import limited, ongoing
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostic, Diagnostics, SpecError, did_you_mean
from archdsl.elaborate import elaborate
from archdsl.elaborate.spec_files import (
    Loader,
    SpecFile,
    family,
    library_families,
    library_folder,
    reporting,
    says_augment,
)
from archdsl.graph import Graph


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of a file. `missing` are its parameters without a value."""

    name: str
    doc: str | None
    parameters: tuple[str, ...]
    missing: frozenset[str]

    @property
    def complete(self) -> bool:
        """Whether it can be compiled without further values."""
        return not self.missing


# ---------------------------------------------------------------- which model


def read(spec: str | Path | Source, diagnostics: Diagnostics) -> tuple[SpecFile | None, str | None]:
    """The file that a SPEC names (None if it cannot be read) and the model's name, if given.

    Errors in its text go to `diagnostics`. Raises SpecError if there is no such file.
    """
    loader = Loader(diagnostics)
    with ongoing():
        if isinstance(spec, Source):
            return loader.load_source(spec), None
        if not isinstance(spec, str | os.PathLike):
            what = type(spec).__name__
            raise TypeError(
                f"a SPEC is a name (str or Path), or the text as an archdsl.Source(name, text); this is {what}"
            )
        path, name = split_spec(str(spec), diagnostics)
        return loader.load_file(path), name


def locate(spec: str | Path | Source, diagnostics: Diagnostics) -> tuple[SpecFile, str | None]:
    """The parsed file that a SPEC names, and the model's name, if given. Raises SpecError."""
    spec_file, name = read(spec, diagnostics)
    with trying(spec_file, partial(_check_all, name)):
        diagnostics.stop_on_errors()
    assert spec_file is not None
    return spec_file, name


def _check_all(name: str | None, spec_file: SpecFile, diagnostics: Diagnostics) -> None:
    """Checks the named model of a file, or all that are complete."""
    for model in spec_file.models if name is None else [name] if name in spec_file.models else []:
        if name is not None or _model_info(spec_file, model, diagnostics).complete:
            _checked(spec_file, model, {}, diagnostics)


def split_spec(spec: str, diagnostics: Diagnostics) -> tuple[Path, str | None]:
    """The path and model name of a SPEC. Raises SpecError.

    It is `path.arch`, `path.arch:model`, `family:model`, `family`, or `package:path.arch` and `package:path.arch:model`
    for a file in the folder of a Python package, which may also be named as Python imports it: `package.file:model`.
    """
    head, colon, tail = spec.rpartition(":")
    if colon and not head.endswith((":", "\\")) and "/" not in tail and not tail.endswith(".arch"):
        where, name = head, tail or None
    else:
        where, name = spec, None
    path, exists = Path(where), os.path.exists(where)  # unlike that of Path, False for what cannot be a name
    if not exists and _is_text(spec):
        begins = spec.strip().splitlines()[0]
        help_ = 'in Python, pass `archdsl.Source("net.arch", text)`; for a command, write the text to a file'
        diagnostics.error("E0003", f"a SPEC is a name, and this is text: `{begins[:60]} …`", help=help_)
        diagnostics.stop_on_errors()
    if not exists and (found := in_package(where, diagnostics)) is not None:
        return found, name
    if where.endswith(".arch") or "/" in where or exists:
        return path, name
    families = library_families()
    if where in families:
        return library_folder() / f"{where}.arch", name
    package, _, file = where.rpartition(".")
    if _IMPORTED.fullmatch(where) and (imported := _beside(package, f"{file}.arch")) is not None:
        return imported, name
    if ":" in where:
        help: str | None = (
            "a SPEC is FILE, FILE:MODEL or FAMILY:MODEL; only `explain` and `draw --matrix` take the path of a layer"
        )
    elif _IMPORTED.fullmatch(where) and _folders(package.partition(".")[0]):
        help = f"as a Python import it would be {file}.arch in the folder of the package `{package}`"
    elif os.path.exists(f"{where}.arch"):
        help = f"did you mean `{where}.arch`?"
    else:
        help = did_you_mean(where, families) or "the library has: " + ", ".join(families)
    diagnostics.error("E0003", f"there is no file or library family named `{where}`", help=help)
    diagnostics.stop_on_errors()
    raise AssertionError


def _is_text(spec: str) -> bool:
    """Whether a SPEC is no name but what belongs in a file."""
    return "{" in spec or "\n" in spec.strip()


_IMPORTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.ASCII)
_IN_PACKAGE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([^:]+\.arch)", re.ASCII)


def in_package(where: str, diagnostics: Diagnostics) -> Path | None:
    """The path of `package:path.arch`, found without running the package; None for another text. Raises SpecError."""
    if (named := _IN_PACKAGE.fullmatch(where)) is None:
        return None
    package, file = named.groups()
    if (found := _beside(package, file)) is not None:
        return found
    top = package.partition(".")[0]
    if _folders(top):
        help_ = "installed packages hold data files only if their build configuration includes them"
        diagnostics.error("E0003", f"the package `{package}` has no file `{file}`", help=help_)
    else:
        diagnostics.error("E0003", f"there is no Python package `{top}`", help="is it installed in this environment?")
    diagnostics.stop_on_errors()
    raise AssertionError


def _beside(package: str, file: str) -> Path | None:
    """The path of a file in the folder of a package, if it is there."""
    top, *inner = package.split(".")
    paths = [Path(folder, *inner, file) for folder in _folders(top)]
    return next((path for path in paths if os.path.isfile(path)), None)


def _folders(package: str) -> list[str]:
    """The folders of a top-level package, which is not run."""
    from importlib.util import find_spec  # only for a spec in a package

    with suppress(ImportError, ValueError):  # such as __main__, which has no spec
        spec = find_spec(package)
        return list(spec.submodule_search_locations or ()) if spec is not None else []
    return []


def models(spec: str | Path | Source) -> list[ModelInfo]:
    """The models of a file or family, in order. Raises SpecError if it cannot be read."""
    diagnostics = Diagnostics()
    spec_file, _ = locate(spec, diagnostics)
    return [model_info(spec_file, name, diagnostics) for name in spec_file.models]


def model_info(spec_file: SpecFile, name: str, diagnostics: Diagnostics) -> ModelInfo:
    with trying(spec_file, partial(_check_all, None)):
        return _model_info(spec_file, name, diagnostics)


def _model_info(spec_file: SpecFile, name: str, diagnostics: Diagnostics) -> ModelInfo:
    with reporting(diagnostics):
        block, given = family(spec_file.models[name])
    diagnostics.stop_on_errors()
    parameters = block.syntax.parameters
    missing = frozenset(p.name.name for p in parameters if p.default is None) - given.keys()
    return ModelInfo(name, block.syntax.doc, tuple(p.name.name for p in parameters), missing)


def pick(spec_file: SpecFile, name: str | None, diagnostics: Diagnostics) -> str:
    """The model that a SPEC means: the one it names, or the only complete one of its file. Raises SpecError."""
    if name is not None and name in spec_file.models:
        return name
    complete = [m for m in spec_file.models if model_info(spec_file, m, diagnostics).complete]
    if name is None and len(complete or spec_file.models) == 1:
        return next(iter(complete or spec_file.models))
    file = spec_file.source.name
    if name is not None:
        message = f"{file} has no model `{name}`"
    elif not spec_file.models:
        message = f"{file} has no model"
    else:
        message = f"{file} has {len(spec_file.models)} models: choose one"
    help = (did_you_mean(name, spec_file.models) if name else None) or _listed(spec_file.models, complete)
    if not spec_file.models:
        help = "a model begins with `model NAME { input image[3, H, W] … }`"
    diagnostics.error("E0202", message, help=help)
    diagnostics.stop_on_errors()
    raise AssertionError


def _listed(models: Collection[str], complete: Collection[str]) -> str:
    """The models of a file in words: those that can be compiled, and the families that need values."""
    others = ", ".join(f"`{m}`" for m in models if m not in complete)
    if not complete or not others:
        return f"it has {others or ', '.join(f'`{m}`' for m in complete)}"
    return f"it has {', '.join(f'`{m}`' for m in complete)}; and with values for their parameters: {others}"


# ---------------------------------------------------------------- the check


def check_model(spec_file: SpecFile, name: str, values: Mapping[str, object], diagnostics: Diagnostics) -> Graph:
    """The checked graph of one model of a parsed file. Raises SpecError."""

    def check_again(changed: SpecFile, into: Diagnostics) -> None:
        _checked(changed, name, {k: in_file(v, changed.names) for k, v in values.items()}, into)

    with limited(), trying(spec_file, check_again):
        graph = _checked(spec_file, name, values, diagnostics)
        found = [*(d for d in diagnostics.items if d.severity == "warning"), *lints(graph, spec_file)]
        found.sort(key=lambda d: d.marks[0].span.start)
        graph.warnings = tried_changes(found, (), spec_file, check_again)
    return graph


def examine(spec_file: SpecFile, name: str, values: Mapping[str, object], diagnostics: Diagnostics) -> Graph:
    """The graph of a model as far as the model is right; errors go to `diagnostics`, with proposals not yet tried.

    Raises SpecError if the values of its parameters are wrong.
    """
    block, arguments = bind_model(spec_file, name, values, diagnostics)
    graph, demands = elaborate(name, block, arguments, diagnostics)
    if says_augment(spec_file, name):
        from archdsl.elaborate.augment import augmentation  # slow to import, and few specs need it

        graph.augment = augmentation(spec_file, name, graph, diagnostics)
    if not diagnostics.errors or graph.outputs:
        finished_graph.check(graph, demands, diagnostics)
    return graph


def _checked(spec_file: SpecFile, name: str, values: Mapping[str, object], diagnostics: Diagnostics) -> Graph:
    graph = examine(spec_file, name, values, diagnostics)
    diagnostics.stop_on_errors()
    if graph.expectations:
        from archdsl.analysis.expected import check_expectations  # few models state their costs

        check_expectations(graph, diagnostics)
    return graph


def tried(
    spec_file: SpecFile, name: str | None, found: Sequence[Diagnostic], hidden: Collection[Span]
) -> tuple[Diagnostic, ...]:
    """The diagnostics of a model (None: of all models of the file), with those of the proposed fixes that work."""
    return tried_changes(found, hidden, spec_file, partial(_check_all, name))


@contextmanager
def trying(spec_file: SpecFile | None, check: Callable[[SpecFile, Diagnostics], object]) -> Iterator[None]:
    """Tries the fixes that errors in the context propose: calls `check` again with a changed file."""
    try:
        yield
    except SpecError as error:
        if spec_file is None:
            raise
        tried = tried_changes(error.diagnostics, error.hidden, spec_file, check)
    else:
        return
    raise SpecError(tried)


def tried_changes(
    found: Sequence[Diagnostic],
    hidden: Collection[Span],
    spec_file: SpecFile,
    check: Callable[[SpecFile, Diagnostics], object],
) -> tuple[Diagnostic, ...]:
    """The diagnostics of a check, with the proposed fixes that work."""
    if not any(d.proposals for d in found):
        return tuple(found)
    own, library = spec_file.source.path, library_folder()
    fixed = None if own is not None and own.is_relative_to(library) else library
    size = sum(len(source.text) for source in spec_file.sources())
    return tuple(Trials(found, hidden, partial(_again, spec_file, check), size=size, fixed=fixed).diagnostics())


def _again(spec_file: SpecFile, check: Callable[[SpecFile, Diagnostics], object], text: Source) -> Sequence[Diagnostic]:
    """The diagnostics of a check of a changed file."""
    diagnostics = Diagnostics()
    try:
        changed = spec_file.changed(text, diagnostics)
        diagnostics.stop_on_errors()
        if changed is not None:
            check(changed, diagnostics)
    except SpecError as error:
        return error.diagnostics
    return ()
