"""Places nodes and scopes in one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Final, cast

from archdsl import dims
from archdsl.common.limits import Budget, Exceeded
from archdsl.common.source import Span
from archdsl.dims import Constraint, Demanded, DimError
from archdsl.elaborate.paths import Paths, join
from archdsl.elaborate.place import POISONED_TENSOR, Flow, LabelValue, Place, check_label, check_path
from archdsl.elaborate.reports import Reports
from archdsl.graph import Demand, Graph, Node, Origin, Partition, Rounds, Scope, Tensor, Use
from archdsl.ops.base import Operation, Rules, Shape
from archdsl.ops.declaration import OperationError
from archdsl.ops.expand import Expand
from archdsl.ops.fields import shape_text
from archdsl.syntax import tree
from archdsl.values import DEMAND, FAILED, BlockValue, Failure, Namespace, Poisoned, TensorValue, describe, evaluate

EXPAND: Final = Expand()

LARGE: Final = 10_000
"""From this many nodes on, the total is estimated before more nodes are placed."""


@dataclass(slots=True, eq=False)
class Builder:
    """Places nodes and scopes in one graph, and keeps what their sizes must meet."""

    reports: Reports
    graph: Graph
    budget: Budget
    estimate: Callable[[], int | None] = lambda: None
    demands: list[Demand] = field(default_factory=list)
    paths: Paths = field(init=False)
    provisional: dict[str, str] = field(default_factory=dict)
    """The calls without a label that took a free number because another item has theirs."""
    use: Use | None = None
    """The use of the next node or scope."""
    again: bool = False
    """Whether what is placed uses the weights of what was placed before."""
    rounds_around: Rounds = ()
    """The iterations of the current loops."""
    bound: Mapping[str, object] = field(default_factory=dict)
    """The values of the current `let`s, loop variables and input sizes by name; never changed, but replaced."""
    windows: Partition | None = None
    """The windows that the current body meets."""
    repeats: set[tuple[int, int, int]] = field(default_factory=set)
    """Where a learned tensor was repeated for the batch: the place in the text, and the number of the input."""
    wholes: dict[Partition, Tensor] = field(default_factory=dict)
    """The map that a partition cuts."""
    _inferred: dict[object, tuple[Operation, tuple[Shape, ...], list[tuple[Demanded, OperationError]]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        self.paths = Paths(self.graph, self.budget)

    def bind_name(self, name: str, value: object, place: Place, span: Span) -> None:
        """Gives a name its value from here on; that of a tensor is a label."""
        if isinstance(value, TensorValue):
            place.names.values.pop(name, None)
            place.names.labels[name] = LabelValue(value.flow, span, self.tensor_value)
            self.bound = {n: v for n, v in self.bound.items() if n != name}
            return
        place.names.labels.pop(name, None)
        place.names.values[name] = value
        self.bound = {**self.bound, name: value}

    def finish(self) -> None:
        """Final step: demands refer to the nodes of the graph, and each error lists all its calls."""
        if self.paths.moved:
            self.demands = [
                d if d.node is None or d.node.id < 0 else replace(d, node=self.graph.node(d.node.id))
                for d in self.demands
            ]

    # ------------------------------------------------------------ tensors

    def shape(self, tensor: Tensor) -> Shape | None:
        """The size of a tensor, None for a lost one."""
        if tensor.node < 0:
            return None
        return self.graph.node(tensor).shapes[tensor.index]

    def tensor_value(self, flow: Flow) -> TensorValue:
        if POISONED_TENSOR in flow:
            raise Poisoned
        parts = tuple([TensorValue(self.shape(t), (t,)) for t in flow])
        return parts[0] if len(parts) == 1 else TensorValue(None, flow, parts)

    def set_flow(self, place: Place, flow: Flow) -> None:
        place.flow = flow
        place.names.it = self.it(flow)

    def same_counts(self, flow: Flow, pieces: Sequence[Tensor], span: Span) -> None:
        """Demands that tensors which are cut together have one size, so that their windows belong together."""
        if POISONED_TENSOR in (*flow, *pieces):
            return
        first = cast(Shape, self.shape(flow[0]))
        for tensor, piece in zip(flow[1:], pieces[1:], strict=True):
            other = cast(Shape, self.shape(tensor))
            sizes = f"{shape_text(first)} and {shape_text(other)}"
            error = OperationError(f"tensors that are cut together need equal sizes; these are {sizes}")
            for a, b in zip_longest(first[1:], other[1:], fillvalue=0):
                same = dims.equal(a, b)
                if same is False:
                    raise Failure("E0301", error.message, span, "make the sizes equal with `align(crop)` before it")
                if same is not True:
                    node = self.graph.node(piece)
                    self.demands.append(Demand(same, error, span, node.scope, node))

    def keeps_strangers_apart(
        self, operation: Operation, flow: Flow, shapes: tuple[Shape, ...], results: tuple[Shape, ...]
    ) -> None:
        """Raises OperationError for an operation that would mix positions which a shift has brought together."""
        if self.windows is None or not self.windows.has_strangers or operation.masks:
            return
        if operation.bias_at is not None and (self.windows.around is None or not self.windows.around.has_strangers):
            return  # its bias masks them
        of = {i for i, tensor in enumerate(flow) if self.graph.node(tensor).batched}
        if operation.mixes_positions(shapes, results, of):
            raise OperationError(
                f"`{operation.name}` looks at other positions, and in a shifted window some are no neighbours",
                inputs=(0,),
                help="inside of `windows` with a `shift` use `attention` or `attend`, which keep them apart, and "
                "operations on single positions, such as `linear`; put others outside",
            )

    def depends_on_input(self, flow: Flow) -> bool:
        return any(self.graph.node(t).batched for t in flow)

    def is_elsewhere(self, flow: Flow) -> bool:
        """Whether a tensor is of other windows than those that the current body meets."""

        nodes = [self.graph.node(t) for t in flow if t.node >= 0]
        return any(node.batched and node.windows is not self.windows for node in nodes)

    def it(self, flow: Flow) -> object:
        if not flow:
            return None
        if len(flow) == 1:  # the usual case, at every item
            shape = self.shape(flow[0])
            return FAILED if shape is None else TensorValue(shape, flow)
        if POISONED_TENSOR in flow:
            return FAILED
        return self.tensor_value(flow)

    def body_names(self, block: BlockValue, arguments: Mapping[str, object], scope: Scope) -> Namespace:
        names = Namespace(block.module)
        names.values[DEMAND] = self.demand(scope)
        names.values.update(arguments)
        return names

    def demand(self, scope: Scope) -> Callable[[Constraint, str, Span], None]:
        def keep(constraint: Constraint, message: str, span: Span) -> None:
            self.demands.append(Demand(constraint, OperationError(message), span, scope, None))

        return keep

    # ------------------------------------------------------------ nodes and demands

    def place_node(
        self,
        operation: Operation,
        flow: Flow,
        name: str,
        labelled: bool,
        scope: Scope,
        span: Span,
        call: tree.Call | None,
        origin: Origin | None = None,
    ) -> Flow:
        """Infers the output sizes, and adds the node to the graph and its scope."""
        if not operation.is_input:
            name = self.paths.settle(name, labelled, scope, span, lambda: self.owns(operation, flow))
        if POISONED_TENSOR in flow:
            self.reports.hide(span)
            scope.lost += 1
            return (POISONED_TENSOR,) * operation.results(len(flow))
        node_id = len(self.graph)
        self.another_node(span)
        shapes = tuple(cast(Shape, self.shape(t)) for t in flow)
        path = join(scope.path, name)
        try:
            results, new_demands = self.infer(operation, shapes)
            if self.depends_on_input(flow):
                self.keeps_strangers_apart(operation, flow, shapes, results)
        except OperationError as error:
            scope.lost += 1
            self.size_error(error, Node(-1, operation, flow, (), name, path, labelled, scope, span, call, origin))
            return (POISONED_TENSOR,) * operation.results(len(flow))
        except DimError as error:
            scope.lost += 1
            self.reports.report("E0305", str(error), scope, span)
            return (POISONED_TENSOR,) * operation.results(len(flow))
        rounds, bound, windows = self.rounds_around, self.bound, self.windows
        use, self.use = self.use, None
        batched = operation.is_input or (not operation.once and any(self.graph.node(t).batched for t in flow))
        facts = (call, origin, rounds, bound, batched, windows, use, self.again)
        node = Node(node_id, operation, flow, results, name, path, labelled, scope, span, *facts)
        self.graph.add(node)
        scope.members.append(node)
        self.demands_of(node, span)
        for constraint, message in new_demands:
            self.demands.append(Demand(constraint, message, span, scope, node))
        return tuple(Tensor(node_id, i) for i in range(len(results)))

    def batched(self, operation: Operation, flow: Flow, scope: Scope, span: Span) -> Flow:
        """The inputs of an operation, each with a batch axis if it needs one."""
        return self.repeated(flow, operation.needs_batches, scope, span) if operation.needs_batches else flow

    def repeated(self, flow: Flow, count: int, scope: Scope, span: Span) -> Flow:
        """The flow; an implied `expand` repeats those of the first `count` that lack the batch of the others.

        Where a learned tensor was repeated in one call of a block, what is computed from samples passes the same
        `expand` in the next, which changes nothing: all calls are the same layers then.
        """
        if POISONED_TENSOR in flow:
            return flow
        found = list(flow)
        for number, tensor in enumerate(flow[:count]):
            others = (t for i, t in enumerate(flow) if i != number and self.graph.node(t).batched)
            place = (id(span.source), span.start, number)
            if (other := next(others, None)) is None or (self.graph.node(tensor).batched and place not in self.repeats):
                continue
            self.repeats.add(place)
            position = str(self.position(scope))
            (found[number],) = self.place_node(EXPAND, (tensor, other), position, False, scope, span, None)
        return tuple(found)

    def infer(
        self, operation: Operation, shapes: tuple[Shape, ...]
    ) -> tuple[tuple[Shape, ...], list[tuple[Demanded, OperationError]]]:
        """The output sizes of an operation and what they demand, inferred once for the same input sizes."""
        key = (id(operation), shapes)
        if key not in self._inferred:
            rules = Rules()
            results = operation.infer(shapes, rules)
            self._inferred[key] = (operation, results, rules.constraints)
        return self._inferred[key][1:]

    def demands_of(self, node: Node, span: Span) -> None:
        """Turns the exact divisions in a part of the text into demands on the node that it describes."""
        for i in reversed(range(len(self.demands))):
            demand = self.demands[i]
            if demand.node is not None or not (
                demand.span.source is span.source and span.start <= demand.span.start and demand.span.end <= span.end
            ):
                break
            self.demands[i] = replace(demand, node=node)

    def size_error(self, error: OperationError, node: Node) -> None:
        """The failure of an operation that cannot take its inputs: the cause, and where each input comes from."""
        from archdsl.advice.sizes import advise  # only once something is wrong

        advice = advise(self.graph, node, error)
        code = "E0301" if node.operation.inputs == "many" else "E0302"
        self.reports.report(
            code,
            error.message,
            node.scope,
            *advice.marks,
            help=advice.help,
            notes=advice.notes,
            proposals=advice.proposals,
        )

    # ------------------------------------------------------------ scopes and paths

    def open_scope(self, kind: Any, name: str, labelled: bool, parent: Scope, span: Span, flow: Flow) -> Scope:
        position = name
        if not labelled and self.paths.holder(parent, name) is not None and not self.paths.gives_way(parent, name):
            name = self.paths.free(parent, int(name))
        path = self.paths.claim(name, labelled, parent, span)
        if parent.depth >= self.budget.limits.depth:
            message = f"blocks and labelled bodies are nested more than {self.budget.limits.depth} deep"
            raise Exceeded("depth", message, span)
        scope = Scope(
            kind, name, path, labelled, parent, span, inputs=flow, depth=parent.depth + 1, rounds=self.rounds_around
        )
        scope.bound = self.bound
        scope.use, self.use, scope.again = self.use, None, self.again
        parent.members.append(scope)
        if name != position:
            self.provisional[path] = position
        return scope

    def close_scope(self, scope: Scope, flow: Flow) -> None:
        """Removes an empty scope: it is not counted, and its path is free."""
        scope.outputs = flow
        if not scope.members and not scope.lost:
            assert scope.parent is not None and scope.parent.members[-1] is scope
            scope.parent.members.pop()
            self.paths.release(scope.path)
        elif (position := self.provisional.pop(scope.path, None)) is not None and any(
            map(self.paths.owns, scope.nodes())
        ):
            assert scope.parent is not None
            raise self.paths.duplicate(position, False, scope.parent, scope.span)

    def position(self, scope: Scope) -> int:
        """How many items the scope has, failed ones included: the name of the next one without a label."""
        count = len(scope.members) + scope.lost + scope.shift
        return count - len(scope.inputs) if scope.kind == "model" else count

    def item_name(self, label: tree.Label | tree.Pattern | None, place: Place) -> tuple[str, bool]:
        if label is None or isinstance(label, tree.Pattern):
            return str(self.position(place.scope)), False
        if not label.quoted:
            (text,) = label.parts
            assert isinstance(text, str)
            check_label(text, label.span, place)
            return text, True
        text = "".join(p if isinstance(p, str) else self.template(p, place.names) for p in label.parts)
        check_path(text, label.span)
        return text, True

    def template(self, value: tree.Value, names: Namespace) -> str:
        found = evaluate(value, names)
        if isinstance(found, bool) or not isinstance(found, int | str):
            raise Failure("E0226", f"a label may contain ints and strings, not {describe(found)}", value.span)
        return str(found)

    def owns(self, operation: Operation, flow: Flow) -> bool:
        """Whether an operation has weights for these inputs; one that fails counts as having none."""
        shapes = tuple(self.shape(t) for t in flow)
        try:
            return None not in shapes and bool(operation.weights(cast(tuple[Shape, ...], shapes)))
        except (OperationError, DimError):
            return True

    def another_node(self, span: Span) -> None:
        """Checks that one more node is allowed, before it is placed."""
        most = self.budget.limits.nodes
        if len(self.graph) == LARGE < most and (total := self.estimate() or 0) > most:
            raise Exceeded("nodes", f"the network would have {total:,} nodes; {most:,} are allowed", span)
        if len(self.graph) >= most:
            raise Exceeded("nodes", f"the network has more than {most:,} nodes", span)
