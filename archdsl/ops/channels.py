"""Operations on the channels: parts of them, their order, their scale."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from archdsl import dims
from archdsl.common.units import counted
from archdsl.dims import Dim
from archdsl.ops import index_maps
from archdsl.ops.axis import along, axis_caption, moved, with_size
from archdsl.ops.base import Operation, Rules, Saves, Shape, Weight, example
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import Count, Index, Number, Parts, Whole, shape_text, shown
from archdsl.ops.forms import Argument, FunctionForm, ModuleForm, ParameterForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap, IndexMap
from archdsl.ops.sizes import channels, ints, positional, spatial
from archdsl.ops.validation import Accepts


class ChannelOperation(Operation):
    """The base of operations on channels."""

    family = "channels"
    is_linear = True
    leads = True


PartSizes = Annotated[
    tuple[Count, ...],
    Accepts("an int from 2 to 4096, or a list of sizes such as [8, 24]", shortest=2, longest=4096),
]


class Split(ChannelOperation):
    """Splits an axis, the channels by default, into parallel tensors, in order.

    `split(n)`: n equal parts, [C, …] → n times [C / n, …]; `split([a, b])`: parts of these sizes, [C, …] → [a, …],
    [b, …]. `axis = 1` splits the first spatial axis.

    Errors: a size that n does not divide; sizes with another sum.
    """

    name = "split"
    aliases = ("chunk",)
    view = True
    layout = "any"

    n: Parts | PartSizes
    axis: Index = 0

    examples = (
        example((6, 4, 5), n=2),
        example((6,), n=3),
        example((4, 7), n=4),
        example((4, 2, 3, 4), n=2),
        example((6, 4), n=(1, 3, 2)),
        example((3, 4, 6), n=2, axis=2),
        example((3, 5, 2), n=(1, 4), axis=1),
    )

    def results(self, count: int) -> int:
        return len(self.n) if isinstance(self.n, tuple) else self.n

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        size, what = along(self.name, shape, self.axis)
        if isinstance(self.n, tuple):
            rules.require(
                dims.equal(size, sum(self.n)),
                f"`split` into {shown(list(self.n))} needs {sum(self.n)} {what}; the tensor is {shape_text(shape)}",
                parameter="n",
                inputs=(0,),
                help=f"give sizes with the sum {dims.text(size)}; `slice` takes only a part",
            )
            return tuple(with_size(shape, self.axis, part) for part in self.n)
        part, divides = dims.exact_div(size, self.n)
        rules.require(
            divides,
            f"`split({self.n})` needs a multiple of {self.n} {what}; the tensor is {shape_text(shape)}",
            parameter="n",
            inputs=(0,),
            help=f"make the {what} a multiple of {self.n}; `split([a, b])` allows unequal parts",
            mends=self._mends(shape),
        )
        return (with_size(shape, self.axis, part),) * self.n

    def _mends(self, shape: Shape) -> tuple[Mend, ...]:
        if self.axis or isinstance(self.n, tuple) or not isinstance(shape[0], int) or not shape[1:]:
            return ()
        projection = f"conv({-(-shape[0] // self.n) * self.n}, 1)"
        return (Mend(f"make the channels a multiple of {self.n}: `{projection} -> split`", before=projection),)

    def keeps_channels(self) -> bool:
        return self.axis == 0

    def _start(self, result: int, outputs: tuple[Shape, ...]) -> int:
        """The first element of a part."""
        return sum(ints(tuple(output[self.axis] for output in outputs[:result])))

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        part = channels(self.name, outputs[result])
        start = 0 if self.axis else self._start(result, outputs)
        yield ChannelMap(0, range(part), range(start, start + part), each=True)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {0: moved(shapes[0], self.axis, self._start(result, outputs) if self.axis else 0)}

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(self.axis + 1)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(self.axis or -1)

    def _form(self, axis: int) -> FunctionForm:
        method = "split" if isinstance(self.n, tuple) else "chunk"
        return FunctionForm(f"{{0}}.{method}({{n}}, {axis})", (Argument("n", self.n),), results=self.results(1))

    def caption(self, rank: int = 2) -> str:
        return f"split {shown(list(self.n) if isinstance(self.n, tuple) else self.n)}{axis_caption(self.axis)}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        _, what = along(self.name, shapes[0], self.axis)
        if isinstance(self.n, tuple):
            yield f"parts of {shown(list(self.n))} {what}, in order; so their gradients come back"
        else:
            each = counted(outputs[0][self.axis], what.removesuffix("s"))
            yield f"{self.n} parts of {each}, in order; so their gradients come back"


class Slice(ChannelOperation):
    """The part of an axis, the channels by default, from `start` to `stop` (exclusive), counted from 0.

    [C, …] → [stop − start, …]. Negative numbers count from the end: `slice(-1, axis = 1)` is the last position. Without
    `stop` it goes on to the end. `axis = 1` slices the first spatial axis. With a `step` it takes only every so many:
    [⌈(stop − start) / step⌉, …].

    Errors: `stop` not larger than `start`; one of them outside of the axis; `stop` from the start, and `start` from the
    end.
    """

    name = "slice"
    aliases = ("narrow",)
    view = True
    layout = "any"

    start: Whole
    stop: Whole | None = None
    axis: Index = 0
    step: Count = 1

    examples = (
        example((6, 4, 5), start=1, stop=4),
        example((6,), start=0, stop=6),
        example((4, 7), start=3, stop=4),
        example((4, 7), start=1),
        example((3, 7), start=0, stop=1, axis=1),
        example((3, 4, 5), start=2, axis=2),
        example((3, 4, 5), start=1, axis=2, step=2),
        example((7, 3), start=1, stop=6, step=3),
        example((7, 3), start=-3, stop=-1),
        example((3, 6, 5), start=-1, axis=1),
        example((3, 6, 5), start=1, stop=-2, axis=2, step=2),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        size, what = along(self.name, shape, self.axis)
        self._check_order(what.removesuffix("s"))
        rules.require(
            dims.at_least(size, self._least()),
            f"`slice` {'from' if self.stop is None else 'up to'} {self.stop or self.start} exceeds the {what} of "
            f"{shape_text(shape)}",
            parameter="start" if self.stop is None else "stop",
            inputs=(0,),
            help=f"`stop` is {dims.text(size)} at most",
        )
        taken = (size if self.stop is None else _placed(self.stop, size)) - _placed(self.start, size)
        return (with_size(shape, self.axis, dims.ceil_div(taken, self.step) if self.step > 1 else taken),)

    def meant(self, shapes: tuple[Shape, ...]) -> Mapping[str, object]:
        return {"stop": None} if self.stop == shapes[0][self.axis] else {}

    def _check_order(self, one: str) -> None:
        """OperationError for bounds between which no axis has anything."""
        if self.stop is None or (self.start >= 0 > self.stop):
            return
        if self.start < 0 <= self.stop:
            raise OperationError(
                f"`stop` counts from the start, and `start` from the end: {self.start} to {self.stop}",
                parameter="stop",
                help="count both from the same end; without a `stop`, `slice` goes on to the end",
            )
        if self.stop <= self.start:
            single = f"slice({self.start}, {self.start + 1})" if self.start != -1 else "slice(-1)"
            raise OperationError(
                f"`stop` must be larger than `start`: there is no {one} from {self.start} to {self.stop}",
                parameter="stop",
                help=f"`{single}` is only {one} {self.start}",
            )

    def _least(self) -> int:
        """The smallest size of an axis that has all that is taken."""
        if self.start < 0:
            return -self.start
        if self.stop is None:
            return self.start + 1
        return self.stop if self.stop > 0 else self.start - self.stop + 1

    def first(self, shape: Shape) -> int:
        """The first element that is taken, counted from 0."""
        (size,) = ints(shape[self.axis : self.axis + 1])
        return size + self.start if self.start < 0 else self.start

    def keeps_channels(self) -> bool:
        return self.axis > 0 or self.step == 1

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        count, start = channels(self.name, outputs[0]), 0 if self.axis else self.first(shapes[0])
        if self.axis or self.step == 1:
            yield ChannelMap(0, range(count), range(start, start + count), each=True)
            return
        for c in range(count):
            taken = start + c * self.step
            yield ChannelMap(0, range(c, c + 1), range(taken, taken + 1), each=True)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        first = self.first(shapes[0]) if self.axis else 0
        found = [*moved(shapes[0], self.axis, first)]
        if self.axis and self.step > 1:
            found[self.axis - 1] = index_maps.sliding(self.axis - 1, 1, self.step, 1, -first)
        return {0: tuple(found)}

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(":, " * (self.axis + 1), shapes[0][self.axis])

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(":, " * self.axis or "..., ", shapes[0][self.axis])

    def _form(self, before: str, size: Dim) -> FunctionForm:
        start = Argument("start", self.start, 0)
        steps, step = (":{step}", [Argument("step", self.step)]) if self.step > 1 else ("", [])
        if self.stop is None:
            return FunctionForm(f"{{0}}[{before}{{start}}:{steps}]", (Argument("start", self.start), *step))
        is_whole = not start.is_given and self.stop == size
        stop = Argument("stop", self.stop) if is_whole else Argument("stop", self.stop, size)
        return FunctionForm(f"{{0}}[{before}{{start}}:{{stop}}{steps}]", (start, stop, *step))

    def caption(self, rank: int = 2) -> str:
        end = "" if self.stop is None else self.stop
        every = f", every {self.step}" if self.step > 1 else ""
        return f"{'slice' if self.axis else 'channels'} {self.start}..{end}{axis_caption(self.axis)}{every}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        index = "c" if not self.axis else "i"
        where = "" if not self.axis else f" along axis {self.axis}"
        factor = f"{self.step} · " if self.step > 1 else ""
        yield f"y[{index}] = x[{factor}{index} + {self.first(shapes[0])}]{where}: the others get no gradient from here"


def _placed(number: int, size: Dim) -> Dim:
    """A place on an axis, counted from 0."""
    return size + number if number < 0 else number


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
