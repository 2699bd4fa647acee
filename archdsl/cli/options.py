"""Arguments and options shared by several commands: parsing, completion and help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

from archdsl.cli.outputs import FORCE, OutputOption, SpecArgument, parse_output
from archdsl.common.choices import AUTO, BYTES, MODES, OPTIMIZERS, UNITS

Command: TypeAlias = Callable[..., int]
Settings: TypeAlias = Mapping[str, str]
Sizes: TypeAlias = Sequence[tuple[int, ...]]


def complete_spec(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes families of the library and, after a colon, models; the shell completes files."""
    from archdsl.checker.spec import models
    from archdsl.elaborate.spec_files import library_families

    if ":" in incomplete:
        file = incomplete.rpartition(":")[0]
        try:
            names = [f"{file}:{model.name}" for model in models(file)]
        except Exception:  # a half-written file has no completions
            names = []
    else:
        names = [f"{family}:" for family in library_families()]
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def parse_sizes(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> list[tuple[int, ...]]:
    from archdsl.common.units import size_from

    try:
        return [size_from(text) for text in given]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def parse_settings(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    settings = {}
    for text in given:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not name.isidentifier() or not value:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE")
        settings[name] = value
    return settings


def parse_length(context: click.Context, parameter: click.Parameter, given: str | None) -> float | None:
    from archdsl.common.units import width_from

    if given is None:
        return None
    try:
        return width_from(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def parse_bytes(context: click.Context, parameter: click.Parameter, given: str | None) -> int | None:
    from archdsl.common.units import memory_from

    try:
        return None if given is None else memory_from(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def parse_limits(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> None:
    """Applies the limits to the whole command."""
    from archdsl.common.limits import WHAT, Limits, limited

    found = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not value.isascii() or not value.isdecimal() or len(value) > 18 or int(value) < 1:
            raise click.BadParameter(f"{text!r} is not of the form NAME=NUMBER")
        if name not in WHAT:
            raise click.BadParameter(f"there is no limit {name!r}; the limits are {', '.join(WHAT)}")
        found[name] = int(value)
    if found:
        context.with_resource(limited(Limits(**found)))


def complete_limit(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from archdsl.common.limits import WHAT

    return [CompletionItem(f"{name}=", help=what) for name, what in WHAT.items() if name.startswith(incomplete)]


def parse_allowed(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> None:
    """Allows code from outside in the whole command, which says what it runs."""
    from archdsl.cli.printing import note
    from archdsl.runtime.outside import allowing

    for text in given:
        module, _, name = text.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), name or "name")):
            raise click.BadParameter(f"{text!r} is not a package, or a name in one (package.module:name)")
    if given:
        context.with_resource(allowing(given, note))


def complete_file(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


spec_argument = click.argument("spec", cls=SpecArgument, shell_complete=complete_spec)
set_option = click.option(
    "--set",
    "settings",
    callback=parse_settings,
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter of the model.",
)
limit_option = click.option(
    "--limit",
    callback=parse_limits,
    expose_value=False,
    multiple=True,
    metavar="NAME=NUMBER",
    shell_complete=complete_limit,
    help="Override a resource limit, such as nodes=1000000 (`archdsl help limits` lists all).",
)
size_option = click.option(
    "--size",
    "sizes",
    callback=parse_sizes,
    multiple=True,
    metavar="3x224x224",
    help="The input size, channels first, without the batch; repeat it for several inputs, in order.",
)
depth_option = click.option(
    "--depth", type=click.IntRange(0), metavar="N", help="Collapse blocks that are nested deeper than N."
)
units_option = click.option(
    "--units",
    type=click.Choice(UNITS),
    default="auto",
    show_default=True,
    help="Numbers of a table as text: short (25.6 M) or raw (all digits); auto: short on a narrow terminal.",
)
columns_option = click.option(
    "--columns",
    callback=lambda context, parameter, given: tuple(k for p in (given or "").split(",") if (k := p.strip())),
    metavar="A,B,C",
    help="The columns of the table, by their names in CSV and JSON; by default, those that fit on the terminal.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")


def model_options(command: Command) -> Command:
    """Adds the options of every command that reads a model."""
    return set_option(limit_option(command))


def output_option(
    help: str, what: str, endings: Sequence[str], *, required: bool = False, stream: bool = False
) -> Callable[[Command], Command]:
    """Adds `-o` and --force. The file must have one of the `endings`; `what` begins the error message ("a picture is").

    With `stream`, a file that is not a regular one may have any name, and `-` is standard output.
    """
    output = click.option(
        "-o",
        "--output",
        cls=OutputOption,
        callback=lambda context, parameter, given: parse_output(given, what, endings, stream=stream),
        required=required,
        metavar="FILE",
        shell_complete=complete_file,
        help=f"{help} Never overwrites an input; overwrites a file that archdsl did not write only with {FORCE}.",
    )
    force = click.option(FORCE, is_flag=True, help="Let -o overwrite a file that archdsl did not write.")
    return lambda command: output(force(command))


weights_option = click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A state_dict (.pt, .pth, .safetensors); the default is random weights.",
)
purpose_option = click.option(
    "--for",
    "purpose",
    type=click.Choice(["training", "inference"]),
    default="training",
    show_default=True,
    help="For inference, batchnorms are folded into the convolutions before them and dropout is removed.",
)
RECOMPUTED = "What a training step recomputes instead of storing: bodies of dense connections, or blocks"
recompute_option = click.option(
    "--recompute", type=click.Choice(MODES), default="none", show_default=True, help=f"{RECOMPUTED}."
)
recompute_or_front_option = click.option(
    "--recompute",
    type=click.Choice([*MODES, AUTO]),
    default="none",
    show_default=True,
    help=f"{RECOMPUTED}; {AUTO} shows how memory falls and time grows.",
)
memory_option = click.option(
    "--memory",
    callback=parse_bytes,
    metavar="8GiB",
    help="Recompute as little as a training step needs to fit into this memory.",
)
stages_option = click.option(
    "--stages",
    type=click.IntRange(1),
    metavar="N",
    help="Write N modules, the stages of a pipeline, instead of one (`archdsl plan` shows them).",
)
parallel_option = click.option(
    "--parallel",
    is_flag=True,
    help="Give the file a function, parallelize, that spreads a training over many GPUs (`archdsl help many-gpus`).",
)
batch_option = click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Batch size."
)
dtype_option = click.option("--dtype", type=click.Choice([*BYTES]), default="float32", show_default=True)
optimizer_option = click.option("--optimizer", type=click.Choice([*OPTIMIZERS]), default="adam", show_default=True)


def training_options(command: Command) -> Command:
    """Adds what the memory of a training step depends on."""
    return batch_option(dtype_option(optimizer_option(command)))


extern_option = click.option(
    "--allow-extern",
    callback=parse_allowed,
    expose_value=False,
    multiple=True,
    metavar="PACKAGE",
    help="Allow the spec to run code of this package (`extern`); a function by its full name, package.module:function.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed for random weights."
)
