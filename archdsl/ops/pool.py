"""Poolings: the maximum or mean of each window, of a grid of a given size, or of everything."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import ClassVar

from archdsl import dims
from archdsl.common.units import counted
from archdsl.dims import Dim
from archdsl.ops import helpers, index_maps
from archdsl.ops.base import Kept, Operation, Rules, Saves, Shape, Window, example, renamed
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Pad, Size, Switch, shape_text, times
from archdsl.ops.forms import ModuleForm
from archdsl.ops.formulas import AXES, Section, Sizes, same_upper_lines, window_lines
from archdsl.ops.sizes import collapse, each, ints, options, output_fits, positional, rank_name, spatial
from archdsl.ops.windows import (
    ceil_steps,
    does_not_fit,
    padding,
    same_upper_pads,
    smallest_covered,
    smallest_seen,
    steady,
    steps,
    too_much,
    window_caption,
    window_pads,
)
from archdsl.ops.worked import worked


class Pool(Operation):
    """The base of poolings with a sliding window."""

    family = "pooling"
    helper_names: ClassVar[tuple[str, ...]] = ("same_upper_pads",)
    taken: ClassVar[str]
    """The reduction of each window."""
    pytorch_names = renamed(kernel="kernel_size", pad="padding", ceil="ceil_mode", count_pad="count_include_pad")
    channelwise = True
    own = True
    stated: ClassVar[Mapping[str, str | None]] = {"stride": "kernel"}

    def _settings(self) -> tuple[Size, Size | None, Pad, Size, bool]:
        """Kernel, stride, padding, dilation, and whether the last window may extend past the end."""
        raise NotImplementedError

    def _numbers(self, shape: Shape) -> list[tuple[int, int, int]]:
        """Kernel, stride and dilation of each spatial axis."""
        kernel, stride, _, dilation, _ = self._settings()
        kernels = each(kernel, shape, "kernel")
        strides = kernels if stride is None else each(stride, shape, "stride")
        return list(zip(kernels, strides, each(dilation, shape, "dilation"), strict=True))

    def _pads(self, shape: Shape) -> tuple[int, ...] | None:
        """The padding of each axis; None for a `same_upper` that depends on the size."""
        kernel, stride, dilation = zip(*self._numbers(shape), strict=True)
        pad = self._settings()[2]
        if pad == "same_upper":
            pads = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
            return pads if steady(kernel, stride, dilation) and too_much(pads, kernel) is None else None
        return padding(pad, kernel, dilation, shape)

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        sizes = spatial(self.name, shape)
        numbers = self._numbers(shape)
        _, _, pad, _, ceil = self._settings()
        if pad == "same_upper":
            for n, m in zip(sizes, numbers, strict=True):
                self._require(n, smallest_seen(*m), shape, rules, "kernel", "an odd kernel")
            return ((shape[0], *(dims.ceil_div(n, s) for n, (_, s, _) in zip(sizes, numbers, strict=True))),)
        pads = self._pads(shape)
        assert pads is not None
        wrong = too_much(pads, [k for k, _, _ in numbers])
        if wrong is not None:
            p, k = wrong
            raise OperationError(
                f"`{self.name}` cannot pad {p}: that is more than half of its kernel of {k}, so a window could "
                "contain only padding",
                parameter="pad",
                help=f"use at most `pad = {k // 2}`",
            )
        out = []
        for axis, (n, p, m) in enumerate(zip(sizes, pads, numbers, strict=True)):
            o = ceil_steps(n, p, *m) if ceil else steps(n, 2 * p, *m)
            if not (isinstance(o, int) and o >= 1):
                output_fits(rules, o, *does_not_fit(self.name, shape, axis, pads, numbers))
            self._require(n, smallest_covered(*m, p, ceil), shape, rules, "pad", "no padding")
            out.append(o)
        return ((shape[0], *out),)

    def _require(self, size: dims.Dim, least: int, shape: Shape, rules: Rules, parameter: str, instead: str) -> None:
        """Demands a size at which no window has only padding."""
        if isinstance(size, int) and size >= least:
            return
        padding = " with `pad = same_upper`" if self._settings()[2] == "same_upper" else ""
        rules.require(
            dims.at_least(size, least),
            f"`{self.name}`{padding} needs sizes of at least {least} for this kernel and dilation, so that no window "
            f"contains only padding; the tensor is {shape_text(shape)}",
            parameter=parameter,
            inputs=(0,),
            help=f"use a smaller dilation, or {instead}",
        )

    def _form(self, shape: Shape, plain: str, helper: helpers.Helper, *more: tuple[str, object, object]) -> ModuleForm:
        """nn.MaxPool2d and the like, or the helper if `same_upper` pads depending on the input size."""
        kernel, stride, dilation = zip(*self._numbers(shape), strict=True)
        pads = self._pads(shape)
        arguments = (
            *positional(kernel_size=collapse(kernel)),
            *options(
                ("stride", collapse(stride), collapse(kernel)),
                ("padding", collapse(pads or (0,)), 0),
                ("dilation", collapse(dilation), 1),
                *more,
            ),
        )
        if pads is None:
            return ModuleForm(helper.name, arguments, helper=helper.source)
        return ModuleForm(plain, arguments)

    def meant(self, shapes: tuple[Shape, ...]) -> Mapping[str, object]:
        kernel, stride, *_ = self._settings()
        pads = self._pads(shapes[0])
        return {
            **({"stride": kernel} if stride is None else {}),
            **({"pad": collapse(pads)} if pads is not None else {}),
        }

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        kernel, stride, dilation = zip(*self._numbers(shapes[0]), strict=True)
        pads = window_pads(self._settings()[2], kernel, stride, dilation, shapes[0])
        return Window(kernel, stride, dilation, pads)

    def _padded(self, shape: Shape) -> Shape:
        """The size including padding that is added before PyTorch's pooling."""
        if self._pads(shape) is not None:
            return shape
        pads = [sum(same_upper_pads(n, *m)) for n, m in zip(shape[1:], self._numbers(shape), strict=True)]
        return (shape[0], *(n + p for n, p in zip(shape[1:], pads, strict=True)))

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        padded = self._padded(shapes[0])
        return Saves(inputs=True) if padded == shapes[0] else Saves(more=(Kept(padded, always=True),))

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((math.prod(k for k, _, _ in self._numbers(shapes[0])), outputs[0]),)

    def caption(self, rank: int = 2) -> str:
        kernel, stride, _, dilation, _ = self._settings()
        return window_caption(self.name, kernel, kernel if stride is None else stride, rank, "", dilation)

    def decides_size(self) -> bool:
        _, _, pad, _, ceil = self._settings()
        return ceil or pad == "same_upper"

    def sizes_by_cases(self, shapes: tuple[Shape, ...]) -> tuple[Dim, ...]:
        """The sizes for which a window that extends past the end would start outside, and is dropped."""
        _, _, pad, _, ceil = self._settings()
        if not ceil or pad == "same_upper":
            return ()
        numbers, pads = self._numbers(shapes[0]), self.window(shapes).pad
        axes = zip(shapes[0][1:], numbers, pads, strict=True)
        return tuple(n for n, (k, s, d), p in axes if d * (k - 1) < p + s - 1)

    def take(self, window: Sequence[int]) -> float:
        """The value that a window of these numbers becomes."""
        raise NotImplementedError

    def padding_line(self) -> str:
        """How padding counts."""
        raise NotImplementedError

    def gradient_share(self, size: int) -> str:
        """How a window of that many elements distributes its gradient."""
        raise NotImplementedError

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        window = self.window(tuple(shapes))
        yield f"y = {self.taken} of each window of {times(window.kernel)}, channel by channel"
        apart = [(k - 1) * d + 1 - s for k, d, s in zip(window.kernel, window.dilation, window.stride, strict=True)]
        moved = f"the window moves by {times(window.stride)}"
        if all(a == 0 for a in apart):
            yield f"{moved}: every element is in one window"
        elif any(a > 0 for a in apart):
            yield f"{moved}: neighbouring windows overlap"
        else:
            yield f"{moved}: between the windows elements are left out"
        if any(window.pad):
            yield self.padding_line()
        share = self.gradient_share(math.prod(window.kernel))
        yield f"nothing is learned; of the elements of a window {share} its gradient"

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        yield from super().explanation(shapes, outputs)
        (shape,), window = shapes, self.window(tuple(shapes))
        _, _, pad, _, ceil = self._settings()
        if pad == "same_upper":
            yield Section("output size", *same_upper_lines(shape, window.stride, outputs[0]))
            return
        lines = window_lines(shape, self._numbers(shape), window.pad, outputs[0], "⌈⌉" if ceil else "⌊⌋")
        more = ["(a window that would start behind the image is left out)"] if ceil else []
        yield Section("output size", *lines, *more)
        if digits := [*worked(self._numbers(shape), self.take)]:
            yield Section("with numbers, in the middle of an image", *digits)


