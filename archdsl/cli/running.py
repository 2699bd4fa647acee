"""Commands that run a network on pictures: probe, look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from archdsl.cli.options import (
    Settings,
    Sizes,
    json_option,
    model_options,
    output_option,
    seed_option,
    size_option,
    spec_argument,
    weights_option,
)
from archdsl.cli.printing import write, write_json, write_table
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import checked
from archdsl.common.choices import LOOKS


@cli.command()
@spec_argument
@weights_option
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of pictures; without it, photographs that scikit-image ships.",
)
@output_option("An .svg file for the curves.", "curves are", (".svg",))
@model_options
@size_option
@seed_option
@click.option("--csv", "as_csv", is_flag=True, help="Write comma-separated values, all of them.")
@json_option
def probe(
    spec: str,
    weights: Path | None,
    images: Path | None,
    output: Path | None,
    settings: Settings,
    sizes: Sizes,
    seed: int,
    as_csv: bool,
    as_json: bool,
) -> int:
    """Measure what a network is invariant or equivariant to.

    Pictures are flipped, shifted, turned, scaled, recoloured. The table says how far feature maps are from moving
    likewise, and how far an output that is no map moves: 0 not at all, 1 as far as to another picture.
    """
    from archdsl.checker.finished_graph import pin
    from archdsl.common.marks import save
    from archdsl.runtime import probe as probing

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    if output is not None:
        import matplotlib  # noqa: F401  # it is an extra, and it is better missed before the network runs
    graph = checked(spec, settings, sizes)
    with running():
        found = probing.probe(graph, weights=weights, images=images, sizes=pin(graph, sizes), seed=seed)
        drawn = probing.curves(found) if output is not None else b""
    if output is not None:
        save(output, drawn)
    if as_json:
        write_json({"model": found.name, "on": found.on, "measured": found.as_table().as_data()})
    elif as_csv:
        write(found.as_table().as_csv())
    else:
        write(f"{found.name}: {found.on}\n\n")
        write_table(found.table())
        write(f"\n{probing.NOTE}\n")
    return FINE


def parse_units(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> list[tuple[str, int, int]]:
    units = []
    for text in given:
        path, _, place = text.rpartition(":")
        row, comma, column = place.partition(",")
        if not path or not comma or not row.isdecimal() or not column.isdecimal():
            raise click.BadParameter(f"{text!r} is not of the form PATH:ROW,COLUMN")
        units.append((path, int(row), int(column)))
    return units


@cli.command()
@spec_argument
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The picture to show to the network.",
)
@output_option("A .html, .svg or .png file.", "the look is", LOOKS, required=True)
@weights_option
@click.option("--at", multiple=True, metavar="PATH", help="A block or convolution to watch, in place of the default.")
@click.option(
    "--unit",
    "units",
    multiple=True,
    callback=parse_units,
    metavar="PATH:ROW,COLUMN",
    help="Draw the receptive field of this unit, in place of the one excited most.",
)
@model_options
@size_option
@seed_option
def look(
    spec: str,
    image: Path,
    output: Path,
    weights: Path | None,
    at: Sequence[str],
    units: Sequence[tuple[str, int, int]],
    settings: Settings,
    sizes: Sizes,
    seed: int,
) -> int:
    """Draw the network with what it makes of a picture.

    That is: filters, feature maps, receptive fields.
    """
    from archdsl.checker.finished_graph import pin
    from archdsl.common.marks import save
    from archdsl.runtime import look as looking

    graph = checked(spec, settings, sizes)
    with running():
        found = looking.look(
            graph,
            image,
            weights=weights,
            at=at,
            units=[looking.Unit(*unit) for unit in units],
            sizes=pin(graph, sizes),
            seed=seed,
        )
        data = found.data(output.suffix.lower())
    save(output, data)
    return FINE


@contextlib.contextmanager
def running() -> Iterator[None]:
    """What cannot be run, or drawn, is said in one line."""
    from archdsl.runtime.running import RunError

    try:
        yield
    except RunError as error:
        raise click.ClickException(str(error)) from None
