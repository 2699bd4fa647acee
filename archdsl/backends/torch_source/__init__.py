"""The PyTorch module of a network, as one file that imports torch alone.

The passes of `write_module`, in order:

1. `cells` lists the members of every scope, `moves` adds the moves of axes between them, and `lending` says which
   layers a class runs for one within. `classes` decides which classes the file has. For each it brings the calls
   together and finds loops and conditions (`fold`), follows what flows between the members (`flow`), and settles what
   each becomes (`planner`): `environment` has the names of the spec, `control` settles loops and conditions, `forms`
   operations, `callees` calls of other classes, `channels` what flows, and `numbers` the expression for each number.
   The result is a `plan.Plan` a class.
2. `checks`, `exporting` and `folding` make the functions beside the classes.
3. `write` makes the tree of each class. `constructor` fills the statements of an `emitter` with `members`, which get
   their expressions from `layers` and their names from `scope`. `forward` makes `statements` of the flow, gives their
   values variables (`variables`, with `gathered`, `liveness`, `assigned` and `releasing`), and writes them with the
   `attributes` that the constructor has set; `sequences` does so for an nn.Sequential, and `recomputing` calls layers
   that are recomputed in series.
4. The printer of `backends.python` writes the tree and finds what it imports; `titles` says what the file is.

`plainness` says how far all this goes towards what a hand would write.
"""

from __future__ import annotations

import keyword
from collections.abc import Collection
from typing import TYPE_CHECKING

from archdsl.analysis.layout import FIRST, Layout
from archdsl.analysis.overwriting import Overwriting
from archdsl.analysis.releases import releases
from archdsl.backends.python import printer
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import Assign, Class, Source, Statement, Var, names_in
from archdsl.backends.torch_source.cells import cells
from archdsl.backends.torch_source.checks import size_checks
from archdsl.backends.torch_source.classes import Classifier
from archdsl.backends.torch_source.exporting import dynamic_shapes
from archdsl.backends.torch_source.file import Beside, File
from archdsl.backends.torch_source.flow import Value
from archdsl.backends.torch_source.folding import folding_function
from archdsl.backends.torch_source.helpers import FACTORY
from archdsl.backends.torch_source.lending import lend
from archdsl.backends.torch_source.moves import arrange
from archdsl.backends.torch_source.names import camel, identifier, unique
from archdsl.backends.torch_source.parallel import parallel_parts
from archdsl.backends.torch_source.plainness import Plainness
from archdsl.backends.torch_source.plan import Plan, helper_names
from archdsl.backends.torch_source.starts import everywhere
from archdsl.backends.torch_source.titles import shape_text, title
from archdsl.backends.torch_source.write import write_class
from archdsl.graph import Graph
from archdsl.ops.reserved import RESERVED, STANDARD
from archdsl.transform.inference import Folding
from archdsl.transform.parallel import Parallel
from archdsl.transform.parallel_function import NAMES
from archdsl.transform.recompute import NOTHING, Recompute

if TYPE_CHECKING:  # what augmentations are is imported only if there is one
    from archdsl.augment.base import Companion


