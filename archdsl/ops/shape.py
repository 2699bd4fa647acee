"""Operations that reshape a tensor."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from archdsl import dims
from archdsl.dims import Dim, Expr
from archdsl.ops import index_maps
from archdsl.ops.base import Operation, Rules, Shape, Window, example
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import LARGEST, Count, Index, shape_text, shown
from archdsl.ops.forms import Argument, FunctionForm, ModuleForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap, grouped
from archdsl.ops.sizes import channels, ints, known_all
from archdsl.ops.validation import Accepts

Entries = Annotated[
    tuple[Annotated[int, Accepts(ge=-1, le=LARGEST)] | Expr, ...],
    Accepts("a list of ints of at least 1, one of which may be -1, to be inferred", shortest=1, longest=32),
]
Order = Annotated[tuple[Index, ...], Accepts("a list of axes, counted from 0 (the channels)", shortest=1, longest=32)]


class Rearrangement(Operation):
    """The base of operations that reshape a tensor."""

    family = "shape"
    is_linear = True
    view = True
    follows = True
    leads = True

    def passes_gradient(self, position: int) -> bool:
        return True


class Flatten(Rearrangement):
    """Flattens a tensor to one axis, ready for `linear`.

    [C, H, W] → [C · H · W].

    Errors: a size that depends on a free one.
    """

    name = "flatten"
    needs_whole = True
    layout = "any"
    formula_text = "the same numbers in one row: channel by channel, each line by line"

    examples = (example((3, 4, 5)), example((2, 7)), example((2, 3, 4, 5)), example((6,)))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return ((math.prod(known_all(self.name, shapes[0])),),)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        count = channels(self.name, shapes[0])
        return grouped(channels(self.name, outputs[0]), count, count)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return ModuleForm("nn.Flatten", method="{0}.flatten(1)")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm | None:
        # A single position has nothing but channels, in any order of axes.
        return self.torch(shapes, outputs) if all(n == 1 for n in shapes[0][1:]) else None


def leading(sizes: Sequence[Dim], total: int) -> list[int]:
    """The longest prefix of some sizes whose product divides the number of elements."""
    kept: list[int] = []
    for size in sizes[:-1]:
        if not isinstance(size, int) or size < 1 or total % (math.prod(kept) * size):
            break
        kept.append(size)
    return kept


class Reshape(Rearrangement):
    """Reshapes a tensor; the shape is given without the batch.

    One entry of `sizes` may be -1: it is inferred. A size may depend on free ones, as `x.size[0]` does, where the
    number of elements is the same for every input size.

    Errors: a shape with another number of elements; one for which free sizes decide that.
    """

    name = "reshape"
    aliases = ("view",)
    needs_whole = True
    formula_text = "the same numbers in the same order, in another shape"

    sizes: Entries

    examples = (
        example((6, 4, 5), sizes=(3, 8, 5)),
        example((24,), sizes=(2, -1, 4)),
        example((6, 4), sizes=(-1,)),
        example((8, 2), sizes=(2, 2, 2, 2)),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        rest = [i for i, n in enumerate(self.sizes) if n == -1]
        if 0 in self.sizes or len(rest) > 1:
            raise OperationError(
                f"`sizes` must be ints of at least 1, one of which may be -1; got {shown(list(self.sizes))}",
                parameter="sizes",
            )
        total = math.prod(shape)
        given = math.prod(n for n in self.sizes if n != -1)
        left = dims.quotient(total, given)
        if isinstance(total, int) and isinstance(given, int):
            if left is None or not (rest or left == 1):
                raise self._other_number(shape, total, given, bool(rest))
        elif left is None if rest else dims.equal(total, given) is not True:
            raise OperationError(
                f"`reshape` of {shape_text(shape)} to {shown(list(self.sizes))} would depend on the free sizes "
                f"{' and '.join(sorted(dims.free_sizes(total, given)))} of the input",
                parameter="sizes",
                inputs=(0,),
                help="give sizes with the same free sizes as factors, or fix these in the `input`",
            )
        return (tuple(left if n == -1 and left is not None else n for n in self.sizes),)

    def _other_number(self, shape: Shape, total: int, given: int, has_rest: bool) -> OperationError:
        wanted = f"{shown(list(self.sizes))}, which is {'a multiple of ' if has_rest else ''}{shown(given)}"
        return OperationError(
            f"`reshape` cannot change {shape_text(shape)}, which has {shown(total)} numbers, to {wanted}",
            parameter="sizes",
            inputs=(0,),
            mends=[
                Mend(f"write `{sizes}`: -1 is inferred", {"sizes": sizes})
                for sizes in [shown([*leading(self.sizes, total), -1])]
            ],
        )

    def sized(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Shape:
        return self._given(shapes[0], outputs[0]) if dims.free_sizes(*outputs[0]) else ()

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        if dims.free_sizes(*outputs[0]):
            return self._of_free_sizes(shapes[0], outputs[0])
        names = ["channels", *(f"size{n}" for n in range(2, len(outputs[0]) + 1))]
        template = f"{{0}}.reshape(-1, {', '.join(f'{{{name}}}' for name in names)})"
        return FunctionForm(template, tuple(Argument(*pair) for pair in zip(names, outputs[0], strict=True)))

    def _of_free_sizes(self, shape: Shape, output: Shape) -> FunctionForm:
        """A form that names free sizes only where it must."""
        merged = 1 + len(shape) - len(output)
        if merged > 1 and shape[merged:] == output[1:]:
            return FunctionForm(f"{{0}}.flatten(1, {merged})")
        whole = "{0}" if self._parts(shape, output) else "{0}.flatten(1)"
        return FunctionForm(f"torch.unflatten({whole}, 1, {{size}})", (Argument("size", self._given(shape, output)),))

    def _given(self, shape: Shape, output: Shape) -> Shape:
        """The sizes that its form in PyTorch takes where some are free; -1 for a single one that is free."""
        free = [i for i, size in enumerate(output) if not isinstance(size, int)]
        return self._parts(shape, output) or tuple(-1 if [i] == free else size for i, size in enumerate(output))

    def _parts(self, shape: Shape, output: Shape) -> Shape:
        """The first sizes of a result that the channels alone become; none where more of the tensor changes."""
        count = len(output) - len(shape)
        return output[: count + 1] if count > 0 and output[count + 1 :] == shape[1:] else ()

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        before, after = math.prod(ints(shapes[0][1:])), math.prod(ints(outputs[0][1:]))
        for c in range(channels(self.name, outputs[0])):
            yield ChannelMap(0, range(c, c + 1), range(c * after // before, -(-(c + 1) * after // before)))

    def caption(self, rank: int = 2) -> str:
        return f"reshape {shown(list(self.sizes))}"


class Permute(Rearrangement):
    """Reorders the axes; the batch stays first.

    `permute([0, 2, 1])` swaps H and W of [C, H, W]: axis i of the result is axis `axes[i]` of the input, where
    axis 0 is the channels.

    Errors: `axes` is not a permutation of all axes.
    """

    name = "permute"
    aliases = ("transpose",)
    reorders = True
    layout = "any"

    axes: Order

    examples = (
        example((3, 4, 5), axes=(0, 2, 1)),
        example((3, 4, 5), axes=(2, 0, 1)),
        example((2, 7), axes=(1, 0)),
        example((2, 3, 4, 5), axes=(0, 3, 1, 2)),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        if sorted(self.axes) != list(range(len(shape))):
            raise OperationError(
                f"`permute` needs each axis of {shape_text(shape)} once; got {shown(list(self.axes))}",
                parameter="axes",
                inputs=(0,),
                help=f"{shown(list(range(len(shape))))} is the current order",
            )
        return (tuple(shape[a] for a in self.axes),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm(f"{{0}}.permute(0, {', '.join(str(a + 1) for a in self.axes)})")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        channels, *positions = (a or len(self.axes) for a in self.axes)  # the channels are the last axis
        return FunctionForm(f"{{0}}.permute(0, {', '.join(map(str, (*positions, channels)))})")

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[index_maps.IndexMap, ...]]:
        goes_to = [self.axes.index(a) for a in range(1, len(self.axes))]
        sizes = ints(shapes[0][1:])
        # An axis that becomes the channels is read whole, since fields combine all channels of a position.
        return {
            0: tuple(
                index_maps.shifted(o - 1) if o else index_maps.everything(n)
                for o, n in zip(goes_to, sizes, strict=True)
            )
        }

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        out, count = channels(self.name, outputs[0]), channels(self.name, shapes[0])
        yield ChannelMap(0, range(out), range(count), each=not self.axes[0])

    def caption(self, rank: int = 2) -> str:
        return f"permute {shown(list(self.axes))}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"axis i of y is axis {', '.join(map(str, self.axes))} of x, for i = 0, 1, …: the same numbers"

    def axis_from(self, axis: int) -> int:
        return self.axes[axis]


class Squeeze(Rearrangement):
    """Removes a spatial axis of size 1.

    `squeeze(1)`: [C, 1, W] → [C, W], as a network that reads text has it behind its convolutions. `flatten` removes all
    spatial axes.

    Errors: an axis of another size; the channels, axis 0; an axis that the tensor lacks.
    """

    name = "squeeze"
    channelwise = True
    layout = "any"
    formula_text = "the same numbers: the axis has one position"

    axis: Count

    examples = (example((3, 1, 5), axis=1), example((3, 1), axis=1), example((2, 1, 4, 5), axis=1))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        if self.axis >= len(shape):
            raise OperationError(
                f"`squeeze` of axis {self.axis}: the tensor {shape_text(shape)} has axes 0 to {len(shape) - 1}",
                parameter="axis",
                inputs=(0,),
                help="axis 0 is the channels, axis 1 the first spatial axis",
            )
        rules.require(
            dims.equal(shape[self.axis], 1),
            f"`squeeze` of axis {self.axis} needs a size of 1; the tensor is {shape_text(shape)}",
            parameter="axis",
            inputs=(0,),
            help="pool the axis first, as in `adaptive_avgpool([1, 8])`; `tokens` makes one axis of several",
        )
        return ((*shape[: self.axis], *shape[self.axis + 1 :]),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm(f"{{0}}.squeeze({self.axis + 1})")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm(f"{{0}}.squeeze({self.axis})")

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[index_maps.IndexMap, ...]]:
        kept = [index_maps.shifted(axis) for axis in range(len(outputs[0]) - 1)]
        return {0: (*kept[: self.axis - 1], index_maps.stretched(), *kept[self.axis - 1 :])}

    def caption(self, rank: int = 2) -> str:
        return f"squeeze axis {self.axis}"

    def axis_from(self, axis: int) -> int:
        return axis if axis < self.axis else axis + 1
