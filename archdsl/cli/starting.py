"""Commands that begin something: new, stubs."""

from __future__ import annotations

from pathlib import Path

import click

from archdsl.cli.options import complete_spec, output_option
from archdsl.cli.outputs import SpecArgument
from archdsl.cli.printing import write
from archdsl.cli.program import FINE, cli
from archdsl.common.choices import STARTERS, STUBS


@cli.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--kind", type=click.Choice([*STARTERS]), default="classifier", show_default=True, help="What the network is to do."
)
def new(name: str, kind: str) -> int:
    """Begin a network: a spec, its test, hooks.

    The folder NAME gets a spec, a test of it, and a configuration for pre-commit.

    The spec is a small network with comments that say what to change. The test, for pytest, checks, builds and runs
    it. The configuration lets git check and format specs before each commit.
    """
    from archdsl.starters import files

    folder = Path(name)
    word = folder.name
    if not (word.isidentifier() and word.isascii()):
        raise click.BadParameter(f"{word!r} cannot name a model: use letters, digits and `_`", param_hint="NAME")
    if not folder.parent.is_dir():
        raise click.BadParameter(f"there is no folder {folder.parent}", param_hint="NAME")
    try:
        folder.mkdir()
    except FileExistsError:
        raise click.BadParameter(f"{folder} exists; choose another name", param_hint="NAME") from None
    for path, text in files(word, kind).items():
        (folder / path).write_text(text, "utf-8", newline="\n")
        write(f"{folder / path}\n")
    write(f"\ncd {folder} && archdsl watch {word}.arch --page\n")
    return FINE


@cli.command()
@click.argument("spec", cls=SpecArgument, metavar="FILE", shell_complete=complete_spec)
@output_option("The .pyi file to write; the default is standard output.", "stubs are", STUBS, stream=True)
def stubs(spec: str, output: Path | None) -> int:
    """Write the types of a spec's models for mypy and pyright.

    They are for code that imports the spec like a Python module (import archdsl.importer). Write net.pyi beside
    net.arch: type checkers, and editors, find it there.
    """
    from archdsl.backends.stubs import stubs as text_of
    from archdsl.common.marks import save

    text = text_of(spec)
    if output is None:
        write(text)
    else:
        save(output, text.encode())
    return FINE
