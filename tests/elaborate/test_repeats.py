"""Repeated calls of blocks are copied: the graph is that which reading each call gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from random import Random
from typing import Any

import pytest

from archdsl.checker.parameters import bind_model
from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics, SpecError
from archdsl.elaborate import Elaborator, elaborate, statements
from archdsl.elaborate.repeats import Repeats
from archdsl.elaborate.spec_files import Loader, SpecFile, library_families, library_folder
from archdsl.graph import Demand, Graph, Node, Scope
from archdsl.ops.base import Operation
from tests.helpers import net_text, source_of
from tests.random_specs import spec


def seen(graph: Graph, demands: list[Demand], elaborator: Elaborator) -> Iterator[object]:
    """All that elaboration has found, scopes and nodes by their paths."""
    for member in graph.root.walk():
        yield {f.name: shown(getattr(member, f.name)) for f in fields(member)}
    yield [shown(node) for node in graph.nodes()]
    yield [{f.name: shown(getattr(demand, f.name)) for f in fields(demand)} for demand in demands]
    yield graph.outputs, graph.free
    build, items = elaborator.build, elaborator.items
    yield build.paths.taken, build.paths.implied, build.paths.unnamed, build.repeats, build.provisional
    yield {flow: id(item) for flow, item in items.parallels.items()}


def shown(value: Any) -> object:
    """A value without the identity of what each elaboration makes anew."""
    if isinstance(value, Node | Scope):
        return type(value).__name__, value.path, value.depth if isinstance(value, Scope) else value.id
    if isinstance(value, list | tuple):
        return [shown(part) for part in value]
    if isinstance(value, dict):
        return {key: shown(part) for key, part in value.items()}
    if isinstance(value, Operation):
        return repr(value)
    return value if type(value).__module__ == "builtins" or type(value).__eq__ is not object.__eq__ else named(value)


def named(value: object) -> object:
    text = repr(value)
    return text if " at 0x" not in text else type(value).__name__


def found(spec_file: SpecFile, name: str, copies: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[list[object], int]:
    """All that elaboration finds with or without copies, and the number of these."""
    elaborators: list[Elaborator] = []
    number = [0]
    copy = Repeats.copy

    def counted(repeats: Repeats, key: object, scope: Scope) -> object:
        result = copy(repeats, key, scope) if copies else None
        number[0] += result is not None
        return result

    of = Elaborator.of.__func__  # type: ignore[attr-defined]

    def kept(cls: type[Elaborator], *arguments: Any) -> Elaborator:
        elaborators.append(of(cls, *arguments))
        return elaborators[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Repeats, "copy", counted)
        patch.setattr(statements.Elaborator, "of", classmethod(kept))
        diagnostics = Diagnostics()
        graph, demands = elaborate(name, *bind_model(spec_file, name, {}, diagnostics), diagnostics)
    return [
        *seen(graph, demands, elaborators[0]),
        shown(diagnostics.items),
        sorted(map(str, diagnostics.hidden)),
    ], number[0]


def agree(source: Source, monkeypatch: pytest.MonkeyPatch) -> int:
    """Compares both for all models of a text; gives the number of copies."""
    diagnostics = Diagnostics()
    spec_file = Loader(diagnostics).load_source(source)
    copies = 0
    for name in spec_file.models:
        with suppress(SpecError):  # a model that needs values
            bind_model(spec_file, name, {}, Diagnostics())
            result, number = found(spec_file, name, True, monkeypatch)
            assert result == found(spec_file, name, False, monkeypatch)[0], (source.name, name)
            copies += number
    return copies


UNIT = """\
block unit(width, depth = 1) {
    residual { conv(width, 3) -> batchnorm -> act: relu -> "odd": conv(width, 3) }
    let half = it.channels / 2
    for i in 0..depth { "i{i}": { conv(half, 1) -> (relu, tanh) -> concat } }
    if depth > 1 { inner(width) }
}
block inner(n) { input a[_, H, W]
    (a, a -> maxpool(3, stride = 1, pad = 1)) -> add -> conv(n, 1) }
