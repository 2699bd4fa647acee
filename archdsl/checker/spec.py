"""From a SPEC to a checked graph: which file and which model it means, what it is given, and the check of it.

What the errors of a check propose is tried here, by checking again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from archdsl.advice.trial import Trials
from archdsl.checker import finished_graph
from archdsl.checker.lints import lints
from archdsl.common.limits import limited, ongoing
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostic, Diagnostics, Mark, SpecError, did_you_mean
from archdsl.elaborate import elaborate
from archdsl.elaborate.spec_files import (
    Loader,
    Module,
    family,
    library_families,
    library_folder,
    reporting,
    says_augment,
)
from archdsl.graph import Graph
from archdsl.syntax import parser, tree
from archdsl.values import BlockValue, MemberValue, Namespace, complete, evaluate


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of a file. `missing` are its parameters that have no value yet."""

    name: str
    doc: str | None
    parameters: tuple[str, ...]
    missing: frozenset[str]

    @property
    def complete(self) -> bool:
        """Whether it can be compiled as it is."""
        return not self.missing


# ---------------------------------------------------------------- which model


def read(spec: str | Path | Source, diagnostics: Diagnostics) -> tuple[Module | None, str | None]:
    """The file that a SPEC names, None where it cannot be read, and the model's name where it gives one.

    Mistakes of its text go to `diagnostics`. Raises SpecError where there is no such file.
    """
    loader = Loader(diagnostics)
    with ongoing():
        if isinstance(spec, Source):
            return loader.load_source(spec), None
        path, name = split_spec(str(spec), diagnostics)
        return loader.load_file(path), name


def locate(spec: str | Path | Source, diagnostics: Diagnostics) -> tuple[Module, str | None]:
    """The file that a SPEC names, read, and the model's name where it gives one. Raises SpecError."""
    module, name = read(spec, diagnostics)
    with trying(module, partial(_check_all, name)):
        diagnostics.stop_on_errors()
    assert module is not None
    return module, name


def _check_all(name: str | None, module: Module, diagnostics: Diagnostics) -> None:
    """Checks the named model of a file, or all that are complete."""
    for model in module.models if name is None else [name] if name in module.models else []:
        if name is not None or _model_info(module, model, diagnostics).complete:
            _checked(module, model, {}, diagnostics)


def split_spec(spec: str, diagnostics: Diagnostics) -> tuple[Path, str | None]:
    """The path and the model's name of `path.arch`, `path.arch:model`, `family:model` or `family`. Raises SpecError."""
    head, colon, tail = spec.rpartition(":")
    if colon and not head.endswith((":", "\\")) and "/" not in tail and not tail.endswith(".arch"):
        where, name = head, tail or None
    else:
        where, name = spec, None
    path = Path(where)
    if where.endswith(".arch") or "/" in where or path.exists():
        return path, name
    families = library_families()
    if where in families:
        return library_folder() / f"{where}.arch", name
    if ":" in where:
        help: str | None = "a SPEC is FILE, FILE:MODEL or FAMILY:MODEL; the path of a layer goes to `archdsl explain`"
    elif path.with_name(f"{path.name}.arch").exists():
        help = f"did you mean `{where}.arch`?"
    else:
        help = did_you_mean(where, families) or "the library has: " + ", ".join(families)
    diagnostics.error("E0003", f"there is no file and no family of the library named `{where}`", help=help)
    diagnostics.stop_on_errors()
    raise AssertionError


def models(spec: str | Path | Source) -> list[ModelInfo]:
    """The models of a file or family, in order. Raises SpecError where it cannot be read."""
    diagnostics = Diagnostics()
    module, _ = locate(spec, diagnostics)
    return [model_info(module, name, diagnostics) for name in module.models]


def model_info(module: Module, name: str, diagnostics: Diagnostics) -> ModelInfo:
    with trying(module, partial(_check_all, None)):
        return _model_info(module, name, diagnostics)


def _model_info(module: Module, name: str, diagnostics: Diagnostics) -> ModelInfo:
    with reporting(diagnostics):
        block, given = family(module.models[name])
    diagnostics.stop_on_errors()
    parameters = block.syntax.parameters
    missing = frozenset(p.name.name for p in parameters if p.default is None) - given.keys()
    return ModelInfo(name, block.syntax.doc, tuple(p.name.name for p in parameters), missing)


def pick(module: Module, name: str | None, diagnostics: Diagnostics) -> str:
    """The model that a SPEC means: the one it names, or the only one of its file that is complete. Raises SpecError."""
    if name is not None and name in module.models:
        return name
    complete = [m for m in module.models if model_info(module, m, diagnostics).complete]
    if name is None and len(complete or module.models) == 1:
        return next(iter(complete or module.models))
    file = module.source.name
    if name is not None:
        message = f"{file} has no model `{name}`"
    elif not module.models:
        message = f"{file} has no model"
    else:
        message = f"{file} has {len(module.models)} models: say which one"
    listed = ", ".join(f"`{m}`" for m in complete or module.models) or None
    help = (did_you_mean(name, module.models) if name else None) or (f"it has {listed}" if listed else None)
    if not module.models:
        help = "a model begins with `model NAME { input image[3, H, W] … }`"
    diagnostics.error("E0202", message, help=help)
    diagnostics.stop_on_errors()
    raise AssertionError


# ---------------------------------------------------------------- the check


