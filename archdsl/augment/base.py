"""What a change of pictures is: one frozen pydantic model that holds every fact of it, as operations do.

Changes preserve labels: a bird that is flipped, shifted, turned or grey is a bird. They work on pictures [C, H, W] with
values from 0 to 1, and are compiled to kornia's augmentations, which work on batches and draw afresh for every sample.

Like archdsl.ops, this package does without `from __future__ import annotations`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from archdsl.ops.base import Argument, Declaration, OperationError, Shape
from archdsl.ops.fields import shape_text

Family = Literal["place", "colour", "damage"]


@dataclass(frozen=True, slots=True)
class Form:
    """A call of kornia in generated code: `constructor` is a name in kornia.augmentation; arguments as data."""

    constructor: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Affine:
    """A change as a part of one affine transformation: what RandomAffine calls it, its value, and what comes in."""

    parameter: Literal["degrees", "translate", "scale", "shear"]
    value: object
    pad: str


class Change(Declaration):
    """The base of all changes: each happens to a sample with probability p."""

    family: ClassVar[Family]
    """`place` moves masks, boxes and key points along; the others leave them alone."""
    examples: ClassVar[tuple[Mapping[str, object], ...]]

    if TYPE_CHECKING:  # each declares its own, behind what it cannot do without
        p: float

    @property
    def moves(self) -> bool:
        return self.family == "place"

    @property
    def colours(self) -> bool:
        """Whether it takes pictures of three channels alone."""
        return False

    def check(self, shape: Shape) -> None:
        """Raises OperationError where it cannot be applied to pictures [C, H, W] of that size."""
        if self.colours and shape[0] != 3:
            message = f"`{self.name}` takes pictures of 3 channels, red, green and blue; got {shape_text(shape)}"
            raise OperationError(message)

    def forms(self, channels: int) -> tuple[Form, ...]:
        """The calls of kornia that do it, one after the other, to pictures of so many channels."""
        raise NotImplementedError(type(self).__name__)

    def affine(self) -> Affine | None:
        """The change as an affine transformation, where it always happens and is one."""
        return None

    def text(self) -> str:
        """The call as a spec writes it, without defaults but for a probability below 1, which a reader cannot guess."""
        fields = type(self).model_fields
        given = {name: getattr(self, name) for name in fields}
        kept = {n: v for n, v in given.items() if fields[n].is_required() or v != self.default(n)}
        kept |= {"p": self.p} if self.p < 1 else {}
        return type(self).spell({n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in kept.items()})

    @classmethod
    def default(cls, name: str) -> object:
        return cls.model_fields[name].default


def named(**arguments: object) -> tuple[Argument, ...]:
    return tuple(Argument(name, value) for name, value in arguments.items())


@dataclass(frozen=True, slots=True)
class OneOf:
    """Each sample goes through one of several chains of changes, all equally likely."""

    alternatives: tuple[tuple["Step", ...], ...]

    def text(self) -> str:
        return "one_of { " + "  ".join(chain_text(chain) for chain in self.alternatives) + " }"

    @property
    def moves(self) -> bool:
        return any(step.moves for chain in self.alternatives for step in chain)


Step: TypeAlias = Change | OneOf


def chain_text(chain: tuple[Step, ...]) -> str:
    return " -> ".join(step.text() for step in chain)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An `augment` declaration, read: its changes in order, a tuple for each line of the spec."""

    name: str
    lines: tuple[tuple[Step, ...], ...] = ()
    doc: str | None = None
    channels: int = field(default=3, compare=False)
    """Of the pictures of the model that it belongs to."""

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for line in self.lines for step in line)

    def text(self) -> tuple[str, ...]:
        """The lines as a spec writes them."""
        return tuple(chain_text(line) for line in self.lines)


@dataclass(frozen=True, slots=True)
class Companion:
    """What stands beside a model in its file: texts of classes and functions, and all names that they take."""

    name: str
    names: frozenset[str]
    blocks: tuple[str, ...]
