"""Fixed numbers for the positions of a map, which follow from its size alone: nothing is learned, nothing is stored."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from archdsl.ops.base import Operation, Rules, Shape, example
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Positive, times
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.helpers import Helper
from archdsl.ops.index_maps import IndexMap
from archdsl.ops.sizes import channels, spatial
from archdsl.ops.validation import Accepts

Fourths = Annotated[int, Accepts("an int of at least 4, a multiple of 4", ge=4)]


def sine_positions(*, last: bool) -> Helper:
    """Sines and cosines of positions, with the channels first or last."""
    name = "sine_positions" + ("_last" if last else "")
    read = "x.shape[1:3]" if last else "x.shape[2:]"
    turn = "" if last else ".permute(0, 3, 1, 2)"
    sizes = "[1, H, W, C]" if last else "[1, C, H, W]"
    return Helper(
        name,
        f'''def {name}(x: Tensor, out: int, temperature: float) -> Tensor:
    """Sines and cosines of the rows and of the columns of a map, {sizes}."""
    height, width = {read}
    index = torch.arange(out // 2, device=x.device)
    waves = temperature ** (index // 2 * 4 / out)
    down = torch.arange(1, height + 1, device=x.device) / (height + 1e-6)
    right = torch.arange(1, width + 1, device=x.device) / (width + 1e-6)
    parts = []
    for along in (down[:, None].expand(height, width), right.expand(height, width)):
        angle = along[..., None] * 6.283185307179586 / waves
        both = torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1)
        parts.append(both.flatten(2))
    return torch.cat(parts, -1)[None]{turn}.to(x.dtype)
''',
    )


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


class Fixed(Operation):
    """The base of these: of the input it takes the size, and its result is the same for every sample."""

    family = "learned"
    is_fixed = True
    sized_by = (0,)
    masks = True
    layout = "last"

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {}

    def plane(self, shape: Shape) -> Shape:
        """The sizes of the map. Raises OperationError for a tensor that is none."""
        if len(shape) != 3:
            raise OperationError(
                f"`{self.name}` needs a map [C, H, W]; the tensor has {len(shape)} axes",
                inputs=(0,),
                help="`maps(14x14)` puts tokens on a map",
            )
        channels(self.name, shape)
        return spatial(self.name, shape)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(last=True)

    def form(self, *, last: bool) -> FunctionForm:
        raise NotImplementedError(type(self).__name__)


class SinePositions(Fixed):
    """Sines and cosines of the rows and of the columns of a map: a fixed tensor of the map's size.

    [C, H, W] → [out, H, W]: the first half of the channels for rows, the other for columns, sine and cosine in turn, of
    angles 2π · row / H · temperature^(−4 ⌊i / 2⌋ / out), rows counted from 1. Nothing is learned. Add it to the map,
    behind a `conv` if it has other channels.

    Errors: a tensor that is no map; `out` that is no multiple of 4.

    Carion et al., DETR, 2020; El-Nouby et al., XCiT, 2021.
    """

    name = "sine_positions"
    aliases = ("positionalencoding", "sinusoidal", "sincos", "fourierpositions")
    helper_names = ("sine_positions", "sine_positions_last")

    out: Fourths
    temperature: Positive = 10000.0

    examples = (example((3, 4, 5), out=8), example((6, 3, 3), out=4, temperature=100.0))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        rules.require(
            self.out % 4 == 0,
            f"`sine_positions` has a sine and a cosine of rows and of columns: {self.out} is no multiple of 4",
            parameter="out",
            help=f"use {max(self.out // 4 * 4, 4)} or {self.out // 4 * 4 + 4}",
        )
        return ((self.out, *self.plane(shapes[0])),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((2, outputs[0]),)  # the angle and its sine

    def form(self, *, last: bool) -> FunctionForm:
        helper = sine_positions(last=last)
        arguments = (Argument("out", self.out), Argument("temperature", self.temperature))
        return FunctionForm(f"{helper.name}({{0}}, {{out}}, {{temperature}})", arguments, helper=helper.source)

    def caption(self, rank: int = 2) -> str:
        return f"sine positions, {self.out}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        half = self.out // 2
        yield f"y[2i] = sin(a_2i), y[2i + 1] = cos(a_2i), a_j = 2π · row / {outputs[0][1]} / T^(j/{half})"
        yield f"T = {self.temperature:g}"
        yield f"for rows from 1 to {outputs[0][1]}; the other {half} channels alike for the {outputs[0][2]} columns"


class Differences(Fixed):
    """The differences of positions in a window, on a logarithmic scale: a fixed tensor.

    [C, h, w] → [2, 2h − 1, 2w − 1]: rows and columns. A small network makes biases of them, which `relative` looks up
    for `attend`. `scale = relative`: sign(d) · log₈(1 + |d|), for differences d from −8 to 8 whatever the window;
    `positions`: sign(d) · log(1 + |d|), for differences d in positions. `coordinates` keeps the first as a buffer.

    Errors: a tensor that is no map.

    Liu et al., Swin transformer V2, 2022.
    """

    name = "differences"
    aliases = ("relativecoordinates", "relpos")
    helper_names = ("differences", "differences_last")

    scale: Literal["relative", "positions"] = "relative"

    examples = (example((3, 2, 3)), example((1, 4, 4), scale="positions"))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        height, width = self.plane(shapes[0])
        return ((2, 2 * height - 1, 2 * width - 1),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((3, outputs[0]),)  # 1 + |d|, its logarithm, and the sign

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
