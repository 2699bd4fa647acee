"""The whole way in order: a spec to a checked graph, the graph to a diagram or a module."""

from __future__ import annotations

import linecache
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from archdsl import checker
from archdsl.diagnostics import Diagnostic, Diagnostics, Mark, SpecError, did_you_mean
from archdsl.elaborate import elaborate
from archdsl.graph import Graph
from archdsl.limits import Exceeded, Limits, budget, deep_calls, limited, ongoing
from archdsl.lints import lints
from archdsl.modules import Loader, Module, family, library_families, library_folder, reporting, says_augment
from archdsl.source import Source, Span
from archdsl.syntax import parser
from archdsl.trial import Trials
from archdsl.values import BlockValue, MemberValue, Namespace, evaluate

if TYPE_CHECKING:  # torch is imported by load() alone
    import torch

    from archdsl.augment.base import Companion, Pipeline
    from archdsl.backends.diagram import Diagram
    from archdsl.compare import Comparison
    from archdsl.recompute import Mode


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


def check(spec: str | Path | Source, *, limits: Limits | None = None, **values: object) -> Graph:
    """The checked graph of a model.

    `spec` is `path.arch`, `path.arch:model`, `family:model` of the library, or the text itself as a Source. `values`
    are the model's parameters: numbers, strings, booleans, lists; a block or operation goes by its name. `limits`
    are the most that it may ask for. Raises SpecError.
    """
    diagnostics = Diagnostics()
    with limited(limits):
        module, name = locate(spec, diagnostics)
        return check_model(module, pick(module, name, diagnostics), values, diagnostics)


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
        checker.check(graph, demands, diagnostics)
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


@contextmanager
def roomy() -> Iterator[None]:
    """What nests deep in a network nests in the calls that write it down. Raises SpecError where there is no room."""
    try:
        with deep_calls():
            yield
    except Exceeded as error:
        raise SpecError([Diagnostic(error.code, error.message)]) from None


def build(graph: Graph, *, inference: bool = False, recompute: Mode = "none") -> str:
    """The source of a standalone PyTorch module.

    `inference` asks for the form without batchnorms behind convolutions, dropouts and outputs of training; the function
    `fold_batchnorms` of the same file makes its weights from those of the training form. `recompute` says which
    activations a training step computes a second time instead of keeping them: `none`, those of the bodies of `dense`
    connections, or of calls of `blocks`. Raises SpecError where a network has no such, ValueError where both are asked.
    """
    from archdsl.backends.torch_source import write_module  # only where a module is wanted

    if inference and recompute != "none":
        raise ValueError("a form for inference has no backward pass in which to recompute anything")
    with roomy():
        if inference:
            from archdsl.inference import for_inference

            return write_module(*for_inference(graph))
        from archdsl.recompute import recompute as choose

        return write_module(graph, companion=_companion(graph), recompute=choose(graph, recompute))


def _companion(graph: Graph) -> Companion | None:
    """The augmentation that stands beside the model in its file."""
    if graph.augment is None:
        return None
    from archdsl.backends.augment_source import write_augmentation  # only where a spec augments

    return write_augmentation(graph.augment, graph.name)


def draw(shown: Graph | Comparison, **options: Any) -> Diagram:
    """The diagram of a network, or of a comparison, which shows itself in a notebook.

    Options: see `draw` and `draw_changes` of `archdsl.backends.diagram`.
    """
    from archdsl.backends import diagram  # only where a picture is wanted

    with roomy():
        return diagram.draw(shown, **options) if isinstance(shown, Graph) else diagram.draw_changes(shown, **options)


def _paint(graph: Graph) -> dict[str, str]:
    return draw(graph)._repr_mimebundle_()


Graph.painter = _paint


def diff(before: Graph, after: Graph, sizes: Sequence[Mapping[str, int]] = ({}, {})) -> Comparison:
    """What differs between two checked networks; `sizes` are values of their free sizes, at which costs are told."""
    from archdsl.analysis import costs
    from archdsl.compare import compare  # only where networks are compared

    return compare(costs(before, sizes[0]), costs(after, sizes[1]))


def load(
    spec: str | Path | Source,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    weights: str | Path | None = None,
    inference: bool = False,
    recompute: Mode = "none",
    limits: Limits | None = None,
    **values: object,
) -> torch.nn.Module:
    """The network as a module, made by running the very text that `build` gives; `inference`, `recompute`: see there.

    `weights` is a state_dict of the training form in a .safetensors or .pth file: what fits of it by key and shape is
    loaded, and a warning tells the rest. A second call with the same text and values takes the class that the first one
    made, as a second import would. Raises SpecError, OSError, and WeightsError where the file has nothing that fits.
    """
    with limited(limits):
        network = _kept_class(spec, values, inference, recompute)(device=device, dtype=dtype)
    if weights is not None:
        from archdsl.weights import fit  # only where there are some

        graph = check(spec, limits=limits, **values)
        state, match = fit(graph, Path(weights))
        if inference:
            complete = not (match.missing or match.shapes)
            state = folded(network, state if complete else {**instantiate(graph).state_dict(), **state})
        network.load_state_dict(state, strict=False)
        if not match.complete:
            warnings.warn(match.as_text(), stacklevel=2)
    return network


