"""A recording as a network: each call of a layer or function becomes operations."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from torch import nn

from archdsl.dims import DimError
from archdsl.ops import OPERATIONS
from archdsl.ops.base import OperationError, Rules
from archdsl.runtime.importing import layers
from archdsl.runtime.importing.functions import (
    HANDLERS,
    PERMUTATIONS,
    Meaning,
    meaning,
    order_of,
    plain_name,
    reshaped,
    shape_of,
)
from archdsl.runtime.importing.layers import Said, Unsaid
from archdsl.runtime.importing.layouts import Layouts, channels_last, meaning_last
from archdsl.runtime.importing.making import Made
from archdsl.runtime.importing.network import Item, Network, Scope
from archdsl.runtime.importing.outside import outside_item
from archdsl.runtime.importing.recording import Call, Constant, Owned, Recording, ScopeCall, Value
from archdsl.runtime.importing.refusal import ImportRefused


def translate(recording: Recording, outputs: list[tuple[str, Value]], made: Made | None) -> Network:
    """The network of a recording; those that are not in `outputs` are outputs only in training.

    `made` are the arguments of modules, by which those that cannot be said become externs; with None there are none.
    Raises ImportRefused for the first call that the language cannot say, if no extern can stand for it.
    """
    translator = Translator(recording.root.module, made)
    root = translator.scope(recording.root)
    complete(root, recording)
    always = {name for name, _ in outputs}
    final = [(name, translator.output(value, root)) for name, value in recording.outputs]
    names = {id(value): name for name, value in zip(recording.input_names, recording.inputs, strict=True)}
    inputs = [(names[id(value)], value) for value in recording.inputs]
    return Network(root, inputs, [o for o in final if o[0] in always], [o for o in final if o[0] not in always])


def complete(root: Scope, recording: Recording) -> None:
    """Raises ImportRefused if an item takes what no other gives."""
    known = set(recording.inputs)
    for item in root.items():
        if any(value not in known for value in item.inputs):
            raise ImportRefused("it uses a tensor from within another module", item.path, item.line)
        known |= set(item.outputs)


DIGITS = 12
"""The digits of numbers with a fraction: far more than a float32 keeps, and without Python's rounding errors."""


def plain(arguments: Mapping[str, object]) -> dict[str, object]:
    """Arguments without the rounding errors of Python's arithmetic."""
    return {name: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for name, v in arguments.items()}


