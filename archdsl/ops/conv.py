"""Convolutions, their transposes, and the fully connected layer."""

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from archdsl import dims
from archdsl.dims import Dim
from archdsl.ops import helpers
from archdsl.ops.base import (
    Kept,
    Mend,
    ModuleForm,
    Operation,
    OperationError,
    Rules,
    Saves,
    Shape,
    Start,
    Weight,
    Window,
    example,
    renamed,
)
from archdsl.ops.fields import (
    Count,
    Init,
    Margin,
    Numbers,
    Pad,
    Size,
    Switch,
    UpPad,
    nested_size,
    shape_text,
    shown,
    times,
)
from archdsl.ops.init import Drawn
from archdsl.ops.sight import Lane, grouped
from archdsl.ops.sizes import (
    channels,
    collapse,
    each,
    known,
    near_divisor,
    options,
    output_fits,
    positional,
    rank_name,
    spatial,
)
from archdsl.ops.windows import (
    does_not_fit,
    fixed_pad,
    padding,
    same_upper_pads,
    steady,
    steps,
    window_caption,
    window_pads,
)


def start(init: Init, bias: bool, *, typed: bool = False) -> Start | None:
    """How the weight starts, as the generated module says it."""
    if isinstance(init, Drawn):
        return Start(init.rule, init.std, bias, typed)
    return Start(init, bias=bias, typed=typed) if init is not None else None


def groups_divide(name: str, groups: int, channels: int, out: int) -> None:
    """OperationError where the groups do not divide the channels, coming in or going out."""
    for number, what, inputs in ((channels, "input channels", (0,)), (out, "output channels", ())):
        if number % groups:
            near = near_divisor(math.gcd(channels, out), groups)
            raise OperationError(
                f"`groups` of `{name}` must divide the {what}: {shown(number)} is not a multiple of {groups}",
                parameter="groups",
                inputs=inputs,
                help=f"use a number of groups that divides both {shown(channels)} and {out}",
                mends=[Mend(f"`groups = {near}` divides both {shown(channels)} and {out}", {"groups": str(near)})],
            )


