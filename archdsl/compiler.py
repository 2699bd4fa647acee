"""The whole way in order: a spec to a checked graph, the graph to a diagram or a module."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archdsl.built import execute
from archdsl.diagnostics import Diagnostic, Diagnostics, SpecError
from archdsl.graph import Graph
from archdsl.limits import Exceeded, Limits, budget, deep_calls, limited
from archdsl.source import Source
from archdsl.spec import check_model, locate, pick
from archdsl.threads import forkable_lock

if TYPE_CHECKING:  # torch is imported by load() alone
    import torch

    from archdsl.augment.base import Companion, Pipeline
    from archdsl.backends.diagram import Diagram
    from archdsl.backends.torch_source import Plainness
    from archdsl.compare import Comparison
    from archdsl.recompute import Mode


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
    connections, or of calls of `blocks`. The text is proved to compute the network before it is given
    (`archdsl.proof`). Raises SpecError where a network has no such, ValueError where both are asked.
    """
    if inference and recompute != "none":
        raise ValueError("a form for inference has no backward pass in which to recompute anything")
    return prove_build(graph, inference=inference, recompute=recompute).text


@dataclass(frozen=True, slots=True)
class Build:
    """A built file that was proved to compute its graph.

    `plainness` is how plain it had to be written, `refused` why the less plain ones could not be proved.
    """

    text: str
    plainness: Plainness
    refused: tuple[str, ...] = ()


def prove_build(graph: Graph, *, inference: bool = False, recompute: Mode = "none") -> Build:
    """The source of a module as `build` gives it, and how it was proved.

    What cannot be proved is written again in a plainer form; where none can be proved, SpecError is raised.
    """
    from archdsl.backends.torch_source import Plainness, write_module  # only where a module is wanted
    from archdsl.inference import for_inference
    from archdsl.proof import prove
    from archdsl.recompute import recompute as choose

    with roomy():
        shown, folding = for_inference(graph) if inference else (graph, None)
        chosen = choose(graph, recompute)
        companion = None if inference else _companion(graph)
        augmentation = (companion.name, graph.augment) if companion is not None and graph.augment is not None else None
        refused: list[str] = []
        for plainness in Plainness:
            try:
                text = write_module(shown, folding, companion=companion, recompute=chosen, plainness=plainness)
                prove(text, shown, folding=folding, recompute=chosen, augmentation=augmentation)
            except (SpecError, MemoryError):
                raise
            except Exception as error:  # the generator's faults, too: a plainer form may do without what failed
                refused.append(f"{type(error).__name__}: {error}")
                continue
            return Build(text, plainness, tuple(refused))
    message = f"the module of {graph.name} cannot be proved to compute its network: {refused[-1]}"
    help = "this is a fault of archdsl, which writes nothing that it cannot prove: please report the spec"
    raise SpecError([Diagnostic("E0602", message, help=help)])


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
    reshape_weights: bool = False,
    inference: bool = False,
    recompute: Mode = "none",
    limits: Limits | None = None,
    **values: object,
) -> torch.nn.Module:
    """The network as a module, made by running the very text that `build` gives; `inference`, `recompute`: see there.

    `weights` is a state_dict of the training form in a .safetensors or .pth file: what fits of it by key and shape is
    loaded, and a warning tells the rest; `reshape_weights` takes what has another shape and holds the same numbers,
    [64, 32] for [64, 32, 1, 1] say. A second call with the same text and values takes the class that the first one
    made, as a second import would. Raises SpecError, OSError, and WeightsError where the file has nothing that fits.
    """
    with limited(limits):
        network = _kept_class(spec, values, inference, recompute)(device=device, dtype=dtype)
    if weights is not None:
        from archdsl.weights import fit  # only where there are some

        graph = check(spec, limits=limits, **values)
        state, match = fit(graph, Path(weights), reshape=reshape_weights)
        if inference:
            complete = not (match.missing or match.shapes)
            state = folded(network, state if complete else {**instantiate(graph).state_dict(), **state})
        network.load_state_dict(state, strict=False)
        if not match.complete or match.doubts:
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
_lock = forkable_lock()


def _kept_class(
    spec: str | Path | Source, values: Mapping[str, object], inference: bool, recompute: Mode
) -> type[torch.nn.Module]:
    """The class of a spec: the one that an earlier call made, or a new one."""
    diagnostics = Diagnostics()
    module, name = locate(spec, diagnostics)
    form = _Form(module.files(), name, repr(sorted(values.items())), inference, recompute, budget().limits)
    if (made := _classes.get(form)) is None:
        graph = check_model(module, pick(module, name, diagnostics), values, diagnostics)
        made = class_of(graph, inference=inference, recompute=recompute)
    with _lock:
        _classes.pop(form, None)
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
    module = execute(build(graph, inference=inference, recompute=recompute), graph.name)
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
    module = execute(write_alone(companion), f"augment_{pipeline.name}")
    augmentation: torch.nn.Module = getattr(module, companion.name)()
    return augmentation
