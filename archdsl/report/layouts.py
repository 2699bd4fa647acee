"""The layouts that fit on a cluster as a table, as lines, and as data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from archdsl.common.units import bytes_text, count_text
from archdsl.planning.layouts import Cluster, Layout, Layouts
from archdsl.report.tables import Column, Table

TRAIN = "examples/cluster/train.py"


def table(plan: Layouts, count: int) -> Table:
    """A row for each of the best layouts."""
    columns = (
        Column("number", "", numeric=True),
        Column("replicas", "replicas", numeric=True),
        Column("shards", "shards", numeric=True),
        Column("stages", "stages", numeric=True),
        Column("microbatches", "micro-batches"),
        Column("recompute", "recompute"),
        Column("peak", "peak memory", numeric=True),
        Column("sent", "sends", numeric=True),
        Column("step", "step", numeric=True),
        Column("sending", "sending", numeric=True),
        Column("idle", "waiting", numeric=True),
    )
    rows = [
        (
            number,
            layout.replicas,
            layout.shards,
            layout.stages,
            f"{layout.microbatches} × {layout.microbatch}",
            layout.recompute,
            bytes_text(layout.peak),
            bytes_text(layout.sent),
            seconds_text(layout.time),
            f"{layout.share:.1%}",
            f"{layout.idle:.1%}",
        )
        for number, layout in enumerate(plan.found[:count], 1)
    ]
    return Table(columns, rows)


def seconds_text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def assumptions(cluster: Cluster) -> str:
    """What the times assume, in words."""
    return (
        f"{count_text(int(cluster.speed))} operations a second on a GPU, {count_text(int(cluster.bandwidth))}B/s from "
        f"each to other machines, {count_text(int(cluster.near))}B/s within one of {cluster.node}, sent when all is "
        "computed"
    )


def lines(plan: Layouts, count: int, spec: str, options: Sequence[str]) -> list[str]:
    """What the times assume, and the command for each layout."""
    shown = plan.found[:count]
    left = f"; {len(plan.found) - len(shown)} more fit" if len(plan.found) > len(shown) else ""
    return [
        f"a GPU holds and sends at most this in a step ({plan.training.dtype}, {plan.training.optimizer}){left}",
        f"times: {assumptions(plan.cluster)}",
        "",
        *(f"{number}  {command(plan, layout, spec, options)}" for number, layout in enumerate(shown, 1)),
    ]


def command(plan: Layouts, layout: Layout, spec: str, options: Sequence[str] = ()) -> str:
    """The command that starts a training with a layout, on each machine."""
    cluster = plan.cluster
    machines, each = -(-cluster.gpus // cluster.node), min(cluster.node, cluster.gpus)
    words = ["torchrun"]
    if machines > 1:
        words += ["--nnodes", str(machines), "--rdzv-backend", "c10d", "--rdzv-endpoint", "HOST:29500"]
    words += ["--nproc-per-node", str(each), TRAIN, "--folder", f"runs/{plan.graph.name}", "--spec", spec, *options]
    axes = {"replicate": layout.replicas, "shard": layout.shards, "stage": layout.stages}
    used = {name: size for name, size in axes.items() if size > 1} or {"replicate": 1}
    words += ["--axes", ",".join(used), "--sizes", "x".join(map(str, used.values()))]
    words += ["--batch", str(plan.training.batch)]
    words += ["--microbatches", str(layout.microbatches)] if layout.microbatches > 1 else []
    words += ["--recompute", layout.recompute] if layout.recompute != "none" else []
    return shlex.join(words)


def as_data(plan: Layouts, count: int, spec: str, options: Sequence[str]) -> dict[str, object]:
    """The plan for JSON: bytes, seconds, shares."""
    cluster = plan.cluster
    return {
        "model": plan.graph.name,
        "gpus": cluster.gpus,
        "gpus_of_a_machine": cluster.node,
        "memory_bytes": cluster.memory,
        "bytes_per_second": cluster.bandwidth,
        "bytes_per_second_within": cluster.near,
        "operations_per_second": cluster.speed,
        "batch": plan.training.batch,
        "dtype": plan.training.dtype,
        "optimizer": plan.training.optimizer,
        "tried": plan.tried,
        "fit": len(plan.found),
        "layouts": [
            {
                "replicas": layout.replicas,
                "shards": layout.shards,
                "stages": layout.stages,
                "microbatches": layout.microbatches,
                "microbatch": layout.microbatch,
                "recompute": layout.recompute,
                "peak_bytes": layout.peak,
                "sent_bytes": layout.sent,
                "compute_seconds": layout.compute,
                "idle": layout.idle,
                "sending_seconds": layout.sending,
                "step_seconds": layout.time,
                "sending_share": layout.share,
                "command": command(plan, layout, spec, options),
            }
            for layout in plan.found[:count]
        ],
    }