class Maxpool(Pool):
    """The maximum of each window.

    [C, …] → [C, …]: each spatial size n becomes ⌊(n + 2·pad − dilation·(kernel − 1) − 1) / stride⌋ + 1. With `ceil =
    true` the division rounds up, so that the last window may extend past the end, but it must start inside. With `pad =
    same_upper` it is ⌈n / stride⌉. Padding is never the maximum.

    Errors: a flat tensor; a kernel larger than the padded input; padding of more than half the kernel.

    Ranzato et al., 2007; Krizhevsky et al., 2012 (overlapping).
    """

    name = "maxpool"
    aliases = ("maxpooling",)
    taken = "the largest"

    kernel: Size
    stride: Size | None = None
    pad: Pad = 0
    dilation: Size = 1
    ceil: Switch = False

    examples = (
        example((3, 8, 9), kernel=2),
        example((3, 9, 8), kernel=3, stride=2, pad=1),
        example((3, 9, 8), kernel=3, stride=2, ceil=True),
        example((3, 6, 7), kernel=2, stride=3, pad=1, ceil=True),
        example((3, 11), kernel=3, stride=2, dilation=2),
        example((2, 4, 5, 6), kernel=(1, 2, 2)),
        example((3, 7, 8), kernel=3, stride=1, pad="same"),
        example((3, 7, 8), kernel=3, stride=2, pad="same_upper"),
        example((3, 7, 8), kernel=3, stride=1, pad="same_upper"),
        example((3, 9), kernel=2, stride=3, dilation=2, pad="same_upper"),
        example((2, 5, 6, 7), kernel=(2, 1, 2), stride=(2, 1, 1), pad="same_upper"),
    )

    def _settings(self) -> tuple[Size, Size | None, Pad, Size, bool]:
        return self.kernel, self.stride, self.pad, self.dilation, self.ceil

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        (shape,) = shapes
        rank = rank_name(shape)
        ceil = self.ceil and self.pad != "same_upper"
        form = self._form(shape, f"nn.MaxPool{rank}", helpers.max_pool(rank), ("ceil_mode", ceil, False))
        if form.helper is None and len(shape) == 2 and not isinstance(shape[1], int):
            return replace(form, constructor=helpers.MAX_POOL_FREE.name, helper=helpers.MAX_POOL_FREE.source)
        return form

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        found = super().saves(shapes, outputs, inplace)
        return Saves(found.inputs, more=(*found.more, Kept(outputs[0], "int64", always=True)))

    def take(self, window: Sequence[int]) -> float:
        return max(window)

    def padding_line(self) -> str:
        return "padding never wins: it counts as -∞"

    def gradient_share(self, size: int) -> str:
        return "the largest gets"


