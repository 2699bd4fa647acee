"""Operations that bring spatial sizes together, or change them at the edges."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from archdsl import dims
from archdsl.dims import Dim
from archdsl.ops import helpers, index_maps, partition_helpers
from archdsl.ops.base import Operation, Rules, Saves, Shape, Window, example
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import Margin, Size, shape_text, shown, times
from archdsl.ops.forms import Argument, FunctionForm, ModuleForm
from archdsl.ops.formulas import OUTSIDE, Sizes
from archdsl.ops.merge import several
from archdsl.ops.sizes import collapse, each, ints, positional, rank_name, spatial

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""PyTorch's name of linear interpolation, by the number of spatial axes."""


class Align(Operation):
    """Makes the spatial sizes of parallel tensors equal; each keeps its channels.

    `crop` crops each around its centre to the smallest, `pad` pads with zeros to the largest, `resize` interpolates
    (bilinear) to the first. An odd row or column is cropped from, or padded at, the end.

    Errors: a flat tensor; tensors of different rank.

    Ronneberger et al., U-Net, 2015 (crop).
    """

    name = "align"
    family = "align"
    aligns = True
    is_linear = True
    helper_names = (
        helpers.ALIGN_CROP.name,
        helpers.ALIGN_PAD.name,
        *(helpers.align_resize(m).name for m in LINEAR.values()),
    )
    channelwise = True
    inputs = "many"
    needs_batches = sys.maxsize

    mode: Literal["crop", "pad", "resize"] = "crop"

    examples = (
        example((3, 8, 9), (2, 5, 11)),
        example((3, 8, 9), (2, 5, 11), (1, 7, 9), mode="pad"),
        example((3, 8, 9), (2, 5, 11), mode="resize"),
        example((3, 8), (2, 5)),
        example((3, 8), (2, 5), mode="resize"),
        example((1, 4, 5, 6), (1, 5, 5, 3), mode="resize"),
        example((1, 4, 5, 6), (1, 5, 5, 3), mode="pad"),
    )

    def results(self, count: int) -> int:
        return count

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        several(self.name, shapes)
        for shape in shapes:
            spatial(self.name, shape)
        axes = list(zip(*(s[1:] for s in shapes), strict=True))
        size: tuple[Dim, ...]
        if self.mode == "resize":
            size = shapes[0][1:]
        else:
            choose = dims.minimum if self.mode == "crop" else dims.maximum
            try:
                size = tuple(choose(*axis) for axis in axes)
            except dims.DimError as error:
                end = "smaller" if self.mode == "crop" else "larger"
                raise OperationError(
                    f"`align({self.mode})` cannot find the {end} of {' and '.join(map(shape_text, shapes))}: {error}",
                    parameter="mode",
                    inputs=tuple(range(len(shapes))),
                    help="give both sizes the same name in the `input`",
                    mends=[Mend("use `align(resize)`", {"mode": "resize"})],
                ) from None
        return tuple((s[0], *size) for s in shapes)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        helper = {
            "crop": helpers.ALIGN_CROP,
            "pad": helpers.ALIGN_PAD,
            "resize": helpers.align_resize(LINEAR[len(shapes[0]) - 1]),
        }[self.mode]
        return FunctionForm(f"{helper.name}({{all}})", results=len(shapes), helper=helper.source)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[index_maps.IndexMap, ...]]:
        axes = list(enumerate(zip(ints(shapes[result][1:]), ints(outputs[result][1:]), strict=True)))
        if self.mode == "resize" and result:
            return {result: tuple(index_maps.resampled(a, n, o, "linear") for a, (n, o) in axes)}
        # Crop or pad half of the difference before, rounded down.
        return {result: tuple(index_maps.shifted(a, (n - o) // 2 if n >= o else -((o - n) // 2)) for a, (n, o) in axes)}

    def shares(self, result: int) -> int | None:
        return result if self.mode == "crop" or (self.mode == "resize" and result == 0) else None

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        if self.mode != "resize":
            return ()
        return tuple((2 * 2 ** (len(o) - 1), o) for o in outputs[1:])

    def caption(self, rank: int = 2) -> str:
        return f"align {self.mode}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        how = {
            "crop": "each is cut around its centre to the smallest",
            "pad": "zeros are put around each, to the largest",
            "resize": "each is interpolated (linear) to the size of the first",
        }[self.mode]
        yield f"{how}: {'; '.join(times(s[1:]) for s in shapes)} → {times(outputs[0][1:])}"

    def decides_size(self) -> bool:
        return self.mode == "pad"


class Edges(Operation):
    """The base of operations at the edges of each spatial axis: `n` elements before it, and `after` behind it."""

    family = "align"
    is_linear = True
    channelwise = True

    def margins(self) -> tuple[int | tuple[int, ...], int | tuple[int, ...] | None]:
        """`n` and `after`."""
        raise NotImplementedError

    def sides(self, shape: Shape) -> list[tuple[int, int]]:
        """The numbers before and behind each spatial axis."""
        n, after = self.margins()
        before = each(n, shape, "n")
        return list(zip(before, before if after is None else each(after, shape, "after"), strict=True))

    def _sides_caption(self) -> str:
        n, after = self.margins()
        return shown(n) if after is None else f"{shown(n)}, {shown(after)} after"


class Crop(Edges):
    """Crops n elements from each side of each spatial axis.

    [C, …] → [C, …], each size 2n smaller; `1x3` crops 1 and 3. With `after`, `n` are cropped before each axis, and
    `after` behind it: `crop(0, after = 1)` crops the last row and column.

    Errors: a flat tensor; nothing would be left.
    """

    name = "crop"
    view = True

    n: Margin
    after: Margin | None = None

    stated: ClassVar[Mapping[str, str | None]] = {"after": "n"}

    examples = (
        example((3, 8, 9), n=2),
        example((3, 8, 9), n=(0, 1)),
        example((3, 8), n=3),
        example((1, 4, 5, 6), n=1),
        example((1, 4), n=0),
        example((3, 8, 9), n=(1, 0), after=2),
        example((3, 8), n=0, after=1),
    )

    def margins(self) -> tuple[int | tuple[int, ...], int | tuple[int, ...] | None]:
        return self.n, self.after

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        sizes = spatial(self.name, shape)
        out = tuple(size - a - b for size, (a, b) in zip(sizes, self.sides(shape), strict=True))
        for size, (a, b), left in zip(sizes, self.sides(shape), out, strict=True):
            cut = f"{a} on each side" if self.after is None else f"{a} before and {b} behind"
            rules.require(
                dims.at_least(left, 1),
                f"`crop` of {cut} removes all of a size of {dims.text(size)}; the tensor is {shape_text(shape)}",
                parameter="n",
                inputs=(0,),
                help="crop less",
            )
        return ((shape[0], *out),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        if self.after is not None:
            return self._uneven(shapes[0])
        margins = each(self.n, shapes[0], "n")
        names = ["n"] * len(margins) if isinstance(self.n, int) else [f"n{i}" for i in range(len(margins))]
        cuts = [f"{{{name}}}:-{{{name}}}" if n else ":" for name, n in zip(names, margins, strict=True)]
        arguments = tuple(Argument(name, n) for name, n in dict(zip(names, margins, strict=True)).items() if n)
        return FunctionForm(f"{{0}}[:, :, {', '.join(cuts)}]", arguments)

    def _uneven(self, shape: Shape) -> FunctionForm:
        cuts: list[str] = []
        given: list[Argument] = []
        for i, (before, after) in enumerate(self.sides(shape)):
            cuts.append((f"{{n{i}}}:" if before else ":") + (f"-{{after{i}}}" if after else ""))
            given += [Argument(name, n) for name, n in ((f"n{i}", before), (f"after{i}", after)) if n]
        return FunctionForm(f"{{0}}[:, :, {', '.join(cuts)}]", tuple(given))

    def keeps_channels(self) -> bool:
        return True

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        sides = self.sides(shapes[0])
        one = (1,) * len(sides)
        return Window(one, one, one, tuple(-before for before, _ in sides))

    def caption(self, rank: int = 2) -> str:
        return f"crop {self._sides_caption()}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"what is cut off gets no gradient: {times(shapes[0][1:])} → {times(outputs[0][1:])}"


class PadEdges(Edges):
    """Pads n elements on each side of each spatial axis.

    [C, …] → [C, …], each size 2n larger; `1x3` pads 1 and 3. With `after`, `n` are padded before each axis, and `after`
    behind it: `pad(2, after = 0) -> conv(8, 3, pad = valid)` is a causal convolution of a signal. `mode` selects the
    padding: `zeros`, the edge values (`replicate`), the mirrored interior (`reflect`), or the opposite side
    (`circular`).

    Errors: a flat tensor; `reflect` not smaller than the size, `circular` larger than it.
    """

    name = "pad"
    aliases = ("zeropad",)

    n: Margin
    mode: Literal["zeros", "replicate", "reflect", "circular"] = "zeros"
    after: Margin | None = None

    stated: ClassVar[Mapping[str, str | None]] = {"after": "n"}

    examples = (
        example((3, 8, 9), n=2),
        example((3, 8, 9), n=(0, 1), mode="reflect"),
        example((3, 8), n=3, mode="circular"),
        example((1, 4, 5, 6), n=(1, 2, 3), mode="replicate"),
        example((1, 4), n=0),
        example((3, 8), n=2, after=0),
        example((3, 8, 9), n=(1, 0), mode="replicate", after=(0, 2)),
    )

    def margins(self) -> tuple[int | tuple[int, ...], int | tuple[int, ...] | None]:
        return self.n, self.after

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        sides = self.sides(shape) if spatial(self.name, shape) else []
        if self.mode in ("reflect", "circular"):
            spare = 1 if self.mode == "reflect" else 0
            for size, n in zip(shape[1:], map(max, sides), strict=True):
                rules.require(
                    dims.at_least(size, n + spare),
                    f"`{self.mode}` cannot pad {n} where the size is {dims.text(size)}: it must be "
                    f"{'larger' if spare else 'at least as large'}; the tensor is {shape_text(shape)}",
                    parameter="n",
                    inputs=(0,),
                    help="use another `mode`, or pad less",
                    mends=[Mend(f"`mode = {m}` can", {"mode": m}) for m in ("replicate", "zeros")],
                )
        return ((shape[0], *(size + a + b for size, (a, b) in zip(shape[1:], sides, strict=True))),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        kind = {"zeros": "Zero", "replicate": "Replication", "reflect": "Reflection", "circular": "Circular"}[self.mode]
        sides = [n for pair in reversed(self.sides(shapes[0])) for n in pair]  # PyTorch counts axes from the last
        return ModuleForm(f"nn.{kind}Pad{rank_name(shapes[0])}", positional(padding=collapse(sides)))

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=self.mode in ("reflect", "replicate"))

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        sides = self.sides(shapes[0])
        one = (1,) * len(sides)
        return Window(one, one, one, tuple(before for before, _ in sides))

    def wraps(self) -> bool:
        return self.mode == "circular"

    def caption(self, rank: int = 2) -> str:
        return f"pad {self._sides_caption()}" + ("" if self.mode == "zeros" else f", {self.mode}")

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"outside of the image {OUTSIDE[self.mode]}: {times(shapes[0][1:])} → {times(outputs[0][1:])}"


class PadToMultiple(Operation):
    """Pads zeros behind each spatial axis, up to a multiple of `size`.

    [C, …] → [C, …]: each spatial size n becomes ⌈n / size⌉ · size; `1x2` has a number for each axis.

    Errors: a flat tensor.

    Liu et al., Swin transformer, 2021 (maps of odd size before patches are merged).
    """

    name = "pad_to_multiple"
    family = "align"
    is_linear = True
    channelwise = True
    layout = "any"
    helper_names = ("per_axis", "pad_to_multiple", "pad_to_multiple_last")

    size: Size

    examples = (
        example((3, 4, 5), size=2),
        example((3, 7), size=4),
        example((2, 3, 4, 5), size=(1, 3, 2)),
        example((3, 8, 4), size=(4, 2)),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        sizes = spatial(self.name, shape)
        multiples = each(self.size, shape, "size")
        return ((shape[0], *(dims.ceil_div(n, m) * m for n, m in zip(sizes, multiples, strict=True))),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(shapes[0], last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(shapes[0], last=True)

    def _form(self, shape: Shape, *, last: bool) -> FunctionForm:
        helper = partition_helpers.pad_to_multiple(last)
        size = Argument("size", collapse(each(self.size, shape, "size")))
        return FunctionForm(f"{helper.name}({{0}}, {{size}})", (size,), helper=helper.source)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[index_maps.IndexMap, ...]]:
        return {0: tuple(map(index_maps.shifted, range(len(outputs[0]) - 1)))}

    def decides_size(self) -> bool:
        return True

    def caption(self, rank: int = 2) -> str:
        return f"pad to multiples of {shown(self.size)}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"zeros behind, up to multiples of {shown(self.size)}: {times(shapes[0][1:])} → {times(outputs[0][1:])}"
