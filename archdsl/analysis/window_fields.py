"""How tensors among windows are read: index maps of operations whose samples are windows of a map.

The elements of a tensor among windows are numbered as if the windows lay one behind the other on each axis of the cut
map: element i of an axis of `size` is element i % size of window i // size. Where an operation gives up an axis, as
`tokens` do, a window counts as one element: that bounds the field by the window. A shifted map is taken as endless, so
a window at its edge is two: attention there keeps apart what the roll brought together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from archdsl.graph import Node, Tensor
from archdsl.ops.index_maps import FINEST, IndexMap, TooFine, shifted
from archdsl.ops.partition import Cut

Sizes: TypeAlias = tuple[int, ...]
Maps: TypeAlias = tuple[IndexMap, ...]


@dataclass(slots=True, eq=False)
class WindowFields:
    """The maps of operations among windows.

    `given_up` are the axes of the cut map on which a window is one element, by tensor among windows.
    """

    given_up: dict[Tensor, frozenset[int]] = field(default_factory=dict)
    cuts: dict[Tensor, Cut] = field(default_factory=dict)
    """The cut of each tensor among windows."""

    def maps(
        self,
        node: Node,
        result: int,
        own: Mapping[int, Maps],
        incoming: tuple[Sizes, ...],
        outputs: tuple[Sizes, ...],
    ) -> Mapping[int, Maps]:
        """How a result of a node reads its inputs, if its operation by itself reads them by `own`. Raises TooFine."""
        if not node.batched or (node.windows is None and not node.operation.joins):
            return own
        tensor, nested = Tensor(node.id, result), node.windows is not None
        if node.windows is not None:
            self.cuts[tensor] = node.windows.cut
        self.given_up[tensor] = frozenset()
        if node.operation.cuts:
            if self.given_up.get(node.inputs[0]):
                raise TooFine
            cut, whole = self.cuts[tensor], incoming[0]
            nested = node.inputs[0] in self.cuts
            return {0: tuple(_cut(cut, a, whole, nested) for a in range(len(whole) - 1))}
        if node.operation.joins:
            cut, whole = self.cuts[node.inputs[0]], incoming[1]
            lost = self.given_up[node.inputs[0]]
            return {0: tuple(_join(cut, a, whole, nested, a in lost) for a in range(len(whole) - 1))}
        assert node.windows is not None
        own = {i: maps for i, maps in own.items() if node.inputs[i] in self.given_up}  # no others have a field
        rank, output = len(node.windows.whole) - 1, outputs[result]
        lost = frozenset(
            a for a in range(rank) for i, maps in own.items() if self.is_lost(node.inputs[i], a, rank, maps, output)
        )
        self.given_up[tensor] = lost
        return {
            i: tuple(self.along(node.inputs[i], a, maps, incoming[i], output, a in lost) for a in range(rank))
            for i, maps in own.items()
        }

    def is_lost(self, tensor: Tensor, axis: int, rank: int, maps: Maps, output: Sizes) -> bool:
        if axis in self.given_up[tensor] or len(maps) != rank or len(output) != rank + 1:
            return True
        return maps[axis].out not in (axis, None)

    def along(self, tensor: Tensor, axis: int, maps: Maps, incoming: Sizes, output: Sizes, lost: bool) -> IndexMap:
        """How one axis of an input is read, window by window."""
        if axis in self.given_up[tensor]:
            return shifted(axis)
        size = incoming[1 + axis]
        if lost:
            return IndexMap(axis, 1, size, (range(size),))
        by, length = maps[axis], output[1 + axis]
        if length > FINEST:
            raise TooFine
        return IndexMap(axis, length, size, tuple(_taps(by, i, size) for i in range(length)))


def _taps(by: IndexMap, element: int, size: int) -> range:
    """The field of an element of a window, within the window."""
    q, r = divmod(element, by.period)
    taps = by.taps[r]
    moved = range(taps.start + q * by.step, taps.stop + q * by.step, taps.step)
    inside = [t for t in moved if 0 <= t < size]
    return range(inside[0], inside[-1] + 1, taps.step) if inside else range(0)


def _cut(cut: Cut, axis: int, whole: Sizes, nested: bool) -> IndexMap:
    offset = cut.offset(axis, whole)
    if offset is not None and not nested:
        return shifted(axis, offset)
    order = cut.order(axis, whole)
    length = whole[1 + axis] if nested else len(order)
    return IndexMap(axis, len(order), length, tuple(range(p, p + 1) if p < length else range(0) for p in order))


def _join(cut: Cut, axis: int, whole: Sizes, nested: bool, lost: bool) -> IndexMap:
    size, offset = cut.each_size(whole)[axis], cut.offset(axis, whole)
    if offset is not None and not nested:
        if not lost:
            return shifted(axis, -offset)
        return IndexMap(axis, size, 1, tuple(range(q, q + 1) for q in ((r - offset) // size for r in range(size))))
    order = cut.order(axis, whole)
    at = {position: i // size if lost else i for i, position in enumerate(order)}
    length = whole[1 + axis] if nested else len(order)
    step = len(order) // size if lost else len(order)
    return IndexMap(axis, length, step, tuple(range(at[p], at[p] + 1) for p in range(length)))
