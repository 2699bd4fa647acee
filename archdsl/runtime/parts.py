"""The parts of a network whose results `probe` and `look` show, and these results in the order of the graph.

A built module may keep the channels of a tensor last, and the body of `windows` meets each window as a sample. What is
recorded here has the channels first, and windows put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archdsl import dims
from archdsl.analysis.layout import Layout
from archdsl.dims import Dim
from archdsl.graph import Graph, Node, Partition, Scope, Tensor
from archdsl.ops.sizes import ints

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of the network whose output can be recorded: a scope or node, and its result."""

    path: str
    what: Scope | Node
    tensor: Tensor


def parts_of(graph: Graph, network: torch.nn.Module, least: int = 4) -> list[Part]:
    """The blocks and convolutions of the model, in order; opens blocks until there are this many, if possible."""
    opened: list[Scope | Node] = [m for m in graph.root.members if not m.again]
    while True:
        telling = [m for m in opened if isinstance(m, Scope) or m.operation.is_weighted]
        found = [p for p in map(part_of, telling) if watchable(p, network)]
        scopes = [m for m in opened if isinstance(m, Scope)]
        if len(found) >= least or not scopes:
            return found
        opened = [m for part in opened for m in (part.members if isinstance(part, Scope) else [part]) if not m.again]


def part_of(what: Scope | Node) -> Part:
    return Part(what.path, what, what.outputs[0] if isinstance(what, Scope) else Tensor(what.id))


def watchable(part: Part, network: torch.nn.Module) -> bool:
    """Whether the built network has a module for it."""
    try:
        network.get_submodule(part.path)
    except AttributeError:
        return False
    return bool(part.path)


def numbered(graph: Graph, tensor: Tensor, place: Sequence[int], sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    """The numbers that a place of a map has in the receptive fields: windows follow each other there.

    None in windows within windows. A shifted map is endless there, so numbers may be negative.
    """
    partition = graph.node(tensor).windows
    if partition is None:
        return tuple(place)
    if partition.around is not None:
        return None
    whole, cut = evaluated(partition.whole, sizes), partition.cut
    offsets = [cut.offset(axis, whole) for axis in range(len(place))]
    return tuple(
        cut.order(axis, whole).index(i) if offset is None else i - offset
        for axis, (i, offset) in enumerate(zip(place, offsets, strict=True))
    )


def evaluated(shape: Sequence[Dim], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A size with numbers for its free sizes."""
    return tuple(d if isinstance(d, int) else dims.evaluate(d, sizes) for d in shape)


@dataclass(frozen=True, slots=True, eq=False)
class Recorder:
    """Brings results of parts into the order of the graph, at given sizes of its free sizes."""

    graph: Graph
    layout: Layout
    sizes: Mapping[str, int]

    def in_order(self, part: Part, result: torch.Tensor, batch: int) -> torch.Tensor | None:
        """The result [N, C, …] of a part, None if it gave another tensor.

        Windows are put together; where they have another size than the cut gave them, they are in a row: [N, C, -1].
        """
        node = self.graph.node(part.tensor)
        channels, *positions = evaluated(self.graph.shape(part.tensor), self.sizes)
        first, last = (channels, *positions), (*positions, channels)
        given = tuple(result.shape[1:])
        if given not in (first, last):
            return None
        # The layout is that of readable code; plainer code has the channels first, as the size mostly shows.
        if given == last and positions and (self.is_last(part) or given != first):
            result = result.movedim(-1, 1)
        if node.windows is None or not node.batched or batch == 0 or len(result) % batch:
            return result
        return self.joined(result, node.windows)

    def is_last(self, part: Part) -> bool:
        """Whether the module of a part gives its result with the channels last."""
        if isinstance(part.what, Scope):
            return self.layout.leaving.get((part.what, part.tensor), False)
        return part.what.id in self.layout.last

    def joined(self, result: torch.Tensor, partition: Partition) -> torch.Tensor:
        """Windows [N · windows, C, …] put together."""
        whole = evaluated(partition.whole, self.sizes)
        counts, rank = ints(partition.cut.counts(whole)), len(whole) - 1
        size = tuple(result.shape[2:])
        result = result.unflatten(0, (-1, *counts))
        result = result.movedim(1 + rank, 1)  # [N, C, windows…, window…]
        if size == partition.cut.each_size(whole):
            result = result.permute(0, 1, *(a for i in range(rank) for a in (2 + i, 2 + rank + i)))
            result = result.reshape(*result.shape[:2], *(n * s for n, s in zip(counts, size, strict=True)))
            for axis in range(rank):
                order = partition.cut.order(axis, whole)
                place = [order.index(i) for i in range(whole[1 + axis])]
                result = result[(slice(None),) * (2 + axis) + (place,)]
        else:
            result = result.flatten(2)
        return result if partition.around is None else self.joined(result, partition.around)


@contextmanager
def watched(
    graph: Graph, network: torch.nn.Module, parts: Sequence[Part], sizes: Mapping[str, int]
) -> Iterator[dict[str, torch.Tensor]]:
    """A dictionary that each run of the network on [N, C, H, W] fills with the results of these parts, by their paths.

    They have the channels first. Of a module that is called several times, the first result; of one that is not called
    in evaluation, or gives several tensors, none.
    """
    import torch

    seen: dict[str, torch.Tensor] = {}
    recorder = Recorder(graph, Layout.of(graph), sizes)
    batch = 0

    def begin(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal batch
        batch = len(given[0])
        seen.clear()

    def keep(part: Part) -> Any:
        def hook(module: torch.nn.Module, given: object, result: object) -> None:
            if part.path in seen or not isinstance(result, torch.Tensor):
                return
            found = recorder.in_order(part, result.detach(), batch)
            if found is not None:
                seen[part.path] = found.clone()  # later operations may overwrite it in place

        return hook

    handles: list[Any] = [network.register_forward_pre_hook(begin)]
    handles += [network.get_submodule(part.path).register_forward_hook(keep(part)) for part in parts]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
