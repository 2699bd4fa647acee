"""What is said of a network in lines and tables, and the forms in which tables are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from archdsl import dims
from archdsl.analysis import Analysis, costs
from archdsl.compiler import ModelInfo
from archdsl.diagnostics import visible
from archdsl.graph import Demand, Graph, Node, Scope, Tensor
from archdsl.ops.base import Shape

Cell: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: `key` is its name for programs, `title` its name for people."""

    key: str
    title: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, one for each column; `total` is a last row apart, empty where there is none."""

    columns: tuple[Column, ...]
    rows: Sequence[tuple[Cell, ...]] = field(repr=False)
    total: tuple[Cell, ...] = ()

    def as_data(self) -> list[dict[str, Cell]]:
        """The rows for JSON, without the totals."""
        return [dict(zip((c.key for c in self.columns), row, strict=True)) for row in self.rows]

    def as_csv(self) -> str:
        """The rows as RFC 4180 has them, without the totals, lines ended by a bare newline."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([c.key for c in self.columns])
        writer.writerows([_harmless(cell) for cell in row] for row in self.rows)
        return out.getvalue()

    def as_text(self) -> str:
        """The table for a pipe: columns of aligned text two spaces apart, never wrapped."""
        titles = tuple(c.title for c in self.columns)
        lines = [titles, *([_shown(cell) for cell in row] for row in (*self.rows, *self._totals()))]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        rule = ["-" * width for width in widths]
        lines.insert(1, rule)
        if self.total:
            lines.insert(len(lines) - 1, rule)
        return "\n".join(self._line(cells, widths) for cells in lines) + "\n"

    def print_rich(self) -> None:
        """The table on a terminal, as wide as that is."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, show_footer=bool(self.total), pad_edge=False, header_style="bold")
        for column, total in zip(self.columns, self.total or ("",) * len(self.columns), strict=True):
            justify = "right" if column.numeric else "left"
            table.add_column(column.title, Text(_shown(total), style="bold"), justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in self.rows:
            table.add_row(*(Text(_shown(cell)) for cell in row))
        Console().print(table)

    def _totals(self) -> Iterator[tuple[Cell, ...]]:
        if self.total:
            yield self.total

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = (
            cell.rjust(width) if column.numeric else cell.ljust(width)
            for cell, width, column in zip(cells, widths, self.columns, strict=True)
        )
        return "  ".join(padded).rstrip()


def _shown(cell: Cell) -> str:
    return f"{cell:,}" if isinstance(cell, int) else visible(cell)


def _harmless(cell: Cell) -> Cell:
    """A spreadsheet computes text that starts like a formula; an apostrophe before it keeps it text."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


# ---------------------------------------------------------------- a network in a line


def summary(graph: Graph, sizes: Mapping[str, int] | None = None) -> str:
    """`resnet18: image [3, H, W] -> [1000], any H, W; 11,689,512 parameters`.

    Where what comes out hangs on free sizes, it is told for `sizes`, or else for the sizes to show.
    """
    inputs = ", ".join(f"{name} {bracketed(shape, graph)}" for name, shape in input_shapes(graph))
    outputs = ", ".join(
        (f"{o.name} " if o.name else "")
        + bracketed(graph.shape(o.tensor), graph)
        + (" if training" if o.training else "")
        for o in graph.outputs
    )
    valid = dims.describe_sizes(graph.sizes)
    parameters = costs(graph).total.parameters
    text = f"{graph.name}: {inputs} -> {outputs}{f', {valid}' if valid else ''}"
    results = [graph.shape(o.tensor) for o in graph.outputs]
    if any(isinstance(d, dims.Expr) for shape in results for d in shape):
        values = {**graph.examples, **(sizes or {})}
        into = ", ".join(_at(shape, values) for _, shape in input_shapes(graph))
        text += f" ({into} -> {', '.join(_at(shape, values) for shape in results)})"
    return visible(f"{text}; {parameters:,} parameters")


def _at(shape: Shape, values: Mapping[str, int]) -> str:
    return "×".join(str(dims.evaluate(d, values)) for d in shape)


@dataclass(slots=True)
class Cause:
    """A line of a spec that narrowed free sizes: which ones, from what, to what, and why."""

    demand: Demand
    before: str
    after: str
    names: list[str]

    def as_text(self) -> str:
        path = f" (`{self.demand.node.path}`)" if self.demand.node is not None else ""
        line = f"{self.demand.span.source.name}:{self.demand.span.line}"
        what = " ".join(self.demand.span.text.split())
        what = what if len(what) <= 40 else what[:39] + "…"
        return (
            f"  {', '.join(self.names)}: {self.before} → {self.after}"
            f"   {line}: `{what}`{path} needs {self.demand.constraint.text}"
        )

    def as_data(self) -> dict[str, object]:
        line, column = self.demand.span.line, self.demand.span.column
        return {
            "names": self.names,
            "before": self.before,
            "after": self.after,
            "file": self.demand.span.source.name,
            "line": line,
            "column": column,
            "path": self.demand.node.path if self.demand.node is not None else None,
            "needs": self.demand.constraint.text,
        }


