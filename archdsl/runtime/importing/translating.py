"""A recording as a network: each call of a layer or function becomes operations."""

from __future__ import annotations

from collections.abc import Mapping

from archdsl.dims import DimError
from archdsl.ops import OPERATIONS
from archdsl.ops.base import OperationError, Rules
from archdsl.runtime.importing import layers
from archdsl.runtime.importing.functions import Meaning, meaning, shape_of
from archdsl.runtime.importing.layers import Said, Unsaid
from archdsl.runtime.importing.network import Item, Network, Scope
from archdsl.runtime.importing.recording import Call, Constant, Owned, Recording, ScopeCall, Value
from archdsl.runtime.importing.refusal import ImportRefused


def translate(recording: Recording, outputs: list[tuple[str, Value]]) -> Network:
    """The network of a recording; those that are not in `outputs` are outputs only in training.

    Raises ImportRefused for the first call that the language cannot say.
    """
    translator = Translator()
    root = translator.scope(recording.root)
    always = {name for name, _ in outputs}
    final = [(name, translator.resolved(value)) for name, value in recording.outputs]
    names = {id(value): name for name, value in zip(recording.input_names, recording.inputs, strict=True)}
    inputs = [(names[id(value)], value) for value in recording.inputs]
    return Network(root, inputs, [o for o in final if o[0] in always], [o for o in final if o[0] not in always])


def plain(arguments: Mapping[str, object]) -> dict[str, object]:
    """Arguments without the rounding errors of Python's arithmetic: 12 digits are far more than a float32 keeps."""
    return {name: float(f"{v:.12g}") if isinstance(v, float) else v for name, v in arguments.items()}


class Translator:
    """Translates calls; `same` has the value that a call of the identity passes on."""

    def __init__(self) -> None:
        self.same: dict[Value, Value] = {}
        self.weighted: dict[str, Item] = {}

    def resolved(self, value: Value) -> Value:
        while value in self.same:
            value = self.same[value]
        return value

    def scope(self, call: ScopeCall) -> Scope:
        scope = Scope(call.path, call.module, line=call.line)
        for member in call.members:
            if isinstance(member, ScopeCall):
                inner = self.scope(member)
                if inner.members:
                    scope.members.append(inner)
            else:
                scope.members.extend(self.call(member))
        return scope

    def call(self, call: Call) -> list[Item]:
        try:
            found = self.meaning(call)
        except Unsaid as reason:
            raise ImportRefused(str(reason), call.path, call.line) from None
        inputs = [self.resolved(value) for value in found.inputs]
        if not found.steps:
            self.same[call.results[0]] = inputs[0]
            return []
        items: list[Item] = []
        path = call.path if call.module is not None else found.parameter
        for number, step in enumerate(found.steps):
            last = number == len(found.steps) - 1
            outputs = call.results if last else [self.between(step, inputs)]
            owns = bool(found.parameter) or (call.module is not None and bool(call.module.state_dict()))
            items.append(Item(step.operation, plain(step.arguments), inputs, outputs, path, owns, call.line))
            inputs = outputs
        if items[-1].weighted:
            if path in self.weighted:
                raise ImportRefused("it is called more than once, so its weights are shared", path, call.line)
            self.weighted[path] = items[-1]
        return items

    def meaning(self, call: Call) -> Meaning:
        if call.module is None:
            return meaning(call)
        tensors = call.inputs
        given = [*call.arguments, *call.named.values()]
        if len(tensors) != 1 or len(call.results) != 1 or any(isinstance(g, Owned | Constant) for g in given):
            raise Unsaid(f"{call.name} is called with {len(tensors)} tensors and gives {len(call.results)}")
        shapes, outputs = (shape_of(tensors[0]),), (shape_of(call.results[0]),)
        found = layers.said(call.module, shapes, outputs)
        return Meaning(tensors) if found is None else Meaning(tensors, found)

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
