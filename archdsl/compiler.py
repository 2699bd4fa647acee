"""The whole way in order: a spec to a checked graph, the graph to a diagram or a module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archdsl.checker.spec import check_model, locate, pick
from archdsl.common.limits import Exceeded, Limits, deep_calls, limited
from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostic, Diagnostics, SpecError
from archdsl.graph import Graph

if TYPE_CHECKING:  # torch is imported by load() alone
    from archdsl.augment.base import Companion
    from archdsl.backends.diagram.drawing import Diagram
    from archdsl.backends.torch_source import Plainness
    from archdsl.report.compare import Comparison
    from archdsl.transform.recompute import Mode


def check(spec: str | Path | Source, *, limits: Limits | None = None, **values: object) -> Graph:
    """The checked graph of a model.

    `spec` is `path.arch`, `path.arch:model`, `family:model` of the library, or the text itself as a Source. `values`
    are the model's parameters: numbers, strings, booleans, lists; a block or operation goes by its name. `limits`
    are the most that it may ask for. Raises SpecError.
    """
    diagnostics = Diagnostics()
    with limited(limits):
        module, name = locate(spec, diagnostics)
        graph = check_model(module, pick(module, name, diagnostics), values, diagnostics)
    graph.painter = _paint
    return graph


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
    from archdsl.proof import prove
    from archdsl.transform.inference import for_inference
    from archdsl.transform.recompute import recompute as choose

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

    Options: see `draw` and `draw_changes` of `archdsl.backends.diagram.drawing`.
    """
    from archdsl.backends.diagram import drawing  # only where a picture is wanted

    with roomy():
        return drawing.draw(shown, **options) if isinstance(shown, Graph) else drawing.draw_changes(shown, **options)


def _paint(graph: Graph) -> dict[str, str]:
    return draw(graph)._repr_mimebundle_()


def diff(before: Graph, after: Graph, sizes: Sequence[Mapping[str, int]] = ({}, {})) -> Comparison:
    """What differs between two checked networks; `sizes` are values of their free sizes, at which costs are told."""
    from archdsl.analysis.costs import costs
    from archdsl.report.compare import compare  # only where networks are compared

    return compare(costs(before, sizes[0]), costs(after, sizes[1]))
