"""Random specs that use the whole language, repaired with the checker until they are valid networks.

`spec(seed)` is the text of one. A statement that the checker rejects is removed, or the call that leads to it, and the
rest is checked again; after some rounds the remainder is a network or is given up (None).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from random import Random
from unittest import mock

from archdsl import dims
from archdsl.checker import spec as checker
from archdsl.diagnostics import Diagnostic, SpecError
from archdsl.graph import Graph, Tensor
from archdsl.runtime.weights import state_shapes
from tests.helpers import graph_of
from tests.random_items import Items, Names
from tests.random_parts import Block, Part
from tests.random_statements import DEFAULTS, Writer

LETTERS = ("T",), ("H", "W"), ("D", "H", "W")
ROUNDS = 30
"""The maximum number of repairs."""
LARGEST, LARGEST_FREE = 700, 100
"""The maximum number of nodes; fewer with free sizes, whose demands must be solved."""
ELEMENTS, WEIGHTS = 150_000, 500_000
"""The maximum number of elements of all tensors of a sample, and of all weights: one in a hundred has more of these."""


@dataclass
class Models(Writer):
    """Writes a model, too."""

    def many(self) -> list[Part]:
        """A merge of many parts, or a long chain."""
        random = self.random
        count = int(2 ** random.uniform(1, 9.23))
        if random.random() < 0.3:
            names = Names()
            return [Part(" -> ".join(self.items.kept(names) for _ in range(min(count, 80) // 2 + 1)))]
        merge = random.choice(["add", "mean", "maximum", "sub", "concat", "concat", "mul"])
        forms = [
            "it",
            "relu",
            "tanh",
            "scale",
            "sigmoid",
            "conv(it.channels, 1)",
            "slice(0, 1) -> conv(it.channels, 1)",
        ]
        if random.random() < 0.5:
            return [
                Part(f"conv({count * random.choice([1, 1, 2])}, 1) -> split({count}) -> {merge}"),
                Part("conv(3, 1)"),
            ]
        one = random.choice(forms)
        parts = [one if random.random() < 0.6 else random.choice(forms) for _ in range(count)]
        return [Part(f"({', '.join(parts)}) -> {merge}"), Part("conv(4, 1)")]

    def model(self) -> list[Part]:
        random, items = self.random, self.items
        names = Names(taken=set(self.taken))
        free = random.random() < 0.35
        low, high = ((8, 20), (5, 12), (3, 6))[items.rank - 1]
        letters = [
            items.name(names.taken, value=True) if random.random() < 0.15 else x for x in LETTERS[items.rank - 1]
        ]
        names.taken.update(letters)
        sizes = [str(random.randint(low, high)) for _ in letters]
        shown = [f"{a} = {n}" for a, n in zip(letters, sizes, strict=True)] if free else sizes
        family = random.random() < 0.25
        parameters = []
        if family:
            for _ in range(random.randint(1, 3)):
                kind = random.choice(["int", "bool", "act", "list", "float"])
                parameter = items.name(names.taken, value=True)
                getattr(names, f"{kind}s").append(parameter)
                parameters.append((parameter, kind))
        inputs = [items.name(names.taken) for _ in range(random.choice([1, 1, 1, 1, 2, 3]))]
        body = []
        declared = []
        for i, name in enumerate(inputs):
            again = letters if free and i else shown
            declared.append(f"{name}[{random.choice([1, 2, 3, 4])}, {', '.join(again)}]")
        body.append(Part(f"input {', '.join(declared)}", fixed=True))
        names.labels += inputs
        if len(inputs) > 1:
            used = [f"{x} -> {items.item(names)}" if random.random() < 0.5 else x for x in inputs]
            body.append(Part(f"({', '.join(used)}) -> {self.merged(names, False, 'concat')}"))
        self.budget = max(self.budget, 8)
        for block in [b for b in self.blocks if not b.flat_in and random.random() < 0.35]:
            body += self.statements(names, False, 1, 1) if random.random() < 0.3 else []
            body += self.calls_of(block, names, False, random.choice([1, 2, 2, 3]))
        body += self.statements(names, False, 0, 4)
        if random.random() < 0.12:
            body += self.many()
        flat = random.random() < 0.35
        if flat:
            pools = [
                "global_avgpool",
                "global_maxpool",
                "adaptive_avgpool(2)",
                "adaptive_maxpool(1)",
                "adaptive_avgpool(2)",
            ]
            before = f"{random.choice(pools)} -> " if free or random.random() < 0.6 else ""
            body.append(Part(f"{before}{items.label(names)}flatten"))
            flat_names = Names(**{k: list(v) for k, v in vars(names).items() if isinstance(v, list)}, taken=names.taken)
            flat_names.labels = []
            body += self.statements(flat_names, True, 0, 4)
            if random.random() < 0.2:
                body.append(Part(f"linear(8) -> reshape([2, {', '.join(['2', '-1', '1'][: items.rank])}])"))
                body += self.statements(Names(taken=names.taken), False, 2, 2)
            names.labels += flat_names.labels
        if random.random() < 0.3:
            last = items.name(names.taken)
            kept = random.sample(names.labels, min(len(names.labels), random.randint(0, 2)))
            more = []
            for label in kept:
                if label in inputs:
                    continue
                renamed = f"{items.name(names.taken)} = {label}" if random.random() < 0.3 else label
                more.append(renamed + (" if training" if random.random() < 0.4 else ""))
            outputs = [last, *more]
            random.shuffle(outputs)
            body.append(Part(f"{last}: {items.kept(names, flat)}", fixed=True))
            body.append(Part(f"output {', '.join(outputs)}"))
        name = items.name(self.taken, value=True)
        if not family:
            return [Part(f"model {name} {{", body, fixed=True)]
        member = items.name(self.taken, value=True)
        empty = Names()
        values = [items.value(kind, empty).replace("it.channels", "4") for _, kind in parameters]
        values = [v if "it" not in v.split() else "true" for v in values]
        return [
            Part(f"model {name}({', '.join(p for p, _ in parameters)}) {{", body, fixed=True),
            Part(f"model {member} = {name}({', '.join(values)})", fixed=True),
        ]


def externs(rank: int) -> list[Part]:
    """The declarations of layers from outside (tests/outside.py) for tensors with this many spatial axes."""
    sizes = f"C, {', '.join(LETTERS[rank - 1])}"
    outside = [
        f"input x[{sizes}]",
        f"output [width, {', '.join(LETTERS[rank - 1])}]",
        "call (C, width, bias = bias)",
        "weight weight[width, C]",
        "buffer shift[width]",
        'weight "inner.bias"[width] if bias',
        "macs C",
        "field (1)",
    ]
    bend = [f"input x[{sizes}]", f"output [{sizes}]"]
    blend = [f"input a[{sizes}], b[{sizes}]", f"output [{sizes}]", "macs 0"]
    heads = {
        'extern outside(width, bias = true) = "tests.outside:Outside" {': outside,
        'extern fn bend(factor, name = "tanh") = "tests.outside:bend" {': bend,
        'extern fn blend(share) = "tests.outside:blend" {': blend,
    }
    return [Part(head, [Part(line, fixed=True) for line in lines], fixed=True) for head, lines in heads.items()]


def parts(random: Random) -> list[Part]:
    """A file, not yet checked."""
    rank = random.choice([1, 2, 2, 2, 2, 3])
    writer = Models(random, Items(random, rank, odd=random.choice([0.0, 0.1, 0.5])), budget=random.randint(4, 22))
    found = [Part(random.choice(DEFAULTS))] if random.random() < 0.2 else []
    found += [
        Part(f"let base = {random.choice(['2', '4'])}", fixed=True),
        Part(f"let table = [{random.choice(['2, 4', '4, 2, 6', '2'])}]", fixed=True),
        Part("fn double(n, by = 2) = int(n * by)", fixed=True),
        Part("block plain(width) {", [Part("conv(width, 3)", fixed=True)], fixed=True),
        Part("block thin(width) {", [Part("conv(width, 1) -> batchnorm -> relu", fixed=True)], fixed=True),
        Part("block wrapped(width, kind = linear, act = relu) {", [Part("kind(width) -> act", fixed=True)], fixed=True),
    ]
    writer.blocks += [Block("plain", [("width", "int", False)]), Block("thin", [("width", "int", False)])]
    if random.random() < 0.1:
        found = [*externs(rank), *found]
        writer.items.outside = True
    if random.random() < 0.06 and rank == 2:
        found.insert(0, Part("from resnet import basic as unit, bottleneck"))
        writer.blocks += [Block("unit", [("width", "int", False)]), Block("bottleneck", [("width", "int", False)])]
        writer.taken |= {"unit", "bottleneck"}
    for number in range(random.randint(0, 5)):
        found.append(writer.block(number))
    return [*found, *writer.model()]


def written(file: list[Part]) -> tuple[str, list[list[tuple[list[Part], Part]]]]:
    """The text, and for each line its enclosing parts."""
    lines: list[str] = []
    owners: list[list[tuple[list[Part], Part]]] = []
    for part in file:
        lines += part.lines(0, owners, [(file, part)])
    return "\n".join(lines) + "\n", owners


CALLED = re.compile(r"called at [^:]*:(\d+)")


def places(error: SpecError, random: Random) -> Iterator[int]:
    """The wrong lines, counted from 0: the place of an error, or a call that leads to it."""
    for found in error.diagnostics:
        calls = [int(n) for note in found.notes for n in CALLED.findall(note)]
        if calls and random.random() < 0.4:
            yield random.choice(calls) - 1
        elif found.marks:
            span = found.marks[0].span
            yield span.source.text.count("\n", 0, span.start)


def removed(way: list[tuple[list[Part], Part]]) -> bool:
    """Takes out the innermost part of a line that may go, with what is chained to it; returns whether there is one."""
    for holder, part in reversed(way):
        if part.fixed:
            continue
        if not any(p is part for p in holder):
            return False
        at = next(i for i, p in enumerate(holder) if p is part)
        end = at + 1
        while not part.chained and end < len(holder) and holder[end].chained:
            end += 1
        del holder[at:end]
        return True
    return False


SEVERAL = re.compile(r"\): (?:split|align)|\w: it$")


def mended(file: list[Part], random: Random) -> tuple[str, Graph] | None:
    """A file without the parts that the checker rejects, with its graph; None if nothing is left to remove."""
    for _ in range(ROUNDS):
        text, owners = written(file)
        try:
            return text, graph_of(text)
        except SpecError as error:
            wrong = [n for n in places(error, random) if n < len(owners)]
        if not any([removed(owners[n]) for n in dict.fromkeys(wrong)]):
            # Several tensors reach the end of a body: what names them is taken out, too.
            naming = [n for n, line in enumerate(text.splitlines()) if n < len(owners) and SEVERAL.search(line)]
            if not (naming and removed(owners[naming[-1]])):
                return None
    return None


def spec(seed: int) -> tuple[str, Graph] | None:
    """The text of a network and its graph; None if this seed gives none, or one that takes too long."""
    random = Random(seed)
    with mock.patch.object(checker, "tried_changes", untried):
        found = mended(parts(random), random)
    return None if found is None or takes_long(found[1]) else found


def untried(found: Sequence[Diagnostic], *_: object) -> tuple[Diagnostic, ...]:
    """Errors without proposals for fixes, which each cost a check."""
    return tuple(found)


def takes_long(graph: Graph) -> bool:
    sizes = graph.examples
    shapes = [(*graph.shape(Tensor(n.id, i)), *n.samples) for n in graph.nodes() for i in range(len(n.shapes))]
    elements = sum(prod(dims.evaluate(d, sizes) for d in shape) for shape in shapes)
    weights = sum(map(prod, state_shapes(graph).values()))
    nodes = LARGEST_FREE if graph.free else LARGEST
    return elements > ELEMENTS or weights > WEIGHTS or len(graph) > nodes
