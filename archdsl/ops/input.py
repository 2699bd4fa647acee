"""The inputs of a network. Specs declare them with `input`, never call them."""

from archdsl.dims import Dim
from archdsl.ops.base import Operation, Rules, Shape


class Input(Operation):
    """A tensor that the user of the network gives, of the declared size."""

    name = "input"
    family = "input"
    is_input = True
    examples = ()

    shape: tuple[Dim, ...]

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return (self.shape,)