def check_model(module: Module, name: str, values: Mapping[str, object], diagnostics: Diagnostics) -> Graph:
    """The checked graph of one model of a file that is read already. Raises SpecError."""
    again = {k: v.name if isinstance(v, BlockValue | MemberValue) else v for k, v in values.items()}

    def check_again(changed: Module, into: Diagnostics) -> None:
        _checked(changed, name, again, into)

    with limited(), trying(module, check_again):
        graph = _checked(module, name, values, diagnostics)
        found = [*(d for d in diagnostics.items if d.severity == "warning"), *lints(graph, module)]
        found.sort(key=lambda d: d.marks[0].span.start)
        graph.warnings = tried_changes(found, (), module, check_again)
    return graph


def _checked(module: Module, name: str, values: Mapping[str, object], diagnostics: Diagnostics) -> Graph:
    block, arguments = bind_model(module, name, values, diagnostics)
    graph, demands = elaborate(name, block, arguments, diagnostics)
    if says_augment(module, name):
        from archdsl.elaborate.augment import augmentation  # its changes cost start-up, and few specs have them

        graph.augment = augmentation(module, name, graph, diagnostics)
    if not diagnostics.errors or graph.outputs:
        finished_graph.check(graph, demands, diagnostics)
    diagnostics.stop_on_errors()
    return graph


@contextmanager
def trying(module: Module | None, check: Callable[[Module, Diagnostics], object]) -> Iterator[None]:
    """Tries the changes that the errors of a check within propose: `check` does it again, for a changed file."""
    try:
        yield
    except SpecError as error:
        if module is None:
            raise
        tried = tried_changes(error.diagnostics, error.hidden, module, check)
    else:
        return
    raise SpecError(tried)


def tried_changes(
    found: Sequence[Diagnostic],
    hidden: Collection[Span],
    module: Module,
    check: Callable[[Module, Diagnostics], object],
) -> tuple[Diagnostic, ...]:
    """The diagnostics of a check, with the changes that hold among those that they propose."""
    if not any(d.proposals for d in found):
        return tuple(found)
    own, library = module.source.path, library_folder()
    fixed = None if own is not None and own.is_relative_to(library) else library
    size = sum(len(source.text) for source in module.sources())
    return tuple(Trials(found, hidden, partial(_again, module, check), size=size, fixed=fixed).diagnostics())


def _again(module: Module, check: Callable[[Module, Diagnostics], object], text: Source) -> Sequence[Diagnostic]:
    """What a check says where a file has another text."""
    diagnostics = Diagnostics()
    try:
        changed = module.changed(text, diagnostics)
        diagnostics.stop_on_errors()
        if changed is not None:
            check(changed, diagnostics)
    except SpecError as error:
        return error.diagnostics
    return ()


# ---------------------------------------------------------------- values of parameters


def bind_model(
    module: Module, name: str, values: Mapping[str, object], diagnostics: Diagnostics
) -> tuple[BlockValue, dict[str, object]]:
    """A model's block with a value for each of its parameters. Raises SpecError."""
    block: BlockValue | None = None
    arguments: dict[str, object] = {}
    with reporting(diagnostics):
        block, given = family(module.models[name])
        known = {p.name.name for p in block.syntax.parameters}
        for key in sorted(values.keys() - known):
            has = ", ".join(f"`{k}`" for k in sorted(known)) or "none"
            help = did_you_mean(key, known) or f"its parameters: {has}"
            diagnostics.error("E0205", f"the model `{name}` has no parameter `{key}`", help=help)
        diagnostics.stop_on_errors()
        given = given | {k: _argument(v, module.names) for k, v in values.items()}
        owner = block

        def missing(parameter: tree.Parameter) -> None:
            key = parameter.name.name
            diagnostics.error(
                "E0207",
                f"the model `{name}` needs a value for `{key}`",
                Mark(parameter.span, "has no default"),
                help=f"give it with `--set {key}=…`, or name a member: `model NAME = {owner.name}({key} = …)`",
            )

        arguments = complete(block.syntax.parameters, given, block.module, evaluate, missing)
    diagnostics.stop_on_errors()
    assert block is not None
    return block, arguments


def _argument(value: object, names: Namespace) -> object:
    """A parameter's value from Python: lists become the spec's lists, a string that names a block that block."""
    if isinstance(value, list | tuple):
        return tuple(_argument(v, names) for v in value)
    if isinstance(value, str):
        found = names.find(value)
        return found if isinstance(found, BlockValue | MemberValue) else value
    return value


def value_from_text(text: str, module: Module, diagnostics: Diagnostics) -> object:
    """A value as a spec writes it (`--set NAME=VALUE`), with the names of a file in sight. Raises SpecError."""
    try:
        return _value(Source("--set", text), module, diagnostics)
    except SpecError as error:
        tried = Trials(error.diagnostics, (), lambda changed: _value_errors(changed, module)).diagnostics()
    raise SpecError(tried)


def _value(source: Source, module: Module, diagnostics: Diagnostics) -> object:
    value = parser.parse_value(source, diagnostics)
    diagnostics.stop_on_errors()
    found: object = None
    with reporting(diagnostics):
        found = evaluate(value, module.names)
    diagnostics.stop_on_errors()
    return found


def _value_errors(source: Source, module: Module) -> Sequence[Diagnostic]:
    try:
        _value(source, module, Diagnostics())
    except SpecError as error:
        return error.diagnostics
    return ()
