"""The command that makes a spec: import."""

from __future__ import annotations

from pathlib import Path

import click

from archdsl.cli.options import Settings, Sizes, output_option, set_option, size_option
from archdsl.cli.outputs import OutputOption, SpecArgument, parse_output
from archdsl.cli.printing import write
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import imported, imported_file, is_network_file
from archdsl.common.choices import STATE_DICTS
from archdsl.common.escaping import visible


@cli.command("import")
@click.argument("source", cls=SpecArgument, metavar="PACKAGE.MODULE:CALLABLE|FILE")
@output_option("The .arch file to write; the default is standard output.", "a spec is", [".arch"], stream=True)
@click.option(
    "--weights",
    cls=OutputOption,
    callback=lambda context, parameter, given: parse_output(given, "weights are", STATE_DICTS, stream=False),
    metavar="FILE",
    help="Also write the weights, with the keys of the spec (.safetensors, .pth or .pt).",
)
@set_option
@size_option
@click.option(
    "--only",
    metavar="PART",
    default="",
    help="Import only this module, such as backbone or layer1.0, or part of a file.",
)
@click.option(
    "--no-extern", is_flag=True, help="Fail where a part cannot be said, instead of writing an extern for it."
)
@click.option(
    "--evaluation",
    is_flag=True,
    help="Write what the module is in evaluation mode, whatever it does in training mode.",
)
def import_module(
    source: str,
    output: Path | None,
    weights: Path | None,
    settings: Settings,
    sizes: Sizes,
    only: str,
    no_extern: bool,
    evaluation: bool,
) -> int:
    """Write the spec of a PyTorch module, or of the network in a file.

    CALLABLE is a function or class that makes an nn.Module, or is one: torchvision.models:resnet50. --set gives its
    arguments, --size the size of its input (by default 3x224x224). The smallest module around what the language
    cannot say becomes an extern; a note says why. This runs the Python that it names.

    FILE is an ONNX file (.onnx), an exported program of torch.export (.pt2), an Ultralytics-style list of modules
    (.yaml; --set scale=s, --set nc=80) or a Darknet configuration (.cfg). Nothing of a file runs. --size gives the
    sizes that it leaves free.

    The spec has the module's own keys, or those that the file's names give. Before it is written, its network is
    loaded with the weights of the module or file and compared with it, that of a module in training mode, too:
    outputs, gradients and running statistics.
    """
    from archdsl.common.marks import save
    from archdsl.runtime.weights import write_state

    if is_network_file(source):
        found = imported_file(Path(source), settings, sizes, only)
    else:
        package, colon, name = source.partition(":")
        if not colon or not all(part.isidentifier() for part in f"{package}.{name}".split(".")):
            raise click.BadParameter(
                f"{source!r} is not of the form PACKAGE.MODULE:CALLABLE, nor a file that can be imported",
                param_hint="SOURCE",
            )
        found = imported(source, settings, sizes, only, extern=not no_extern, evaluation=evaluation)
    if weights is not None and not found.state:
        raise click.UsageError(f"{visible(source)} has no weights")
    if weights is not None:
        save(weights, write_state(weights.with_suffix(weights.suffix.lower()), found.state))
    if output is not None:
        save(output, found.text.encode())
    else:
        write(found.text)
    return FINE
