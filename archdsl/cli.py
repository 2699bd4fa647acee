"""The command line: arguments in; diagnostics, tables, pictures and modules out.

Exit status: 0 fine, 1 the spec is wrong, 2 the command line or the machine is (an unknown option, a folder that is not
there, a full disk). Only click is imported at once; what a command needs is imported when it runs, so that `--help` and
completion answer quickly.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import click
from click.shell_completion import CompletionItem, get_completion_class

from archdsl import __version__

if TYPE_CHECKING:
    from archdsl.diagnostics import Diagnostic
    from archdsl.graph import Graph
    from archdsl.layers import Layers
    from archdsl.modules import Module
    from archdsl.tables import Table

PROGRAM = "archdsl"

FINE = 0
SPEC_WRONG = 1
USAGE_WRONG = 2
# Beyond those three, what a shell expects: sysexits' EX_SOFTWARE, and 128 + SIGINT, 128 + SIGPIPE.
BROKEN = 70
INTERRUPTED = 130
PIPE_CLOSED = 141

# As archdsl.memory has them, which --help need not import.
DTYPES = ("float64", "float32", "float16", "bfloat16")
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam", "adamw")

PLOTS = (".svg", ".png", ".pdf")
PICTURES = (".svg", ".png", ".pdf", ".dot", ".tex")
PAGES = (*PICTURES, ".html")

Command: TypeAlias = Callable[..., int]
Settings: TypeAlias = Mapping[str, str]
Sizes: TypeAlias = Sequence[tuple[int, ...]]


# ---------------------------------------------------------------- arguments


def complete_spec(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Families of the library and, behind a colon, models; files come from the shell."""
    from archdsl import compiler
    from archdsl.modules import library_families

    if ":" in incomplete:
        file = incomplete.rpartition(":")[0]
        try:
            names = [f"{file}:{model.name}" for model in compiler.models(file)]
        except Exception:  # a half-written file completes to nothing
            names = []
    else:
        names = [f"{family}:" for family in library_families()]
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def parse_sizes(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> list[tuple[int, ...]]:
    sizes = []
    for text in given:
        parts = text.replace("×", "x").split("x")
        if not all(p.isascii() and p.isdecimal() and len(p) < 10 and int(p) > 0 for p in parts):
            raise click.BadParameter(f"{text!r} is not a size such as 3x224x224")
        sizes.append(tuple(int(p) for p in parts))
    return sizes


def parse_settings(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    settings = {}
    for text in given:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not name.isidentifier() or not value:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE")
        settings[name] = value
    return settings


def parse_bytes(context: click.Context, parameter: click.Parameter, given: str | None) -> int | None:
    from archdsl.units import bytes_from

    if given is None:
        return None
    if not (found := bytes_from(given)):
        raise click.BadParameter(f"{given!r} is not an amount of memory such as 16GiB")
    return found


def parse_limits(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> None:
    """Puts the limits in force for the whole command."""
    from archdsl.limits import WHAT, Limits, limited

    found = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not value.isascii() or not value.isdecimal() or len(value) > 18 or int(value) < 1:
            raise click.BadParameter(f"{text!r} is not of the form NAME=NUMBER")
        if name not in WHAT:
            raise click.BadParameter(f"there is no limit {name!r}; there are {', '.join(WHAT)}")
        found[name] = int(value)
    if found:
        context.with_resource(limited(Limits(**found)))


def complete_limit(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from archdsl.limits import WHAT

    return [CompletionItem(f"{name}=", help=what) for name, what in WHAT.items() if name.startswith(incomplete)]


def parse_output(context: click.Context, parameter: click.Parameter, given: str | None) -> Path | None:
    """The file to write; None for standard output. A folder that is not there is said before any work."""
    if given is None or given == "-":
        return None
    path = Path(given)
    if "\0" in given:
        raise click.BadParameter("a file name cannot hold a NUL")
    if path.is_dir():
        raise click.BadParameter(f"{given} is a folder")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    return path


def complete_file(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


spec_argument = click.argument("spec", shell_complete=complete_spec)
set_option = click.option(
    "--set",
    "settings",
    callback=parse_settings,
    multiple=True,
    metavar="NAME=VALUE",
    help="Sets a parameter of the model.",
)
limit_option = click.option(
    "--limit",
    callback=parse_limits,
    expose_value=False,
    multiple=True,
    metavar="NAME=NUMBER",
    shell_complete=complete_limit,
    help="Allow a spec more, or less, than usual: nodes=1000000, say (docs/language.md lists the limits).",
)
size_option = click.option(
    "--size",
    "sizes",
    callback=parse_sizes,
    multiple=True,
    metavar="3x224x224",
    help="The size of the input, channels first, without the batch; of several inputs, one after the other.",
)
depth_option = click.option(
    "--depth", type=click.IntRange(0), metavar="N", help="Fold blocks that stand deeper than N within others."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")


def output_option(help: str, *, required: bool = False) -> Callable[[Command], Command]:
    return click.option(
        "-o",
        "--output",
        callback=parse_output,
        required=required,
        metavar="FILE",
        shell_complete=complete_file,
        help=help,
    )


# ---------------------------------------------------------------- commands


class PipeClosed(Exception):
    """Whoever read our output has gone."""


class Program(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        """Runs a command. Click would end a closed pipe by status 1, which means a wrong spec here."""
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
    """


@cli.command()
@click.argument("specs", nargs=-1, required=True, shell_complete=complete_spec, metavar="SPEC...")
@set_option
@limit_option
@size_option
@click.option("--why", is_flag=True, help="Say which line of the spec narrowed the valid input sizes, and to what.")
@json_option
def check(specs: Sequence[str], settings: Settings, sizes: Sizes, why: bool, as_json: bool) -> int:
    """Say what is wrong with a spec or, a line a model, what goes in and out and for which sizes.

    A file stands for all its models whose parameters all have values.
    """
    from archdsl import report
    from archdsl.checker import pin
    from archdsl.diagnostics import as_data

    graphs: list[Graph] = []
    diagnostics: list[Diagnostic] = []
    for spec in specs:
        with collecting(diagnostics):
            module, names, values = select(spec, settings, every=True)
            for name in names:
                with collecting(diagnostics):
                    graphs.append(check_model(module, name, values, sizes))
    diagnostics += [warning for graph in graphs for warning in graph.warnings]
    if as_json:
        write_json({"models": [report.summary_data(g) for g in graphs], "diagnostics": as_data(diagnostics)})
    else:
        complain(diagnostics)
        for graph in graphs:
            write(report.summary(graph, pin(graph, sizes)) + "\n")
            if why:
                write(report.why(graph))
    return SPEC_WRONG if any(d.severity == "error" for d in diagnostics) else FINE


@cli.command()
@click.argument("specs", nargs=-1, required=True, shell_complete=complete_spec, metavar="SPEC...")
@set_option
@limit_option
@size_option
@click.option("--batch", type=click.IntRange(1), default=1, metavar="N", help="Samples at once; 1 if not said.")
@depth_option
@click.option("--flops", is_flag=True, help="Count all operations, too, not only multiply-accumulates.")
@click.option("--wide", is_flag=True, help="All columns: what is trainable, frozen, buffers, the fields' offset.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adam", show_default=True)
@click.option("--gpu-memory", callback=parse_bytes, metavar="16GiB", help="Tell the largest batch for so much memory.")
@click.option("--csv", "form", flag_value="csv", help="Write comma-separated values.")
@click.option("--markdown", "form", flag_value="markdown", help="Write a Markdown table.")
@click.option("--latex", "form", flag_value="latex", help="Write a LaTeX table, for the package booktabs.")
@output_option("Draw plots of the costs to a .svg, .png or .pdf file.")
@json_option
def show(
    specs: Sequence[str],
    settings: Settings,
    sizes: Sizes,
    batch: int,
    depth: int | None,
    flops: bool,
    wide: bool,
    dtype: str,
    optimizer: str,
    gpu_memory: int | None,
    form: str | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Show the network as a table: what each layer gives, holds, computes and sees, and what the whole takes.

    Where input sizes are free, amounts are formulas of them; --size makes them numbers. Several SPECs are compared, a
    row of totals each.
    """
    from archdsl import report
    from archdsl.checker import pin
    from archdsl.layers import Layers, Options

    if form and as_json:
        raise click.UsageError(f"--{form} and --json exclude each other")
    if output is not None and output.suffix.lower() not in PLOTS:
        raise click.BadParameter(f"plots are a file that ends with {', '.join(PLOTS)}", param_hint="-o")
    models = []
    for spec in progress(specs):
        graph = checked(spec, settings, sizes)
        all_columns = wide or as_json or form == "csv"
        options = Options(pin(graph, sizes), batch, depth, flops, all_columns, dtype, optimizer, gpu_memory)
        models.append(Layers(graph, options))
    if output is not None:
        write_plots(models, output)
    elif len(models) > 1:
        compare_models(models, form, as_json)
    elif as_json:
        write_json({**report.summary_data(models[0].graph), **models[0].as_data()})
    elif form is not None:
        write(getattr(models[0].table, f"as_{form}")())
    else:
        write(report.summary(models[0].graph) + "\n" + report.augmentation(models[0].graph) + "\n")
        write_table(models[0].table)
        write_lines(models[0].notes)
        lines = models[0].totals()
        width = max(len(name) for name, _ in lines)
        write_lines([f"{name:{width}}  {text}" for name, text in lines])
    return FINE


def compare_models(models: Sequence[Layers], form: str | None, as_json: bool) -> None:
    from archdsl import totals

    table = totals.side_by_side(models)
    if as_json:
        write_json({"models": table.as_data()})
    elif form is not None:
        write(getattr(table, f"as_{form}")())
    else:
        write_table(table)
        write_lines(totals.notes(models))


def write_plots(models: Sequence[Layers], output: Path) -> None:
    from archdsl import totals
    from archdsl.files import write_whole

    try:
        data = totals.plot(models, output.suffix.lower()[1:])
    except totals.NoPlots:
        raise click.UsageError("plots need matplotlib: pip install 'archdsl[plots]'") from None
    write_whole(output, data)


@cli.command()
@click.argument("spec", shell_complete=complete_spec, metavar="SPEC[:PATH]")
@set_option
@size_option
def explain(spec: str, settings: Settings, sizes: Sizes) -> int:
    """Tell the story of a model, or how a layer or block of it works, in words and numbers.

    PATH is that of a layer or block, as `archdsl show` lists them: resnet:resnet50:layer1.0.conv1.
    """
    from archdsl import explain as telling
    from archdsl.checker import pin
    from archdsl.diagnostics import SpecError

    path = None
    try:
        graph = checked(spec, settings, sizes)
    except SpecError:
        # What stands behind the last colon may be a path, where a spec stands before it.
        head, colon, path = spec.rpartition(":")
        found = None
        with contextlib.suppress(SpecError):
            found = checked(head, settings, sizes) if colon and path else None
        if found is None:
            raise
        graph = found
    write(telling.explain(graph, path, pin(graph, sizes)))
    return FINE


@cli.command()
@spec_argument
@output_option("A .svg, .png, .pdf, .dot, .tex (TikZ) or .html (a page to walk through) file.", required=True)
@set_option
@limit_option
@size_option
@depth_option
@click.option(
    "--style",
    type=click.Choice(["boxes", "volumes"]),
    default="boxes",
    show_default=True,
    help="volumes: feature maps.",
)
@click.option("--theme", type=click.Choice(["light", "dark", "print"]), default="light", show_default=True)
@click.option("--direction", type=click.Choice(["down", "right"]), default="down", show_default=True)
def draw(
    spec: str,
    output: Path | None,
    settings: Settings,
    sizes: Sizes,
    depth: int | None,
    style: str,
    theme: str,
    direction: str,
) -> int:
    """Draw the network; the ending of the file says in which form."""
    from archdsl import compiler
    from archdsl.checker import pin

    if output is None or output.suffix.lower() not in PAGES:
        raise click.BadParameter(f"a picture is a file that ends with {', '.join(PAGES)}", param_hint="-o")
    graph = checked(spec, settings, sizes)
    options: dict[str, object] = {"depth": depth, "style": style, "theme": theme, "direction": direction}
    if graph.augment is not None:
        from archdsl.running import augmented_examples

        options["examples"] = augmented_examples(graph)
    compiler.draw(graph, **options, sizes=pin(graph, sizes)).save(output)
    return FINE


@cli.command()
@spec_argument
@output_option("The .py file to write; standard output if none.")
@set_option
@limit_option
def build(spec: str, output: Path | None, settings: Settings) -> int:
    """Compile the network to a PyTorch module, one file that imports torch alone."""
    from archdsl import compiler
    from archdsl.files import write_whole

    data = compiler.build(checked(spec, settings)).encode()
    if output is not None:
        write_whole(output, data)
    elif sys.stdout is not None:
        # Python source is UTF-8, whatever the terminal speaks.
        sys.stdout.buffer.write(data)
    return FINE


@cli.command()
@click.argument("before", shell_complete=complete_spec)
@click.argument("after", shell_complete=complete_spec, required=False)
@set_option
@click.option(
    "--set-before", callback=parse_settings, multiple=True, metavar="NAME=VALUE", help="As --set, of BEFORE alone."
)
@click.option(
    "--set-after", callback=parse_settings, multiple=True, metavar="NAME=VALUE", help="As --set, of AFTER alone."
)
@size_option
@output_option("Write a diagram with the changes marked: a .svg, .png, .pdf, .dot or .tex file.")
@depth_option
@click.option("--theme", type=click.Choice(["light", "dark", "print"]), default="light", show_default=True)
@click.option("--direction", type=click.Choice(["down", "right"]), default="down", show_default=True)
@click.option("--csv", "form", flag_value="csv", help="Write comma-separated values.")
@click.option("--markdown", "form", flag_value="markdown", help="Write a Markdown table.")
@json_option
def diff(
    before: str,
    after: str | None,
    settings: Settings,
    set_before: Settings,
    set_after: Settings,
    sizes: Sizes,
    output: Path | None,
    depth: int | None,
    theme: str,
    direction: str,
    form: str | None,
    as_json: bool,
) -> int:
    """Show what differs between two networks: what was added, removed or changed, and what that costs.

    Without AFTER, BEFORE stands against itself with other settings: diff resnet:resnet18 --set-after classes=10.
    """
    from archdsl import compare, compiler
    from archdsl.checker import pin

    if form and as_json:
        raise click.UsageError(f"--{form} and --json exclude each other")
    if output is not None and output.suffix.lower() not in PICTURES:
        raise click.BadParameter(f"a picture is a file that ends with {', '.join(PICTURES)}", param_hint="-o")
    old = checked(before, {**settings, **set_before}, sizes)
    new = checked(after or before, {**settings, **set_after}, sizes)
    found = compiler.diff(old, new, (pin(old, sizes), pin(new, sizes)))
    if output is not None:
        compiler.draw(found, depth=depth, theme=theme, direction=direction).save(output)
    if as_json:
        write_json(compare.as_data(found))
    elif form is not None:
        write(getattr(compare.table(found), f"as_{form}")())
    else:
        if found.changes:
            write_table(compare.table(found))
            write("\n")
        lines = compare.totals(found)
        width = max(len(name) for name, _ in lines)
        write("".join(f"{name:{width}}  {text}\n" for name, text in lines))
    return FINE


@cli.command("list")
@click.argument("file", required=False, shell_complete=complete_spec)
@json_option
def list_models(file: str | None, as_json: bool) -> int:
    """List the models of a file, or of the library that ships with archdsl."""
    from archdsl import report
    from archdsl.compiler import models
    from archdsl.modules import library_families

    found = {family: models(family) for family in ([file] if file else library_families())}
    if as_json:
        write_json(report.models_data(found))
    else:
        write_table(report.models_table(found))
    return FINE


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


def weights_option(command: Command) -> Command:
    return click.option(
        "--weights",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A state_dict (.pt, .pth, .safetensors); without it, the weights are random.",
    )(command)


seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of random weights.")


@cli.command()
@spec_argument
@weights_option
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of pictures; without it, photographs that scikit-image ships.",
)
@output_option("An .svg file for the curves.")
@set_option
@limit_option
@size_option
@seed_option
@click.option("--csv", "as_csv", is_flag=True, help="Write comma-separated values, all of them.")
@json_option
def probe(
    spec: str,
    weights: Path | None,
    images: Path | None,
    output: Path | None,
    settings: Settings,
    sizes: Sizes,
    seed: int,
    as_csv: bool,
    as_json: bool,
) -> int:
    """Measure what a network is invariant or equivariant to.

    Pictures are flipped, shifted, turned, scaled, recoloured. For the output the table says how far it moves, for the
    blocks how far their feature maps are from moving likewise: 0 not at all, 1 as far as to another picture.
    """
    from archdsl import probe as probing
    from archdsl.checker import pin
    from archdsl.files import write_whole

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    if output is not None and output.suffix.lower() != ".svg":
        raise click.BadParameter("curves are a file that ends with .svg", param_hint="-o")
    graph = checked(spec, settings, sizes)
    with running():
        found = probing.probe(graph, weights=weights, images=images, sizes=pin(graph, sizes), seed=seed)
        drawn = probing.curves(found) if output is not None else b""
    if output is not None:
        write_whole(output, drawn)
    if as_json:
        write_json({"model": found.name, "on": found.on, "measured": found.as_table().as_data()})
    elif as_csv:
        write(found.as_table().as_csv())
    else:
        write(f"{found.name}: {found.on}\n\n")
        write_table(found.table())
        write(f"\n{probing.NOTE}\n")
    return FINE


def parse_units(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> list[tuple[str, int, int]]:
    units = []
    for text in given:
        path, _, place = text.rpartition(":")
        row, comma, column = place.partition(",")
        if not path or not comma or not row.isdecimal() or not column.isdecimal():
            raise click.BadParameter(f"{text!r} is not of the form PATH:ROW,COLUMN")
        units.append((path, int(row), int(column)))
    return units


@cli.command()
@spec_argument
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The picture to show to the network.",
)
@output_option("A .html, .svg or .png file.", required=True)
@weights_option
@click.option("--at", multiple=True, metavar="PATH", help="A block or convolution to watch, in place of the default.")
@click.option(
    "--unit",
    "units",
    multiple=True,
    callback=parse_units,
    metavar="PATH:ROW,COLUMN",
    help="Draw the receptive field of this unit, in place of the one excited most.",
)
@set_option
@limit_option
@size_option
@seed_option
def look(
    spec: str,
    image: Path,
    output: Path | None,
    weights: Path | None,
    at: Sequence[str],
    units: Sequence[tuple[str, int, int]],
    settings: Settings,
    sizes: Sizes,
    seed: int,
) -> int:
    """Show the network a picture and draw it with what it sees: filters, feature maps, receptive fields."""
    from archdsl import look as looking
    from archdsl.checker import pin
    from archdsl.files import write_whole

    if output is None or output.suffix.lower() not in looking.FORMATS:
        raise click.BadParameter(f"the look is a file that ends with {', '.join(looking.FORMATS)}", param_hint="-o")
    graph = checked(spec, settings, sizes)
    with running():
        found = looking.look(
            graph,
            image,
            weights=weights,
            at=at,
            units=[looking.Unit(*unit) for unit in units],
            sizes=pin(graph, sizes),
            seed=seed,
        )
        data = found.data(output.suffix.lower())
    write_whole(output, data)
    return FINE


@cli.command()
@spec_argument
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write what fits (.safetensors or .pth).")
@click.option(
    "--rename", "rules", metavar="OLD=NEW", multiple=True, help="New names for keys; `*` stands for any text."
)
@set_option
@json_option
def weights(spec: str, file: Path, output: Path | None, rules: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Say which weights of a file fit the network, by key and shape; write those.

    FILE is a state_dict: .safetensors, or .pth, of which nothing but tensors is read.
    """
    from archdsl import weights as weighing
    from archdsl.files import write_whole

    pairs = []
    for rule in rules:
        old, equals, new = rule.partition("=")
        if not equals or not old:
            raise click.BadParameter(f"{rule!r} is not OLD=NEW", param_hint="--rename")
        pairs.append((old, new))
    graph = checked(spec, settings)
    try:
        state, match = weighing.fit(graph, file, pairs)
    except weighing.WeightsError as error:
        raise click.ClickException(str(error)) from None
    if output is not None:
        write_whole(output, weighing.write_state(output, state))
    if as_json:
        write_json(match.as_data())
    else:
        write(match.as_text() + "\n")
    return FINE


@cli.command()
@spec_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A .pt2 or .onnx file.")
@weights_option
@set_option
def export(spec: str, output: Path, weights: Path | None, settings: Settings) -> int:
    """Export the network for other runtimes: .pt2 (torch.export) or .onnx, free in the batch and in the free sizes."""
    from archdsl import export as exporting
    from archdsl.files import write_whole
    from archdsl.weights import WeightsError

    graph = checked(spec, settings)
    try:
        write_whole(output, exporting.export(graph, output, weights))
    except (exporting.ExportError, WeightsError) as error:
        raise click.ClickException(str(error)) from None
    return FINE


@contextlib.contextmanager
def running() -> Iterator[None]:
    """What cannot be run, or drawn, is said in one line."""
    from archdsl.running import RunError

    try:
        yield
    except RunError as error:
        raise click.ClickException(str(error)) from None


# ---------------------------------------------------------------- specs


def select(spec: str, settings: Settings, *, every: bool = False) -> tuple[Module, list[str], dict[str, object]]:
    """The file of a SPEC, the models that it means there (`every`: all that can be compiled), the values of `--set`.

    Raises SpecError.
    """
    from archdsl import compiler
    from archdsl.diagnostics import Diagnostics

    diagnostics = Diagnostics()
    module, name = compiler.locate(spec, diagnostics)
    values = {key: compiler.value_from_text(text, module, diagnostics) for key, text in settings.items()}
    models = [compiler.model_info(module, model, diagnostics) for model in module.models]
    ready = [model.name for model in models if model.missing <= values.keys()]
    if name is None and (every or len(ready) == 1) and ready:
        return module, ready, values
    return module, [compiler.pick(module, name, diagnostics)], values


def check_model(module: Module, name: str, values: dict[str, object], sizes: Sizes) -> Graph:
    """The checked graph of a model that takes inputs of these sizes. Raises SpecError."""
    from archdsl import compiler
    from archdsl.checker import pin
    from archdsl.diagnostics import Diagnostics

    graph = compiler.check_model(module, name, values, Diagnostics())
    pin(graph, sizes)
    return graph


def checked(spec: str, settings: Settings, sizes: Sizes = ()) -> Graph:
    """The checked graph of the one model that a SPEC means, its warnings told. Raises SpecError."""
    module, (name,), values = select(spec, settings)
    graph = check_model(module, name, values, sizes)
    complain(graph.warnings)
    return graph


@contextlib.contextmanager
def collecting(diagnostics: list[Diagnostic]) -> Iterator[None]:
    """Takes what is wrong with a spec down, so that the next one has its turn."""
    from archdsl.diagnostics import SpecError

    try:
        yield
    except SpecError as error:
        diagnostics.extend(error.diagnostics)


# ---------------------------------------------------------------- output


def write(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)


def write_lines(lines: Sequence[str]) -> None:
    """Lines below a table."""
    write("\n" + "".join(f"{line}\n" for line in lines))


def progress(specs: Sequence[str]) -> Iterator[str]:
    """The specs, with a bar on a terminal while they are many."""
    if len(specs) < 4 or sys.stderr is None or not sys.stderr.isatty():
        yield from specs
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(specs, "reading", console=Console(stderr=True), transient=True)


def write_json(data: object) -> None:
    write(json.dumps(data, indent=2) + "\n")


def write_table(table: Table) -> None:
    if sys.stdout is not None and sys.stdout.isatty():
        table.print_rich()
    else:
        write(table.as_text())


def complain(diagnostics: Sequence[Diagnostic]) -> None:
    """Diagnostics go to standard error, in colour where a person sees it."""
    from archdsl.diagnostics import render

    if diagnostics and sys.stderr is not None:
        color = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        sys.stderr.write(render(diagnostics, color=color) + "\n")


PLAIN = {
    "×": "x",
    "→": "->",
    "⌊": "floor(",
    "⌋": ")",
    "⌈": "ceil(",
    "⌉": ")",
    "≡": "=",
    "≥": ">=",
    "…": "...",
    "·": "*",
}


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an output cannot encode."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


def _prepare(*streams: object) -> None:
    codecs.register_error("archdsl.plainer", _plainer)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="archdsl.plainer")


def _abandon_stdout() -> None:
    """Lets what is still buffered go nowhere, so that the interpreter's last flush cannot fail again."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {message}", file=sys.stderr)
    return status


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, by default that of the process, and gives the exit status; never raises."""
    from archdsl.diagnostics import SpecError

    try:
        return int(cli.main(arguments, prog_name=PROGRAM, standalone_mode=False) or FINE)
    except SpecError as error:
        complain(error.diagnostics)
        return SPEC_WRONG
    except click.ClickException as error:
        error.show()
        return USAGE_WRONG
    except (click.Abort, KeyboardInterrupt):
        _abandon_stdout()
        return _fail("interrupted", INTERRUPTED)
    except PipeClosed:
        _abandon_stdout()
        return PIPE_CLOSED
    except OSError as error:
        _abandon_stdout()
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", USAGE_WRONG)
    except MemoryError:
        return _fail("the memory is full", USAGE_WRONG)
    except Exception as error:
        if os.environ.get("ARCHDSL_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(f"a bug of archdsl, please report it with the spec ({what}; ARCHDSL_DEBUG=1 shows more)", BROKEN)


def main() -> NoReturn:
    """The program `archdsl`."""
    # A short process makes little garbage and much that stays: looking for the one among the other takes its time.
    gc.set_threshold(200_000, 50, 50)
    _prepare(sys.stdout, sys.stderr)
    sys.exit(run())


if __name__ == "__main__":
    main()
