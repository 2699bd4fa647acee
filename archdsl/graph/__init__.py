"""The network as a graph: nodes with operations and sizes, and the tree of scopes that contains them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal, TypeAlias

from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostic
from archdsl.dims import Choice, Demanded, Dim, Region, SizeSet
from archdsl.ops.base import Operation, Shape, Weight
from archdsl.ops.declaration import OperationError
from archdsl.ops.partition import Cut
from archdsl.syntax import tree

if TYPE_CHECKING:  # importing it takes longer than most checks, which only walk the nodes
    import networkx as nx
    from pandas import DataFrame

    from archdsl.augment.base import Pipeline
    from archdsl.ops.extern import Kind
    from archdsl.report.tables import Table


@dataclass(frozen=True, slots=True)
class Tensor:
    """A result of a node: node `node`'s output number `index`."""

    node: int
    index: int = 0


Origin: TypeAlias = tree.Parallel | tree.Residual | tree.Dense | tree.Windows
"""The branches that a merge or align joins, or the body whose windows a join puts together."""


Rounds: TypeAlias = tuple[tuple[int, int], ...]
"""The loops around something, outermost first: the place of each in the text, and its iteration, from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """The windows that the body of a `windows` or `grid` meets, each as a sample of its own.

    `cut` makes them, of tensors of the size `whole`; `around` is the partition whose windows these tensors are.
    """

    cut: Cut
    whole: Shape
    around: Partition | None = None

    @property
    def counts(self) -> tuple[Dim, ...]:
        """The number of windows in a sample of the network, as a product."""
        return (*self.cut.counts(self.whole), *(self.around.counts if self.around is not None else ()))

    @property
    def has_strangers(self) -> bool:
        """Whether a shift brings positions together in a window that are not neighbours in the map."""
        return self.cut.is_shifted or (self.around is not None and self.around.has_strangers)


@dataclass(frozen=True, slots=True)
class Use:
    """A call of something shared: the reference that calls it, and the loops around that.

    `declared` are the numbers of nodes and of `share` statements before its own, which decide the order of keys; `at`
    are its place in the text and the loops around it.
    """

    span: Span
    rounds: Rounds
    declared: tuple[int, int]
    at: tuple[Span, Rounds]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node:
    """One operation in the graph.

    `shapes` has the size of each result, without the batch. `name` is its part of the path (it contains dots if a
    quoted label does), `path` the full path: the prefix of its keys in the state_dict. `call` is the call in the spec,
    None for implied nodes (an input, the add of a residual); `origin` is the set of branches of a merge or align;
    `rounds` are the iterations of its enclosing loops; `bound` are the values of the `let`s, loop variables and input
    sizes that its arguments may name. `batched`: it depends on an input of the network; else it is one sample, the same
    for the whole batch. `windows` says of which windows it gives a result each, None: of the whole. `use` is set in a
    call of something shared, `again` in all calls of it but the first: such a node has the path of one placed before
    it, and uses its weights.
    """

    id: int
    operation: Operation
    inputs: tuple[Tensor, ...]
    shapes: tuple[Shape, ...]
    name: str
    path: str
    labelled: bool
    scope: Scope
    span: Span
    call: tree.Call | None = None
    origin: Origin | None = None
    rounds: Rounds = ()
    bound: Mapping[str, object] = field(default_factory=dict)
    batched: bool = True
    windows: Partition | None = None
    use: Use | None = None
    again: bool = False

    def __repr__(self) -> str:
        return f"<Node {self.id} {self.path}: {self.operation.name}>"

    @property
    def samples(self) -> tuple[Dim, ...]:
        """How many results it gives for a sample of the network, as a product: 1, but for each window one."""
        return self.windows.counts if self.windows is not None and self.batched else ()

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The inputs that it computes from: not those of which it takes only the size."""
        sized = self.operation.sized_by
        return tuple(t for i, t in enumerate(self.inputs) if i not in sized) if sized else self.inputs


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Definition:
    """A block or model of a spec, as written. `syntax` has its parameters, documentation and body.

    `constants` gives the values of the `let`s of its file that have been evaluated.
    """

    name: str
    syntax: tree.Block | tree.Model
    constants: Callable[[], Mapping[str, object]] = dict

    def __repr__(self) -> str:
        return f"<Definition {self.name}>"


