"""Geometric changes, which move the contents of the image, and masks, boxes and points with them."""

from collections.abc import Mapping
from typing import ClassVar, Self

from archdsl.augment.base import Affine, Change, KorniaCall, named
from archdsl.augment.fields import Angle, Edges, Share, Tilt
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Positive, Probability

PADDING_MODES = {"zeros": "zeros", "replicate": "border", "reflect": "reflection"}
"""Padding modes of the language → kornia's."""


class Hflip(Change):
    """Flips left and right."""

    name = "hflip"
    family = "place"

    p: Probability = 0.5

    examples = ({}, {"p": 1})

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (KorniaCall("RandomHorizontalFlip", named(p=self.p)),)


class Vflip(Change):
    """Flips top and bottom."""

    name = "vflip"
    family = "place"

    p: Probability = 0.5

    examples = ({}, {"p": 1})

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (KorniaCall("RandomVerticalFlip", named(p=self.p)),)


class AffineChange(Change):
    """The base of affine changes. `pad` is the padding mode beyond the border, as for `conv`."""

    family = "place"
    parameter: ClassVar[str]

    def value(self) -> object:
        """The argument of kornia's RandomAffine."""
        raise NotImplementedError(type(self).__name__)

    def part(self) -> Affine:
        return Affine(self.parameter, self.value(), getattr(self, "pad"))  # type: ignore[arg-type]  # noqa: B009

    def affine(self) -> Affine | None:
        return self.part() if self.p == 1 else None

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (affine_call((self.part(),), self.p),)


def affine_call(parts: tuple[Affine, ...], p: float = 1.0) -> KorniaCall:
    """One RandomAffine that does all of these, which have the same padding and different parameters."""
    values: dict[str, object] = {"degrees": 0.0, **{part.parameter: part.value for part in parts}}
    mode = PADDING_MODES[parts[0].pad]
    padding = {} if mode == "zeros" else {"padding_mode": mode}
    return KorniaCall("RandomAffine", named(**values, **padding, p=p))


class Translate(AffineChange):
    """Shifts by up to the fraction `by` of the size, in every direction."""

    name = "translate"
    parameter = "translate"

    by: Share
    p: Probability = 1.0
    pad: Edges = "zeros"

    examples = ({"by": 0.1}, {"by": 0.25, "pad": "reflect"})

    def value(self) -> object:
        return (self.by, self.by)


class Rotate(AffineChange):
    """Rotates by up to `degrees` in either direction."""

    name = "rotate"
    parameter = "degrees"

    degrees: Angle
    p: Probability = 1.0
    pad: Edges = "zeros"

    examples = ({"degrees": 10}, {"degrees": 180, "p": 0.5, "pad": "replicate"})

    def value(self) -> object:
        return float(self.degrees)


class Scale(AffineChange):
    """Scales by a factor between `low` and `high`, about the centre."""

    name = "scale"
    parameter = "scale"

    low: Positive
    high: Positive
    p: Probability = 1.0
    pad: Edges = "zeros"

    examples = ({"low": 0.9, "high": 1.1},)

    @classmethod
    def parse(cls, arguments: Mapping[str, object]) -> Self:
        found = super().parse(arguments)
        in_order(found.name, found.low, found.high)
        return found

    def value(self) -> object:
        return (float(self.low), float(self.high))


class Shear(AffineChange):
    """Shears by up to `degrees` in either direction."""

    name = "shear"
    parameter = "shear"

    degrees: Tilt
    p: Probability = 1.0
    pad: Edges = "zeros"

    examples = ({"degrees": 10},)

    def value(self) -> object:
        return float(self.degrees)


class Perspective(Change):
    """Distorts the perspective: the corners move inwards by up to the fraction `by` of half the image's size."""

    name = "perspective"
    family = "place"

    by: Share = 0.3
    p: Probability = 0.5

    examples = ({}, {"by": 0.1, "p": 1})

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (KorniaCall("RandomPerspective", named(distortion_scale=self.by, p=self.p)),)


def in_order(name: str, low: float, high: float) -> None:
    """Raises OperationError if the range is empty."""
    if low > high:
        raise OperationError(f"`{name}` goes from `low` to `high`; got {low:g} and {high:g}", parameter="high")
