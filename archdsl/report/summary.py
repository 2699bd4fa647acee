"""One-line summaries of networks, and the table of the models in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archdsl import dims
from archdsl.analysis.costs import costs
from archdsl.checker.spec import ModelInfo
from archdsl.diagnostics import Diagnostics, visible
from archdsl.elaborate.spec_files import SpecFile
from archdsl.graph import Demand, Graph, Tensor
from archdsl.ops.base import Shape
from archdsl.ops.fields import shape_text, times
from archdsl.report.tables import Column, Table
from archdsl.syntax import tree
from archdsl.syntax.parser import parse

# ---------------------------------------------------------------- a network in a line


def summary(graph: Graph, sizes: Mapping[str, int] | None = None) -> str:
    """`resnet18: image [3, H, W] -> [1000], any H, W; 11,689,512 parameters`.

    Output sizes that depend on free sizes are given at `sizes`, or else at the example sizes.
    """
    inputs = ", ".join(f"{name} {shape_text(shape, graph.sizes)}" for name, shape in input_shapes(graph))
    outputs = ", ".join(
        (f"{o.name} " if o.name else "")
        + shape_text(graph.shape(o.tensor), graph.sizes)
        + (" if training" if o.training else "")
        for o in graph.outputs
    )
    valid = graph.valid
    parameters = costs(graph).total.parameters
    text = f"{graph.name}: {inputs} -> {outputs}{f', {valid}' if valid else ''}"
    results = [graph.shape(o.tensor) for o in graph.outputs]
    if any(isinstance(d, dims.Expr) for shape in results for d in shape):
        values = {**graph.examples, **(sizes or {})}
        into = ", ".join(_at(shape, values) for _, shape in input_shapes(graph))
        text += f" ({into} -> {', '.join(_at(shape, values) for shape in results)})"
    return visible(f"{text}; {parameters:,} parameters")


def contents(spec_file: SpecFile) -> dict[str, list[str]]:
    """The names that a file declares, by what they are; imported ones are not among them."""
    kinds: dict[type, str] = {
        tree.Model: "models",
        tree.Member: "models",
        tree.Block: "blocks",
        tree.Function: "functions",
        tree.Let: "values",
        tree.Augment: "augmentations",
        tree.Extern: "externs",
    }
    found: dict[str, list[str]] = {}
    for declaration in parse(spec_file.source, Diagnostics()).declarations:
        if isinstance(declaration, tree.Import | tree.Default | tree.Missing):
            continue
        found.setdefault(kinds[type(declaration)], []).append(declaration.name.name)
    return found


SHOWN = 8
"""The largest number of names that a line lists."""


def contents_line(spec_file: SpecFile) -> str:
    """`layers.arch: no complete model; 2 blocks (conv_bn, se), 1 value (rate)`."""
    parts = []
    for kind, names in contents(spec_file).items():
        listed = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        parts.append(f"{len(names)} {kind if len(names) > 1 else kind.removesuffix('s')} ({listed})")
    missing = "no complete model" if spec_file.models else "no model"
    return visible(f"{spec_file.source.name}: {missing}; {', '.join(parts) or 'nothing else'}")


def _at(shape: Shape, values: Mapping[str, int]) -> str:
    return times([dims.evaluate(d, values) for d in shape])


@dataclass(slots=True)
class Cause:
    """A line of a spec that narrowed free sizes: which ones, from what, to what, and why.

    `training`: only in training. `before` is empty if the line relates sizes that are reported elsewhere.
    """

    demand: Demand
    before: str
    after: str
    names: list[str]
    training: bool = False

    def as_text(self) -> str:
        path = f" (`{self.demand.node.path}`)" if self.demand.of_node and self.demand.node is not None else ""
        line = f"{self.demand.span.source.name}:{self.demand.span.line}"
        what = " ".join(self.demand.text.split())
        what = what if len(what) <= 40 else what[:39] + "…"
        mode = " in training" if self.training else ""
        return (
            f"  {', '.join(self.names)}: {self.before and f'{self.before} → '}{self.after}{mode}"
            f"   {line}: `{what}`{path} needs {self.demand.constraint.text}"
        )

    def as_data(self) -> dict[str, object]:
        line, column = self.demand.span.line, self.demand.span.column
        return {
            "names": self.names,
            "before": self.before or None,
            "after": self.after,
            "file": self.demand.span.source.name,
            "line": line,
            "column": column,
            "path": self.demand.node.path if self.demand.node is not None else None,
            "needs": self.demand.constraint.text,
            "training_only": self.training,
        }


def causes(graph: Graph) -> list[Cause]:
    """The lines that narrowed the valid sizes, in order; sizes that one line narrowed equally are combined."""
    found: list[Cause] = []
    for narrowing in graph.narrowings:
        before, after = narrowing.before.describe(), narrowing.after.describe()
        if narrowing.choice is not None:
            tied = narrowing.choice
            found.append(Cause(narrowing.demand, "", tied.describe(), list(tied.sets), narrowing.training))
            continue
        same = [c for c in found if c.demand.span == narrowing.demand.span and (c.before, c.after) == (before, after)]
        same = [c for c in same if c.demand.node is narrowing.demand.node]
        if same:
            same[0].names.append(narrowing.size)
        else:
            found.append(Cause(narrowing.demand, before, after, [narrowing.size], narrowing.training))
    return found


def why(graph: Graph) -> str:
    """Which line of the spec narrowed which size, and to what."""
    lines = [cause.as_text() for cause in causes(graph)]
    return visible_lines(lines or ["  all sizes are valid"])


def visible_lines(lines: Sequence[str]) -> str:
    return "".join(visible(line) + "\n" for line in lines)


def augmentation(graph: Graph) -> str:
    """The model's augmentation, one line for each line of the spec; empty if there is none."""
    if graph.augment is None:
        return ""
    return (
        visible(f"augmented {graph.augment.name}:")
        + "".join(f"\n    {visible(t)}" for t in graph.augment.text())
        + "\n"
    )


