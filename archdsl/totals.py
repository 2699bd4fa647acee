"""Several models side by side, a row of totals each, and plots of what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archdsl.graph import Node, Scope, Tensor
from archdsl.layers import Layers, describe
from archdsl.plots import plotted
from archdsl.tables import Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE = "#2f6db5", "#d9822b"

COLUMNS = (
    Column("model", "model"),
    Column("input", "input"),
    Column("parameters", "parameters", numeric=True),
    Column("weights", "weights (bytes)", numeric=True),
    Column("macs", "MACs", numeric=True),
    Column("flops", "FLOPs", numeric=True),
    Column("memory", "memory (bytes)", numeric=True),
    Column("inference", "inference peak (bytes)", numeric=True),
    Column("training", "training peak (bytes)", numeric=True),
    Column("field", "field", numeric=True),
    Column("batch", "largest batch", numeric=True),
)


def side_by_side(models: Sequence[Layers]) -> Table:
    """A row of totals for each model, at the sizes of each. All have the same options but for the sizes."""
    options = models[0].options
    shown = [c for c in COLUMNS if (options.flops or c.key != "flops") and (options.limit or c.key != "batch")]
    rows = [row(m) for m in models]
    return Table(tuple(shown), [tuple(cells[c.key] for c in shown) for cells in rows])


def row(model: Layers) -> dict[str, Cell]:
    graph, options = model.graph, model.options
    inputs = (" × ".join(map(str, model.costs.shapes[n.id][0])) for n in graph.input_nodes)
    return {
        "model": graph.name,
        "input": ", ".join(inputs),
        "parameters": model.costs.total.parameters,
        "weights": model.weights(options.dtype),
        "macs": model.number("macs"),
        "flops": model.number("flops"),
        "memory": model.number("memory"),
        "inference": model.memory.inference.at(options.batch),
        "training": model.memory.training(options.optimizer).at(options.batch),
        "field": last_field(model),
        "batch": model.batches(options.limit)[0] if options.limit else 0,
    }


def last_field(model: Layers) -> str:
    """The field of the last map that does not see everything."""
    for node in reversed(list(model.graph.nodes())):
        found = model.fields[node]
        told = {describe(axes, model.fields.shape(Tensor(node.id)))["field"] for axes in (found or {}).values()}
        if found and not told & {"everything", ""}:
            return ", ".join(sorted(told))
    return ""


def notes(models: Sequence[Layers]) -> list[str]:
    """How the columns count."""
    options = models[0].options
    samples = "one sample" if options.batch == 1 else f"{options.batch} samples"
    return [
        f"MACs: multiply-accumulates of convolutions and matrix products; all of {samples}, in {options.dtype}",
        f"memory: bytes of all results; peaks: bytes held at once, in a training step with {options.optimizer}",
        "field: what an element of the last map sees of the input",
    ]


# ---------------------------------------------------------------- plots


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a network and what it costs: MACs, and bytes of its results."""

    name: str
    macs: int
    memory: int


def stages(model: Layers) -> list[Stage]:
    """The members of a model that compute; of one that holds nearly all, its members in its place."""
    total = model.costs.total.macs
    parts: list[Node | Scope] = list(model.graph.root.members)
    while (whole := next((p for p in parts if _is_most(model, p, total)), None)) is not None:
        assert isinstance(whole, Scope)
        at = parts.index(whole)
        parts[at : at + 1] = whole.members
    batch = model.options.batch
    return [Stage(p.path, model.costs[p].macs * batch, model.bytes(p)) for p in parts if model.costs[p].macs]


def _is_most(model: Layers, part: Node | Scope, total: int) -> bool:
    return isinstance(part, Scope) and bool(part.members) and model.costs[part].macs > 0.9 * total


def plot(models: Sequence[Layers], form: str) -> bytes:
    """Plots as a file of a form (`svg`, `png`, `pdf`): parameters against MACs, MACs and memory of each stage.

    The same models give the same bytes. Raises NoPlots.
    """
    several = len(models) > 1
    count = len(models) + several

    def draw(figure: Figure) -> None:
        axes = list(figure.subplots(count, 1, squeeze=False)[:, 0])
        if several:
            scatter(axes.pop(0), models)
        for model, axis in zip(models, axes, strict=True):
            bars(axis, model)

    return plotted(draw, (7, 3.2 * count), form)


def scatter(axis: Axes, models: Sequence[Layers]) -> None:
    """Parameters against MACs, a point a model."""
    x = [m.costs.total.parameters / 1e6 for m in models]
    y = [m.number("macs") / 1e9 for m in models]
    axis.scatter(x, y, s=24, color=BLUE, zorder=3)
    for model, a, b in zip(models, x, y, strict=True):
        axis.annotate(model.graph.name, (a, b), xytext=(5, 4), textcoords="offset points")
    # A network without weights or products has no place on a logarithmic axis.
    axis.set_xscale("log" if min(x) > 0 else "linear")
    axis.set_yscale("log" if min(y) > 0 else "linear")
    axis.set_xlabel("parameters (millions)")
    axis.set_ylabel("MACs (billions)")
    axis.margins(0.15)
    axis.grid(True, which="both", color="#dddddd", linewidth=0.5)


def bars(axis: Axes, model: Layers) -> None:
    """MACs and memory of each stage."""
    found = stages(model)
    places = range(len(found))
    axis.bar([p - 0.2 for p in places], [s.macs / 1e9 for s in found], 0.4, color=BLUE)
    axis.set_ylabel("MACs (billions)", color=BLUE)
    other = axis.twinx()
    other.bar([p + 0.2 for p in places], [s.memory / 2**20 for s in found], 0.4, color=ORANGE)
    other.set_ylabel("memory (MiB)", color=ORANGE)
    axis.set_xticks(list(places), [s.name for s in found], rotation=30, ha="right")
    axis.set_title(model.graph.name)