class Avgpool(Pool):
    """The mean of each window.

    [C, …] → [C, …], with the sizes of `maxpool`. `count_pad = false` excludes the padding from the means.

    Errors: a flat tensor; a kernel larger than the padded input; padding of more than half the kernel.
    """

    name = "avgpool"
    aliases = ("averagepooling",)
    taken = "the mean"
    is_linear = True

    kernel: Size
    stride: Size | None = None
    pad: Pad = 0
    ceil: Switch = False
    count_pad: Switch = True

    examples = (
        example((3, 8, 9), kernel=2),
        example((3, 9, 8), kernel=3, stride=2, pad=1, count_pad=False),
        example((3, 9, 8), kernel=3, stride=2, ceil=True),
        example((3, 11), kernel=4, stride=3, pad=2),
        example((2, 4, 5, 6), kernel=(1, 2, 2)),
        example((3, 7, 8), kernel=3, stride=2, pad="same_upper"),
        example((3, 7, 8), kernel=(2, 3), stride=2, pad="same_upper", count_pad=False),
        example((2, 3, 4, 5), kernel=3, stride=1, pad=1),
        example((2, 3, 4, 5), kernel=3, stride=1, pad="same_upper"),
    )

    def _settings(self) -> tuple[Size, Size | None, Pad, Size, bool]:
        return self.kernel, self.stride, self.pad, 1, self.ceil

    def _pads(self, shape: Shape) -> tuple[int, ...] | None:
        # See infer: in 3-d padding must be added before the pooling.
        return None if self.pad == "same_upper" and len(shape) == 4 else super()._pads(shape)

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        results = super().infer(shapes, rules)
        (shape,) = shapes
        if len(shape) == 4 and self.pad != "same_upper":
            # PyTorch's avg_pool3d, unlike its 1-d and 2-d forms, requires the kernel to fit without the padding.
            for n, (kernel, _, _) in zip(shape[1:], self._numbers(shape), strict=True):
                rules.require(
                    dims.at_least(n, kernel),
                    f"`avgpool` in 3-d needs sizes of at least its kernel, {kernel}, without the padding; the "
                    f"size here is {dims.text(n)}, the tensor is {shape_text(shape)}",
                    parameter="kernel",
                    inputs=(0,),
                    help="use a smaller kernel, or pad before it with `pad(n)`",
                )
        return results

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        rank = rank_name(shapes[0])
        moving = self._pads(shapes[0]) is None
        return self._form(
            shapes[0],
            f"nn.AvgPool{rank}",
            helpers.avg_pool(rank, count_pad=self.count_pad),
            ("ceil_mode", self.ceil and self.pad != "same_upper", False),
            ("count_include_pad", self.count_pad or moving, True),
        )

    def take(self, window: Sequence[int]) -> float:
        return mean(window)

    def padding_line(self) -> str:
        return "padding counts as zeros" if self.count_pad else "padding is left out of the means"

    def gradient_share(self, size: int) -> str:
        return f"each gets 1/{size} of"


