"""The shared state of elaboration: flowing tensors, nodes, scopes and their paths, and error reporting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, cast

from archdsl import dims
from archdsl.advice.mending import mend_expected
from archdsl.advice.sizes import STEPS, advise, way
from archdsl.common.limits import Budget, Exceeded
from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostics, Mark, Proposal
from archdsl.dims import Constraint, Demanded, Dim, DimError, Expr
from archdsl.elaborate.paths import Paths, join
from archdsl.graph import Demand, FreeSize, Graph, Node, Origin, Rounds, Scope, Tensor
from archdsl.ops.base import Operation, OperationError, Rules, Shape
from archdsl.ops.fields import shape_text
from archdsl.syntax import tree
from archdsl.values import (
    DEMAND,
    FAILED,
    BlockValue,
    Failure,
    Namespace,
    Poisoned,
    TensorValue,
    describe,
    evaluate,
)

Flow: TypeAlias = tuple[Tensor, ...]

LOST: Final = Tensor(-1)
"""The result of something that failed and was reported."""

LARGE: Final = 10_000
"""From this many nodes on, the total is estimated before more nodes are placed."""

MAX_ERRORS: Final = 50
"""The maximum number of errors reported per network."""


class Stop(Exception):
    """A limit was exceeded, or there are enough errors: elaboration ends here."""


@dataclass(slots=True, eq=False)
class LabelValue:
    """The tensors of a label."""

    flow: Flow
    span: Span
    builder: Builder

    def value(self) -> TensorValue:
        """The label as a value. Raises Poisoned if its tensor failed."""
        return self.builder.tensor_value(self.flow)


@dataclass(slots=True, eq=False)
class Place:
    """The state at a statement: the scope for paths, the names in scope, the defaults in force, the flow."""

    scope: Scope
    names: Namespace
    defaults: dict[str, dict[str, object]]
    flow: Flow
    pending: list[tuple[str, LabelValue]] = field(default_factory=list)
    started: bool = False
    root: bool = False
    inflow: Flow = ()
    output: tree.Output | None = None


@dataclass(slots=True, eq=False)
class Builder:
    """Places nodes and scopes in one graph, and reports errors."""

    diagnostics: Diagnostics
    graph: Graph
    budget: Budget
    estimate: Callable[[], int | None] = lambda: None
    demands: list[Demand] = field(default_factory=list)
    free: dict[str, FreeSize] = field(default_factory=dict)
    paths: Paths = field(init=False)
    reported: dict[object, tuple[int, Scope | None]] = field(default_factory=dict)
    """The index of each error among the diagnostics, and the call in which it was found first."""
    repeated: dict[int, dict[str, None]] = field(default_factory=dict)
    """The paths of the other calls of blocks in which an error was found."""
    calls: list[tuple[object, ...]] = field(default_factory=list)
    parallels: dict[Flow, tree.Parallel] = field(default_factory=dict)
    provisional: dict[str, str] = field(default_factory=dict)
    """The calls without a label that took a free number because another item has theirs."""
    rounds_around: Rounds = ()
    """The iterations of the current loops."""
    _operations: dict[object, Operation] = field(default_factory=dict)
    _inferred: dict[object, tuple[Operation, tuple[Shape, ...], list[tuple[Demanded, OperationError]]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        self.paths = Paths(self.graph, self.budget)

    # ------------------------------------------------------------ reporting

    def report(
        self,
        code: str,
        message: str,
        scope: Scope | None,
        *marks: Span | Mark,
        help: str | None = None,
        notes: Sequence[str] = (),
        proposals: Sequence[Proposal] = (),
    ) -> None:
        """Reports an error once for each place in the text, with the calls of blocks that lead to it."""
        first = marks[0].span if isinstance(marks[0], Mark) else marks[0]
        key = (code, first.source, first.start, first.end)
        if key in self.reported:
            position, at = self.reported[key]
            if scope is not None and at is not None and called(scope) is not called(at):
                self.repeated.setdefault(position, {})[called(scope).path] = None
            return
        self.reported[key] = len(self.diagnostics.items), scope
        self.diagnostics.error(
            code, message, *marks, notes=[*notes, *call_notes(scope)], help=help, proposals=proposals
        )
        if len(self.reported) >= MAX_ERRORS:
            # The code after it was not checked.
            self.diagnostics.hidden.add(Span(first.source, 0, len(first.source.text)))
            raise Stop

    def finish(self) -> None:
        """Final step: demands refer to the nodes of the graph, and each error lists all its calls."""
        if self.paths.moved:
            self.demands = [
                d if d.node is None or d.node.id < 0 else replace(d, node=self.graph.node(d.node.id))
                for d in self.demands
            ]
        for position, paths in self.repeated.items():
            diagnostic = self.diagnostics.items[position]
            self.diagnostics.items[position] = replace(diagnostic, notes=(*diagnostic.notes, same_at(list(paths))))

    def fail(self, failure: Failure, scope: Scope | None) -> None:
        self.report(
            failure.code,
            failure.message,
            scope,
            failure.span,
            *failure.others,
            help=failure.help,
            proposals=failure.proposals,
        )

    @contextmanager
    def guarded(self, place: Place, span: Span) -> Iterator[None]:
        """Reports an error of a statement and continues; the flow after it is unknown."""
        try:
            yield
        except Failure as failure:
            self.fail(failure, place.scope)
            self.lose(place)
        except Poisoned:
            self.diagnostics.hidden.add(span)
            self.lose(place)
        except Exceeded as error:
            self.exceeded(error, span, place.scope)
            raise Stop from None

    def exceeded(self, error: Exceeded, span: Span, scope: Scope) -> None:
        self.report(error.code, error.message, scope, error.span or span, help=error.help)

    def lose(self, place: Place) -> None:
        place.flow = (LOST,)
        place.names.it = FAILED
        place.names.poisoned = True

    def demand(self, scope: Scope) -> Callable[[Constraint, str, Span], None]:
        def keep(constraint: Constraint, message: str, span: Span) -> None:
            self.demands.append(Demand(constraint, OperationError(message), span, scope, None))

        return keep

    # ------------------------------------------------------------ tensors

    def shape(self, tensor: Tensor) -> Shape | None:
        """The size of a tensor, None for a lost one."""
        if tensor.node < 0:
            return None
        return cast(Shape, self.graph.node(tensor).shapes[tensor.index])

    def tensor_value(self, flow: Flow) -> TensorValue:
        if LOST in flow:
            raise Poisoned
        return TensorValue(self.shape(flow[0]) if len(flow) == 1 else None)

    def set_flow(self, place: Place, flow: Flow) -> None:
        place.flow = flow
        place.names.it = self.it(flow)

    def it(self, flow: Flow) -> object:
        if not flow:
            return None
        if LOST in flow:
            return FAILED
        return self.tensor_value(flow)

    # ------------------------------------------------------------ names in scope

    def body_names(self, block: BlockValue, arguments: Mapping[str, object], scope: Scope) -> Namespace:
        names = Namespace(block.module)
        names.values[DEMAND] = self.demand(scope)
        names.values.update(arguments)
        return names

    def check_label(self, name: tree.Name, place: Place) -> None:
        self.check_label_text(name.name, name.span, place)

    def check_label_text(self, name: str, span: Span, place: Place) -> None:
        if name == "it":
            raise Failure("E0106", "`it` is reserved for the incoming tensor", span)
        if place.root and name in place.scope.input_names:
            raise Failure("E0208", f"`{name}` is the name of an input", span, "choose another label")
        value = place.names.find(name)
        # A label may share the name of a block or model: then using the bare name is an error.
        if value is not None and not place.names.declares_block(name):
            raise Failure(
                "E0209",
                f"`{name}` is the name of a value here, so it cannot be a label",
                span,
                f'quote it: `"{name}":`',
            )

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
        if LOST in flow:
            self.diagnostics.hidden.add(span)
            scope.lost += 1
            return (LOST,) * operation.results(len(flow))
        node_id = len(self.graph)
        self.another_node(span)
        shapes = tuple(cast(Shape, self.shape(t)) for t in flow)
        key = (id(operation), shapes)
        known = self._inferred.get(key)
        if known is None:
            rules = Rules()
            try:
                results = operation.infer(shapes, rules)
            except OperationError as error:
                scope.lost += 1
                failed = Node(
                    -1, operation, flow, (), name, join(scope.path, name), labelled, scope, span, call, origin
                )
                self.size_error(error, failed)
                return (LOST,) * operation.results(len(flow))
            except DimError as error:
                scope.lost += 1
                self.report("E0305", str(error), scope, span)
                return (LOST,) * operation.results(len(flow))
            new_demands = rules.constraints
            self._inferred[key] = (operation, results, new_demands)
        else:
            _, results, new_demands = known
        path = join(scope.path, name)
        node = Node(
            node_id, operation, flow, results, name, path, labelled, scope, span, call, origin, self.rounds_around
        )
        self.graph.add(node)
        scope.members.append(node)
        self.demands_of(node, span)
        for constraint, message in new_demands:
            self.demands.append(Demand(constraint, message, span, scope, node))
        return tuple(Tensor(node_id, i) for i in range(len(results)))

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
        advice = advise(self.graph, node, error)
        code = "E0301" if node.operation.inputs == "many" else "E0302"
        self.report(
            code,
            error.message,
            node.scope,
            *advice.marks,
            help=advice.help,
            notes=advice.notes,
            proposals=advice.proposals,
        )

    def agree(
        self, sizes: Sequence[tuple[int, tree.Value, object]], tensor: Tensor, place: Place, code: str, what: str
    ) -> None:
        """Demands the sizes written in an `input` or `expect`: the axis, the size there, the written one."""
        shape = self.shape(tensor)
        assert shape is not None
        wrong: list[tuple[int, tree.Value, Dim]] = []
        wanted: dict[int, Dim] = {}
        for axis, value, size in sizes:
            if not isinstance(size, int | Expr) or isinstance(size, bool):
                raise Failure("E0211", f"a size must be an int; this is {describe(size)}", value.span)
            wanted[axis] = size
            try:
                decided = dims.equal(shape[axis], size)
            except DimError as error:
                raise Failure("E0305", str(error), value.span) from None
            if decided is False:
                wrong.append((axis, value, size))
            elif decided is not True:
                told = f"{what} is {shape_text(shape)}; {dims.text(shape[axis])} here should be {dims.text(size)}"
                demand = Demand(decided, OperationError(told), value.span, place.scope, self.graph.node(tensor))
                self.demands.append(demand)
        if not wrong:
            return
        said = [f"{dims.text(shape[axis])} here should be {dims.text(size)}" for axis, _, size in wrong]
        message = f"{what} is {shape_text(shape)}; {', and '.join(dict.fromkeys(said))}"
        marks = [
            Mark(value.span, f"should be {dims.text(size)}, is {dims.text(shape[axis])}") for axis, value, size in wrong
        ]
        node = self.graph.node(tensor)
        if node.span != marks[0].span:
            marks.append(Mark(node.span, f"gives {shape_text(shape)}"))
        steps = way(self.graph, tensor, [wrong[0][0]], set())[-STEPS:]
        self.report(
            code,
            message,
            place.scope,
            *marks,
            notes=["; ".join(steps)] if steps else [],
            help="change the layers before this line, or this line",
            proposals=list(mend_expected(self.graph, tensor, wanted, [(value.span, axis) for axis, value, _ in wrong])),
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
        count = len(scope.members) + scope.lost
        return count - len(scope.inputs) if scope.kind == "model" else count

    def item_name(self, label: tree.Label | tree.Pattern | None, place: Place) -> tuple[str, bool]:
        if label is None or isinstance(label, tree.Pattern):
            return str(self.position(place.scope)), False
        if not label.quoted:
            (text,) = label.parts
            assert isinstance(text, str)
            self.check_label_text(text, label.span, place)
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


# ---------------------------------------------------------------- helpers


def call_notes(scope: Scope | None) -> list[str]:
    """`in block `bottleneck`, called at resnet.arch:40`, innermost first; a long chain is cut in its middle."""
    notes: list[str] = []
    while scope is not None and scope.parent is not None:
        if scope.kind == "block" and scope.definition is not None:
            at = f"{scope.span.source.name}:{scope.span.line}"
            path = scope.path if len(scope.path) <= 60 else "…" + scope.path[-59:]
            notes.append(f"in block `{scope.definition.name}` (`{path}`), called at {at}")
        scope = scope.parent
    if len(notes) > 5:
        notes = [*notes[:3], f"… {len(notes) - 4} more calls …", notes[-1]]
    return notes


def called(scope: Scope) -> Scope:
    """The enclosing call of a block, or the model, of a scope."""
    return next(s for s in scope.calls() if s.kind != "body")


MOST_CALLS = 6
"""The maximum number of calls of a block listed with an error in it."""


def same_at(paths: Sequence[str]) -> str:
    """Other calls in which the same place of the text has the same error."""
    shown = ", ".join(f"`{path}`" for path in paths[:MOST_CALLS])
    return f"the same at {shown}" + (f", and {len(paths) - MOST_CALLS} more" if len(paths) > MOST_CALLS else "")


def check_path(text: str, span: Span) -> None:
    """A quoted label: parts of letters, digits, `_` and `-`, joined by dots. Raises Failure.

    Only ASCII, so that no two paths look alike or differ only in Unicode normalisation.
    """
    for part in text.split("."):
        if not part or not part.isascii() or not all(c.isalnum() or c in "_-" for c in part):
            shown = text if len(text) <= 60 else text[:60] + "…"
            raise Failure(
                "E0226",
                f"`{shown}` is not a valid path: use letters a to z, digits, `_` and `-`, joined by dots",
                span,
            )


def label_names(names: Namespace) -> set[str]:
    space: Namespace | None = names
    found: set[str] = set()
    while space is not None:
        found.update(space.labels)
        space = space.outer
    return found


def copy_defaults(defaults: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    return {k: dict(v) for k, v in defaults.items()}
