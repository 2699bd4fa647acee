"""Commands that run a network on images: probe, look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archdsl.backends.diagram.formats import CARDS
from archdsl.cli.options import (
    Settings,
    Sizes,
    complete_spec,
    extern_option,
    json_option,
    model_options,
    output_option,
    seed_option,
    size_option,
    spec_argument,
    weights_option,
)
from archdsl.cli.outputs import SpecArgument
from archdsl.cli.printing import busy, write, write_json, write_table
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import checked

if TYPE_CHECKING:
    from archdsl.graph import Graph


@cli.command()
@click.argument("specs", cls=SpecArgument, nargs=-1, required=True, shell_complete=complete_spec, metavar="SPEC...")
@click.option(
    "--gradients",
    is_flag=True,
    help="Measure how the gradient of a training loss flows back through the layers; of several SPECs, side by side.",
)
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
    specs: Sequence[str],
    gradients: bool,
    weights: Path | None,
    images: Path | None,
    output: Path | None,
    settings: Settings,
    sizes: Sizes,
    seed: int,
    as_csv: bool,
    as_json: bool,
) -> int:
    """Measure how invariant or equivariant a network is, or how gradients flow through it.

    Images are flipped, shifted, rotated, scaled and recoloured. The table shows how far feature maps deviate from
    moving with the image, and how far non-spatial outputs change: 0 not at all, 1 as far as for another image.

    With --gradients, one training step on random classes is measured instead: the norm of the loss's gradient by the
    weights of each layer, and by its result. Compare a plain network with a residual one of the same depth.
    """
    from archdsl.checker.finished_graph import pin
    from archdsl.common.marks import save
    from archdsl.runtime import probe as probing

    if as_csv and as_json:
        raise click.UsageError("--csv and --json are mutually exclusive")
    if len(specs) > 1 and not gradients:
        raise click.UsageError("probe measures one SPEC; several only with --gradients")
    if len(specs) > 1 and weights is not None:
        raise click.UsageError("--weights are those of one network, but there are several SPECs")
    if output is not None:
        import matplotlib  # noqa: F401  # an extra: fail before the network runs if it is missing
    graphs = [checked(spec, settings, sizes) for spec in specs]
    if gradients:
        return probe_gradients(graphs, weights, images, sizes, seed, output, "csv" if as_csv else as_json and "json")
    (graph,) = graphs
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


def probe_gradients(
    graphs: Sequence[Graph],
    weights: Path | None,
    images: Path | None,
    sizes: Sizes,
    seed: int,
    output: Path | None,
    form: str | bool,
) -> int:
    """Shows how gradients flow through some networks, at the same sizes."""
    from archdsl.checker.finished_graph import pin
    from archdsl.common.marks import save
    from archdsl.runtime import gradients

    flows = []
    with running():
        for graph in graphs:
            with busy(f"a training step of {graph.name}", long=len(graph) > 100):
                flow = gradients.gradient_flow(
                    graph, weights=weights, images=images, sizes=pin(graph, sizes), seed=seed
                )
            flows.append(flow)
    if output is not None:
        save(output, gradients.curves(flows))
    if form == "json":
        write_json({"on": {flow.name: flow.on for flow in flows}, "measured": gradients.as_table(flows).as_data()})
    elif form == "csv":
        write(gradients.as_table(flows).as_csv())
    else:
        write("".join(f"{flow.name}: {flow.on}; the loss is {flow.loss:.3g}\n" for flow in flows) + "\n")
        write_table(gradients.table(flows))
        write("\n" + "".join(f"{flow.summary()}\n" for flow in flows) + f"\n{gradients.NOTE}\n")
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
@click.option("--gradients", is_flag=True, help="Show which pixels move the answer: by its gradient, and integrated.")
@click.option(
    "--class",
    "number",
    type=click.IntRange(0),
    metavar="N",
    help="With --gradients: the class or channel to explain, instead of the largest one.",
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
    gradients: bool,
    number: int | None,
    settings: Settings,
    sizes: Sizes,
    seed: int,
) -> int:
    """Draw a network with its feature maps for an image.

    Shows filters, the strongest feature maps and receptive fields; with --gradients also which pixels move the answer,
    with --attention where heads look. A line below says which weights the network has.
    """
    from archdsl.checker.finished_graph import pin
    from archdsl.common.marks import save
    from archdsl.runtime import look as looking
    from archdsl.runtime.attending import Heads

    if number is not None and not gradients:
        raise click.UsageError("--class says whose --gradients are shown, which are not asked for")
    graph = checked(spec, settings, sizes)
    with running():
        found = looking.look(
            graph,
            image,
            weights=weights,
            at=at,
            units=[looking.Unit(path, *place) for path, place in units],
            attention=[Heads(path, tuple(numbers)) for path, numbers in attention],
            gradients=gradients,
            number=number,
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
