"""The compiler in order: a spec to a checked graph, the graph to a diagram or a module."""

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

if TYPE_CHECKING:  # only load() imports torch
    from archdsl.augment.base import Companion
    from archdsl.backends.diagram.drawing import Diagram
    from archdsl.backends.torch_source import Plainness
    from archdsl.common.choices import Mode
    from archdsl.report.compare import Comparison


def check(spec: str | Path | Source, *, limits: Limits | None = None, **values: object) -> Graph:
    """The checked graph of a model.

    `spec` is `path.arch`, `path.arch:model`, `family:model` of the library, or a Source with the text. `values` are the
    model's parameters: numbers, strings, booleans, lists; a block or operation is given by name. `limits` are its
    resource limits. Raises SpecError.
    """
    diagnostics = Diagnostics()
    with limited(limits):
        spec_file, name = locate(spec, diagnostics)
        graph = check_model(spec_file, pick(spec_file, name, diagnostics), values, diagnostics)
    graph.painter = _paint
    return graph


@contextmanager
def deep_stack() -> Iterator[None]:
    """Allows deep recursion, since nesting in a network becomes recursion here. Raises SpecError if it is too deep."""
    try:
        with deep_calls():
            yield
    except Exceeded as error:
        raise SpecError([Diagnostic(error.code, error.message)]) from None


def build(graph: Graph, *, inference: bool = False, recompute: Mode = "none") -> str:
    """The source of a standalone PyTorch module.

    `inference` removes batchnorms after convolutions, dropout and training outputs; the function `fold_batchnorms` of
    the file converts the weights of the training form. `recompute` says which activations a training step recomputes
    instead of storing: `none`, those of the bodies of `dense` connections, or those of calls of `blocks`. The text is
    proved to compute the network before it is returned (`archdsl.proof`). Raises SpecError if nothing can be
    recomputed, ValueError for both options.
    """
    if inference and recompute != "none":
        raise ValueError("the inference form has no backward pass, so it cannot recompute")
    return prove_build(graph, inference=inference, recompute=recompute).text


@dataclass(frozen=True, slots=True)
class Build:
    """A built file that was proved to compute its graph.

    `plainness` is how plain the code had to be, `refused` why less plain code could not be proved.
    """

    text: str
    plainness: Plainness
    refused: tuple[str, ...] = ()


def prove_build(graph: Graph, *, inference: bool = False, recompute: Mode = "none") -> Build:
    """The source of a module as from `build`, with the result of its proof.

    If a proof fails, plainer code is generated; SpecError if none can be proved.
    """
    from archdsl.backends.torch_source import Plainness, write_module  # only if a module is wanted
    from archdsl.proof import prove
    from archdsl.transform.inference import for_inference
    from archdsl.transform.recompute import recompute as choose

    with deep_stack():
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
            except Exception as error:  # bugs of the generator, too: plainer code may avoid them
                refused.append(f"{type(error).__name__}: {error}")
                continue
            return Build(text, plainness, tuple(refused))
    message = f"the module of {graph.name} could not be proved to compute its network: {refused[-1]}"
    help = "this is a bug in archdsl, which writes only proved modules: please report the spec"
    raise SpecError([Diagnostic("E0602", message, help=help)])


def _companion(graph: Graph) -> Companion | None:
    """The augmentation class in the model's file."""
    if graph.augment is None:
        return None
    from archdsl.backends.augment_source import write_augmentation  # only if a spec augments

    return write_augmentation(graph.augment, graph.name)


def draw(shown: Graph | Comparison, **options: Any) -> Diagram:
    """The diagram of a network or comparison, which displays itself in a notebook.

    Options: see `draw` and `draw_changes` of `archdsl.backends.diagram.drawing`.
    """
    from archdsl.backends.diagram import drawing  # only if a diagram is wanted

    with deep_stack():
        return drawing.draw(shown, **options) if isinstance(shown, Graph) else drawing.draw_changes(shown, **options)


def _paint(graph: Graph) -> dict[str, str]:
    return draw(graph)._repr_mimebundle_()


def diff(before: Graph, after: Graph, sizes: Sequence[Mapping[str, int]] = ({}, {})) -> Comparison:
    """The differences between two checked networks; costs are evaluated at `sizes` of their free sizes."""
    from archdsl.analysis.costs import costs
    from archdsl.report.compare import compare  # only if networks are compared

    return compare(costs(before, sizes[0]), costs(after, sizes[1]))
