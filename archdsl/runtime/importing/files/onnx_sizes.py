"""The sizes at which the network of an ONNX file is recorded: those of the file, or of the user where they are free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archdsl.common.escaping import visible
from archdsl.runtime.importing.files.onnx_file import OnnxGraph
from archdsl.runtime.importing.proving import Size
from archdsl.runtime.importing.refusal import ImportRefused

EXAMPLE = {1: 64, 2: 224, 3: 32}
"""The size of a free axis, by the number of the positions' axes."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The sizes of the inputs without the batch; `batch` is that of the file, 0 if it is free; `free`: the positions."""

    sizes: list[Size]
    batch: int
    free: bool

    @property
    def with_batch(self) -> list[Size]:
        return [(self.batch or 2, *size) for size in self.sizes]


def chosen(graph: OnnxGraph, given: Sequence[Size]) -> Chosen:
    """The sizes for a graph. Raises ImportRefused where the user's sizes are not those of the file."""
    if given and len(given) != len(graph.inputs):
        raise ImportRefused(f"{graph.file} has {len(graph.inputs)} inputs, and {len(given)} sizes are given")
    sizes: list[Size] = []
    batches, free = set(), bool(graph.inputs)
    for number, (name, axes) in enumerate(graph.inputs):
        if len(axes) < 2:
            raise ImportRefused(f"its input `{visible(name)}` has {len(axes)} axes; one with a batch and channels is needed")
        first, *rest = axes
        batches.add(first if isinstance(first, int) else 0)
        wanted = given[number] if given else ()
        if wanted and len(wanted) != len(rest):
            raise ImportRefused(f"its input `{visible(name)}` has {len(rest)} axes behind the batch, not {len(wanted)}")
        size = []
        for axis, have in enumerate(rest):
            if isinstance(have, int) and have < 1:
                raise ImportRefused(f"its input `{visible(name)}` has an axis of size {have}")
            if isinstance(have, int) and wanted and wanted[axis] != have:
                raise ImportRefused(f"its input `{visible(name)}` has the size {have}, and {wanted[axis]} is given")
            if not isinstance(have, int) and axis == 0 and not wanted:
                raise ImportRefused(f"its input `{visible(name)}` has free channels; say how many with --size")
            size.append(have if isinstance(have, int) else wanted[axis] if wanted else EXAMPLE.get(len(rest) - 1, 8))
        free = free and all(not isinstance(n, int) for n in rest[1:]) and len(rest) > 1
        sizes.append(tuple(size))
    if len(batches) > 1:
        raise ImportRefused("its inputs have different batches")
    return Chosen(sizes, batches.pop(), free)
