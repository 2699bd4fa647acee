"""Generates the reference from the code (`make docs`): errors.md, commands.md, and parts of python.md
and of the pages of the language.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click

import archdsl
from archdsl.augment import CHANGES
from archdsl.cli import cli
from archdsl.common.limits import WHAT, Limits
from archdsl.diagnostics.codes import CODES, GROUPS, Code
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Declaration, Operation, Rules

HERE = Path(__file__).parent
PAGES = [HERE / "python.md", *sorted((HERE / "language").glob("*.md"))]
"""The pages with generated parts."""
ERRORS = HERE / "errors.md"
COMMANDS = HERE / "commands.md"
PART = re.compile(r"(?<=<!-- )(\w+)(: made by `make docs` -->\n).*?(?=<!-- end of \1 -->)", re.DOTALL)


def cell(text: str) -> str:
    """A text in a table, where `|` ends a cell."""
    return text.replace("|", chr(92) + "|")


def operations() -> str:
    """A table of all operations, then a section for each family with an entry for each operation."""
    first_lines = {name: documentation(cls).partition("\n")[0] for name, cls in OPERATIONS.items()}
    rows = [f"| [`{name}`](#{name}) | {cell(line)} |\n" for name, line in first_lines.items()]
    parts = ["\n| operation | |\n| --- | --- |\n", *rows]
    families: dict[str, list[type[Operation]]] = {}
    for cls in OPERATIONS.values():
        families.setdefault(cls.family, []).append(cls)
    for family, members in families.items():
        parts.append(f"\n### {family.capitalize()}\n")
        parts.extend(entry(cls) for cls in members)
    return "".join(parts) + "\n"


def entry(cls: type[Operation]) -> str:
    """One operation: its call with the defaults, its documentation, an example with the sizes."""
    return f"\n#### {cls.name}\n\n`{cls.signature()}`\n\n{documentation(cls)}\n\n{example(cls)}\n"


def changes() -> str:
    """An entry for each augmentation operation."""
    return "\n".join(f"\n`{cls.signature()}`: {documentation(cls)}" for cls in CHANGES.values()) + "\n\n"


def documentation(cls: type[Declaration]) -> str:
    return inspect.getdoc(cls) or ""


def example(cls: type[Operation]) -> str:
    first = cls.examples[0]
    results = cls.parse(first.arguments).infer(first.inputs, Rules())
    sizes = [", ".join(str(list(shape)) for shape in shapes) for shapes in (first.inputs, results)]
    call = cls.spell(first.arguments)
    return f"Example: `{call}` maps {sizes[0]} to {sizes[1]}." if sizes[0] else f"Example: `{call}` gives {sizes[1]}."


def limits() -> str:
    rows = [f"| `{name}` | {getattr(Limits(), name):,} | {what} |\n" for name, what in WHAT.items()]
    return "".join(["\n| limit | default | what it limits |\n| --- | --: | --- |\n", *rows, "\n"])


def renewed(page: str) -> str:
    """The page with its generated parts renewed."""
    parts = {"operations": operations, "changes": changes, "limits": limits, "codes": groups, "functions": functions}
    return PART.sub(lambda match: f"{match[1]}{match[2]}{parts[match[1]]()}", page)


def errors() -> str:
    """The page of errors and warnings."""
    parts = [
        "# Errors and warnings\n\nThe meaning of each code, what to do, and an example. `archdsl explain E0301` prints "
        "an entry. A code has one\nmeaning, which is the same in every release. `make docs` generates this page from "
        "`archdsl/diagnostics/codes/`.\n"
    ]
    for group, about in GROUPS.items():
        members = [code for name, code in CODES.items() if name.startswith(group)]
        parts += [f"\n## {group}…: {about}\n", *map(meaning, members)]
    return "".join(parts)


def meaning(code: Code) -> str:
    shown = f"```\n{code.example}```" if code.example else f"Cause: {code.arises}"
    return f"\n### {code.code}\n\n**{code.title[:1].upper()}{code.title[1:]}.** {code.explanation}\n\n{shown}\n"


def commands() -> str:
    """The page of commands, from their parameters and docstrings."""
    context = click.Context(cli, info_name="archdsl", **cli.context_settings)  # click keeps its -h from the first one
    parts = [
        "# Commands\n\nEvery command with its arguments and options, as `archdsl COMMAND --help` prints them. "
        "What commands share is on\n[the command line](command-line.md). `make docs` generates this page.\n"
    ]
    for name in cli.list_commands(context):
        if (command := cli.get_command(context, name)) is not None and not command.hidden:
            parts.append(about(command, click.Context(command, context, info_name=name)))
    return "".join(parts)


def about(command: click.Command, context: click.Context) -> str:
    """A command: how it is called, what it does, its options."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    # Click keeps the lines of a paragraph that starts with \b.
    help_ = "\n\n".join(f"```\n{p[2:]}\n```" if p.startswith("\b\n") else p for p in paragraphs)
    records = [p.get_help_record(context) for p in command.get_params(context) if isinstance(p, click.Option)]
    rows = "".join(
        f"| `{cell(option)}` | {cell(text).replace('[', chr(92) + '[')} |\n"
        for option, text in filter(None, records)
        if "--help" not in option
    )
    table = f"\n| option | |\n| --- | --- |\n{rows}" if rows else ""
    return f"\n## {context.command_path}\n\n```\n{usage}\n```\n\n{help_}\n{table}"


def functions() -> str:
    """The public names of the package, with signatures and docstrings."""
    parts = []
    for name in archdsl.__all__:
        value = getattr(archdsl, name)
        if callable(value):
            parts.append(f"\n### archdsl.{name}\n\n```py\n{signature(name, value)}\n```\n\n{inspect.getdoc(value)}\n")
    return "".join(parts) + "\n"


class Annotation:
    """A type that is shown as it is written, without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def signature(name: str, value: object) -> str:
    """The call of a function or class with its types, a parameter per line if it is long."""
    assert callable(value)
    found = inspect.signature(value)
    given = [p.replace(annotation=Annotation(str(p.annotation))) for p in found.parameters.values()]
    end = "" if isinstance(value, type) else f" -> {found.return_annotation}"
    one = f"{name}{inspect.Signature(given)}{end}"
    if len(one) <= 100:
        return one
    named = next((i for i, p in enumerate(given) if p.kind is p.KEYWORD_ONLY), None)
    lines = [str(p) for p in given]
    if named is not None:
        lines.insert(named, "*")
    return "".join([f"{name}(\n", *(f"    {line},\n" for line in lines), f"){end}"])


def groups() -> str:
    rows = [f"| {group}… | {about} |\n" for group, about in GROUPS.items()]
    return "".join(["\n| codes | subject |\n| --- | --- |\n", *rows, "\n"])


if __name__ == "__main__":
    ERRORS.write_text(errors(), "utf-8")
    COMMANDS.write_text(commands(), "utf-8")
    for page in PAGES:
        page.write_text(renewed(page.read_text("utf-8")), "utf-8")
