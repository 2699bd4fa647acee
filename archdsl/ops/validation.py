"""Parameters of operations: what a class declares of each, and the check of the values that a call gives."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import get_annotations
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

Check: TypeAlias = Callable[[Any], Any]
"""The value that a parameter takes for one that is given. Raises ValueError if it cannot take that."""

MISSING: Any = object()
"""The default of a parameter that a call must give."""


class Accepts(NamedTuple):
    """The values that an annotation accepts, beyond its type: `Annotated[int, Accepts("an int of at least 1", ge=1)]`.

    `description` completes "must be …". `ge`, `gt`, `le` and `lt` bound a number, `shortest` and `longest` the length
    of a list. `convert` gives the value to keep, or raises ValueError.
    """

    description: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    shortest: int = 0
    longest: int | None = None
    convert: Check | None = None

    def check(self, value: Any) -> Any:
        if (
            (self.ge is not None and not value >= self.ge)
            or (self.gt is not None and not value > self.gt)
            or (self.le is not None and not value <= self.le)
            or (self.lt is not None and not value < self.lt)
            or (self.shortest and len(value) < self.shortest)
            or (self.longest is not None and len(value) > self.longest)
        ):
            raise ValueError("out of range")
        return value if self.convert is None else self.convert(value)


class Field(NamedTuple):
    """A parameter that a class declares: its type without what `Accepts` adds, and its default."""

    annotation: Any
    default: Any
    description: str
    check: Check

    @property
    def is_required(self) -> bool:
        return self.default is MISSING


def declared(cls: type) -> Mapping[str, Field]:
    """The parameters that a class itself declares: its annotations, without class variables."""
    return {
        name: _field(annotation, cls.__dict__.get(name, MISSING))
        for name, annotation in get_annotations(cls).items()
        if ClassVar not in (annotation, get_origin(annotation))
    }


def _field(annotation: Any, default: Any) -> Field:
    description, inner = "", annotation
    while get_origin(inner) is Annotated:
        inner, *more = get_args(inner)
        description = description or next((m.description for m in more if isinstance(m, Accepts)), "")
    return Field(inner, default, description, lambda value: checker(annotation)(value))


@cache
def checker(annotation: Any) -> Check:
    """The check of values of a type: a number, literals, a tuple, a union of these, or a class."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _accepting(checker(args[0]), *(more.check for more in args[1:]))
    if origin in (Union, UnionType):
        return _union([checker(each) for each in args])
    if origin is Literal:
        return _exact(lambda value: any(type(value) is type(word) and value == word for word in args))
    if origin is tuple:
        return _list(checker(args[0])) if args[-1] is ... else _row([checker(each) for each in args])
    if annotation is float:
        return _number
    if annotation is object:
        return _exact(lambda value: True)
    if annotation in (int, bool):
        return _exact(lambda value: type(value) is annotation)
    return _exact(lambda value: isinstance(value, origin or annotation))


def _exact(fits: Callable[[Any], bool]) -> Check:
    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError("another type")
        return value

    return check


def _accepting(first: Check, *more: Check) -> Check:
    def check(value: Any) -> Any:
        value = first(value)
        for each in more:
            value = each(value)
        return value

    return check


def _union(checks: Sequence[Check]) -> Check:
    def check(value: Any) -> Any:
        for each in checks:
            try:
                return each(value)
            except ValueError:
                continue
        raise ValueError("none of these types")

    return check


def _list(each: Check) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, tuple | list):
            raise ValueError("not a list")
        return tuple(map(each, value))

    return check


def _row(checks: Sequence[Check]) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, tuple | list) or len(value) != len(checks):
            raise ValueError(f"not a list of {len(checks)}")
        return tuple(each(part) for each, part in zip(checks, value, strict=True))

    return check


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError("not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("too large") from None
