"""Vectors brought to length 1."""

from collections.abc import Iterator, Sequence

from archdsl.ops.axis import AlongAxis, with_size
from archdsl.ops.base import Kept, Saves, Shape, example
from archdsl.ops.fields import Positive
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes


class Normalize(AlongAxis):
    """Divides by the length of the vector of channels, at each position: its L2 norm becomes 1.

    [C, …] → [C, …]: x / max(√Σ x², eps). `axis = 1` takes vectors along the first spatial axis, for each channel. The
    product of two such vectors is the cosine of their angle.

    Errors: an axis that the tensor lacks.

    Wang et al., NormFace, 2017; El-Nouby et al., XCiT, 2021 (`axis = 1`, of tokens).
    """

    name = "normalize"
    aliases = ("l2norm", "l2normalize", "l2normalization", "normalise", "unitnorm")
    family = "normalisation"
    own = True

    eps: Positive = 1e-12

    examples = (example((3, 4, 5)), example((6,)), example((6, 7), axis=1), example((2, 3, 4), axis=2, eps=0.1))

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(self.axis + 1)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self._form(self.axis or -1)

    def _form(self, axis: int) -> FunctionForm:
        arguments = (Argument("dim", axis, 1), Argument("eps", self.eps, 1e-12))
        given = "".join(f", {a.name}={{{a.name}}}" for a in arguments if a.is_given)
        return FunctionForm(f"F.normalize({{0}}{given})", tuple(a for a in arguments if a.is_given))

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((3, shapes[0]),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        lengths = Kept(with_size(shapes[0], self.axis, 1))
        return Saves(inputs=True, more=(lengths, lengths))

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        where = f"along axis {self.axis}" if self.axis else "over the channels, at each position"
        yield f"y = x / max(√Σ x², {self.eps:g}), {where}: of length 1"
