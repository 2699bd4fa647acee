"""Normalisations to mean 0 and variance 1, over the batch, the channels, groups of channels, or space."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

from archdsl.common.units import counted
from archdsl.ops import helpers
from archdsl.ops.base import Kept, Operation, Rules, Saves, Shape, Weight, Window, example, renamed
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.facts import ChannelFactor
from archdsl.ops.fields import AffineInit, Count, Number, Positive, Switch, shape_text, shown
from archdsl.ops.forms import ModuleForm, Start
from archdsl.ops.formulas import Sizes
from archdsl.ops.index_maps import ChannelMap, grouped
from archdsl.ops.sizes import channels, near_divisor, options, positional, rank_name, several_positions, spatial
from archdsl.ops.validation import Accepts

Momentum = Annotated[
    Annotated[float, Accepts(ge=0, le=1)] | None,
    Accepts("a number from 0 to 1, or `none` to average all batches"),
]


def affine_weights(count: int) -> tuple[Weight, ...]:
    return Weight("weight", (count,)), Weight("bias", (count,))


def start(init: AffineInit) -> Start | None:
    """The initialisation of the weight in the generated module; ones are the default."""
    return Start(init) if init != "ones" else None


def running_weights(count: int) -> tuple[Weight, ...]:
    means = (Weight(name, (count,), trainable=False, buffer=True) for name in ("running_mean", "running_var"))
    return (*means, Weight("num_batches_tracked", (), trainable=False, buffer=True, dtype="int64"))


def needs_weight(affine: bool, init: AffineInit) -> None:
    """Raises OperationError if there is no weight to initialise to zeros."""
    if init != "ones" and not affine:
        raise OperationError(
            f"`init = {init}` initialises a weight, but without `affine` there is none",
            parameter="init",
            help="leave out `init`, or set `affine = true`",
        )


NORMALISED = "y = γ · (x - mean) / √(σ² + ε) + β"
WHATEVER = "so it computes the same in training and afterwards, whatever the batch"


class Norm(Operation):
    """The base of normalisations, which keep the size."""

    family = "normalisation"
    reads_twice = True
    follows = True
    leads = True
    begins_box = True
    own = True

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        channels(self.name, shapes[0])
        if len(shapes[0]) > 1:
            spatial(self.name, shapes[0])
        return shapes

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        # Mean 1, variance 3, normalising each element 2; weight and bias are one factor and term.
        return ((6, shapes[0]),)

    def _statistics(self, shape: Shape) -> tuple[Kept, ...]:
        """The saved means and variances, one tensor each."""
        return (Kept(shape[:1], batched=False),) * 2

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True, more=self._statistics(shapes[0]))

    def learned(self, shapes: Sequence[Sizes]) -> str:
        return f"γ and β are learned, one of each per channel: 2 × {shapes[0][0]} numbers"

    def by_sample(self, over: str, eps: float) -> str:
        """The axes of the statistics, for each sample."""
        return f"mean and variance σ² {over}, for each sample by itself; ε = {eps:g} keeps √ above 0"


class Batchnorm(Norm):
    """Normalises each channel over the batch, and keeps running statistics for evaluation.

    [C, …] → [C, …], flat tensors too: (x − mean) / √(variance + eps) · weight + bias. `momentum` is the weight of a new
    batch in the running statistics; `none` averages all batches. `affine = false` has no weight and bias.
    `init = zeros` initialises the weight to 0: use it for the last batchnorm of a residual block, to start as identity.

    Errors: `init = zeros` without `affine`.

    Ioffe and Szegedy, Batch normalization, 2015.
    """

    name = "batchnorm"
    aliases = ("batchnormalization", "bn")
    is_linear = True
    uses_batch = True
    channels_at = 0
    channelwise = True

    eps: Positive = 1e-5
    momentum: Momentum = 0.1
    affine: Switch = True
    init: AffineInit = "ones"

    examples = (
        example((3, 4, 5)),
        example((3, 7), eps=1e-3, momentum=0.01),
        example((2, 3, 4, 5), affine=False),
        example((6,), momentum=None),
        example((3, 4, 5), init="zeros"),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        needs_weight(self.affine, self.init)
        return super().infer(shapes, rules)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        count = channels(self.name, shapes[0])
        return (*(affine_weights(count) if self.affine else ()), *running_weights(count))

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((2, shapes[0]),)  # the statistics are known: a factor and a term per channel

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        arguments = (
            *positional(num_features=shapes[0][0]),
            *options(("eps", self.eps, 1e-5), ("momentum", self.momentum, 0.1), ("affine", self.affine, True)),
        )
        return ModuleForm(f"nn.BatchNorm{rank_name(shapes[0])}", arguments, factory=True, start=start(self.init))

    def channel_factor(self) -> ChannelFactor:
        return ChannelFactor(self.eps, self.affine)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        positions = counted(math.prod(shapes[0][1:]), "position")
        share = "the mean over all batches" if self.momentum is None else f"{self.momentum:g} of each new batch's"
        yield f"{NORMALISED}, for each channel by itself"
        yield f"training: mean and variance σ² over the batch and {positions}; ε = {self.eps:g} keeps √ above 0"
        yield f"afterwards: the running mean and variance, which took {share}"
        yield self.learned(shapes) if self.affine else "without γ and β here"
        yield "then it is one factor and one term a channel: it can be folded into a convolution before it"


class Layernorm(Norm):
    """Normalises over the channels, separately at each position of each sample.

    [C, …] → [C, …], flat tensors too; one weight and bias per channel. `init = zeros` initialises the weight to 0.
    `affine = false` has no weight and bias, `bias = false` only the weight.

    Errors: `init = zeros`, or `bias = false`, without `affine`.

    Ba et al., Layer normalization, 2016; over the channels alone as in Liu et al., A ConvNet for the 2020s, 2022.
    """

    name = "layernorm"
    aliases = ("ln",)
    channels_at = 0
    layout = "last"
    pytorch_names = renamed(affine="elementwise_affine")

    eps: Positive = 1e-5
    init: AffineInit = "ones"
    affine: Switch = True
    bias: Switch = True

    examples = (
        example((6,)),
        example((3, 4, 5), eps=1e-6),
        example((3, 7)),
        example((2, 3, 4, 5)),
        example((3, 4), init="zeros"),
        example((3, 4), affine=False),
        example((3, 4, 5), bias=False),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        needs_weight(self.affine, self.init)
        rules.require(
            self.affine or self.bias,
            "`layernorm` without `affine` has no bias in any case",
            parameter="bias",
            help="leave out `bias = false`",
        )
        return super().infer(shapes, rules)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        return affine_weights(channels(self.name, shapes[0]))[: self.affine + (self.affine and self.bias)]

    def _statistics(self, shape: Shape) -> tuple[Kept, ...]:
        return (Kept((1, *shape[1:])),) * 2

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        form = self.torch_last(shapes, outputs)
        if len(shapes[0]) == 1:
            return form
        helper = helpers.CHANNEL_LAYER_NORM
        return replace(form, constructor=helper.name, helper=helper.source, base="nn.LayerNorm")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        arguments = (
            *positional(normalized_shape=shapes[0][0]),
            *options(("eps", self.eps, 1e-5), ("elementwise_affine", self.affine, True), ("bias", self.bias, True)),
        )
        return ModuleForm("nn.LayerNorm", arguments, factory=True, start=start(self.init))

    def learned(self, shapes: Sequence[Sizes]) -> str:
        if not self.affine:
            return "without γ and β here"
        if not self.bias:
            return f"γ is learned, one per channel: {shapes[0][0]} numbers; without β here"
        return super().learned(shapes)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield NORMALISED
        yield self.by_sample(f"over the {shapes[0][0]} channels, at each position", self.eps)
        yield WHATEVER
        yield self.learned(shapes)


class Rmsnorm(Norm):
    """Divides by the root of the mean square over the channels, separately at each position of each sample.

    [C, …] → [C, …], flat tensors too: x / √(mean(x²) + eps) · weight; one weight per channel, no mean and no bias.
    `affine = false` has no weight.

    Zhang and Sennrich, Root mean square layer normalization, 2019.
    """

    name = "rmsnorm"
    aliases = ("rms",)
    channels_at = 0
    layout = "last"
    pytorch_names = renamed(affine="elementwise_affine")

    eps: Positive = 1e-6
    affine: Switch = True

    examples = (
        example((6,)),
        example((3, 4, 5), eps=1e-5),
        example((3, 7), affine=False),
        example((2, 3, 4, 5)),
    )

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        return affine_weights(channels(self.name, shapes[0]))[: int(self.affine)]

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        return ((3 + self.affine, shapes[0]),)  # the squares, their sum, the division; the weight

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        return Saves(inputs=True, more=(Kept((1, *shapes[0][1:])),))

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        form = self.torch_last(shapes, outputs)
        if len(shapes[0]) == 1:
            return form
        helper = helpers.CHANNEL_RMS_NORM
        return replace(form, constructor=helper.name, helper=helper.source, base="nn.RMSNorm")

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        arguments = (
            *positional(normalized_shape=shapes[0][0]),
            *options(("eps", self.eps, None), ("elementwise_affine", self.affine, True)),
        )
        return ModuleForm("nn.RMSNorm", arguments, factory=True)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield "y = γ · x / √(mean(x²) + ε)" if self.affine else "y = x / √(mean(x²) + ε)"
        yield f"mean over the {shapes[0][0]} channels, at each position, for each sample by itself; ε = {self.eps:g}"
        yield WHATEVER
        yield f"γ is learned, one per channel: {shapes[0][0]} numbers" if self.affine else "without γ here"


class Groupnorm(Norm):
    """Normalises each group of channels over the group and all positions, separately for each sample.

    [C, …] → [C, …], flat tensors too; one weight and bias per channel, none with `affine = false`. `init = zeros` makes
    the weight 0.

    Errors: `groups` that do not divide the channels; a group of one number, which has no variance; `init` without them.

    Wu and He, Group normalization, 2018.
    """

    name = "groupnorm"
    aliases = ("gn",)
    channels_at = 1
    odd_at = 1
    pytorch_names = renamed(groups="num_groups")

    groups: Count
    eps: Positive = 1e-5
    init: AffineInit = "ones"
    affine: Switch = True

    examples = (
        example((6, 4, 5), groups=3),
        example((6, 7), groups=1),
        example((4, 3, 4, 5), groups=4, eps=1e-3),
        example((6,), groups=2),
        example((6, 7), groups=3, init="zeros"),
        example((6, 4, 5), groups=1, affine=False),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        needs_weight(self.affine, self.init)
        count = channels(self.name, shapes[0])
        if count % self.groups:
            raise OperationError(
                f"`groups` must divide the number of channels: {shown(count)} is not a multiple of {self.groups}",
                parameter="groups",
                inputs=(0,),
                help=f"`groups = {near_divisor(count, self.groups)}` divides {shown(count)}",
            )
        if count == self.groups:
            fewer = near_divisor(count, max(count // 2, 1))
            rules.require(
                several_positions(shapes[0][1:]),
                f"`groupnorm` needs more than one number in a group to compute a variance; in {shape_text(shapes[0])} "
                f"each of the {self.groups} groups has one",
                parameter="groups",
                inputs=(0,),
                help="use fewer groups or `layernorm`" if count > 1 else "leave it out here",
                mends=[Mend(f"use fewer groups, for example {fewer}, or `layernorm`", {"groups": str(fewer)})]
                if count > 1
                else (),
            )
        return super().infer(shapes, rules)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        return affine_weights(channels(self.name, shapes[0])) if self.affine else ()

    def _statistics(self, shape: Shape) -> tuple[Kept, ...]:
        return (Kept((self.groups,)),) * 2

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        arguments = positional(num_groups=self.groups, num_channels=shapes[0][0])
        arguments += options(("eps", self.eps, 1e-5), ("affine", self.affine, True))
        return ModuleForm("nn.GroupNorm", arguments, factory=True, start=start(self.init))

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True, statistics=True)

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        count = channels(self.name, shapes[0])
        return grouped(count, count, self.groups)

    def caption(self, rank: int = 2) -> str:
        return f"groupnorm {self.groups}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        each = counted(shapes[0][0] // self.groups, "channel")
        positions = counted(math.prod(shapes[0][1:]), "position")
        yield NORMALISED
        yield self.by_sample(f"over a group of {each} and {positions}, {counted(self.groups, 'group')}", self.eps)
        yield WHATEVER
        yield self.learned(shapes) if self.affine else "without γ and β here"


class Instancenorm(Norm):
    """Normalises each channel over its positions, separately for each sample.

    [C, …] → [C, …]. `affine = true` adds a weight and bias per channel, `track = true` keeps running statistics for
    evaluation. `init = zeros` initialises the weight to 0.

    Errors: a flat tensor, or a single position, which has no variance (with `track = true` in training only);
    `init = zeros` without `affine`.

    Ulyanov et al., Instance normalization, 2016.
    """

    name = "instancenorm"
    channels_at = 0
    pytorch_names = renamed(track="track_running_stats")
    channelwise = True

    eps: Positive = 1e-5
    momentum: Momentum = 0.1
    affine: Switch = False
    track: Switch = False
    init: AffineInit = "ones"

    examples = (
        example((3, 4, 5)),
        example((3, 7), affine=True),
        example((3, 7), affine=True, init="zeros"),
        example((2, 3, 4, 5), track=True, momentum=0.2, eps=1e-3),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        needs_weight(self.affine, self.init)
        rules.require(
            several_positions(spatial(self.name, shapes[0])),
            f"`instancenorm` needs more than one position to compute a variance; the tensor is {shape_text(shapes[0])}",
            inputs=(0,),
            help="leave it out here, or use `layernorm` or `groupnorm`",
            training=self.track,
        )
        return super().infer(shapes, rules)

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        count = channels(self.name, shapes[0])
        return (*(affine_weights(count) if self.affine else ()), *(running_weights(count) if self.track else ()))

    def _statistics(self, shape: Shape) -> tuple[Kept, ...]:
        return (Kept(shape[:1]),) * 2

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        arguments = (
            *positional(num_features=shapes[0][0]),
            *options(
                ("eps", self.eps, 1e-5),
                ("momentum", self.momentum, 0.1),
                ("affine", self.affine, False),
                ("track_running_stats", self.track, False),
            ),
        )
        constructor = f"nn.InstanceNorm{rank_name(shapes[0])}"
        return ModuleForm(constructor, arguments, factory=True, start=start(self.init))

    def window(self, shapes: tuple[Shape, ...]) -> Window:
        return Window(whole=True, statistics=True)

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield NORMALISED if self.affine else "y = (x - mean) / √(σ² + ε)"
        yield self.by_sample(f"over the {counted(math.prod(shapes[0][1:]), 'position')} of a channel", self.eps)
        yield "afterwards: the running mean and variance of training" if self.track else WHATEVER
        if self.affine:
            yield self.learned(shapes)


class Lrn(Norm):
    """Local response normalisation: divides by the activity of the `size` nearest channels.

    [C, …] → [C, …]: x / (k + alpha / size · Σ x²)^beta.

    Errors: a flat tensor.

    Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012.
    """

    name = "lrn"
    aliases = ("localresponsenorm",)
    own = False

    size: Count
    alpha: Number = 1e-4
    beta: Number = 0.75
    k: Number = 1.0

    examples = (
        example((7, 4, 5), size=5),
        example((6, 7), size=2, alpha=1e-3, beta=0.5, k=2.0),
        example((3, 2, 4, 5), size=3),
    )

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        spatial(self.name, shapes[0])
        return shapes

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        # 1 each for squares, alpha, k, the power and the quotient; size − 1 for the sum.
        return ((self.size + 4, shapes[0]),)

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        # PyTorch composes it: it saves the padded squares, the base of the power, and the power.
        squares = Kept((shapes[0][0] + self.size - 1, *shapes[0][1:]))
        power = Kept(shapes[0], always=True)
        return Saves(inputs=True, more=(squares, power, power))

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        count, before, after = channels(self.name, shapes[0]), self.size // 2, (self.size - 1) // 2
        for c in range(count):
            yield ChannelMap(0, range(c, c + 1), range(max(0, c - before), min(count, c + after + 1)))

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> ModuleForm:
        more = options(("alpha", self.alpha, 1e-4), ("beta", self.beta, 0.75), ("k", self.k, 1.0))
        form = ModuleForm("nn.LocalResponseNorm", (*positional(size=self.size), *more))
        if len(shapes[0]) < 4:
            return form
        helper = helpers.LOCAL_RESPONSE_NORM
        return replace(form, constructor=helper.name, helper=helper.source)

    def caption(self, rank: int = 2) -> str:
        return f"lrn {self.size}"

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        yield f"y[c] = x[c] / (k + alpha / n · Σ_d x[d]²)^beta, over the n = {self.size} channels d around c"
        yield f"k = {self.k:g}, alpha = {self.alpha:g}, beta = {self.beta:g}; nothing is learned"