def causes(graph: Graph) -> list[Cause]:
    """What narrowed the valid sizes, in order; sizes that one line narrowed alike stand together."""
    found: list[Cause] = []
    for narrowing in graph.narrowings:
        before, after = narrowing.before.describe(), narrowing.after.describe()
        same = [c for c in found if c.demand.span == narrowing.demand.span and (c.before, c.after) == (before, after)]
        same = [c for c in same if c.demand.node is narrowing.demand.node]
        if same:
            same[0].names.append(narrowing.size)
        else:
            found.append(Cause(narrowing.demand, before, after, [narrowing.size]))
    return found


def why(graph: Graph) -> str:
    """Which line of the spec narrowed which size, and to what."""
    lines = [cause.as_text() for cause in causes(graph)]
    return visible_lines(lines or ["  nothing narrows the sizes"])


def visible_lines(lines: Sequence[str]) -> str:
    return "".join(visible(line) + "\n" for line in lines)


def summary_data(graph: Graph) -> dict[str, object]:
    """The summary as plain data; `sizes` has the exact set of every free size."""
    total = costs(graph).total
    return {
        "model": graph.name,
        "inputs": [{"name": name, "size": _plain(shape, graph)} for name, shape in input_shapes(graph)],
        "outputs": [
            {"name": o.name, "size": _plain(graph.shape(o.tensor), graph), "training_only": o.training}
            for o in graph.outputs
        ],
        "sizes": {name: {"text": s.describe(), **s.as_data()} for name, s in graph.sizes.items()},
        "narrowed_by": [cause.as_data() for cause in causes(graph)],
        "example": dict(graph.examples),
        "parameters": {"trainable": total.trainable, "frozen": total.frozen, "buffers": total.buffers},
    }


def input_shapes(graph: Graph) -> list[tuple[str, Shape]]:
    return [(node.name, graph.shape(Tensor(node.id))) for node in graph.input_nodes]


def bracketed(shape: Shape, graph: Graph) -> str:
    """A size as specs write it: `[64, H/4, W/4]`."""
    return "[" + ", ".join(dims.text(d, graph.sizes) for d in shape) + "]"


def _plain(shape: Shape, graph: Graph) -> list[int | str]:
    return [d if isinstance(d, int) else dims.text(d, graph.sizes) for d in shape]


# ---------------------------------------------------------------- a network in a table


@dataclass(frozen=True, slots=True)
class Layers:
    """The table of a network, its totals and the sizes that the MACs are of."""

    table: Table
    analysis: Analysis

    @property
    def note(self) -> str:
        at = ", ".join(f"{name} = {value}" for name, value in self.analysis.sizes.items())
        return f"MACs: multiply-accumulates of convolutions and matrix products, one sample{f', at {at}' if at else ''}"

    def as_data(self) -> dict[str, object]:
        total = self.analysis.total
        return {
            "at": dict(self.analysis.sizes),
            "layers": self.table.as_data(),
            "total": {"parameters": total.parameters, "macs": total.macs},
        }


LAYER_COLUMNS = (
    Column("path", "path"),
    Column("operation", "operation"),
    Column("output", "output size"),
    Column("parameters", "parameters", numeric=True),
    Column("macs", "MACs", numeric=True),
)


def layers(graph: Graph, *, sizes: Mapping[str, int] | None = None, depth: int | None = None) -> Layers:
    """The nodes in order; a scope deeper than `depth` within others is one row. `sizes` put numbers for free sizes."""
    analysis = costs(graph, sizes)

    def size(tensors: Sequence[Tensor]) -> str:
        shown = (analysis.shape(t) if sizes else graph.shape(t) for t in tensors)
        return ", ".join(" × ".join(dims.text(d, graph.sizes) for d in shape) for shape in shown)

    def row(part: Node | Scope) -> tuple[Cell, ...]:
        if isinstance(part, Node):
            tensors = [Tensor(part.id, i) for i in range(len(part.shapes))]
            what = part.operation.caption(len(graph.shape((*part.inputs, *tensors)[0])) - 1)
        else:
            tensors = list(part.outputs)
            what = part.definition.name if part.definition else "{ … }"
        return part.path, what, size(tensors), analysis[part].parameters, analysis[part].macs

    total = analysis.total
    rows = [row(part) for part in _folded(graph.root, depth)]
    return Layers(Table(LAYER_COLUMNS, rows, ("total", "", "", total.parameters, total.macs)), analysis)


def _folded(root: Scope, depth: int | None) -> Iterator[Node | Scope]:
    """The nodes within, in order, and in place of scopes that stand deeper than `depth` those scopes themselves."""
    stack: list[tuple[Node | Scope, int]] = [(root, -1)]
    while stack:
        part, level = stack.pop()
        if isinstance(part, Scope) and (part is root or depth is None or level < depth):
            stack.extend((member, level + 1) for member in reversed(part.members))
        else:
            yield part


# ---------------------------------------------------------------- the models of files

MODEL_COLUMNS = (Column("spec", "SPEC"), Column("parameters", "parameters"), Column("doc", "what it is"))


def models_table(found: Mapping[str, Sequence[ModelInfo]]) -> Table:
    """A row for each model of each file or family; what still needs a value stands as `NAME = …`."""
    rows = [
        (
            f"{file}:{model.name}",
            ", ".join(f"{p} = …" if p in model.missing else p for p in model.parameters),
            (model.doc or "").strip().partition("\n")[0],
        )
        for file, models in found.items()
        for model in models
    ]
    return Table(MODEL_COLUMNS, rows)


def models_data(found: Mapping[str, Sequence[ModelInfo]]) -> list[dict[str, object]]:
    return [
        {
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