class AdaptivePool(Operation):
    """The base of poolings to a given size."""

    family = "pooling"
    pytorch_names = renamed(size="output_size")
    channelwise = True
    own = True
    taken: ClassVar[str] = "the mean"
    """The reduction of each window."""
    module: ClassVar[str]

    def _size(self, shape: Shape) -> tuple[int, ...]:
        raise NotImplementedError

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        spatial(self.name, shape)
        return ((shape[0], *self._size(shape)),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        size = collapse(self._size(shapes[0]))
        return ModuleForm(f"nn.{self.module}{rank_name(shapes[0])}", positional(output_size=size))

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[index_maps.IndexMap, ...]]:
        axes = enumerate(zip(ints(shapes[0][1:]), self._size(shapes[0]), strict=True))
        return {0: tuple(index_maps.gridded(a, n, o) for a, (n, o) in axes)}

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, shapes[0]),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        if "Max" in self.module:
            return Saves(inputs=True, more=(Kept(outputs[0], "int64", always=True),))
        # PyTorch computes the mean if one element is left, which saves only the size.
        return Saves(inputs=set(self._size(shapes[0])) != {1})

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        (shape,), (output,) = shapes, outputs
        if math.prod(output[1:]) == 1:
            elements = counted(math.prod(shape[1:]), "element")
            yield Section("formula", f"y[c] = {self.taken} of the {elements} of channel c; nothing is learned")
            yield Section("output size", "one element a channel, whatever comes in")
            return
        windows = (
            f"{name}: window i of {o} goes from ⌊i · {n} / {o}⌋ up to ⌈(i + 1) · {n} / {o}⌉"
            for name, n, o in zip(AXES[len(shape) - 1], shape[1:], output[1:], strict=True)
        )
        yield Section("formula", f"y = {self.taken} of each window, channel by channel; nothing is learned", *windows)
        yield Section("output size", "what is asked for, whatever comes in: the windows adapt to it")


class AdaptiveAvgpool(AdaptivePool):
    """The mean of each window of a grid of `size` windows that covers the input evenly.

    [C, …] → [C, size]; window i of an axis of size n spans ⌊i·n / size⌋ to ⌈(i + 1)·n / size⌉.

    Errors: a flat tensor.
    """

    name = "adaptive_avgpool"
    is_linear = True
    module = "AdaptiveAvgPool"

    size: Size

    examples = (
        example((3, 8, 9), size=6),
        example((3, 9, 7), size=(2, 3)),
        example((3, 11), size=4),
        example((2, 4, 5, 6), size=(1, 2, 9)),
    )

    def _size(self, shape: Shape) -> tuple[int, ...]:
        return each(self.size, shape, "size")

    def caption(self, rank: int = 2) -> str:
        return f"{self.name} {times((self.size,) * rank if isinstance(self.size, int) else self.size)}"


class AdaptiveMaxpool(AdaptiveAvgpool):
    """The maximum of each window of a grid of `size` windows that covers the input evenly.

    [C, …] → [C, size], with the windows of `adaptive_avgpool`.

    Errors: a flat tensor.
    """

    name = "adaptive_maxpool"
    taken = "the largest"
    is_linear = False
    module = "AdaptiveMaxPool"


class GlobalAvgpool(AdaptivePool):
    """The mean of each channel.

    [C, …] → [C, 1, …]: the spatial axes stay, each of size 1; `flatten` removes them.

    Errors: a flat tensor.

    Lin et al., Network in network, 2013.
    """

    name = "global_avgpool"
    aliases: ClassVar[tuple[str, ...]] = ("globalaveragepool", "globalaveragepooling")
    is_linear = True
    module = "AdaptiveAvgPool"

    examples = (example((3, 8, 9)), example((3, 11)), example((2, 4, 5, 6)))

    def _size(self, shape: Shape) -> tuple[int, ...]:
        return (1,) * (len(shape) - 1)


class GlobalMaxpool(GlobalAvgpool):
    """The maximum of each channel.

    [C, …] → [C, 1, …]: the spatial axes stay, each of size 1; `flatten` removes them.

    Errors: a flat tensor.
    """

    name = "global_maxpool"
    aliases = ("globalmaxpooling",)
    taken = "the largest"
    is_linear = False
    module = "AdaptiveMaxPool"
