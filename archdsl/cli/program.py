"""The click group of all commands, and the completion command."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.shell_completion import get_completion_class

from archdsl import __version__
from archdsl.cli.outputs import Command
from archdsl.cli.printing import write

PROGRAM = "archdsl"

FINE = 0
SPEC_WRONG = DIFFERENT = 1
USAGE_WRONG = 2
# Conventional values: sysexits' EX_SOFTWARE, and 128 + SIGPIPE.
BROKEN = 70
PIPE_CLOSED = 141


OF_INTEREST = ("torch", "onnx", "onnxruntime", "pygraphviz", "kornia", "matplotlib", "pygls")
"""The packages whose versions `--version` lists, where they are installed."""


class PipeClosed(Exception):
    """The reader of stdout closed it."""


class Program(click.Group):
    """A group that raises PipeClosed; click would exit with status 1, which means a wrong spec here."""

    command_class = Command

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Parses the command line; --help and --version print here."""
        try:
            return super().make_context(*arguments, **settings)
        except BrokenPipeError:
            raise PipeClosed from None

    def invoke(self, ctx: click.Context) -> object:
        """Runs a command."""
        try:
            status = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
        except BrokenPipeError:
            raise PipeClosed from None


def _show_version(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    """Prints the version of archdsl, and of what changes its results."""
    if not given or context.resilient_parsing:
        return
    import platform  # only here
    from importlib.metadata import PackageNotFoundError, version  # slow

    lines = [f"archdsl {__version__}", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    for package in OF_INTEREST:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    write("\n".join(lines) + "\n")
    context.exit()


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions.",
)
def cli() -> None:
    """Check, show, draw and compile networks described by .arch files.

    A SPEC is a file (net.arch), a model in a file (net.arch:small), or a model of the library that ships with archdsl
    (resnet:resnet50; `archdsl list` lists all).

    Exit status: 0 success; 1 a spec is wrong or missing; 2 the command line is wrong or the command cannot run.
    """


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a script that completes archdsl's commands in a shell.

    \b
    bash:  echo 'eval "$(archdsl completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(archdsl completion zsh)"' >> ~/.zshrc
    fish:  archdsl completion fish > ~/.config/fish/completions/archdsl.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None
    write(complete(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
    return FINE
