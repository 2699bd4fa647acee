"""Merges: combine parallel tensors into one."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from archdsl import dims
from archdsl.ops import helpers
from archdsl.ops.axis import along, axis_caption, moved, with_size
from archdsl.ops.base import Example, Operation, Rules, Saves, Shape, example
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import Index, Switch, shape_text
from archdsl.ops.forms import FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap, IndexMap
from archdsl.ops.sizes import channels, ints


def several(name: str, shapes: tuple[Shape, ...]) -> None:
    """Raises OperationError unless there are two or more tensors, all of the same rank."""
    if len(shapes) < 2:
        raise OperationError(
            f"`{name}` takes two tensors or more; {'only one' if shapes else 'none'} given",
            inputs=tuple(range(len(shapes))),
            help=f"put the branches in parentheses: `(a, b) -> {name}`",
        )
    for i, shape in enumerate(shapes):
        if len(shape) != len(shapes[0]):
            flat = next((s for s in (shape, shapes[0]) if len(s) == 1), None)
            raise OperationError(
                f"`{name}` needs tensors of one rank; these are {shape_text(shapes[0])} and {shape_text(shape)}",
                inputs=(0, i),
                help=_unflattened(flat, max(len(shape), len(shapes[0]))) if flat is not None else None,
            )


def _unflattened(flat: Shape, rank: int) -> str:
    """Advice for a flat tensor beside one with positions."""
    point = shape_text((*flat, *[1] * (rank - 1)))
    return f"remove the `flatten` of one branch, or flatten both; `reshape({point})` makes a point of the flat one"


def advice(name: str, first: Shape, second: Shape, axis: int) -> str:
    """Advice for two tensors that differ on an axis, and on none before it."""
    if axis > 0:
        return f"make the sizes equal with `align(crop) -> {name}`, or give both branches the same stride and padding"
    wanted = dims.text(second[0])
    if all(dims.equal(a, b) is True for a, b in zip(first[1:], second[1:], strict=True)):
        return f"map the first to {wanted} channels with `conv({wanted}, 1)`"
    return f"map the first to {wanted} channels and to the other's size, e.g. with `conv({wanted}, 1, stride = 2)`"


MANY = 16
"""More tensors than these are merged by a helper that takes a list: Python limits the depth of expressions."""


class Merge(Operation):
    """The base of merges of equal sizes."""

    family = "merge"
    channelwise = True
    own = True
    layout = "any"
    inputs = "many"
    needs_inputs: ClassVar[bool] = False
    """Whether its gradient is computed from its inputs."""
    template: ClassVar[str]
    """How each tensor is combined with the previous ones: `{0}` and `{1}`."""
    gathers: ClassVar[str]
    """The docstring of the helper that merges many tensors."""
    whole: ClassVar[str] = "merged"
    """The final result once all `tensors` are `merged`."""

    examples: ClassVar[tuple[Example, ...]] = (
        example((3, 4, 5), (3, 4, 5)),
        example((6,), (6,), (6,)),
        example((2, 7), (2, 7)),
        example((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        several(self.name, shapes)
        out = list(shapes[0])
        whose = [0] * len(out)
        for i, shape in enumerate(shapes[1:], 1):
            for axis, size in enumerate(shape):
                if self.stretches() and size == 1:
                    continue
                if self.stretches() and out[axis] == 1:
                    out[axis], whose[axis] = size, i
                    continue
                same = dims.equal(out[axis], size)
                if same is True:
                    continue
                other = shapes[whose[axis]]
                mends = self.mends_of(shapes)
                rules.require(
                    same,
                    f"`{self.name}` needs equal sizes{' or 1' if self.stretches() else ''}; these are "
                    f"{shape_text(other)} and {shape_text(shape)}",
                    inputs=(whose[axis], i),
                    help=mends[0].help if mends else advice(self.name, other, shape, axis),
                    mends=mends,
                )
        return (tuple(out),)

    def mends_of(self, shapes: tuple[Shape, ...]) -> Sequence[Mend]:
        """Changes of the call that make tensors of different sizes fit."""
        return ()

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((len(shapes) - 1, outputs[0]),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=self.needs_inputs)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        if len(shapes) > MANY:
            [name] = self.helper_names
            helper = helpers.merge_all(name, self.gathers, self.template.format("merged", "x"), self.whole)
            return FunctionForm(f"{name}([{{all}}])", helper=helper.source)
        text = "{0}"
        for i in range(1, len(shapes)):
            text = self.template.replace("{1}", f"{{{i}}}").replace("{0}", text)
        return FunctionForm(text)


class Add(Merge):
    """The sum of the tensors, element by element.

    Two or more tensors of one size → that size. With `stretch = true` a size of 1 is broadcast: [C, 1, 1] is added at
    every position.

    Errors: sizes that disagree.

    He et al., Deep residual learning for image recognition, 2015.
    """

    name = "add"
    aliases = ("sum",)
    is_sum = True
    joins_skip = True
    accumulates = (1, 0)
    sign = "⊕"
    formula_text = "y = a + b, element-wise: each of them gets the gradient of y unchanged"
    template = "{0} + {1}"
    helper_names = ("sum_of",)
    gathers = "The sum of the tensors"

    stretch: Switch = False

    examples = (
        *Merge.examples,
        example((3, 4, 5), (3, 1, 1), stretch=True),
        example((1, 7), (3, 1), (3, 7), stretch=True),
    )

    def stretches(self) -> bool:
        return self.stretch

    def mends_of(self, shapes: tuple[Shape, ...]) -> Sequence[Mend]:
        """Sizes of 1 are usually meant for every position, as those of a time or a style are."""
        if self.stretch or len({len(shape) for shape in shapes}) > 1:
            return ()
        larger = [max(axis, key=lambda size: size != 1) for axis in zip(*shapes, strict=True)]
        fits = all(size == 1 or dims.equal(size, n) is True for s in shapes for size, n in zip(s, larger, strict=True))
        return [Mend("broadcast the sizes of 1: `add(stretch = true)`", {"stretch": "true"})] if fits else ()

    def passes_gradient(self, position: int) -> bool:
        return not self.stretch  # that of a broadcast tensor is a sum


class Mul(Merge):
    """The product of the tensors, element by element.

    Two or more tensors of one size → that size; a size of 1 is broadcast: [1, H, W] gates every position, [C, 1, 1]
    weights every channel.

    Errors: sizes that disagree and are not 1.

    Hu et al., Squeeze-and-excitation networks, 2017; Oktay et al., Attention U-Net, 2018.
    """

    name = "mul"
    aliases = ("multiply",)
    joins_skip = True
    sign = "⊗"
    formula_text = "y = a · b, element by element: the gradient of a is that of y times b, and the other way round"
    needs_inputs = True
    template = "{0} * {1}"
    helper_names = ("product_of",)
    gathers = "The product of the tensors"

    examples = (
        *Merge.examples,
        example((3, 4, 5), (1, 4, 5)),
        example((3, 1, 1), (3, 4, 5)),
        example((3, 1), (1, 7), (3, 7)),
    )

    def stretches(self) -> bool:
        return True


class Sub(Merge):
    """The first tensor minus all others, element by element.

    Two or more tensors of one size → that size.

    Errors: sizes that disagree.
    """

    name = "sub"
    accumulates = (0,)
    sign = "⊖"
    formula_text = "y = a - b, element by element: the gradient of y goes to a as it is, to b with its sign turned"
    template = "{0} - {1}"
    helper_names = ("difference_of",)
    gathers = "The first of the tensors less all the others"

    def passes_gradient(self, position: int) -> bool:
        return position == 0


class Div(Merge):
    """The first tensor divided by all others, element by element.

    Two or more tensors of one size → that size; a size of 1 is broadcast: [1, H, W] divides every channel.

    Errors: sizes that disagree and are not 1.
    """

    name = "div"
    aliases = ("divide", "truediv")
    sign = "÷"
    formula_text = "y = a / b, element by element: the gradient of a is that of y divided by b, that of b times -y / b"
    needs_inputs = True
    template = "{0} / {1}"
    helper_names = ("quotient_of",)
    gathers = "The first of the tensors divided by all the others"

    examples = (*Merge.examples, example((3, 4, 5), (1, 4, 5)), example((3, 7), (3, 1), (1, 7)))

    def stretches(self) -> bool:
        return True


class Maximum(Merge):
    """The largest of the tensors, element by element.

    Two or more tensors of one size → that size.

    Errors: sizes that disagree.

    Goodfellow et al., Maxout networks, 2013.
    """

    name = "maximum"
    formula_text = "y = max(a, b), element by element: the larger one gets the gradient"
    needs_inputs = True
    template = "torch.maximum({0}, {1})"
    helper_names = ("maximum_of",)
    gathers = "The largest of the tensors"


class Mean(Merge):
    """The mean of the tensors, element by element.

    Two or more tensors of one size → that size.

    Errors: sizes that disagree.
    """

    name = "mean"
    formula_text = "y = (a + b) / 2, element by element (of n: their sum / n): each gets 1/n of the gradient"
    template = "{0} + {1}"
    helper_names = ("mean_of",)
    gathers = "The mean of the tensors"
    whole = "merged / len(tensors)"

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        total = super().torch(shapes, outputs)
        if total.helper is not None:
            return total
        return FunctionForm(f"({total.template}) / {len(shapes)}")

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((len(shapes), outputs[0]),)


class Concat(Operation):
    """Concatenates the tensors along an axis, the channels by default.

    [C₁, …], [C₂, …], … → [C₁ + C₂ + …, …]. `axis = 1` concatenates along the first spatial axis, as a class token in
    front of the others.

    Errors: sizes that differ in another axis.

    Szegedy et al., Going deeper with convolutions, 2014; Huang et al., Densely connected convolutional networks, 2016.
    """

    name = "concat"
    aliases = ("cat", "concatenate")
    family = "merge"
    needs_batches = sys.maxsize
    sign = "‖"
    own = True
    layout = "any"
    inputs = "many"

    axis: Index = 0

    examples = (
        example((3, 4, 5), (2, 4, 5)),
        example((6,), (1,), (2,)),
        example((2, 7), (3, 7)),
        example((1, 2, 3, 4), (1, 2, 3, 4)),
        example((3, 1), (3, 7), axis=1),
        example((3, 4, 5), (3, 4, 1), (3, 4, 2), axis=2),
    )

    def stacks(self) -> int:
        return self.axis

    def keeps_channels(self) -> bool:
        return self.axis == 0

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        several(self.name, shapes)
        first = shapes[0]
        size, what = along(self.name, first, self.axis)
        for i, shape in enumerate(shapes[1:], 1):
            try:
                size = size + shape[self.axis]
            except dims.DimError as error:
                raise OperationError(f"`concat` cannot add the {what}: {error}", inputs=(0, i)) from None
            for axis in range(len(shape)):
                same = axis == self.axis or dims.equal(first[axis], shape[axis])
                if same is not True:
                    except_for = "for the channels" if not self.axis else f"on axis {self.axis}"
                    rules.require(
                        same,
                        f"`concat` needs equal sizes except {except_for}; these are {shape_text(first)} and "
                        f"{shape_text(shape)}",
                        inputs=(0, i),
                        help=advice("concat", first, shape, axis),
                    )
        return (with_size(first, self.axis, size),)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        start = 0
        for i, shape in enumerate(shapes):
            count = channels(self.name, shape)
            yield ChannelMap(i, range(start, start + count), range(count), each=True)
            start += 0 if self.axis else count

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        found, start = {}, 0
        for i, shape in enumerate(shapes):
            found[i] = moved(shape, self.axis, -start)
            start += ints(shape)[self.axis] if self.axis else 0
        return found

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm(f"torch.cat([{{all}}], {self.axis + 1})")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm(f"torch.cat([{{all}}], {self.axis or -1})")

    def passes_gradient(self, position: int) -> bool:
        return True

    def caption(self, rank: int = 2) -> str:
        return f"concat{axis_caption(self.axis)}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        what = f"the positions along axis {self.axis}" if self.axis else "the channels"
        yield f"y = [a; b]: {what} behind each other; each gets its part of the gradient"
