"""The fully connected layer."""

from collections.abc import Iterator, Sequence

from archdsl.dims import Dim
from archdsl.ops.base import (
    Mend,
    ModuleForm,
    Operation,
    OperationError,
    Rules,
    Saves,
    Shape,
    Weight,
    Window,
    example,
    renamed,
)
from archdsl.ops.conv import start
from archdsl.ops.fields import Count, Init, Switch, shape_text
from archdsl.ops.formulas import Section, Sizes
from archdsl.ops.sizes import known, options, positional


class Linear(Operation):
    """Fully connected layer: every output is a weighted sum of every input.

    [F] → [out]. `init` selects the weight's initialisation (see Initialisation).

    Errors: a tensor with spatial axes (reserved for sequences); a size that depends on a free one.
    """

    name = "linear"
    aliases = ("dense", "fc", "fullyconnected")
    family = "convolution"
    is_weighted = True
    is_linear = True
    channels_at = 0
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

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((known("linear", shapes[0][0], "number of features"), outputs[0]),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, outputs[0]),) if self.bias else ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True)

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True)

    def caption(self, rank: int = 2) -> str:
        return f"linear {self.out}"

    @classmethod
    def is_in_pytorchs_order(cls, values: Sequence[object], channels: Dim) -> bool:
        return False  # a layer may well have as many outputs as inputs

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        (shape,), (output,) = shapes, outputs
        term = " + b[o]" if self.bias else ""
        yield Section(
            "formula", f"y[o] = Σ_i w[o, i] · x[i]{term}: every output sees every input, by a weight of its own"
        )
        count = shape[0] * output[0]
        more = f"; with biases {count + output[0]:,}" if self.bias else ""
        yield Section("weights", f"{shape[0]:,} × {output[0]:,} = {count:,}{more}; none is used twice")
