"""Axes of a tensor, by their number: 0 is the channels, 1 the first spatial axis."""

from collections.abc import Iterator, Mapping

from archdsl.dims import Dim
from archdsl.ops import index_maps
from archdsl.ops.base import Operation, Rules, Shape
from archdsl.ops.declaration import OperationError
from archdsl.ops.fields import Index, shape_text
from archdsl.ops.index_maps import ChannelMap, IndexMap
from archdsl.ops.sizes import channels, ints


def along(name: str, shape: Shape, axis: int) -> tuple[Dim, str]:
    """The size of an axis, and what its elements are called. OperationError if the tensor has no such axis."""
    if axis >= len(shape):
        raise OperationError(
            f"`{name}` along axis {axis}: the tensor {shape_text(shape)} has axes 0 to {len(shape) - 1}",
            parameter="axis",
            inputs=(0,),
            help="axis 0 is the channels, axis 1 the first spatial axis",
        )
    return shape[axis], "positions" if axis else "channels"


def with_size(shape: Shape, axis: int, size: Dim) -> Shape:
    """A shape with another size on an axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


def moved(shape: Shape, axis: int, start: int) -> tuple[IndexMap, ...]:
    """How a part of an axis, from `start` on, reads the spatial axes of a tensor."""
    return tuple(index_maps.shifted(a - 1, start if a == axis else 0) for a in range(1, len(shape)))


def axis_caption(axis: int) -> str:
    return f", axis {axis}" if axis else ""


class AlongAxis(Operation):
    """The base of operations that keep the size and compute each element from all those along one axis."""

    layout = "any"

    axis: Index = 0

    def infer(self, shapes: tuple[Shape, ...], rules: Rules) -> tuple[Shape, ...]:
        along(self.name, shapes[0], self.axis)
        return shapes

    def index_maps(
        self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]
    ) -> Mapping[int, tuple[IndexMap, ...]]:
        sizes = enumerate(ints(shapes[0][1:]), 1)
        return {0: tuple(index_maps.everything(n) if a == self.axis else index_maps.shifted(a - 1) for a, n in sizes)}

    def channel_maps(self, result: int, shapes: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Iterator[ChannelMap]:
        count = range(channels(self.name, shapes[0]))
        yield ChannelMap(0, count, count, each=self.axis > 0)

    def caption(self, rank: int = 2) -> str:
        return f"{self.name}{axis_caption(self.axis)}"
