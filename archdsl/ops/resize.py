"""Operations that change the spatial size without learned weights."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Literal

from archdsl import dims
from archdsl.dims import Dim
from archdsl.ops import helpers, index_maps
from archdsl.ops.align import LINEAR
from archdsl.ops.base import Operation, Rules, Shape, Window, example, renamed
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Count, Size, Switch, Target, is_free, shape_text, shown, times
from archdsl.ops.forms import Argument, FunctionForm, ModuleForm, TorchForm
from archdsl.ops.formulas import AXES, Section, Sizes
from archdsl.ops.index_maps import ChannelMap, grouped
from archdsl.ops.sizes import channels, collapse, each, ints, positional, spatial

Mode = Literal["nearest", "linear", "bilinear", "trilinear", "bicubic"]
"""`linear`, `bilinear` and `trilinear` mean the same: linear along each axis."""


def torch_mode(name: str, mode: str, shape: Shape) -> str:
    """PyTorch's mode for the rank of a tensor; OperationError for `bicubic` except in 2-d."""
    rank = len(shape) - 1
    if mode == "nearest":
        return mode
    if mode != "bicubic":
        return LINEAR[rank]
    if rank != 2:
        raise OperationError(
            f"`{name}` supports `bicubic` only with two spatial axes; the tensor is {shape_text(shape)}",
            parameter="mode",
            inputs=(0,),
            help="use `mode = linear`, which works for every rank",
        )
    return mode


class Interpolation(Operation):
    """The base of interpolations; PyTorch saves only their sizes for the backward pass."""

    family = "resize"
    is_linear = True
    channelwise = True
    own = True

    def _mode(self) -> Mode:
        raise NotImplementedError

    def _aligned(self) -> bool:
        raise NotImplementedError

    def _checked_mode(self, shape: Shape) -> str:
        """PyTorch's mode. OperationError for a rank or an alignment that it lacks."""
        if self._aligned() and self._mode() == "nearest":
            raise OperationError(
                f"`{self.name}` by copying has no corners to align",
                parameter="align_corners",
                help="interpolate: `mode = bilinear, align_corners = true`",
            )
        return torch_mode(self.name, self._mode(), shape)

    def _options(self, shape: Shape) -> tuple[Argument, ...]:
        """The arguments of nn.Upsample that are no sizes."""
        mode = Argument("mode", self._checked_mode(shape), "nearest")
        return (mode, Argument("align_corners", True)) if self._aligned() else (mode,)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[index_maps.IndexMap, ...]]:
        axes = enumerate(zip(ints(shapes[0][1:]), ints(outputs[0][1:]), strict=True))
        by = index_maps.aligned if self._aligned() else index_maps.resampled
        return {0: tuple(by(a, n, o, self._mode()) for a, (n, o) in axes)}

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        if self._mode() == "nearest":
            return ()
        neighbours = 4 if self._mode() == "bicubic" else 2
        return ((2 * neighbours ** (len(shapes[0]) - 1), outputs[0]),)

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        yield from super().explanation(shapes, outputs)
        lines = [
            f"{name}: {n} → {m}" + (f" = {n} · {m // n}" if m % n == 0 and m > n else "")
            for name, n, m in zip(AXES[len(shapes[0]) - 1], shapes[0][1:], outputs[0][1:], strict=True)
        ]
        yield Section("output size", *lines)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        mode = self._mode()
        if mode == "nearest":
            yield "copies: along an axis from n to m elements, y[i] = x[⌊i · n / m⌋]; nothing is learned"
            yield "the gradients of the copies add up"
            return
        place = "i · (n - 1) / (m - 1)" if self._aligned() else "(i + 1/2) · n / m - 1/2"
        yield f"along an axis from n to m elements, y[i] is at p = {place} of x; nothing is learned"
        if mode == "bicubic":
            yield "it is made from the four neighbours there"
        else:
            yield "it is made from the two neighbours there: (1 - t) · x[⌊p⌋] + t · x[⌊p⌋ + 1], t = p - ⌊p⌋"


