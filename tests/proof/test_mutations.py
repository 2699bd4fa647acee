"""Mutation tests of the proof: a changed file is rejected, or behaves in PyTorch like the original.

`make test-long` tries every change of `tests/proof/mutations.py` to every form of the networks; the default run tries
one in a fixed number. docs/proof.md has the counts.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

import pytest
import torch

from archdsl import dims
from archdsl.common.choices import Budget
from archdsl.common.source import Source
from archdsl.compiler import check, prove_build
from archdsl.graph import Graph
from archdsl.graph import Tensor as Edge
from archdsl.proof import Unproved, prove
from archdsl.runtime.loading import instantiate
from archdsl.transform.fitting import Search, fitted
from archdsl.transform.inference import for_inference
from archdsl.transform.recompute import recompute
from tests.proof.mutations import count, mutant
from tests.proof.networks import NETWORKS
from tests.proof.oracle import model_of, outcome, same

EVERY = 29
"""The default run tries one change in this many; a prime, so that every kind occurs."""

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "inference": {"inference": True},
    "dense": {"recompute": "dense"},
    "blocks": {"recompute": "blocks"},
}
CASES = [
    *((name, form) for name in NETWORKS if name != "levels" for form in ("plain", "inference")),
    *(("dense", form) for form in ("dense", "blocks", "memory")),
    ("levels", "memory"),
    ("outputs", "blocks"),
]


def given(graph: Graph) -> list[list[torch.Tensor]]:
    """Inputs of the example's size, and of others, valid or not."""
    torch.manual_seed(3)
    found = []
    for change in (0, 1, -1, 7) if graph.free else (0,):
        sizes = {name: n + change for name, n in graph.examples.items()}
        shapes = [[dims.evaluate(d, sizes) for d in graph.shape(Edge(node.id))] for node in graph.input_nodes]
        found.append([torch.randn(2, *shape, dtype=torch.float64) for shape in shapes])
    return found


def last_class(text: str) -> str:
    return [s.name for s in ast.parse(text).body if isinstance(s, ast.ClassDef)][-1]


def smallest(graph: Graph) -> Budget:
    """The least memory for a training step, which takes layers in series."""
    limit = Search(graph, Budget(0, 64)).least().peak
    assert fitted(graph, Budget(limit, 64)).again.series
    return Budget(limit, 64)


class Tried:
    """One file, and the results of its changes."""

    def __init__(self, name: str, form: str) -> None:
        self.graph = check(Source(f"{name}.arch", NETWORKS[name]))
        options = FORMS[form] if form != "memory" else {"recompute": smallest(self.graph)}
        self.text = prove_build(self.graph, **options).text
        self.shown, self.folding = for_inference(self.graph) if "inference" in options else (self.graph, None)
        self.again = recompute(self.graph, options.get("recompute", "none"))
        if name == "levels":  # concats and skips among layers of several blocks
            every = self.again.series
            assert any(s.crosses and len(s.inflow()) > 1 for s in every) and any(s.given for s in every)
        self.inputs = given(self.graph)
        self.weights = instantiate(self.graph, dtype=torch.float64).state_dict()
        for tensor in self.weights.values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
        self.wanted = self.done(self.text)
        self.refused = self.equal = 0

    def done(self, text: str) -> object:
        model, state, names = model_of(text, last_class(text))
        return state, outcome(model, names, self.weights, self.inputs, self.folding is not None)

    def attempt(self, number: int) -> None:
        what, text = mutant(self.text, number)
        try:
            prove(text, self.shown, folding=self.folding, recompute=self.again)
        except Unproved:
            self.refused += 1
            return
        try:
            equal = same(self.done(text), self.wanted)
        except Exception as error:
            raise AssertionError(f"{what}: proved, and does not run: {error}") from error
        assert equal, f"{what}: proved, and does something else"
        self.equal += 1


def attempts(name: str, form: str, first: int, every: int) -> Tried:
    torch.set_num_threads(1)
    tried = Tried(name, form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a changed file may raise Python warnings
        for number in range(first, count(tried.text), every):
            tried.attempt(number)
    print(f"{name}, {form}: {tried.refused} refused, {tried.equal} equal")
    return tried


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_changed_file_is_refused_or_does_the_same(name: str, form: str) -> None:
    tried = attempts(name, form, len(name) % EVERY, EVERY)
    assert tried.refused >= 5 and tried.refused >= 2 * tried.equal


@pytest.mark.long
@pytest.mark.parametrize(("name", "form"), CASES)
def test_every_changed_file_is_refused_or_does_the_same(name: str, form: str) -> None:
    tried = attempts(name, form, 0, 1)
    assert tried.refused >= 150
