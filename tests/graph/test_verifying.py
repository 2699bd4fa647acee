"""Verification finds each kind of broken graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from archdsl.graph import Graph, Node, Output, Scope, Tensor
from archdsl.graph.verifying import BrokenGraph, verify
from tests.helpers import graph_of

SPEC = """
block unit(width) { input x[c, h, w]
    conv(width, 3) -> relu }
model net { input image[3, 32, 32]
    first: unit(8)
    second: unit(8)
    (it, first) -> add
}
"""


def checked() -> Graph:
    return graph_of(SPEC)


def scope(graph: Graph, path: str) -> Scope:
    return next(s for s in graph.root.scopes() if s.path == path)


def change(graph: Graph, at: int, **changes: object) -> None:
    """Replaces a node by a changed copy, in the graph and in its scope."""
    old = graph.node(at)
    new: Node = replace(old, **changes)  # type: ignore[arg-type]
    graph._nodes[at] = new
    old.scope.members[old.scope.members.index(old)] = new


def swap(graph: Graph, at: int) -> None:
    """Swaps two adjacent nodes, in the graph and in their scope."""
    first, second = graph.node(at), graph.node(at + 1)
    members = first.scope.members
    place = members.index(first)
    members[place : place + 2] = [second, first]
    graph._nodes[at : at + 2] = [second, first]


def outputs(graph: Graph, *found: Output) -> None:
    graph.outputs = found


BREAKS: dict[str, tuple[Callable[[Graph], object], str]] = {
    "an id twice": (lambda g: change(g, 2, id=1), "has the id 1 and is number 2"),
    "an order that is not topological": (lambda g: swap(g, 1), "has the id 2 and is number 1"),
    "a loop": (lambda g: change(g, 1, inputs=(Tensor(2),)), "takes a tensor that no node before it gives"),
    "a result that its node does not give": (
        lambda g: change(g, 2, inputs=(Tensor(1, 1),)),
        "takes a tensor that no node before it gives",
    ),
    "a node in no scope": (lambda g: g.root.members.pop(), "do not hold the nodes"),
    "a node of a scope alone": (lambda g: g._nodes.pop(), "do not hold the nodes"),
    "a node twice in its scope": (
        lambda g: g.root.members.append(g.root.members[-1]),
        "do not hold the nodes",
    ),
    "a node of another scope": (lambda g: change(g, 1, scope=g.root), "refers to another scope"),
    "a scope with another parent": (
        lambda g: setattr(scope(g, "first"), "parent", scope(g, "second")),
        "refers to another scope",
    ),
    "a lost member": (lambda g: setattr(g.root, "lost", 1), "has members that failed"),
    "a scope that gives what is not there": (
        lambda g: setattr(scope(g, "first"), "outputs", (Tensor(99),)),
        "takes or gives a tensor",
    ),
    "a scope that takes a lost tensor": (
        lambda g: setattr(scope(g, "first"), "inputs", (Tensor(-1),)),
        "takes or gives a tensor",
    ),
    "names for other inputs": (
        lambda g: setattr(scope(g, "first"), "input_names", ("a", "b")),
        "has 1 inputs and 2 names",
    ),
    "no output": (lambda g: outputs(g), "has no output"),
    "an output that no node gives": (lambda g: outputs(g, Output(None, Tensor(99))), "has no output"),
    "a path twice": (lambda g: change(g, 2, name="0", path="first.0"), "two members have the path first.0"),
    "a path outside of its scope": (lambda g: change(g, 2, path="other.1"), "has the path other.1"),
    "another size": (lambda g: change(g, 2, shapes=((8, 32, 31),)), "the graph says"),
    "an input too many": (lambda g: change(g, 2, inputs=(Tensor(1), Tensor(1))), "takes 2 tensors"),
    "a merge of one": (lambda g: change(g, len(g) - 1, inputs=(Tensor(1),)), "takes 1 tensors"),
}


def test_a_checked_graph_is_whole() -> None:
    verify(checked())


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_graph_is_found(name: str) -> None:
    damage, message = BREAKS[name]
    graph = checked()
    damage(graph)
    with pytest.raises(BrokenGraph, match=message):
        verify(graph)


def test_paths_and_sizes_are_left_out_where_a_graph_may_lack_them() -> None:
    graph = checked()
    change(graph, 2, name="0", path="first.0")
    verify(graph, paths=False)
    change(graph, 2, shapes=((8, 32, 31),))
    verify(graph, paths=False, sizes=False)
