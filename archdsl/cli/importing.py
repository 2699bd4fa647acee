"""The command that makes a spec: import."""

from __future__ import annotations

from pathlib import Path

import click

from archdsl.cli.options import Settings, Sizes, output_option, set_option, size_option
from archdsl.cli.printing import write
from archdsl.cli.program import FINE, cli
from archdsl.cli.specs import imported


@cli.command("import")
@click.argument("module", metavar="PACKAGE.MODULE:CALLABLE")
@output_option("The .arch file to write; the default is standard output.", "a spec is", [".arch"], stream=True)
@set_option
@size_option
@click.option("--only", metavar="PATH", default="", help="Import only this module of it, such as backbone or layer1.0.")
@click.option(
    "--no-extern", is_flag=True, help="Fail where a part cannot be said, instead of writing an extern for it."
)
def import_module(
    module: str, output: Path | None, settings: Settings, sizes: Sizes, only: str, no_extern: bool
) -> int:
    """Write the spec of a PyTorch module.

    CALLABLE is a function or class that makes an nn.Module, or is one: torchvision.models:resnet50. --set gives its
    arguments, --size the size of its input (by default 3x224x224). The spec has the module's own keys. Before it is
    written, its network is loaded with the module's weights and compared with it. The smallest module around what the
    language cannot say becomes an extern; a note says why. This runs the Python that it names.
    """
    from archdsl.common.marks import save

    package, colon, name = module.partition(":")
    if not colon or not all(part.isidentifier() for part in f"{package}.{name}".split(".")):
        raise click.BadParameter(f"{module!r} is not of the form PACKAGE.MODULE:CALLABLE", param_hint="MODULE")
    found = imported(module, settings, sizes, only, extern=not no_extern)
    if output is not None:
        save(output, found.text.encode())
    else:
        write(found.text)
    return FINE
