"""The command that plans a training on many devices: plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from archdsl.cli.options import (
    Settings,
    Sizes,
    dtype_option,
    extern_option,
    json_option,
    model_options,
    optimizer_option,
    parse_bytes,
    recompute_option,
    size_option,
    spec_argument,
)
from archdsl.cli.printing import busy, write_json, write_lines, write_table
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import checked
from archdsl.common.choices import BANDWIDTH, NODE_BANDWIDTH, SCHEDULES, SPEED, Mode, Schedule

if TYPE_CHECKING:
    from archdsl.graph import Graph
    from archdsl.planning.layouts import Cluster, Training
    from archdsl.report.tables import Table


def parse_rate(context: click.Context, parameter: click.Parameter, given: str) -> float:
    """Bytes a second, as 25GB/s."""
    from archdsl.common.units import bytes_from, without_unit

    if not (found := bytes_from(amount := given.removesuffix("/s"))):
        instead = without_unit(amount, "GB/s", "B/s")
        raise click.BadParameter(f"{given!r} is not an amount a second such as 25GB/s{instead}")
    return float(found)


def parse_speed(context: click.Context, parameter: click.Parameter, given: str) -> float:
    """Operations a second, as 20T or 2e13."""
    scale = {"G": 1e9, "T": 1e12, "P": 1e15}.get(given[-1:].upper(), 1.0)
    try:
        found = float(given.rstrip("GTPgtp")) * scale
    except ValueError:
        found = 0.0
    if not 1e9 <= found < 1e20:
        raise click.BadParameter(f"{given!r} is not a number of operations such as 20T or 2e13, from 1G on")
    return found


@cli.command()
@spec_argument
@model_options
@size_option
@click.option("--gpus", type=click.IntRange(1, 1 << 20), metavar="N", help="How many GPUs there are.")
@click.option(
    "--memory", callback=parse_bytes, metavar="80GiB", default="80GiB", show_default=True, help="That of each GPU."
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Samples of a step, of all GPUs together.")
@click.option("--node", type=click.IntRange(1), default=8, show_default=True, metavar="N", help="GPUs of a machine.")
@click.option(
    "--bandwidth",
    callback=parse_rate,
    default=f"{BANDWIDTH / 1e9:g}GB/s",
    show_default=True,
    metavar="25GB/s",
    help="What each GPU sends to other machines.",
)
@click.option(
    "--node-bandwidth",
    callback=parse_rate,
    default=f"{NODE_BANDWIDTH / 1e9:g}GB/s",
    show_default=True,
    metavar="300GB/s",
    help="What each GPU sends within a machine.",
)
@click.option(
    "--speed",
    callback=parse_speed,
    default=f"{SPEED / 1e12:g}T",
    show_default=True,
    metavar="20T",
    help="Operations a second that a GPU reaches.",
)
@click.option("--best", type=click.IntRange(1), default=5, show_default=True, metavar="N", help="Show so many layouts.")
@click.option("--stages", type=click.IntRange(1), metavar="N", help="Show how the network is cut into N stages.")
@click.option("--bands", type=click.IntRange(2), metavar="N", help="Show how N GPUs share each image.")
@click.option(
    "--microbatches", type=click.IntRange(1), metavar="N", help="With --stages; default: four times the ranks."
)
@click.option("--ranks", type=click.IntRange(1), metavar="N", help="With --stages: those of an interleaved pipeline.")
@click.option("--schedule", type=click.Choice(SCHEDULES), default="1f1b", show_default=True, help="With --stages.")
@recompute_option
@dtype_option
@optimizer_option
@extern_option
@json_option
def plan(
    spec: str,
    settings: Settings,
    sizes: Sizes,
    gpus: int | None,
    memory: int,
    batch: int | None,
    node: int,
    bandwidth: float,
    node_bandwidth: float,
    speed: float,
    best: int,
    stages: int | None,
    bands: int | None,
    microbatches: int | None,
    ranks: int | None,
    schedule: Schedule,
    recompute: Mode,
    dtype: str,
    optimizer: str,
    as_json: bool,
) -> int:
    """Plan a training on many GPUs.

    With --gpus and --batch: which layouts of copies, shards and stages fit, what a step costs, and the command for
    each. --recompute and the options of --stages are then chosen by the plan.

    With --stages: where the network is cut into a pipeline. `archdsl build --stages` writes the stages,
    archdsl.pipeline runs them.

    With --bands: how GPUs share an image that none of them holds, by more rows that two compute, or by an exchange of
    rows before layers; archdsl.bands runs it.
    """
    from archdsl.checker.finished_graph import pin

    if [gpus, stages, bands].count(None) != 2:
        raise click.UsageError("say what to plan: --gpus 64 --batch 4096, --stages 4, or --bands 4")
    if gpus is not None and batch is None:
        raise click.UsageError("--gpus needs --batch: the samples of a step, of all GPUs together")
    if gpus is not None and gpus > node and gpus % node:
        raise click.UsageError(f"{gpus} GPUs do not fill machines of {node}: say --node")
    graph = checked(spec, settings, sizes)
    values = pin(graph, sizes)
    with busy("planning", long=True):
        if gpus is not None and batch is not None:
            from archdsl.planning.layouts import Cluster, Training

            cluster = Cluster(gpus, memory, min(node, gpus), bandwidth, node_bandwidth, speed)
            training = Training(batch, dtype, optimizer, tuple(values.items()))
            options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
            return show_layouts(graph, cluster, training, spec, options, best, as_json=as_json)
        if bands is not None:
            return show_bands(graph, values, bands, (bandwidth, speed), dtype, best, as_json=as_json)
        assert stages is not None
        pipe = Pipe(stages, batch, microbatches, ranks, schedule, recompute)
        return show_stages(graph, values, pipe, dtype, optimizer, as_json=as_json)


def show_layouts(
    graph: Graph,
    cluster: Cluster,
    training: Training,
    spec: str,
    options: Sequence[str],
    best: int,
    *,
    as_json: bool,
) -> int:
    from archdsl.planning.layouts import layouts
    from archdsl.report import layouts as report

    found = layouts(graph, cluster, training)
    if as_json:
        write_json(report.as_data(found, best, spec, options))
        return FINE
    write_table(report.table(found, best))
    write_lines(report.lines(found, best, spec, options))
    return FINE


@dataclass(frozen=True, slots=True)
class Pipe:
    """The options of a pipeline, as given."""

    stages: int
    batch: int | None
    microbatches: int | None
    ranks: int | None
    schedule: Schedule
    recompute: Mode

    def settled(self) -> tuple[int, int, int]:
        """The ranks, the micro-batches, and the samples of each. Raises UsageError if they do not fit each other."""
        several = self.schedule.startswith("interleaved")
        ranks = self.ranks or (max(1, self.stages // 2) if several else self.stages)
        if self.stages % ranks or (ranks != self.stages and not several):
            raise click.UsageError(f"{self.stages} stages do not fit {ranks} ranks under the schedule {self.schedule}")
        many = self.microbatches or 4 * ranks
        batch = self.batch or many
        if batch % many:
            raise click.UsageError(f"--batch {batch} cannot be cut into {many} micro-batches of one size")
        if several and many % ranks:
            raise click.UsageError(
                f"under the schedule {self.schedule} --microbatches is a multiple of {ranks}, the ranks"
            )
        return ranks, many, batch // many


def write_plan(table: Table, rows: Sequence[tuple[str, str]]) -> None:
    """A table, and below it what has a name each."""
    write_table(table, "short")
    width = max(len(name) for name, _ in rows)
    write_lines([f"{name:{width}}  {text}" for name, text in rows])


def show_stages(
    graph: Graph, values: Mapping[str, int], pipe: Pipe, dtype: str, optimizer: str, *, as_json: bool
) -> int:
    from archdsl.planning.pipelines import pipeline
    from archdsl.planning.stages import split
    from archdsl.report import pipelines as report

    ranks, many, each = pipe.settled()
    parts = split(graph, pipe.stages, values, dtype)
    found = pipeline(parts, pipe.schedule, ranks, many, each, optimizer, recompute=pipe.recompute)
    if as_json:
        write_json(report.as_data(found))
        return FINE
    write_plan(report.table(found), report.lines(found))
    return FINE


def show_bands(
    graph: Graph,
    values: Mapping[str, int],
    ranks: int,
    link: tuple[float, float],
    dtype: str,
    best: int,
    *,
    as_json: bool,
) -> int:
    """`link` is the bandwidth and the speed of a GPU."""
    from archdsl.common import missing
    from archdsl.planning.bands import Link
    from archdsl.report import bands as report
    from archdsl.runtime.bands import plans

    try:
        with missing.named():
            found = plans(graph, values, ranks, link=Link(*link), dtype=dtype)[:best]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        write_json(report.as_data(found, graph.name))
        return FINE
    write_plan(report.table(found), report.lines(found))
    return FINE
