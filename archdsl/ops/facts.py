"""The facts of an operation that other packages use, besides its sizes, its weights and its form in PyTorch.

Each fact has a default that is right for most operations; a class overrides those that differ. No other package tests
the name, family or class of an operation (tests/ops/test_facts.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from archdsl.dims import Dim
from archdsl.ops.formulas import Section, Sizes

if TYPE_CHECKING:
    from archdsl.ops.extern import Kind
    from archdsl.ops.matrix import Matrix

Shape: TypeAlias = tuple[Dim, ...]
Layout: TypeAlias = Literal["first", "any", "last"]


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of its tensors, in oneDNN's own layout, that a convolution on a CPU holds while it runs.

    By default first the input and the kernel, then the output. `transposed`: two copies of the output. `strided`: the
    backward pass makes two copies of the input's gradient, one of them with the channels last.
    """

    transposed: bool = False
    strided: bool = False


@dataclass(frozen=True, slots=True)
class ChannelFactor:
    """A normalisation that in evaluation multiplies each channel by a factor and adds a term, from running statistics.

    `affine` says whether it has a weight and a bias, too.
    """

    eps: float
    affine: bool


class Facts:
    """The facts of an operation, grouped by their use."""

    # ------------------------------------------------------------ what it is

    is_input: ClassVar[bool] = False
    """Whether it is an input of the network."""
    is_weighted: ClassVar[bool] = False
    """Whether it multiplies by a learned kernel or matrix, and has a parameter `bias`."""
    has_filters: ClassVar[bool] = False
    """Whether its weight has a kernel for each output channel, which a picture can show."""
    is_activation: ClassVar[bool] = False
    """Whether it is an activation function."""
    aligns: ClassVar[bool] = False
    """Whether it makes the sizes of several tensors equal, and gives each of them."""
    is_linear: ClassVar[bool] = False
    """Whether it is linear in its inputs, ignoring biases, with statistics as constants."""
    is_sum: ClassVar[bool] = False
    """Whether it is the sum at the end of a residual connection."""
    joins_skip: ClassVar[bool] = False
    """Whether it adds a skip connection or multiplies by a gate."""
    is_learned: ClassVar[bool] = False
    """Whether its result is its own weight: the same for every sample, without memory besides."""
    implied: ClassVar[bool] = False
    """Whether no spec calls it by name: elaboration or the generator places it."""
    needs_batches: ClassVar[int] = 0
    """How many of its inputs, from the first on, must have the batch if any has it: one that depends on no input of the
    network is repeated for it. All, if it has several results of several inputs: each then has the batch."""
    cuts: ClassVar[bool] = False
    """Whether its result is windows, each a sample of its own."""
    joins: ClassVar[bool] = False
    """Whether it puts such windows together."""
    masks: ClassVar[bool] = False
    """Whether it keeps apart the positions of a window that a shift has brought together, or mixes none."""
    attends: ClassVar[bool] = False
    """Whether it mixes positions by the scores of its heads, in one call of F.scaled_dot_product_attention."""
    bias_at: ClassVar[int | None] = None
    """The position of an optional input that is added to the scores by which it mixes positions."""
    spreads: ClassVar[bool] = False
    """Whether its last input also stands for those that lack before this one."""
    sized_by: ClassVar[tuple[int, ...]] = ()
    """The positions of inputs of which it takes only the size."""
    once: ClassVar[bool] = False
    """Whether its result is one sample, the same for the whole batch, though its inputs have the batch."""
    training_only: ClassVar[bool] = False
    """Whether it is the identity in evaluation."""
    expects_flat: ClassVar[bool] = False
    """Whether a network that ends with it on a map has probably forgotten a `flatten`."""
    uses_batch: ClassVar[bool] = False
    """Whether training uses statistics of the batch, which a single number does not have."""

    def outside(self) -> "Kind | None":
        """Where its code comes from, if not from PyTorch or archdsl: what it computes is not known then."""
        return None

    def may_be_none(self, shapes: tuple[Shape, ...]) -> bool:
        """Whether a built module may have None for its result, which has no axes to move."""
        return False

    def is_counted(self, shapes: tuple[Shape, ...]) -> bool:
        """Whether its multiply-accumulates are known."""
        return True

    def stacks(self) -> int | None:
        """The axis along which it concatenates its inputs, whose sizes on it may differ; None if it does not."""
        return None

    def wraps(self) -> bool:
        """Whether it pads with the opposite side, so that a border of its result depends on the other one."""
        return False

    def stretches(self) -> bool:
        """Whether it is a merge that broadcasts sizes of 1."""
        return False

    def meant(self, shapes: tuple[Shape, ...]) -> Mapping[str, object]:
        """The values of parameters for which another value says the same, as `none` does for the end of an axis."""
        return {}

    # ------------------------------------------------------------ what may run in place

    inplace: ClassVar[bool] = False
    """Whether PyTorch's module for it accepts `inplace=`."""
    own: ClassVar[bool] = False
    """Whether its result is a new tensor, not a view, which its backward pass does not read."""
    own_in_inference: ClassVar[bool] = False
    """Whether its result is a new tensor, not a view, which only its backward pass may read."""
    own_in_training: ClassVar[bool] = False
    """Whether its result is its input in evaluation, and in training always a new tensor, like `own`."""
    accumulates: ClassVar[tuple[int, ...]] = ()
    """The positions of inputs, of two, that may accumulate the other one in place, the best one first."""

    def overwrites(self, shapes: tuple[Shape, ...], inference: bool) -> bool:
        """Whether it may overwrite an input that nothing else reads; `inference`: there is no backward pass."""
        return False

    # ------------------------------------------------------------ memory

    view: ClassVar[bool] = False
    """Whether its results are views of its inputs, without memory of their own."""
    reads_twice: ClassVar[bool] = False
    """Whether it reads its input twice: first for statistics."""
    saves_first: ClassVar[bool] = False
    """Whether PyTorch saves what it saves before it computes the result: a recomputation that only needs what is saved
    stops there."""
    needs_whole: ClassVar[bool] = False
    """Whether its result is a view of a contiguous input, and a copy of another one."""
    reorders: ClassVar[bool] = False
    """Whether its result is a view with the axes in another order, which is not contiguous."""

    def axis_from(self, axis: int) -> int:
        """The axis of the input that becomes this axis of the result; the channels are axis 0."""
        return axis

    def passes_gradient(self, position: int) -> bool:
        """Whether the gradient of the input at `position` is that of its result, or a view of it."""
        return False

    def projected(self, count: int) -> tuple[int, ...]:
        """The positions of `count` inputs that it copies where they lie in another order of the axes than it reads,
        once for each matrix product; none where PyTorch copies nothing."""
        return ()

    def copies(self, shapes: tuple[Shape, ...]) -> Copies | None:
        """The copies that it makes on a CPU while it runs."""
        return None

    # ------------------------------------------------------------ the form for inference

    def keeps_channels(self) -> bool:
        """Whether its results consist of different channels of its inputs, unchanged or cropped."""
        return False

    def absorbs(self) -> bool:
        """Whether a factor and a term for each of its channels can become a part of its weight and bias."""
        return self.is_weighted

    def channel_factor(self) -> ChannelFactor | None:
        """Its factor and term for each channel in evaluation; None for an operation that is not of that kind."""
        return None

    def in_evaluation(self) -> Mapping[str, object]:
        """The arguments that it has in evaluation instead of its own, such as no dropout."""
        return {}

    def transposed_groups(self) -> int:
        """The groups of a weight whose first axis has the input channels; 0 where it has the output channels."""
        return 0

    # ------------------------------------------------------------ many devices

    def divides(self, shapes: tuple[Shape, ...]) -> Literal["channels", "heads"] | None:
        """How several processes may share its work in training: by channels of its result, or of its input, as a matrix
        does; by heads, each with its part of the weights; None: not at all."""
        return None

    # ------------------------------------------------------------ torch.export

    def decides_size(self) -> bool:
        """Whether PyTorch computes a size by a comparison or maximum that torch.export cannot decide."""
        return False

    def sizes_by_cases(self, shapes: tuple[Shape, ...]) -> tuple[Dim, ...]:
        """The input sizes for which PyTorch's output size follows different formulas, depending on their value."""
        return ()

    # ------------------------------------------------------------ generated code

    layout: ClassVar[Layout] = "first"
    """Where the built module may keep the channels of its tensors: `first` (behind the batch) only, `any` place, or
    `last`: it prefers the end, and moves axes itself where they come first. See `Operation.torch_last`."""

    def sized(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Shape:
        """The sizes of its result that its form in PyTorch takes as the argument `size`; none for most operations."""
        return ()

    helper_names: ClassVar[tuple[str, ...]] = ()
    """The names of helper functions that it may add to a generated file."""

    # ------------------------------------------------------------ advice

    aliases: ClassVar[tuple[str, ...]] = ()
    """Its names in PyTorch, Keras and papers, in lower case, where they are not its own name in another spelling."""
    channels_at: ClassVar[int | None] = None
    """The positional index at which PyTorch takes the number of input channels or features, which archdsl infers."""
    odd_at: ClassVar[int] = 0
    """The positional index of the parameter that gets a wrong value by a call in PyTorch's order."""

    @classmethod
    def is_in_pytorchs_order(cls, values: Sequence[object], channels: Dim) -> bool:
        """Whether the positional arguments of a call look like PyTorch's."""
        at = cls.channels_at
        return at is not None and at < len(values) and values[at] == channels and values[at] >= 1  # type: ignore[operator]

    # ------------------------------------------------------------ diagrams

    drawn: ClassVar[bool] = True
    """Whether it is shown; else it is a part of the box that takes its result, and goes unmentioned there."""
    varies: ClassVar[tuple[str, ...]] = ()
    """Parameters, numbers, in which layers may differ that are drawn as one, `× 3`: the picture shows their range."""
    sign: ClassVar[str] = ""
    """The sign that diagrams show instead of its name."""
    minor: ClassVar[tuple[str, ...]] = ()
    """Parameters at the end of the caption, which the smallest pictures leave out."""
    follows: ClassVar[bool] = False
    """Whether it is drawn in the box of the layer before it."""
    leads: ClassVar[bool] = False
    """Whether it is drawn in the box of the layer after it, as in a network with pre-activation."""
    begins_box: ClassVar[bool] = False
    """Whether a box that starts with it ends with the layer after it."""
    ends_box: ClassVar[bool] = False
    """Whether it is drawn in the box before it even where that box would end."""

    # ------------------------------------------------------------ explanations

    formula_text: ClassVar[str] = ""
    """Its formula, where that depends on none of its parameters."""

    def formula(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[str]:
        """The lines of its formula for these input and output sizes."""
        if self.formula_text:
            yield self.formula_text

    def explanation(self, shapes: Sequence[Sizes], outputs: Sequence[Sizes]) -> Iterator[Section]:
        """The sections of its explanation for these input and output sizes: the formula, by default."""
        lines = tuple(self.formula(shapes, outputs))
        if lines:
            yield Section("formula", *lines)

    def matrix(self, shape: Sizes, output: Sizes) -> "Matrix | None":
        """Its matrix between tensors of these sizes, if it is linear with equal entries where its window slides."""
        return None