class Upsample(Interpolation):
    """Multiplies each spatial size by `scale`, by copying (`nearest`) or interpolation (`bilinear`, `bicubic`).

    [C, …] → [C, …]: each spatial size n becomes n · scale; `1x2` scales each axis by its own factor. `bilinear` works
    for every rank. With `align_corners = true` the first and the last elements of an axis stay where they are, as older
    networks have it: what lies between depends on the size of the whole axis then.

    Errors: a flat tensor; `bicubic` in 1-d or 3-d; `align_corners = true` with `nearest`.
    """

    name = "upsample"
    minor = ("mode",)
    pytorch_names = renamed(scale="scale_factor")

    scale: Size
    mode: Mode = "nearest"
    align_corners: Switch = False

    def _mode(self) -> Mode:
        return self.mode

    def _aligned(self) -> bool:
        return self.align_corners

    examples = (
        example((3, 4, 5), scale=2),
        example((3, 4, 5), scale=(1, 3), mode="bilinear"),
        example((3, 4, 5), scale=2, mode="bicubic"),
        example((3, 7), scale=2, mode="linear"),
        example((2, 3, 4, 5), scale=2, mode="bilinear"),
        example((3, 4, 5), scale=2, mode="bilinear", align_corners=True),
        example((3, 1, 5), scale=3, mode="bicubic", align_corners=True),
    )

    @classmethod
    def instead_of_fraction(cls, name: str, arguments: Mapping[str, object]) -> str:
        given, mode = arguments[name], arguments.get("mode", cls.fields["mode"].default)
        factors = given if isinstance(given, tuple | list) else (given, given)
        if name != "scale" or not all(isinstance(f, int | float) and 0.01 < f < 100 for f in factors):
            return super().instead_of_fraction(name, arguments)
        ratios = [Fraction(f).limit_denominator(64) for f in factors]
        sizes = [
            f"it.size[{axis}]"
            + f" * {r.numerator}" * (r.numerator != 1)
            + f" // {r.denominator}" * (r.denominator != 1)
            for axis, r in enumerate(ratios)
        ]
        return f"for a fraction, compute the size: `resize([{', '.join(sizes)}], {mode})`"

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        sizes = spatial(self.name, shape)
        self._checked_mode(shape)
        return ((shape[0], *(n * s for n, s in zip(sizes, each(self.scale, shape, "scale"), strict=True))),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        factor = Argument("scale_factor", collapse(each(self.scale, shapes[0], "scale")))
        return ModuleForm("nn.Upsample", (factor, *self._options(shapes[0])))

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        """As a window of stride 1 over the input with scale − 1 zeros between its elements."""
        if self.align_corners:
            return Window(whole=True)  # where an element reads depends on the size of the axis
        scale = each(self.scale, shapes[0], "scale")
        one = (1,) * len(scale)
        if self.mode == "nearest":
            return Window(scale, one, one, tuple(s - 1 for s in scale), scale)
        reach = 2 if self.mode == "bicubic" else 1  # neighbours on each side from which an output is computed
        return Window(
            tuple(2 * reach * s if s > 1 else 1 for s in scale),
            one,
            one,
            tuple(reach * s + (s - 1) // 2 if s > 1 else 0 for s in scale),
            scale,
        )

    def caption(self, rank: int = 2) -> str:
        factor = self.scale if isinstance(self.scale, int) else times(self.scale)
        return f"upsample by {factor}" + ("" if self.mode == "nearest" else f", {self.mode}")


class Resize(Interpolation):
    """Resizes the spatial axes to a given size, by interpolation or (`nearest`) copying.

    [C, …] → [C, to]; `to` is an int, a size, or that of a tensor: `resize(x.size)`. `bilinear` works for every rank.
    With `align_corners = true` the first and the last elements of an axis stay where they are, as older networks have
    it.

    Errors: a flat tensor; `bicubic` in 1-d or 3-d; a size below 1; `align_corners = true` with `nearest`.
    """

    name = "resize"
    aliases = ("interpolate",)
    pytorch_names = renamed(to="size")

    to: Target
    mode: Mode = "bilinear"
    align_corners: Switch = False

    def _mode(self) -> Mode:
        return self.mode

    def _aligned(self) -> bool:
        return self.align_corners

    examples = (
        example((3, 4, 5), to=7),
        example((3, 4, 5), to=(2, 9), mode="nearest"),
        example((3, 4, 5), to=6, mode="bicubic"),
        example((3, 7), to=3),
        example((2, 3, 4, 5), to=(5, 4, 3)),
        example((3, 4, 5), to=(7, 1), align_corners=True),
    )

    def _size(self, shape: Shape) -> tuple[Dim, ...]:
        return each(self.to, shape, "to")

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        spatial(self.name, shape)
        self._checked_mode(shape)
        for size in self._size(shape):
            rules.require(
                dims.at_least(size, 1),
                f"`resize` to {dims.text(size)} gives an empty tensor",
                parameter="to",
                help="give a size of at least 1",
            )
        return ((shape[0], *self._size(shape)),)

    def sized(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Shape:
        return outputs[0][1:]

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm:
        size = self._size(shapes[0])
        if is_free(size):
            mode, *more = self._options(shapes[0])
            arguments = (Argument("size", size), Argument("mode", mode.value), *more)
            given = "".join(f", {a.name}={{{a.name}}}" for a in arguments)
            return FunctionForm(f"F.interpolate({{0}}{given})", arguments)
        return ModuleForm("nn.Upsample", (Argument("size", size), *self._options(shapes[0])))

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True)

    def caption(self, rank: int = 2) -> str:
        size = self.to if isinstance(self.to, tuple) else (self.to,) * rank
        return f"resize {times([dims.text(d) for d in size])}"


class PixelShuffle(Operation):
    """Moves channels into space: every r^rank channels become r elements along each spatial axis.

    [C · r², H, W] → [C, H · r, W · r], likewise with r¹ in 1-d and r³ in 3-d.

    Errors: a flat tensor; channels that r^rank does not divide.

    Shi et al., Real-time single image and video super-resolution, 2016.
    """

    name = "pixel_shuffle"
    aliases = ("depthtospace", "depth_to_space", "subpixel")
    family = "resize"
    is_linear = True
    pytorch_names = renamed(r="upscale_factor")

    r: Count

    examples = (example((8, 4, 5), r=2), example((9, 2, 3), r=3), example((6, 7), r=2), example((16, 2, 3, 4), r=2))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        sizes = spatial(self.name, shape)
        factor = self.r ** len(sizes)
        out, divides = dims.exact_div(shape[0], factor)
        rules.require(
            divides,
            f"`pixel_shuffle({self.r})` needs a multiple of {factor} channels; the tensor is {shape_text(shape)}",
            parameter="r",
            inputs=(0,),
            help=f"give the convolution before it {factor} times the channels that you need after it",
        )
        return ((out, *(n * self.r for n in sizes)),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        if len(shapes[0]) == 3:
            return ModuleForm("nn.PixelShuffle", positional(upscale_factor=self.r))
        helper = helpers.PIXEL_SHUFFLE
        return ModuleForm(helper.name, positional(upscale_factor=self.r), helper=helper.source)

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        rank = len(shapes[0]) - 1
        one, r = (1,) * rank, (self.r,) * rank
        return Window(r, one, one, tuple(n - 1 for n in r), r)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        # The input channel of an output element depends on its position: treat it as reading all of them.
        out = channels(self.name, outputs[0])
        return grouped(out, channels(self.name, shapes[0]), out)

    def caption(self, rank: int = 2) -> str:
        return f"{self.name} {shown(self.r)}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        count, block = shapes[0][0] // outputs[0][0], times([self.r] * (len(shapes[0]) - 1))
        yield f"each {count} channels become a block of {block} elements of one: the same numbers, elsewhere"


class PixelUnshuffle(Operation):
    """Moves space into channels: r elements along each spatial axis become r^rank channels.

    [C, H · r, W · r] → [C · r², H, W], likewise with r¹ in 1-d and r³ in 3-d.

    Errors: a flat tensor; spatial sizes that r does not divide.

    Shi et al., Real-time single image and video super-resolution, 2016.
    """

    name = "pixel_unshuffle"
    aliases = ("spacetodepth", "space_to_depth", "focus")
    family = "resize"
    is_linear = True
    pytorch_names = renamed(r="downscale_factor")

    r: Count

    examples = (example((3, 4, 6), r=2), example((1, 6, 3), r=3), example((3, 8), r=4), example((2, 2, 4, 6), r=2))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        out: list[Dim] = []
        for n in spatial(self.name, shape):
            part, divides = dims.exact_div(n, self.r)
            rules.require(
                divides,
                f"`pixel_unshuffle({self.r})` needs spatial sizes that are multiples of {self.r}; the tensor is "
                f"{shape_text(shape)}",
                parameter="r",
                inputs=(0,),
                help="pad or crop the tensor first",
            )
            out.append(part)
        return ((shape[0] * self.r ** len(out), *out),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        if len(shapes[0]) == 3:
            return ModuleForm("nn.PixelUnshuffle", positional(downscale_factor=self.r))
        helper = helpers.PIXEL_UNSHUFFLE
        return ModuleForm(helper.name, positional(downscale_factor=self.r), helper=helper.source)

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        rank = len(shapes[0]) - 1
        return Window((self.r,) * rank, (self.r,) * rank, (1,) * rank, (0,) * rank)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        # An output element reads one position of each window: treat it as reading all of them.
        count = channels(self.name, shapes[0])
        return grouped(channels(self.name, outputs[0]), count, count)

    def caption(self, rank: int = 2) -> str:
        return f"{self.name} {shown(self.r)}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        count, block = outputs[0][0] // shapes[0][0], times([self.r] * (len(shapes[0]) - 1))
        yield f"each block of {block} elements of a channel becomes {count} channels: the same numbers, elsewhere"
