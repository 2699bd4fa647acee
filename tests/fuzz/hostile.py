"""Texts that nobody would write, and what has to hold of every one: an answer or diagnostics, never anything else.

    python -m tests.fuzz.hostile --minutes 30

goes on for so long, and keeps each text that breaks archdsl in tests/fuzz/corpus, where the test suite finds it.
"""

from __future__ import annotations

import ast
import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import archdsl
from archdsl import compiler, dims, report
from archdsl.analysis import costs
from archdsl.backends.diagram import draw
from archdsl.diagnostics import Diagnostics, SpecError, as_data, render
from archdsl.graph import Graph, Tensor
from archdsl.layers import Layers, Options
from archdsl.limits import Limits, limited
from tests.random_networks import network

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORPUS = HERE / "corpus"

LIMITS = Limits(nodes=1_000, rounds=2_000, steps=50_000, list_size=10_000, elements=100_000, solver_seconds=1)
"""Small, so that a text that asks for much is answered soon. Bounds themselves have their own tests."""

SECONDS = 8.0
"""The longest that a text of some hundred characters may take."""

TOKEN = re.compile(r'"[^"\n]*"|[A-Za-z_]\w*|\d+(?:x\d+)+|\d+\.\d+|\d+|->|\.\.=?|[<>=!/]=|//|\s+|.', re.DOTALL)

_WORDS = r"""
    model block let fn default from import as input output expect require if else for in repeat residual via dense
    it true false none and or not training conv upconv linear relu batchnorm maxpool avgpool flatten global_avgpool add
    mul concat align crop pad split slice scale resize upsample reshape permute channel_shuffle pixel_shuffle groupnorm
    dropout softmax same valid full same_upper bilinear x y image a b H W C _ width counts min max sum len range zip
    enumerate abs int round floor ceil channels size shape m n basic layer class self torch nn forward augment
    augmented one_of 0 1 2 3 7 8 64 224 1000000 2147483648 0.5 1e300 1e-5 3x3 1x7x7 0x0 -> : , ( ) [ ] { } = == != < <=
    > >= + - * / // % .. ..= . # ; ' " "a" "a.b" "a{i}" "{" "\\" "\u202e" "\u0000" \ $ @ ~ & | ! ? `
"""
WORDS = (
    *_WORDS.split(),
    "\u00e9",
    "\u0451",
    "\u4e2d",
    "\U0001d431",
    "\ufdfd",
    "\u0301",
    "×",
    "→",
    "⌊",
    "\u202e",
    "\x00",
)


def library(random: Random) -> str:
    return random.choice([p.read_text("utf-8") for p in _library()])


def _library() -> list[Path]:
    return sorted([*(ROOT / "specs").glob("*.arch"), *CORPUS.glob("*.arch")])


def noise(random: Random) -> str:
    """Any characters."""
    kinds: list[Callable[[], str]] = [
        lambda: chr(random.randrange(128)),
        lambda: chr(random.randrange(0xD800)),
        lambda: random.choice(WORDS),
    ]
    return "".join(random.choice(kinds)() for _ in range(random.randrange(60)))


def words(random: Random) -> str:
    """Tokens of the language in any order."""
    return "".join(random.choice(WORDS) + random.choice(["", " ", " ", " ", "\n"]) for _ in range(random.randrange(80)))


def body(random: Random) -> str:
    """Tokens of the language in any order, within a model."""
    return f"model m {{\n    input x[4, H = 16, W = 16]\n{words(random)}\n}}\n"


def mutant(random: Random) -> str:
    """A good spec with some of its tokens removed, doubled, swapped or replaced by others."""
    text = random.choice([lambda: network(random), lambda: program(random), lambda: library(random)])()
    tokens = TOKEN.findall(text)
    for _ in range(random.choice([1, 1, 1, 2, 3, 8])):
        if not tokens:
            break
        i, j = random.randrange(len(tokens)), random.randrange(len(tokens))
        match random.randrange(6):
            case 0:
                del tokens[i]
            case 1:
                tokens.insert(i, tokens[j])
            case 2:
                tokens[i], tokens[j] = tokens[j], tokens[i]
            case 3:
                tokens[i] = random.choice(WORDS)
            case 4:
                tokens[i] = str(random.choice([0, 1, 2, 3, 5, 7, 100, 10**6, 2**31, 10**20]))
            case 5:
                # A stretch of one place at another.
                tokens[i:i] = tokens[j : j + random.randrange(12)]
    return "".join(tokens)


