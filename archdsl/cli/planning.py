"""The command that plans a training on many devices: plan."""

from __future__ import annotations

import click

from archdsl.cli.options import (
    Settings,
    Sizes,
    dtype_option,
    json_option,
    model_options,
    optimizer_option,
    recompute_option,
    size_option,
    spec_argument,
)
from archdsl.cli.printing import busy, write_json, write_lines, write_table
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import checked
from archdsl.common.choices import SCHEDULES, Mode, Schedule


@cli.command()
@spec_argument
@model_options
@size_option
@click.option("--stages", type=click.IntRange(1), metavar="N", help="Cut the network into N stages of a pipeline.")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Samples of a step; default: one a micro-batch.")
@click.option("--microbatches", type=click.IntRange(1), metavar="N", help="By default, four times the ranks.")
@click.option("--ranks", type=click.IntRange(1), metavar="N", help="The ranks of an interleaved pipeline.")
@click.option("--schedule", type=click.Choice(SCHEDULES), default="1f1b", show_default=True)
@recompute_option
@dtype_option
@optimizer_option
@json_option
def plan(
    spec: str,
    settings: Settings,
    sizes: Sizes,
    stages: int | None,
    batch: int | None,
    microbatches: int | None,
    ranks: int | None,
    schedule: Schedule,
    recompute: Mode,
    dtype: str,
    optimizer: str,
    as_json: bool,
) -> int:
    """Plan a training on many devices.

    With --stages the network is cut where little is alive and the work is balanced: `archdsl build --stages` writes the
    stages, archdsl.pipeline runs them.
    """
    from archdsl.checker.finished_graph import pin
    from archdsl.planning.pipelines import pipeline
    from archdsl.planning.stages import split
    from archdsl.report import pipelines as report

    if stages is None:
        raise click.UsageError("say what to plan: --stages 4")
    several = schedule.startswith("interleaved")
    ranks = ranks or (max(1, stages // 2) if several else stages)
    if stages % ranks or (ranks != stages and not several):
        raise click.UsageError(f"{stages} stages do not fit {ranks} ranks under the schedule {schedule}")
    microbatches = microbatches or 4 * ranks
    batch = batch or microbatches
    if batch % microbatches:
        raise click.UsageError(f"--batch {batch} cannot be cut into {microbatches} micro-batches of one size")
    if several and microbatches % ranks:
        raise click.UsageError(f"under the schedule {schedule} --microbatches is a multiple of the ranks, {ranks}")
    graph = checked(spec, settings, sizes)
    with busy("planning", long=True):
        parts = split(graph, stages, pin(graph, sizes), dtype)
        found = pipeline(parts, schedule, ranks, microbatches, batch // microbatches, optimizer, recompute=recompute)
    if as_json:
        write_json(report.as_data(found))
        return FINE
    write_table(report.table(found))
    rows = report.lines(found)
    width = max(len(name) for name, _ in rows)
    write_lines([f"{name:{width}}  {text}" for name, text in rows])
    return FINE
