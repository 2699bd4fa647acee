"""Changes that lose information: sharpness, exact values, a part of the image."""

from typing import Annotated

from archdsl.augment.base import Change, KorniaCall, named
from archdsl.augment.fields import Share
from archdsl.ops.base import Shape
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Positive, Probability, shape_text
from archdsl.ops.validation import Accepts


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("even")
    return value


OddKernel = Annotated[int, Accepts("an odd int of at least 3", ge=3, le=4095, convert=_odd)]


class Blur(Change):
    """Blurs with a kernel × kernel Gaussian, whose standard deviation is drawn between 0.1 and `sigma` pixels."""

    name = "blur"
    family = "damage"

    kernel: OddKernel
    sigma: Positive = 2.0
    p: Probability = 1.0

    examples = ({"kernel": 3}, {"kernel": 5, "sigma": 1.5, "p": 0.5})

    def check(self, shape: Shape) -> None:
        super().check(shape)
        if any(isinstance(d, int) and d <= self.kernel // 2 for d in shape[1:]):
            message = f"`kernel` is too large for images of {shape_text(shape)}; got {self.kernel}"
            raise OperationError(message, parameter="kernel")

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        deviations = (min(0.1, float(self.sigma)), float(self.sigma))
        arguments = named(kernel_size=(self.kernel, self.kernel), sigma=deviations, p=self.p)
        return (KorniaCall("RandomGaussianBlur", arguments),)


class Noise(Change):
    """Adds Gaussian noise with standard deviation `std` to every value."""

    name = "noise"
    family = "damage"

    std: Positive
    p: Probability = 1.0

    examples = ({"std": 0.05},)

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (KorniaCall("RandomGaussianNoise", named(std=float(self.std), p=self.p)),)


class Erase(Change):
    """Blackens a rectangle of up to the fraction `area` of the image; masks, boxes and points are not changed.

    Zhong et al., Random erasing data augmentation, 2017.
    """

    name = "erase"
    family = "damage"

    area: Share
    p: Probability = 1.0

    examples = ({"area": 0.2}, {"area": 0.1, "p": 0.5})

    def forms(self, channels: int) -> tuple[KorniaCall, ...]:
        return (KorniaCall("RandomErasing", named(scale=(min(0.02, self.area), float(self.area)), p=self.p)),)
