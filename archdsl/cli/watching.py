"""The command watch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archdsl.backends.diagram.formats import DIRECTIONS, FORMATS, STYLES, THEMES, listed
from archdsl.cli.options import (
    Settings,
    Sizes,
    depth_option,
    model_options,
    output_option,
    size_option,
    spec_argument,
)
from archdsl.cli.printing import write, write_diagnostics
from archdsl.cli.program import FINE, cli
from archdsl.common.choices import MODULES

if TYPE_CHECKING:
    from archdsl.diagnostics import Diagnostic
    from archdsl.graph import Graph
    from archdsl.watching.following import Outcome

PICTURES = [form.ending for form in FORMATS]


@cli.command()
@spec_argument
@output_option(f"The file to renew: {listed(FORMATS)}, or a .py module.", "this is", [*PICTURES, *MODULES])
@click.option("--page", is_flag=True, help="Serve the interactive page to this machine, and print its address.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="The port of --page; default: any free."
)
@model_options
@size_option
@depth_option
@click.option("--style", type=click.Choice(STYLES), default="boxes", show_default=True)
@click.option("--theme", type=click.Choice(THEMES), default="light", show_default=True)
@click.option("--direction", type=click.Choice(DIRECTIONS), default="down", show_default=True)
def watch(
    spec: str,
    output: Path | None,
    page: bool,
    port: int,
    settings: Settings,
    sizes: Sizes,
    **looks: object,
) -> int:
    """Check, draw or build a spec at each save.

    A save of a file that the spec imports counts, too. -o renews a file, --page an interactive page.

    After an error the last good file or picture stays, and the page shows the error above it. The page keeps what you
    have unfolded, chosen and moved. It is served at 127.0.0.1 under an address that nobody can guess. Ctrl-C ends.
    """
    from archdsl.watching.following import Follower, changes, reader

    if page and output is not None:
        raise click.UsageError("--page and -o are mutually exclusive")
    import watchfiles  # noqa: F401  # before anything is written, since it may not be installed

    path, read = reader(spec)
    follower = Follower(path, read, maker(spec, settings, sizes, ".html" if page else ending(output), looks))
    try:
        if page:
            from archdsl.watching.serving import serve

            serve(follower, port, lambda at: say(f"{path.name} is shown at {at} (Ctrl-C ends)"), report(None, page))
        else:
            announce = report(output, page)
            announce(follower.round())
            for _ in changes(follower):
                announce(follower.round())
    except KeyboardInterrupt:
        pass
    return FINE


def ending(output: Path | None) -> str:
    return output.suffix.lower() if output is not None else ""


def maker(
    spec: str, settings: Settings, sizes: Sizes, form: str, looks: dict[str, object]
) -> Callable[[], tuple[bytes, tuple[Diagnostic, ...]]]:
    """Makes the bytes of a file with this ending; without one, the line of a check."""

    def make() -> tuple[bytes, tuple[Diagnostic, ...]]:
        from archdsl import compiler
        from archdsl.checker.finished_graph import pin
        from archdsl.cli.specs import check_model, select
        from archdsl.report.summary import summary

        spec_file, (name,), values = select(spec, settings)
        graph: Graph = check_model(spec_file, name, values, sizes)
        if form in MODULES:
            return compiler.build(graph).encode(), tuple(graph.warnings)
        if form:
            diagram = compiler.draw(graph, **looks, sizes=pin(graph, sizes))
            return diagram.data(form), tuple(graph.warnings)
        return f"{summary(graph, pin(graph, sizes))}\n".encode(), tuple(graph.warnings)

    return make


def report(output: Path | None, page: bool) -> Callable[[Outcome], None]:
    """Says what came of each round, and writes the file, if there is one."""
    from archdsl.common.marks import save

    def announce(outcome: Outcome) -> None:
        write_diagnostics(outcome.diagnostics)
        took = f"({outcome.seconds:.2f} s)"
        errors = sum(d.severity == "error" for d in outcome.diagnostics)
        if outcome.result is None:
            why = outcome.trouble or f"{errors} error{'s' * (errors != 1)}"
            say(f"{why}; {'the last page stays' if page else 'nothing is written'} {took}")
        elif output is not None:
            save(output, outcome.result, comment_of(output))
            say(f"{output.name} written {took}")
        else:
            say(f"page renewed {took}" if page else outcome.result.decode().rstrip())

    return announce


def comment_of(output: Path) -> str:
    """How a line comment begins in the format of a file, for the mark."""
    return next((form.comment for form in FORMATS if form.ending == output.suffix.lower()), "")


def say(text: str) -> None:
    """Writes a line with the time of day, at once."""
    write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    if sys.stdout is not None:
        sys.stdout.flush()
