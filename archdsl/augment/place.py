"""Changes of place: what the picture shows stands elsewhere, turned, larger; masks, boxes and points move along."""

from typing import ClassVar

from archdsl.augment.base import Affine, Change, Form, named
from archdsl.augment.fields import Angle, Edges, Share, Tilt
from archdsl.ops.base import OperationError
from archdsl.ops.fields import Positive, Probability

PADDING_MODES = {"zeros": "zeros", "replicate": "border", "reflect": "reflection"}
"""Our words for what lies beyond the border → kornia's."""


class Hflip(Change):
    """Mirrors left and right."""

    name = "hflip"
    family = "place"

    p: Probability = 0.5

    examples = ({}, {"p": 1})

    def forms(self, channels: int) -> tuple[Form, ...]:
        return (Form("RandomHorizontalFlip", named(p=self.p)),)


class Vflip(Change):
    """Mirrors top and bottom."""

    name = "vflip"
    family = "place"

    p: Probability = 0.5

    examples = ({}, {"p": 1})

    def forms(self, channels: int) -> tuple[Form, ...]:
        return (Form("RandomVerticalFlip", named(p=self.p)),)


class AffineChange(Change):
    """The base of the changes that are affine. `pad` says what comes in from beyond the border, as for `conv`."""

    family = "place"
    parameter: ClassVar[str]

    def value(self) -> object:
        """What kornia's RandomAffine takes for it."""
        raise NotImplementedError(type(self).__name__)

    def part(self) -> Affine:
        return Affine(self.parameter, self.value(), getattr(self, "pad"))  # type: ignore[arg-type]  # noqa: B009

    def affine(self) -> Affine | None:
        return self.part() if self.p == 1 else None

    def forms(self, channels: int) -> tuple[Form, ...]:
        return (affine_form((self.part(),), self.p),)


def affine_form(parts: tuple[Affine, ...], p: float = 1.0) -> Form:
    """One RandomAffine that does all of these, which have one padding and a parameter each."""
    values: dict[str, object] = {"degrees": 0.0, **{part.parameter: part.value for part in parts}}
    mode = PADDING_MODES[parts[0].pad]
    padding = {} if mode == "zeros" else {"padding_mode": mode}
    return Form("RandomAffine", named(**values, **padding, p=p))


class Translate(AffineChange):
    """Shifts by up to a fraction of the size, in every direction."""

    name = "translate"
    parameter = "translate"

    by: Share
    p: Probability = 1.0
    pad: Edges = "zeros"

    examples = ({"by": 0.1}, {"by": 0.25, "pad": "reflect"})

    def value(self) -> object:
        return (self.by, self.by)


class Rotate(AffineChange):
    """Turns by up to so many degrees, to either side."""

    name = "rotate"
    parameter = "degrees"

    degrees: Angle
    p: Probability = 1.0
    pad: Edges = "zeros"

    examples = ({"degrees": 10}, {"degrees": 180, "p": 0.5, "pad": "replicate"})

    def value(self) -> object:
        return float(self.degrees)


class Scale(AffineChange):
    """Enlarges by a factor from `low` to `high`, about the middle."""

    name = "scale"
    parameter = "scale"

    low: Positive
    high: Positive
    p: Probability = 1.0
    pad: Edges = "zeros"

    examples = ({"low": 0.9, "high": 1.1},)

    @classmethod
    def parse(cls, arguments):  # type: ignore[no-untyped-def]
        found = super().parse(arguments)
        in_order(found.name, found.low, found.high)
        return found

    def value(self) -> object:
        return (float(self.low), float(self.high))


class Shear(AffineChange):
    """Slants by up to so many degrees, to either side."""

    name = "shear"
    parameter = "shear"

    degrees: Tilt
    p: Probability = 1.0
    pad: Edges = "zeros"

    examples = ({"degrees": 10},)

    def value(self) -> object:
        return float(self.degrees)


class Perspective(Change):
    """Shows the picture from aslant: its corners move inwards by up to a fraction of half its size."""

    name = "perspective"
    family = "place"

    by: Share = 0.3
    p: Probability = 0.5

    examples = ({}, {"by": 0.1, "p": 1})

    def forms(self, channels: int) -> tuple[Form, ...]:
        return (Form("RandomPerspective", named(distortion_scale=self.by, p=self.p)),)


def in_order(name: str, low: float, high: float) -> None:
    """Raises OperationError where a range is empty."""
    if low > high:
        raise OperationError(f"`{name}` goes from `low` to `high`; got {low:g} and {high:g}", parameter="high")
