"""Operations without weights on single tensors: the identity, and multiples by constants."""

from collections.abc import Iterator, Sequence

from archdsl.ops.base import Operation, Rules, Shape, example
from archdsl.ops.fields import Number
from archdsl.ops.forms import Argument, FunctionForm, ModuleForm
from archdsl.ops.formulas import Sizes


class Identity(Operation):
    """The tensor itself, as a layer: for a block that is passed as a parameter, or a place that PyTorch's code has.

    [C, …] → [C, …]. An empty sequence, `{ }`, does the same without a layer.
    """

    name = "identity"
    family = "channels"
    is_linear = True
    channelwise = True
    view = True
    layout = "any"
    formula_text = "y = x"

    examples = (example((3, 4, 5)), example((6,)), example((2, 7)))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return shapes

    def keeps_channels(self) -> bool:
        return True

    def passes_gradient(self, position: int) -> bool:
        return True

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return ModuleForm("nn.Identity")


class Rescale(Operation):
    """Multiplies all numbers by a constant and adds one: scale · x + offset; nothing is learned.

    [C, …] → [C, …]: `rescale(0.5)` halves, `rescale(2, -1)` maps 0 … 1 to -1 … 1. `scale` is the learned factor.
    """

    name = "rescale"
    aliases = ("rescaling", "affine")
    family = "channels"
    is_linear = True
    channelwise = True
    own = True
    layout = "any"

    scale: Number
    offset: Number = 0.0

    examples = (
        example((3, 4, 5), scale=0.5),
        example((6,), scale=2.0, offset=-1.0),
        example((2, 7), scale=1.0, offset=0.25),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return shapes

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return (((self.scale != 1) + (self.offset != 0), shapes[0]),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        if not self.offset:
            return FunctionForm("{0} * {scale}", (Argument("scale", self.scale),))
        arguments = (Argument("scale", self.scale), Argument("offset", abs(self.offset)))
        return FunctionForm(f"{{0}} * {{scale}} {'-' if self.offset < 0 else '+'} {{offset}}", arguments)

    def caption(self, rank: int = 2) -> str:
        return f"rescale {self.scale:g}" + (f", {self.offset:g}" if self.offset else "")

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        term = f" {'-' if self.offset < 0 else '+'} {abs(self.offset):g}" if self.offset else ""
        yield f"y = {self.scale:g} · x{term}: nothing is learned"
