"""Blurring by a fixed kernel, which keeps fine stripes from becoming coarse ones where a map gets smaller."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import comb, prod
from typing import Annotated, ClassVar

from archdsl.ops.base import Kept, Saves, Shape, example
from archdsl.ops.fields import Pad, Size
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.helpers import Helper
from archdsl.ops.pool import Pool
from archdsl.ops.sizes import collapse, each
from archdsl.ops.validation import Accepts

LONGEST = 16
Taps = Annotated[int, Accepts(f"an int from 2 to {LONGEST}", ge=2, le=LONGEST)]


def helper(rank: int) -> Helper:
    """A convolution of each channel with one kernel, the product of a row with itself."""
    kernel = " * ".join(
        f"row{'[:, None]' if axis == 1 else '[:, None, None]' if axis else ''}" for axis in reversed(range(rank))
    )
    return Helper(
        f"blur{rank}d",
        f'''def blur{rank}d(
    x: Tensor, weights: tuple[float, ...], stride: int | tuple[int, ...]
) -> Tensor:
    """Blurs each channel by a fixed kernel, and keeps every `stride`-th position."""
    row = torch.tensor(weights, device=x.device, dtype=x.dtype)
    kernel = {kernel}
    kernels = kernel.expand(x.shape[1], 1, *kernel.shape)
    return F.conv{rank}d(x, kernels, stride=stride, groups=x.shape[1])
''',
    )


class Blur(Pool):
    """Blurs each channel by a fixed kernel, and keeps every `stride`-th position.

    The kernel has binomial numbers, 1 2 1 along each axis for `kernel = 3`. Without the blur, fine stripes turn into
    coarse patterns where positions are left out.

    [C, …] → [C, …]: each spatial size n becomes ⌊(n − kernel) / stride⌋ + 1. `pad(1, mode = reflect)` before it keeps
    the size. Nothing is learned, and nothing is stored.

    Errors: a flat tensor; a kernel larger than the input.

    Zhang, Making convolutional networks shift-invariant again, 2019.
    """

    name = "blur"
    aliases = ("blurpool", "antialias", "binomial")
    taken = "the weighted mean"
    is_linear = True
    helper_names = ("blur1d", "blur2d", "blur3d")
    stated: ClassVar[Mapping[str, str | None]] = {}

    kernel: Taps = 3
    stride: Size = 1

    examples = (
        example((3, 8, 9)),
        example((3, 9, 8), stride=2),
        example((3, 11), kernel=4, stride=3),
        example((2, 4, 5, 6), kernel=2, stride=(1, 2, 2)),
        example((3, 7, 8), kernel=5, stride=2),
    )

    def _settings(self) -> tuple[Size, Size | None, Pad, Size, bool]:
        return self.kernel, self.stride, 0, 1, False

    @property
    def weights_of_row(self) -> tuple[float, ...]:
        """The numbers of the kernel along an axis, whose sum is 1."""
        return tuple(comb(self.kernel - 1, i) / 2 ** (self.kernel - 1) for i in range(self.kernel))

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        (shape,) = shapes
        found = helper(len(shape) - 1)
        arguments = (
            Argument("weights", self.weights_of_row),
            Argument("stride", collapse(each(self.stride, shape, "stride"))),
        )
        return FunctionForm(f"{found.name}({{0}}, {{weights}}, {{stride}})", arguments, helper=found.source)

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((self.kernel ** (len(shapes[0]) - 1), outputs[0]),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(more=(Kept((self.kernel,) * (len(shapes[0]) - 1), batched=False),))

    def take(self, window: Sequence[int]) -> float:
        axes = 1 if len(window) == self.kernel else 2
        weights = map(prod, product(self.weights_of_row, repeat=axes))
        return sum(weight * value for weight, value in zip(weights, window, strict=True))

    def gradient_share(self, size: int) -> str:
        return "each gets its weight's share of"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield from super().formula(shapes, outputs)
        row = " ".join(str(comb(self.kernel - 1, i)) for i in range(self.kernel))
        rank = len(shapes[0]) - 1
        total = prod([2 ** (self.kernel - 1)] * rank)
        yield f"the weights are products of {row} along each axis, divided by {total}"
