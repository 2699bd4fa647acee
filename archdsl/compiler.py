"""The compiler in order: a spec to a checked graph, the graph to a diagram or a module."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from archdsl.checker.finished_graph import pin
from archdsl.checker.parameters import from_python
from archdsl.checker.spec import check_model, locate, pick
from archdsl.common.limits import Exceeded, Limits, deep_calls, limited
from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostic, Diagnostics, SpecError, did_you_mean
from archdsl.graph import Graph

if TYPE_CHECKING:  # only load() imports torch
    from archdsl.augment.base import Companion
    from archdsl.backends.diagram.drawing import Diagram
    from archdsl.backends.torch_source import Beside, Plainness
    from archdsl.common.choices import Budget, Recomputing
    from archdsl.planning.stages import Split
    from archdsl.report.compare import Comparison
    from archdsl.report.shown import Report
    from archdsl.report.tables import Table


Network: TypeAlias = Graph | str | Path | Source
"""A checked graph, or a SPEC, which is checked with its default values."""


def checked(network: Network) -> Graph:
    """The graph of a network. Raises SpecError."""
    return network if isinstance(network, Graph) else check(network)


def check(spec: str | Path | Source, *, limits: Limits | None = None, **values: object) -> Graph:
    """The checked graph of a model.

    `spec` is `path.arch`, `path.arch:model`, `family:model` of the library, or a Source with the text. `values` are the
    model's parameters: numbers, strings, booleans, None, and lists, ranges or arrays of them. A string that names an
    operation or block is that, as in `act="gelu"` or `act="leaky_relu(0.2)"`, except for a parameter that has a string
    by default. `limits` are its resource limits. Raises SpecError.
    """
    diagnostics = Diagnostics()
    with limited(limits):
        spec_file, name = locate(spec, diagnostics)
        model = pick(spec_file, name, diagnostics)
        graph = check_model(spec_file, model, from_python(spec_file, model, values, diagnostics), diagnostics)
    graph.painter, graph.tabulate = _paint, _tabulate
    return graph


@contextmanager
def deep_stack() -> Iterator[None]:
    """Allows deep recursion, since nesting in a network becomes recursion here. Raises SpecError if it is too deep."""
    try:
        with deep_calls():
            yield
    except Exceeded as error:
        raise SpecError([Diagnostic(error.code, error.message)]) from None


def build(
    network: Network,
    *,
    inference: bool = False,
    recompute: Recomputing = "none",
    memory: int | str | Budget | None = None,
    parallel: bool = False,
    stages: int | Split | None = None,
) -> str:
    """The source of a standalone PyTorch module.

    `inference` removes batchnorms after convolutions, dropout and training outputs; the function `fold_batchnorms` of
    the file converts the weights of the training form. `recompute` says which activations a training step recomputes
    instead of storing: `none`, those of the bodies of `dense` connections, or those of calls of `blocks`. `memory` is
    what a training step may need at most, in bytes, as "8GiB", or as a Budget, which also says the batch; then as
    little is recomputed as that needs. With `parallel` the file has a function `parallelize(model, mesh, …)`, which
    spreads a training over many devices. `stages` gives as many modules instead, which run one behind the other in a
    pipeline (`archdsl.pipeline`); a Split of `archdsl.planning.stages` says where else to cut. The text is proved to
    compute the network before it is returned (`archdsl.proof`). Raises SpecError if nothing can be recomputed, the
    memory is not enough, or there are too few places to cut, ValueError for options that exclude each other.
    """
    how = chosen(inference, recompute, memory)
    if stages is not None:
        if inference or parallel or memory is not None:
            raise ValueError("stages are built for training, without `parallelize` or a budget for the memory")
        return build_stages(checked(network), stages, how)
    if inference and parallel:
        raise ValueError("the inference form does not train, so it has no `parallelize`")
    return prove_build(checked(network), inference=inference, recompute=how, parallel=parallel).text


def chosen(inference: bool, recompute: Recomputing, memory: int | str | Budget | None) -> Recomputing:
    """The recomputation that two options ask for. Raises ValueError if they are mutually exclusive."""
    from archdsl.common.choices import Budget

    if inference and (recompute != "none" or memory is not None):
        raise ValueError("the inference form has no backward pass, so it cannot recompute")
    if memory is None:
        return recompute
    if recompute != "none":
        raise ValueError("`memory` chooses what to recompute, so `recompute` cannot be given with it")
    return memory if isinstance(memory, Budget) else Budget.of(memory)


@dataclass(frozen=True, slots=True)
class Build:
    """A built file that was proved to compute its graph.

    `plainness` is how plain the code had to be, `refused` why less plain code could not be proved.
    """

    text: str
    plainness: Plainness
    refused: tuple[str, ...] = ()


def build_stages(graph: Graph, stages: int | Split, recompute: Recomputing = "none") -> str:
    """One file with a module for each stage of a network.

    Each is proved to compute its stage, and the stages to be the network (`archdsl.transform.stages.check_stages`).
    """
    from archdsl.backends.torch_source import Beside, joining, titles
    from archdsl.backends.torch_source.write import counts as keeps_statistics
    from archdsl.planning.stages import split
    from archdsl.transform.stages import check_stages

    parts = (split(graph, stages) if isinstance(stages, int) else stages).stages
    check_stages(graph, parts)
    counts, outside = keeps_statistics(graph, [graph.root]), bool(graph.outside)

    def beside(names: Collection[str]) -> Beside:
        return Beside(frozenset(names), counts, outside)

    texts: list[str] = []
    known: dict[str, str] = {}
    for stage in parts:
        names: set[str] = {"STAGES"}
        # A block may be another one in this stage: then it gets another name.
        while again := joining.clashes(text := stage_text(stage.graph, recompute, beside(names)), known):
            if names.issuperset(again):
                raise joining.NotJoined(again)
            names.update(again)
        known.update(joining.definitions(text))
        texts.append(text)
    last = [titles.stages_constant([next(reversed(joining.definitions(text))) for text in texts])]
    return joining.join(texts, titles.stages_title(graph, [stage.graph for stage in parts]), last)


def stage_text(graph: Graph, recompute: Recomputing, beside: Beside) -> str:
    """The source of one stage. A stage in which there is nothing to recompute stores everything."""
    try:
        return prove_build(graph, recompute=recompute, beside=beside).text
    except SpecError as error:
        if recompute == "none" or error.diagnostics[0].code != "E0601":
            raise
    return prove_build(graph, beside=beside).text


def prove_build(
    graph: Graph,
    *,
    inference: bool = False,
    recompute: Recomputing = "none",
    beside: Beside | None = None,
    parallel: bool = False,
) -> Build:
    """The source of a module as from `build`, with the result of its proof.

    If a proof fails, plainer code is generated; SpecError if none can be proved. For `beside` see `write_module`.
    """
    from archdsl.backends.torch_source import Plainness, write_module  # only if a module is wanted
    from archdsl.proof import prove
    from archdsl.transform.inference import for_inference
    from archdsl.transform.parallel import parallel as spread
    from archdsl.transform.recompute import recompute as choose

    with deep_stack():
        shown, folding = for_inference(graph) if inference else (graph, None)
        over = spread(graph) if parallel else None
        again = choose(graph, recompute, over.scopes if over is not None else ())
        companion = None if inference else _companion(graph)
        augmentation = (companion.name, graph.augment) if companion is not None and graph.augment is not None else None
        refused: list[str] = []
        for plainness in Plainness:
            try:
                text = write_module(
                    shown,
                    folding,
                    companion=companion,
                    recompute=again,
                    parallel=over,
                    plainness=plainness,
                    beside=beside,
                )
                prove(text, shown, folding=folding, recompute=again, parallel=over, augmentation=augmentation)
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


def draw(shown: Network | Comparison, **options: Any) -> Diagram:
    """The diagram of a network or comparison, which displays itself in a notebook. `.save(path)` writes it.

    Options: see `draw` and `draw_changes` of `archdsl.backends.diagram.drawing`.
    """
    from archdsl.backends.diagram import drawing  # only if a diagram is wanted

    with deep_stack():
        if isinstance(shown, Graph | str | Path | Source):
            return drawing.draw(checked(shown), **options)
        return drawing.draw_changes(shown, **options)


def _paint(graph: Graph) -> dict[str, str]:
    return draw(graph)._repr_mimebundle_()


def _tabulate(graph: Graph) -> Table:
    return show(graph).table


def show(
    *networks: Network, size: Sequence[int] | str | None = None, inference: bool = False, **options: Any
) -> Report:
    """The sizes, parameters, MACs, memory and receptive fields of a network by layer, or of several networks by model.

    `size` is the input's, channels first, without the batch, as numbers or as "3x224x224"; amounts are formulas of free
    sizes without it.
    `inference` shows the form that `build(network, inference=True)` writes. Other options: see
    `archdsl.report.layers.Options`. The result prints as `archdsl show` does, shows itself in a notebook, and has
    `.table` and `.to_pandas()`. Raises SpecError, also for a size that a network does not accept; ValueError for a text
    that is no size and for what an option does not take, TypeError for another option.
    """
    from archdsl.common.units import memory_from, size_from  # only if a table is wanted
    from archdsl.report.layers import Layers, Options
    from archdsl.report.shown import report

    known = {field.name for field in fields(Options)} - {"sizes"}
    for name in options.keys() - known:
        help_ = did_you_mean(name, [*known, "size"]) or f"there are size, {', '.join(sorted(known))}"
        raise TypeError(f"`show` has no option `{name}`: {help_}")
    given = size_from(size) if isinstance(size, str) else size
    if options.get("limit") is not None:
        options["limit"] = memory_from(options["limit"])
    graphs = [checked(network) for network in networks]
    if inference:
        from archdsl.transform.inference import for_inference

        graphs = [for_inference(graph)[0] for graph in graphs]
    sizes = [given] if given else ()
    found = [Layers(graph, Options(pin(graph, sizes), inference=inference, **options)) for graph in graphs]
    return report(found)


def explain(network: Network, path: str | None = None, sizes: Mapping[str, int] | None = None) -> str:
    """A model, or the layer or block at a path in it, in words and numbers. Raises SpecError for an unknown path."""
    from archdsl.report import explain as explaining  # only if an explanation is wanted

    return explaining.explain(checked(network), path, sizes)


def diff(before: Network, after: Network, sizes: Sequence[Mapping[str, int]] = ({}, {})) -> Comparison:
    """The differences between two networks, as a value that shows itself.

    Costs are evaluated at `sizes`; without them at a size of the inputs that both have, if there is one.
    """
    from archdsl.analysis.costs import costs
    from archdsl.report.compare import common_sizes, compare  # only if networks are compared

    old, new = checked(before), checked(after)
    at = sizes if any(sizes) else common_sizes(old, new)
    return compare(costs(old, at[0]), costs(new, at[1]))
