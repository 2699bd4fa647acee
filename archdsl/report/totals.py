"""Comparison of several models: one row of totals each, and plots of their costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from archdsl.common.units import bytes_text
from archdsl.graph import Tensor
from archdsl.report.layers import Layers
from archdsl.report.plots import plotted
from archdsl.report.stages import Stage, stages
from archdsl.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

BLUE, ORANGE = "#2f6db5", "#d9822b"

COLUMNS = (
    Column("model", "model"),
    Column("input", "input", rank=3),
    Column("parameters", "parameters", numeric=True, unit="count", rank=1),
    Column("weights", "weights (bytes)", numeric=True, unit="bytes", rank=8),
    Column("macs", "MACs", numeric=True, unit="count", rank=1),
    Column("flops", "FLOPs", numeric=True, unit="count", rank=2),
    Column("memory", "memory (bytes)", numeric=True, unit="bytes", rank=7),
    Column("inference", "inference peak (bytes)", numeric=True, unit="bytes", rank=6),
    Column("training", "training peak (bytes)", numeric=True, unit="bytes", rank=4),
    Column("field", "field", numeric=True, rank=5),
    Column("batch", "largest batch", numeric=True, rank=2),
)


def side_by_side(models: Sequence[Layers]) -> Table:
    """A row of totals for each model, at its own sizes. All other options are the same.

    Raises ValueError if `columns` names one that there is not.
    """
    options = models[0].options
    flops = options.flops or bool(options.columns)
    shown = [c for c in COLUMNS if (flops or c.key != "flops") and (options.limit or c.key != "batch")]
    rows = [row(m) for m in models]
    table = Table(tuple(shown), [tuple(cells[c.key] for c in shown) for cells in rows])
    return table.only(options.columns) if options.columns else table


def row(model: Layers) -> dict[str, Cell]:
    graph, options = model.graph, model.options
    return {
        "model": graph.name,
        "input": input_text(model),
        "parameters": model.costs.total.parameters,
        "weights": model.weights(options.dtype),
        "macs": model.known(graph.root, model.number("macs")),
        "flops": model.known(graph.root, model.number("flops")),
        "memory": model.number("memory"),
        "inference": model.memory.inference.at(options.batch),
        "training": model.memory.training(options.optimizer).at(options.batch),
        "field": last_field(model),
        "batch": model.batches(options.limit)[0] if options.limit else 0,
    }


def input_text(model: Layers) -> str:
    """`3 × 224 × 224`."""
    return ", ".join(" × ".join(map(str, model.costs.shapes[n.id][0])) for n in model.graph.input_nodes)


def last_field(model: Layers) -> str:
    """The field of the last map that does not see everything; in parentheses if it sees more than through windows."""
    for node in reversed(list(model.graph.nodes())):
        found = model.field_columns(Tensor(node.id))
        fields_shown = {numbers["field"] for numbers in (found or {}).values()}
        if found and not fields_shown & {"everything", ""}:
            return ", ".join(sorted(fields_shown))
    return ""


def notes(models: Sequence[Layers]) -> list[str]:
    """Explains the columns."""
    options = models[0].options
    samples = "one sample" if options.batch == 1 else f"{options.batch} samples"
    lines = [
        f"MACs: multiply-accumulates of convolutions and matrix products; all of {samples}, in {options.dtype}",
        f"memory: bytes of all outputs; peaks: bytes allocated at once, in a training step with {options.optimizer}",
        "field: receptive field of an element of the last map; in parentheses: through windows only",
    ]
    if options.limit:
        lines.append(f"largest batch: for a training step in {bytes_text(options.limit)}, on a GPU")
    return lines


# ---------------------------------------------------------------- plots


def plot(models: Sequence[Layers], form: str) -> bytes:
    """Plots as a file of a format (`svg`, `png`, `pdf`): parameters against MACs, MACs and memory of each stage.

    The same models give the same bytes. Raises ImportError if matplotlib is not installed.
    """
    found = [stages(m) for m in models]
    several = len(models) > 1
    # In inches: a stage is as high as a line of text.
    heights = [*([3.6] if several else []), *(0.9 + 0.24 * len(s) for s in found)]
    most = [max(getattr(s, key) for parts in found for s in parts) for key in ("macs", "memory")]

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        if several:
            scatter(figure, figure.add_subplot(grid[0, :]), models)
        for row, (model, parts) in enumerate(zip(models, found, strict=True), int(several)):
            left = figure.add_subplot(grid[row, 0])
            bars(left, [s.macs for s in parts], most[0], macs_unit, BLUE)
            left.set_yticks(range(len(parts)), list(map(label, parts)))
            left.set_title(f"{model.graph.name}, {input_text(model)}", loc="left")
            right = figure.add_subplot(grid[row, 1])
            bars(right, [s.memory for s in parts], most[1], memory_unit, ORANGE)
            right.set_yticks([])
            right.set_title(amount_text(model), loc="right")

    return plotted(draw, (8, sum(heights)), form)


def label(stage: Stage) -> str:
    """`layer1  56×56`."""
    return f"{stage.name}  {'×'.join(map(str, stage.sizes[-1])) or 'flat'}"


def amount_text(model: Layers) -> str:
    options = model.options
    samples = "one sample" if options.batch == 1 else f"{options.batch} samples"
    return f"{samples}, {options.dtype}"


def macs_unit(most: int) -> tuple[int, str]:
    """The unit for MACs that keeps numbers short."""
    power = min(max(0, (len(str(most)) - 1) // 3), 4)
    return 1000**power, "MACs" + ("", " (thousands)", " (millions)", " (billions)", " (trillions)")[power]


def memory_unit(most: int) -> tuple[int, str]:
    power = min(max(0, (most.bit_length() - 1) // 10), 4)
    return 1024**power, f"memory of outputs ({('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]})"


def bars(axis: Axes, amounts: Sequence[int], most: int, unit: Callable[[int], tuple[int, str]], color: str) -> None:
    """One bar per stage, the first at the top; the axis goes to `most`, so that the bars of all models compare."""
    scale, name = unit(most)
    axis.barh(range(len(amounts)), [a / scale for a in amounts], 0.7, color=color, zorder=3)
    axis.set_xlabel(name)
    axis.set_ylim(len(amounts) - 0.5, -0.5)
    axis.set_xlim(0, 1.05 * most / scale or 1)
    axis.grid(True, axis="x", color="#dddddd", linewidth=0.5)


def scatter(figure: Figure, axis: Axes, models: Sequence[Layers]) -> None:
    """Parameters against MACs, one point per model."""
    from matplotlib.ticker import LogLocator  # an extra

    x = [m.costs.total.parameters / 1e6 for m in models]
    y = [m.number("macs") / 1e9 for m in models]
    points = axis.scatter(x, y, s=24, color=BLUE, zorder=3)
    for scale, along, amounts in ((axis.set_xscale, axis.xaxis, x), (axis.set_yscale, axis.yaxis, y)):
        # A network without weights or products has no position on a logarithmic axis.
        if min(amounts) > 0:
            scale("log")
            ratio = max(amounts) / min(amounts)
            along.set_major_locator(LogLocator(subs=range(1, 10) if ratio < 4 else (1, 2, 5) if ratio < 300 else (1,)))
            along.set_major_formatter("{x:g}")
            along.set_minor_formatter("")
        along.grid(True, color="#dddddd", linewidth=0.5)
    axis.set_xlabel("parameters (millions)")
    axis.set_ylabel("MACs (billions)")
    axis.margins(0.15)
    figure.draw_without_rendering()  # which gives the axes their place
    _label(axis, [m.graph.name for m in models], x, y, points)


def _label(axis: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float], points: PathCollection) -> None:
    """Puts a name beside each point, apart from points and other names; a line leads to one that is further away."""
    from adjustText import adjust_text  # an extra

    texts = [axis.text(a, b, name) for name, a, b in zip(names, x, y, strict=True)]
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6}
    adjust_text(texts, x=x, y=y, objects=points, ax=axis, expand=(1.1, 1.5), iter_lim=500, arrowprops=line)
