"""Vectors brought to length 1."""

from collections.abc import Iterator, Mapping, Sequence

from archdsl.ops.base import Kept, Operation, Rules, Saves, Shape, example
from archdsl.ops.channels import along, axis_caption, with_size
from archdsl.ops.fields import Index, Positive
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap, IndexMap, everything, shifted
from archdsl.ops.sizes import channels, ints


class Normalize(Operation):
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
    layout = "any"

    axis: Index = 0
    eps: Positive = 1e-12

    examples = (example((3, 4, 5)), example((6,)), example((6, 7), axis=1), example((2, 3, 4), axis=2, eps=0.1))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        along(self.name, shapes[0], self.axis)
        return shapes

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

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        sizes = enumerate(ints(shapes[0][1:]))
        return {0: tuple(everything(n) if a + 1 == self.axis else shifted(a) for a, n in sizes)}

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        count = range(channels(self.name, shapes[0]))
        yield ChannelMap(0, count, count, each=self.axis > 0)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        where = f"along axis {self.axis}" if self.axis else "over the channels, at each position"
        yield f"y = x / max(√Σ x², {self.eps:g}), {where}: of length 1"

    def caption(self, rank: int = 2) -> str:
        return f"{self.name}{axis_caption(self.axis)}"
