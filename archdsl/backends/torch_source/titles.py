"""What a generated file says about itself at its beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from archdsl import __version__, dims
from archdsl.backends.torch_source.folding import FUNCTION
from archdsl.backends.torch_source.moves import Last
from archdsl.graph import Graph, Tensor
from archdsl.transform.inference import Folding


def title(graph: Graph, folding: Folding | None) -> str:
    """What a file with one module says of it."""
    sizes = dims.describe_sizes(graph.sizes)
    sizes += f"; in training {graph.training.describe()}" if graph.training is not None else ""
    purpose = " for inference" if folding is not None else ""
    weights = (
        f"\n\nThe state_dict of the training form is turned into that of this one by `{FUNCTION}`."
        if folding is not None and folding.changes
        else ""
    )
    return (
        f"{graph.name}{purpose}, {_origin(graph)}.\n\n"
        f"{_flow(graph)}{'; ' + sizes if sizes else ''}.{weights}{_warning(graph)}"
    )


def stages_title(graph: Graph, stages: Sequence[Graph]) -> str:
    """What a file with the stages of a network says of them."""
    flows = "\n\n".join(f"{number}: {_flow(stage)}" for number, stage in enumerate(stages))
    return (
        f"{graph.name} in {len(stages)} stages, {_origin(graph)}.\n\n"
        "Each stage takes what the one before it returns, in order; skips around a stage pass through it. The keys of "
        f"their state_dicts are those of the whole model.\n\n{flows}{_warning(graph)}"
    )


def stages_constant(classes: Sequence[str]) -> str:
    """The definition of the constant that lists the classes of the stages."""
    rows = "".join(f"    {name},\n" for name in classes)
    return f'STAGES = (\n{rows})\n"""The stages, in order."""'


def _origin(graph: Graph) -> str:
    source = graph.root.span.source
    digest = hashlib.sha256(source.text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    file = source.name.replace("\\", "/").rsplit("/", 1)[-1]
    return f"compiled by archdsl {__version__} from {file} (sha256 {digest})"


def _flow(graph: Graph) -> str:
    inputs = ", ".join(f"{n.name} {shape_text(graph, Tensor(n.id))}" for n in graph.input_nodes)
    outputs = ", ".join(f"{o.name + ' ' if o.name else ''}{shape_text(graph, o.tensor)}" for o in graph.outputs)
    return f"{inputs} -> {outputs}"


def _warning(graph: Graph) -> str:
    paths = ", ".join(dict.fromkeys(kind.path for kind in graph.outside))
    if not paths:
        return ""
    return (
        f"\n\nIt runs code from outside, which archdsl has neither read nor proved: {paths}. "
        "Import this file only if you trust that code."
    )


def shape_text(graph: Graph, tensor: Tensor) -> str:
    """The size of a tensor, as it lies in memory."""
    channels, *positions = (dims.text(d, graph.sizes) for d in graph.shape(tensor))
    sizes = [*positions, channels] if isinstance(tensor, Last) else [channels, *positions]
    return f"[{', '.join(sizes)}]"
