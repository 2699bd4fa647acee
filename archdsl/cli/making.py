"""Commands that make files from a spec: draw, build, weights, export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from archdsl.backends.diagram.formats import DIRECTIONS, FORMATS, STYLES, THEMES, listed
from archdsl.cli.options import (
    Settings,
    Sizes,
    complete_spec,
    depth_option,
    extern_option,
    json_option,
    memory_option,
    model_options,
    output_option,
    parallel_option,
    parse_length,
    parse_settings,
    purpose_option,
    recompute_option,
    size_option,
    spec_argument,
    stages_option,
    training_options,
    weights_option,
)
from archdsl.cli.outputs import SpecArgument, SpecOption
from archdsl.cli.printing import note, write, write_json
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import checked, is_network_file, is_python, split_path
from archdsl.common.choices import ADAPTATIONS, EXPORTS, MODULES, STATE_DICTS, Budget
from archdsl.common.missing import what_to_do

COLOURS = """A TOML file of your own colours: [families] such as convolution = "#cfe5f4", [groups] of paths, and [names]
of blocks."""

if TYPE_CHECKING:
    from archdsl.common.choices import Adaptation, Mode
    from archdsl.graph import Graph


@cli.command()
@click.argument("spec", cls=SpecArgument, shell_complete=complete_spec, metavar="SPEC[:PATH]")
@output_option(
    f"A {listed(FORMATS)} file.",
    "a picture is",
    [form.ending for form in FORMATS],
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
    help="volumes draws feature maps as 3-d blocks.",
)
@click.option("--theme", type=click.Choice(THEMES), default="light", show_default=True)
@click.option("--direction", type=click.Choice(DIRECTIONS), help="The default is down, for volumes right.")
@click.option(
    "--width",
    callback=parse_length,
    metavar="LENGTH",
    help="Lay the figure out for a width in print, such as 3.3in, 17cm or 500px, and at most 9 inches of height, with "
    "text of 7 points or more: what does not fit is folded and shortened.",
)
@click.option("--caption", metavar="TEXT", default="", help="A text below the figure.")
@click.option("--colours", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=COLOURS)
@click.option("--title/--no-title", default=True, help="The network's name and costs below it.")
@click.option("--legend/--no-legend", default=True, help="What colours and strokes mean.")
@click.option("--shares/--no-shares", default=True, help="The shares of parameters and multiply-accumulates of blocks.")
@click.option("--sizes/--no-sizes", "tensors", default=True, help="The sizes of tensors.")
@click.option("--labels/--no-labels", default=True, help="The labels that the spec gives to layers.")
@click.option(
    "--kernels", is_flag=True, help="With --style volumes: the windows of layers, on the maps that they read."
)
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The image on which the panel of an augmentation shows its changes, instead of a photograph of scikit-image.",
)
@click.option(
    "--matrix",
    is_flag=True,
    help="Draw the matrix of the convolution at PATH instead of the network: a Toeplitz matrix along one axis, a "
    "doubly block Toeplitz or circulant one along two.",
)
def draw(
    spec: str,
    output: Path,
    settings: Settings,
    sizes: Sizes,
    depth: int | None,
    width: float | None,
    colours: Path | None,
    tensors: bool,
    matrix: bool,
    image: Path | None,
    **looks: Any,
) -> int:
    """Draw the network, in the format of the file's ending.

    With --matrix, draw the matrix of the layer at PATH: lenet:lenet:0.
    """
    from archdsl import compiler
    from archdsl.backends.diagram.colours import Colours, read_colours
    from archdsl.backends.diagram.detail import Detail
    from archdsl.checker.finished_graph import pin

    spec, path = of_matrix(spec) if matrix else (spec, None)
    graph = checked(spec, settings, sizes)
    parts = {name: looks.pop(name) for name in ("title", "legend", "shares", "labels", "kernels", "caption")}
    if parts["kernels"] and looks["style"] != "volumes":
        raise click.UsageError("--kernels needs --style volumes: boxes have no maps to draw them on")
    try:
        chosen = read_colours(colours) if colours is not None else Colours()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--colours") from None
    try:
        diagram = compiler.draw(
            graph,
            depth=depth,
            examples=() if matrix else examples_of(graph, image),
            sizes=pin(graph, sizes),
            width=width,
            colours=chosen,
            detail=Detail(sizes=tensors, **parts),
            matrix=path,
            **looks,
        )
        diagram.save(output)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for text in diagram.notes:
        note(text)
    return FINE


def of_matrix(spec: str) -> tuple[str, str]:
    """The SPEC and the path of the layer whose matrix is drawn. Raises UsageError."""
    spec, path = split_path(spec)
    if path is None:
        checked(spec, {})  # a wrong spec is the more helpful message
        raise click.UsageError("--matrix draws that of one layer: name it, SPEC:PATH; `archdsl show` lists the paths")
    context = click.get_current_context()
    known = ("depth", "image", "style", "direction", "legend", "shares", "tensors", "labels")
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name in known:
            raise click.UsageError(f"{parameter.opts[0]} is for pictures of networks, not for --matrix")
    return spec, path


def examples_of(graph: Graph, image: Path | None) -> Sequence[tuple[str, bytes]]:
    """Example images of the model's augmentation; none, with a note, if a package is missing. Raises ClickException."""
    if graph.augment is None:
        if image is not None:
            raise click.UsageError(f"--image shows an augmentation, and {graph.name} has none")
        return ()
    from archdsl.runtime.running import RunError, augmented_examples

    try:
        return augmented_examples(graph, image)
    except RunError as error:
        raise click.ClickException(str(error)) from None
    except ImportError as error:
        if not (install := what_to_do(error)):
            raise
        note(f"the augmentation is drawn without example images: {install}")
        return ()


