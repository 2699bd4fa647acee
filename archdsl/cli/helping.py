"""The command that prints documentation: help."""

from __future__ import annotations

import sys

import click

from archdsl.cli.printing import write
from archdsl.cli.program import FINE, cli


@cli.command("help")
@click.argument("topic", nargs=-1)
@click.pass_context
def show_help(context: click.Context, topic: tuple[str, ...]) -> int:
    """Print the documentation: a page, or what it says about a topic.

    TOPIC is a command (help draw), a page (help language), the name of an operation (help conv), or a heading of a page
    (help limits; help sizes of inputs). Without TOPIC, it lists the pages.
    """
    wanted = " ".join(topic).lower()
    if isinstance(command := cli.get_command(context, wanted), click.Command):
        write(command.get_help(click.Context(command, context.parent, wanted)) + "\n")
        return FINE
    from archdsl.common.pages import sections
    from archdsl.diagnostics import did_you_mean

    found = sections()
    if not wanted:
        pages = [section for section in found if section.level == 1]
        width = max(len(section.page) for section in pages)
        write("".join(f"{section.page:{width}}  {section.title}\n" for section in pages))
        return FINE
    chosen = [section for section in found if section.topic == wanted]
    # A heading that only begins with the words will do, if none has just these.
    chosen = chosen or [section for section in found if section.topic.startswith(wanted)]
    if not chosen:
        near = did_you_mean(wanted, [section.topic for section in found]) or "`archdsl help` lists the pages"
        raise click.UsageError(f"there is no page or heading {wanted!r}; {near}")
    best = min(section.level for section in chosen)
    show("\n".join(section.text for section in chosen if section.level == best))
    return FINE


def show(text: str) -> None:
    """Prints Markdown: formatted on a terminal, as it is elsewhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        write(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.pager(styles=True):
        console.print(Markdown(text))
