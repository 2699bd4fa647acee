"""Modules that the language cannot say, as `extern` declarations: one for all of a class whose sizes follow alike."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import nn

from archdsl.ops import OPERATIONS
from archdsl.ops.fields import shown
from archdsl.runtime.importing.chains import ABSENT, key
from archdsl.runtime.importing.layers import NoOperation, snake_case
from archdsl.runtime.importing.making import Made, arguments_of, sayable
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, ScopeCall, Value
from archdsl.runtime.importing.solving import Block, Parameter
from archdsl.runtime.refusal import ImportRefused

Numbers: TypeAlias = tuple[int, ...]
"""A size in each of the runs of each of the modules."""
LETTERS = {1: "C", 2: "TC", 3: "CHW", 4: "CDHW"}
"""The names of sizes of the first input, by its rank."""


@dataclass(slots=True, eq=False)
class Outside:
    """A module that becomes an extern: its arguments, what flows in and out, and why it cannot be said."""

    module: nn.Module
    arguments: dict[str, object]
    inputs: list[Value]
    outputs: list[Value]
    refusal: ImportRefused

    @property
    def held(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Its parameters and buffers: kind, key and sizes."""
        found = []
        for name, tensor in self.module.state_dict(keep_vars=True).items():
            if isinstance(tensor, nn.Parameter):
                kind = "weight" if tensor.requires_grad else "frozen"
            else:
                kind = "counter" if tensor.dtype == torch.int64 else "buffer"
            found.append((kind, name, tuple(tensor.shape)))
        return found

    def alike(self) -> object:
        """Equal for modules that one declaration may stand for."""
        weights = tuple((kind, name, len(sizes)) for kind, name, sizes in self.held)
        ranks = tuple(len(v.shapes[0]) for v in (*self.inputs, *self.outputs))
        return (type(self.module), weights, len(self.inputs), ranks)

    def argument(self, name: str) -> object:
        """An argument of the module's constructor, also one that has its default."""
        return self.arguments.get(name, inspect.signature(type(self.module)).parameters[name].default)


def outside_item(call: Call | ScopeCall, inputs: list[Value], refusal: ImportRefused, made: Made) -> Item:
    """The item of a module that cannot be said. Raises ImportRefused if it cannot be declared either."""
    assert call.module is not None
    cls = type(call.module)
    try:
        if "<locals>" in cls.__qualname__:
            raise NoOperation(f"{cls.__name__} is no class that a file can import")
        if isinstance(call, ScopeCall) and call.others:
            raise NoOperation(f"it {call.others}")
        if not call.taken or not call.given or len(set(call.taken)) != len(call.taken):
            raise NoOperation("it is not called with tensors alone, each once")
        if any(value.dtype != torch.float32 for value in (*call.taken, *call.given)):
            raise NoOperation("it takes or gives other tensors than float32")
        arguments = arguments_of(call.module, made)
    except NoOperation as reason:
        why = f"{refusal.reason}; nor can an `extern` be `{call.path}`: {reason}"
        raise type(refusal)(why, *refusal.at) from None
    found = Outside(call.module, arguments, call.taken, call.given, refusal)
    weighted = bool(call.module.state_dict())
    return Item("", {}, inputs, call.given, call.path, weighted, call.line, outside=found)


@dataclass(slots=True, eq=False)
class Extern(Block):
    """An `extern` of the spec, called as a block is."""

    text: str = ""
    stands_for: list[Outside] = field(default_factory=list)


def declare(items: Sequence[Item], taken: set[str]) -> list[Extern]:
    """The externs of a network, whose items get their arguments; `taken` are names in use."""
    groups: dict[object, list[Item]] = {}
    for item in items:
        if item.outside is not None:
            groups.setdefault(item.outside.alike(), []).append(item)
    found: list[Extern] = []
    for group in groups.values():
        for part in _parts(group):
            extern = _declared(part, {*taken, *(e.name for e in found)})
            if extern is None:
                raise _unsizable(part)
            found.append(extern)
    return found


def _unsizable(items: list[Item]) -> ImportRefused:
    outside = items[0].outside
    assert outside is not None
    refusal, name = outside.refusal, type(outside.module).__name__
    why = f"no formula of this kind gives the sizes of what {name} returns or holds"
    return type(refusal)(f"{refusal.reason}; nor can an `extern` be `{items[0].path}`: {why}", *refusal.at)


def _parts(group: list[Item]) -> Iterator[list[Item]]:
    """All of a group if one declaration says them, otherwise those with equal sizes and arguments."""
    if _declared(group, set()) is not None:
        yield group
        return
    equal: dict[object, list[Item]] = {}
    for item in group:
        assert item.outside is not None
        one = item.outside
        sizes = tuple(tuple(shape[1:] for shape in v.shapes) for v in (*one.inputs, *one.outputs))
        same = (sizes, tuple(one.held), tuple((name, key(v)) for name, v in sorted(one.arguments.items())))
        equal.setdefault(same, []).append(item)
    yield from equal.values()


