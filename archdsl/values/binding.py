"""How the arguments of a call go to parameters: of an operation, a block, a model, a function, a change of pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from archdsl.common.source import Span
from archdsl.diagnostics import Proposal, renamed
from archdsl.ops import foreign
from archdsl.ops.base import OperationError
from archdsl.syntax import tree
from archdsl.values.kinds import Failure, Namespace


class Misbound(Failure):
    """An argument that fits no parameter. `surplus`: there are more arguments than parameters."""

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
    """What takes arguments: its name, its parameters in order, and what to say of a parameter that it does not have.

    `advise` adds help and proposals to a mistake in its arguments.
    """

    name: str
    parameters: Sequence[str]
    unknown: Callable[[str, Collection[str]], str] = lambda name, known: foreign.listed(known)
    advise: Callable[[Misbound], None] = lambda error: None


class Bound(NamedTuple):
    """The arguments of a call by the names of their parameters: each value, and the argument that it comes from."""

    values: dict[str, object]
    arguments: dict[str, tree.Argument]

    def failure(self, error: OperationError, call: tree.Call, proposals: Iterable[Proposal] = ()) -> Failure:
        """What an operation or change of pictures says of its arguments, at the argument that is wrong."""
        argument = self.arguments.get(error.parameter or "")
        code, span = ("E0207", call.span) if argument is None else ("E0228", argument.value.span)
        return Failure(code, error.message, span, error.help, proposals=proposals)


def bind(
    signature: Signature, arguments: Iterable[tree.Argument], read: Callable[[tree.Argument, str], object]
) -> Bound:
    """Gives each argument to its parameter. `read` computes the value of one, for a parameter.

    Raises Misbound for one too many, for a parameter that there is not, and for one that is given twice.
    """
    name, parameters = signature.name, signature.parameters
    bound = Bound({}, {})

    def wrong(error: Misbound) -> Misbound:
        signature.advise(error)
        return error

    for position, argument in enumerate(arguments):
        key = argument.name
        if key is None:
            if position >= len(parameters):
                takes = f"{len(parameters)} argument{'s' * (len(parameters) != 1)}" if parameters else "no arguments"
                raise wrong(Misbound("E0206", f"`{name}` takes {takes}; this is one too many", argument, surplus=True))
            key = parameters[position]
        elif key not in parameters:
            help = signature.unknown(key, parameters)
            proposals = renamed(name_span(argument), key, parameters)
            raise wrong(Misbound("E0205", f"`{name}` has no parameter `{key}`", argument, help, proposals))
        if key in bound.values:
            raise wrong(Misbound("E0206", f"`{key}` is given twice in this call of `{name}`", argument))
        bound.values[key] = read(argument, key)
        bound.arguments[key] = argument
    return bound


def complete(
    parameters: Iterable[tree.Parameter],
    given: Mapping[str, object],
    home: Namespace,
    evaluate: Callable[[tree.Value, Namespace], object],
    missing: Callable[[tree.Parameter], None],
) -> dict[str, object]:
    """A value for each parameter of a block, model or function: the given one, or the default, which sees the earlier.

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
    """The name of an argument that is given by name."""
    return Span(argument.span.source, argument.span.start, argument.span.start + len(argument.name or ""))
