"""Declarations of layers from outside: `extern NAME(…) = "package.module:Class" { … }`, and what they say of a call."""

from __future__ import annotations

import keyword
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, assert_never

from archdsl import dims
from archdsl.common.limits import Exceeded
from archdsl.common.source import Span
from archdsl.common.units import counted
from archdsl.dims import Demanded, Dim, DimError, Expr
from archdsl.elaborate.extern_source import Signature, python_names, signature, write
from archdsl.elaborate.place import check_path
from archdsl.ops.base import Shape, Weight, Window
from archdsl.ops.declaration import OperationError
from archdsl.ops.extern import Arguments, Declared, Kind
from archdsl.ops.fields import is_free, shape_text
from archdsl.syntax import tree
from archdsl.values import (
    DEMAND,
    ExternValue,
    Failure,
    Namespace,
    Poisoned,
    describe,
    evaluate,
    integer,
    literal,
    truth,
)

LARGEST = 2**31 - 1
"""The largest size that a layer from outside may declare, as for parameters of operations."""

LONGEST = 2**63 - 1
"""The largest number that it may get."""

ONCE = ("input", "output", "call", "macs", "field")
"""The lines that an extern has at most once."""


def declare(syntax: tree.Extern, module: Namespace) -> ExternValue:
    """The value of a declaration. Raises Failure if it is not a valid one."""
    path, name = _target(syntax)
    words = [_word(line) for line in syntax.lines]
    for word, count in Counter(words).items():
        if word in ONCE and count > 1:
            again = [line for line, w in zip(syntax.lines, words, strict=True) if w == word][1]
            raise Failure("E0235", f"`{syntax.name.name}` has two lines `{word}`", again.span, "write one line")
    for word, example in (("input", "`input x[C, H, W]`"), ("output", "`output [C, H, W]`")):
        if word not in words:
            help = f"say which sizes it {'takes' if word == 'input' else 'gives'}: {example}"
            raise Failure("E0235", f"`{syntax.name.name}` has no line `{word}`", syntax.name.span, help)
    held = next((line for line in syntax.lines if isinstance(line, tree.Held)), None)
    if syntax.is_function and held is not None:
        help = 'declare a module, which holds them: `extern NAME(…) = "package.module:Class"`'
        raise Failure("E0235", f"`{syntax.name.name}` is a function, which has no weights", held.span, help)
    taken: dict[str, None] = {}
    for line in syntax.lines:
        for key, span, _ in line.tensors if isinstance(line, tree.Held) else ():
            check_path(key, span)
            if key in taken:
                raise Failure("E0235", f"`{syntax.name.name}` has two weights `{key}`", span)
            taken[key] = None
    _check_keywords(syntax)
    rule = Rule(syntax, module)
    given = next(line for line in syntax.lines if isinstance(line, tree.Input))
    for dimension in (d for tensor in given.tensors for d in tensor.dimensions if d.example is not None):
        help = "write the name alone: an extern takes the sizes that come"
        raise Failure("E0235", "an extern has no example sizes", dimension.span, help)
    results = next(len(line.tensors) for line in syntax.lines if isinstance(line, tree.Gives))
    kind = Kind(
        syntax.name.name,
        path,
        name,
        syntax.is_function,
        place(syntax.span),
        syntax.span.source.path.parent if syntax.span.source.path is not None else None,
        *python_names(syntax),
        tuple(t.name.name for t in given.tensors),
        results,
        rule.declared,
        rule.window,
        rule.write,
    )
    return ExternValue(syntax, module, kind)


def _check_keywords(syntax: tree.Extern) -> None:
    """Raises Failure if Python's call cannot have the names that its arguments get."""
    calls = [line for line in syntax.lines if isinstance(line, tree.Passed) and line.kind == "call"]
    named = [(a.name, a.span) for line in calls for a in line.arguments if a.name is not None]
    for name, span in named if calls else [(p.name.name, p.span) for p in syntax.parameters]:
        if keyword.iskeyword(name) or name.startswith("__"):
            help = "pass it by position: `call (…)`"
            raise Failure("E0235", f"Python has no arguments with the name `{name}`", span, help)


