"""Commands that report on specs: check, show, explain, diff, list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from archdsl.backends.diagram.formats import DIRECTIONS, FORMATS, THEMES, listed
from archdsl.cli.options import (
    Settings,
    Sizes,
    batch_option,
    columns_option,
    complete_spec,
    depth_option,
    dtype_option,
    json_option,
    model_options,
    optimizer_option,
    output_option,
    parse_bytes,
    parse_settings,
    purpose_option,
    recompute_or_front_option,
    size_option,
    units_option,
)
from archdsl.cli.outputs import SpecArgument
from archdsl.cli.printing import (
    busy,
    progress,
    room,
    write,
    write_diagnostics,
    write_json,
    write_lines,
    write_table,
    write_text,
)
from archdsl.cli.program import DIFFERENT, FINE, SPEC_WRONG, cli
from archdsl.cli.specs import check_model, checked, collecting, named, select, split_path
from archdsl.common.choices import AUTO, PLOTS, Budget

if TYPE_CHECKING:
    from archdsl.common.choices import Mode, Units
    from archdsl.diagnostics import Diagnostic
    from archdsl.elaborate.spec_files import SpecFile
    from archdsl.graph import Graph
    from archdsl.report.layers import Layers

MARKED = tuple(form for form in FORMATS if form.compares)
"""The formats of a picture of changes."""


# Networks with this many layers take seconds.
MANY = 5_000

# The pattern of codes, so that no command imports their registry to recognise one.
CODE = re.compile(r"[EW][0-9]{3,5}", re.IGNORECASE)


@cli.command()
@click.argument("specs", cls=SpecArgument, nargs=-1, required=True, shell_complete=complete_spec, metavar="SPEC...")
@model_options
@size_option
@click.option("--why", is_flag=True, help="Show which line of the spec narrowed the valid input sizes, and to what.")
@click.option("--strict", is_flag=True, help="Fail on warnings, too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
    help="github shows errors beside the code of a pull request; sarif is for code scanning.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
def check(specs: Sequence[str], settings: Settings, sizes: Sizes, why: bool, strict: bool, form: str) -> int:
    """Validate specs; print inputs, outputs and valid sizes.

    A valid model takes one line, with its valid input sizes.
    A file means all its models whose parameters all have values. A file without one is parsed, its values are
    computed, and a line says what it holds: its blocks are checked where a model calls them.

    Exit status: 0 all is valid; 1 a spec is wrong, or with --strict has a warning; 2 the command line is wrong.
    """
    from archdsl.diagnostics import Diagnostics

    graphs: list[Graph] = []
    others: list[SpecFile] = []
    found: list[Diagnostic] = []
    for spec in specs:
        with collecting(found):
            spec_file, names, values = select(spec, settings, every=True)
            others += [] if names else [spec_file]
            for name in names:
                with collecting(found):
                    graphs.append(check_model(spec_file, name, values, sizes))
    # Models of one file share its diagnostics.
    diagnostics = Diagnostics()
    for diagnostic in (*found, *(warning for graph in graphs for warning in graph.warnings)):
        diagnostics.add(diagnostic)
    write_checked(form, graphs, others, diagnostics.items, sizes, why)
    return SPEC_WRONG if diagnostics.errors or (strict and diagnostics.items) else FINE


def write_checked(
    form: str,
    graphs: Sequence[Graph],
    others: Sequence[SpecFile],
    diagnostics: Sequence[Diagnostic],
    sizes: Sizes,
    why: bool,
) -> None:
    """Writes what `check` found; `others` are files without a complete model."""
    from archdsl.checker.finished_graph import pin
    from archdsl.diagnostics import as_data
    from archdsl.report import findings
    from archdsl.report import summary as report

    if form == "json":
        files = [{"file": file.source.name, **report.contents(file)} for file in others]
        models = [report.summary_data(graph) for graph in graphs]
        write_json({"models": models, "files": files, "diagnostics": as_data(diagnostics)})
    elif form == "sarif":
        write_json(findings.sarif(diagnostics))
    elif form == "github":
        write(findings.github(diagnostics))
    else:
        write_diagnostics(diagnostics)
        for graph in graphs:
            write(report.summary(graph, pin(graph, sizes)) + "\n")
            if why:
                write(report.why(graph))
        for file in others:
            write(report.contents_line(file) + "\n")


@cli.command()
@click.argument("specs", cls=SpecArgument, nargs=-1, required=True, shell_complete=complete_spec, metavar="SPEC...")
@model_options
@size_option
@batch_option
@depth_option
@click.option("--flops", is_flag=True, help="Also count all floating-point operations, not only multiply-accumulates.")
@click.option("--wide", is_flag=True, help="Show all columns (trainable, frozen, buffers, offset).")
@dtype_option
@optimizer_option
@click.option("--gpu-memory", callback=parse_bytes, metavar="16GiB", help="Report the largest batch that fits.")
@recompute_or_front_option
@purpose_option
@columns_option
@units_option
@click.option("--csv", "form", flag_value="csv", help="Write comma-separated values.")
@click.option("--markdown", "form", flag_value="markdown", help="Write a Markdown table.")
@click.option("--latex", "form", flag_value="latex", help="Write a LaTeX table (needs booktabs).")
@output_option(
    "Plot the costs to a .svg, .png or .pdf file; then print a table only if its format is given.",
    "plots are",
    PLOTS,
)
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
    recompute: Mode | Literal["auto"],
    purpose: str,
    columns: tuple[str, ...],
    units: Units,
    form: str | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Show the network as a table, one row per layer.

    The columns are output sizes, parameters, MACs, memory and receptive fields; totals follow. If input sizes are
    free, amounts are formulas of them; --size turns them into numbers. Several SPECs are compared, one row of totals
    each. --for inference shows the module that `build --for inference` writes, with the memory that it needs.
    """
    from archdsl.checker.finished_graph import pin
    from archdsl.report.layers import Layers, Options
    from archdsl.report.shown import report
    from archdsl.report.summary import summary_data
    from archdsl.transform.inference import for_inference

    inference = purpose == "inference"
    if form and as_json:
        raise click.UsageError(f"--{form} and --json are mutually exclusive")
    if inference and recompute != "none":
        raise click.UsageError("--recompute cannot be used with --for inference, which has no backward pass")
    if recompute == AUTO:
        if len(specs) > 1:
            raise click.UsageError(f"--recompute {AUTO} shows one SPEC")
        graph = checked(specs[0], settings, sizes)
        budget = Budget(0, batch, dtype, optimizer, tuple(pin(graph, sizes).items()))
        return show_front(graph, budget, "json" if as_json else form, output)
    models = []
    for spec in progress(specs):
        graph = checked(spec, settings, sizes)
        all_columns = wide or as_json or form == "csv"
        graph = for_inference(graph)[0] if inference else graph
        options = Options(
            pin(graph, sizes),
            batch,
            depth,
            flops,
            all_columns,
            dtype,
            optimizer,
            gpu_memory,
            recompute,
            columns,
            inference,
        )
        models.append(model := Layers(graph, options))
        with busy(f"counting {len(graph):,} layers", long=len(graph) > MANY):
            model.count()
    if output is not None:
        write_plots(models, output)
        if not (form or as_json):
            return FINE
    try:
        found = report(models, None if form or as_json else room(), units)
    except ValueError as wrong:
        raise click.UsageError(str(wrong)) from wrong
    if as_json and len(models) > 1:
        write_json({"models": found.table.as_data()})
    elif as_json:
        write_json({**summary_data(models[0].graph), **models[0].as_data()})
    elif form is not None:
        write(getattr(found.table, f"as_{form}")())
    else:
        write_text(found.head)
        write_table(found.table, units, whole=bool(columns))
        write_lines(found.notes)
        if found.totals:
            write_lines(found.total_lines())
    return FINE