@cli.command()
@spec_argument
@output_option("The .py file to write; the default is standard output.", "a module is", MODULES, stream=True)
@model_options
@purpose_option
@recompute_option
@memory_option
@training_options
@size_option
@stages_option
@parallel_option
@click.pass_context
def build(
    context: click.Context,
    spec: str,
    output: Path | None,
    purpose: str,
    recompute: Mode,
    memory: int | None,
    batch: int,
    dtype: str,
    optimizer: str,
    sizes: Sizes,
    stages: int | None,
    parallel: bool,
    settings: Settings,
) -> int:
    """Compile the network to a PyTorch module.

    The module is one file that imports only torch. With --for inference it has a function, fold_batchnorms, that
    converts the weights of the training form. --batch, --dtype, --optimizer and --size say for which training step
    --memory is meant; with --stages, --dtype and --size say for which input the work is balanced.
    """
    from archdsl import compiler
    from archdsl.checker.finished_graph import pin
    from archdsl.common.marks import save

    inference = purpose == "inference"
    given = {"recompute": recompute != "none", "memory": memory is not None}
    if inference and any(given.values()):
        name = next(name for name, is_given in given.items() if is_given)
        raise click.UsageError(f"--{name} cannot be used with --for inference, which has no backward pass")
    if inference and parallel:
        raise click.UsageError("--parallel cannot be used with --for inference, which does not train")
    if all(given.values()):
        raise click.UsageError("--memory chooses what to recompute, so --recompute cannot be used with it")
    if stages is not None and (inference or parallel or memory is not None):
        other = "--for inference" if inference else "--parallel" if parallel else "--memory"
        raise click.UsageError(f"--stages cannot be used with {other}")
    if memory is None:
        sized = stages is not None or is_network_file(spec) or is_python(spec)  # an import has this size
        for name in ("batch", "optimizer", *(("dtype",) if stages is None else ()), *(() if sized else ("sizes",))):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = name.removesuffix("s") if name == "sizes" else name
                raise click.UsageError(f"--{option} says for which training step --memory is meant, which is not given")
    graph = checked(spec, settings, sizes, trains=not inference)
    budget = None
    if memory is not None:
        budget = Budget(memory, batch, dtype, optimizer, tuple(pin(graph, sizes).items()))
    parts = None
    if stages is not None:
        from archdsl.planning.stages import split

        parts = split(graph, stages, pin(graph, sizes), dtype)
    text = compiler.build(
        graph, inference=inference, recompute=recompute, memory=budget, parallel=parallel, stages=parts
    )
    data = text.encode()
    if output is not None:
        save(output, data)
    elif sys.stdout is not None:
        # Python source is UTF-8, whatever the terminal's encoding.
        sys.stdout.buffer.write(data)
    return FINE


