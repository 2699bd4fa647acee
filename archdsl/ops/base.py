"""The base of operations: frozen values that hold every fact of an operation.

Sizes are tuples without the batch: `(C, H, W)` for a 2-d tensor, `(F,)` for a flat one. Channels come first. Each entry
is an int, or an exact expression of a free input size (`archdsl.dims`).

The files of this package do not use `from __future__ import annotations`: the annotations of parameters are read.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

from archdsl.dims import Demanded
from archdsl.ops import index_maps
from archdsl.ops.declaration import Declaration, Mend, OperationError
from archdsl.ops.facts import Facts as Facts
from archdsl.ops.facts import Layout as Layout
from archdsl.ops.facts import Shape as Shape
from archdsl.ops.forms import TorchForm
from archdsl.ops.index_maps import ChannelMap, IndexMap

Family = Literal[
    "input",
    "convolution",
    "linear",
    "pooling",
    "normalisation",
    "activation",
    "regularisation",
    "merge",
    "align",
    "resize",
    "channels",
    "shape",
    "windows",
    "attention",
    "learned",
    "extern",
]


@dataclass(slots=True)
class Rules:
    """Collects the demands of an operation on its sizes during inference.

    A demand on known sizes is decided at once: it holds, or `require` raises OperationError. A demand on a free size is
    kept as a constraint, and later narrows the set of valid input sizes.
    """

    constraints: list[tuple[Demanded, OperationError]] = field(default_factory=list)

    def require(
        self,
        condition: bool | Demanded,
        message: str,
        *,
        parameter: str | None = None,
        inputs: Sequence[int] = (),
        help: str | None = None,
        mends: Sequence[Mend] = (),
        training: bool = False,
    ) -> None:
        if condition is True:
            return
        error = OperationError(message, parameter=parameter, inputs=inputs, help=help, mends=mends, training=training)
        if condition is False:
            raise error
        self.constraints.append((condition, error))


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of an operation: a trainable or frozen parameter, or a buffer of the state_dict.

    `name` is its key below the operation's path; an empty name means the path itself.
    """

    name: str
    shape: tuple[int, ...]
    trainable: bool = True
    buffer: bool = False
    dtype: str = "float"
    """`float` follows the module's dtype, `int64` is fixed (num_batches_tracked)."""
    fixed: bool = False
    """Whether it is a buffer that nothing changes, unlike running statistics."""

    def key(self, path: str) -> str:
        """Its key in the state_dict, for the path of its operation."""
        return f"{path}.{self.name}" if self.name else path

    def bytes(self, width: int) -> int:
        """Its bytes, if a float takes `width` bytes."""
        return math.prod(self.shape) * (width if self.dtype == "float" else 8)


@dataclass(frozen=True, slots=True)
class Window:
    """The sliding window of an operation, one entry per spatial axis: the basis of receptive fields.

    `pad` is the padding before the first element; `scale` is the number of output steps per input step of an upsampling
    operation (1 otherwise). `whole` says that every output sees the whole input (global pooling, flatten), `statistics`
    that it does so only through its mean and variance.
    """

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pad: tuple[int, ...] = ()
    scale: tuple[int, ...] = ()
    whole: bool = False
    statistics: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A temporary tensor of an operation that is saved for the backward pass.

    `shape` is without the batch; `batched` says whether there is one per sample, `always` whether it is also created in
    inference.
    """

    shape: Shape
    dtype: Literal["float", "int64"] = "float"
    batched: bool = True
    always: bool = False


@dataclass(frozen=True, slots=True)
class Saves:
    """The tensors that PyTorch saves of an operation for the backward pass, except weights.

    `within` are gradients of tensors inside it that its backward pass holds together, instead of those of its inputs
    and its result. `unlearned` is what it saves instead where no gradient flows into the bias of its scores, by another
    kernel of PyTorch; that bias is saved then.
    """

    inputs: bool = False
    outputs: bool = False
    more: tuple[Kept, ...] = ()
    within: tuple[Kept, ...] = ()
    unlearned: "Saves | None" = None


@dataclass(frozen=True, slots=True)
class Example:
    """A call of the operation for the docs and for the test sweep: input sizes (ints) and arguments."""

    inputs: tuple[tuple[int, ...], ...]
    arguments: Mapping[str, object] = field(default_factory=dict)


def example(*inputs: tuple[int, ...], **arguments: object) -> Example:
    return Example(inputs, arguments)


def renamed(**names: str) -> Mapping[str, str]:
    """PyTorch's names of parameters, by their names in a spec."""
    return MappingProxyType(names)


