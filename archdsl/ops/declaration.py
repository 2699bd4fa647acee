"""The base of what specs call by name: parameters as fields, their check, and the errors of invalid arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import ClassVar, NoReturn, Self, dataclass_transform

from archdsl.ops import aliases, fields
from archdsl.ops.validation import Field, declared


@dataclass(frozen=True, slots=True)
class Mend:
    """A proposed change of a call, with its explanation: other arguments, or an item before it or instead of it.

    All values are text as in a spec; a size is written `1x3`.
    """

    help: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    instead: str = ""


class OperationError(Exception):
    """An argument or input that an operation cannot take; the elaborator adds the location.

    `parameter` names the argument at fault, `inputs` the positions of the inputs at fault, `help` is one piece of
    advice. `also` has further errors of the same call, each reported separately. `mends` are changes of the call that
    may fix it, most likely first: the explanation of the first that works replaces `help`. `training`: the error occurs
    only in training.
    """

    def __init__(
        self,
        message: str,
        *,
        parameter: str | None = None,
        inputs: Sequence[int] = (),
        help: str | None = None,
        also: Sequence["OperationError"] = (),
        mends: Sequence[Mend] = (),
        training: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.parameter = parameter
        self.inputs = tuple(inputs)
        self.help = help
        self.also = tuple(also)
        self.mends = tuple(mends)
        self.training = training


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Declaration:
    """A declaration that specs call by name: an operation or an augmentation. The fields are its parameters, in order.

    A frozen value: two calls with equal arguments are equal. The class's docstring is its documentation for users: the
    first line says what it does, then shapes, errors and the source paper.
    """

    name: ClassVar[str]
    fields: ClassVar[Mapping[str, Field]] = {}
    """Its parameters in order, those of its base classes first."""
    stated: ClassVar[Mapping[str, str | None]] = {}
    """The text in a signature for a default that follows from another parameter: `stride = kernel`; None for none."""

    def __init_subclass__(cls) -> None:
        cls.fields = MappingProxyType({**cls.fields, **declared(cls)})

    @classmethod
    def parse(cls, arguments: Mapping[str, object]) -> Self:
        """The operation with these arguments by name; OperationError explains invalid ones."""
        return cls(**arguments)

    def __init__(self, /, **arguments: object) -> None:
        values, wrong = self.__dict__, []
        for name, parameter in self.fields.items():
            if name in arguments:
                try:
                    values[name] = parameter.check(arguments[name])
                except ValueError:
                    wrong.append(name)
            elif parameter.is_required:
                wrong.append(name)
            else:
                values[name] = parameter.default
        wrong += [name for name in arguments if name not in self.fields]
        if wrong:
            first, *others = [self._mistake(name, arguments) for name in wrong]
            first.also = tuple(others)
            raise first

    def changed(self, **arguments: object) -> Self:
        """The same with other arguments. Raises OperationError."""
        return type(self)(**{**self.__dict__, **arguments})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    @classmethod
    def _mistake(cls, name: str, arguments: Mapping[str, object]) -> OperationError:
        parameter = cls.fields.get(name)
        signature = f"its parameters: {cls.signature()}" if cls.fields else f"`{cls.name}` takes none"
        if parameter is None:
            return OperationError(
                f"`{cls.name}` has no parameter `{name}`",
                parameter=name,
                help=aliases.parameter(name, cls.fields),
            )
        if name not in arguments:
            return OperationError(f"`{cls.name}` needs `{name}`", help=signature)
        value = arguments[name]
        if fields.is_free(value):
            return OperationError(
                f"`{name}` cannot depend on a free input size; got {fields.shown(value)}",
                parameter=name,
                help="give a number, or fix the size in the `input`, e.g. `input image[3, 224, 224]`",
            )
        if fields.is_too_large(value):
            limit = f"`{name}` is too large; got {fields.shown(value)}, numbers must be within ±{fields.LARGEST}"
            return OperationError(limit, parameter=name)
        wanted = parameter.description or fields.described(parameter.annotation) or fields.one_of(cls.words(name))
        help = cls.instead_of_fraction(name, arguments) if fields.has_fraction(value) and "an int" in wanted else None
        return OperationError(f"`{name}` must be {wanted}; got {fields.given(value)}", parameter=name, help=help)

    @classmethod
    def instead_of_fraction(cls, name: str, arguments: Mapping[str, object]) -> str:
        """Advice for a fraction where a parameter takes ints."""
        return "`//` divides and rounds down"

    @classmethod
    @cache
    def words(cls, parameter: str) -> tuple[str, ...]:
        """The keywords that a parameter accepts: `valid`, `same`, …; none for an unknown parameter."""
        found = cls.fields.get(parameter)
        return tuple(fields.words_of(found.annotation)) if found else ()

    @classmethod
    @cache
    def switches(cls) -> tuple[str, ...]:
        """The parameters that their name alone turns on: `pad` for `pad = true`."""
        return tuple(name for name, found in cls.fields.items() if found.annotation is bool and not found.default)

    @classmethod
    @cache
    def takes_size(cls, parameter: str) -> bool:
        """Whether several numbers are a size for a parameter, written 3x3, and not a list."""
        found = cls.fields.get(parameter)
        return found is not None and "size such as" in (found.description or fields.described(found.annotation) or "")

    @classmethod
    def signature(cls) -> str:
        """The call with all parameters and defaults, as in the language reference."""
        parts = []
        for name, parameter in cls.fields.items():
            default = cls.stated[name] if name in cls.stated else fields.shown(parameter.default)
            parts.append(name if parameter.is_required or default is None else f"{name} = {default}")
        return f"{cls.name}({', '.join(parts)})" if parts else cls.name

    @classmethod
    def spell(cls, arguments: Mapping[str, object]) -> str:
        """A call with these arguments as in a spec: `conv(64, 3, stride = 2)`."""
        parts = []
        by_position = True
        for name, parameter in cls.fields.items():
            if name not in arguments:
                by_position = False
                continue
            by_position = by_position and (parameter.is_required or cls.stated.get(name, "") is None)
            value = fields.shown(arguments[name])
            parts.append(value if by_position else f"{name} = {value}")
        return f"{cls.name}({', '.join(parts)})" if parts else cls.name
