"""Binds the arguments of a call to the parameters of an operation, block, model, function or augmentation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from archdsl.common.source import Span
from archdsl.common.units import counted
from archdsl.diagnostics import Proposal, renamed
from archdsl.ops import aliases
from archdsl.ops.declaration import OperationError
from archdsl.syntax import tree
from archdsl.values.kinds import Failure, Namespace


class Misbound(Failure):
    """An argument that matches no parameter. `surplus`: there are more arguments than parameters."""

    def __init__(
        self,
        code: str,
        message: str,
        argument: tree.Argument,
        help: str | None = None,
        proposals: Iterable[Proposal] = (),
        surplus: bool = False,
    ) -> None:
        super().__init__(code, message, argument.span, help, proposals=proposals)
        self.argument, self.surplus = argument, surplus


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature of a callee: its name, its parameters in order, and advice for an unknown parameter.

    `advise` adds help and proposals to an error in its arguments. `switched` says which switch an argument turns on by
    its name alone: `pad` for `pad = true`.
    """

    name: str
    parameters: Sequence[str]
    unknown: Callable[[str, Collection[str]], str] = lambda name, known: aliases.listed(known)
    advise: Callable[[Misbound], None] = lambda error: None
    switched: Callable[[tree.Argument], str | None] = lambda argument: None


class Bound(NamedTuple):
    """The arguments of a call by parameter: each value, and the argument that it comes from."""

    values: dict[str, object]
    arguments: dict[str, tree.Argument]

    def failure(self, error: OperationError, call: tree.Call, proposals: Iterable[Proposal] = ()) -> Failure:
        """The failure for an error of an operation or augmentation, at the argument concerned."""
        argument = self.arguments.get(error.parameter or "")
        code, span = ("E0207", call.span) if argument is None else ("E0228", argument.value.span)
        return Failure(code, error.message, span, error.help, proposals=proposals)


def bind(
    signature: Signature, arguments: Iterable[tree.Argument], read: Callable[[tree.Argument, str], object]
) -> Bound:
    """Binds each argument to its parameter. `read` computes the value for a parameter.

    Raises Misbound for a surplus argument, an unknown parameter, one that is given twice, or a positional argument
    after a named one.
    """
    name, parameters = signature.name, signature.parameters
    bound = Bound({}, {})

    def wrong(error: Misbound) -> Misbound:
        signature.advise(error)
        return error

    for position, argument in enumerate(arguments):
        switch = signature.switched(argument)
        key = argument.name or switch
        if key is None:
            if any(a.name is not None for a in bound.arguments.values()):
                message = "a positional argument follows a named one"
                raise wrong(Misbound("E0108", message, argument, "put positional arguments first"))
            if position >= len(parameters):
                takes = counted(len(parameters), "argument") if parameters else "no arguments"
                raise wrong(Misbound("E0206", f"`{name}` takes {takes}; this is one too many", argument, surplus=True))
            key = parameters[position]
        elif key not in parameters:
            help = signature.unknown(key, parameters)
            proposals = renamed(name_span(argument), key, parameters)
            raise wrong(Misbound("E0205", f"`{name}` has no parameter `{key}`", argument, help, proposals))
        if key in bound.values:
            raise wrong(Misbound("E0206", f"`{key}` is given twice in this call of `{name}`", argument))
        bound.values[key] = True if switch is not None else read(argument, key)
        bound.arguments[key] = argument
    return bound


def complete(
    parameters: Iterable[tree.Parameter],
    given: Mapping[str, object],
    home: Namespace,
    evaluate: Callable[[tree.Value, Namespace], object],
    missing: Callable[[tree.Parameter], None],
) -> dict[str, object]:
    """A value for each parameter of a block, model or function: the given one, or the default, which sees earlier ones.

    `home` has the names of the file that declares it. A parameter without a value goes to `missing`, and is left out.
    """
    space = Namespace(home)
    for parameter in parameters:
        key = parameter.name.name
        if key in given:
            space.values[key] = given[key]
        elif parameter.default is not None:
            space.values[key] = evaluate(parameter.default, space)
        else:
            missing(parameter)
    return space.values


def name_span(argument: tree.Argument) -> Span:
    """The name of a named argument."""
    return Span(argument.span.source, argument.span.start, argument.span.start + len(argument.name or ""))
