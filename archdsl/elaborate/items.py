"""Elaborates chains and items."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import assert_never, cast

from archdsl.advice.habits import bare, rewritten
from archdsl.advice.mending import before_item
from archdsl.common.limits import Exceeded
from archdsl.common.source import Span
from archdsl.common.units import counted
from archdsl.diagnostics import Diagnostic, Fix, Mark, Proposal, renamed
from archdsl.elaborate.core import LOST, Builder, Flow, LabelValue, Place, copy_defaults, label_names
from archdsl.elaborate.spec_files import bind_operation, family
from archdsl.graph import Definition, Scope, Tensor
from archdsl.ops import OPERATIONS, aliases
from archdsl.ops.base import Operation, OperationError
from archdsl.syntax import tree
from archdsl.values import (
    FAILED,
    BlockValue,
    Failure,
    FunctionValue,
    MemberValue,
    Misbound,
    Namespace,
    OperationValue,
    Poisoned,
    TensorValue,
    arguments_of,
    describe,
    evaluate,
    truth,
)


class Items(Builder):
    """Chains and the items in them: references, operations, blocks, and the combinators."""

    def statements(self, statements: Sequence[tree.Statement], place: Place) -> None:
        """Elaborates statements in order."""
        raise NotImplementedError

    # ------------------------------------------------------------ chains and items

    def chain(self, chain: tree.Chain, place: Place, flow: Flow) -> Flow:
        for position, item in enumerate(chain.items):
            self.budget.step(2 + len(flow))
            place.names.it = self.it(flow)
            flow = self.item(item, place, flow, position == 0)
        return flow

    def item(self, item: tree.Item, place: Place, flow: Flow, first: bool) -> Flow:
        """Places an item. An error in it is reported, and its result is lost."""
        try:
            match item:
                case tree.Call():
                    result = self.call(item, place, flow, first)
                case tree.Body() | tree.Parallel() | tree.Residual() | tree.Dense():
                    result = self.combine(item, place, flow)
                case _:
                    assert_never(item)
        except Failure as failure:
            self.fail(failure, place.scope)
            result = (LOST,)
        except Poisoned:
            self.diagnostics.hidden.add(item.span)
            result = (LOST,)
        if item.label is not None:
            self.name_result(item.label, result, place)
        return result

    def name_result(self, label: tree.Label | tree.Pattern, flow: Flow, place: Place) -> None:
        if isinstance(label, tree.Pattern):
            if LOST in flow:
                flow = (LOST,) * len(label.names)
            if len(flow) != len(label.names):
                self.report(
                    "E0223",
                    f"the pattern names {counted(len(label.names), 'tensor')}, but the item gives {len(flow)}",
                    place.scope,
                    label.span,
                )
                flow = (LOST,) * len(label.names)
            for name, tensor in zip(label.names, flow, strict=True):
                if name.name != "_":
                    self.check_label(name, place)
                    self.warn_of_second(name.name, name.span, place)
                    place.pending.append((name.name, LabelValue((tensor,), name.span, self)))
        elif not label.quoted:
            (text,) = label.parts
            assert isinstance(text, str)
            self.warn_of_second(text, label.span, place)
            place.pending.append((text, LabelValue(flow, label.span, self)))

    def warn_of_second(self, name: str, span: Span, place: Place) -> None:
        """Warns of a second use of a label in one body, which hides the first one below."""
        first = place.names.labels.get(name)
        if first is not None and (first.span.source, first.span.start) != (span.source, span.start):
            message = f"`{name}` names another tensor from here on"
            marks = (Mark(span, "again here"), Mark(first.span, "first here"))
            self.diagnostics.add(Diagnostic("W0606", message, marks, help="choose another label", severity="warning"))

    def call(self, item: tree.Call, place: Place, flow: Flow, first: bool) -> Flow:
        name = item.name.name
        if name == "it":
            return self.reference_it(item, flow)
        target = self.callable(name, place.names)
        label = place.names.find_label(name) if item.arguments is None else None
        if label is not None and target is not None:
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
            if item.label is not None and not isinstance(item.label, tree.Pattern) and item.label.quoted:
                raise Failure("E0226", "a quoted label names weights, and a reference has none", item.label.span)
            return cast(Flow, label.flow)
        if target is None:
            raise self.unknown_item(item, place, first)
        if not flow:
            raise Failure(
                "E0203", f"no tensor flows into `{name}` here", item.span, "a model begins with `input image[3, H, W]`"
            )
        if isinstance(target, OperationValue):
            return self.place_operation(target.operation, item, place, flow)
        if isinstance(target, MemberValue | BlockValue):
            block, arguments = self.bound_block(target, item, place)
            return self.call_block(block, arguments, item, place, flow)
        raise Failure("E0211", f"`{name}` is {describe(target)}: it can only be used in an expression", item.name.span)

    def reference_it(self, item: tree.Call, flow: Flow) -> Flow:
        if item.arguments is not None:
            raise Failure("E0106", "`it` is the incoming tensor; it cannot be called", item.span)
        if not flow:
            raise Failure("E0203", "there is no incoming tensor here, so `it` is undefined", item.span)
        return flow

    def callable(self, name: str, names: Namespace) -> object | None:
        """The target of a name in a chain: a parameter or block of that name, else the operation."""
        found = names.find(name)
        if found is FAILED:
            raise Poisoned
        if isinstance(found, OperationValue | BlockValue | MemberValue):
            return found
        if name in OPERATIONS:
            return OperationValue(OPERATIONS[name])
        return found if isinstance(found, FunctionValue) else None

    def unknown_item(self, item: tree.Call, place: Place, first: bool) -> Exception:
        name, span = item.name.name, item.name.span
        value = place.names.find(name)
        if value is not None:
            message = f"`{name}` is {describe(value)}, not an operation or block"
            return Failure("E0211", message, span, tensor_in_let(name, value))
        if place.names.find_label(name) is not None:
            message = f"`{name}` is a label: it names a tensor, which takes no arguments"
            rest = Span(span.source, span.end, item.span.end)
            help = f"to pass the tensor, write `{name} -> conv(…)`"
            return Failure(
                "E0225",
                message,
                item.span,
                help,
                proposals=[Proposal(f"write `{name}` alone", Fix(rest, ""))] if first else (),
            )
        if place.names.is_poisoned():
            return Poisoned()
        message = f"there is no operation, block or label named `{name}`"
        if self.is_label_further_down(item, place.scope):
            help = f"`{name}` is a label below: refer to a label only after it"
            return Failure("E0201", message, span, help)
        here = aliases.operation(name, OPERATIONS)
        if here is not None:
            return Failure(
                "E0201", message, span, aliases.called(name, here), proposals=self.by_name_here(here, item, place)
            )
        if (lacking := aliases.missing(name)) is not None:
            return Failure("E0201", message, span, lacking)
        blocks = {n for n in place.names.names() if self.is_callable(n, place.names)}
        known = OPERATIONS.keys() | blocks | (label_names(place.names) if item.arguments is None else set())
        return Failure("E0201", message, span, proposals=renamed(span, name, known))

    def by_name_here(self, here: str, item: tree.Call, place: Place) -> Iterator[Proposal]:
        """The operation with another name elsewhere, under its name here."""
        advice = aliases.called(item.name.name, here)
        if item.arguments is None or here not in OPERATIONS:
            yield Proposal(advice, Fix(item.name.span if here in OPERATIONS else bare(item), here))
            return
        for proposal in self.as_here(OPERATIONS[here], item, place):
            yield Proposal(f"{advice}: {proposal.help}", proposal.fix)

    def is_label_further_down(self, item: tree.Call, scope: Scope) -> bool:
        """Whether the text of the block or model below gives an item this label."""
        around = next((s.definition for s in scope.calls() if s.definition is not None), None)
        if item.arguments is not None or around is None or around.syntax.span.source is not item.span.source:
            return False
        text = item.span.source.text[item.span.end : around.syntax.span.end]
        return re.search(rf"\b{re.escape(item.name.name)}\s*:", text) is not None

    def is_callable(self, name: str, names: Namespace) -> bool:
        return isinstance(names.find(name), OperationValue | BlockValue | MemberValue)

    # ------------------------------------------------------------ operations

    def place_operation(self, cls: type[Operation], item: tree.Call, place: Place, flow: Flow) -> Flow:
        operation = self.operation(cls, item, place)
        name, labelled = self.item_name(item.label, place)
        if operation.inputs == "one" and len(flow) != 1 and LOST not in flow:
            raise Failure(
                "E0227",
                f"`{cls.name}` takes one tensor, but {len(flow)} flow in",
                item.span,
                "merge them first with `concat` or `add`",
                proposals=merges(item, cls.name),
            )
        if operation.inputs == "many" and len(flow) < 2 and LOST not in flow:
            raise Failure(
                "E0227",
                f"`{cls.name}` merges several tensors, but only one flows in",
                item.span,
                f"put it after a parallel: `(it, label) -> {cls.name}`",
            )
        return self.place_node(operation, flow, name, labelled, place.scope, item.span, item, self.parallels.get(flow))

    def operation(self, cls: type[Operation], item: tree.Call, place: Place) -> Operation:
        """The operation of a call, with checked arguments. Equal calls share one value."""

        def advise(error: Misbound) -> None:
            if error.surplus:
                error.help = surplus_help(cls, item, error.argument, place.names)
            error.proposals = (*self.as_here(cls, item, place), *error.proposals)

        bound = bind_operation(cls, item.arguments or (), place.names, advise)
        given = {**place.defaults.get(cls.name, {}), **bound.values}
        key_of_call = (cls, tuple((k, type(v), v) for k, v in given.items()))
        found = self._operations.get(key_of_call)
        if found is None:
            tensor = next((k for k, v in bound.values.items() if isinstance(v, TensorValue)), None)
            if tensor is not None:
                span = bound.arguments[tensor].value.span
                raise Failure(
                    "E0228",
                    f"`{tensor}` of `{cls.name}` must be a value, but this is a tensor",
                    span,
                    f"pass a tensor with an arrow: `{span.text} -> {cls.name}`",
                )
            try:
                found = cls.parse(given)
            except OperationError as error:
                for other in error.also:
                    self.fail(bound.failure(other, item), place.scope)
                raise bound.failure(error, item, self.as_here(cls, item, place)) from None
            self._operations[key_of_call] = found
        return found

    def as_here(self, cls: type[Operation], item: tree.Call, place: Place) -> list[Proposal]:
        """The call in this language, if it is written in PyTorch's style."""
        values: list[object] = []
        for argument in item.arguments or ():
            if argument.name is None:
                with suppress(Failure, Poisoned):
                    values.append(evaluate(argument.value, place.names))
                    continue
                values.append(None)
        it = place.names.it
        channels = it.shape[0] if isinstance(it, TensorValue) and it.shape else None
        return list(rewritten(cls, item, values, channels))

    # ------------------------------------------------------------ blocks

    def bound_block(
        self, target: BlockValue | MemberValue, item: tree.Call, place: Place
    ) -> tuple[BlockValue, dict[str, object]]:
        block, given = family(target)
        arguments = arguments_of(block, item.arguments or (), item.span, place.names, given, target.name)
        return block, arguments

    def call_block(
        self, block: BlockValue, arguments: dict[str, object], item: tree.Call, place: Place, flow: Flow
    ) -> Flow:
        name, labelled = self.item_name(item.label, place)
        self.budget.step(20)
        signature = (block, tuple(arguments.values()), tuple(self.shape(t) for t in flow))
        if signature in self.calls:
            raise Failure(
                "E0504",
                f"`{block.name}` calls itself with the same arguments, forever",
                item.span,
                "make an argument shrink at each call, and stop with `if`",
            )
        definition = Definition(block.name, block.syntax, block.module.constants)
        scope = self.open_scope("block", name, labelled, place.scope, item.span, flow)
        scope.definition = definition
        scope.arguments = arguments
        names = self.body_names(block, arguments, scope)
        inner = Place(scope, names, copy_defaults(block.defaults), flow, inflow=flow)
        names.it = self.it(flow)
        self.calls.append(signature)
        try:
            self.statements(block.syntax.body.statements, inner)
        finally:
            self.calls.pop()
        self.close_scope(scope, inner.flow)
        return inner.flow

    # ------------------------------------------------------------ combinators

    def combine(self, item: tree.Body | tree.Parallel | tree.Residual | tree.Dense, place: Place, flow: Flow) -> Flow:
        """Elaborates a body, parallel, residual or dense; a label on it opens a scope."""
        if item.label is None or isinstance(item.label, tree.Pattern):
            return self.combined(item, place, flow)
        name, labelled = self.item_name(item.label, place)
        scope = self.open_scope("body", name, labelled, place.scope, item.span, flow)
        inner = Place(scope, place.names, place.defaults, flow, place.pending, True, False, flow)
        result = self.combined(item, inner, flow)
        self.close_scope(scope, result)
        return result

    def combined(self, item: tree.Body | tree.Parallel | tree.Residual | tree.Dense, place: Place, flow: Flow) -> Flow:
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
            case _:
                assert_never(item)

    def needs_flow(self, flow: Flow, span: Span, what: str) -> None:
        if not flow:
            raise Failure("E0203", f"no tensor flows into `{what}` here", span)

    def body(self, body: tree.Body, place: Place, flow: Flow) -> Flow:
        names = Namespace(place.names)
        names.it = self.it(flow)
        inner = Place(place.scope, names, dict(place.defaults), flow, started=True)
        self.statements(body.statements, inner)
        return inner.flow

    def parallel(self, item: tree.Parallel, place: Place, flow: Flow) -> Flow:
        results: list[Tensor] = []
        for branch in item.branches:
            results.extend(self.chain(branch, place, flow))
            if len(results) > self.budget.limits.nodes:
                message = f"more than {self.budget.limits.nodes:,} parallel tensors"
                raise Exceeded("nodes", message, item.span)
        self.parallels[tuple(results)] = item
        return tuple(results)

    def residual(self, item: tree.Residual, place: Place, flow: Flow) -> Flow:
        self.needs_flow(flow, item.span, "residual")
        if item.condition is not None and not truth(evaluate(item.condition, place.names), item.condition.span):
            return self.body(item.body, place, flow)
        skip = flow
        if item.via is not None:
            skip = self.item(item.via, place, flow, True)
            place.names.it = self.it(flow)
        return self.merge("add", item, place, skip, self.body(item.body, place, flow), "`residual`")

    def merge(
        self, name: str, item: tree.Residual | tree.Dense, place: Place, skip: Flow, body: Flow, what: str
    ) -> Flow:
        """The implicit merge of a residual or dense: (skip, body) -> merge."""
        for flow, which in ((skip, "skip"), (body, "body")):
            if len(flow) != 1:
                raise Failure("E0227", f"the {which} of {what} gives {len(flow)} tensors, but must give one", item.span)
        if skip == body and LOST not in skip:
            raise Failure(
                "E0229",
                f"the body of {what} is empty, so the tensor would be merged with itself",
                item.body.span,
                "add an operation, or remove it",
            )
        scope = place.scope
        position = str(self.position(scope))
        operation = self._operations.setdefault(name, OPERATIONS[name].parse({}))
        return self.place_node(operation, skip + body, position, False, scope, item.span, None, item)


