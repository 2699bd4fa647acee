"""What the other rooms ask of an operation, beside its sizes, its weights and its form in PyTorch.

Each fact has the answer that holds for most operations; a class that differs says so. No other room knows an operation
by its name: what is not asked here has no effect of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from archdsl.dims import Dim
from archdsl.ops.formulas import Section, Sizes

Shape: TypeAlias = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Copies:
    """What a convolution on a CPU holds a second time while it runs: its tensors in oneDNN's own layout.

    `transposed`: the output twice, and not the input and then the output, each with the kernel. `strided`: the gradient
    of the input with the channels last first, and then in order.
    """

    transposed: bool = False
    strided: bool = False


@dataclass(frozen=True, slots=True)
class ChannelFactor:
    """A normalisation that in evaluation is a factor and a term for each channel, from running statistics.

    `affine` says whether it has a weight and a bias, too.
    """

    eps: float
    affine: bool


class Facts:
    """The facts of an operation, by who asks."""

    # ------------------------------------------------------------ what it is

    is_input: ClassVar[bool] = False
    """Whether it is a tensor that the user of the network gives."""
    is_weighted: ClassVar[bool] = False
    """Whether it multiplies by a learned kernel or matrix and, with `bias = true`, adds a term to each channel."""
    has_filters: ClassVar[bool] = False
    """Whether its weight is a kernel for each channel that goes out, which shows what the channel looks for."""
    is_activation: ClassVar[bool] = False
    """Whether it is a nonlinear function, as stands behind a layer."""
    is_linear: ClassVar[bool] = False
    """Whether it is linear in what comes in, biases aside and statistics taken as constants."""
    is_sum: ClassVar[bool] = False
    """Whether it is the sum with which a residual connection ends."""
    joins_skip: ClassVar[bool] = False
    """Whether a block ends with it that adds a skip, or multiplies by a gate."""
    stacks_channels: ClassVar[bool] = False
    """Whether it is a merge that puts the channels of the tensors behind each other, so that these may differ."""
    stretches: ClassVar[bool] = False
    """Whether it is a merge that stretches a size of 1 to that of the other tensors."""
    training_only: ClassVar[bool] = False
    """Whether it is the identity once training is over."""
    uses_batch: ClassVar[bool] = False
    """Whether training computes with statistics of the batch: a single number has no variance."""

    # ------------------------------------------------------------ what may be overwritten

    inplace: ClassVar[bool] = False
    """Whether PyTorch's module of it takes `inplace=`."""
    own: ClassVar[bool] = False
    """Whether its result is a tensor of its own, no view, that its backward pass does not look at again."""
    own_in_inference: ClassVar[bool] = False
    """Whether its result is a tensor of its own, if its backward pass may look at it again."""
    accumulates: ClassVar[tuple[int, ...]] = ()
    """Of two tensors, the positions of those to which the other one may be added in place, the best one first."""

    def overwrites(self, shapes: tuple[Shape, ...], inference: bool) -> bool:
        """Whether it may overwrite its input where nothing else needs that; `inference`: there is no backward pass."""
        return False

    # ------------------------------------------------------------ memory

    view: ClassVar[bool] = False
    """Whether its results are views of its inputs, which take no memory of their own."""
    needs_whole: ClassVar[bool] = False
    """Whether its result is a view only of a tensor that is in one piece, and else a copy."""
    reorders: ClassVar[bool] = False
    """Whether its result has the axes in another order, as a view that is not in one piece."""

    def axis_from(self, axis: int) -> int:
        """Which axis of its input an axis of its result is, counted from the channels, 0."""
        return axis

    def passes_gradient(self, position: int) -> bool:
        """Whether the gradient of its result is, or holds, that of an incoming tensor, and none is made."""
        return False

    def copies(self, shapes: tuple[Shape, ...]) -> Copies | None:
        """What it copies on a CPU while it runs; None for nothing."""
        return None

    # ------------------------------------------------------------ the form for inference

    keeps_channels: ClassVar[bool] = False
    """Whether its results are whole channels of what comes in, cut at most, so that what scales them may come first."""

    def channel_factor(self) -> ChannelFactor | None:
        """How it is a factor and a term for each channel once training is over; None where it is not."""
        return None

    def transposed_groups(self) -> int:
        """The groups of a weight that has the channels that come in first; 0 where those that go out are first."""
        return 0

    # ------------------------------------------------------------ torch.export

    def decides_size(self) -> bool:
        """Whether PyTorch computes a size by a comparison or maximum that torch.export cannot decide for a symbol."""
        return False

    def sizes_by_cases(self, shapes: tuple[Shape, ...]) -> tuple[Dim, ...]:
        """The incoming sizes for some values of which PyTorch computes another size than its formula gives."""
        return ()

    # ------------------------------------------------------------ generated code

    helper_names: ClassVar[tuple[str, ...]] = ()
    """The functions that it may bring to a generated file."""

    # ------------------------------------------------------------ advice

    channels_at: ClassVar[int | None] = None
    """Where among its arguments PyTorch takes the number of channels that come in, which is inferred here."""
    odd_at: ClassVar[int] = 0
    """Which argument of a call in PyTorch's order is odd here."""

    @classmethod
    def is_in_pytorchs_order(cls, values: Sequence[object], channels: Dim) -> bool:
        """Whether the arguments of a call by position read as those of PyTorch's."""
        at = cls.channels_at
        return at is not None and at < len(values) and values[at] == channels and values[at] >= 1  # type: ignore[operator]

    # ------------------------------------------------------------ diagrams

    sign: ClassVar[str] = ""
    """The sign that is drawn for it in place of its name."""
    follows: ClassVar[bool] = False
    """Whether it shares the box of the layer behind which it stands."""
    leads: ClassVar[bool] = False
    """Whether it shares the box of the layer before which it stands, as in a network with pre-activation."""
    begins_box: ClassVar[bool] = False
    """Whether a box that it begins is full with its layer."""
    ends_box: ClassVar[bool] = False
    """Whether it shares a full box, too."""

    # ------------------------------------------------------------ explanations

    law: ClassVar[str] = ""
    """Its formula, where that depends on none of its arguments."""

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        """Its formula for these sizes, as lines."""
        if self.law:
            yield self.law

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        """How it computes its results for these sizes: the formula, and what else is to be said of it."""
        lines = tuple(self.formula(shapes, outputs))
        if lines:
            yield Section("formula", *lines)
