"""Changes of colour and light: everything stands where it did."""

from archdsl.augment.base import Change, Form, named
from archdsl.augment.fields import Hue, Jitter
from archdsl.augment.place import in_order
from archdsl.ops.fields import Positive, Probability


class Color(Change):
    """Changes brightness, contrast and saturation by factors of up to 1 ± x, and turns the hue by up to ± x.

    In pictures of other than three channels, brightness and contrast alone can change.
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

    def forms(self, channels: int) -> tuple[Form, ...]:
        values = {"brightness": self.brightness, "contrast": self.contrast}
        if channels == 3:
            values |= {"saturation": self.saturation, "hue": self.hue}
            return (Form("ColorJiggle", named(**{k: v for k, v in values.items() if v}, p=self.p)),)
        names = {"brightness": "RandomBrightness", "contrast": "RandomContrast"}
        return tuple(Form(names[k], named(**{k: (1 - v, 1 + v)}, p=self.p)) for k, v in values.items() if v)


class Grayscale(Change):
    """Takes the colours away; there are three channels still."""

    name = "grayscale"
    family = "colour"

    p: Probability = 0.1

    examples = ({}, {"p": 1})

    @property
    def colours(self) -> bool:
        return True

    def forms(self, channels: int) -> tuple[Form, ...]:
        return (Form("RandomGrayscale", named(p=self.p)),)


class Gamma(Change):
    """Raises every value to a power from `low` to `high`: shadows lighter, or darker."""

    name = "gamma"
    family = "colour"

    low: Positive
    high: Positive
    p: Probability = 1.0

    examples = ({"low": 0.7, "high": 1.5},)

    @classmethod
    def parse(cls, arguments):  # type: ignore[no-untyped-def]
        found = super().parse(arguments)
        in_order(found.name, found.low, found.high)
        return found

    def forms(self, channels: int) -> tuple[Form, ...]:
        return (Form("RandomGamma", named(gamma=(float(self.low), float(self.high)), p=self.p)),)


class Invert(Change):
    """Turns every value x into 1 - x."""

    name = "invert"
    family = "colour"

    p: Probability = 0.5

    examples = ({}, {"p": 1})

    def forms(self, channels: int) -> tuple[Form, ...]:
        return (Form("RandomInvert", named(p=self.p)),)
