"""The repetition of a tensor that depends on no input. Elaboration places it; specs never call it."""

from collections.abc import Iterator, Mapping, Sequence

from archdsl.ops.base import Operation, Rules, Shape
from archdsl.ops.forms import FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap, IndexMap
from archdsl.ops.sizes import ints


class Expand(Operation):
    """Repeats a tensor that depends on no input for every sample: implied, never called.

    The second input has the batch.
    """

    name = "expand"
    family = "learned"
    inputs = "many"
    layout = "any"
    view = True
    is_linear = True
    channelwise = True
    implied = True
    drawn = False
    examples = ()

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return shapes[:1]

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm(f"{{0}}.expand({{1}}.shape[0]{', -1' * len(shapes[0])})")

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {0: self.reads(shapes[0], outputs[0], None)}

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        (count,) = ints(shapes[0][:1])
        yield ChannelMap(0, range(count), range(count), each=True)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield "the same numbers for every sample of the batch: its gradient is the sum over the batch"