@dataclass(frozen=True, slots=True)
class _Form:
    """What a class is made of by `load`: texts, values, options."""

    files: tuple[tuple[str, str], ...]
    model: str | None
    values: str
    inference: bool
    recompute: Mode
    limits: Limits


KEPT = 32
"""How many classes `load` keeps for the next call, the latest used."""

_classes: dict[_Form, type[torch.nn.Module]] = {}


def _kept_class(
    spec: str | Path | Source, values: Mapping[str, object], inference: bool, recompute: Mode
) -> type[torch.nn.Module]:
    """The class of a spec: the one that an earlier call made, or a new one."""
    diagnostics = Diagnostics()
    module, name = locate(spec, diagnostics)
    form = _Form(module.files(), name, repr(sorted(values.items())), inference, recompute, budget().limits)
    if (made := _classes.pop(form, None)) is None:
        graph = check_model(module, pick(module, name, diagnostics), values, diagnostics)
        made = class_of(graph, inference=inference, recompute=recompute)
    _classes[form] = made  # behind those that were used before it
    while len(_classes) > KEPT:
        del _classes[next(iter(_classes))]
    return made


def folded(network: torch.nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state_dict of a module for inference, from that of the training form."""
    fold = getattr(sys.modules[type(network).__module__], "fold_batchnorms", dict)
    found: dict[str, torch.Tensor] = fold(state)
    return found


def instantiate(
    graph: Graph,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    inference: bool = False,
    recompute: Mode = "none",
) -> torch.nn.Module:
    """A checked network as a module; `inference`, `recompute`: see `build`."""
    return class_of(graph, inference=inference, recompute=recompute)(device=device, dtype=dtype)


def class_of(graph: Graph, *, inference: bool = False, recompute: Mode = "none") -> type[torch.nn.Module]:
    """The class that the built source of a network defines; `inference`, `recompute`: see `build`."""
    module = execute(build(graph, inference=inference, recompute=recompute), f"<archdsl {graph.name}>")
    classes: list[type[torch.nn.Module]] = [
        c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__
    ]
    return classes[-1]


def load_augment(spec: str | Path | Source, **values: object) -> torch.nn.Module:
    """The augmentation that a model's spec says, as a module that `build` writes beside the model; it needs kornia.

    Called with pictures [N, C, H, W] it gives changed ones. Raises SpecError, and ValueError where the spec does not
    augment.
    """
    graph = check(spec, **values)  # type: ignore[arg-type]  # a model's parameter of the name limits is out of reach
    if graph.augment is None:
        raise ValueError(f"{graph.name} is not augmented: `model {graph.name} augmented NAME {{ … }}`")
    return instantiate_augment(graph.augment)


def instantiate_augment(pipeline: Pipeline) -> torch.nn.Module:
    """An augmentation as a module. Raises ImportError where kornia is not installed."""
    from archdsl.backends.augment_source import write_alone, write_augmentation

    companion = write_augmentation(pipeline, "")
    module = execute(write_alone(companion), f"<archdsl augment {pipeline.name}>")
    augmentation: torch.nn.Module = getattr(module, companion.name)()
    return augmentation


def execute(source: str, filename: str) -> ModuleType:
    """Runs generated source as a module of its own, with its lines known to tracebacks and debuggers."""
    name = f"archdsl.built.{len(_built)}"
    module = ModuleType(name)
    module.__file__ = filename
    _built[name] = filename
    sys.modules[name] = module
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    exec(compile(source, filename, "exec"), module.__dict__)
    return module


_built: dict[str, str] = {}


# ---------------------------------------------------------------- which model


def locate(spec: str | Path | Source, diagnostics: Diagnostics) -> tuple[Module, str | None]:
    """The file that a SPEC names, read, and the model's name where it gives one. Raises SpecError."""
    loader = Loader(diagnostics)
    name: str | None = None
    with ongoing():
        if isinstance(spec, Source):
            module: Module | None = loader.load_source(spec)
        else:
            path, name = split_spec(str(spec), diagnostics)
            module = loader.load_file(path)
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
        space = Namespace(block.module)
        for parameter in block.syntax.parameters:
            key = parameter.name.name
            if key in given:
                arguments[key] = given[key]
            elif parameter.default is not None:
                arguments[key] = evaluate(parameter.default, space)
            else:
                diagnostics.error(
                    "E0207",
                    f"the model `{name}` needs a value for `{key}`",
                    Mark(parameter.span, "has no default"),
                    help=f"give it with `--set {key}=…`, or name a member: `model NAME = {block.name}({key} = …)`",
                )
                continue
            space.values[key] = arguments[key]
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