def write_module(
    graph: Graph,
    folding: Folding | None = None,
    *,
    companion: Companion | None = None,
    recompute: Recompute = NOTHING,
    parallel: Parallel | None = None,
    plainness: Plainness = Plainness.READABLE,
    beside: Beside | None = None,
) -> str:
    """The source of a checked network's module, with its companion. The same network gives the same bytes.

    `folding` is given for the form of a network for inference, and says how its weights come about. `parallel` says how
    a training is spread over devices, and gives the file a function for it. `beside` is given for one of several
    modules of a file, which does not say which sizes an export may leave free.
    """
    firsts = recompute.grown | recompute.bodies  # which concatenate along the second axis
    layout = Layout.of(graph, firsts) if plainness < Plainness.STRAIGHT else FIRST
    overwriting = Overwriting.of(
        graph,
        recompute.parts,
        kept=parallel.kept if parallel is not None else (),
        inference=folding is not None,
        allowed=plainness < Plainness.OUT_OF_PLACE,
        moved=layout.moved,
    )
    found = cells(graph, recompute)
    arrange(found, graph, layout)
    lend(found, recompute.series)
    plans = Classifier(graph, found, overwriting, plainness).run()
    check_functions, checks = size_checks(graph)
    file = File(
        graph, overwriting, recompute, lambda value: _size(graph, value), checks, plainness, beside=beside or Beside()
    )
    if folding is not None:
        file.releases = releases(graph)
    taken = set(RESERVED | companion.names) if companion else set(RESERVED)
    taken |= NAMES if parallel is not None else set()
    taken |= {c.function for c in checks} | helper_names(plans) | {kind.imported for kind in graph.outside}
    taken |= beside.names if beside is not None else set()
    for plan in [plans[-1], *plans[:-1]]:
        file.names[plan] = _class_name(plan, graph, taken)
        plan.name = file.names[plan]
        taken.add(plan.name)
    file.alike = everywhere(plans)
    outputs: list[Statement] = []
    if len(graph.outputs) > 1:
        file.output_class = unique(f"{file.names[plans[-1]]}Output", taken)
        taken.add(file.output_class)
        outputs.append(_output_class(file.output_class, graph))
    file.globals = frozenset(taken)
    classes: list[Statement] = [write_class(file, plan, plan is plans[-1]) for plan in plans]
    classes[-1:-1] = outputs
    classes += parallel_parts(graph, parallel, layout) if parallel is not None else []
    parts = [*file.helpers.values(), *map(Source, companion.blocks if companion else ())]
    parts += [*check_functions, *([dynamic_shapes(graph)] if beside is None else [])]
    parts += folding_function(folding) if folding is not None else []
    parts += classes
    if "Factory" in names_in(parts):
        parts.insert(0, Source(FACTORY))
    head = [*printer.docstring(title(graph, folding), 0), "", *_imports(names_in(parts)), *_outside(graph), "", "", ""]
    return "\n".join(head) + printer.module(parts)


def _output_class(name: str, graph: Graph) -> Class:
    """The named tuple of a model with several outputs."""
    fields: dict[str, Statement] = {}
    for output in graph.outputs:
        field = unique(identifier((output.name or "").strip("_") or "output"), fields)
        field += "_" if field in ("count", "index") or keyword.iskeyword(field) else ""
        kind, comment = ("Tensor | None", "None unless the module trains") if output.training else ("Tensor", "")
        fields[field] = Assign(Var(field), None, annotation=code(kind), comment=comment)
    return Class(name, Var("NamedTuple"), [*fields.values()])


def _class_name(plan: Plan, graph: Graph, taken: set[str]) -> str:
    scope = plan.cells[0].scope
    if scope.kind == "model":
        name = graph.name
    else:
        name = scope.definition.name if scope.definition is not None else _of_label(scope.name)
    found = camel(name)
    return found if found not in taken else unique(found if found not in RESERVED else f"{found}Block", taken)


def _of_label(label: str) -> str:
    """A class's name by the label of a body: `stages.3` is one of the stages, a Stage."""
    parts = [p for p in label.split(".") if not p.isdigit()]
    if not parts:
        return label
    last = parts[-1]
    plural = last.endswith("s") and not last.endswith("ss") and label.split(".")[-1].isdigit()
    return last[:-1] if plural else last


def _imports(used: Collection[str]) -> list[str]:
    """The lines that import what a file uses."""
    found = [(module, [n for n in names if n in used]) for module, names in STANDARD.items()]
    lines = [f"from {module} import {', '.join(names)}" for module, names in found if names]
    lines += [""] if lines else []
    lines += ["import torch"] if "torch" in used else []
    lines += ["import torch.nn.functional as F"] if "F" in used else []
    lines.append("from torch import Tensor, nn" if "Tensor" in used else "from torch import nn")
    lines += ["from torch.distributed.device_mesh import DeviceMesh"] if "DeviceMesh" in used else []
    lines += ["from torch.utils.checkpoint import checkpoint"] if "checkpoint" in used else []
    return lines


def _outside(graph: Graph) -> list[str]:
    """The imports of what other packages and files define."""
    lines = []
    for kind in sorted(graph.outside, key=lambda kind: (kind.module, kind.target)):
        alias = f" as {kind.imported}" if kind.imported != kind.target else ""
        lines.append(f"from {kind.module} import {kind.target}{alias}")
    return ["", *dict.fromkeys(lines)] if lines else []


def _size(graph: Graph, value: Value) -> str:
    tensor = value.row[0]
    return shape_text(graph, tensor) if tensor is not None else ""


__all__ = ["Beside", "Plainness", "write_module"]