@dataclass(slots=True, eq=False, repr=False)
class Scope:
    """A call of a block, a label on a body, or the model itself: it becomes an nn.Module.

    `members` are its nodes and scopes, in order. `inputs` are the tensors from outside, in order (for a call: all that
    were passed, used or not), `outputs` its results. `arguments` are the values of the block's parameters. `span` is
    the call. `input_names` are the names of an `input` statement, one for each of `inputs`, or empty.
    """

    kind: Literal["model", "block", "body"]
    name: str
    path: str
    labelled: bool
    parent: Scope | None
    span: Span
    definition: Definition | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)
    members: list[Node | Scope] = field(default_factory=list)
    inputs: tuple[Tensor, ...] = ()
    input_names: tuple[str, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    lost: int = 0
    """The number of members that failed and are not in the graph; 0 in a checked one."""
    depth: int = 0
    """The number of enclosing scopes."""
    rounds: Rounds = ()
    """The iterations of the loops around it."""
    bound: Mapping[str, object] = field(default_factory=dict)
    """As that of a node, at its call."""
    use: Use | None = None
    again: bool = False
    """As that of a node."""
    shift: int = 0
    """The number of `share` statements, minus that of members that are calls of what they share."""

    def __repr__(self) -> str:
        return f"<Scope {self.path or self.name}: {len(self.members)} members>"

    def scopes(self) -> Iterator[Scope]:
        """This scope and all scopes inside, outermost first, in order."""
        return (member for member in self.walk() if isinstance(member, Scope))

    def walk(self) -> Iterator[Node | Scope]:
        """This scope and all scopes and nodes inside, outermost first, in the order of placement."""
        stack: list[Node | Scope] = [self]
        while stack:
            member = stack.pop()
            yield member
            if isinstance(member, Scope):
                stack.extend(reversed(member.members))

    def nodes(self) -> Iterator[Node]:
        """The nodes inside, in the order of placement."""
        return (member for member in self.walk() if isinstance(member, Node))

    def declared(self) -> list[Node | Scope]:
        """Its members; a shared one is listed at its `share`, without its later calls."""
        members = [m for m in self.members if not m.again] if not self.again else list(self.members)
        return sorted(members, key=_declared) if any(m.use is not None for m in members) else members

    def inflow(self) -> list[Tensor]:
        """The outside tensors that are read inside, each once."""
        inside = {node.id for node in self.nodes()}
        return list(dict.fromkeys(t for node in self.nodes() for t in node.inputs if t.node not in inside))

    @property
    def is_shared(self) -> bool:
        """Whether it is a call of something shared, or in one."""
        return any(scope.use is not None or scope.again for scope in self.calls())

    def calls(self) -> Iterator[Scope]:
        """This scope and its enclosing ones, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


@dataclass(frozen=True, slots=True)
class FreeSize:
    """A free size of a model's input: its name and its example size, None if the spec gives none."""

    name: str
    example: int | None
    span: Span


@dataclass(frozen=True, slots=True)
class Output:
    """A result of the model. `name` is None for a single, unnamed one. `training`: only in training mode."""

    name: str | None
    tensor: Tensor
    training: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """A constraint on the free sizes, with the message if it cannot be satisfied, and the line that causes it.

    `node` is the node whose size it constrains, None if unknown.
    """

    constraint: Demanded
    error: OperationError
    span: Span
    scope: Scope
    node: Node | None

    @property
    def of_node(self) -> bool:
        """Whether the node causes it, rather than a size written in `expect` or `input`."""
        return self.node is not None and self.node.span == self.span

    @property
    def text(self) -> str:
        """Its cause in the spec: the item, or the line with the size."""
        return self.span.text if self.of_node else self.span.source.line(self.span.line).strip()


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A demand that narrowed the valid values of the free size `size`: from `before` to `after`.

    `training`: only in training. `choice`: the demand leaves each set unchanged but relates several of them.
    """

    size: str
    demand: Demand
    before: SizeSet
    after: SizeSet
    training: bool = False
    choice: Choice | None = None


MEASURES = ("parameters", "macs", "field")
"""A cost that `expect` can state; `archdsl.analysis.expected` measures it."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """`expect parameters == 25_557_032`: what the model's author states about a cost."""

    measure: str
    comparison: str
    bound: int | float
    span: Span


@dataclass(slots=True, eq=False, repr=False)
class Graph:
    """A checked network.

    Nodes have ids from 0 in order of placement, which is a topological order. `root` is the model's scope. `sizes` has
    the valid values of every free size in evaluation, `training` those in training, None if they are the same;
    `augment` is the model's augmentation.
    """

    name: str
    root: Scope
    free: tuple[FreeSize, ...] = ()
    outputs: tuple[Output, ...] = ()
    sizes: Region = field(default_factory=Region.everything)
    training: Region | None = None
    narrowings: tuple[Narrowing, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    augment: Pipeline | None = None
    expectations: list[Expectation] = field(default_factory=list)
    _nodes: list[Node] = field(default_factory=list)
    _net: nx.DiGraph | None = None
    painter: Callable[[Graph], dict[str, str]] | None = None
    """Renders the graph in a notebook, by MIME type. `compiler.check` sets it, because diagrams are a higher layer."""
    tabulate: Callable[[Graph], Table] | None = None
    """Makes the table of layers, a higher layer as well."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": repr(self)} if self.painter is None else self.painter(self)

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self)} nodes>"

    def table(self) -> Table:
        """The table of `archdsl show`: a row for each layer. It shows itself in a notebook."""
        if self.tabulate is None:
            raise ValueError("only a graph of `archdsl.check` has a table")
        return self.tabulate(self)

    def to_pandas(self) -> DataFrame:
        """The table of `table` as a DataFrame; needs pandas."""
        return self.table().to_pandas()

    def __len__(self) -> int:
        """The number of nodes."""
        return len(self._nodes)

    def add(self, node: Node) -> None:
        """Adds a node, whose id is the number of nodes so far."""
        assert node.id == len(self._nodes)
        self._nodes.append(node)
        self._net = None

    def replace(self, node: Node) -> None:
        """Replaces the node with the same id."""
        self._nodes[node.id] = node
        self._net = None

    def node(self, at: int | Tensor) -> Node:
        return self._nodes[at.node if isinstance(at, Tensor) else at]

    def nodes(self) -> Iterator[Node]:
        """All nodes, in order of placement."""
        return iter(self._nodes)

    def ancestors(self, tensors: Iterable[Tensor]) -> set[int]:
        """The ids of the nodes on which these tensors depend, including their own."""
        found = {t.node for t in tensors}
        stack = list(found)
        while stack:
            for tensor in self._nodes[stack.pop()].inputs:
                if tensor.node not in found:
                    found.add(tensor.node)
                    stack.append(tensor.node)
        return found

    def of_training(self) -> list[Node]:
        """The nodes that run only in training, in order: those that only outputs `if training` need."""
        if not any(output.training for output in self.outputs):
            return []
        always = self.ancestors(output.tensor for output in self.outputs if not output.training)
        return [node for node in self._nodes if node.id not in always]

    @property
    def net(self) -> nx.DiGraph:
        """The network for networkx's algorithms: ids, with an edge for each pair of nodes joined by a tensor."""
        if self._net is None:
            import networkx as nx

            self._net = nx.DiGraph()
            self._net.add_nodes_from(range(len(self._nodes)))
            self._net.add_edges_from((tensor.node, node.id) for node in self._nodes for tensor in node.inputs)
        return self._net

    def shape(self, tensor: Tensor) -> Shape:
        """The size of a tensor of a checked graph, without the batch."""
        return self.node(tensor).shapes[tensor.index]

    def shapes(self, tensors: tuple[Tensor, ...]) -> tuple[Shape, ...]:
        return tuple(self.shape(t) for t in tensors)

    def weights_of(self, node: Node) -> tuple[Weight, ...]:
        """The tensors that a node owns, in state_dict order; none if it uses those of another one."""
        return () if node.again else node.operation.weights(self.shapes(node.inputs))

    def keeps_statistics(self, node: Node) -> bool:
        """Whether a node keeps statistics of what it has seen in training, or may do so."""
        if node.operation.outside():
            return True
        return any(w.buffer and not w.fixed for w in node.operation.weights(self.shapes(node.inputs)))

    def weights(self) -> Iterator[tuple[Node, Weight]]:
        """Every tensor of the state_dict with the node that owns it, in order of declaration."""
        return ((node, weight) for node in self.declared() for weight in self.weights_of(node))

    def declared(self) -> Iterator[Node]:
        """The nodes in order of declaration: as placed, but a shared node is at its `share`.

        Without the later calls of what is shared.
        """
        stack: list[Node | Scope] = [self.root]
        while stack:
            member = stack.pop()
            if isinstance(member, Node):
                yield member
                continue
            stack.extend(reversed(member.declared()))

    def called_again(self) -> Mapping[str, list[Node]]:
        """The nodes that use the weights of others, by their path."""
        found: dict[str, list[Node]] = {}
        for node in self._nodes:
            if node.again:
                found.setdefault(node.path, []).append(node)
        return found

    @property
    def outside(self) -> list[Kind]:
        """The externs that it uses, each once, in order of first use."""
        kinds = (node.operation.outside() for node in self._nodes)
        return list(dict.fromkeys(kind for kind in kinds if kind is not None))

    @property
    def always(self) -> Region:
        """The sizes that are valid both in evaluation and in training."""
        return self.sizes if self.training is None else self.training

    @property
    def valid(self) -> str:
        """The valid sizes in words: `any H, W (in training H, W: any from 33)`; empty if no size is free."""
        training = "" if self.training is None else f" (in training {self.training.describe()})"
        return self.sizes.describe() + training

    @property
    def examples(self) -> dict[str, int]:
        """A value for each free size, valid in both modes: the example size, else the next valid one from 64."""
        shown = {size.name: size.example for size in self.free if size.example is not None}
        return self.always.near({size.name: 64 for size in self.free}, shown)

    @property
    def input_nodes(self) -> list[Node]:
        return [n for n in self.root.members if isinstance(n, Node) and n.operation.is_input]


def _declared(member: Node | Scope) -> tuple[int, float]:
    """The place of a member among others: behind what was placed before it, or before its `share`."""
    if member.use is not None:
        return member.use.declared
    return (member.id if isinstance(member, Node) else next((n.id for n in member.nodes()), -1)), inf
