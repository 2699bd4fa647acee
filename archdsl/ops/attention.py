"""Attention: each position becomes a mean of all positions, weighted by how well their channels match."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from archdsl import dims
from archdsl.common.units import counted
from archdsl.dims import Dim
from archdsl.ops import helpers, index_maps
from archdsl.ops.base import Kept, Operation, Rules, Saves, Shape, Weight, Window, example, renamed
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import Count, Fraction, Switch, shape_text, shown
from archdsl.ops.forms import ModuleForm
from archdsl.ops.formulas import Section, Sizes
from archdsl.ops.index_maps import IndexMap
from archdsl.ops.sizes import channels, ints, near_divisor, options, positional


def positions(name: str, shape: Shape, which: int) -> tuple[Dim, ...]:
    """The sizes of the axes behind the channels; OperationError for a flat tensor."""
    if len(shape) > 1:
        return shape[1:]
    raise OperationError(
        f"`{name}` mixes positions, such as those of [C, H, W] or [C, T]; this tensor has none: {shape_text(shape)}",
        inputs=(which,),
        help=f"put `{name}` before the `flatten` or the pooling",
    )


class Mixing(Operation):
    """The base of operations that mix all positions by scores."""

    family = "attention"
    attends = True
    needs_batches = 3
    heads: Count
    causal: Switch = False

    def divided(self, count: int, what: str, which: int, parameter: str = "heads") -> None:
        """Raises OperationError unless the heads divide a number of channels."""
        if count % self.heads:
            near = near_divisor(count, self.heads)
            raise OperationError(
                f"`heads` must divide the channels{what}: {count} is not a multiple of {self.heads}",
                parameter=parameter,
                inputs=(which,),
                mends=[Mend(f"use `heads = {near}`, which divides {count}", {"heads": shown(near)})],
            )

    def match(self, first: Shape, second: Shape, where: tuple[int, int], rules: Rules, what: str) -> None:
        """Demands that two tensors have equally many positions, which are the same where sizes are free."""
        message = f"`{self.name}` needs {what}; these are {shape_text(first)} and {shape_text(second)}"
        if all(isinstance(size, int) for size in (*first, *second)):
            rules.require(math.prod(ints(first[1:])) == math.prod(ints(second[1:])), message, inputs=where)
            return
        rules.require(len(first) == len(second), message, inputs=where)
        for a, b in zip(first[1:], second[1:], strict=True):
            rules.require(dims.equal(a, b), message, inputs=where)

    def fits(self, shapes: tuple[Shape, ...], rules: Rules) -> None:
        """Demands that a bias has the size of the scores."""
        bias = shapes[3]
        known = [math.prod(ints(shape[1:])) if all(isinstance(n, int) for n in shape) else None for shape in shapes[:2]]
        message = f"the bias of `{self.name}` must have the size of the scores, [{self.heads}, queries, keys]"
        right = len(bias) == 3 and bias[0] in (1, self.heads)
        rules.require(
            right and (None in known or tuple(bias[1:]) == tuple(known)),
            f"{message}; it is {shape_text(bias)}, for {shape_text(shapes[0])} and {shape_text(shapes[1])}",
            inputs=(3,),
        )
        if None in known:
            raise OperationError(f"{message}, which must not depend on a free size", inputs=(0, 3))

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        everywhere = {i: tuple(map(index_maps.everything, ints(shape[1:]))) for i, shape in enumerate(shapes)}
        if len(shapes) == 1:
            return everywhere
        # A position's query is its own; the keys and values are those of all positions.
        return everywhere | {0: tuple(map(index_maps.shifted, range(len(shapes[0]) - 1)))}

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True)

    def caption(self, rank: int = 2) -> str:
        return f"{self.name}, {counted(self.heads, 'head')}" + (", causal" if self.causal else "")

    def softmax(self, shapes: Sequence[Sizes]) -> Iterator[str]:
        """The lines about the scores, for the sizes of queries and keys."""
        queries, keys = math.prod(shapes[0][1:]), math.prod(shapes[min(1, len(shapes) - 1)][1:])
        scores = self.heads * queries * keys
        yield f"scores: {queries:,} × {keys:,} of each head, {scores:,} in all; each row adds up to 1"
        if self.causal:
            yield "causal: no position sees those behind it, their scores are -∞ before the softmax"


class Attention(Mixing):
    """Multi-head attention with its own weights, those of nn.MultiheadAttention.

    [C, …] → [C, …], of tokens and maps alike: every position sees all positions. Of a parallel `(q, kv)` or
    `(q, k, v)` it is cross-attention: as many positions as q, whose channels are divided among the heads; the others
    may have other channels and positions. A fourth tensor is a bias, added to the scores of each head: [heads, T, T]
    (see `relative`). `causal`: no position sees those behind it. `dropout` is that of the scores.

    Errors: a flat tensor; `heads` that do not divide the channels; k and v with different positions.

    Vaswani et al., Attention is all you need, 2017.
    """

    name = "attention"
    aliases = ("multiheadattention", "mha", "selfattention", "crossattention", "multiheadselfattention")
    inputs = "any"
    bias_at = 3
    spreads = True
    own = True
    layout = "last"
    pytorch_names = renamed(heads="num_heads")

    dropout: Fraction = 0.0
    bias: Switch = True

    most: ClassVar[int] = 4
    """The number of inputs at most."""

    examples = (
        example((8, 5), heads=2),
        example((6, 3, 4), heads=3, bias=False),
        example((8, 5), heads=2, causal=True),
        example((4, 2, 3, 2), heads=1),
        example((8, 5), (8, 7), heads=4),
        example((8, 3, 2), (6, 7), heads=2),
        example((6, 5), (4, 3), (2, 3), heads=2),
        example((6, 5), (6, 5), (6, 5), heads=2, causal=True),
        example((6, 2, 3), (4, 2, 3), (4, 2, 3), (1, 6, 6), heads=2),
        example((6, 5), (6, 5), (6, 5), (2, 5, 5), heads=2),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        if len(shapes) > self.most:
            raise OperationError(
                f"`attention` takes one tensor, `(q, kv)`, `(q, k, v)` or `(q, k, v, bias)`; {len(shapes)} flow in",
                inputs=tuple(range(len(shapes))),
            )
        for i, shape in enumerate(shapes[:3]):
            positions(self.name, shape, i)
            channels(self.name, shape)
        self.divided(channels(self.name, shapes[0]), " of the queries" if len(shapes) > 1 else "", 0)
        if len(shapes) > 2:
            self.match(shapes[1], shapes[2], (1, 2), rules, "keys and values at the same positions")
        if self.causal and len(shapes) > 1:
            self.match(shapes[0], shapes[1], (0, 1), rules, "queries and keys at the same positions to be `causal`")
        if len(shapes) == 4:
            rules.require(
                not self.causal,
                "`attention` cannot be `causal` with a bias",
                parameter="causal",
                help="leave out `causal`, or the bias",
            )
            self.fits(shapes, rules)
        return (shapes[0],)

    def widths(self, shapes: tuple[Shape, ...]) -> tuple[int, int, int]:
        """The channels of queries, keys and values."""
        found = [channels(self.name, shape) for shape in shapes[:3]]
        return found[0], found[min(1, len(found) - 1)], found[-1]

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        width, keys, values = self.widths(shapes)
        if width == keys == values:
            into = [Weight("in_proj_weight", (3 * width, width))]
        else:
            pairs = (("q", width), ("k", keys), ("v", values))
            into = [Weight(f"{name}_proj_weight", (width, count)) for name, count in pairs]
        biases = [Weight("in_proj_bias", (3 * width,))] if self.bias else []
        out = [Weight("out_proj.weight", (width, width))]
        return (*into, *biases, *out, *([Weight("out_proj.bias", (width,))] if self.bias else []))

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        return self.form(shapes, "channels")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        tokens = all(len(shape) == 2 for shape in shapes[:3])
        return self.form(shapes, "tokens" if tokens else "maps")

    def form(self, shapes: tuple[Shape, ...], layout: Literal["channels", "tokens", "maps"]) -> ModuleForm:
        width, keys, values = self.widths(shapes)
        others = not width == keys == values
        helper = helpers.attention(len(shapes), layout, causal=self.causal, widths=others)
        arguments = (
            *positional(embed_dim=width, num_heads=self.heads),
            *options(("dropout", self.dropout, 0.0), ("bias", self.bias, True)),
            *options(("kdim", keys, width), ("vdim", values, width), ("batch_first", True, False)),
        )
        base, holds = "nn.MultiheadAttention", ("nn.Linear",)
        return ModuleForm(helper.name, arguments, helper.source, base, holds, factory=True)

    def in_evaluation(self) -> Mapping[str, object]:
        return {"dropout": 0.0}

    def divides(self, shapes: tuple[Shape, ...]) -> Literal["heads"] | None:
        return "heads" if len(shapes) < self.most else None  # a bias has all heads

    # ------------------------------------------------------------ cost

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        width, keys, values = self.widths(shapes)
        queries, seen = shapes[0][1:], shapes[:3][-1][1:]
        scores = (2 * width, (*queries, *seen))  # with the keys, and with the values
        if len(shapes) == 1:
            return (4 * width * width, queries), scores
        return (2 * width * width, queries), (width * (keys + values), seen), scores

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        queries, seen = shapes[0][1:], shapes[:3][-1][1:]
        softmax = (self.heads * (2 if len(shapes) == 4 else 1), (*queries, *seen))
        width = channels(self.name, shapes[0])
        return (softmax, (2 * width, queries), (2 * width, seen)) if self.bias else (softmax,)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        # Its inputs; queries, keys and values; what is mixed; and the logarithms of the sums of the softmax.
        is_biased, shapes = len(shapes) == 4, shapes[:3]
        width, queries, seen = shapes[0][0], shapes[0][1:], shapes[-1][1:]
        mixed = [Kept((width, *axes), always=True) for axes in (queries, seen, seen, queries)]
        never = Saves(inputs=True, more=(*mixed, Kept((self.heads, *queries))), within=tuple(mixed))
        # PyTorch's kernel that never holds the scores on a CPU knows neither a dropout nor the gradient of a bias.
        scores = Kept((self.heads, *queries, *seen))
        if self.dropout:
            return Saves(inputs=True, more=(*mixed, *[scores] * 3), within=(scores, mixed[-1]))
        if is_biased:
            return Saves(inputs=True, more=(*mixed, scores), within=(scores, scores, mixed[-1]), unlearned=never)
        return never

    def projected(self, count: int) -> tuple[int, ...]:
        return {1: (0,), 2: (0, 1, 1)}.get(count, (0, 1, 2))

    # ------------------------------------------------------------ explanation

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        bias, pairs = " + B_i" if len(shapes) == 4 else "", self.products(tuple(shapes), tuple(outputs))
        shapes = shapes[:3]
        width, queries, keys = shapes[0][0], math.prod(shapes[0][1:]), math.prod(shapes[-1][1:])
        each = width // self.heads
        source = ["x", "x", "x"] if len(shapes) == 1 else ["q", *(["kv"] * 2 if len(shapes) == 2 else ["k", "v"])]
        made = ", ".join(f"{name} = W_{name} {x}" for name, x in zip("QKV", source, strict=True))
        yield Section(
            "formula",
            f"y = W_O · [head 1; …; head h], with head i = softmax(Q_i K_iᵀ / √d{bias}) V_i",
            f"{made}{', each with a bias' if self.bias else ''}",
            f"h = {self.heads} heads of d = {width} / {self.heads} = {each} channels, √d = {math.sqrt(each):.4g}",
            *self.softmax(shapes),
        )
        total = [count * math.prod(ints(shape)) for count, shape in pairs]
        yield Section(
            "multiply-accumulates",
            f"{sum(total[:-1]):,} in the four matrices, which grow with the positions",
            f"{total[-1]:,} in QKᵀ and the product with V, 2 · {width} · {queries:,} · {keys:,}: "
            "they grow with the square of the positions",
        )