block pair(n) { (conv(n, 1), conv(n, 1)) }
block only { (it) -> relu }
block moves { relu -> "0": conv(4, 1) }
block shares { share c: conv(4, 1)
    c -> relu -> c }
block cuts { windows(4) { linear(4) } }
block wrong(n) { conv(n, 3) -> nothing }
block wrongs(n) {
    for i in 0..2 { "w{i}": wrong(n) -> relu -> l: batchnorm }
    residual { a: nothing
        a -> conv(nothing, 3) }
    (conv(4, 1), wrong(2)) -> concat -> "0": conv(4, 1)
}
block part(n) { (it, conv(n, 3) -> nothing) -> b: add
    unit(4)
    (b, it) -> add -> maxpool(50) }
"""

CASES = [
    ("repeat 4 { unit(4) }", 3),
    ("for i in 0..4 { unit(4, i % 2 + 1) }\n unit(4, 1.0)", 2),
    ("(unit(4), unit(4), unit(4)) -> concat", 2),
    ("(pair(4), pair(4)) -> concat -> conv(4, 1) -> pair(4) -> add", 1),
    ("a: { unit(4, 2) }\n unit(4, 2)\n relu -> only -> only -> only", 1),
    ("repeat 3 { moves }", 0),
    ("repeat 3 { shares }", 0),
    ("repeat 3 { cuts }", 0),
    ("repeat 3 { wrong(4) }\n repeat 3 { unit(4) }", 2),
    ("repeat 5 { wrongs(4) }\n relu -> wrong(4)", 3),
    ("for i in 0..6 { wrongs(i % 2) -> a: conv(4, 3)\n (a, wrong(4)) -> concat }", 4),
    ("(part(4), part(4), part(4)) -> add\n repeat 3 { part(4) }\n relu -> unit(4)", 3),
    ("repeat 3 { linear(3) }\n (unit(4), unit(5), unit(5), unit(5)) -> concat", 1),
    ("repeat 3 { unit(4) -> maxpool(2) }", 0),
    ("share u: unit(4)\n u -> relu -> u -> unit(4) -> unit(4)", 1),
    ("windows(4) { linear(4) -> unit(4) -> unit(4) }", 1),
]


@pytest.mark.parametrize(("body", "least"), CASES)
def test_copies_are_what_reading_gives(body: str, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert agree(source_of(net_text(body, "x[4, H = 32, W = 32]", UNIT)), monkeypatch) >= least


@pytest.mark.parametrize("family", ["resnet", "mobilenet"])
def test_library(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = library_folder() / f"{family}.arch"
    assert agree(Source(path.name, path.read_text("utf-8"), path), monkeypatch) > 10


@pytest.mark.long
def test_whole_library(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [library_folder() / f"{family}.arch" for family in library_families()]
    assert sum(agree(Source(path.name, path.read_text("utf-8"), path), monkeypatch) for path in paths) > 1000


@pytest.mark.long
@pytest.mark.parametrize("family", ["resnet", "mobilenet", "densenet", "hrnet", "swin", "googlenet"])
def test_misspelt_names_of_the_library(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random, path, copies = Random(0), library_folder() / f"{family}.arch", 0
    text = path.read_text("utf-8")
    words = [m for m in re.finditer(r"[a-z_]{3,}", text) if m.start() > text.index("block")]
    for word in random.sample(words, 15):
        wrong = f"{text[: word.start()]}x{text[word.start() :]}"
        copies += agree(Source(path.name, wrong, path), monkeypatch)
    assert copies > 0


@pytest.mark.long
def test_random_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = 0
    for seed in range(150):
        made = spec(seed)
        if made is not None:
            copies += agree(source_of(made[0]), monkeypatch)
    assert copies > 30
