"""Chains and items: what an arrow leads into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never, cast

from archdsl.common.limits import Exceeded
from archdsl.common.source import Span
from archdsl.common.units import counted
from archdsl.diagnostics import Diagnostic, Mark
from archdsl.elaborate.builder import Builder
from archdsl.elaborate.calls import Operations, called_by, merges, unknown_item
from archdsl.elaborate.place import POISONED_TENSOR, Flow, LabelValue, Place, check_label, copy_defaults
from archdsl.elaborate.repeats import Repeats
from archdsl.elaborate.reports import Reports
from archdsl.elaborate.share import Shares
from archdsl.elaborate.spec_files import family
from archdsl.graph import Definition, Origin, Partition, Scope, Tensor
from archdsl.ops import BLOCKS, LATER
from archdsl.ops.base import Operation
from archdsl.syntax import tree
from archdsl.syntax.walk import names as names_in
from archdsl.values import (
    BlockValue,
    ExternValue,
    Failure,
    MemberValue,
    Namespace,
    OperationValue,
    Poisoned,
    SharedValue,
    TensorValue,
    arguments_of,
    describe,
    evaluate,
    truth,
)

Combinator: TypeAlias = tree.Body | tree.Parallel | tree.Residual | tree.Dense | tree.Windows

Entering: TypeAlias = Callable[[BlockValue, dict[str, object], tree.Call, Place, Flow], Flow]
"""Calls a block with arguments, and gives what flows out."""


@dataclass(slots=True, eq=False)
class Items:
    """Chains and the items in them: references, operations, blocks, and the combinators.

    `read` reads the statements of a body, `branches` a loop or condition in a parallel. `enter` calls a block:
    `call_block`, unless calls are counted instead.
    """

    reports: Reports
    build: Builder
    operations: Operations
    read: Callable[[Sequence[tree.Statement], Place], None]
    branches: Callable[[tree.For | tree.Repeat | tree.If, Place, Flow], Flow]
    enter: Entering = field(init=False)
    shares: Shares = field(init=False)
    repeats: Repeats = field(init=False)
    open_calls: list[tuple[object, ...]] = field(default_factory=list)
    """The calls of blocks that are being read, to find one that calls itself without end."""
    open_chains: list[tree.Chain] = field(default_factory=list)
    """The chains that are being read, outermost first."""
    parallels: dict[Flow, tree.Parallel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.enter = self.call_block
        self.repeats = Repeats(self.reports, self.build, self.parallels)
        self.shares = Shares(self.reports, self.build, lambda item, place, flow: self.item(item, place, flow, False))

    def chain(self, chain: tree.Chain, place: Place, flow: Flow) -> Flow:
        self.open_chains.append(chain)
        for position, item in enumerate(chain.items):
            self.build.budget.step(2 + len(flow))
            place.names.it = self.build.it(flow)
            flow = self.item(item, place, flow, position == 0)
        self.open_chains.pop()
        return flow

    def item(self, item: tree.Item, place: Place, flow: Flow, first: bool) -> Flow:
        """Places an item. An error in it is reported, and its result is lost."""
        try:
            match item:
                case tree.Call():
                    result = self.call(item, place, flow, first)
                case tree.Element():
                    result = self.element(item, place, first)
                case tree.Body() | tree.Parallel() | tree.Residual() | tree.Dense() | tree.Windows():
                    result = self.combine(item, place, flow)
                case _:
                    assert_never(item)
        except Failure as failure:
            self.reports.fail(failure, place.scope)
            result = (POISONED_TENSOR,)
        except Poisoned:
            self.reports.hide(item.span)
            result = (POISONED_TENSOR,)
        if item.label is not None:
            self.name_result(item.label, result, place)
        return result

    def name_result(self, label: tree.Label | tree.Pattern, flow: Flow, place: Place) -> None:
        if isinstance(label, tree.Pattern):
            if POISONED_TENSOR in flow:
                flow = (POISONED_TENSOR,) * len(label.names)
            if len(flow) != len(label.names):
                self.reports.report(
                    "E0223",
                    f"the pattern names {counted(len(label.names), 'tensor')}, but the item gives {len(flow)}",
                    place.scope,
                    label.span,
                )
                flow = (POISONED_TENSOR,) * len(label.names)
            for name, tensor in zip(label.names, flow, strict=True):
                if name.name != "_":
                    check_label(name.name, name.span, place)
                    self.warn_of_second(name.name, name.span, place)
                    place.pending.append((name.name, LabelValue((tensor,), name.span, self.build.tensor_value)))
        elif not label.quoted:
            (text,) = label.parts
            assert isinstance(text, str)
            self.warn_of_second(text, label.span, place)
            place.pending.append((text, LabelValue(flow, label.span, self.build.tensor_value)))

    def warn_of_second(self, name: str, span: Span, place: Place) -> None:
        """Warns of a second use of a label in one body, which hides the first one below.

        What the label names may be renewed: `(xs, it) -> xs: it` adds to a list.
        """
        first = place.names.labels.get(name)
        if first is None or (first.span.source, first.span.start) == (span.source, span.start):
            return
        if not any(used.name == name for chain in self.open_chains for used in names_in(chain)):
            message = f"`{name}` names another tensor from here on"
            marks = (Mark(span, "again here"), Mark(first.span, "first here"))
            self.reports.diagnostics.add(
                Diagnostic("W0606", message, marks, help="choose another label", severity="warning")
            )

    def call(self, item: tree.Call, place: Place, flow: Flow, first: bool) -> Flow:
        name = item.name.name
        if name == "it":
            return self.reference_it(item, flow)
        target = called_by(name, place.names)
        label = place.names.find_label(name) if item.arguments is None else None
        if (
            label is not None
            and target is not None
            and not (first and isinstance(target, OperationValue) and target.name in LATER)
        ):
            raise Failure(
                "E0224",
                f"`{name}` is both a label and {describe(target)} here",
                item.name.span,
                f"write `{name}()` to call it, or rename the label",
            )
        if label is not None:
            if not first:
                raise Failure(
                    "E0225",
                    f"`{name}` is a label: it may appear only at the start of a chain",
                    item.name.span,
                    f"to merge both, write `(it, {name}) -> add`, or `concat`",
                )
            self.names_no_weights(item)
            self.stays_among_windows(name, label.flow, item.name.span, Mark(label.span, "it is made here"))
            return cast(Flow, label.flow)
        if target is None:
            raise unknown_item(item, place, first)
        if isinstance(target, OperationValue) and target.operation.inputs == "none":
            if not first:
                help = f"begin a chain with it: `(it, {name}(…)) -> add`"
                raise Failure("E0227", f"`{name}` takes no tensor, but one flows in", item.span, help)
            return self.place_operation(target, item, place, ())
        if not flow:
            raise Failure(
                "E0203", f"no tensor flows into `{name}` here", item.span, "a model begins with `input image[3, H, W]`"
            )
        if isinstance(target, SharedValue):
            self.names_no_weights(item)
            return self.shares.call(target, item, place, flow)
        if isinstance(target, OperationValue):
            return self.place_operation(target, item, place, flow)
        if isinstance(target, ExternValue):
            return self.place_extern(target, item, place, flow)
        if isinstance(target, MemberValue | BlockValue):
            block, given = family(target)
            arguments = arguments_of(block, item.arguments or (), item.span, place.names, given, target.name)
            return self.enter(block, arguments, item, place, flow)
        raise Failure("E0211", f"`{name}` is {describe(target)}: it can only be used in an expression", item.name.span)

    def names_no_weights(self, item: tree.Call | tree.Element) -> None:
        """Refuses a quoted label on a reference."""
        if isinstance(item.label, tree.Label) and item.label.quoted:
            raise Failure("E0226", "a quoted label names weights, and a reference has none", item.label.span)

    def stays_among_windows(self, name: str, flow: Flow, span: Span, *marks: Mark) -> None:
        """Refuses a tensor of the whole map where each window is a sample."""
        if self.build.is_elsewhere(flow):
            message = f"`{name}` is a tensor of the whole map, and cannot be used inside of `windows` or `grid`"
            help = f"let it flow in, too: `(it, {name}) -> windows(…) {{ … }}`"
            raise Failure("E0239", f"{message}: here each window is a sample of its own", span, help, *marks)

    def element(self, item: tree.Element, place: Place, first: bool) -> Flow:
        """A tensor of a list, or several."""
        if not first:
            text = item.span.text
            message = f"`{text}` is a reference: it may appear only at the start of a chain"
            raise Failure("E0225", message, item.span, f"to merge both, write `(it, {text}) -> add`, or `concat`")
        value = evaluate(item.value, place.names)
        if not isinstance(value, TensorValue):
            raise Failure("E0211", f"`{item.span.text}` is {describe(value)}, not a tensor", item.span)
        self.names_no_weights(item)
        self.stays_among_windows(item.span.text, value.flow, item.span)
        return value.flow

    def reference_it(self, item: tree.Call, flow: Flow) -> Flow:
        if item.arguments is not None:
            raise Failure("E0106", "`it` is the incoming tensor; it cannot be called", item.span)
        if not flow:
            raise Failure("E0203", "there is no incoming tensor here, so `it` is undefined", item.span)
        self.names_no_weights(item)
        return flow

    # ------------------------------------------------------------ operations and blocks

    def place_operation(self, target: OperationValue, item: tree.Call, place: Place, flow: Flow) -> Flow:
        cls = target.operation
        operation = self.operations.of(cls, item, place, target.given)
        origin = self.parallels.get(flow) if flow else None
        flow = self.build.batched(operation, flow, place.scope, item.span)
        flow = self.masked(operation, flow, item, place)
        name, labelled = self.build.item_name(item.label, place)
        if operation.inputs == "one" and len(flow) != 1 and POISONED_TENSOR not in flow:
            raise Failure(
                "E0227",
                f"`{cls.name}` takes one tensor, but {len(flow)} flow in",
                item.span,
                "merge them first with `concat` or `add`",
                proposals=merges(item, cls.name, flow, place.names),
            )
        if operation.inputs == "many" and len(flow) < 2 and POISONED_TENSOR not in flow:
            raise Failure(
                "E0227",
                f"`{cls.name}` merges several tensors, but only one flows in",
                item.span,
                f"put it after a parallel: `(it, label) -> {cls.name}`"
                if origin is None
                else f"the parallel before it has one branch here; if that is right: `if len(it) > 1 {{ {cls.name} }}`",
            )
        return self.build.place_node(operation, flow, name, labelled, place.scope, item.span, item, origin)

    def place_extern(self, target: ExternValue, item: tree.Call, place: Place, flow: Flow) -> Flow:
        operation = self.operations.extern(target, item, place)
        origin = self.parallels.get(flow) if len(flow) > 1 else None
        flow = self.build.batched(operation, flow, place.scope, item.span)
        name, labelled = self.build.item_name(item.label, place)
        if not operation.takes(len(flow)) and POISONED_TENSOR not in flow:
            names = target.kind.names
            takes = f"`{target.name}` takes {counted(len(names), 'tensor')}: {', '.join(names)}"
            flows = f"{len(flow)} flow{'s' * (len(flow) == 1)} in"
            raise Failure("E0227", f"{takes}; {flows}", item.span, f"write `({', '.join(names)}) -> {target.name}`")
        return self.build.place_node(operation, flow, name, labelled, place.scope, item.span, item, origin)

    def call_block(
        self, block: BlockValue, arguments: dict[str, object], item: tree.Call, place: Place, flow: Flow
    ) -> Flow:
        name, labelled = self.build.item_name(item.label, place)
        self.build.budget.step(20)
        signature = (block, tuple(arguments.values()), tuple(self.build.shape(t) for t in flow))
        if signature in self.open_calls:
            raise Failure(
                "E0504",
                f"`{block.name}` calls itself with the same arguments, forever",
                item.span,
                "make an argument shrink at each call, and stop with `if`",
            )
        key = self.repeats.key(block, arguments, flow)
        scope = self.build.open_scope("block", name, labelled, place.scope, item.span, flow)
        scope.definition = Definition(block.name, block.syntax, block.module.constants)
        scope.arguments = arguments
        results = self.repeats.copy(key, scope) if key is not None else None
        if results is None:
            before = self.repeats.counts()
            self.open_calls.append(signature)
            try:
                results = self.body_of_call(block, arguments, scope, flow)
            finally:
                self.open_calls.pop()
            if key is not None:
                self.repeats.keep(key, scope, before)
        self.build.close_scope(scope, results)
        return results

    def body_of_call(self, block: BlockValue, arguments: dict[str, object], scope: Scope, flow: Flow) -> Flow:
        names = self.build.body_names(block, arguments, scope)
        inner = Place(scope, names, copy_defaults(block.defaults), flow, inflow=flow)
        names.it = self.build.it(flow)
        around, self.build.bound = self.build.bound, {}
        try:
            self.read(block.syntax.body.statements, inner)
        finally:
            self.build.bound = around
        return inner.result

    # ------------------------------------------------------------ combinators

    def combine(self, item: Combinator, place: Place, flow: Flow) -> Flow:
        """Elaborates an item with a body or branches; a label on it opens a scope."""
        if not tree.opens_scope(item):
            return self.combined(item, place, flow)
        name, labelled = self.build.item_name(item.label, place)
        scope = self.build.open_scope("body", name, labelled, place.scope, item.span, flow)
        inner = Place(scope, place.names, place.defaults, flow, place.pending, True, False, flow)
        result = self.combined(item, inner, flow)
        self.build.close_scope(scope, result)
        return result

    def combined(self, item: Combinator, place: Place, flow: Flow) -> Flow:
        match item:
            case tree.Body():
                return self.body(item, place, flow)
            case tree.Parallel():
                return self.parallel(item, place, flow)
            case tree.Residual():
                return self.residual(item, place, flow)
            case tree.Dense():
                self.needs_flow(flow, item.span, "dense")
                return self.merge("concat", item, place, flow, self.body(item.body, place, flow), "`dense`")
            case tree.Windows():
                return self.windows(item, place, flow)
            case _:
                assert_never(item)

    def needs_flow(self, flow: Flow, span: Span, what: str) -> None:
        if not flow:
            raise Failure("E0203", f"no tensor flows into `{what}` here", span)

    def body(self, body: tree.Body, place: Place, flow: Flow) -> Flow:
        names = Namespace(place.names)
        names.it = self.build.it(flow)
        inner = Place(place.scope, names, dict(place.defaults), flow, started=True)
        around = self.build.bound
        self.read(body.statements, inner)
        self.build.bound = around
        return inner.result

    def parallel(self, item: tree.Parallel, place: Place, flow: Flow) -> Flow:
        results: list[Tensor] = []
        for branch in item.branches:
            if isinstance(branch, tree.Chain):
                results += self.chain(branch, place, flow)
            else:
                results += self.branches(branch, place, flow)
            if len(results) > self.build.budget.limits.nodes:
                message = f"more than {self.build.budget.limits.nodes:,} parallel tensors"
                raise Exceeded("nodes", message, item.span)
        if not results:
            raise Failure("E0215", "this parallel has no branches: its loops have no rounds", item.span)
        self.parallels[tuple(results)] = item
        return tuple(results)

    def residual(self, item: tree.Residual, place: Place, flow: Flow) -> Flow:
        self.needs_flow(flow, item.span, "residual")
        if item.condition is not None and not truth(evaluate(item.condition, place.names), item.condition.span):
            return self.body(item.body, place, flow)
        skip = flow
        if item.via is not None:
            skip = self.item(item.via, place, flow, True)
            place.names.it = self.build.it(flow)
        return self.merge("add", item, place, skip, self.body(item.body, place, flow), "`residual`")

    def windows(self, item: tree.Windows, place: Place, flow: Flow) -> Flow:
        """Cuts what flows in into windows, which the body meets as samples, and puts what flows out together."""
        word = item.cut.name.name
        self.needs_flow(flow, item.span, word)
        cut = self.operations.of(BLOCKS[word], item.cut, place)
        flow = self.build.batched(cut, flow, place.scope, item.cut.span)
        if POISONED_TENSOR not in flow and not self.build.depends_on_input(flow):
            message = f"`{word}` cuts each sample, and this tensor depends on no input"
            raise Failure("E0227", message, item.cut.span, "let it flow in together with one that does")
        around, whole = self.build.windows, self.build.shape(flow[0])
        self.build.windows = Partition(cut, whole or (), around)
        self.build.wholes[self.build.windows] = flow[0]
        try:
            pieces = [t for tensor in flow for t in self.implied(cut, (tensor,), item.cut, place, item.cut)]
            self.build.same_counts(flow, pieces, item.cut.span)
            inside = self.body(item.body, place, tuple(pieces))
        finally:
            self.build.windows = around
        if any(t in pieces for t in inside if t != POISONED_TENSOR):
            help = "add an operation, or remove it"
            raise Failure("E0229", f"the body of `{word}` is empty, so it has no effect", item.body.span, help)
        join = self.operations.join(cut)
        return tuple(t for tensor in inside for t in self.implied(join, (tensor, flow[0]), item, place, None, item))

    def masked(self, operation: Operation, flow: Flow, item: tree.Call, place: Place) -> Flow:
        """The inputs of attention, with a bias that masks elements that a shift has brought together."""
        windows, at = self.build.windows, operation.bias_at
        if windows is None or at is None or not windows.cut.may_shift:
            return flow
        if operation.spreads and flow:
            flow = (*flow, *[flow[-1]] * (at - len(flow)))
        if len(flow) < at:
            return flow
        mask = self.operations.strangers(windows.cut)
        return (*flow[:at], *self.implied(mask, (self.build.wholes[windows], *flow[at:]), item, place))

    def implied(
        self,
        operation: Operation,
        flow: Flow,
        item: tree.Item,
        place: Place,
        call: tree.Call | None = None,
        origin: Origin | None = None,
    ) -> Flow:
        """Places a node that has no item of its own."""
        flow = self.build.batched(operation, flow, place.scope, item.span)
        position = str(self.build.position(place.scope))
        return self.build.place_node(operation, flow, position, False, place.scope, item.span, call, origin)

    def merge(
        self, name: str, item: tree.Residual | tree.Dense, place: Place, skip: Flow, body: Flow, what: str
    ) -> Flow:
        """The implicit merge of a residual or dense: (skip, body) -> merge."""
        for flow, which in ((skip, "skip"), (body, "body")):
            if len(flow) != 1:
                raise Failure("E0227", f"the {which} of {what} gives {len(flow)} tensors, but must give one", item.span)
        if skip == body and POISONED_TENSOR not in skip:
            raise Failure(
                "E0229",
                f"the body of {what} is empty, so the tensor would be merged with itself",
                item.body.span,
                "add an operation, or remove it",
            )
        return self.implied(self.operations.merge(name), skip + body, item, place, None, item)
