"""The calls in chains: what a name calls, and the operation that a call makes of its arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, cast

from archdsl.common.source import Span
from archdsl.diagnostics import Fix, Proposal, did_you_mean, renamed
from archdsl.elaborate.place import Flow, Place, label_names
from archdsl.elaborate.reports import Reports, definition_around
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops import OPERATIONS, aliases
from archdsl.ops.base import Operation
from archdsl.ops.declaration import OperationError
from archdsl.ops.forms import FunctionForm, ModuleForm
from archdsl.ops.partition import Cut, Join, Strangers
from archdsl.syntax import tree
from archdsl.syntax.walk import names as names_in
from archdsl.values import (
    FAILED,
    BlockValue,
    ExternValue,
    Failure,
    FunctionValue,
    MemberValue,
    Misbound,
    Namespace,
    OperationValue,
    Poisoned,
    SharedValue,
    TensorValue,
    Unknown,
    arguments_of,
    bind_operation,
    describe,
    evaluate,
)

if TYPE_CHECKING:
    from archdsl.ops.extern import Kind


Called = TypeVar("Called", bound=Operation)


@dataclass(slots=True, eq=False)
class Operations:
    """The operations of one network. Equal calls share one."""

    reports: Reports
    _known: dict[object, Operation] = field(default_factory=dict)
    kinds: dict[ExternValue, Kind] = field(default_factory=dict)
    """The externs of the network."""

    def merge(self, name: str) -> Operation:
        """The merge of a `residual` or `dense`."""
        return self._known.setdefault(name, OPERATIONS[name].parse({}))

    def join(self, cut: Cut) -> Operation:
        """The operation that joins the windows of a cut."""
        return self._known.setdefault(("join", cut), Join(cut=cut))

    def strangers(self, cut: Cut) -> Operation:
        """The mask that keeps elements from different places apart in shifted windows."""
        return self._known.setdefault(("strangers", cut), Strangers(cut=cut))

    def of(
        self, cls: type[Called], item: tree.Call, place: Place, earlier: Mapping[str, object] = MappingProxyType({})
    ) -> Called:
        """The operation of a call, with checked arguments. Equal calls share one value.

        `earlier` are arguments that the value has which is called.
        """

        def advise(error: Misbound) -> None:
            if error.surplus:
                error.help = surplus_help(cls, item, error.argument, place.names)
            error.proposals = (*as_here(cls, item, place), *error.proposals)

        bound = bind_operation(cls, item.arguments or (), place.names, advise)
        given = {**place.defaults.get(cls.name, {}), **earlier, **bound.values}
        key_of_call = (cls, tuple((k, type(v), v) for k, v in given.items()))
        found = cast(Called | None, self._known.get(key_of_call))
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
                    self.reports.fail(bound.failure(other, item), place.scope)
                raise bound.failure(error, item, as_here(cls, item, place)) from None
            self._known[key_of_call] = found
        return found

    def extern(self, target: ExternValue, item: tree.Call, place: Place) -> Operation:
        """The operation of a call of an extern. Equal calls share one value."""
        from archdsl.elaborate.extern import check_arguments  # only if a spec has one
        from archdsl.ops.extern import Extern

        given = arguments_of(target, item.arguments or (), item.span, place.names)
        arguments = check_arguments(target, given, item)
        kind = self.kind(target)
        key = (kind, repr(arguments))
        return self._known.setdefault(key, Extern(kind=kind, arguments=arguments))

    def kind(self, target: ExternValue) -> Kind:
        """The kind of an extern in this network."""
        return self.kinds.setdefault(target, replace(target.kind))

    def name_kinds(self, graph: Graph) -> None:
        """Gives the externs of a complete network names that nothing else has in its built file."""
        from archdsl.elaborate.extern_source import python_names

        taken = helper_names(graph)
        for target, kind in self.kinds.items():
            names = (python_names(target.syntax, number) for number in count(1))
            kind.made, kind.imported = next(found for found in names if taken.isdisjoint(found))
            taken |= {kind.made, kind.imported}


def helper_names(graph: Graph) -> set[str]:
    """The classes and functions that the operations of a network bring into its built file, without its externs."""
    texts: set[str] = set()
    seen: set[object] = set()
    for node in graph.nodes():
        key = (id(node.operation), node.inputs and graph.shapes(node.inputs))
        if key not in seen and not (node.operation.is_input or node.operation.outside()):
            seen.add(key)
            texts |= set(helpers_of(node, graph))
    return {name for text in texts for name in re.findall(r"^(?:class|def) (\w+)", text, re.MULTILINE)}


def helpers_of(node: Node, graph: Graph) -> Iterator[str]:
    """The source of the helpers of a node, in each layout."""
    shapes = graph.shapes(node.inputs)
    outputs = tuple(graph.shape(Tensor(node.id, i)) for i in range(len(node.shapes)))
    for form in (node.operation.torch(shapes, outputs), node.operation.torch_last(shapes, outputs)):
        if isinstance(form, ModuleForm | FunctionForm) and form.helper is not None:
            yield form.helper


def called_by(name: str, names: Namespace) -> object | None:
    """The target of a name in a chain: a parameter or block of that name, else the operation."""
    found = names.find(name)
    if found is FAILED:
        raise Poisoned
    if isinstance(found, OperationValue | BlockValue | MemberValue | ExternValue | SharedValue):
        return found
    if name in OPERATIONS:
        return OperationValue(OPERATIONS[name])
    return found if isinstance(found, FunctionValue) else None


# ---------------------------------------------------------------- what an error proposes


def unknown_item(item: tree.Call, place: Place, first: bool) -> Exception:
    name, span = item.name.name, item.name.span
    value = place.names.find(name)
    if value is not None:
        message = f"`{name}` is {describe(value)}, not an operation or block"
        help = name_in_quotes(value, place.names) if isinstance(value, str) else tensor_in_let(name, value)
        return Failure("E0211", message, span, help)
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
    if any(name == waiting for waiting, _ in place.pending):
        help = f"`{name}` is a label of this chain: refer to it from the next line on"
        return Failure("E0201", message, span, help)
    if any(member.name == name and member.labelled for member in place.scope.members):
        help = f"`{name}` is a quoted label, which only names weights; `-> x: it` behind it names the tensor `x`"
        return Failure("E0201", message, span, help)
    help, proposals = advice_for(item, place, first)
    if item.arguments is None:
        return Unknown(name, message, span, help, proposals=proposals)
    return Failure("E0201", message, span, help, proposals=proposals)


def advice_for(item: tree.Call, place: Place, first: bool) -> tuple[str | None, Iterable[Proposal]]:
    """Advice for a name that means nothing, and the fixes that it proposes."""
    name, span = item.name.name, item.name.span
    if (here := aliases.operation(name, OPERATIONS)) is not None:
        return aliases.called(name, here), by_name_here(here, item, place)
    if (lacking := aliases.missing(name)) is not None:
        return lacking, ()
    blocks = {n for n in place.names.names() if is_callable(n, place.names)}
    known = OPERATIONS.keys() | blocks | (label_names(place.names) if item.arguments is None else set())
    near = renamed(span, name, known)
    if near or first or item.arguments is not None:
        return None, near
    around = definition_around(place.scope, span)
    if around is None or not any(n.name == name and n.span.start > span.end for n in names_in(around.syntax.body)):
        return None, ()  # nothing uses it as a label
    help = f"to name the tensor here, write `-> {name}: it`"
    return help, [Proposal(help, Fix(span, f"{name}: it"))]


def by_name_here(here: str, item: tree.Call, place: Place) -> Iterator[Proposal]:
    """The operation with another name elsewhere, under its name here."""
    from archdsl.advice.habits import bare  # only once something is wrong

    advice = aliases.called(item.name.name, here)
    if item.arguments is None or here not in OPERATIONS:
        yield Proposal(advice, Fix(item.name.span if here in OPERATIONS else bare(item), here))
        return
    for proposal in as_here(OPERATIONS[here], item, place):
        yield Proposal(f"{advice}: {proposal.help}", proposal.fix)


def is_callable(name: str, names: Namespace) -> bool:
    return isinstance(names.find(name), OperationValue | BlockValue | MemberValue | ExternValue)


def as_here(cls: type[Operation], item: tree.Call, place: Place) -> list[Proposal]:
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
    from archdsl.advice.habits import rewritten  # only once something is wrong

    return list(rewritten(cls, item, values, channels))


def name_in_quotes(text: str, names: Namespace) -> str | None:
    """Advice for a string that is used in a chain: it may be the name of an operation or block."""
    known = OPERATIONS.keys() | {n for n in names.names() if is_callable(n, names)}
    if text in known:
        return f"write its name without quotes: `{text}`"
    here = aliases.operation(text, OPERATIONS)
    return aliases.called(text, here) if here is not None else did_you_mean(text, known)


def tensor_in_let(name: str, value: object) -> str | None:
    """Advice for a value with tensors that is used in a chain."""
    if any(isinstance(i, TensorValue) for i in (value if isinstance(value, tuple) else (value,))):
        return f"a `let` holds values; a label names tensors: the line `{name}: it` names the tensor there"
    return None


def merges(item: tree.Call, name: str, flow: Flow, names: Namespace) -> Iterator[Proposal]:
    """One tensor for an operation that takes no more: one of the inputs of a block, or a merge."""
    from archdsl.advice.mending import before_item  # only once something is wrong

    for label, value in names.labels.items():
        if value.flow in [(tensor,) for tensor in flow]:
            yield Proposal(f"say which: `{label} -> {name}`", Fix(before_item(item), f"{label} -> "))
    for merge in ("concat", "add"):
        yield Proposal(f"merge them first: `(…) -> {merge} -> {name}`", Fix(before_item(item), f"{merge} -> "))


def surplus_help(cls: type[Operation], item: tree.Call, argument: tree.Argument, names: Namespace) -> str | None:
    """Advice for a surplus argument: it may be a tensor, or the second number of a size."""
    value = argument.value
    if isinstance(value, tree.Name) and (value.name == "it" or names.find_label(value.name) is not None):
        return f"pass a tensor with an arrow: `{value.name} -> {cls.name}`"
    given = item.arguments or ()
    numbers = [a.value.value for a in given if isinstance(a.value, tree.Literal) and isinstance(a.value.value, int)]
    first = next(iter(cls.fields.values()), None)
    if len(numbers) == len(given) and first is not None and "size" in (first.description or ""):
        return f"write a size as one argument: `{cls.name}({'x'.join(map(str, numbers))})`"
    return f"its parameters: {cls.signature()}" if cls.fields else None
