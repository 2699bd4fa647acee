"""The plan of exact tiles as a table, as lines, and as data."""

from __future__ import annotations

from archdsl.analysis.tiling import Tiling
from archdsl.common.units import bytes_text
from archdsl.report.tables import Column, Table


def table(plan: Tiling) -> Table:
    """A row for each axis of the image."""
    columns = (
        Column("axis", "axis"),
        Column("size", "size", numeric=True),
        Column("tile", "tile", numeric=True),
        Column("overlap", "overlap", numeric=True),
        Column("step", "step", numeric=True),
        Column("stride", "stride", numeric=True),
        Column("tiles", "tiles", numeric=True),
        Column("smallest", "smallest tile", numeric=True),
    )
    rows = [(a.name, a.size, a.tile, a.tile - a.step, a.step, a.stride, len(a.starts), a.smallest) for a in plan.axes]
    return Table(columns, rows)


def halo_texts(plan: Tiling) -> list[str]:
    """For each output what is cut off at the borders of a tile: `y: 40 + 40 of 512 × …`."""
    found = []
    for number, (output, shape) in enumerate(zip(plan.outputs, plan.shapes(tile=True), strict=True)):
        sides = " × ".join(f"{before} + {behind}" for before, behind in (a.halos[number] for a in plan.axes))
        sizes = " × ".join(map(str, shape[1:]))
        found.append(f"{output.name or 'output'}: {sides} of {sizes}")
    return found


def lines(plan: Tiling) -> list[tuple[str, str]]:
    """Pairs of a name and a text, below the table."""
    many = f" for {plan.batch} tiles together" if plan.batch > 1 else ""
    return [
        ("tiles", f"{plan.count:,}"),
        ("work done twice", f"{plan.again:.1%}"),
        ("peak memory", f"{bytes_text(plan.peak)}{many} ({plan.dtype}, weights included)"),
        *(("cut off", text) for text in halo_texts(plan)),
        *(("not exact", f"`{node.operation.name}` (`{node.path}`) sees only its tile") for node in plan.assumed),
    ]


def as_data(plan: Tiling) -> dict[str, object]:
    """The plan for JSON. `min` and `step` of an axis and the `halo` of an output are those of bioimage.io."""
    axes = [
        {
            "name": a.name,
            "size": a.size,
            "tile": a.tile,
            "min": a.smallest,
            "step": a.stride,
            "distance": a.step,
            "starts": list(a.starts),
        }
        for a in plan.axes
    ]
    outputs = [
        {"name": output.name, "shape": list(shape), "halo": [list(a.halos[number]) for a in plan.axes]}
        for number, (output, shape) in enumerate(zip(plan.outputs, plan.shapes(), strict=True))
    ]
    return {
        "model": plan.graph.name,
        "exact": not plan.assumed,
        "assumed": [node.path for node in plan.assumed],
        "axes": axes,
        "outputs": outputs,
        "tiles": plan.count,
        "work_done_twice": plan.again,
        "batch": plan.batch,
        "peak_bytes": plan.peak,
        "dtype": plan.dtype,
    }
