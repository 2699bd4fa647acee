"""The move of axes, which the generator places between layers that want them in another order."""

from archdsl.ops.base import Operation, Rules, Shape
from archdsl.ops.forms import Argument, ModuleForm
from archdsl.ops.helpers import PERMUTE


class Move(Operation):
    """The same tensor with the channels last, or first again. No spec calls it, and sizes do not change."""

    name = "permute"
    family = "shape"
    view = True
    implied = True

    to_last: bool

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        return shapes

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        rank = len(shapes[0])
        axes = (0, *range(2, rank + 1), 1) if self.to_last else (0, rank, *range(1, rank))
        method = f"{{0}}.permute({', '.join(map(str, axes))})"
        return ModuleForm(PERMUTE.name, (Argument(None, axes, called="dims"),), PERMUTE.source, method=method)
