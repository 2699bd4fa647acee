"""Differences of positions in a window, which follow from its size alone: nothing is learned, nothing is stored."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from archdsl.ops.base import Operation, Rules, Shape, example
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import shape_text, times
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.helpers import Helper
from archdsl.ops.index_maps import IndexMap


def differences(*, last: bool) -> Helper:
    """The differences of positions in a window, with the channels first or last."""
    name = "differences" + ("_last" if last else "")
    read = "x.shape[1:3]" if last else "x.shape[2:]"
    sizes = "[1, 2h - 1, 2w - 1, 2]" if last else "[1, 2, 2h - 1, 2w - 1]"
    axis = "-1" if last else "0"
    return Helper(
        name,
        f'''def {name}(x: Tensor, relative: bool) -> Tensor:
    """The differences of positions in a window, on a logarithmic scale: {sizes}.

    `relative`: as parts of the window, from -8 to 8, and with logarithms to the base 8.
    """
    height, width = {read}
    rows = torch.arange(1 - height, height, device=x.device, dtype=x.dtype)
    columns = torch.arange(1 - width, width, device=x.device, dtype=x.dtype)
    if relative:
        rows = rows / max(height - 1, 1) * 8
        columns = columns / max(width - 1, 1) * 8
    table = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), {axis})[None]
    logarithm = (table.abs() + 1).log2() / 3 if relative else (table.abs() + 1).log()
    return table.sign() * logarithm
''',
    )


class Differences(Operation):
    """The differences of positions in a window, on a logarithmic scale: a fixed tensor.

    [C, h, w] → [2, 2h − 1, 2w − 1]: rows and columns. A small network makes biases of them, which `relative` looks up
    for `attend`. `scale = relative`: sign(d) · log₈(1 + |d|), for differences d from −8 to 8 whatever the window;
    `positions`: sign(d) · log(1 + |d|), for differences d in positions. `coordinates` keeps the first as a buffer.

    Errors: a tensor that is no map.

    Liu et al., Swin transformer V2, 2022.
    """

    name = "differences"
    family = "attention"
    once = True
    sized_by = (0,)
    masks = True
    layout = "last"
    aliases = ("relativecoordinates", "relpos")
    helper_names = ("differences", "differences_last")

    scale: Literal["relative", "positions"] = "relative"

    examples = (example((3, 2, 3)), example((1, 4, 4), scale="positions"))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        if len(shape) != 3:
            raise OperationError(
                f"`differences` needs a window [C, h, w]; this tensor is {shape_text(shape)}",
                inputs=(0,),
                help="`maps(14x14)` puts tokens on a map",
            )
        height, width = shape[1:]
        return ((2, 2 * height - 1, 2 * width - 1),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((3, outputs[0]),)  # 1 + |d|, its logarithm, and the sign

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(last=True)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {}

    def form(self, *, last: bool) -> FunctionForm:
        helper = differences(last=last)
        arguments = (Argument("relative", self.scale == "relative"),)
        return FunctionForm(f"{helper.name}({{0}}, {{relative}})", arguments, helper=helper.source)

    def caption(self, rank: int = 2) -> str:
        return "differences"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        down, right = shapes[0][1:]
        if self.scale == "relative":
            yield f"sign(8d) · log₂(1 + |8d|) / 3, for differences d of {times((down, right))} positions, from -1 to 1"
        else:
            yield f"sign(d) · log(1 + |d|), for differences d of {times((down, right))} positions down and to the right"