class Operation(Declaration, Facts):
    """The base of all operations, with what each must or often does define. `Facts` has more, with defaults."""

    family: ClassVar[Family]
    examples: ClassVar[tuple[Example, ...]]
    inputs: ClassVar[Literal["none", "one", "many", "any"]] = "one"
    """`many`: takes two or more parallel tensors (a merge, an align); `any`: one or more (attention)."""
    pytorch_names: ClassVar[Mapping[str, str]] = {}
    """PyTorch's names of parameters that have another name here."""
    channelwise: ClassVar[bool] = False
    """Whether each output channel is computed only from the same channel of each input."""

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        """The output sizes, one for each result. Raises OperationError, or demands through `rules`."""
        raise NotImplementedError(type(self).__name__)

    def takes(self, count: int) -> bool:
        """Whether it takes this many inputs."""
        if self.inputs == "one":
            return count == (not self.is_input)
        if self.inputs == "none":
            return count == 0
        return count >= (2 if self.inputs == "many" else 1)

    @property
    def is_join(self) -> bool:
        """Whether all that it does is to join branches: diagrams show it as a sign."""
        return self.inputs == "many"

    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters in a spec, in order."""
        return tuple(self.fields)

    def values(self) -> Mapping[str, object]:
        """The values of its parameters, by their names in a spec."""
        return self.__dict__

    def results(self, count: int) -> int:
        """The number of outputs for `count` inputs, even if their sizes are unknown."""
        return 1

    def weights(self, shapes: tuple[Shape, ...]) -> tuple[Weight, ...]:
        """Its tensors in state_dict order, for the input sizes."""
        return ()

    def torch(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm:
        """Its form in the generated module, for tensors with the channels first: (N, C), (N, C, T), (N, C, H, W)."""
        raise NotImplementedError(type(self).__name__)

    def torch_last(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> TorchForm | None:
        """Its form where all its inputs and outputs have the channels last: (N, C), (N, T, C), (N, H, W, C).

        None where it has none. Sizes are given with the channels first, as everywhere. Weights are those of `torch`.
        """
        return self.torch(shapes, outputs) if self.layout == "any" else None

    def products(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        """Its products of matrices: the multiply-accumulates per element of a size, and that size, for each."""
        return ()

    def macs(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int:
        """Multiply-accumulates of convolutions and matrix products for one sample; all sizes are ints."""
        found = self.products(shapes, outputs)
        return sum(count * math.prod(d for d in shape if isinstance(d, int)) for count, shape in found)

    def elementwise(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> tuple[tuple[int, Shape], ...]:
        """Other operations in inference: their number per element of a tensor, and that tensor's size."""
        return ()

    def saves(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], inplace: bool) -> Saves:
        """The tensors saved in a training step, as in PyTorch's CPU kernels; `inplace`: it overwrites its input."""
        return Saves()

    def window(self, shapes: tuple[Shape, ...]) -> Window | None:
        """The window that slides over the input; None if each output sees only its own position."""
        return None

    def shares(self, result: int) -> int | None:
        """The position of the input of which a result is a view, None if it has its own memory."""
        return 0 if self.view else None

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        """How a result reads the inputs: by their position, a map for each of their spatial axes.

        All sizes are ints. Inputs that are left out are not read. Raises index_maps.TooFine.
        """
        return {i: self.reads(shape, outputs[result], self.window((shape,))) for i, shape in enumerate(shapes)}

    def mixes_positions(self, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...], of: Collection[int]) -> bool:
        """Whether a result at one position is computed from other positions of an input; all sizes are ints.

        `of` are the positions of the inputs that count: a learned tensor has no strangers.
        """
        found = [self.index_maps(i, shapes, outputs) for i in range(len(outputs))]
        maps = [by for each in found for position, by in each.items() if position in of]
        return any(not one.still or one.out != axis for by in maps for axis, one in enumerate(by))

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        """The input channels from which the output channels are computed, for each input, in channel order.

        All sizes are ints. Only inputs that `index_maps` returns matter.
        """
        out = outputs[result][0]
        for i, (count, *_) in enumerate(shapes):
            assert isinstance(out, int) and isinstance(count, int)
            yield ChannelMap(i, range(out), range(count), each=self.channelwise and count == out)

    @staticmethod
    def reads(shape: Shape, output: Shape, window: Window | None) -> tuple[IndexMap, ...]:
        """The maps of an input's spatial axes for a window, or without one."""
        sizes = [n for n in shape[1:] if isinstance(n, int)]
        if window is None and len(shape) == len(output):
            return tuple(
                index_maps.stretched() if n == 1 and o != 1 else index_maps.shifted(a)
                for a, (n, o) in enumerate(zip(sizes, output[1:], strict=True))
            )
        if window is None or window.whole or len(shape) != len(output):
            return tuple(map(index_maps.everything, sizes))
        scale = window.scale or (1,) * len(sizes)
        numbers = zip(window.kernel, window.stride, window.dilation, window.pad, scale, strict=True)
        return tuple(index_maps.sliding(a, *n) for a, n in enumerate(numbers))

    def caption(self, rank: int = 2) -> str:
        """A short text for diagrams and tables, for a tensor of this many spatial axes: `conv 3×3, 64, /2`."""
        return self.name

    def caption_for(self, shapes: tuple[Shape, ...]) -> str:
        """Its caption for these input sizes, which may say more: `conv 3×3, 64, depthwise`."""
        return self.caption(max(len(shapes[0]) - 1, 1) if shapes else 1)
