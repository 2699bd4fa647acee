"""Commands that make files of a spec: draw, build, weights, export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archdsl.cli.missing import what_to_do
from archdsl.cli.options import (
    Settings,
    Sizes,
    depth_option,
    direction_option,
    json_option,
    model_options,
    output_option,
    purpose_option,
    recompute_option,
    size_option,
    spec_argument,
    theme_option,
    weights_option,
)
from archdsl.cli.printing import note, write, write_json
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import checked
from archdsl.common.choices import DIAGRAMS, EXPORTS, MODULES, STYLES, WEIGHTS

if TYPE_CHECKING:
    from archdsl.common.choices import Mode
    from archdsl.graph import Graph


@cli.command()
@spec_argument
@output_option(
    "A .svg, .png, .pdf, .dot, .tex (TikZ) or .html (a page to walk through) file.",
    "a picture is",
    DIAGRAMS,
    required=True,
)
@model_options
@size_option
@depth_option
@click.option(
    "--style",
    type=click.Choice(STYLES),
    default="boxes",
    show_default=True,
    help="volumes: feature maps.",
)
@theme_option
@direction_option
def draw(
    spec: str,
    output: Path,
    settings: Settings,
    sizes: Sizes,
    depth: int | None,
    style: str,
    theme: str,
    direction: str,
) -> int:
    """Draw the network; the ending of the file says in which form."""
    from archdsl import compiler
    from archdsl.checker.finished_graph import pin

    graph = checked(spec, settings, sizes)
    options: dict[str, object] = {"depth": depth, "style": style, "theme": theme, "direction": direction}
    compiler.draw(graph, **options, examples=examples_of(graph), sizes=pin(graph, sizes)).save(output)
    return FINE


def examples_of(graph: Graph) -> Sequence[tuple[str, bytes]]:
    """Pictures of the model's augmentation; none, which is said, where a package that makes them is missing."""
    from archdsl.runtime.running import augmented_examples

    try:
        return augmented_examples(graph)
    except ImportError as error:
        if not (install := what_to_do(error)):
            raise
        note(f"the augmentation is drawn without pictures: {install}")
        return ()


@cli.command()
@spec_argument
@output_option("The .py file to write; standard output if none.", "a module is", MODULES, stream=True)
@model_options
@purpose_option
@recompute_option
def build(spec: str, output: Path | None, purpose: str, recompute: Mode, settings: Settings) -> int:
    """Compile the network to a PyTorch module.

    The module is one file that imports torch alone. The one for inference has a function, fold_batchnorms, that makes
    its weights from those of the training form.
    """
    from archdsl import compiler
    from archdsl.common.marks import save

    inference = purpose == "inference"
    if inference and recompute != "none":
        raise click.UsageError("--recompute is for training: --for inference has no backward pass")
    data = compiler.build(checked(spec, settings), inference=inference, recompute=recompute).encode()
    if output is not None:
        save(output, data)
    elif sys.stdout is not None:
        # Python source is UTF-8, whatever the terminal speaks.
        sys.stdout.buffer.write(data)
    return FINE


@cli.command()
@spec_argument
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@output_option("Write what fits (.safetensors, .pth or .pt).", "weights are", WEIGHTS)
@click.option(
    "--rename", "rules", metavar="OLD=NEW", multiple=True, help="New names for keys; `*` stands for any text."
)
@click.option("--reshape", is_flag=True, help="Take what has another shape and holds the same numbers: 1x1 kernels.")
@model_options
@json_option
def weights(
    spec: str,
    file: Path,
    output: Path | None,
    rules: Sequence[str],
    reshape: bool,
    settings: Settings,
    as_json: bool,
) -> int:
    """Say which weights of a file fit the network.

    They fit by key and shape; -o writes those that do. FILE is a state_dict: .safetensors, or .pth, of which nothing
    but tensors is read.
    """
    from archdsl.common.marks import save
    from archdsl.runtime import weights as weighing

    pairs = []
    for rule in rules:
        old, equals, new = rule.partition("=")
        if not equals or not old:
            raise click.BadParameter(f"{rule!r} is not OLD=NEW", param_hint="--rename")
        pairs.append((old, new))
    graph = checked(spec, settings)
    try:
        state, match = weighing.fit(graph, file, pairs, reshape=reshape)
    except weighing.WeightsError as error:
        raise click.ClickException(str(error)) from None
    if output is not None:
        save(output, weighing.write_state(output.with_suffix(output.suffix.lower()), state))
    if as_json:
        write_json(match.as_data())
    else:
        write(match.as_text() + "\n")
    return FINE


@cli.command()
@spec_argument
@output_option("A .pt2 or .onnx file.", "an export is", EXPORTS, required=True)
@weights_option
@purpose_option
@model_options
def export(spec: str, output: Path, weights: Path | None, purpose: str, settings: Settings) -> int:
    """Export the network to .pt2 (torch.export) or .onnx.

    The batch and the free sizes stay free; which size had to be pinned, and why, is said. Before the file is written,
    it is run beside the PyTorch module at small, odd, large and the shown sizes, which are listed; one that gives other
    numbers is not written. ONNX takes the packages onnx and onnxscript, and onnxruntime for the comparison.
    """
    from archdsl.common.marks import save
    from archdsl.diagnostics import visible
    from archdsl.runtime import export as exporting
    from archdsl.runtime.weights import WeightsError

    graph = checked(spec, settings)
    form = output.with_suffix(output.suffix.lower())
    try:
        made = exporting.export(graph, form, weights, inference=purpose == "inference")
    except (exporting.ExportError, WeightsError) as error:
        raise click.ClickException(str(error)) from None
    save(output, made.data)
    for said in (*made.pins, made.proof):
        write(f"{visible(str(output))}: {said}\n")
    return FINE
