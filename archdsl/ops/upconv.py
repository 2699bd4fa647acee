"""The transposed convolution."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from archdsl import dims
from archdsl.common.units import counted
from archdsl.dims import Dim
from archdsl.ops.base import Operation, Rules, Saves, Shape, Weight, Window, example, renamed
from archdsl.ops.conv import groups_divide, kernel_is_odd, start
from archdsl.ops.declaration import OperationError
from archdsl.ops.facts import Copies
from archdsl.ops.fields import Count, Init, Margin, Size, Switch, UpPad, shape_text, times
from archdsl.ops.forms import ModuleForm
from archdsl.ops.formulas import AXES, INDICES, TAPS, Section, Sizes, against_full, biases, multiple, signed
from archdsl.ops.index_maps import ChannelMap, grouped
from archdsl.ops.sizes import channels, collapse, each, options, positional, rank_name, spatial
from archdsl.ops.windows import padding, window_caption

if TYPE_CHECKING:
    from archdsl.ops.matrix import Matrix


def strokes(kernel: Sizes, stride: Sizes, dilation: Sizes) -> Iterator[str]:
    """Whether the kernels cover the output evenly."""
    if any(d > 1 for d in dilation):
        return
    uneven = [(k, s) for k, s in zip(kernel, stride, strict=True) if k % s]
    if not uneven:
        each = math.prod(k // s for k, s in zip(kernel, stride, strict=True))
        yield f"inside, every output gets {counted(each, 'stroke')}"
    else:
        k, s = uneven[0]
        yield (
            f"a kernel of {k} moves by {s}: along that axis outputs get {k // s} or {k // s + 1} strokes in turn, "
            "which can show as a checkerboard (Odena et al., 2016)"
        )


class Upconv(Operation):
    """Transposed convolution: each element adds a scaled kernel to a larger output (learned upsampling).

    [C, …] → [out, …]: each spatial size n becomes (n − 1)·stride − 2·pad + dilation·(kernel − 1) + output_pad + 1.
    `init` selects the weight's initialisation (see Initialisation).

    Errors: a flat tensor; an empty output; `groups` that do not divide the channels; `output_pad` not smaller than
    both the stride and the dilation.

    Zeiler et al., Deconvolutional networks, 2010; Dumoulin and Visin, 2016.
    """

    name = "upconv"
    aliases = ("convtranspose", "deconv")
    family = "convolution"
    is_weighted = True
    is_linear = True
    channels_at = 0
    odd_at = 1
    pytorch_names = renamed(out="out_channels", kernel="kernel_size", pad="padding", output_pad="output_padding")
    own = True
    saves_first = True
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

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        (shape,) = shapes
        return ((math.prod(each(self.kernel, shape, "kernel")) * self.out // self.groups, shape),)

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

    def meant(self, shapes: tuple[Shape, ...]) -> Mapping[str, object]:
        return {
            **({"stride": self.kernel} if self.stride is None else {}),
            "pad": collapse(self._pads(shapes[0])),
        }

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        return grouped(self.out, channels("upconv", shapes[0]), self.groups)

    def caption(self, rank: int = 2) -> str:
        kernel, up = self.kernel, self.kernel if self.stride is None else self.stride
        text = window_caption("upconv", kernel, 1, rank, str(self.out), self.dilation, self.groups)
        return text if up == 1 else f"{text}, by {times(up) if isinstance(up, tuple) else up}"

    @classmethod
    def is_in_pytorchs_order(cls, values: Sequence[object], channels: Dim) -> bool:
        return super().is_in_pytorchs_order(values, channels) and kernel_is_odd(values)

    def transposed_groups(self) -> int:
        return self.groups

    def copies(self, shapes: tuple[Shape, ...]) -> Copies:
        return Copies(transposed=True)

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        (shape,), (output,) = shapes, outputs
        sizes, window = self.weights((shape,))[0].shape, self.window((shape,))
        kernel, stride, dilation = window.kernel, window.scale, window.dilation
        axes, taps, painted = INDICES[len(kernel)], TAPS[len(kernel)], "pqr"[: len(kernel)]
        places = ", ".join(
            f"{multiple(s, a)} + {multiple(d, u)}{signed(-p)} = {q}"
            for a, u, s, d, p, q in zip(axes, taps, stride, dilation, self._pads(shape), painted, strict=True)
        )
        weight, bias = f"w[c, o, {', '.join(taps)}]", " + b[o]" if self.bias else ""
        yield Section(
            "formula",
            f"y[o, {', '.join(painted)}] = Σ {weight} · x[c, {', '.join(axes)}]{bias}",
            f"over {'the channels c of its group' if self.groups > 1 else 'all channels c'}, and where {places}",
            "so every element paints the kernel, times itself, onto the output; what overlaps adds up",
            *strokes(kernel, stride, dilation),
        )
        lines = [
            f"{name}: ({n} - 1) · {s} + {d} · ({k} - 1) + 1{signed(o - (n - 1) * s - d * (k - 1) - 1)} = {o}"
            for name, n, o, (k, s, d) in zip(
                AXES[len(kernel)], shape[1:], output[1:], self._numbers(shape), strict=True
            )
        ]
        more = ["(last: output_pad less the padding on both sides)"] if self.pad or self.output_pad else []
        yield Section("output size", *lines, *more)
        number = f"{' × '.join(map(str, sizes))} = {math.prod(sizes):,} numbers{biases(self.bias, output[0])}"
        yield Section("weights", number, against_full(sizes, shape, output))
        yield from self.matrix(shape, output).section()

    def matrix(self, shape: Sizes, output: Sizes) -> "Matrix":
        from archdsl.ops.matrix import Matrix  # only for explanations and pictures

        weights = math.prod(self.weights((shape,))[0].shape)
        return Matrix(shape, output, self.window((shape,)), weights, self.groups, transposed=True)
