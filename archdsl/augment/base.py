"""The base of changes of images. Each is a frozen value that holds all its facts, like an operation.

Changes preserve labels: a flipped, shifted, rotated or grey bird is still a bird. They transform images [C, H, W] with
values from 0 to 1, and compile to kornia's augmentations, which take batches and draw independently for every sample.

Like archdsl.ops, this package does not use `from __future__ import annotations`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from archdsl.ops.base import Shape
from archdsl.ops.declaration import Declaration, OperationError
from archdsl.ops.fields import shape_text
from archdsl.ops.forms import Argument

Family = Literal["place", "colour", "damage"]


@dataclass(frozen=True, slots=True)
class KorniaCall:
    """A kornia call in generated code: `constructor` is a name in kornia.augmentation; arguments are data."""

    constructor: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Affine:
    """A change as part of an affine transformation: RandomAffine's parameter, its value, and the padding mode."""

    parameter: Literal["degrees", "translate", "scale", "shear"]
    value: object
    pad: str


class Change(Declaration):
    """The base of all changes: each is applied to a sample with probability p."""

    family: ClassVar[Family]
    """`place` also moves masks, boxes and key points; the others do not change them."""
    examples: ClassVar[tuple[Mapping[str, object], ...]]

    if TYPE_CHECKING:  # each class declares it after its required parameters
        p: float

    @property
    def moves(self) -> bool:
        return self.family == "place"

    @property
    def colours(self) -> bool:
        """Whether it needs images of three channels."""
        return False

    def check(self, shape: Shape) -> None:
        """Raises OperationError if it cannot be applied to images [C, H, W] of that shape."""
        if self.colours and shape[0] != 3:
            message = f"`{self.name}` needs images of 3 channels (RGB); got {shape_text(shape)}"
            raise OperationError(message)

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        """The kornia calls that do it, in order, for images of that many channels."""
        raise NotImplementedError(type(self).__name__)

    def affine(self) -> Affine | None:
        """The change as an affine transformation, if it is one and is always applied."""
        return None

    def text(self) -> str:
        """The call as written in a spec, without defaults except a probability below 1, which a reader cannot guess."""
        fields = type(self).fields
        given = {name: getattr(self, name) for name in fields}
        kept = {n: v for n, v in given.items() if fields[n].is_required or v != self.default(n)}
        kept |= {"p": self.p} if self.p < 1 else {}
        return type(self).spell({n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in kept.items()})

    @classmethod
    def default(cls, name: str) -> object:
        return cls.fields[name].default


def named(**arguments: object) -> tuple[Argument, ...]:
    return tuple(Argument(name, value) for name, value in arguments.items())


@dataclass(frozen=True, slots=True)
class OneOf:
    """Sends each sample through one of several chains of changes, with equal probability."""

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
    """An elaborated `augment` declaration: its changes in order, one tuple per line of the spec."""

    name: str
    lines: tuple[tuple[Step, ...], ...] = ()
    doc: str | None = None
    channels: int = field(default=3, compare=False)
    """The number of channels of the model's images."""

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for line in self.lines for step in line)

    def text(self) -> tuple[str, ...]:
        """The lines as written in a spec."""
        return tuple(chain_text(line) for line in self.lines)


@dataclass(frozen=True, slots=True)
class Companion:
    """The classes and functions next to a model in its file, and all names that they use."""

    name: str
    names: frozenset[str]
    blocks: tuple[str, ...]
