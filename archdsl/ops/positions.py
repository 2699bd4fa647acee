"""Operations on the positions of a tensor: in a row, and back on a map."""

import math
from collections.abc import Iterator, Mapping, Sequence

from archdsl import dims
from archdsl.dims import Dim
from archdsl.ops import index_maps
from archdsl.ops.attention_helpers import SINE_POSITIONS
from archdsl.ops.base import Operation, Rules, Shape, example
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import Count, Positive, Switch, Target, shape_text, times
from archdsl.ops.forms import Argument, FunctionForm
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import IndexMap
from archdsl.ops.shape import Rearrangement
from archdsl.ops.sizes import ints


class Tokens(Rearrangement):
    """Puts the positions in a row, line by line: tokens, as attention and mixers take them.

    [C, H, W] → [C, H · W], and so for any number of spatial axes. `maps` is the way back.

    Errors: a flat tensor.

    Dosovitskiy et al., An image is worth 16×16 words, 2021.
    """

    name = "tokens"
    channelwise = True
    needs_whole = True
    layout = "any"
    formula_text = "the same numbers: each position with all its channels, the positions line by line"

    examples = (example((3, 4, 5)), example((2, 7)), example((2, 3, 4, 5)))

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        if len(shape) < 2:
            raise OperationError(
                f"`tokens` needs a tensor with positions, such as [C, H, W]; this one is flat: {shape_text(shape)}",
                inputs=(0,),
                help="put it before the `flatten`; `reshape` makes tokens of a flat tensor",
            )
        return ((shape[0], math.prod(shape[1:])),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm("{0}.flatten(2)")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm("{0}.flatten(1, -2)")

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {0: tuple(index_maps.digits(ints(shapes[0][1:])))}


class Maps(Rearrangement):
    """Puts a row of tokens back on a map: the way back from `tokens`.

    [C, H · W] → [C, H, W], for the sizes of the map: those of a tensor, `maps(x.size)`, or numbers, `maps(14x14)`.

    Errors: another number of tokens than the map has positions; a tensor that is no row of tokens.
    """

    name = "maps"
    aliases = ("unflatten",)
    channelwise = True
    layout = "any"
    formula_text = "the same numbers: the tokens line by line on the map"

    to: Target

    examples = (
        example((3, 20), to=(4, 5)),
        example((2, 7), to=7),
        example((2, 24), to=(2, 3, 4)),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        sizes = self._sizes()
        if len(shape) != 2:
            raise OperationError(
                f"`maps` needs a row of tokens, [C, T]; this tensor is {shape_text(shape)}",
                inputs=(0,),
                help="`tokens` makes one of a map; `reshape` changes the sizes of any tensor",
                mends=[Mend("put `tokens` before it", before="tokens")] if len(shape) > 2 else (),
            )
        for size in sizes:
            rules.require(
                dims.at_least(size, 1),
                f"`maps` to {times([dims.text(d) for d in sizes])} gives an empty tensor",
                parameter="to",
                help="give sizes of at least 1",
            )
        count = math.prod(sizes)
        rules.require(
            dims.equal(shape[1], count),
            f"`maps` to {times([dims.text(d) for d in sizes])} needs {dims.text(count)} tokens; the tensor is "
            f"{shape_text(shape)}",
            parameter="to",
            inputs=(0,),
            help="give the size of the map that the tokens come from, as in `maps(x.size)`; cut off other tokens "
            "before it, as in `slice(1, axis = 1)`",
        )
        return ((shape[0], *sizes),)

    def _sizes(self) -> tuple[Dim, ...]:
        return self.to if isinstance(self.to, tuple) else (self.to,)

    def sized(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Shape:
        return outputs[0][1:]

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm("torch.unflatten({0}, 2, {size})", (Argument("size", self._sizes()),))

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        return FunctionForm("torch.unflatten({0}, 1, {size})", (Argument("size", self._sizes()),))

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {0: (index_maps.counted(ints(outputs[0][1:])),)}

    def caption(self, rank: int = 2) -> str:
        return f"maps {times([dims.text(d) for d in self._sizes()])}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"{self.formula_text}, {shapes[0][1]:,} tokens on {times(outputs[0][1:])} positions"


class SinePositions(Operation):
    """Sines and cosines of each position, of as many wavelengths as channels: a fixed tensor of the size of a map.

    [C, …] → [channels, …], the same for every sample: of its input it takes the size. Each axis has an equal part of
    the channels, the first axis first, a sine and a cosine in turn; the i-th pair of n has the frequency
    temperature^(−i / n). Positions count from 1 and the last one is 2π; with `normalized = false` they count from 0.

    Errors: a flat tensor; `channels` that are no multiple of twice the number of axes.

    Vaswani et al., Attention is all you need, 2017 (`normalized = false`); Carion et al., DETR, 2020; El-Nouby et al.,
    XCiT, 2021.
    """

    name = "sine_positions"
    aliases = ("positionalencoding", "sinepositionalencoding", "positionembeddingsine", "positionalencodingfourier")
    family = "attention"
    sized_by = (0,)
    once = True
    helper_names = (SINE_POSITIONS.name,)

    channels: Count
    temperature: Positive = 10000.0
    normalized: Switch = True

    examples = (
        example((3, 4, 5), channels=8),
        example((2, 7), channels=6, normalized=False),
        example((2, 3, 4, 5), channels=12, temperature=20.0),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        if len(shape) < 2:
            raise OperationError(
                f"`sine_positions` needs a tensor with positions, such as [C, H, W]; this one is {shape_text(shape)}",
                inputs=(0,),
                help="put it before the `flatten`",
            )
        parts = 2 * (len(shape) - 1)
        rules.require(
            self.channels % parts == 0,
            f"`channels` of `sine_positions` must be a multiple of {parts}, a sine and a cosine for each axis; got "
            f"{self.channels}",
            parameter="channels",
            help=f"use {-(-self.channels // parts) * parts}",
        )
        return ((self.channels, *shape[1:]),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> FunctionForm:
        arguments = [Argument("channels", self.channels)]
        more = ""
        if self.temperature != type(self).fields["temperature"].default:
            arguments.append(Argument("temperature", self.temperature))
            more += ", temperature={temperature}"
        more += "" if self.normalized else ", normalized=False"
        template = f"sine_positions({{0}}, {{channels}}{more})"
        return FunctionForm(template, tuple(arguments), helper=SINE_POSITIONS.source)

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        return {}

    def caption(self, rank: int = 2) -> str:
        return f"sine positions, {self.channels}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        each = self.channels // (len(shapes[0]) - 1)
        at = "p = 2π · (i + 1) / n for position i of n" if self.normalized else "p = i for position i"
        waves = f"for k = 0 … {each // 2 - 1} and each axis"
        yield f"sin(p / {self.temperature:g}^(2k / {each})), then the cos of that, {waves}; {at}"
