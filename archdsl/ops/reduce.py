"""Sums, means and maxima along one axis, which keeps one position."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from archdsl.ops.axis import AlongAxis, along, with_size
from archdsl.ops.base import Rules, Saves, Shape, example
from archdsl.ops.fields import Index
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap
from archdsl.ops.sizes import channels


class ReduceMean(AlongAxis):
    """The mean along one axis, which keeps one position: the first spatial axis by default.

    `reduce_mean(1)`: [C, H, W] → [C, 1, W]; `squeeze(1)` removes the axis then. `global_avgpool` is the mean over all
    positions, `channel_mean` that over the channels.

    Errors: an axis that the tensor lacks.

    Shi et al., An end-to-end trainable neural network for image-based sequence recognition, 2015 (maps as rows).
    """

    name = "reduce_mean"
    family = "pooling"
    is_linear = True
    own = True
    method: ClassVar[str] = "mean"
    says: ClassVar[str] = "y = 1/n · Σ_i x_i"
    gradient: ClassVar[str] = "each of the n gets 1/n of the gradient"

    axis: Index = 1

    examples = (
        example((3, 4, 5)),
        example((6, 7), axis=1),
        example((3, 4, 5), axis=2),
        example((3, 4, 5), axis=0),
        example((2, 3, 4, 5), axis=3),
        example((6,), axis=0),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        along(self.name, shapes[0], self.axis)
        return (with_size(shapes[0], self.axis, 1),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(self.axis + 1)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(self.axis or -1)

    def _form(self, axis: int) -> FunctionForm:
        return FunctionForm(f"{{0}}.{self.method}({{dim}}, keepdim=True)", (Argument("dim", axis),))

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, shapes[0]),)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        out, count = channels(self.name, outputs[0]), channels(self.name, shapes[0])
        yield ChannelMap(0, range(out), range(count), each=self.axis > 0)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"{self.says}, along axis {self.axis}: {self.gradient}"


class ReduceSum(ReduceMean):
    """The sum along one axis, which keeps one position: the first spatial axis by default.

    `reduce_sum(1)`: [C, H, W] → [C, 1, W]; `reduce_sum(0)` is over the channels. `squeeze(1)` removes the axis then.

    Errors: an axis that the tensor lacks.
    """

    name = "reduce_sum"
    method = "sum"
    says = "y = Σ_i x_i"
    gradient = "each of the n gets the gradient"


class ReduceMax(ReduceMean):
    """The maximum along one axis, which keeps one position: the first spatial axis by default.

    `reduce_max(1)`: [C, H, W] → [C, 1, W]; `squeeze(1)` removes the axis then. `global_maxpool` is the maximum over all
    positions, `channel_max` that over the channels. Numbers that are equally large share the gradient.

    Errors: an axis that the tensor lacks.
    """

    name = "reduce_max"
    is_linear = False
    own = False
    own_in_inference = True
    method = "amax"
    says = "y = max_i x_i"
    gradient = "the largest gets the gradient, equal ones a share each"

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True, outputs=True)
