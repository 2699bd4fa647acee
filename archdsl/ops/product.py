"""The matrix product of two tensors."""

from collections.abc import Iterator, Mapping, Sequence

from archdsl import dims
from archdsl.ops import index_maps
from archdsl.ops.base import Operation, Rules, Saves, Shape, example
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import shape_text
from archdsl.ops.forms import FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap, IndexMap
from archdsl.ops.sizes import channels, ints


class Matmul(Operation):
    """The matrix product of two tensors, for each sample.

    [M, K], [K, N] → [M, N]; of tokens, `permute([1, 0])` transposes. `attention` and `attend` have the products of
    attention; a `linear` multiplies by learned weights.

    Errors: not two tensors of two axes; a last size of the first that is not the first size of the second.
    """

    name = "matmul"
    aliases = ("bmm", "mm", "dot")
    family = "merge"
    sign = "×"
    own = True
    layout = "any"
    inputs = "many"
    needs_batches = True

    examples = (example((3, 4), (4, 5)), example((6, 2), (2, 6)))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        if len(shapes) != 2 or any(len(shape) != 2 for shape in shapes):
            raise OperationError(
                f"`matmul` takes two tensors of two axes, [M, K] and [K, N]; given "
                f"{' and '.join(map(shape_text, shapes)) or 'none'}",
                inputs=tuple(range(len(shapes))),
                help="`tokens` makes two axes of a map: `(a, b) -> matmul`",
            )
        first, second = shapes
        rules.require(
            dims.equal(first[1], second[0]),
            f"`matmul` needs the last size of the first for the first size of the second; these are "
            f"{shape_text(first)} and {shape_text(second)}",
            inputs=(0, 1),
            help="`permute([1, 0])` transposes a tensor",
        )
        return ((first[0], second[1]),)

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, (shapes[0][1], *outputs[0])),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm("torch.matmul({0}, {1})")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm("torch.matmul({1}, {0})")

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {0: (index_maps.everything(ints(shapes[0])[1]),), 1: (index_maps.shifted(0),)}

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        out, inner = channels(self.name, shapes[0]), channels(self.name, shapes[1])
        yield ChannelMap(0, range(out), range(out), each=True)
        yield ChannelMap(1, range(out), range(inner))

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"y[m, n] = Σ_k a[m, k] · b[k, n], k = 1 … {shapes[0][1]:,}: nothing is learned"