def _declared(items: list[Item], taken: set[str]) -> Extern | None:
    """One declaration for modules; None if their sizes do not follow from what they take."""
    members = [item.outside for item in items if item.outside is not None]
    first = members[0]
    given = dict.fromkeys(name for member in members for name in member.arguments)
    if not all(sayable(member.argument(name)) for member in members for name in given):
        return None
    varying = [n for n in given if len({key(m.argument(n)) for m in members}) > 1]
    parameters = [_parameter(name, members) for name in varying]
    parameters.sort(key=lambda p: p.has_default)
    sizes = Sizes(members, parameters)
    inputs = [sizes.input(i) for i, _ in enumerate(first.inputs)]
    outputs = [sizes.output(i) for i, _ in enumerate(first.outputs)]
    held = [sizes.weight(i) for i, _ in enumerate(first.held)]
    if None in outputs or None in held:
        return None
    names = ["x", "y", "z"] if len(inputs) <= 3 else [f"x{i}" for i, _ in enumerate(inputs)]
    passed = [f"{n} = {n if n in varying else literal(first.argument(n))}" for n in given]
    lines = [
        f'"{type(first.module).__name__}: {quoted(first.refusal.reason)}"',
        "input " + ", ".join(f"{name}[{text}]" for name, text in zip(names, inputs, strict=False)),
        f"call ({', '.join(passed)})" if passed else "call ()",
        *(f"{kind} {label(name)}[{text}]" for (kind, name, _), text in zip(first.held, held, strict=True)),
        "output " + ", ".join(_results(outputs)),
    ]
    cls = type(first.module)
    name = _name(cls, taken)
    named = [p.name + (f" = {literal(p.default)}" if p.has_default else "") for p in parameters]
    head = f"extern {name}({', '.join(named)})" if named else f"extern {name}"
    body = "".join(f"    {line}\n" for line in lines)
    text = f'{head} = "{cls.__module__}:{cls.__qualname__}" {{\n{body}}}\n'
    extern = Extern(name, parameters, [], text=text, stands_for=members)
    for item, member in zip(items, members, strict=True):
        item.extern, item.arguments = extern, {name: member.argument(name) for name in varying}
    return extern


def _parameter(name: str, members: Sequence[Outside]) -> Parameter:
    """A parameter of an extern, with the default of Python's if some modules have that."""
    values = [member.argument(name) for member in members]
    default = inspect.signature(type(members[0].module)).parameters[name].default
    known = sayable(default) and not isinstance(default, tuple | list)
    return Parameter(name, values, default if known and any(name not in m.arguments for m in members) else ABSENT)


def _results(outputs: list[str | None]) -> list[str]:
    return [f"[{outputs[0]}]"] if len(outputs) == 1 else [f"out{i}[{text}]" for i, text in enumerate(outputs)]


class Sizes:
    """Says sizes by the names of the inputs' sizes and by parameters."""

    def __init__(self, members: Sequence[Outside], parameters: Sequence[Parameter]) -> None:
        self.members = members
        self.runs = len(members[0].inputs[0].shapes)
        self.known: dict[str, Numbers] = {}
        for parameter in parameters:
            values = [n for n in parameter.values for _ in range(self.runs) if type(n) is int]
            if len(values) == len(members) * self.runs:
                self.known[parameter.name] = tuple(values)

    def of(self, values: list[Value], axis: int) -> Numbers:
        return tuple(shape[axis + 1] for value in values for shape in value.shapes)

    def input(self, number: int) -> str:
        """The sizes of an input: each is a name, that of an earlier one if it is always the same."""
        values = [m.inputs[number] for m in self.members]
        rank = len(values[0].shapes[0]) - 1
        found = []
        for axis in range(rank):
            numbers = self.of(values, axis)
            name = next((n for n, known in self.known.items() if known == numbers and n.isupper()), None)
            if name is None or name in found:
                letter = LETTERS.get(rank, "")[axis : axis + 1] or f"A{axis}"
                name = letter if letter not in self.known else f"{letter}{number + 1}"
                self.known[name] = numbers
            found.append(name)
        return ", ".join(found)

    def output(self, number: int) -> str | None:
        values = [m.outputs[number] for m in self.members]
        texts = [self.text(self.of(values, axis)) for axis in range(len(values[0].shapes[0]) - 1)]
        return None if None in texts else ", ".join(filter(None, texts))

    def weight(self, number: int) -> str | None:
        sizes = [m.held[number][2] for m in self.members]
        texts = [
            self.text(tuple(size[axis] for size in sizes for _ in range(self.runs))) for axis in range(len(sizes[0]))
        ]
        return None if None in texts else ", ".join(filter(None, texts))

    def text(self, numbers: Numbers) -> str | None:
        """An expression that has these values; None if there is no simple one."""
        if len(set(numbers)) == 1:
            return str(numbers[0])
        for name, known in self.known.items():
            if known == numbers:
                return name
        for name, known in self.known.items():
            for factor in range(2, 65):
                if all(n == factor * k for n, k in zip(numbers, known, strict=True)):
                    return f"{factor} * {name}"
                if all(n * factor == k for n, k in zip(numbers, known, strict=True)):
                    return f"{name} // {factor}"
                if all(n == (k - 1) // factor + 1 for n, k in zip(numbers, known, strict=True)):
                    return f"({name} - 1) // {factor} + 1"
        return None


def literal(value: object) -> str:
    if isinstance(value, str):
        return f'"{quoted(value)}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(literal, value))}]"
    return shown(value)


def quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def label(name: str) -> str:
    return name if name.isidentifier() else f'"{name}"'


def _name(cls: type, taken: set[str]) -> str:
    base = snake_case(cls.__name__)
    base = f"{base}_layer" if base in OPERATIONS else base
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name
