"""The program itself: the group that commands join, and what a shell is told of it."""

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
SPEC_WRONG = 1
USAGE_WRONG = 2
# Beyond those three, what a shell expects: sysexits' EX_SOFTWARE, and 128 + SIGPIPE.
BROKEN = 70
PIPE_CLOSED = 141


class PipeClosed(Exception):
    """Whoever read our output has gone."""


class Program(click.Group):
    """Click would end a closed pipe by status 1, which means a wrong spec here."""

    command_class = Command

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Reads the command line; --help and --version write here."""
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


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="archdsl %(version)s")
def cli() -> None:
    """Check, show, draw and compile networks that .arch files describe.

    A SPEC is a file (net.arch), a model of a file (net.arch:small), or a model of the library that ships with archdsl
    (resnet:resnet50; `archdsl list` names them all).

    Exit status: 0 fine; 1 a spec is wrong, or is not there; 2 the command line is wrong, or the machine cannot do it.
    """


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the script that completes archdsl's commands in a shell.

    \b
    bash:  echo 'eval "$(archdsl completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(archdsl completion zsh)"' >> ~/.zshrc
    fish:  archdsl completion fish > ~/.config/fish/completions/archdsl.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None
    write(complete(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
    return FINE
