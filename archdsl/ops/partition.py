"""The cut of a map into windows or sparse grids, each a sample of its own, and the join that undoes it.

Specs write a cut with a body, `windows(7) { … }`; the join is at the end of the body. Everything between meets the
windows as its samples: `Node.windows` of the graph says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from archdsl import dims
from archdsl.common.units import counted
from archdsl.dims import Dim
from archdsl.ops import index_maps, partition_helpers
from archdsl.ops.base import Operation, Rules, Shape, example
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import Margin, Size, Switch, shape_text, shown, times
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.helpers import Helper
from archdsl.ops.index_maps import IndexMap
from archdsl.ops.sizes import collapse, each, spatial


class Cut(Operation):
    """The base of cuts: a map becomes many samples of one size."""

    family = "windows"
    cuts = True
    masks = True
    needs_batches = True
    is_linear = True
    channelwise = True
    layout = "any"

    size: Size

    @staticmethod
    def to(last: bool) -> Helper:
        """The function of a generated file that cuts, for either order of the axes."""
        raise NotImplementedError

    @staticmethod
    def back(last: bool) -> Helper:
        """The function that joins."""
        raise NotImplementedError

    @property
    def is_padded(self) -> bool:
        """Whether zeros bring sizes up to a multiple."""
        raise NotImplementedError(type(self).__name__)

    @property
    def is_shifted(self) -> bool:
        """Whether the map is rolled before the cut."""
        return False

    @property
    def may_shift(self) -> bool:
        """Whether the spec gives a shift, which may be 0: calls of one block with different shifts are alike then."""
        return False

    def shifts(self, shape: Shape) -> tuple[int, ...]:
        """By how much the map is rolled along each axis of a tensor."""
        return (0,) * (len(shape) - 1)

    def each_size(self, shape: Shape) -> tuple[int, ...]:
        """The size of a window along each axis of a tensor."""
        return each(self.size, shape, "size")

    def counts(self, shape: Shape) -> tuple[Dim, ...]:
        """The number of windows along each axis of a tensor."""
        return tuple(dims.ceil_div(n, s) for n, s in zip(shape[1:], self.each_size(shape), strict=True))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        lengths, sizes = spatial(self.name, shape), self.each_size(shape)
        for length, size in zip(lengths, sizes, strict=True):
            if not self.is_padded:
                rules.require(
                    dims.divisible(length, size),
                    f"`{self.name}` of {times(sizes)} needs multiples of {size}: a size is {dims.text(length)}; the "
                    f"tensor is {shape_text(shape)}",
                    parameter="size",
                    inputs=(0,),
                    help=f"write `{self.name}({shown(self.size)}, pad)` to bring sizes up to multiples, and back",
                    mends=tuple(self._mends(lengths)),
                )
        self.counts(shape)  # raises DimError where a number of windows cannot be said
        return ((shape[0], *sizes),)

    def _mends(self, lengths: Sequence[Dim]) -> Iterator[Mend]:
        yield Mend(
            "write the word `pad`: zeros bring the sizes up to multiples, and are cut off again", {"pad": "true"}
        )
        known = [n for n in lengths if isinstance(n, int)]
        if len(known) == len(lengths) and isinstance(self.size, int):
            size = next((s for s in range(self.size, 1, -1) if all(n % s == 0 for n in known)), 1)
            if size > 1:
                yield Mend(f"use a size that divides them: `{size}`", {"size": str(size)})

    def arguments(self, shape: Shape) -> tuple[Argument, ...]:
        return (Argument("size", collapse(self.each_size(shape))),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(shapes[0], last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(shapes[0], last=True)

    def form(self, shape: Shape, *, last: bool) -> FunctionForm:
        helper, arguments = self.to(last), self.arguments(shape)
        return FunctionForm(f"{helper.name}({{0}}, {_holes(arguments)})", arguments, helper=helper.source)

    def form_back(self, shape: Shape, *, last: bool) -> FunctionForm:
        """The form of the join, for the size of the whole map."""
        helper, arguments = self.back(last), self.arguments(shape)
        return FunctionForm(f"{helper.name}({{0}}, {{1}}, {_holes(arguments)})", arguments, helper=helper.source)

    def padded(self, axis: int, shape: Sizes) -> int:
        """The size of an axis of the map that the windows cover; all sizes are ints."""
        size = self.each_size(shape)[axis]
        return -(-shape[1 + axis] // size) * size

    def decides_size(self) -> bool:
        return self.is_padded

    def order(self, axis: int, shape: Sizes) -> list[int]:
        """The positions of an axis of the map, as the windows have them one behind the other; all sizes are ints."""
        raise NotImplementedError

    def offset(self, axis: int, shape: Sizes) -> int | None:
        """By how much these positions are those of the map, rolled; None if windows take them from afar."""
        return None

    def caption(self, rank: int = 2) -> str:
        return f"{self.name} {times((self.size,) * rank if isinstance(self.size, int) else self.size)}"


def _both(*names: str) -> tuple[str, ...]:
    """The names of functions for the channels first and last."""
    return tuple(f"{name}{end}" for name in names for end in ("", "_last"))


def _holes(arguments: Sequence[Argument]) -> str:
    return ", ".join(f"{{{a.name}}}" for a in arguments)


class Windows(Cut):
    """The body meets every window of a map as a sample of its own; what flows out is put together again.

    `windows(7) { … }` cuts [C, H, W] into windows [C, 7, 7]; a size such as 8x4 has a number for each axis. With the
    word `pad`, `windows(7, pad) { … }`, zeros behind the map bring its sizes up to multiples, and are cut off at the
    end; without it the window must divide the sizes. A `shift` rolls the map by so many positions before the cut, and
    back after the join, except along an axis of a single window.

    Errors: a flat tensor; sizes that the window does not divide; a shift that is not smaller than the window.

    Liu et al., Swin Transformer, 2021.
    """

    name = "windows"
    to = staticmethod(partition_helpers.to_windows)
    back = staticmethod(partition_helpers.from_windows)
    helper_names = ("per_axis", *_both("fitted", "rolled", "to_windows", "from_windows", "mask_strangers"))

    shift: Margin | None = None
    pad: Switch = False

    examples = (
        example((3, 4, 6), size=2),
        example((3, 4, 6), size=(4, 3)),
        example((3, 5, 7), size=2, shift=1, pad=True),
        example((3, 8), size=4, shift=2),
        example((1, 2, 4, 6), size=2, shift=(0, 1, 1)),
        example((3, 5, 5), size=7, shift=3, pad=True),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        found = super().infer(shapes, rules)
        for size, shift in zip(self.each_size(shapes[0]), self.shifts(shapes[0]), strict=True):
            if shift >= size:
                raise OperationError(
                    f"`shift` must be smaller than the window: {shift} is not smaller than {size}",
                    parameter="shift",
                    help=f"half of the window is usual: `shift = {size // 2}`",
                )
        return found

    def arguments(self, shape: Shape) -> tuple[Argument, ...]:
        return (*super().arguments(shape), Argument("shift", collapse(self.shifts(shape)), 0))

    def order(self, axis: int, shape: Sizes) -> list[int]:
        length = self.padded(axis, shape)
        return [(i + self.offset(axis, shape)) % length for i in range(length)]

    def offset(self, axis: int, shape: Sizes) -> int:
        size, shift = self.each_size(shape)[axis], self.shifts(shape)[axis]
        return shift if shape[1 + axis] > size else 0

    def caption(self, rank: int = 2) -> str:
        shift = self.shift if isinstance(self.shift, tuple) else (self.shift,)
        return super().caption(rank) + (f", shift {times(shift)}" if self.is_shifted else "")

    @property
    def is_padded(self) -> bool:
        return self.pad

    @property
    def is_shifted(self) -> bool:
        return any(self.shift) if isinstance(self.shift, tuple) else bool(self.shift)

    @property
    def may_shift(self) -> bool:
        return self.shift is not None

    def shifts(self, shape: Shape) -> tuple[int, ...]:
        return each(self.shift or 0, shape, "shift")

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        counts = [-(-n // s) for n, s in zip(shapes[0][1:], outputs[0][1:], strict=True)]
        if self.is_shifted:
            yield f"the map is rolled by {shown(self.shift)}: what leaves on one side comes in on the other"
        yield f"window ({', '.join('ijk'[: len(counts)])}) is a sample of its own: {times(counts)} windows"
        if any(n % s for n, s in zip(shapes[0][1:], outputs[0][1:], strict=True)):
            up = times([c * s for c, s in zip(counts, outputs[0][1:], strict=True)])
            yield f"zeros behind: {times(shapes[0][1:])} → {up}"


class Grid(Cut):
    """The body meets every sparse grid of a map as a sample of its own; what flows out is put together again.

    `grid(7) { … }` cuts [C, H, W] into H / 7 · W / 7 grids [C, 7, 7]: each holds the positions that are a multiple of
    H / 7 and W / 7 apart, so that together they reach over the whole map. With the word `pad`, `grid(7, pad) { … }`,
    zeros behind the map bring its sizes up to multiples, and are cut off at the end.

    Errors: a flat tensor; sizes that the grid does not divide.

    Tu et al., MaxViT: multi-axis vision transformer, 2022.
    """

    name = "grid"
    to = staticmethod(partition_helpers.to_grids)
    back = staticmethod(partition_helpers.from_grids)
    helper_names = ("per_axis", *_both("fitted", "to_grids", "from_grids"))

    pad: Switch = False

    examples = (
        example((3, 4, 6), size=2),
        example((3, 4, 6), size=(4, 3)),
        example((3, 5, 7), size=2, pad=True),
        example((3, 8), size=4),
        example((1, 2, 4, 6), size=2),
    )

    @property
    def is_padded(self) -> bool:
        return self.pad

    def order(self, axis: int, shape: Sizes) -> list[int]:
        apart = self.padded(axis, shape) // self.each_size(shape)[axis]
        return [position for first in range(apart) for position in range(first, self.padded(axis, shape), apart)]

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        counts = [-(-n // s) for n, s in zip(shapes[0][1:], outputs[0][1:], strict=True)]
        yield f"each grid holds positions {times(counts)} apart: {counted(counts[0], 'grid')} along the first axis"


class Join(Operation):
    """Puts windows together again: the end of a `windows` or `grid` body. Of the second input it takes the size."""

    name = "join"
    family = "windows"
    joins = True
    layout = "any"
    inputs = "many"
    is_linear = True
    channelwise = True
    sized_by = (1,)
    examples = ()

    cut: Cut

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        windows, whole = shapes
        sizes = self.cut.each_size(whole)
        if windows[1:] != sizes:
            raise OperationError(
                f"the body of `{self.cut.name}` must keep the size of a window, {times(sizes)}, to be put together; "
                f"here {shape_text(windows)} flows out",
                inputs=(0,),
                help="give its convolutions and poolings `pad = same` and a stride of 1",
            )
        return ((windows[0], *whole[1:]),)

    @property
    def is_join(self) -> bool:
        return False  # it computes from one tensor

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.cut.form_back(shapes[1], last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.cut.form_back(shapes[1], last=True)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {0: tuple(map(index_maps.shifted, range(len(outputs[0]) - 1)))}

    def decides_size(self) -> bool:
        return self.cut.is_padded

    def caption(self, rank: int = 2) -> str:
        return f"join {self.cut.name}"


class Strangers(Operation):
    """Keeps apart what the roll of a shifted map has brought together: -∞ for the scores of such positions.

    Of the first input it takes the size; a second one is a bias [heads, T, T] of the scores, to which it adds.
    """

    name = "strangers"
    family = "windows"
    inputs = "any"
    implied = True
    drawn = False
    masks = True
    is_linear = True
    channelwise = True
    sized_by = (0,)
    layout = "any"
    helper_names = _both("mask_strangers")
    examples = ()

    cut: Cut

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        count = prod(self.cut.each_size(shapes[0]))
        return (shapes[1] if len(shapes) > 1 else (1, count, count),)

    def may_be_none(self, shapes: tuple[Shape, ...]) -> bool:
        return len(shapes) == 1 and not self.cut.is_shifted

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(shapes, last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(shapes, last=True)

    def form(self, shapes: tuple[Shape, ...], *, last: bool) -> FunctionForm:
        more = ", {1}" if len(shapes) > 1 else ""
        arguments = (
            Argument("size", collapse(self.cut.each_size(shapes[0]))),
            Argument("shift", collapse(self.cut.shifts(shapes[0]))),
        )
        helper = partition_helpers.mask_strangers(last)
        return FunctionForm(f"{helper.name}({{0}}, {{size}}, {{shift}}{more})", arguments, helper=helper.source)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {i: (index_maps.shifted(0), index_maps.shifted(1)) for i in range(1, len(shapes))}

    def caption(self, rank: int = 2) -> str:
        return "mask strangers"


BLOCKS: Mapping[str, type[Cut]] = {"windows": Windows, "grid": Grid}
"""The cuts, by the word with which a spec writes them."""
