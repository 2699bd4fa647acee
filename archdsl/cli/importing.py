"""The command that makes a spec: import."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import click

from archdsl.cli.options import Settings, Sizes, output_option, set_option, size_option
from archdsl.cli.printing import note, write
from archdsl.cli.program import FINE, cli


@cli.command("import")
@click.argument("module", metavar="PACKAGE.MODULE:CALLABLE")
@output_option("The .arch file to write; the default is standard output.", "a spec is", [".arch"], stream=True)
@set_option
@size_option
def import_module(module: str, output: Path | None, settings: Settings, sizes: Sizes) -> int:
    """Write the spec of a PyTorch module.

    CALLABLE is a function or class that makes an nn.Module, or is one: torchvision.models:resnet50. --set gives its
    arguments, --size the size of its input (by default 3x224x224). The spec has the module's own keys. Before it is
    written, its network is loaded with the module's weights and compared with it. This runs the Python that it names.
    """
    from archdsl.common.marks import save
    from archdsl.runtime.importing import ImportRefused, from_callable

    package, colon, name = module.partition(":")
    if not colon or not all(part.isidentifier() for part in f"{package}.{name}".split(".")):
        raise click.BadParameter(f"{module!r} is not of the form PACKAGE.MODULE:CALLABLE", param_hint="MODULE")
    sys.path.insert(0, "")  # as for `python -m`: modules in this folder
    try:
        found = from_callable(module, {key: _value(text) for key, text in settings.items()}, [*sizes] or (3, 224, 224))
    except ImportRefused as error:
        raise click.ClickException(str(error)) from None
    if output is not None:
        save(output, found.text.encode())
    else:
        write(found.text)
    for line in found.notes:
        note(line)
    return FINE


def _value(text: str) -> Any:
    """A value of Python, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