VALUES = (
    "n",
    "n + 1",
    "2 * n",
    "max(1, n - 1)",
    "it.channels",
    "w",
    "w // 2 + 1",
    "a[0]",
    "a[1]",
    "len(a)",
    "f(n)",
    "1",
    "2",
)
CONDITIONS = (
    "n > 1",
    "n == 2",
    "it.channels == w",
    "i == 0",
    "true",
    "w % 2 == 0 and n > 0",
    "not (n < 2)",
    "len(a) > 1",
)


def program(random: Random) -> str:
    """A spec of blocks that call each other within loops and conditions, with labels, lists and functions."""
    pick = random.choice
    names = [f"b{i}" for i in range(random.randrange(1, 4))]

    def value() -> str:
        return pick(VALUES)

    def label() -> str:
        return pick(["", "", "", "", "c: ", "d: ", '"e{i}": ', '"k-{n}": ', '"x.{i}": ', '"{w}": '])

    def item(depth: int, callable_: list[str]) -> str:
        roll = random.random()
        if callable_ and roll < 0.25:
            return f"{label()}{pick(callable_)}({value()}, {pick(['[1, 2]', '[2, 3, 1]', 'a'])})"
        if depth > 2 or roll < 0.6:
            layer = pick(
                [f"conv({value()}, 3)", f"conv({value()}, 1, bias = n > 1)", "batchnorm", "relu()", "maxpool(2)", "{ }"]
            )
            return label() + layer
        return (
            label()
            + pick(
                [
                    lambda: f"residual via conv({value()}, 1) {{ conv({value()}, 3) }}",
                    lambda: f"residual {{ {chain(depth + 1, callable_)} }}",
                    lambda: f"residual if {pick(CONDITIONS)} {{ relu() }}",
                    lambda: f"dense {{ {chain(depth + 1, callable_)} }}",
                    lambda: f"{{ {chain(depth + 1, callable_)} }}",
                    lambda: f"({chain(depth + 1, callable_)}, {chain(depth + 1, callable_)}) -> align(crop) -> concat",
                    lambda: "(c, it) -> align(crop) -> concat",
                ]
            )()
        )

    def chain(depth: int, callable_: list[str]) -> str:
        return " -> ".join(item(depth, callable_) for _ in range(random.randrange(1, 4)))

    def statement(depth: int, callable_: list[str]) -> str:
        roll = random.random()
        if depth > 2 or roll < 0.65:
            return chain(depth, callable_)
        inner = "\n".join(statement(depth + 1, callable_) for _ in range(random.randrange(1, 3)))
        return pick(
            [
                lambda: f"for i in 0..{pick(['n', '2', 'len(a)'])} {{\n{inner}\n}}",
                lambda: f"for i, w in enumerate(a) {{\n{inner}\n}}",
                lambda: f"repeat {value()} {{\n{inner}\n}}",
                lambda: f"if {pick(CONDITIONS)} {{\n{inner}\n}}",
                lambda: f"if {pick(CONDITIONS)} {{\n{inner}\n}} else {{\n{chain(depth + 1, callable_)}\n}}",
                lambda: f"let w = {value()}",
            ]
        )()

    def statements(callable_: list[str]) -> str:
        return "\n".join(statement(0, callable_) for _ in range(random.randrange(1, 5)))

    lines = ["let w = 3\nlet i = 1\nfn f(n) = n + 1 if n < 3 else n - 1"]
    for number, name in enumerate(names):
        lines.append(f"block {name}(n = 1, a = [1, 2]) {{\n{statements(names[:number])}\n}}")
    size = pick(["H = 16, W = 16", "16, 16", "H, W", "T = 32", "D = 8, 8, 8"])
    lines.append(f"model m(n = 2, a = [2, 1]) {{\ninput x[2, {size}]\n{statements(names)}\n}}")
    return "\n".join(lines) + "\n"


