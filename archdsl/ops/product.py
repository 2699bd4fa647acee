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

    [M, K], [K, N] → [M, N]; of tokens, `permute([1, 0])` transposes. Of tensors with three axes the first counts
    matrices, such as those of heads: [B, M, K], [B, K, N] → [B, M, N]. `attention` and `attend` have the products of
    attention; a `linear` multiplies by learned weights.

    Errors: not two tensors of two, or of three axes; a last size of the first that is not the size before the last of
    the second; other numbers of matrices.
    """

    name = "matmul"
    aliases = ("bmm", "mm", "dot")
    family = "merge"
    sign = "×"
    own = True
    layout = "any"
    inputs = "many"
    needs_batches = True

    examples = (example((3, 4), (4, 5)), example((6, 2), (2, 6)), example((2, 3, 4), (2, 4, 5)))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        ranks = {len(shape) for shape in shapes}
        if len(shapes) != 2 or ranks not in ({2}, {3}):
            raise OperationError(
                f"`matmul` takes two tensors of two axes, [M, K] and [K, N], or of three, [B, M, K] and [B, K, N]; "
                f"given {' and '.join(map(shape_text, shapes)) or 'none'}",
                inputs=tuple(range(len(shapes))),
                help="`tokens` makes two axes of a map: `(a, b) -> matmul`",
            )
        first, second = shapes
        these = f"these are {shape_text(first)} and {shape_text(second)}"
        rules.require(
            dims.equal(first[-1], second[-2]),
            f"`matmul` needs the last size of the first for the {'first' if len(first) == 2 else 'second'} size of the "
            f"second; {these}",
            inputs=(0, 1),
            help="`permute([1, 0])` transposes a tensor",
        )
        if len(first) == 3:
            rules.require(
                dims.equal(first[0], second[0]),
                f"`matmul` needs as many matrices of the first as of the second; {these}",
                inputs=(0, 1),
            )
        return ((*first[:-1], second[-1]),)

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((1, (shapes[0][-1], *outputs[0])),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm("torch.matmul({0}, {1})")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        if len(shapes[0]) == 3:
            return FunctionForm("torch.einsum('nmkb,nklb->nmlb', {0}, {1})")
        return FunctionForm("torch.matmul({1}, {0})")

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        over = index_maps.everything(ints(shapes[0])[-1])
        if len(shapes[0]) == 3:
            return {0: (index_maps.shifted(0), over), 1: (over, index_maps.shifted(1))}
        return {0: (over,), 1: (index_maps.shifted(0),)}

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        out, inner = channels(self.name, shapes[0]), channels(self.name, shapes[1])
        yield ChannelMap(0, range(out), range(out), each=True)
        yield ChannelMap(1, range(out), range(inner), each=len(shapes[0]) == 3)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        at = "b, " if len(shapes[0]) == 3 else ""
        yield f"y[{at}m, n] = Σ_k a[{at}m, k] · b[{at}k, n], k = 1 … {shapes[0][-1]:,}: nothing is learned"
