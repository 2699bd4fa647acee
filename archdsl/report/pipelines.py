"""A network in stages as a table, as lines, and as data."""

from __future__ import annotations

from archdsl.common.units import bytes_text
from archdsl.graph import Graph, Node
from archdsl.planning.pipelines import Pipeline
from archdsl.planning.stages import Part
from archdsl.report.tables import Column, Table


def table(plan: Pipeline) -> Table:
    """A row for each stage; what is sent is of one sample, in one direction."""
    columns = (
        Column("stage", "stage", numeric=True),
        Column("first", "first layer"),
        Column("last", "last layer"),
        Column("parameters", "parameters", numeric=True, unit="count"),
        Column("macs", "MACs", numeric=True, unit="count"),
        Column("work", "work", numeric=True),
        Column("sent_bytes", "sends", numeric=True, unit="bytes"),
        Column("relayed_bytes", "of it relayed", numeric=True, unit="bytes"),
    )
    last = len(plan.split.parts) - 1
    rows = []
    for number, part in enumerate(plan.split.parts):
        first, end = ends(plan.split.graph, part)
        sent, relayed = (part.gives, part.relayed) if number < last else (0, 0)
        rows.append((number, first, end, part.cost.parameters, part.cost.macs, f"{part.work:.1%}", sent, relayed))
    return Table(columns, rows)


def ends(graph: Graph, part: Part) -> tuple[str, str]:
    """The paths of the first and the last operation of a stage."""
    nodes: list[Node] = [
        node for i in range(part.stage.start, part.stage.end) if not (node := graph.node(i)).operation.is_input
    ]
    return nodes[0].path, nodes[-1].path


def lines(plan: Pipeline) -> list[tuple[str, str]]:
    """Pairs of a name and a text, below the table."""
    largest = max(part.work for part in plan.split.parts)
    batch = plan.microbatches * plan.microbatch
    sent = 2 * plan.split.sent * batch
    return [
        ("largest stage", f"{largest * len(plan.split.parts):.2f} times the mean"),
        ("sent", f"{bytes_text(sent)} a step, forward and back, for a batch of {batch}"),
        ("micro-batches", f"{plan.microbatches} of {plan.microbatch}, schedule {plan.schedule}"),
        ("waiting", f"{plan.run.idle:.1%} of the time, if sending takes none"),
        ("peak memory", f"{', '.join(map(bytes_text, plan.peaks))} ({plan.split.dtype}, by rank)"),
    ]


def as_data(plan: Pipeline) -> dict[str, object]:
    """The plan for JSON. Stages name the tensors that they take and give by the paths of their operations."""
    graph, parts = plan.split.graph, plan.split.parts
    stages = []
    for number, part in enumerate(parts):
        first, end = ends(graph, part)
        stages.append(
            {
                "stage": number,
                "rank": number % plan.ranks,
                "first": first,
                "last": end,
                "takes": [graph.node(t).path for t in part.stage.takes],
                "gives": [graph.node(t).path for t in part.stage.gives],
                "relays": [graph.node(t).path for t in part.stage.relayed],
                "parameters": part.cost.parameters,
                "macs": part.cost.macs,
                "work": part.work,
                "takes_bytes": part.takes,
                "gives_bytes": part.gives,
                "relayed_bytes": part.relayed,
            }
        )
    return {
        "model": graph.name,
        "sizes": dict(plan.split.sizes),
        "dtype": plan.split.dtype,
        "schedule": plan.schedule,
        "microbatches": plan.microbatches,
        "microbatch": plan.microbatch,
        "idle": plan.run.idle,
        "peak_bytes": list(plan.peaks),
        "sent_bytes": 2 * plan.split.sent * plan.microbatches * plan.microbatch,
        "stages": stages,
    }