def tensor_in_let(name: str, value: object) -> str | None:
    """Advice for a value with tensors that is used in a chain."""
    if any(isinstance(i, TensorValue) for i in (value if isinstance(value, tuple) else (value,))):
        return f"a `let` holds values; a label names tensors: the line `{name}: {{ }}` labels the tensor there"
    return None


def merges(item: tree.Call, name: str) -> Iterator[Proposal]:
    """A merge before an operation that takes one tensor."""
    for merge in ("concat", "add"):
        yield Proposal(f"merge them first: `(…) -> {merge} -> {name}`", Fix(before_item(item), f"{merge} -> "))


def surplus_help(cls: type[Operation], item: tree.Call, argument: tree.Argument, names: Namespace) -> str | None:
    """Advice for a surplus argument: it may be a tensor, or the second number of a size."""
    value = argument.value
    if isinstance(value, tree.Name) and (value.name == "it" or names.find_label(value.name) is not None):
        return f"pass a tensor with an arrow: `{value.name} -> {cls.name}`"
    given = item.arguments or ()
    numbers = [a.value.value for a in given if isinstance(a.value, tree.Literal) and isinstance(a.value.value, int)]
    first = next(iter(cls.model_fields.values()), None)
    if len(numbers) == len(given) and first is not None and "size" in (first.description or ""):
        return f"write a size as one argument: `{cls.name}({'x'.join(map(str, numbers))})`"
    return f"its parameters: {cls.signature()}" if cls.model_fields else None
