"""The values of a model's parameters, from Python or written as in a spec (`--set`), and the model bound to them."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from archdsl.advice.trial import Trials
from archdsl.common.limits import Exceeded, limits
from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostic, Diagnostics, Mark, SpecError, did_you_mean
from archdsl.dims import Expr
from archdsl.elaborate.spec_files import SpecFile, family, reporting
from archdsl.ops import OPERATIONS, aliases
from archdsl.ops.init import Drawn
from archdsl.syntax import parser, tree
from archdsl.values import (
    NAMED,
    AugmentValue,
    BlockValue,
    Failure,
    MemberValue,
    Namespace,
    SharedValue,
    complete,
    evaluate,
)

_OF_A_SPEC = (*NAMED, AugmentValue, SharedValue, Expr, Drawn)
"""Values that only a spec has, as `--set` gives them."""

_NAME = re.compile(r"\s*([^\W\d]\w*)\s*(\(.*)?", re.DOTALL)
"""What is a name, or may be a call: `leaky_relu(0.2)`."""


def bind_model(
    spec_file: SpecFile, name: str, values: Mapping[str, object], diagnostics: Diagnostics
) -> tuple[BlockValue, dict[str, object]]:
    """A model's block, with a value for each parameter. Raises SpecError."""
    block: BlockValue | None = None
    arguments: dict[str, object] = {}
    with reporting(diagnostics):
        block, given = family(spec_file.models[name])
        known = {p.name.name for p in block.syntax.parameters}
        for key in sorted(values.keys() - known):
            has = ", ".join(f"`{k}`" for k in sorted(known)) or "none"
            help = did_you_mean(key, known) or f"its parameters: {has}"
            diagnostics.error("E0205", f"the model `{name}` has no parameter `{key}`", help=help)
        diagnostics.stop_on_errors()
        given = {**given, **values}
        owner = block

        def missing(parameter: tree.Parameter) -> None:
            key = parameter.name.name
            diagnostics.error(
                "E0207",
                f"the model `{name}` needs a value for `{key}`",
                Mark(parameter.span, "has no default"),
                help=f"give it with `--set {key}=…`, or name a member: `model NAME = {owner.name}({key} = …)`",
            )

        arguments = complete(block.syntax.parameters, given, block.module, evaluate, missing)
    diagnostics.stop_on_errors()
    if block is None:  # it depends on what could not be read, which was reported
        raise SpecError(diagnostics.items, diagnostics.hidden)
    return block, arguments


# ---------------------------------------------------------------- values from Python


def from_python(
    spec_file: SpecFile, name: str, values: Mapping[str, object], diagnostics: Diagnostics
) -> dict[str, object]:
    """The values of a model's parameters from those of Python. Raises SpecError.

    A string that names an operation, block or function, or calls one, is read as `--set` reads it, except for a
    parameter that has a string by default.
    """
    found = dict(values)
    with reporting(diagnostics):
        block, given = family(spec_file.models[name])
        defaults: dict[str, object] = {p.name.name: p.default for p in block.syntax.parameters}
        defaults.update(given)
        found = plain(values, defaults)
        for key, value in found.items():
            if not _takes_strings(defaults.get(key)):
                found[key] = _named(value, key, spec_file, diagnostics)
    diagnostics.stop_on_errors()
    return found


def plain(values: Mapping[str, object], known: Collection[str]) -> dict[str, object]:
    """The values of `known` parameters as bools, ints, floats, strings, None, and tuples of them. Raises SpecError."""
    found = dict(values)
    for name in [name for name in values if name in known]:
        try:
            found[name] = _plain(values[name], 0)
        except _Strange as strange:
            what = f"`{name}` is given {strange}, which is no value of a spec"
            raise SpecError([Diagnostic("E0211", what, help=_instead(name, strange.value))]) from None
        except Exceeded as error:
            raise SpecError([Diagnostic(error.code, f"`{name}`: {error.message}", help=error.help)]) from None
    return found


class _Strange(Exception):
    """A value that a spec cannot have."""

    def __init__(self, value: object) -> None:
        super().__init__(_described(value))
        self.value = value


