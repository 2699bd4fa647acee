"""Operations on the channels: parts of them, their order, their scale."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from archdsl import dims
from archdsl.common.units import counted
from archdsl.ops.base import (
    Argument,
    FunctionForm,
    Mend,
    ModuleForm,
    Operation,
    OperationError,
    ParameterForm,
    Rules,
    Saves,
    Shape,
    Weight,
    example,
)
from archdsl.ops.fields import Count, Index, Number, Parts, shape_text
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap
from archdsl.ops.sizes import channels, positional, spatial


class ChannelOperation(Operation):
    """The base of operations on channels."""

    family = "channels"
    is_linear = True
    leads = True


class Split(ChannelOperation):
    """Splits the channels into n equal parts: n parallel tensors, in order.

    [C, …] → n times [C / n, …].

    Errors: channels that n does not divide.
    """

    name = "split"
    keeps_channels = True
    view = True
    layout = "any"

    n: Parts

    examples = (example((6, 4, 5), n=2), example((6,), n=3), example((4, 7), n=4), example((4, 2, 3, 4), n=2))

    def results(self, count: int) -> int:
        return self.n

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        part, divides = dims.exact_div(shape[0], self.n)
        rules.require(
            divides,
            f"`split({self.n})` needs a multiple of {self.n} channels; the tensor is {shape_text(shape)}",
            parameter="n",
            inputs=(0,),
            help=f"make the channels a multiple of {self.n}; `slice` allows unequal parts",
            mends=self._mends(shape),
        )
        return ((part, *shape[1:]),) * self.n

    def _mends(self, shape: Shape) -> tuple[Mend, ...]:
        if not isinstance(shape[0], int) or not shape[1:]:
            return ()
        projection = f"conv({-(-shape[0] // self.n) * self.n}, 1)"
        return (Mend(f"make the channels a multiple of {self.n}: `{projection} -> split`", before=projection),)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        part = channels(self.name, outputs[result])
        yield ChannelMap(0, range(part), range(result * part, (result + 1) * part), each=True)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm("{0}.chunk({n}, 1)", (Argument("n", self.n),), results=self.n)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return replace(self.torch(shapes, outputs), template="{0}.chunk({n}, -1)")

    def caption(self, rank: int = 2) -> str:
        return f"split {self.n}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"{self.n} parts of {counted(outputs[0][0], 'channel')}, in order; so their gradients come back"


class Slice(ChannelOperation):
    """The channels from `start` to `stop` (exclusive), counted from 0.

    [C, …] → [stop − start, …].

    Errors: `stop` not larger than `start`, or larger than the number of channels.
    """

    name = "slice"
    keeps_channels = True
    view = True
    layout = "any"

    start: Index
    stop: Count

    examples = (example((6, 4, 5), start=1, stop=4), example((6,), start=0, stop=6), example((4, 7), start=3, stop=4))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        if self.stop <= self.start:
            raise OperationError(
                f"`stop` must be larger than `start`: there is no channel from {self.start} to {self.stop}",
                parameter="stop",
                help=f"`slice({self.start}, {self.start + 1})` is only channel {self.start}",
            )
        rules.require(
            dims.at_least(shape[0], self.stop),
            f"`slice` up to {self.stop} exceeds the channels of {shape_text(shape)}",
            parameter="stop",
            inputs=(0,),
            help=f"`stop` is {dims.text(shape[0])} at most",
        )
        return ((self.stop - self.start, *shape[1:]),)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        yield ChannelMap(0, range(self.stop - self.start), range(self.start, self.stop), each=True)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        start = Argument("start", self.start, 0)
        is_whole = not start.is_given and self.stop == shapes[0][0]
        stop = Argument("stop", self.stop) if is_whole else Argument("stop", self.stop, shapes[0][0])
        return FunctionForm("{0}[:, {start}:{stop}]", (start, stop))

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return replace(self.torch(shapes, outputs), template="{0}[..., {start}:{stop}]")

    def caption(self, rank: int = 2) -> str:
        return f"channels {self.start}..{self.stop}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"y[c] = x[c + {self.start}]: the other channels get no gradient from here"


class ChannelShuffle(ChannelOperation):
    """Interleaves the channels of `groups` groups, so that the next grouped convolution sees all groups.

    [C, …] → [C, …]: channel j of group i becomes channel j · groups + i.

    Errors: a flat tensor; `groups` that do not divide the channels.

    Zhang et al., ShuffleNet, 2017.
    """

    name = "channel_shuffle"

    groups: Count

    examples = (example((6, 4, 5), groups=2), example((6, 7), groups=3), example((4, 2, 3, 4), groups=4))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        spatial(self.name, shape)
        rules.require(
            dims.divisible(shape[0], self.groups),
            f"`groups` must divide the number of channels: {dims.text(shape[0])} is not a multiple of {self.groups}",
            parameter="groups",
            inputs=(0,),
            help="use a number of groups that divides the channels",
        )
        return shapes

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        count = channels(self.name, shapes[0])
        for c in range(count):
            group = c % self.groups * (count // self.groups)
            yield ChannelMap(
                0, range(c, c + 1), range(group + c // self.groups, group + c // self.groups + 1), each=True
            )

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return ModuleForm("nn.ChannelShuffle", positional(groups=self.groups))

    def caption(self, rank: int = 2) -> str:
        return f"channel_shuffle {self.groups}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        groups = self.groups
        yield f"channel j of group i becomes j · {groups} + i: {groups} groups of {shapes[0][0] // groups}"


class Scale(ChannelOperation):
    """Multiplies each channel by a learned factor, initialised to `init`.

    [C, …] → [C, …]. The factors are a parameter of the enclosing scope; the operation's path is their key. `stored` is
    their shape there: `plain` [C], `maps` [C, 1, 1] for a tensor [C, H, W].

    Touvron et al., Going deeper with image transformers, 2021 (LayerScale).
    """

    name = "scale"
    aliases = ("layerscale",)
    channelwise = True
    own = True
    layout = "any"

    init: Number = 1.0
    stored: Literal["plain", "maps"] = "plain"

    examples = (
        example((3, 4, 5)),
        example((6,), init=0.1),
        example((2, 7)),
        example((2, 3, 4, 5)),
        example((3, 4, 5), init=1e-6, stored="maps"),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        channels(self.name, shapes[0])
        return shapes

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        axes = len(shapes[0]) - 1 if self.stored == "maps" else 0
        return (Weight("", (channels(self.name, shapes[0]), *(1,) * axes)),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, shapes[0]),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ParameterForm:
        axes = ", None" * (len(shapes[0]) - 1)
        # With the batch's axis, too: without it torch.export ties the width to the strides of channels-last tensors.
        factor = f"{{parameter}}[None, :{axes}]" if axes else "{parameter}"
        if self.stored == "maps" and axes:
            factor = "{parameter}[None]"
        (weight,) = self.weights(shapes)
        return ParameterForm(f"{{0}} * {factor}", weight.shape, self.init)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ParameterForm:
        form = self.torch(shapes, outputs)
        factor = "{parameter}.flatten()" if len(form.shape) > 1 else "{parameter}"
        return replace(form, template=f"{{0}} * {factor}")

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"y = s[c] · x, s learned, one per channel, initially {self.init:g}"