class Translator:
    """Translates calls."""

    def __init__(self, module: nn.Module, made: Made | None) -> None:
        self.module, self.made = module, made
        self.layouts = Layouts()

    def output(self, value: Value, root: Scope) -> Value:
        """The tensor of an output, with its axes as PyTorch has them."""
        self.layouts.moved = []
        found = self.layouts.ordered(value)
        root.members += self.layouts.moved
        return found

    def member(self, call: ScopeCall) -> list[Item | Scope]:
        """What stands for a module: its scope, or an extern if something in it cannot be said."""
        known = len(self.layouts.places)
        try:
            inner = self.scope(call)
            return [inner] if inner.members else []
        except ImportRefused as refusal:
            if self.made is None:
                raise
            self.layouts.forget(known)
            self.layouts.moved = []
            inputs = [self.layouts.ordered(value) for value in call.taken]
            return [*self.layouts.moved, outside_item(call, inputs, refusal, self.made)]

    def scope(self, call: ScopeCall) -> Scope:
        scope = Scope(call.path, call.module, line=call.line)
        for member in call.members:
            if isinstance(member, ScopeCall):
                scope.members += self.member(member)
            else:
                scope.members.extend(self.call(member))
        return scope

    def call(self, call: Call) -> list[Item]:
        self.layouts.moved = []
        try:
            if call.module is None and plain_name(call) in PERMUTATIONS:
                self.layouts.turn(call.results[0], call.inputs[0], order_of(call))
                return []
            found, last = self.meaning(call)
        except Unsaid as reason:
            raise ImportRefused(str(reason), call.path, call.line) from None
        if not found.steps:
            if last:
                self.layouts.places[call.results[0]] = (
                    found.inputs[0],
                    channels_last(len(found.inputs[0].shapes[0]) - 1),
                )
            else:
                self.layouts.same(call.results[0], found.inputs[0])
            return []
        inputs = found.inputs if last else [self.layouts.ordered(value) for value in found.inputs]
        results = call.results[:1] if isinstance(call.module, nn.MultiheadAttention) else call.results
        outputs = [self.layouts.made_last(value) for value in results] if last else results
        return self.items(call, found, inputs, outputs)

    def items(self, call: Call, found: Meaning, inputs: list[Value], outputs: list[Value]) -> list[Item]:
        """The items of a call, after those that move axes."""
        items = self.layouts.moved
        path = call.path if call.module is not None else found.parameter
        owns = bool(found.parameter) or (call.module is not None and bool(call.module.state_dict()))
        for number, step in enumerate(found.steps):
            made = outputs if number == len(found.steps) - 1 else [self.between(step, inputs)]
            arguments = {**step.arguments, **(self.start(found.parameter) if found.parameter else {})}
            items.append(Item(step.operation, plain(arguments), inputs, made, path, owns, call.line))
            inputs = made
        return items

    def start(self, key: str) -> dict[str, object]:
        """The number that all of a parameter has, if it is one: its initial value."""
        values = self.module.get_parameter(key).detach().unique()
        # A float32 as its shortest number: 1e-6, not 9.99999997e-7.
        return {"init": float(f"{values.item():.7g}")} if len(values) == 1 and values.item() != 1 else {}

    def meaning(self, call: Call) -> tuple[Meaning, bool]:
        """What a call computes, and whether on tensors with the channels at the end."""
        layouts = self.layouts
        given = [*call.arguments, *call.named.values()]
        many = isinstance(call.module, nn.MultiheadAttention)
        if call.module is not None and not many and (len(call.inputs) != 1 or len(call.results) != 1):
            raise Unsaid(f"{call.name} is called with {len(call.inputs)} tensors and gives {len(call.results)}")
        if call.module is not None and any(isinstance(g, Owned | Constant) for g in given):
            raise Unsaid(f"{call.name} is called with a tensor that is not computed from the input")
        if many and (attends := meaning_last(call, layouts)) is not None:
            return attends, True
        moved = [value for value in call.inputs if not layouts.is_plain(value)]
        if moved and all(layouts.is_last(value) for value in moved):
            try:
                if (found := meaning_last(call, layouts)) is not None:
                    return found, True
            except Unsaid:
                pass
            layouts.moved = []
        try:
            return self.meaning_first(call), False
        except Unsaid:
            if len(call.inputs) != 1 or len(call.inputs[0].shapes[0]) < 3 or plain_name(call) in HANDLERS:
                raise
            reason = sys.exception()
        try:
            if (found := meaning_last(call, layouts)) is not None:
                return found, True
        except Unsaid:
            pass
        assert reason is not None
        raise reason

    def meaning_first(self, call: Call) -> Meaning:
        """What a call computes on tensors with the channels first."""
        if call.module is None:
            return meaning(call)
        if isinstance(call.module, nn.Flatten | nn.Unflatten):
            return reshaped(call)
        shapes, outputs = (shape_of(call.inputs[0]),), (shape_of(call.results[0]),)
        found = layers.said(call.module, shapes, outputs)
        return Meaning(call.inputs) if found is None else Meaning(call.inputs, found)

    def between(self, step: Said, inputs: list[Value]) -> Value:
        """The value between two steps."""
        shapes = []
        for run in range(len(inputs[0].shapes)):
            try:
                operation = OPERATIONS[step.operation].parse(step.arguments)
                (out,) = operation.infer(tuple(shape_of(v, run) for v in inputs), Rules())
            except (OperationError, DimError) as error:
                raise Unsaid(str(error)) from None
            shapes.append((inputs[0].shapes[run][0], *(n for n in out if isinstance(n, int))))
        return Value(shapes, inputs[0].dtype)
