"""The command that plans how to run a network on an image that is too large: tile."""

from __future__ import annotations

import click

from archdsl.cli.options import (
    Settings,
    Sizes,
    json_option,
    model_options,
    parse_bytes,
    parse_sizes,
    size_option,
    spec_argument,
)
from archdsl.cli.printing import busy, write_json, write_lines, write_table
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import checked
from archdsl.common.choices import BYTES


def parse_tile(context: click.Context, parameter: click.Parameter, given: str | None) -> int | tuple[int, ...] | None:
    if given is None:
        return None
    (numbers,) = parse_sizes(context, parameter, [given])
    return numbers[0] if len(numbers) == 1 else numbers


@cli.command()
@spec_argument
@model_options
@size_option
@click.option(
    "--tile", callback=parse_tile, metavar="512", help="The largest tile; with one number for each axis: 512x256."
)
@click.option(
    "--memory", callback=parse_bytes, metavar="8GiB", help="What a run may take; without --tile, the default is 4GiB."
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Run so many tiles together.")
@click.option("--dtype", type=click.Choice([*BYTES]), default="float32", show_default=True)
@click.option(
    "--approximate",
    is_flag=True,
    help="Also cut networks that need the whole image, such as by a global pooling: it sees only a tile then.",
)
@json_option
def tile(
    spec: str,
    settings: Settings,
    sizes: Sizes,
    tile: int | tuple[int, ...] | None,
    memory: int | None,
    batch: int | None,
    dtype: str,
    approximate: bool,
    as_json: bool,
) -> int:
    """Plan how to run a network on a large image in tiles.

    The tiles overlap so far, and begin at such places, that the results are those of the whole image, without seams:
    archdsl.tiled(model, image) runs them. A network that cannot be cut exactly is refused, with the line that is in
    the way. All numbers of the table are elements of the image.
    """
    from archdsl.analysis.tiling import tiling
    from archdsl.checker.finished_graph import pin
    from archdsl.report import tiles as report

    graph = checked(spec, settings, sizes)
    if not sizes:
        raise click.UsageError("give the size of the image, channels first: --size 3x20000x30000")
    with busy("planning", long=True):
        values = pin(graph, sizes)
        plan = tiling(graph, values, tile=tile, limit=memory, batch=batch, dtype=dtype, approximate=approximate)
    if as_json:
        write_json(report.as_data(plan))
        return FINE
    write_table(report.table(plan))
    lines = report.lines(plan)
    width = max(len(name) for name, _ in lines)
    write_lines([f"{name:{width}}  {text}" for name, text in lines])
    return FINE
