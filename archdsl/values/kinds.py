"""The kinds of values, their descriptions in messages, and the namespaces that hold values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from archdsl import dims
from archdsl.common.limits import Exceeded, budget
from archdsl.common.source import Span
from archdsl.diagnostics import Mark, Proposal
from archdsl.dims import Expr
from archdsl.graph import Tensor
from archdsl.ops.base import Operation, Shape
from archdsl.ops.fields import shown
from archdsl.ops.init import Drawn
from archdsl.syntax import tree

if TYPE_CHECKING:
    from archdsl.ops.extern import Kind


class Failure(Exception):
    """An error in a spec, with its location. The elaborator catches and reports it, and continues."""

    def __init__(
        self,
        code: str,
        message: str,
        span: Span,
        help: str | None = None,
        *others: Mark,
        proposals: Iterable[Proposal] = (),
    ) -> None:
        super().__init__(message)
        self.proposals = tuple(proposals)
        self.others = others
        self.code = code
        self.message = message
        self.span = span
        self.help = help


class Unknown(Failure):
    """A name that means nothing where it is used. `below` is the advice if something below has it."""

    def __init__(
        self,
        name: str,
        message: str,
        span: Span,
        help: str | None = None,
        *,
        proposals: Iterable[Proposal] = (),
        below: str = "refer to it only after that line",
    ) -> None:
        super().__init__("E0201", message, span, help, proposals=proposals)
        self.name, self.below = name, below


class Poisoned(Exception):
    """A value depends on something that failed and was reported earlier."""


@dataclass(frozen=True, slots=True, eq=False)
class OperationValue:
    """An operation as a value: an argument `unit = conv`, or with arguments of its own, `act = leaky_relu(0.2)`."""

    operation: type[Operation]
    given: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.operation.name


@dataclass(frozen=True, slots=True, eq=False)
class BlockValue:
    """A block or model with the file that contains it, and the `default`s in force where it is written.

    `given` are the arguments that a value `unit = bottleneck(groups = 32)` has already.
    """

    syntax: tree.Block | tree.Model
    module: Namespace
    defaults: Defaults
    given: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.syntax.name.name


@dataclass(frozen=True, slots=True, eq=False)
class MemberValue:
    """`model NAME = FAMILY(args)`."""

    syntax: tree.Member
    module: Namespace

    @property
    def name(self) -> str:
        return self.syntax.name.name


@dataclass(frozen=True, slots=True, eq=False)
class FunctionValue:
    """`fn NAME(params) = value`."""

    syntax: tree.Function
    module: Namespace

    @property
    def name(self) -> str:
        return self.syntax.name.name


@dataclass(frozen=True, slots=True, eq=False)
class ExternValue:
    """`extern NAME(params) = "module:Name" { … }`, with what it declares."""

    syntax: tree.Extern
    module: Namespace
    kind: Kind

    @property
    def name(self) -> str:
        return self.syntax.name.name


NAMED = (OperationValue, BlockValue, MemberValue, ExternValue, FunctionValue)
"""What an argument may give by name."""


@dataclass(frozen=True, slots=True, eq=False)
class AugmentValue:
    """`augment NAME { … }`."""

    syntax: tree.Augment
    module: Namespace

    @property
    def name(self) -> str:
        return self.syntax.name.name


@dataclass(frozen=True, slots=True, eq=False)
class SharedValue:
    """The node or scope that a `share` statement placed. `part` is known to elaboration."""

    name: str
    part: object


@dataclass(frozen=True, slots=True)
class TensorValue:
    """A tensor as a value: `it`, a label, an input; or a list of tensors, whose `shape` is None.

    `flow` has the tensors, `parts` each of several as a value.
    """

    shape: Shape | None
    flow: tuple[Tensor, ...] = field(default=(), compare=False)
    parts: tuple[TensorValue, ...] = field(default=(), compare=False)

    @property
    def elements(self) -> tuple[TensorValue, ...]:
        """Its tensors one by one: a single one is a list of one."""
        return self.parts if self.shape is None else (self,)

    def part(self, bounds: slice) -> TensorValue:
        """The list of some of its tensors."""
        found = self.elements[bounds]
        return found[0] if len(found) == 1 else TensorValue(None, tuple(t for p in found for t in p.flow), found)


class Failed:
    """Represents a value that could not be computed."""


FAILED = Failed()

Defaults: TypeAlias = Mapping[str, Mapping[str, object]]
"""The `default`s: operation name → parameter name → value."""


class Namespace:
    """Names and their values, inside an outer namespace (a file's or body's)."""

    __slots__ = ("it", "labels", "outer", "poisoned", "values")

    def __init__(self, outer: Namespace | None = None) -> None:
        self.outer = outer
        self.values: dict[str, object] = {}
        self.labels: dict[str, Any] = {}
        self.it: object = outer.it if outer is not None else None
        self.poisoned = False

    def find(self, name: str) -> object | None:
        """The value of a name here or in an outer namespace; evaluates a Thunk. None if there is no such name."""
        space: Namespace | None = self
        while space is not None:
            if name in space.values:
                value = space.values[name]
                if isinstance(value, Thunk):
                    value = value.force()
                return NONE if value is None else value
            space = space.outer
        return None

    def declares_block(self, name: str) -> bool:
        """Whether a name means a block or model of the file, and nothing nearer."""
        space = self
        while name not in space.values and space.outer is not None:
            space = space.outer
        return space.outer is None and isinstance(space.values.get(name), BlockValue | MemberValue | ExternValue)

    def find_label(self, name: str) -> Any | None:
        space: Namespace | None = self
        while space is not None:
            if name in space.labels:
                return space.labels[name]
            space = space.outer
        return None

    def names(self) -> set[str]:
        space: Namespace | None = self
        found: set[str] = set()
        while space is not None:
            found.update(space.values)
            found.update(space.labels)
            space = space.outer
        return found

    def constants(self) -> dict[str, object]:
        """The computed values of a file's `let`s."""
        thunks = {name: value for name, value in self.values.items() if isinstance(value, Thunk)}
        return {name: thunk.done for name, thunk in thunks.items() if thunk.finished}

    def is_poisoned(self) -> bool:
        space: Namespace | None = self
        while space is not None:
            if space.poisoned:
                return True
            space = space.outer
        return False