class Conv(Operation):
    """Convolves the spatial axes with learned kernels (as usual in deep learning, a cross-correlation).

    [C, …] → [out, …]: each spatial size n becomes ⌊(n + 2·pad − dilation·(kernel − 1) − 1) / stride⌋ + 1, with
    `pad = same_upper` ⌈n / stride⌉. The tensor's rank selects 1-d, 2-d or 3-d. `weight` gives the kernel's
    initial values, the same for every pair of channels, and initialises the bias to 0; `trainable = false` freezes
    the layer; `flip = true` flips the kernel, which gives the convolution of signal processing. `init` selects the
    weight's initialisation (see Initialisation).

    Errors: a flat tensor; a kernel larger than the padded input; `groups` that do not divide the channels; an even
    kernel with `pad = same`; `reflect` padding not smaller than the input, `circular` larger than it; both `weight` and
    `init`.

    LeCun et al., Gradient-based learning applied to document recognition, 1998. Dilation: Yu and Koltun, 2016.
    Groups: Krizhevsky et al., 2012.
    """

    name = "conv"
    family = "convolution"
    pytorch_names = renamed(out="out_channels", kernel="kernel_size", pad="padding", pad_mode="padding_mode")
    own = True
    stated: ClassVar[Mapping[str, str | None]] = {"kernel": None}

    out: Count
    kernel: Size | None = None
    stride: Size = 1
    pad: Pad = "same"
    dilation: Size = 1
    groups: Count = 1
    bias: Switch = True
    pad_mode: Literal["zeros", "replicate", "reflect", "circular"] = "zeros"
    weight: Numbers = None
    trainable: Switch = True
    flip: Switch = False
    init: Init = None

    examples = (
        example((3, 8, 9), out=4, kernel=3),
        example((3, 9, 8), out=4, kernel=(3, 1), stride=2, bias=False),
        example((2, 11), out=4, kernel=5, stride=3, pad="valid"),
        example((2, 4, 5, 6), out=3, kernel=3, stride=(1, 2, 2)),
        example((4, 9, 9), out=8, kernel=3, dilation=2, groups=4),
        example((3, 8, 8), out=2, kernel=3, pad=(0, 2)),
        example((3, 7, 8), out=2, kernel=3, pad="full"),
        example((3, 7, 8), out=2, kernel=4, stride=2, pad="same_upper"),
        example((3, 7, 8), out=2, kernel=3, stride=1, pad="same_upper"),
        example((3, 12), out=2, kernel=2, dilation=3, stride=4, pad="same_upper", pad_mode="reflect"),
        example((3, 9, 8), out=2, kernel=1, stride=2, pad="same_upper"),
        example((3, 8, 7), out=2, kernel=3, pad_mode="replicate"),
        example((3, 8, 7), out=2, kernel=5, pad_mode="reflect"),
        example((3, 8, 7), out=2, kernel=5, stride=2, pad_mode="circular"),
        example((1, 6, 6), out=1, weight=((1, -1),), pad="valid", bias=False, trainable=False, flip=True),
        example((3, 9), out=3, weight=(1, 2, 1), groups=3, bias=False),
        example((2, 5, 6, 7), out=2, kernel=(1, 2, 3), pad="same_upper", stride=2, flip=True),
        example((4, 8, 9), out=8, kernel=3, groups=2, init="he"),
        example((3, 9), out=4, kernel=3, bias=False, init=Drawn("normal", 0.02)),
    )

    def _kernel(self, shape: Shape) -> tuple[int, ...]:
        """The kernel's size, from `kernel` or from `weight`."""
        given = None if self.kernel is None else each(self.kernel, shape, "kernel")
        if self.weight is None:
            if given is None:
                raise OperationError("`conv` needs `kernel`", help=f"its parameters: {self.signature()}")
            return given
        size = nested_size(self.weight)
        rank = len(shape) - 1
        if len(size) != rank:
            raise OperationError(
                f"`weight` is nested {len(size)} deep, the tensor {shape_text(shape)} has "
                f"{rank} spatial {'axis' if rank == 1 else 'axes'}",
                parameter="weight",
                inputs=(0,),
                help=f"nest the numbers {rank} deep, one list per axis",
            )
        if given is not None and given != size:
            raise OperationError(
                f"`kernel` is {times(given)}, but `weight` has {times(size)} numbers",
                parameter="kernel",
                help="leave out `kernel`: the size follows from `weight`",
            )
        return size

    def _numbers(self, shape: Shape) -> list[tuple[int, int, int]]:
        """Kernel, stride and dilation of each spatial axis."""
        kernel, stride = self._kernel(shape), each(self.stride, shape, "stride")
        return list(zip(kernel, stride, each(self.dilation, shape, "dilation"), strict=True))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        shape = shapes[0]
        sizes = spatial("conv", shape)
        numbers = self._numbers(shape)
        if self.weight is not None and self.init is not None:
            raise OperationError(
                f"`weight` and `init = {shown(self.init)}` both initialise the kernel",
                parameter="init",
                help="give one of the two; `init = none` here overrides a `default conv(init = …)`",
            )
        groups_divide("conv", self.groups, channels("conv", shape), self.out)
        if self.pad == "same_upper":
            out = tuple(dims.ceil_div(n, s) for n, (_, s, _) in zip(sizes, numbers, strict=True))
            pads: tuple[Dim, ...] = tuple(same_upper_pads(n, *m)[1] for n, m in zip(sizes, numbers, strict=True))
        else:
            kernel, _, dilation = zip(*numbers, strict=True)
            pads = fixed = padding(self.pad, kernel, dilation, shape)
            out = tuple(steps(n, 2 * p, *m) for n, p, m in zip(sizes, fixed, numbers, strict=True))
            for axis, o in enumerate(out):
                if not (isinstance(o, int) and o >= 1):
                    output_fits(rules, o, *does_not_fit("conv", shape, axis, fixed, numbers))
        self._pad_mode_allows(sizes, pads, shape, rules)
        return ((self.out, *out),)

    def _pad_mode_allows(self, sizes: tuple[Dim, ...], pads: tuple[Dim, ...], shape: Shape, rules: Rules) -> None:
        if self.pad_mode not in ("reflect", "circular"):
            return
        spare = 1 if self.pad_mode == "reflect" else 0
        for size, pad in zip(sizes, pads, strict=True):
            rules.require(
                dims.at_least(size - pad, spare),
                f"`pad_mode = {self.pad_mode}` cannot pad {dims.text(pad)} where the size is {dims.text(size)}: it "
                f"must be {'larger' if spare else 'at least as large'}; the tensor is {shape_text(shape)}",
                parameter="pad_mode",
                inputs=(0,),
                help="use another `pad_mode`, or a smaller kernel",
                mends=[Mend(f"`pad_mode = {m}` can", {"pad_mode": m}) for m in ("replicate", "zeros")],
            )

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        kernel = self._kernel(shapes[0])
        weight = Weight("weight", (self.out, channels("conv", shapes[0]) // self.groups, *kernel), self.trainable)
        return (weight, Weight("bias", (self.out,), self.trainable)) if self.bias else (weight,)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        shape = shapes[0]
        rank = rank_name(shape)
        kernel, stride, dilation = zip(*self._numbers(shape), strict=True)
        moving = self.pad == "same_upper" and not steady(kernel, stride, dilation)
        pad = (0,) * len(kernel) if moving else padding(fixed_pad(self.pad), kernel, dilation, shape)
        arguments = (
            *positional(in_channels=channels("conv", shape), out_channels=self.out, kernel_size=collapse(kernel)),
            *options(
                ("stride", collapse(stride), 1),
                ("padding", collapse(pad), 0),
                ("dilation", collapse(dilation), 1),
                ("groups", self.groups, 1),
                ("bias", self.bias, True),
                ("padding_mode", self.pad_mode, "zeros"),
            ),
        )
        helper = helpers.conv(rank, flip=self.flip, same_upper=moving)
        return ModuleForm(
            constructor=helper.name if helper else f"nn.Conv{rank}",
            accepted=arguments,
            helper=helper.source if helper else None,
            base=f"nn.Conv{rank}",
            factory=True,
            frozen=() if self.trainable else tuple(w.name for w in self.weights(shapes)),
            fill=self._fill,
            start=start(self.init, self.bias),
        )

    @property
    def _fill(self) -> Mapping[str, object]:
        if self.weight is None:
            return {}
        # A bias drawn at random would be in the way of a kernel that is given, and for good where it is frozen.
        return {"weight": self.weight, "bias": (0,)} if self.bias else {"weight": self.weight}

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[int, Shape]:
        (shape,) = shapes
        return math.prod(self._kernel(shape)) * channels("conv", shape) // self.groups, outputs[0]

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, outputs[0]),) if self.bias else ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        kernel, stride, dilation = zip(*self._numbers(shapes[0]), strict=True)
        moving = self.pad == "same_upper" and not steady(kernel, stride, dilation)
        if not moving and self.pad_mode == "zeros":
            return Saves(inputs=self.trainable)
        # The convolution pads nothing itself: what it reads, and keeps, is a padded copy.
        shape = shapes[0]
        if moving:
            pads = [sum(same_upper_pads(n, *m)) for n, m in zip(shape[1:], self._numbers(shape), strict=True)]
        else:
            pads = [2 * p for p in padding(fixed_pad(self.pad), kernel, dilation, shape)]
        padded = Kept((shape[0], *(n + p for n, p in zip(shape[1:], pads, strict=True))))
        return Saves(inputs=self.pad_mode in ("reflect", "replicate"), more=(padded,) if self.trainable else ())

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        kernel, stride, dilation = zip(*self._numbers(shapes[0]), strict=True)
        return Window(kernel, stride, dilation, window_pads(self.pad, kernel, stride, dilation, shapes[0]))

    def lanes(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[Lane]:
        return grouped(self.out, channels("conv", shapes[0]), self.groups)

    def caption(self, rank: int = 2) -> str:
        kernel = self.kernel if self.weight is None else nested_size(self.weight)
        return window_caption("conv", kernel, self.stride, rank, str(self.out), self.dilation, self.groups)


class Upconv(Operation):
    """Transposed convolution: each element adds a scaled kernel to a larger output (learned upsampling).

    [C, …] → [out, …]: each spatial size n becomes (n − 1)·stride − 2·pad + dilation·(kernel − 1) + output_pad + 1.
    `init` selects the weight's initialisation (see Initialisation).

    Errors: a flat tensor; an empty output; `groups` that do not divide the channels; `output_pad` not smaller than
    both the stride and the dilation.

    Zeiler et al., Deconvolutional networks, 2010; Dumoulin and Visin, 2016.
    """

    name = "upconv"
    family = "convolution"
    pytorch_names = renamed(out="out_channels", kernel="kernel_size", pad="padding", output_pad="output_padding")
    own = True
    stated: ClassVar[Mapping[str, str | None]] = {"stride": "kernel"}

    out: Count
    kernel: Size
    stride: Size | None = None
    pad: UpPad = 0
    output_pad: Margin = 0
    dilation: Size = 1
    groups: Count = 1
    bias: Switch = True
    init: Init = None

    examples = (
        example((4, 5, 6), out=2, kernel=2),
        example((4, 5, 6), out=2, kernel=3, stride=2, pad=1, output_pad=1, bias=False),
        example((4, 7), out=6, kernel=4, stride=2, pad=1, groups=2),
        example((2, 3, 4, 5), out=3, kernel=(1, 2, 2)),
        example((2, 5, 6), out=3, kernel=3, stride=1, pad="same", dilation=2),
        example((2, 5, 6), out=3, kernel=3, stride=(2, 3), pad="full"),
        example((4, 5, 6), out=2, kernel=2, groups=2, init="he_fan_out"),
    )

    def _numbers(self, shape: Shape) -> list[tuple[int, int, int]]:
        """Kernel, stride and dilation of each spatial axis."""
        kernel = each(self.kernel, shape, "kernel")
        stride = kernel if self.stride is None else each(self.stride, shape, "stride")
        return list(zip(kernel, stride, each(self.dilation, shape, "dilation"), strict=True))

    def _pads(self, shape: Shape) -> tuple[int, ...]:
        kernel, _, dilation = zip(*self._numbers(shape), strict=True)
        return padding(self.pad, kernel, dilation, shape)

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        shape = shapes[0]
        sizes = spatial("upconv", shape)
        groups_divide("upconv", self.groups, channels("upconv", shape), self.out)
        more = each(self.output_pad, shape, "output_pad")
        out: list[Dim] = []
        for n, p, o, (k, s, d) in zip(sizes, self._pads(shape), more, self._numbers(shape), strict=True):
            if o >= s and o >= d:
                raise OperationError(
                    f"`output_pad` must be below the stride or the dilation; it is {o}, they are {s} and {d}",
                    parameter="output_pad",
                    help="use a smaller `pad`, or `pad(n)` after the upconv",
                )
            out.append((n - 1) * s + (d * (k - 1) + o + 1 - 2 * p))
            if not (isinstance(out[-1], int) and out[-1] >= 1):
                rules.require(
                    dims.at_least(out[-1], 1),
                    f"`upconv` would give a size of {dims.text(out[-1])}: padding removes the entire output; "
                    f"the tensor is {shape_text(shape)}",
                    parameter="pad",
                    inputs=(0,),
                    help="use less padding",
                )
        return ((self.out, *out),)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        kernel = each(self.kernel, shapes[0], "kernel")
        weight = Weight("weight", (channels("upconv", shapes[0]), self.out // self.groups, *kernel))
        return (weight, Weight("bias", (self.out,))) if self.bias else (weight,)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        shape = shapes[0]
        kernel, stride, dilation = zip(*self._numbers(shape), strict=True)
        arguments = (
            *positional(in_channels=channels("upconv", shape), out_channels=self.out, kernel_size=collapse(kernel)),
            *options(
                ("stride", collapse(stride), 1),
                ("padding", collapse(self._pads(shape)), 0),
                ("output_padding", collapse(each(self.output_pad, shape, "output_pad")), 0),
                ("groups", self.groups, 1),
                ("bias", self.bias, True),
                ("dilation", collapse(dilation), 1),
            ),
        )
        constructor, starts = f"nn.ConvTranspose{rank_name(shape)}", start(self.init, self.bias)
        return ModuleForm(constructor, arguments, factory=True, start=starts)

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[int, Shape]:
        (shape,) = shapes
        return math.prod(each(self.kernel, shape, "kernel")) * self.out // self.groups, shape

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, outputs[0]),) if self.bias else ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True)

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        """As a convolution of stride 1 over the input with stride − 1 zeros between its elements."""
        kernel, stride, dilation = zip(*self._numbers(shapes[0]), strict=True)
        pads = self._pads(shapes[0])
        before = tuple(d * (k - 1) - p for k, d, p in zip(kernel, dilation, pads, strict=True))
        return Window(kernel, (1,) * len(kernel), dilation, before, scale=stride)

    def lanes(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[Lane]:
        return grouped(self.out, channels("upconv", shapes[0]), self.groups)

    def caption(self, rank: int = 2) -> str:
        kernel, up = self.kernel, self.kernel if self.stride is None else self.stride
        text = window_caption("upconv", kernel, 1, rank, str(self.out), self.dilation, self.groups)
        return text if up == 1 else f"{text}, ×{times(up) if isinstance(up, tuple) else up}"


class Linear(Operation):
    """Fully connected layer: every output is a weighted sum of every input.

    [F] → [out]. `init` selects the weight's initialisation (see Initialisation).

    Errors: a tensor with spatial axes (reserved for sequences); a size that depends on a free one.
    """

    name = "linear"
    family = "convolution"
    pytorch_names = renamed(out="out_features")
    own = True

    out: Count
    bias: Switch = True
    init: Init = None

    examples = (
        example((12,), out=5),
        example((7,), out=3, bias=False),
        example((7,), out=3, init="zeros"),
        example((7,), out=3, init="xavier"),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        if len(shape) != 1:
            raise OperationError(
                f"`linear` needs a flat tensor; this one is {shape_text(shape)}",
                inputs=(0,),
                help="flatten it first, or map each position with a `conv` with a kernel of 1; both need a known "
                "number of channels, the first size",
                mends=tuple(self._mends(shape)),
            )
        known("linear", shape[0], "number of features")
        return ((self.out,),)

    def _mends(self, shape: Shape) -> Iterator[Mend]:
        if not all(isinstance(d, int) for d in shape):
            yield Mend("pool first: `global_avgpool -> flatten -> linear`", before="global_avgpool -> flatten")
        yield Mend("put `flatten` before it", before="flatten")
        projection = f"conv({self.out}, 1)"
        yield Mend(f"`{projection}` instead maps each position", instead=projection)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        weight = Weight("weight", (self.out, known("linear", shapes[0][0], "number of features")))
        return (weight, Weight("bias", (self.out,))) if self.bias else (weight,)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        arguments = (*positional(in_features=shapes[0][0], out_features=self.out), *options(("bias", self.bias, True)))
        return ModuleForm("nn.Linear", arguments, factory=True, start=start(self.init, self.bias, typed=True))

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[int, Shape]:
        return known("linear", shapes[0][0], "number of features"), outputs[0]

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, outputs[0]),) if self.bias else ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True)

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True)

    def caption(self, rank: int = 2) -> str:
        return f"linear {self.out}"