def place(span: Span) -> str:
    """Where a declaration is: `net.arch, line 3`."""
    name = span.source.name.replace("\\", "/").rsplit("/", 1)[-1]
    return f"{name}, line {span.line}"


def _word(line: tree.ExternLine) -> str:
    match line:
        case tree.Input():
            return "input"
        case tree.Gives():
            return "output"
        case tree.Passed() | tree.Held():
            return line.kind
        case _:
            return ""


def _target(syntax: tree.Extern) -> tuple[str, str]:
    """The module and the name in it that a declaration names. Raises Failure if they are not plain names."""
    text, span = syntax.target, syntax.target_span
    shown = text if len(text) <= 60 else text[:60] + "…"
    module, colon, name = text.partition(":")
    parts = [*module.split("."), name]
    if not colon or not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part) for part in parts):
        help = 'name a module and what it defines: `"torchvision.ops:DeformConv2d"`'
        raise Failure("E0235", f"`{shown}` names nothing that Python can import", span, help)
    for part in parts:
        if keyword.iskeyword(part) or part in ("__debug__",):
            raise Failure("E0235", f"`{part}` is a keyword of Python, so `{shown}` cannot be imported", span)
        if part.startswith("_"):
            help = "name what the package offers by a public name"
            raise Failure("E0235", f"`{part}` is private: an extern takes only public names", span, help)
    if parts[0] in sys.stdlib_module_names or parts[0] == "archdsl":
        whose = "archdsl" if parts[0] == "archdsl" else "Python's own library"
        raise Failure("E0235", f"`{shown}` is part of {whose}, which has no layers", span)
    return module, name