class _None:
    """The spec's `none`, distinct from "no such name"."""


NONE = _None()


@dataclass(slots=True, eq=False)
class Thunk:
    """A `let` of a file, computed on first use."""

    name: tree.Name
    compute: Callable[[], object]
    busy: bool = False
    done: object = field(default=None)
    finished: bool = False

    def force(self) -> object:
        if self.finished:
            return self.done
        if self.busy:
            raise Failure("E0210", f"`{self.name.name}` is defined in terms of itself", self.name.span)
        self.busy = True
        try:
            with budget().deeper(self.name.span, "values depend on each other"):
                self.done = self.compute()
        except (Failure, Exceeded):
            self.done = FAILED
            self.finished = True
            raise
        finally:
            self.busy = False
        self.finished = True
        return self.done


def truth(value: object, span: Span) -> bool:
    if isinstance(value, bool):
        return value
    raise Failure(
        "E0211",
        f"a condition must be true or false; this is {describe(value)}",
        span,
        "compare it, as in `n > 0`" if is_number(value) else None,
    )


def integer(value: object, span: Span, what: str) -> int:
    """The value as an int. Raises Failure, whose message uses `what`, if it is not one."""
    if is_int(value):
        return value
    if isinstance(value, Expr):
        raise Failure("E0304", f"{what} cannot depend on a free input size", span)
    raise Failure("E0211", f"{what} must be an int; this is {describe(value)}", span)


def sequence(value: object, span: Span, what: str) -> tuple[object, ...]:
    if isinstance(value, tuple):
        return value
    if isinstance(value, TensorValue):
        return value.elements
    help = f"write `0..{value}`, or `repeat {value} {{ … }}`" if is_int(value) else None
    raise Failure("E0211", f"{what} needs a list or a range; this is {describe(value)}", span, help)


def describe(value: object) -> str:
    """A value in words: `the int 3`, `the list [1, 2]`, `the block basic`."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int():
            return f"the int {value}" if value.bit_length() < 200 else "a very large int"
        case float():
            return f"the number {value}"
        case str():
            return f'the string "{value[:40]}"'
        case tuple():
            return f"the list {literal(value)}"
        case Expr():
            return f"the size {dims.text(value)}"
        case OperationValue():
            return f"the operation `{value.name}`"
        case BlockValue():
            return f"the block `{value.name}`"
        case MemberValue():
            return f"the model `{value.name}`"
        case ExternValue():
            return f"the extern `{value.name}`"
        case FunctionValue():
            return f"the function `{value.name}`"
        case AugmentValue():
            return f"the augmentation `{value.name}`"
        case SharedValue():
            return f"the shared `{value.name}`"
        case TensorValue():
            return f"a list of {len(value.parts)} tensors" if value.parts else "a tensor"
        case Drawn():
            return f"the distribution `{shown(value)}`"
        case _:
            return "this"


def literal(value: object) -> str:
    """A value as written in a spec."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            items = [literal(v) for v in value[:8]]
            return "[" + ", ".join(items + ["…"] * (len(value) > 8)) + "]"
        case Expr():
            return dims.text(value)
        case OperationValue() | BlockValue() | MemberValue() | ExternValue() | FunctionValue() | AugmentValue():
            return value.name
        case SharedValue():
            return value.name
        case Drawn():
            return shown(value)
        case _:
            return str(value)


def is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
