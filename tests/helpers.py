"""Helpers that the tests of several rooms share. None needs PyTorch; those that do are in tests/modules.py."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from random import Random

from archdsl.common.source import Source
from archdsl.compiler import check
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.runtime.weights import state_shapes

ROOT = Path(__file__).parents[1]
"""The checkout."""


def source_of(text: str) -> Source:
    return Source("net.arch", text)


def net_text(body: str, inputs: str = "x[4, 16, 16]", before: str = "") -> str:
    """The text of a spec with one model, `net`, of these inputs; `before` has the definitions that it uses."""
    before = before and f"{before}\n"
    return f"{before}model net {{\n    input {inputs}\n    {body}\n}}\n"


def graph_of(text: str, **values: object) -> Graph:
    """The checked graph of a spec. Raises SpecError."""
    return check(source_of(text), **values)


TRIES = 30
"""So many texts in a row are no network only where the checker or the writer of the texts is broken."""


def random_graph(
    write: Callable[[Random], str], random: Random, nodes: int = 2_000, weights: int = 1_000_000
) -> tuple[str, Graph]:
    """The next text of `write` that is a network, of so many nodes and weights at most, and its graph.

    Random texts may be refused: a test that skipped those could pass without a single network. This one fails.
    """
    for _ in range(TRIES):
        text = write(random)
        try:
            graph = graph_of(text)
        except SpecError:
            continue
        if len(graph) <= nodes and sum(map(prod, state_shapes(graph).values())) <= weights:
            return text, graph
    raise AssertionError(f"none of {TRIES} random texts is a network of that size; the last:\n{text}")
