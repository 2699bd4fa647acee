"""What has to hold of any text: an answer or diagnostics, never anything else. `tests.fuzz.texts` makes the texts.

    python -m tests.fuzz.hostile --minutes 30 --run

goes on for so long, and keeps each text that breaks archdsl in tests/fuzz/corpus, where the test suite finds it. What
such runs have found is told in README.md beside.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import archdsl
from archdsl import cli, compiler, dims
from archdsl.analysis.costs import costs
from archdsl.backends.diagram.drawing import draw, draw_changes
from archdsl.checker.spec import check_model, locate, model_info
from archdsl.common.limits import Limits, limited
from archdsl.diagnostics import Diagnostics, SpecError, as_data, render
from archdsl.graph import Graph, Tensor
from archdsl.report import compare, totals
from archdsl.report import summary as report
from archdsl.report.explain import explain
from archdsl.report.layers import Layers, Options
from archdsl.report.tables import Table
from archdsl.runtime import loading
from tests.fuzz.texts import CORPUS, KINDS, WORDS, files

LIMITS = Limits(nodes=1_000, rounds=2_000, steps=50_000, list_size=10_000, elements=100_000, solver_seconds=1)
"""Small, so that expensive texts are answered quickly. The limits have their own tests."""

SECONDS = 8.0
"""The maximum seconds to check a text of a few hundred characters."""

DRAWN = 150
"""The maximum number of nodes for which Graphviz draws; it has its own limits."""


def exercise(text: str, *, run: bool = False, random: Random | None = None) -> None:
    """Takes a text all the way. Only SpecError may be raised within, and each of its diagnostics can be shown.

    Every output is made, or, with `random`, some that it chooses. `run`: what is built is run, too, and has the
    parameters that were counted.
    """
    with opened(text) as source:
        _exercise(source, run, random)


@contextmanager
def opened(text: str) -> Iterator[archdsl.Source]:
    """The text as a source, in a folder with its other files."""
    first, others = (found := files(text)).pop(""), found
    if not others:
        yield archdsl.Source("fuzz.arch", first)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, content in others.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, "utf-8", "replace", newline="")
        yield archdsl.Source("fuzz.arch", first, Path(folder, "fuzz.arch"))


def _exercise(source: archdsl.Source, run: bool, random: Random | None) -> None:
    start = time.process_time()
    try:
        with limited(LIMITS):
            spec_file, _ = locate(source, Diagnostics())
    except SpecError as error:
        said(error)
        return
    before: Graph | None = None
    for name in spec_file.models:
        try:
            with limited(LIMITS):
                if not model_info(spec_file, name, Diagnostics()).complete:
                    continue
                graph = check_model(spec_file, name, {}, Diagnostics())
        except SpecError as error:
            said(error)
            continue
        finally:
            assert time.process_time() - start < SECONDS, "this takes too long"
        assert printable(render(graph.warnings))
        outputs(graph, before, random)
        if run and len(graph) < 100:
            works(graph)
        before = graph
        start = time.process_time()
        if random is not None and random.random() < 0.5:
            break


def said(error: SpecError) -> None:
    assert error.diagnostics
    assert printable(render(error.diagnostics)) and json.dumps(as_data(error.diagnostics), allow_nan=False)
    assert any(d.code.startswith("E") for d in error.diagnostics)
    assert all(d.code[0] in "EW" and d.message for d in error.diagnostics)


def printable(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


# ---------------------------------------------------------------- outputs


def outputs(graph: Graph, before: Graph | None, random: Random | None) -> None:
    """The outputs of a valid network, each well-formed; three of them if `random` chooses."""
    chosen = list(OUTPUTS) if random is None else random.sample(OUTPUTS, 3)
    random = random or Random(0)
    ast.parse(archdsl.build(graph))
    for output in chosen:
        output(graph, before, random)


def in_numbers(graph: Graph, _: Graph | None, random: Random) -> None:
    assert printable(report.summary(graph)) and printable(report.augmentation(graph)) and printable(report.why(graph))
    json.dumps(report.summary_data(graph), allow_nan=False)
    depth, flops, wide = random.choice([None, 0, 1, 2]), random.random() < 0.5, random.random() < 0.7
    layers = Layers(
        graph,
        Options(
            graph.examples if random.random() < 0.5 else None,
            batch=random.choice([1, 7]),
            depth=depth,
            flops=flops,
            wide=wide,
            dtype=random.choice(["float32", "bfloat16"]),
            limit=random.choice([None, 2**34]),
        ),
    )
    in_every_form(layers.table)
    json.dumps(layers.as_data(), allow_nan=False)
    assert all(map(printable, [*layers.notes, *(t for line in layers.totals() for t in line)]))
    in_every_form(totals.side_by_side([layers, layers]))


def in_every_form(table: Table) -> None:
    assert printable(table.as_text())
    json.dumps(table.as_data(), allow_nan=False)
    rows = list(csv.reader(io.StringIO(table.as_csv())))
    assert {len(row) for row in rows} == {len(table.columns)}
    assert not [cell for row in rows for cell in row if re.match(r"[=+@\t\r]|-[^0-9]", cell)]
    lines = table.as_markdown().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}
    assert table.as_latex().isascii() or printable(table.as_latex())


def in_words(graph: Graph, _: Graph | None, random: Random) -> None:
    assert printable(explain(graph))
    parts = [p.path for p in (*graph.nodes(), *graph.root.scopes()) if p.path]
    for path in random.sample(parts, min(3, len(parts))):
        assert printable(explain(graph, path, graph.examples if random.random() < 0.5 else None))


def in_a_picture(graph: Graph, _: Graph | None, random: Random) -> None:
    if len(graph) > DRAWN:
        assert draw(graph, depth=1).dot
        return
    diagram = draw(
        graph,
        depth=random.choice([None, None, 0, 1, 2, 9]),
        style=random.choice(["boxes", "boxes", "volumes"]),
        theme=random.choice(["light", "dark", "print"]),
        direction=random.choice(["down", "right"]),
    )
    ElementTree.fromstring(diagram.svg())
    assert printable(diagram.svg().replace("\t", ""))
    tex = diagram.tex()
    assert printable(tex) and tex.count("{") - tex.count(r"\{") == tex.count("}") - tex.count(r"\}")


def in_a_page(graph: Graph, _: Graph | None, random: Random) -> None:
    if len(graph) > DRAWN:
        return
    page = draw(graph, depth=random.choice([None, 0, 1])).html()
    assert page.encode() and page.count("<script") == page.count("</script>") == 2
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)
    assert data and json.loads(data[1])["views"]


def in_a_comparison(graph: Graph, before: Graph | None, random: Random) -> None:
    for old, new in ((before or graph, graph), (graph, graph)):
        found = compiler.diff(old, new)
        in_every_form(compare.table(found))
        json.dumps(compare.as_data(found), allow_nan=False)
        assert all(printable(t) for line in compare.totals(found) for t in line)
    assert not found.changes, "a network differs from itself"
    if before is not None and max(len(before), len(graph)) <= DRAWN:
        ElementTree.fromstring(draw_changes(compiler.diff(before, graph), depth=random.choice([None, 1])).svg())


def in_code(graph: Graph, _: Graph | None, random: Random) -> None:
    ast.parse(archdsl.build(graph, inference=True))
    for mode in ("dense", "blocks"):
        try:
            ast.parse(archdsl.build(graph, recompute=mode))
        except SpecError as error:
            said(error)


def by_the_command_line(graph: Graph, _: Graph | None, random: Random) -> None:
    """Random options: the right status, and a message or diagnostics if it is not 0."""
    text = graph.root.span.source.text
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fuzz.arch")
        try:
            path.write_text(text, "utf-8")
        except UnicodeEncodeError:
            return
        command = [word.replace("SPEC", str(path)) for word in arguments(graph, random)]
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = cli.run(command)
    out.seek(0)
    said, complained = out.read(), err.getvalue()
    assert status in (0, 1, 2), (command, complained)
    assert printable(complained) and printable(said), command
    assert status == 0 or complained or '"severity": "error"' in said, command


def arguments(graph: Graph, random: Random) -> list[str]:
    pick = random.choice
    model = f"SPEC:{graph.name}"
    paths = [p.path for p in (*graph.nodes(), *graph.root.scopes()) if p.path] or ["x"]
    command = pick(
        [
            ["check", pick(["SPEC", model])],
            ["check", model, "--why"],
            ["show", model, pick(["--csv", "--json", "--markdown", "--latex", "--wide", "--flops"])],
            ["show", model, model],
            ["show", model, "--recompute", pick(["dense", "blocks"])],
            ["explain", f"{model}:{pick(paths)}"],
            ["explain", f"{model}:{pick(WORDS)}"],
            ["diff", model, model],
            ["diff", model, "--set-after", f"n={pick(WORDS)}"],
            ["build", model, "--for", "inference"],
            ["build", model, "--recompute", "blocks"],
            ["list", "SPEC"],
            [pick(["check", "show", "list", "explain", "build", pick(WORDS)]), pick([model, "SPEC", pick(WORDS)])],
        ]
    )
    options = [
        ["--set", f"{pick(['n', 'a', 'classes', *WORDS])}={pick(['[1]', '2', 'basic', '-1', pick(WORDS)])}"],
        ["--size", pick(["3x32x32", "2x16", "0x0", "999999999x9", pick(WORDS)])],
        ["--limit", pick(["nodes=5", "steps=9", "depth=1", f"{pick(WORDS)}=1"])],
        ["--depth", pick(["0", "1", "-1", "x"])],
        [pick(WORDS)],
    ]
    for _ in range(pick([0, 0, 1, 1, 2])):
        command += pick(options)
    return [c.replace("\0", "") for c in command]


OUTPUTS: tuple[Callable[[Graph, Graph | None, Random], None], ...] = (
    in_numbers,
    in_words,
    in_a_picture,
    in_a_page,
    in_a_comparison,
    in_code,
    by_the_command_line,
)


# ---------------------------------------------------------------- the built module


def works(graph: Graph) -> None:
    """The built modules have the keys and shapes that the graph has, and give what the graph says they give.

    The one for inference and the one that recomputes give what the plain one gives.
    """
    import torch

    total = costs(graph, graph.examples).total.parameters
    if total > 10_000_000 or max([*graph.examples.values(), 1]) > 128:
        return
    torch.manual_seed(0)
    network = loading.instantiate(graph).eval()
    keys = {
        f"{n.path}.{w.name}" if w.name else n.path
        for n in graph.nodes()
        for w in n.operation.weights(graph.shapes(n.inputs))
    }
    assert network.state_dict().keys() == keys
    assert sum(p.numel() for p in network.parameters()) == total
    sizes = [[dims.evaluate(d, graph.examples) for d in graph.shape(Tensor(n.id))] for n in graph.input_nodes]
    images = [torch.rand(2, *size) for size in sizes]
    found = results(network, images)
    wanted = [graph.shape(o.tensor) for o in graph.outputs if not o.training]
    assert [[*r.shape[1:]] for r in found] == [[dims.evaluate(d, graph.examples) for d in w] for w in wanted]
    others = [loading.instantiate(graph, inference=True)]
    try:
        others.append(loading.instantiate(graph, recompute="blocks"))
    except SpecError as error:
        said(error)
    for other in others:
        other.load_state_dict(loading.folded(other, network.state_dict()))
        for one, another in zip(found, results(other.eval(), images), strict=True):
            assert one.shape == another.shape
            torch.testing.assert_close(another, one, rtol=1e-3, atol=1e-3 * max(1.0, scale(one)), equal_nan=True)


def results(network: object, images: list[object]) -> list[object]:
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = network(*[image.clone() for image in images])
    return [found] if isinstance(found, torch.Tensor) else [r for r in found if r is not None]


def scale(tensor: object) -> float:
    return float(tensor.nan_to_num(0, 0, 0).abs().max()) if tensor.numel() else 0.0


# ---------------------------------------------------------------- long runs


def keep(text: str) -> Path:
    """Adds a text that broke something to the corpus."""
    path = CORPUS / f"{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}.arch"
    path.write_text(text, "utf-8", "surrogatepass", newline="")
    return path


def main() -> None:
    import argparse
    import traceback

    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description="Fuzzes archdsl.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--run", action="store_true", help="run what is built, too")
    options = parser.parse_args()
    end, broken = time.monotonic() + 60 * options.minutes, dict[str, int]()
    done: dict[str, int] = {kind.__name__: 0 for kind in KINDS}
    for number in count():
        if time.monotonic() > end:
            break
        random = Random(options.seed + number)
        kind = random.choice(KINDS)
        spec = kind(random)
        done[kind.__name__] += 1
        try:
            exercise(spec, run=options.run, random=random)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = next((f for f in reversed(frames) if "archdsl/" in f.filename), frames[-1])
            place = f"{type(error).__name__} at {ours.filename}:{ours.lineno} ({frames[-1].name})"
            broken[place] = broken.get(place, 0) + 1
            if broken[place] == 1:
                print(f"{place}: {str(error)[:300]!r}, kept as {keep(spec)}", flush=True)
    print(f"{sum(done.values())} texts ({', '.join(f'{n} {k}' for k, n in done.items())}), {len(broken)} ways to break")


if __name__ == "__main__":
    main()
