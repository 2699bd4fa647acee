"""Rotary positions: queries and keys are turned by angles that follow from their positions."""

from collections.abc import Iterator, Sequence
from typing import Literal

from archdsl.ops.base import Kept, Operation, Rules, Saves, Shape, example
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Count, Positive, shape_text
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.helpers import Helper
from archdsl.ops.index_maps import ChannelMap
from archdsl.ops.sizes import channels, spatial


def rotary(*, last: bool, centred: bool = False) -> Helper:
    """The function that turns pairs of channels, with the channels first or last, by positions as they are said."""
    name = ("centred_" if centred else "") + ("rotary_last" if last else "rotary")
    at = "((2 * torch.arange(size, **kw) + 1) / size - 1) * 2 * torch.pi" if centred else "torch.arange(size, **kw)"
    angle_of = f"({at})[:, None] / waves" if centred else f"{at}[:, None] / waves"
    places = "positions between -1 and 1" if centred else "the positions"
    sizes = "x.shape[1:-1]" if last else "x.shape[2:]"
    count = "x.shape[-1]" if last else "x.shape[1]"
    angle = "torch.cat(angles, -1).unsqueeze(-2)" if last else "torch.cat(angles, -1).movedim(-1, 0)"
    axis, flat = ("-2 if halves else -1", "-3") if last else ("2 if halves else 3", "1, 3")
    split = "-1" if last else "1"
    tensor = "[N, ..., C]" if last else "[N, C, ...]"
    return Helper(
        name,
        f'''def {name}(x: Tensor, heads: int, temperature: float, halves: bool = False) -> Tensor:
    """Turns pairs of channels of each head of {tensor}, by angles of {places}.

    A pair is two neighbours, or with `halves` one of each half of a head.
    """
    sizes, each = {sizes}, {count} // heads
    count = each // (2 * len(sizes))
    kw = {{"device": x.device, "dtype": torch.promote_types(x.dtype, torch.float32)}}
    waves = temperature ** (torch.arange(count, **kw) / count)
    angles = []
    for axis, size in enumerate(sizes):
        angle = {angle_of}
        for _ in sizes[axis + 1 :]:
            angle = angle.unsqueeze(1)
        angles.append(angle.expand(*sizes, count))
    angle = {angle}
    sine, cosine = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    parts = (heads, 2, each // 2) if halves else (heads, each // 2, 2)
    axis = {axis}
    a, b = x.unflatten({split}, parts).unbind(axis)
    turned = torch.stack([a * cosine - b * sine, b * cosine + a * sine], axis)
    return turned.flatten({flat})
''',
    )


class Rotary(Operation):
    """Turns pairs of channels by angles that follow from the position: for queries and keys of `attend`.

    [C, …] → [C, …]: their products then depend on differences of positions alone. Each head has as many angles for each
    axis: position · temperature^(−j / n), for j from 0 to n − 1. `pairs` are two `neighbours`, or one channel of each
    of the two `halves` of a head. Positions are `counted` from 0, or `centred`: 2π times the middles of equal parts
    from −1 to 1, whatever the size. Nothing is learned.

    Errors: a flat tensor; heads whose channels are no multiple of twice the number of axes.

    Su et al., RoFormer, 2021; Fang et al., EVA-02, 2023 (of maps); Siméoni et al., DINOv3, 2025 (`centred`).
    """

    name = "rotary"
    aliases = ("rope", "rotaryembedding", "rotarypositions")
    family = "attention"
    is_linear = True
    layout = "last"
    helper_names = ("rotary", "rotary_last", "centred_rotary", "centred_rotary_last")

    heads: Count
    temperature: Positive = 10000.0
    pairs: Literal["neighbours", "halves"] = "neighbours"
    positions: Literal["counted", "centred"] = "counted"

    examples = (
        example((16, 3, 4), heads=2),
        example((16, 5), heads=2, temperature=100.0, pairs="halves"),
        example((8, 4, 3), heads=1, pairs="halves"),
        example((16, 3, 5), heads=2, temperature=100.0, pairs="halves", positions="centred"),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        count, axes = channels(self.name, shape), len(spatial(self.name, shape))
        if count % (self.heads * 2 * axes):
            raise OperationError(
                f"`rotary` turns pairs of channels in {self.heads} heads, for {axes} axes: {count} channels of "
                f"{shape_text(shape)} are no multiple of {self.heads * 2 * axes}",
                parameter="heads",
                inputs=(0,),
                help="use other heads, as in the `attend` behind it",
            )
        return (shape,)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return self.form(last=True)

    def form(self, *, last: bool) -> FunctionForm:
        helper = rotary(last=last, centred=self.positions == "centred")
        arguments = (Argument("heads", self.heads), Argument("temperature", self.temperature))
        more = ", halves=True" if self.pairs == "halves" else ""
        return FunctionForm(f"{helper.name}({{0}}, {{heads}}, {{temperature}}{more})", arguments, helper=helper.source)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((3, shapes[0]),)  # two products and a sum

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        half = channels(self.name, shapes[0]) // self.heads // 2
        return Saves(more=(Kept((half, *shapes[0][1:]), batched=False, always=True),) * 2)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        count = channels(self.name, shapes[0])
        half = count // self.heads // 2
        for channel in range(count):
            if self.pairs == "neighbours":
                first = channel - channel % 2
                yield ChannelMap(0, range(channel, channel + 1), range(first, first + 2))
                continue
            other = channel + (half if channel // half % 2 == 0 else -half)
            for read in sorted((channel, other)):
                yield ChannelMap(0, range(channel, channel + 1), range(read, read + 1))

    def caption(self, rank: int = 2) -> str:
        return f"rotary, {self.heads} heads" if self.heads > 1 else "rotary"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        each, axes = shapes[0][0] // self.heads, len(shapes[0]) - 1
        count = each // 2 // axes
        yield "(a, b) becomes (a cos φ - b sin φ, b cos φ + a sin φ), for each pair of channels"
        if self.positions == "centred":
            yield "positions are 2π · ((2i + 1) / n - 1) for i from 0 to n - 1"
        yield f"φ = position · {self.temperature:g}^(-j / {count}), for j from 0 to {count - 1} along each axis in turn"