def show_front(graph: Graph, budget: Budget, form: str | None, output: Path | None) -> int:
    """Shows the forms for training, of falling memory and growing time."""
    from archdsl.common.marks import save
    from archdsl.report import memory_front
    from archdsl.transform.fitting import front

    with busy(f"trying forms of {graph.name}", long=True):
        plans = front(graph, budget)
    if output is not None:
        save(output, memory_front.plot(graph, plans, budget, output.suffix.lower()[1:]))
    found = memory_front.table(plans)
    if form == "json":
        write_json({"front": memory_front.as_data(plans)})
    elif form is not None:
        write(getattr(found, f"as_{form}")())
    elif output is None:
        write_table(found)
        at = ", ".join(f"{name} = {value}" for name, value in {**graph.examples, **dict(budget.sizes)}.items())
        write_lines(memory_front.notes(budget, at))
    return FINE


def write_plots(models: Sequence[Layers], output: Path) -> None:
    from archdsl.common.marks import save
    from archdsl.report import totals

    save(output, totals.plot(models, output.suffix.lower()[1:]))


@cli.command()
@click.argument("spec", cls=SpecArgument, shell_complete=complete_spec, metavar="SPEC[:PATH]|CODE")
@model_options
@size_option
def explain(spec: str, settings: Settings, sizes: Sizes) -> int:
    """Explain a model, a block, a layer or an error.

    PATH names a layer or block, as listed by `archdsl show`: resnet:resnet50:layer1.0.conv1.

    CODE names an error or warning, such as E0301: the command prints its meaning, what to do, and an example.
    Write ./E0301 for a file of that name.
    """
    if CODE.fullmatch(spec):
        return explain_code(spec.upper())
    from archdsl.checker.finished_graph import pin
    from archdsl.report import explain as explaining

    spec, path = split_path(spec)
    graph = checked(spec, settings, sizes)
    write(explaining.explain(graph, path, pin(graph, sizes)))
    return FINE