def summary_data(graph: Graph) -> dict[str, object]:
    """The summary as plain data; `sizes` has the exact set of every free size.

    For each of `one_of`, at least one size must be in its set. `in_training` has the sizes that are valid in training,
    None if they are the same.
    """
    total = costs(graph).total
    return {
        "model": graph.name,
        "inputs": [{"name": name, "size": _plain(shape, graph)} for name, shape in input_shapes(graph)],
        "outputs": [
            {"name": o.name, "size": _plain(graph.shape(o.tensor), graph), "training_only": o.training}
            for o in graph.outputs
        ],
        "sizes": _sets(graph.sizes),
        "one_of": [_sets(choice.sets) for choice in graph.sizes.choices],
        "in_training": None
        if graph.training is None
        else {
            "sizes": _sets(graph.training),
            "one_of": [_sets(choice.sets) for choice in graph.training.choices],
        },
        "narrowed_by": [cause.as_data() for cause in causes(graph)],
        "example": dict(graph.examples),
        "augmented": {"name": graph.augment.name, "changes": list(graph.augment.text())} if graph.augment else None,
        "parameters": {"trainable": total.trainable, "frozen": total.frozen, "buffers": total.buffers},
    }


def _sets(sets: Mapping[str, dims.SizeSet]) -> dict[str, object]:
    return {name: {"text": sizes.describe(), **sizes.as_data()} for name, sizes in sets.items()}


def input_shapes(graph: Graph) -> list[tuple[str, Shape]]:
    return [(node.name, graph.shape(Tensor(node.id))) for node in graph.input_nodes]


def _plain(shape: Shape, graph: Graph) -> list[int | str]:
    return [d if isinstance(d, int) else dims.text(d, graph.sizes) for d in shape]


# ---------------------------------------------------------------- the models of files

TASK_COLUMN = Column("task", "TASK", rank=2)
MODEL_COLUMNS = (
    Column("spec", "SPEC"),
    Column("parameters", "parameters", rank=1, prose=True),
    Column("doc", "what it is", prose=True),
)


def models_table(found: Mapping[str, Sequence[ModelInfo]], tasks: Mapping[str, str]) -> Table:
    """One row for each model of each file or family; missing parameters appear as `NAME = …`.

    `tasks` has the task of each family of the library; without tasks, the table has no column for them.
    """
    rows = [
        (
            *([tasks[file]] if tasks else []),
            f"{file}:{model.name}",
            ", ".join(f"{p} = …" if p in model.missing else p for p in model.parameters),
            (model.doc or "").strip().partition("\n")[0],
        )
        for file, models in found.items()
        for model in models
    ]
    return Table((*([TASK_COLUMN] if tasks else []), *MODEL_COLUMNS), rows)


def models_data(found: Mapping[str, Sequence[ModelInfo]], tasks: Mapping[str, str]) -> list[dict[str, object]]:
    return [
        {
            **({"task": tasks[file]} if tasks else {}),
            "spec": f"{file}:{model.name}",
            "model": model.name,
            "doc": model.doc,
            "parameters": list(model.parameters),
            "missing": sorted(model.missing),
            "complete": model.complete,
        }
        for file, models in found.items()
        for model in models
    ]
