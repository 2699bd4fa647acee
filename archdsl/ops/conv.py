"""The convolution, and code shared with its transpose."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from archdsl import dims
from archdsl.common.units import counted
from archdsl.dims import Dim
from archdsl.ops import helpers
from archdsl.ops.base import Example, Kept, Operation, Rules, Saves, Shape, Weight, Window, example, renamed
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.facts import Copies
from archdsl.ops.fields import (
    ConvPad,
    Count,
    Init,
    Numbers,
    Size,
    Switch,
    flattened,
    matrix_text,
    nested_size,
    shape_text,
    shown,
    times,
)
from archdsl.ops.forms import ModuleForm, Start
from archdsl.ops.formulas import (
    INDICES,
    OUTSIDE,
    TAPS,
    Section,
    Sizes,
    against_full,
    biases,
    multiple,
    same_upper_lines,
    signed,
    window_lines,
)
from archdsl.ops.index_maps import ChannelMap, grouped
from archdsl.ops.init import Drawn
from archdsl.ops.sizes import (
    channels,
    collapse,
    each,
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
    meant_pad,
    padding,
    same_upper_pads,
    steady,
    steps,
    window_caption,
    window_pads,
)

if TYPE_CHECKING:
    from archdsl.ops.matrix import Matrix

SHORT = 9
"""The most numbers of a fixed kernel that its caption gives."""


def start(init: Init, bias: bool, *, typed: bool = False) -> Start | None:
    """The initialisation of the weight in the generated module."""
    if isinstance(init, Drawn):
        return Start(init.rule, init.std, bias, typed)
    return Start(init, bias=bias, typed=typed) if init is not None else None


def groups_divide(name: str, groups: int, channels: int, out: int) -> None:
    """Raises OperationError if the groups do not divide the input or output channels."""
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


def kernel_is_odd(values: Sequence[object]) -> bool:
    """Whether the second argument of a convolution looks like a width, and the third like a kernel."""
    if len(values) < 3 or not isinstance(values[1], int) or not isinstance(values[2], int):
        return False
    kernel, stride = values[1], values[2]
    return kernel >= 8 and kernel > 2 * stride and (kernel % 2 == 0 or stride >= 3)


class Conv(Operation):
    """Convolves the spatial axes with learned kernels (as usual in deep learning, a cross-correlation).

    [C, …] → [out, …]: each spatial size n becomes ⌊(n + 2·pad − dilation·(kernel − 1) − 1) / stride⌋ + 1, with
    `pad = same_upper` ⌈n / stride⌉. The tensor's rank selects 1-d, 2-d or 3-d. With `pad = causal` a signal is padded
    before its start alone, so that no result depends on what comes later: ⌈T / stride⌉. `weight` gives the
    kernel's initial values, the same for every pair of channels, and initialises the bias to 0; `trainable = false`
    freezes the layer; `flip = true` flips the kernel, which gives the convolution of signal processing. `init` selects
    the weight's initialisation (see Initialisation).

    Errors: a flat tensor; a kernel larger than the padded input; `groups` that do not divide the channels; an even
    kernel with `pad = same`; `pad = causal` of a map or volume; `reflect` padding not smaller than the input,
    `circular` larger than it; both `weight` and `init`.

    LeCun et al., Gradient-based learning applied to document recognition, 1998. Dilation: Yu and Koltun, 2016.
    Groups: Krizhevsky et al., 2012. Causal: WaveNet, 2016.
    """

    name = "conv"
    aliases: ClassVar[tuple[str, ...]] = ("convolution",)
    family = "convolution"
    has_filters = True
    is_weighted = True
    is_linear = True
    channels_at = 0
    odd_at = 1
    saves_first = True
    helper_names = ("same_upper_pads",)
    pytorch_names = renamed(out="out_channels", kernel="kernel_size", pad="padding", pad_mode="padding_mode")
    own = True
    stated: ClassVar[Mapping[str, str | None]] = {"kernel": None}

    out: Count
    kernel: Size | None = None
    stride: Size = 1
    pad: ConvPad = "same"
    dilation: Size = 1
    groups: Count = 1
    bias: Switch = True
    pad_mode: Literal["zeros", "replicate", "reflect", "circular"] = "zeros"
    weight: Numbers = None
    trainable: Switch = True
    flip: Switch = False
    init: Init = None

    examples: ClassVar[tuple[Example, ...]] = (
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
        example((3, 9), out=2, kernel=3, pad="causal", dilation=2),
        example((3, 12), out=2, kernel=4, pad="causal", stride=3, pad_mode="reflect"),
        example((3, 9), out=2, kernel=3, pad="causal", flip=True),
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
        elif self.pad == "causal":
            out, pads = self._causal(shape, numbers)
        else:
            kernel, _, dilation = zip(*numbers, strict=True)
            pads = fixed = padding(self.pad, kernel, dilation, shape)
            out = tuple(steps(n, 2 * p, *m) for n, p, m in zip(sizes, fixed, numbers, strict=True))
            for axis, o in enumerate(out):
                if not (isinstance(o, int) and o >= 1):
                    output_fits(rules, o, *does_not_fit("conv", shape, axis, fixed, numbers))
        self._pad_mode_allows(sizes, pads, shape, rules)
        return ((self.out, *out),)

    def _causal(self, shape: Shape, numbers: Sequence[tuple[int, int, int]]) -> tuple[Shape, Shape]:
        """The size of the result, and the padding before the signal."""
        if len(shape) > 2:
            reach = [dilation * (kernel - 1) for kernel, _, dilation in numbers]
            before = f"pad([{reach[0]}{', 0' * (len(reach) - 1)}], after = 0)"
            raise OperationError(
                f"`pad = causal` is for a signal [C, T]; the tensor is {shape_text(shape)}",
                parameter="pad",
                inputs=(0,),
                help=f"pad the axis of time before it: `{before} -> conv(…, pad = valid)`",
            )
        ((kernel, stride, dilation),) = numbers
        return (dims.ceil_div(shape[1], stride),), (dilation * (kernel - 1),)

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
        causal = self.pad == "causal"
        pad = (0,) * len(kernel) if moving or causal else padding(fixed_pad(self.pad), kernel, dilation, shape)
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
        helper = self.helper(rank, moving=moving)
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

    def helper(self, rank: str, *, moving: bool) -> helpers.Helper | None:
        """The class that it becomes if it is none of PyTorch's; `moving`: its padding depends on the size."""
        return helpers.conv(rank, flip=self.flip, same_upper=moving, causal=self.pad == "causal")

    @property
    def _fill(self) -> Mapping[str, object]:
        if self.weight is None:
            return {}
        # A random bias would distort a given kernel, permanently if it is frozen.
        return {"weight": self.weight, "bias": (0,)} if self.bias else {"weight": self.weight}

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        (shape,) = shapes
        return ((math.prod(self._kernel(shape)) * channels("conv", shape) // self.groups, outputs[0]),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, outputs[0]),) if self.bias else ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        kernel, stride, dilation = zip(*self._numbers(shapes[0]), strict=True)
        moving = self.pad == "same_upper" and not steady(kernel, stride, dilation)
        causal = self.pad == "causal"
        if not moving and not causal and self.pad_mode == "zeros":
            return Saves(inputs=self.trainable)
        # The convolution itself does not pad: it reads, and saves, a padded copy.
        shape = shapes[0]
        if moving:
            pads = [sum(same_upper_pads(n, *m)) for n, m in zip(shape[1:], self._numbers(shape), strict=True)]
        elif causal:
            pads = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        else:
            pads = [2 * p for p in padding(fixed_pad(self.pad), kernel, dilation, shape)]
        padded = Kept((shape[0], *(n + p for n, p in zip(shape[1:], pads, strict=True))), always=True)
        return Saves(inputs=self.pad_mode in ("reflect", "replicate"), more=(padded,) if self.trainable else ())

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        kernel, stride, dilation = zip(*self._numbers(shapes[0]), strict=True)
        return Window(kernel, stride, dilation, window_pads(self.pad, kernel, stride, dilation, shapes[0]))

    def meant(self, shapes: tuple[Shape, ...]) -> Mapping[str, object]:
        given = {"kernel": self.kernel, "stride": self.stride, "dilation": self.dilation}
        kernel, stride, dilation = zip(*self._numbers(shapes[0]), strict=True)
        return {
            **{name: collapse(value) for name, value in given.items() if isinstance(value, tuple)},
            "pad": meant_pad(self.pad, kernel, stride, dilation, shapes[0]),
        }

    def wraps(self) -> bool:
        return self.pad_mode == "circular"

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        return grouped(self.out, channels("conv", shapes[0]), self.groups)

    def caption(self, rank: int = 2) -> str:
        kernel = self.kernel if self.weight is None else nested_size(self.weight)
        found = window_caption("conv", kernel, self.stride, rank, str(self.out), self.dilation, self.groups)
        if self.trainable:
            return found
        size = nested_size(self.weight) if self.weight is not None else ()
        short = 1 <= len(size) <= 2 and math.prod(size) <= SHORT
        return f"{found}, fixed {matrix_text(self.weight)}" if self.weight is not None and short else f"{found}, fixed"

    def caption_for(self, shapes: tuple[Shape, ...]) -> str:
        found = super().caption_for(shapes)
        each = f"{self.groups} groups"
        return found.replace(each, "depthwise") if 1 < self.groups == shapes[0][0] else found

    @classmethod
    def is_in_pytorchs_order(cls, values: Sequence[object], channels: Dim) -> bool:
        return super().is_in_pytorchs_order(values, channels) and kernel_is_odd(values)

    def decides_size(self) -> bool:
        return self.pad == "same_upper"

    def copies(self, shapes: tuple[Shape, ...]) -> Copies:
        return Copies(strided=self.groups == 1 and max(self.window(shapes).stride) > 1)

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        (shape,), (output,) = shapes, outputs
        window = self.window((shape,))
        axes, taps = INDICES[len(window.kernel)], TAPS[len(window.kernel)]
        moves = zip(axes, taps, window.kernel, window.stride, window.dilation, window.pad, strict=True)
        if self.flip:
            read = [f"{multiple(s, a)} - {multiple(d, u)}{signed(d * (k - 1) - p)}" for a, u, k, s, d, p in moves]
        else:
            read = [f"{multiple(s, a)} + {multiple(d, u)}{signed(-p)}" for a, u, _, s, d, p in moves]
        places = ", ".join(read)
        depth = shape[0] // self.groups
        seen = f"all {depth} channels c" if depth > 1 else "the only channel c"
        seen += " of its group" if self.groups > 1 else ""
        weight, bias = f"w[o, c, {', '.join(taps)}]", " + b[o]" if self.bias else ""
        yield Section(
            "formula",
            f"y[o, {', '.join(axes)}] = Σ_c Σ_{taps} {weight} · x[c, {places}]{bias}",
            f"over {seen} and the {times(window.kernel)} places of the kernel"
            + (f"; outside of the image {OUTSIDE[self.pad_mode]}" if any(window.pad) else ""),
            *(["flipped: x is read backwards, as signal processing defines the convolution"] if self.flip else []),
        )
        if self.pad in ("same_upper", "causal"):
            yield Section("output size", *same_upper_lines(shape, window.stride, output))
        else:
            yield Section("output size", *window_lines(shape, self._numbers(shape), window.pad, output))
        sizes = self.weights((shape,))[0].shape
        number = f"{counted(output[0], 'kernel')} of {' × '.join(map(str, sizes[1:]))} = {math.prod(sizes):,} numbers"
        number += biases(self.bias, output[0]) + ("" if self.trainable else "; they are frozen")
        yield Section("weights", number, against_full(sizes, shape, output))
        yield from self.matrix(shape, output).section()

    def matrix(self, shape: Sizes, output: Sizes) -> "Matrix":
        from archdsl.ops.matrix import Matrix  # only for explanations and pictures

        kernel = flattened(self.weight) if self.weight is not None else ()
        weights = math.prod(self.weights((shape,))[0].shape)
        return Matrix(
            shape, output, self.window((shape,)), weights, self.groups, self.pad_mode, self.flip, kernel=kernel
        )