def _plain(value: object, depth: int) -> object:
    if value is None or isinstance(value, (bool, *_OF_A_SPEC)):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # a string, also of an enumeration
    if isinstance(value, type | bytes | bytearray | memoryview):
        raise _Strange(value)
    if callable(as_list := getattr(value, "tolist", None)):  # an array, or a number of NumPy or PyTorch
        try:
            found = as_list()
        except Exception:  # such as a tensor without data
            raise _Strange(value) from None
        if type(found) is type(value):
            raise _Strange(value)
        return _plain(found, depth)
    with suppress(TypeError):
        number = operator.index(value)  # type: ignore[arg-type]
        if number.bit_length() > limits().bits:
            raise Exceeded("bits", f"the number is too large: it has more than {limits().bits:,} bits")
        return number
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Sequence):
        return _items(value, depth)
    raise _Strange(value)


def _items(value: Sequence[object], depth: int) -> tuple[object, ...]:
    most = limits()
    if depth >= most.list_depth:
        raise Exceeded("list_depth", f"lists are nested more than {most.list_depth} deep")
    if isinstance(value, range):  # which may be longer than len() supports
        value = value[: most.list_size + 1]
    if len(value) > most.list_size:
        raise Exceeded("list_size", f"a list of more than {most.list_size:,} elements")
    return tuple([_plain(item, depth + 1) for item in value])


def _described(value: object) -> str:
    """A value of Python in words: the class `GELU`, a `set`."""
    if isinstance(value, type):
        return f"the class `{value.__qualname__}`"
    if isinstance(name := getattr(value, "__name__", None), str):
        return f"the {type(value).__name__} `{name}`"
    return f"a value of the type `{type(value).__qualname__}`"


def _instead(name: str, value: object) -> str:
    """What to give in place of a value that a spec cannot have."""
    if isinstance(value, set | frozenset):
        return "a set has no order: give a list"
    called = value.__name__ if isinstance(value, type) else getattr(value, "__name__", type(value).__name__)
    if isinstance(called, str) and (here := aliases.operation(called, OPERATIONS)) is not None:
        return f'give an operation by its name here: {name}="{here}"'
    return (
        "give a number, a string, a boolean, None, or a list, tuple, range or array of them; "
        "a block or operation by its name, as a string"
    )


# ---------------------------------------------------------------- values written as in a spec


def _takes_strings(default: object) -> bool:
    """Whether a parameter is a string, or a list of strings, by its default: as syntax, or as a member's value."""
    match default:
        case tree.Literal():
            return isinstance(default.value, str)
        case tree.ListValue():
            return any(_takes_strings(item) for item in default.items)
        case tuple():
            return any(_takes_strings(item) for item in default)
        case _:
            return isinstance(default, str)


def _named(value: object, key: str, spec_file: SpecFile, diagnostics: Diagnostics) -> object:
    """A value from Python, of which strings that name an operation or block, or call one, become what `--set` reads."""
    if isinstance(value, tuple):
        return tuple([_named(item, key, spec_file, diagnostics) for item in value])
    if not isinstance(value, str) or (written := _NAME.fullmatch(value)) is None:
        return value
    found = spec_file.names.find(written[1])
    if isinstance(found, NAMED) or (found is None and written[1] in OPERATIONS):
        return value_from_text(value, spec_file, diagnostics, key)
    return value


def value_from_text(text: str, spec_file: SpecFile, diagnostics: Diagnostics, given: str = "--set") -> object:
    """A value written as in a spec (`--set NAME=VALUE`), which may use names of the file. Raises SpecError.

    `given` says in messages where the text is from.
    """
    try:
        return _value(Source(given, text), spec_file, diagnostics)
    except SpecError as error:
        tried = Trials(error.diagnostics, (), lambda changed: _value_errors(changed, spec_file)).diagnostics()
    raise SpecError(tried)


def _value(source: Source, spec_file: SpecFile, diagnostics: Diagnostics) -> object:
    value = parser.parse_value(source, diagnostics)
    diagnostics.stop_on_errors()
    found: object = None
    with reporting(diagnostics):
        found = evaluate(value, spec_file.names)
    diagnostics.stop_on_errors()
    return found


def _value_errors(source: Source, spec_file: SpecFile) -> Sequence[Diagnostic]:
    try:
        _value(source, spec_file, Diagnostics())
    except SpecError as error:
        return error.diagnostics
    return ()


def in_file(value: object, names: Namespace) -> object:
    """The same value in a changed file: its blocks and models are the new ones."""
    if isinstance(value, tuple):
        return tuple([in_file(item, names) for item in value])
    if not isinstance(value, BlockValue | MemberValue):
        return value
    found: object = None
    with suppress(Failure):
        found = names.find(value.name)
    if isinstance(found, BlockValue) and isinstance(value, BlockValue):
        return replace(found, given=value.given)
    return found if isinstance(found, BlockValue | MemberValue) else value
