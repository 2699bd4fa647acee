"""Attention without weights, and the biases of its scores by relative positions."""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from archdsl.common.units import counted
from archdsl.ops import attention_helpers
from archdsl.ops.attention import Mixing, positions
from archdsl.ops.base import Kept, Operation, Rules, Saves, Shape, Weight, Window, example
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Count, Positive, Switch, shape_text, times
from archdsl.ops.forms import Argument, FunctionForm, ParameterForm, TorchForm
from archdsl.ops.formulas import Section, Sizes
from archdsl.ops.helpers import Helper
from archdsl.ops.index_maps import ChannelMap
from archdsl.ops.sizes import channels, ints
from archdsl.ops.validation import Accepts

Scale = Annotated[
    Literal["cosine"] | Positive | None,
    Accepts("`none`, a number above 0, or `cosine`"),
]


class Attend(Mixing):
    """Multi-head attention without weights, of a parallel `(q, k, v)`: F.scaled_dot_product_attention.

    [C, …], [C, …], [D, …] → [D, …]: as many positions as q. A fourth tensor is a bias, added to the scores of each
    head: [heads, T, T] (see `relative`). Scores are q · k times `scale`; `none` is 1 / √(channels of a head), `cosine`
    the cosine of their angle times a learned factor per head, whose key is the path of the operation; `stored` is its
    shape in the state_dict, `maps` [heads, 1, 1] or `flat` [heads].

    Errors: other numbers of tensors; `heads` that do not divide the channels; k and v with different positions.

    Vaswani et al., 2017; Liu et al., Swin transformer V2, 2022 (cosine).
    """

    name = "attend"
    aliases = ("scaleddotproductattention", "sdpa")
    inputs = "any"
    bias_at = 3
    layout = "last"
    helper_names = ("attend_first", "attend_last", "cosine_attend_first", "cosine_attend_last")

    scale: Scale = None
    stored: Literal["maps", "flat"] = "maps"

    examples = (
        example((8, 5), (8, 5), (8, 5), heads=2),
        example((8, 3, 4), (8, 3, 4), (6, 3, 4), heads=2, scale=0.1),
        example((8, 5), (8, 7), (4, 7), heads=4),
        example((8, 5), (8, 5), (8, 5), heads=2, causal=True),
        example((8, 5), (8, 5), (8, 5), (2, 5, 5), heads=2),
        example((8, 2, 3), (8, 2, 3), (8, 2, 3), (2, 6, 6), heads=2, scale="cosine"),
        example((8, 5), (8, 5), (8, 5), heads=2, scale="cosine", stored="flat"),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        if len(shapes) not in (3, 4):
            raise OperationError(
                f"`attend` takes `(q, k, v)` or `(q, k, v, bias)`; {counted(len(shapes), 'tensor')} flow in",
                inputs=tuple(range(len(shapes))),
                help="`qkv: linear(3 * it.channels) -> (q, k, v): split(3)` makes three of one",
            )
        for i, shape in enumerate(shapes[:3]):
            positions(self.name, shape, i)
        queries, keys, values = (channels(self.name, shape) for shape in shapes[:3])
        rules.require(
            queries == keys,
            f"`attend` needs as many channels of queries as of keys; {queries} and {keys}",
            inputs=(0, 1),
        )
        self.divided(queries, " of the queries", 0)
        self.divided(values, " of the values", 2)
        self.match(shapes[1], shapes[2], (1, 2), rules, "keys and values at the same positions")
        if self.causal:
            self.match(shapes[0], shapes[1], (0, 1), rules, "queries and keys at the same positions to be `causal`")
            rules.require(
                len(shapes) == 3 and self.scale != "cosine",
                "`attend` cannot be `causal` with a bias, or with cosines",
                parameter="causal",
                help="leave out `causal`, or the bias",
            )
        rules.require(
            self.stored == "maps" or self.scale == "cosine",
            "`stored` is the shape of the factors of `scale = cosine`",
            parameter="stored",
            help="leave it out, or add `scale = cosine`",
        )
        if len(shapes) == 4:
            self.fits(shapes, rules)
        return ((values, *shapes[0][1:]),)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        return (Weight("", self._stored()),) if self.scale == "cosine" else ()

    def _stored(self) -> tuple[int, ...]:
        """The shape of the factors of cosines."""
        return (self.heads,) if self.stored == "flat" else (self.heads, 1, 1)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm:
        return self.form(last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm | None:
        return self.form(last=True)

    def form(self, *, last: bool) -> TorchForm:
        cosine = self.scale == "cosine"
        helper = attention_helpers.attend(cosine=cosine, last=last)
        if cosine:
            view = ".view(-1, 1, 1)" if self.stored == "flat" else ""
            template = f"{helper.name}({{all}}, heads={{heads}}, logit_scale={{parameter}}{view})"
            heads = Argument("heads", self.heads)
            return ParameterForm(template, self._stored(), math.log(10), arguments=(heads,), helper=helper.source)
        arguments = [Argument("heads", self.heads)]
        more = ""
        if self.scale is not None:
            arguments.append(Argument("scale", self.scale))
            more += ", scale={scale}"
        if self.causal:
            more += ", causal=True"
        return FunctionForm(f"{helper.name}({{all}}, heads={{heads}}{more})", tuple(arguments), helper=helper.source)

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        count = channels(self.name, shapes[0]) + channels(self.name, shapes[2])
        return ((count, (*shapes[0][1:], *shapes[1][1:])),)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((self.heads * (2 if len(shapes) == 4 else 1), (*shapes[0][1:], *shapes[1][1:])),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        # Queries, keys and values, the result, and the logarithms of the sums of the softmax.
        rest, given = Kept((self.heads, *shapes[0][1:])), tuple(map(Kept, shapes[:3]))
        turned: tuple[Kept, ...] = ()
        if self.scale == "cosine":  # queries and keys of length 1, these queries times the factor, and the lengths
            turned = tuple(Kept(shapes[i], always=True) for i in (0, 0, 1))
            turned += tuple(Kept((self.heads, *shapes[i][1:])) for i in (0, 0, 1, 1))
            turned += (Kept((self.heads,), batched=False),)
        never = Saves(inputs=True, outputs=True, more=(*turned, rest), within=(*given, *[Kept(outputs[0])] * 2))
        # PyTorch's kernel that never holds the scores knows neither the gradient of a bias nor values of other widths.
        scores, alike = Kept((self.heads, *shapes[0][1:], *shapes[1][1:])), shapes[2][0] == shapes[0][0]
        if alike and len(shapes) == 3:
            return never
        unlearned = never if alike else None
        return Saves(inputs=True, more=(*turned, scores), within=(scores, scores), unlearned=unlearned)

    def projected(self, count: int) -> tuple[int, ...]:
        return (0, 1, 2)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        out, count = channels(self.name, outputs[result]) // self.heads, channels(self.name, shapes[0]) // self.heads
        for head in range(self.heads):
            made, read = (range(head * n, (head + 1) * n) for n in (out, count))
            yield ChannelMap(0, made, read)
            yield ChannelMap(1, made, read)
            yield ChannelMap(2, made, made, each=True)
            if len(shapes) == 4:
                yield ChannelMap(3, made, range(0, 1) if shapes[3][0] == 1 else range(head, head + 1))

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        each = shapes[0][0] // self.heads
        bias = " + B_i" if len(shapes) == 4 else ""
        match self.scale:
            case None:
                score = f"Q_i K_iᵀ / √{each}"
            case "cosine":
                score = "s_i · cos(Q_i, K_i)"
            case number:
                score = f"{number:.4g} · Q_i K_iᵀ"
        lines = [
            f"y = [head 1; …; head {self.heads}], with head i = softmax({score}{bias}) V_i, of {each} channels each"
        ]
        if self.scale == "cosine":
            lines.append("s_i = exp(min(learned, log 100)), initially 10")
        yield Section("formula", *lines, *self.softmax(shapes))
        (pair,) = self.products(tuple(shapes), tuple(outputs))
        yield Section("multiply-accumulates", f"{pair[0] * math.prod(ints(pair[1])):,} in QKᵀ and the product with V")


Window2 = Annotated[Count | tuple[Count, Count], Accepts("an int of at least 1, or a size such as 7x7")]


class Relative(Operation):
    """Looks up a bias for each pair of positions in a window, by their difference: for `attend`.

    [heads, (2h − 1) · (2w − 1)], or [heads, 2h − 1, 2w − 1], → [heads, h · w, h · w], for a window of h × w positions.
    `signed = false` looks at absolute differences: [heads, h · w]. With a `step` the queries are every so many
    positions: ⌈h / step⌉ · ⌈w / step⌉. `class_token` is one more position, before the others: three more numbers, for
    its differences to others, theirs to it, and its own.

    The numbers of the differences are an integer buffer, whose key is the path of the operation; `stored` is its shape:
    `rows` in one row, `matrix` [h · w, h · w], `none` without a buffer: they are computed when they are needed.

    Errors: another number of differences than the window has; `step` or `class_token` with a buffer.

    Liu et al., Swin transformer, 2021; Graham et al., LeViT, 2021 (`signed = false`, `step`); Bao et al., BEiT, 2021
    (`class_token`).
    """

    name = "relative"
    aliases = ("relativepositionbias",)
    family = "attention"
    is_linear = True
    layout = "last"
    channelwise = True
    helper_names = ("relative_bias", "relative_bias_last")

    window_size: Window2
    stored: Literal["rows", "matrix"] | None = "rows"
    signed: Switch = True
    step: Count = 1
    class_token: Switch = False

    examples = (
        example((2, 15), window_size=(2, 3)),
        example((3, 3, 5), window_size=(2, 3), stored="matrix"),
        example((2, 9), window_size=2),
        example((2, 6), window_size=(2, 3), stored="matrix", signed=False),
        example((2, 12), window_size=(4, 3), stored=None, signed=False, step=2),
        example((2, 18), window_size=(2, 3), stored=None, class_token=True),
    )

    @property
    def sides(self) -> tuple[int, int]:
        return self.window_size if isinstance(self.window_size, tuple) else (self.window_size, self.window_size)

    @property
    def index_shape(self) -> tuple[int, ...]:
        count = math.prod(self.sides)
        return (count, count) if self.stored == "matrix" else (count * count,)

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        (shape,) = shapes
        height, width = (2 * n - 1 if self.signed else n for n in self.sides)
        more = 3 if self.class_token else 0
        known = [(height * width + more,), *([] if more else [(height, width)])]
        wanted = " or ".join(f"[heads, {', '.join(map(str, sizes))}]" for sizes in known)
        rules.require(
            shape[1:] in known,
            f"`relative` of a window of {times(self.sides)} needs {wanted}; the tensor is {shape_text(shape)}",
            inputs=(0,),
            help="begin with `parameter([heads, (2 * window - 1) * (2 * window - 1)], stored = rows)`",
        )
        for name, given in (("step", self.step > 1), ("class_token", self.class_token)):
            rules.require(
                not given or self.stored is None,
                f"`relative` with `{name}` has no buffer",
                parameter=name,
                help="add `stored = none`",
            )
        extra = int(self.class_token)
        queries, keys = (math.prod(-(-n // step) for n in self.sides) for step in (self.step, 1))
        return ((shape[0], queries + extra, keys + extra),)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        index = Weight("", self.index_shape, trainable=False, buffer=True, dtype="int64", fixed=True)
        return (index,) if self.stored else ()

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm:
        return self.form(attention_helpers.LOOK_UP) if self.stored else self.looked_up(last=False)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm:
        return self.form(attention_helpers.LOOK_UP_LAST) if self.stored else self.looked_up(last=True)

    def form(self, look_up: Helper) -> ParameterForm:
        index = attention_helpers.INDEX if self.signed else attention_helpers.DISTANCES
        return ParameterForm(
            f"{look_up.name}({{0}}, {{parameter}})",
            self.index_shape,
            helper=look_up.source,
            made=index.name,
            making=index.source,
            numbers=(*self.sides, len(self.index_shape)),
        )

    def looked_up(self, *, last: bool) -> FunctionForm:
        helper = attention_helpers.relative_bias(last=last)
        height, width = self.sides
        arguments = [Argument("height", height), Argument("width", width)]
        more = "" if self.signed else ", signed=False"
        if self.step > 1:
            arguments.append(Argument("step", self.step))
            more += ", step={step}"
        more += ", class_token=True" if self.class_token else ""
        return FunctionForm(
            f"{helper.name}({{0}}, {{height}}, {{width}}{more})", tuple(arguments), helper=helper.source
        )

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True)

    def caption(self, rank: int = 2) -> str:
        return f"relative {times(self.sides)}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        count, pairs = math.prod(self.sides), outputs[0][1] * outputs[0][2]
        what = "difference" if self.signed else "distance"
        yield f"B[i, j] = x[the number of the {what} of positions i and j], of {count} positions: {pairs:,} pairs"


class Coordinates(Operation):
    """The differences of positions in a window, on a logarithmic scale: a fixed tensor, which takes nothing.

    → [2, 2h − 1, 2w − 1], for a window of h × w positions. It is a buffer [1, 2h − 1, 2w − 1, 2], whose key is the path
    of the operation. A small network makes a continuous bias of it.

    Liu et al., Swin transformer V2, 2022.
    """

    name = "coordinates"
    family = "learned"
    inputs = "none"
    is_learned = True
    layout = "last"

    window_size: Window2

    examples = (example(window_size=(2, 3)), example(window_size=4))

    @property
    def sides(self) -> tuple[int, int]:
        return self.window_size if isinstance(self.window_size, tuple) else (self.window_size, self.window_size)

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        height, width = self.sides
        return ((2, 2 * height - 1, 2 * width - 1),)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        ((two, *sizes),) = self.infer((), Rules())
        return (Weight("", ints((1, *sizes, two)), trainable=False, buffer=True, fixed=True),)

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ParameterForm:
        return self.form("{parameter}.permute(0, 3, 1, 2)")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ParameterForm:
        return self.form("{parameter}")

    def form(self, template: str) -> ParameterForm:
        (weight,) = self.weights(())
        helper = attention_helpers.COORDINATES
        return ParameterForm(template, weight.shape, made=helper.name, making=helper.source, numbers=self.sides)

    def caption(self, rank: int = 2) -> str:
        return f"coordinates {times(self.sides)}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield "sign(8d) · log₂(1 + |8d|) / 3, for differences d from -1 to 1 down and to the right"