@cli.command()
@spec_argument
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@output_option("Write the weights that fit (.safetensors, .pth or .pt).", "weights are", STATE_DICTS)
@click.option("--rename", "rules", metavar="OLD=NEW", multiple=True, help="Rename keys; `*` matches any text.")
@click.option(
    "--reshape", is_flag=True, help="Accept tensors of another shape with the same numbers, such as 1x1 kernels."
)
@click.option(
    "--from",
    "before",
    cls=SpecOption,
    metavar="OLD",
    shell_complete=complete_spec,
    help="The spec that the weights are of, before an edit: match by structure, as diff does, instead of by key.",
)
@click.option(
    "--adapt",
    type=click.Choice(ADAPTATIONS),
    help="With --from: kernels for other input channels, such as grey images, by the mean of the old ones, or the "
    "first ones.",
)
@model_options
@click.option(
    "--set-from", callback=parse_settings, multiple=True, metavar="NAME=VALUE", help="Set a parameter of OLD (--from)."
)
@json_option
def weights(
    spec: str,
    file: Path,
    output: Path | None,
    rules: Sequence[str],
    reshape: bool,
    before: str | None,
    adapt: Adaptation | None,
    settings: Settings,
    set_from: Settings,
    as_json: bool,
) -> int:
    """Show which weights of a file fit the network.

    Weights fit by key and shape, or with --from by the structure of the network before an edit; -o writes those that
    fit. FILE is a state_dict: .safetensors, or .pth, from which only tensors are read.
    """
    from archdsl.common.marks import save
    from archdsl.runtime import weights as matching

    pairs = []
    for rule in rules:
        old, equals, new = rule.partition("=")
        if not equals or not old:
            raise click.BadParameter(f"{rule!r} is not OLD=NEW", param_hint="--rename")
        pairs.append((old, new))
    if before is None and (adapt or set_from):
        raise click.UsageError("--adapt and --set-from need --from")
    graph = checked(spec, settings)
    original = None if before is None else checked(before, set_from)
    try:
        state, match = matching.fit(graph, file, pairs, reshape=reshape, before=original, adapt=adapt)
    except matching.WeightsError as error:
        raise click.ClickException(str(error)) from None
    if output is not None:
        save(output, matching.write_state(output.with_suffix(output.suffix.lower()), state))
    if as_json:
        write_json(match.as_data())
    else:
        write(match.as_text() + "\n")
    return FINE


@cli.command()
@spec_argument
@output_option("A .pt2 or .onnx file.", "an export is", EXPORTS, required=True)
@weights_option
@extern_option
@purpose_option
@click.option("--quantize", is_flag=True, help="Write the form for inference in int8, to .onnx; needs --images.")
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Images for calibration, prepared as the network will see them, or .npy arrays, which are taken as they are.",
)
@model_options
def export(
    spec: str,
    output: Path,
    weights: Path | None,
    purpose: str,
    quantize: bool,
    images: Path | None,
    settings: Settings,
) -> int:
    """Export the network to .pt2 (torch.export) or .onnx.

    The batch and the free sizes stay dynamic; the command says which size had to be fixed, and why. Before the file is
    written, its outputs are compared with the PyTorch module's at several sizes, which are listed; a file with other
    outputs is not written. --quantize writes int8 for CPUs, which is faster and less exact; it says how much less on
    images that it does not calibrate on. ONNX needs the packages onnx and onnxscript, and onnxruntime for the
    comparison.
    """
    from archdsl.common.marks import save
    from archdsl.diagnostics import visible
    from archdsl.runtime import export as exporting
    from archdsl.runtime.weights import WeightsError

    if quantize is (images is None):
        raise click.UsageError("--quantize and --images DIR go together")
    graph = checked(spec, settings)
    form = output.with_suffix(output.suffix.lower())
    try:
        if images is not None:
            made = exporting.quantized_export(graph, form, images, weights)
        else:
            made = exporting.proved_export(graph, form, weights, inference=purpose == "inference")
    except (exporting.ExportError, WeightsError) as error:
        raise click.ClickException(str(error)) from None
    save(output, made.data)
    for line in made.lines():
        write(f"{visible(str(output))}: {line}\n")
    return FINE