class Rule:
    """The declaration of one extern for a call."""

    def __init__(self, syntax: tree.Extern, module: Namespace) -> None:
        self.syntax = syntax
        self.module = module

    @cached_property
    def signature(self) -> Signature:
        """The parameters of its checked form in a built file. Raises Failure."""
        return signature(self.syntax, self.module)

    def write(self, kind: Kind) -> str:
        """Its checked form in a built file."""
        return write(kind, self.syntax, self.module, self.signature)

    def declared(self, arguments: Arguments, shapes: tuple[Shape, ...]) -> Declared:
        """The declaration for these arguments and input sizes. Raises OperationError."""
        with self.reported():
            for rank in {len(shape) - 1 for shape in shapes}:
                self.field(arguments, rank)
            return Call(self.syntax, Namespace(self.module), shapes).run(arguments, self.signature)

    def window(self, arguments: Arguments, rank: int) -> Window | None:
        """The window that slides over an input of so many spatial axes. Raises OperationError."""
        with self.reported():
            return self.field(arguments, rank)

    def field(self, arguments: Arguments, rank: int) -> Window | None:
        lines = self.syntax.lines
        line = next((line for line in lines if isinstance(line, tree.Passed) and line.kind == "field"), None)
        if line is None or not rank:
            return None
        names = Namespace(self.module)
        names.values.update(arguments)
        for value in (line for line in lines if isinstance(line, tree.Let)):
            with suppress(Failure):  # one that uses sizes: the window must not
                names.values[value.name.name] = evaluate(value.value, names)
        return _window(line, names, rank)

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turns each error of the context into an OperationError that says where the declaration has it."""
        try:
            yield
        except Failure as failure:
            where = f"{place(failure.span)}: `{failure.span.source.line(failure.span.line).strip()}`"
            raise OperationError(f"{failure.message} ({where})", help=failure.help) from None
        except (DimError, Exceeded) as error:
            raise OperationError(f"`{self.syntax.name.name}` cannot take these sizes: {error}") from None
        except Poisoned:
            raise OperationError(f"`{self.syntax.name.name}` uses a value that has an error") from None


class Call:
    """One call of an extern: its lines with their values."""

    def __init__(self, syntax: tree.Extern, names: Namespace, shapes: tuple[Shape, ...]) -> None:
        self.syntax, self.names, self.shapes = syntax, names, shapes
        self.demands: list[tuple[Demanded, str]] = []
        self.outputs: tuple[Shape, ...] = ()
        self.weights: list[Weight] = []
        self.passed: list[tuple[str | None, object]] | None = None
        self.macs: Dim | None = None

    def run(self, arguments: Arguments, signature: Signature) -> Declared:
        self.names.values.update(arguments)
        self.names.values[DEMAND] = lambda demand, message, span: self.demands.append(
            (demand, self.said(message, span))
        )
        for line in self.syntax.lines:
            self.line(line)
        if self.passed is None:
            self.passed = list(arguments)
        own = signature.arguments(self.names)
        return Declared(self.outputs, tuple(self.weights), tuple(self.passed), own, self.macs, tuple(self.demands))

    @staticmethod
    def said(message: str, span: Span) -> str:
        return f"{message} ({place(span)})"

    def line(self, line: tree.ExternLine) -> None:
        match line:
            case tree.Let():
                self.names.values[line.name.name] = evaluate(line.value, self.names)
            case tree.Require():
                self.require(line)
            case tree.Input():
                for tensor, shape in zip(line.tensors, self.shapes, strict=True):
                    self.input(tensor, shape)
            case tree.Gives():
                self.outputs = tuple(tuple(self.size(v) for v in sizes) for sizes in line.tensors)
                if () in self.outputs:
                    raise Failure("E0235", "a result has at least channels", line.span, "write `[C]`")
            case tree.Held() if line.condition is not None and not self.condition(line.condition):
                pass
            case tree.Held():
                for key, _, sizes in line.tensors:
                    numbers = tuple(self.known(v, f"a size of `{key}`") for v in sizes)
                    buffer, counter = line.kind in ("buffer", "counter"), line.kind == "counter"
                    trainable = line.kind == "weight"
                    self.weights.append(Weight(key, numbers, trainable, buffer, "int64" if counter else "float"))
            case tree.Passed() if line.kind == "call":
                self.passed = [(a.name, self.argument(a.value)) for a in line.arguments]
            case tree.Passed() if line.kind == "macs":
                (given,) = line.arguments
                found = evaluate(given.value, self.names)
                self.macs = found if isinstance(found, Expr) else integer(found, given.span, "`macs`")
            case tree.Passed():
                pass  # `field`: see Rule.window
            case _:
                assert_never(line)

    def condition(self, value: tree.Value) -> bool:
        return truth(evaluate(value, self.names), value.span)

    def require(self, line: tree.Require) -> None:
        if self.condition(line.condition):
            return
        text = f"`{line.condition.span.text}` is false"
        if line.message is not None:
            message = evaluate(line.message, self.names)
            text = message if isinstance(message, str) else literal(message)
        raise Failure("E0216", text, line.condition.span)

    def input(self, wanted: tree.InputTensor, shape: Shape) -> None:
        name = wanted.name.name
        if len(shape) != len(wanted.dimensions):
            has = f"`{name}` of `{self.syntax.name.name}` has {counted(len(wanted.dimensions), 'size')}"
            raise Failure("E0220", f"{has}; {shape_text(shape)} flows in", wanted.span)
        for size, dimension in zip(shape, wanted.dimensions, strict=True):
            value = dimension.value
            if isinstance(value, tree.Name):
                if value.name == "_":
                    continue
                if value.name not in self.names.values and self.names.find(value.name) is None:
                    self.names.values[value.name] = size
                    continue
            declared = self.size(value)
            decided = dims.equal(size, declared)
            what = f"`{name}` of `{self.syntax.name.name}` is {shape_text(shape)}"
            message = f"{what}; {dims.text(size)} here should be {dims.text(declared)}"
            if decided is False:
                raise Failure("E0220", message, value.span)
            if decided is not True:
                self.demands.append((decided, self.said(message, value.span)))

    def size(self, value: tree.Value) -> Dim:
        found = evaluate(value, self.names)
        if isinstance(found, Expr):
            return found
        return self.positive(integer(found, value.span, "a size"), value)

    def known(self, value: tree.Value, what: str) -> int:
        return self.positive(integer(evaluate(value, self.names), value.span, what), value)

    @staticmethod
    def positive(number: int, value: tree.Value) -> int:
        if not 1 <= number <= LARGEST:
            raise Failure("E0218", f"a size is from 1 to {LARGEST:,}, not {number}", value.span)
        return number

    def argument(self, value: tree.Value) -> object:
        found = evaluate(value, self.names)
        if is_free(found) and not self.syntax.is_function:
            help = "a module is made before it sees an input: fix the size in the model's `input`"
            raise Failure("E0304", f"`{value.span.text}` depends on a free input size", value.span, help)
        check_plain(found, value.span)
        return found


def _window(line: tree.Passed, names: Namespace, rank: int) -> Window:
    """The window of `field (kernel, stride = 1, dilation = 1, pad = 0, scale = 1)`."""
    words = ("kernel", "stride", "dilation", "pad", "scale")
    given: dict[str, tuple[int, ...]] = {}
    for i, argument in enumerate(line.arguments):
        word = argument.name or (words[i] if i < len(words) else "")
        if word not in words or word in given:
            help = "it takes `field (kernel, stride = 1, dilation = 1, pad = 0, scale = 1)`"
            raise Failure("E0235", "`field` cannot take this", argument.span, help)
        value = evaluate(argument.value, names)
        numbers: tuple[Any, ...] = value if isinstance(value, tuple) else (value,) * rank
        if len(numbers) != rank or not all(type(n) is int and LARGEST >= n >= (word != "pad") for n in numbers):
            message = f"`{word}` must be a number, or one for each of {rank} axes; this is {describe(value)}"
            raise Failure("E0235", message, argument.span)
        given[word] = numbers
    kernel, stride, dilation, pad, scale = (given.get(word, (int(word != "pad"),) * rank) for word in words)
    return Window(kernel, stride, dilation, pad, scale)


def check_plain(value: object, span: Span) -> None:
    """Raises Failure unless Python code can hold a value: a number, string, boolean, none, or a list of such."""
    waiting: list[object] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, tuple):
            waiting.extend(part)
        elif isinstance(part, int | float) and not -LONGEST <= part <= LONGEST:
            raise Failure("E0228", "this number is too large for an extern", span)
        elif not (part is None or isinstance(part, bool | int | float | str | Expr)):
            raise Failure("E0228", f"an extern takes numbers, strings and lists, not {describe(part)}", span)


def check_arguments(value: ExternValue, arguments: dict[str, object], call: tree.Call) -> Arguments:
    """The arguments of a call, after checking that they are plain values. Raises Failure."""
    spans = _spans(value.syntax.parameters, call)
    for name, given in arguments.items():
        span = spans.get(name, call.span)
        if is_free(given):
            help = "give a number, or fix the size in the `input`, e.g. `input image[3, 224, 224]`"
            raise Failure("E0228", f"`{name}` of `{value.name}` cannot depend on a free input size", span, help)
        check_plain(given, span)
    return tuple(arguments.items())


def _spans(parameters: Sequence[tree.Parameter], call: tree.Call) -> dict[str, Span]:
    found: dict[str, Span] = {}
    for parameter, argument in zip(parameters, call.arguments or (), strict=False):
        if argument.name is None:
            found[parameter.name.name] = argument.value.span
    return {**found, **{a.name: a.value.span for a in call.arguments or () if a.name is not None}}
