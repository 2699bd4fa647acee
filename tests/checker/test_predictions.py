"""The checker's predictions are what PyTorch does: random networks, each node's size compared with the tensor's."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from archdsl.diagnostics import SpecError
from archdsl.dims import evaluate
from archdsl.graph import Graph, Node
from tests.helpers import graph_of, random_graph
from tests.ops.forms import Built
from tests.random_networks import network


def arriving(graph: Graph, sizes: dict[str, int]) -> list[tuple[Node, list[tuple[int, ...]]]]:
    """The sizes of the tensors that PyTorch computes at every node, on the meta device."""
    values: dict[tuple[int, int], Tensor] = {}
    found: list[tuple[Node, list[tuple[int, ...]]]] = []
    with torch.no_grad(), torch.device("meta"):
        for node in graph.nodes():
            if node.operation.name == "input":
                result: object = torch.empty(2, *(evaluate(d, sizes) for d in node.shapes[0]))
            else:
                incoming = [values[t.node, t.index] for t in node.inputs]
                result = operation(node, graph, sizes)(*incoming)
            tensors = [result] if isinstance(result, Tensor) else list(result)
            for index, tensor in enumerate(tensors):
                values[node.id, index] = tensor
            found.append((node, [tuple(t.shape[1:]) for t in tensors]))
    return found


def free_network(random: Random) -> str:
    return network(random, free=True)


_built: dict[object, Built] = {}


def operation(node: Node, graph: Graph, sizes: dict[str, int]) -> Built:
    shapes = tuple(tuple(evaluate(d, sizes) for d in s) for s in graph.shapes(node.inputs))
    key = (node.operation, shapes)
    if key not in _built:
        _built[key] = Built(node.operation, shapes, device="meta")
    return _built[key]


def agrees(graph: Graph, sizes: dict[str, int]) -> None:
    for node, tensors in arriving(graph, sizes):
        predicted = [tuple(evaluate(d, sizes) for d in s) for s in node.shapes]
        assert predicted == tensors, f"{node.path} ({node.operation}): {predicted}, PyTorch has {tensors}"


@pytest.mark.parametrize("networks", [60, pytest.param(1500, marks=pytest.mark.long)])
def test_predicted_sizes_are_the_sizes_that_arrive(networks: int) -> None:
    random = Random(7)
    for _ in range(networks):
        text, graph = random_graph(network, random)
        try:
            agrees(graph, {})
        except Exception as error:
            raise AssertionError(text) from error


@settings(max_examples=50)
@given(st.randoms(use_true_random=False))
def test_free_sizes_are_the_sizes_that_arrive(random: Random) -> None:
    _, graph = random_graph(free_network, random)
    nearest = {name: found.nearest(50) for name, found in graph.sizes.items()}
    agrees(graph, graph.examples)
    agrees(graph, {name: below or above for name, (below, above) in nearest.items()})


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_sizes_outside_the_valid_set_fail(random: Random) -> None:
    """The set is exact: PyTorch, or a check with fixed sizes, rejects every size of one axis outside it."""
    text, graph = random_graph(free_network, random)
    for size in graph.free:
        for value in range(1, 25):
            pinned = text.replace(f"{size.name} = {size.example}", str(value))
            if value in graph.sizes[size.name]:
                graph_of(pinned)
            else:
                with pytest.raises(SpecError):
                    graph_of(pinned)