def cut(random: Random) -> str:
    """A half-written buffer."""
    text = mutant(random)
    return text[: random.randrange(len(text) + 1)]


KINDS = (noise, words, body, mutant, mutant, program, program, cut)


def text(random: Random) -> str:
    return random.choice(KINDS)(random)


# ---------------------------------------------------------------- what has to hold


def exercise(text: str, *, run: bool = False) -> None:
    """Takes a text all the way. Only SpecError may be raised within, and each of its diagnostics can be shown.

    `run`: what is built is run, too, and has the parameters that were counted.
    """
    source = archdsl.Source("fuzz.arch", text)
    start = time.process_time()
    try:
        with limited(LIMITS):
            module, _ = compiler.locate(source, Diagnostics())
    except SpecError as error:
        said(error)
        return
    for name in module.models:
        try:
            with limited(LIMITS):
                if compiler.model_info(module, name, Diagnostics()).complete:
                    graph = compiler.check_model(module, name, {}, Diagnostics())
                    outputs(graph)
                    if run and len(graph) < 100:
                        works(graph)
        except SpecError as error:
            said(error)
        if len(module.models) > 4 and time.process_time() - start > SECONDS / 4:
            break
    assert time.process_time() - start < SECONDS, "this takes too long"


def said(error: SpecError) -> None:
    assert error.diagnostics
    assert render(error.diagnostics) and as_data(error.diagnostics)
    assert all(d.code.startswith("E") and d.message for d in error.diagnostics)


def outputs(graph: Graph) -> None:
    """Every output of a network that is fine."""
    assert report.summary(graph)
    assert Layers(graph, Options(wide=True)).table.as_csv()
    ast.parse(archdsl.build(graph))
    assert draw(graph, depth=1).dot


def works(graph: Graph) -> None:
    """The built module has the keys and shapes that the graph has, and gives what the graph says it gives."""
    import torch

    total = costs(graph, graph.examples).total.parameters
    if total > 10_000_000 or max([*graph.examples.values(), 1]) > 128:
        return
    network = compiler.instantiate(graph).eval()
    paths = {node.path for node in graph.nodes()}
    for key in network.state_dict():
        assert key in paths or key.rpartition(".")[0] in paths, key
    assert sum(p.numel() for p in network.parameters()) == total
    sizes = [[dims.evaluate(d, graph.examples) for d in graph.shape(Tensor(n.id))] for n in graph.input_nodes]
    with torch.no_grad():
        found = network(*[torch.zeros(2, *size) for size in sizes])
    results = [found] if isinstance(found, torch.Tensor) else [r for r in found if r is not None]
    wanted = [graph.shape(o.tensor) for o in graph.outputs if not o.training]
    assert [[*r.shape[1:]] for r in results] == [[dims.evaluate(d, graph.examples) for d in w] for w in wanted]


def keep(text: str) -> Path:
    """Puts a text that broke something into the corpus."""
    path = CORPUS / f"{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}.arch"
    path.write_text(text, "utf-8", "surrogatepass", newline="")
    return path


def main() -> None:
    import argparse
    import traceback

    parser = argparse.ArgumentParser(description="Fuzzes archdsl.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--run", action="store_true", help="run what is built, too")
    options = parser.parse_args()
    end, count = time.monotonic() + 60 * options.minutes, 0
    broken: set[str] = set()
    while time.monotonic() < end:
        random = Random(options.seed + count)
        spec = text(random)
        try:
            exercise(spec, run=options.run)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}"
            if place not in broken:
                broken.add(place)
                print(f"{place}: {str(error)[:200]!r}, kept as {keep(spec)}", flush=True)
        count += 1
    print(f"{count} texts, {len(broken)} ways to break")


if __name__ == "__main__":
    main()
