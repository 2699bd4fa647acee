"""The fully connected layer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Annotated, Literal

from archdsl.common.units import counted
from archdsl.dims import Dim
from archdsl.ops import helpers
from archdsl.ops.base import Operation, Rules, Saves, Shape, Weight, Window, example, renamed
from archdsl.ops.conv import start
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Count, Init, Switch
from archdsl.ops.forms import ModuleForm
from archdsl.ops.formulas import Section, Sizes
from archdsl.ops.helpers import Helper
from archdsl.ops.sizes import known, options, positional
from archdsl.ops.validation import Accepts

Biased = Annotated[tuple[Switch, ...], Accepts("a list of `true` and `false`", shortest=2, longest=16)]


class Linear(Operation):
    """Fully connected layer: every output channel is a weighted sum of all input channels, at each position by itself.

    [F] → [out], [C, …] → [out, …]; the weight is [out, C] for every rank. `init` selects the weight's initialisation
    (see Initialisation). To connect all positions, too, put `flatten` before it.

    A list for `bias` is for equal parts of the outputs: `linear(3 * C, bias = [true, false, true])` stores a bias for
    all outputs, and adds it only to the first and last third.

    Errors: a number of channels that depends on a free size; a list for `bias` whose length does not divide `out`.

    Liu et al., Swin transformer V2, 2022 (keys without a bias).
    """

    name = "linear"
    aliases = ("dense", "fc", "fullyconnected")
    family = "linear"
    is_weighted = True
    is_linear = True
    channels_at = 0
    pytorch_names = renamed(out="out_features")
    own = True
    saves_first = True
    layout = "last"
    expects_flat = True

    out: Count
    bias: Switch | Biased = True
    init: Init = None

    examples = (
        example((12,), out=5),
        example((7,), out=3, bias=False),
        example((7,), out=3, init="zeros"),
        example((7,), out=3, init="xavier"),
        example((6, 7), out=4),
        example((6, 4, 5), out=3, bias=False),
        example((3, 2, 4, 5), out=5),
        example((4, 3, 2), out=6, bias=(True, False, True)),
        example((5,), out=4, bias=(False, True)),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        features(shapes[0])
        if isinstance(self.bias, tuple):
            if self.out % len(self.bias):
                raise OperationError(
                    f"`bias` has {len(self.bias)} parts, which do not divide the {self.out} outputs",
                    parameter="bias",
                )
            if len({*self.bias}) == 1:
                word = "true" if self.bias[0] else "false"
                raise OperationError(
                    f"all parts of `bias` are `{word}`", parameter="bias", help=f"write `bias = {word}`"
                )
        return ((self.out, *shapes[0][1:]),)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        weight = Weight("weight", (self.out, features(shapes[0])))
        return (weight, Weight("bias", (self.out,))) if self.bias else (weight,)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        form = self.torch_last(shapes, outputs)
        if len(shapes[0]) == 1:
            return form
        helper = self.helper(last=False) or helpers.CHANNEL_LINEAR
        return replace(form, constructor=helper.name, helper=helper.source, base="nn.Linear")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        has_bias, helper = bool(self.bias), self.helper(last=True)
        arguments = (*positional(in_features=shapes[0][0], out_features=self.out), *options(("bias", has_bias, True)))
        form = ModuleForm("nn.Linear", arguments, factory=True, start=start(self.init, has_bias, typed=True))
        if helper is None:
            return form
        return replace(form, constructor=helper.name, helper=helper.source, base="nn.Linear")

    def helper(self, *, last: bool) -> Helper | None:
        """The layer that adds its bias only to parts of the outputs, if it does."""
        return helpers.partly_biased(self.bias, last=last) if isinstance(self.bias, tuple) else None

    def absorbs(self) -> bool:
        return not isinstance(self.bias, tuple)

    def divides(self, shapes: tuple[Shape, ...]) -> Literal["channels"] | None:
        return None if isinstance(self.bias, tuple) else "channels"

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((features(shapes[0]), outputs[0]),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        if isinstance(self.bias, tuple):
            return ((1, (self.out // len(self.bias) * sum(self.bias), *outputs[0][1:])),)
        return ((1, outputs[0]),) if self.bias else ()

    def projected(self, count: int) -> tuple[int, ...]:
        return (0,)

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
        if isinstance(self.bias, tuple):
            part = self.out // len(self.bias)
            runs = (f"{i * part} to {(i + 1) * part - 1}" for i, biased in enumerate(self.bias) if biased)
            term += f" (for o from {' and '.join(runs)})"
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
