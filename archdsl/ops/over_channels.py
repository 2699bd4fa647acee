"""The mean and the maximum over the channels: one number for each position."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from archdsl.ops.base import Operation, Rules, Saves, Shape, example
from archdsl.ops.forms import FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.sizes import spatial


class ChannelMean(Operation):
    """The mean over the channels, at each position.

    [C, …] → [1, …]: one channel stays. `global_avgpool` is the mean over the positions.

    Errors: a flat tensor.

    Woo et al., CBAM: convolutional block attention module, 2018 (spatial attention).
    """

    name = "channel_mean"
    aliases: ClassVar[tuple[str, ...]] = ("channelavgpool", "channelpool")
    family = "pooling"
    is_linear = True
    own = True
    layout = "any"
    method: ClassVar[str] = "mean"
    says: ClassVar[str] = "y = 1/C · Σ_c x_c at each position: every channel gets 1/C of its gradient"

    examples = (example((3, 4, 5)), example((6, 7)), example((2, 3, 4, 5)))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return ((1, *spatial(self.name, shapes[0])),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm(f"{{0}}.{self.method}(1, keepdim=True)")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm(f"{{0}}.{self.method}(-1, keepdim=True)")

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, shapes[0]),)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield self.says


class ChannelMax(ChannelMean):
    """The maximum over the channels, at each position.

    [C, …] → [1, …]: one channel stays. `global_maxpool` is the maximum over the positions. Channels that are equally
    large share the gradient.

    Errors: a flat tensor.

    Woo et al., CBAM: convolutional block attention module, 2018 (spatial attention).
    """

    name = "channel_max"
    aliases = ("channelmaxpool", "amax")
    is_linear = False
    own = False
    own_in_inference = True
    method = "amax"
    says = "y = max_c x_c at each position: the largest channel gets its gradient, equal ones a share each"

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True, outputs=True)
