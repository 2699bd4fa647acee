"""Normalisation of responses to their strength over a whole map."""

from collections.abc import Iterator, Sequence

from archdsl.ops import helpers
from archdsl.ops.base import Kept, Operation, Rules, Saves, Shape, Weight, Window, example
from archdsl.ops.fields import Positive
from archdsl.ops.forms import ModuleForm, Start
from archdsl.ops.formulas import Sizes
from archdsl.ops.norm import affine_weights
from archdsl.ops.sizes import channels, options, positional, spatial


class Grn(Operation):
    """Global response normalisation: channels that respond more than the others on the whole map are strengthened.

    [C, …] → [C, …]: x + weight · (x · n) + bias, where n is a channel's L2 norm over all positions, divided by the mean
    of these norms. One weight and bias per channel, all 0 at the start.

    Errors: a flat tensor.

    Woo et al., ConvNeXt V2, 2023.
    """

    name = "grn"
    aliases = ("globalresponsenorm", "globalresponsenormalization")
    family = "normalisation"
    follows = True
    own = True
    layout = "last"

    eps: Positive = 1e-6

    examples = (example((3, 4, 5)), example((3, 7), eps=1e-3), example((2, 3, 4, 5)))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        channels(self.name, shapes[0])
        spatial(self.name, shapes[0])
        return shapes

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        return affine_weights(channels(self.name, shapes[0]))

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        # The norms 2, two products, the bias and the sum; the means of the norms are few.
        return ((6, shapes[0]),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        norms = Kept((*shapes[0][:1], *(1 for _ in shapes[0][1:])))
        mean = Kept((1, *norms.shape[1:]))
        return Saves(inputs=True, more=(Kept(shapes[0]), norms, norms, mean))

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return self._form(shapes, helpers.GLOBAL_RESPONSE_NORM)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return self._form(shapes, helpers.GLOBAL_RESPONSE_NORM_LAST)

    def _form(self, shapes: tuple[Shape, ...], helper: helpers.Helper) -> ModuleForm:
        arguments = (*positional(normalized_shape=shapes[0][0]), *options(("eps", self.eps, 1e-5)))
        return ModuleForm(
            helper.name, arguments, helper.source, "nn.LayerNorm", factory=True, start=Start("zeros", bias=True)
        )

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True, statistics=True)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield "y = x + γ · x · n + β, n[c] = ‖x[c]‖ / (mean of ‖x[k]‖ over the channels k + ε)"
        yield "‖x[c]‖ = √(Σ x[c]²) over all positions of the channel, for each sample by itself"
        yield f"γ and β are learned, one of each per channel: 2 × {shapes[0][0]} numbers, all 0 at first"
