"""The fully connected layer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from archdsl.common.units import counted
from archdsl.dims import Dim
from archdsl.ops import helpers
from archdsl.ops.base import (
    ModuleForm,
    Operation,
    Rules,
    Saves,
    Shape,
    Weight,
    Window,
    example,
    renamed,
)
from archdsl.ops.conv import start
from archdsl.ops.fields import Count, Init, Switch
from archdsl.ops.formulas import Section, Sizes
from archdsl.ops.sizes import known, options, positional


class Linear(Operation):
    """Fully connected layer: every output channel is a weighted sum of all input channels, at each position by itself.

    [F] → [out], [C, …] → [out, …]; the weight is [out, C] for every rank. `init` selects the weight's initialisation
    (see Initialisation). To connect all positions, too, put `flatten` before it.

    Errors: a number of channels that depends on a free size.
    """

    name = "linear"
    aliases = ("dense", "fc", "fullyconnected")
    family = "convolution"
    is_weighted = True
    is_linear = True
    channels_at = 0
    pytorch_names = renamed(out="out_features")
    own = True
    layout = "last"
    expects_flat = True

    out: Count
    bias: Switch = True
    init: Init = None

    examples = (
        example((12,), out=5),
        example((7,), out=3, bias=False),
        example((7,), out=3, init="zeros"),
        example((7,), out=3, init="xavier"),
        example((6, 7), out=4),
        example((6, 4, 5), out=3, bias=False),
        example((3, 2, 4, 5), out=5),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        features(shapes[0])
        return ((self.out, *shapes[0][1:]),)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        weight = Weight("weight", (self.out, features(shapes[0])))
        return (weight, Weight("bias", (self.out,))) if self.bias else (weight,)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        form = self.torch_last(shapes, outputs)
        if len(shapes[0]) == 1:
            return form
        helper = helpers.CHANNEL_LINEAR
        return replace(form, constructor=helper.name, helper=helper.source, base="nn.Linear")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        arguments = (*positional(in_features=shapes[0][0], out_features=self.out), *options(("bias", self.bias, True)))
        return ModuleForm("nn.Linear", arguments, factory=True, start=start(self.init, self.bias, typed=True))

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((features(shapes[0]), outputs[0]),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, outputs[0]),) if self.bias else ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True)

    def window(self, shapes: tuple[Shape, ...]) -> Window | None:
        return Window(whole=True) if len(shapes[0]) == 1 else None

    def caption(self, rank: int = 2) -> str:
        return f"linear {self.out}"

    @classmethod
    def is_in_pytorchs_order(cls, values: Sequence[object], channels: Dim) -> bool:
        return False  # a layer may well have as many outputs as inputs

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        (shape,), (output,) = shapes, outputs
        term = " + b[o]" if self.bias else ""
        positions = prod(shape[1:])
        sees = "every output sees every input, by a weight of its own"
        often = "none is used twice"
        if len(shape) > 1:
            sees = "the same weights at each position, which sees no other"
            often = f"each is used at {counted(positions, 'position')}"
        yield Section("formula", f"y[o] = Σ_i w[o, i] · x[i]{term}: {sees}")
        count = shape[0] * output[0]
        more = f"; with biases {count + output[0]:,}" if self.bias else ""
        yield Section("weights", f"{shape[0]:,} × {output[0]:,} = {count:,}{more}; {often}")


def features(shape: Shape) -> int:
    """The number of channels that a weight of a fully connected layer reads."""
    return known("linear", shape[0], "number of features" if len(shape) == 1 else "number of channels")
