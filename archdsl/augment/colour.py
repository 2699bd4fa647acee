"""Changes of colour and brightness; nothing moves."""

from collections.abc import Mapping
from typing import Self

from archdsl.augment.base import Change, KorniaCall, named
from archdsl.augment.fields import Hue, Jitter
from archdsl.augment.place import in_order
from archdsl.ops.fields import Positive, Probability


class Color(Change):
    """Changes brightness, contrast and saturation by factors within 1 ± x, and the hue by up to ± x of the circle.

    Contrast is the distance from the image's mean, saturation the distance from its greyscale version.

    In images without exactly three channels, only brightness and contrast can change.
    """

    name = "color"
    family = "colour"

    brightness: Jitter = 0.0
    contrast: Jitter = 0.0
    saturation: Jitter = 0.0
    hue: Hue = 0.0
    p: Probability = 1.0

    examples = ({"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02}, {"contrast": 0.5, "p": 0.5})

    @property
    def colours(self) -> bool:
        return bool(self.saturation or self.hue)

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        # Not ColorJiggle, which adds brightness, and whose contrast is a factor from black on, not about the mean.
        names = ("brightness", "contrast", "saturation", "hue")
        return (KorniaCall("ColorJitter", named(**{k: v for k in names if (v := getattr(self, k))}, p=self.p)),)


class Grayscale(Change):
    """Converts to grey, keeping three channels."""

    name = "grayscale"
    family = "colour"

    p: Probability = 0.1

    examples = ({}, {"p": 1})

    @property
    def colours(self) -> bool:
        return True

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (KorniaCall("RandomGrayscale", named(p=self.p)),)


class Gamma(Change):
    """Raises every value to a power between `low` and `high`, which brightens or darkens the shadows."""

    name = "gamma"
    family = "colour"

    low: Positive
    high: Positive
    p: Probability = 1.0

    examples = ({"low": 0.7, "high": 1.5},)

    @classmethod
    def parse(cls, arguments: Mapping[str, object]) -> Self:
        found = super().parse(arguments)
        in_order(found.name, found.low, found.high)
        return found

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (KorniaCall("RandomGamma", named(gamma=(float(self.low), float(self.high)), p=self.p)),)


class Invert(Change):
    """Replaces every value x by 1 - x."""

    name = "invert"
    family = "colour"

    p: Probability = 0.5

    examples = ({}, {"p": 1})

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (KorniaCall("RandomInvert", named(p=self.p)),)
