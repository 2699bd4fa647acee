"""Commands that run a network on images: probe, look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from archdsl.backends.diagram.formats import CARDS
from archdsl.cli.options import (
    Settings,
    Sizes,
    extern_option,
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


@cli.command()
@spec_argument
@weights_option
@extern_option
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of images; the default is photographs from scikit-image.",
)
@output_option("An .svg file for the curves.", "curves are", (".svg",))
@model_options
@size_option
@seed_option
@click.option("--csv", "as_csv", is_flag=True, help="Write all values, comma-separated.")
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
    """Measure how invariant or equivariant a network is.

    Images are flipped, shifted, rotated, scaled and recoloured. The table shows how far feature maps deviate from
    moving with the image, and how far non-spatial outputs change: 0 not at all, 1 as far as for another image.
    """
    from archdsl.checker.finished_graph import pin
    from archdsl.common.marks import save
    from archdsl.runtime import probe as probing

    if as_csv and as_json:
        raise click.UsageError("--csv and --json are mutually exclusive")
    if output is not None:
        import matplotlib  # noqa: F401  # an extra: fail before the network runs if it is missing
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


def parse_units(
    context: click.Context, parameter: click.Parameter, given: Sequence[str]
) -> list[tuple[str, list[int]]]:
    units = []
    for text in given:
        path, _, place = text.rpartition(":")
        numbers = place.split(",")
        if not path or len(numbers) > 2 or not all(n.isdecimal() for n in numbers):
            raise click.BadParameter(f"{text!r} is not of the form PATH:ROW,COLUMN, or PATH:NUMBER for a token")
        units.append((path, [*map(int, numbers)]))
    return units


def parse_heads(
    context: click.Context, parameter: click.Parameter, given: Sequence[str]
) -> list[tuple[str, list[int]]]:
    found = []
    for text in given:
        path, colon, place = text.partition(":")
        numbers = place.split(",") if colon else []
        if not path or not all(n.isdecimal() for n in numbers):
            raise click.BadParameter(f"{text!r} is not of the form PATH or PATH:HEAD,HEAD,…")
        found.append((path, [*map(int, numbers)]))
    return found


@cli.command()
@spec_argument
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The input image.",
)
@output_option("A .html, .svg or .png file.", "the look is", CARDS, required=True)
@weights_option
@extern_option
@click.option("--at", multiple=True, metavar="PATH", help="A block or convolution to show, instead of the default.")
@click.option(
    "--unit",
    "units",
    multiple=True,
    callback=parse_units,
    metavar="PATH:ROW,COLUMN",
    help="Draw the receptive field of this unit, instead of the most strongly activated one; or its attention.",
)
@click.option(
    "--attention",
    multiple=True,
    callback=parse_heads,
    metavar="PATH[:HEADS]",
    help="Show where heads of this attention look, such as 0,3; the default is the first six.",
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
    units: Sequence[tuple[str, list[int]]],
    attention: Sequence[tuple[str, list[int]]],
    settings: Settings,
    sizes: Sizes,
    seed: int,
) -> int:
    """Draw a network with its feature maps for an image.

    Shows filters, the strongest feature maps and receptive fields.
    """
    from archdsl.checker.finished_graph import pin
    from archdsl.common.marks import save
    from archdsl.runtime import look as looking
    from archdsl.runtime.attending import Heads

    graph = checked(spec, settings, sizes)
    with running():
        found = looking.look(
            graph,
            image,
            weights=weights,
            at=at,
            units=[looking.Unit(path, *place) for path, place in units],
            attention=[Heads(path, tuple(numbers)) for path, numbers in attention],
            sizes=pin(graph, sizes),
            seed=seed,
        )
        data = found.data(output.suffix.lower())
    save(output, data)
    return FINE


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Reports a RunError in one line."""
    from archdsl.runtime.running import RunError

    try:
        yield
    except RunError as error:
        raise click.ClickException(str(error)) from None
