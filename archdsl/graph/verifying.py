"""The invariants of a graph, on which every pass relies."""

from __future__ import annotations

from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.base import Operation, Rules, Shape


class BrokenGraph(AssertionError):
    """A graph that violates an invariant: a bug in archdsl, not in a spec."""


def verify(graph: Graph, *, paths: bool = True, sizes: bool = True) -> None:
    """Raises BrokenGraph if a graph violates an invariant.

    Ids count from 0 in topological order, which is the order in the scopes, and all references are valid. With `paths`
    no two nodes have one path, and with `sizes` each operation infers the sizes in the graph from its inputs: a graph
    for a diagram or with recomputed parts may lack these.
    """
    placed = list(graph.root.nodes())
    if len(placed) != len(graph) or any(a is not b for a, b in zip(placed, graph.nodes(), strict=True)):
        raise BrokenGraph("the scopes do not hold the nodes of the graph, each once and in order")
    for number, node in enumerate(graph.nodes()):
        if node.id != number:
            raise BrokenGraph(f"{node} has the id {node.id} and is number {number}")
        if any(not 0 <= t.node < number or t.index >= len(graph.node(t).shapes) for t in node.inputs):
            raise BrokenGraph(f"{node} takes a tensor that no node before it gives")
        _check_windows(graph, node)
        _check_batches(graph, node)
    for scope in graph.root.scopes():
        _check_scope(graph, scope)
    if not graph.outputs or not all(_is_there(graph, output.tensor) for output in graph.outputs):
        raise BrokenGraph("the graph has no output, or one that no node gives")
    if paths:
        _check_paths(graph)
    if sizes:
        _check_sizes(graph)


def _check_scope(graph: Graph, scope: Scope) -> None:
    if scope.lost:
        raise BrokenGraph(f"{scope} has members that failed")
    if not all(_is_there(graph, t) for t in (*scope.inputs, *scope.outputs)):
        raise BrokenGraph(f"{scope} takes or gives a tensor that the graph does not have")
    if scope.input_names and len(scope.input_names) != len(scope.inputs):
        raise BrokenGraph(f"{scope} has {len(scope.inputs)} inputs and {len(scope.input_names)} names for them")
    for member in scope.members:
        if (member.scope if isinstance(member, Node) else member.parent) is not scope:
            raise BrokenGraph(f"{member} is a member of {scope} and refers to another scope")


def _check_windows(graph: Graph, node: Node) -> None:
    """All that a node computes from is of the same windows as itself; a cut and a join lead into them and out."""
    own = node.windows.around if node.operation.cuts and node.windows is not None else node.windows
    for tensor in (t for t in node.sources if graph.node(t).batched):
        given = graph.node(tensor).windows
        if (given.around if node.operation.joins and given is not None else given) is not own:
            raise BrokenGraph(f"{node} takes a tensor of other windows")


def _check_batches(graph: Graph, node: Node) -> None:
    """All results of a node have the batch, or none."""
    if len(node.shapes) > 1 and len({graph.node(t).batched for t in node.inputs}) > 1:
        raise BrokenGraph(f"{node} has several results, and only some of its inputs have the batch")


def _is_there(graph: Graph, tensor: Tensor) -> bool:
    return 0 <= tensor.node < len(graph) and tensor.index < len(graph.node(tensor).shapes)


def _check_paths(graph: Graph) -> None:
    taken: set[str] = set()
    for member in (m for scope in graph.root.scopes() for m in scope.members):
        around = member.scope if isinstance(member, Node) else member.parent
        assert around is not None
        if member.path != (f"{around.path}.{member.name}" if around.path else member.name):
            raise BrokenGraph(f"{member} has the path {member.path}, and its scope {around.path}")
        if not (isinstance(member, Node) and member.operation.is_input):
            if (member.path in taken) is not member.again:
                if member.again:
                    raise BrokenGraph(f"{member} uses the weights of another node, and there is none before it")
                raise BrokenGraph(f"two members have the path {member.path}")
            taken.add(member.path)


def _check_sizes(graph: Graph) -> None:
    known: dict[tuple[int, tuple[Shape, ...]], tuple[Operation, tuple[Shape, ...]]] = {}
    for node in graph.nodes():
        if not node.operation.takes(len(node.inputs)):
            raise BrokenGraph(f"{node} takes {len(node.inputs)} tensors")
        shapes = graph.shapes(node.inputs)
        key = (id(node.operation), shapes)
        if key not in known:
            known[key] = node.operation, node.operation.infer(shapes, Rules())
        if known[key][1] != node.shapes:
            raise BrokenGraph(f"{node} gives {known[key][1]}, and the graph says {node.shapes}")
