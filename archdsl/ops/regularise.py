"""Regularisations: parts of a tensor set to zero at random while the module trains."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from archdsl.ops import helpers
from archdsl.ops.base import Example, Kept, Layout, Operation, Rules, Saves, Shape, example
from archdsl.ops.fields import Fraction, Probability
from archdsl.ops.forms import ModuleForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.sizes import positional, rank_name, spatial


class Regularisation(Operation):
    """The base of regularisations, which are the identity in evaluation."""

    family = "regularisation"
    is_linear = True
    training_only = True
    channelwise = True
    follows = True
    leads = True
    ends_box = True
    varies = ("p",)

    def dropped(self, p: float, what: str) -> Iterator[str]:
        """The formula, for what is zeroed as a whole."""
        yield f"training: y = m · x / (1 - {p:g}), m is 0 with probability {p:g} and else 1, for each {what}"
        yield "afterwards: y = x"


class Dropout(Regularisation):
    """Zeroes each element with probability p in training, and scales up the others.

    For a tensor of any size.

    Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.
    """

    name = "dropout"
    inplace = True
    layout: ClassVar[Layout] = "any"

    p: Probability = 0.5

    examples: ClassVar[tuple[Example, ...]] = (example((6,)), example((3, 4, 5), p=0.2))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return shapes

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return ModuleForm("nn.Dropout", positional(p=self.p))

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(more=(Kept(self._mask(shapes[0])),) if self.p else ())

    def _mask(self, shape: Shape) -> Shape:
        return shape

    def caption(self, rank: int = 2) -> str:
        return f"{self.name} {self.p:.3g}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        return self.dropped(self.p, "element")


class DropoutChannels(Dropout):
    """Zeroes whole channels with probability p in training, and scales up the others.

    [C, …] → [C, …]; on a flat tensor it is `dropout`.

    Tompson et al., Efficient object localization using convolutional networks, 2015.
    """

    name = "dropout_channels"
    aliases = ("dropout1d", "dropout2d", "dropout3d")
    layout = "first"

    examples = (example((3, 4, 5)), example((3, 7), p=0.1), example((2, 3, 4, 5)), example((6,)))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        if len(shapes[0]) > 1:
            spatial(self.name, shapes[0])
        return shapes

    def _mask(self, shape: Shape) -> Shape:
        return (shape[0], *(1 for _ in shape[1:]))

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        rank = "" if len(shapes[0]) == 1 else rank_name(shapes[0])
        return ModuleForm(f"nn.Dropout{rank}", positional(p=self.p))

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        return self.dropped(self.p, "channel" if shapes[0][1:] else "element")


class Droppath(Regularisation):
    """Zeroes the tensor of a whole sample with probability p in training (stochastic depth).

    For a tensor of any size. Use it as the last operation of a residual body, before the add.

    Huang et al., Deep networks with stochastic depth, 2016.
    """

    name = "droppath"
    aliases = ("stochasticdepth",)
    layout: ClassVar[Layout] = "any"
    own_in_training = True

    p: Fraction

    examples = (example((6,), p=0.1), example((3, 4, 5), p=0.5))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return shapes

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return ModuleForm(helpers.DROP_PATH.name, positional(p=self.p), helper=helpers.DROP_PATH.source)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(more=(Kept((1,)),))  # whether the sample is kept

    def caption(self, rank: int = 2) -> str:
        return f"droppath {self.p:.3g}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        return self.dropped(self.p, "sample")