def explain_code(name: str) -> int:
    """Prints the entry of a code. Raises UsageError if there is none."""
    from archdsl.diagnostics import did_you_mean
    from archdsl.diagnostics.codes import CODES, text

    if name not in CODES:
        near = did_you_mean(name, CODES) or "docs/errors.md lists them"
        raise click.UsageError(f"there is no code {name}; {near}")
    write(text(CODES[name]))
    return FINE


@cli.command()
@click.argument("before", cls=SpecArgument, shell_complete=complete_spec)
@click.argument("after", cls=SpecArgument, shell_complete=complete_spec, required=False)
@model_options
@click.option(
    "--set-before", callback=parse_settings, multiple=True, metavar="NAME=VALUE", help="Like --set, for BEFORE only."
)
@click.option(
    "--set-after", callback=parse_settings, multiple=True, metavar="NAME=VALUE", help="Like --set, for AFTER only."
)
@size_option
@output_option(f"Draw the changes to a {listed(MARKED)} file.", "a picture is", [form.ending for form in MARKED])
@depth_option
@click.option("--theme", type=click.Choice(THEMES), default="light", show_default=True)
@click.option("--direction", type=click.Choice(DIRECTIONS), default="down", show_default=True)
@columns_option
@units_option
@click.option("--csv", "form", flag_value="csv", help="Write comma-separated values.")
@click.option("--markdown", "form", flag_value="markdown", help="Write a Markdown table.")
@json_option
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the networks differ, as for git diff.")
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
    columns: tuple[str, ...],
    units: Units,
    form: str | None,
    as_json: bool,
    exit_code: bool,
) -> int:
    """Show the differences between two networks.

    It lists what was added, removed or changed, and how the cost changes. Without AFTER, BEFORE is compared
    with itself under other settings: diff resnet:resnet18 --set-after classes=10.
    """
    from archdsl import compiler
    from archdsl.checker.finished_graph import pin
    from archdsl.report import compare

    if form and as_json:
        raise click.UsageError(f"--{form} and --json are mutually exclusive")
    if after is None and not (set_before or set_after):
        raise click.UsageError("there is nothing to compare: give AFTER, --set-before or --set-after")
    old = checked(before, {**settings, **set_before}, sizes)
    new = checked(after or before, {**settings, **set_after}, sizes)
    found = compiler.diff(old, new, (pin(old, sizes), pin(new, sizes)))
    if output is not None:
        compiler.draw(found, depth=depth, theme=theme, direction=direction).save(output)
    status = DIFFERENT if exit_code and found.changes else FINE
    if as_json:
        write_json(compare.as_data(found))
        return status
    table = compare.table(found)
    try:
        table = table.only(columns) if columns else table
    except ValueError as wrong:
        raise click.UsageError(str(wrong)) from wrong
    if form is not None:
        write(getattr(table, f"as_{form}")())
        return status
    if found.changes:
        write_table(table, units, whole=bool(columns))
        write("\n")
    lines = compare.totals(found)
    width = max(len(name) for name, _ in lines)
    write_text("".join(f"{name:{width}}  {text}\n" for name, text in lines))
    return status


@cli.command("list")
@click.argument("file", cls=SpecArgument, required=False, shell_complete=complete_spec)
@json_option
def list_models(file: str | None, as_json: bool) -> int:
    """List the models of a file, or those of the library by task."""
    from archdsl.checker.spec import models
    from archdsl.elaborate.spec_files import library_tasks
    from archdsl.report import summary as report

    tasks: dict[str, str] = {}
    if file is not None:
        file, model = named(file)
        found = {file: [info for info in models(file) if model in (None, info.name)]}
    else:
        tasks = {family: task for task, families in library_tasks().items() for family in families}
        found = {family: models(family) for family in tasks}
    if as_json:
        write_json(report.models_data(found, tasks))
    else:
        write_table(report.models_table(found, tasks))
    return FINE
