"""The sizes at which the network of a file is recorded: those of the file, or of the user where they are free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from archdsl.common.escaping import visible
from archdsl.runtime.importing.proving import Size
from archdsl.runtime.refusal import ImportRefused

EXAMPLE = {1: 64, 2: 224, 3: 32}
"""The size of a free axis, by the number of the positions' axes."""

NONE: Mapping[str, Size] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Chosen:
    """The sizes of the inputs without the batch.

    `batch` is that of the file, 0 if it is free; `free`: whether the positions are.
    """

    sizes: list[Size]
    batch: int
    free: bool

    @property
    def with_batch(self) -> list[Size]:
        return [(self.batch or 2, *size) for size in self.sizes]


def chosen(
    file: str,
    inputs: Sequence[tuple[str, Sequence[int | str]]],
    given: Sequence[Size],
    examples: Mapping[str, Size] = NONE,
) -> Chosen:
    """The sizes for the inputs of a file, each with a size or a name for each axis, the batch first.

    `examples` are sizes of free axes that the file has. Raises ImportRefused where the user's sizes are not the file's.
    """
    if given and len(given) != len(inputs):
        raise ImportRefused(f"{file} has {len(inputs)} inputs, and {len(given)} sizes are given")
    sizes, batches, free = [], set(), bool(inputs)
    for number, (name, axes) in enumerate(inputs):
        if len(axes) < 2:
            raise ImportRefused(
                f"its input `{visible(name)}` has {len(axes)} axes; one with a batch and channels is needed"
            )
        batches.add(axes[0] if isinstance(axes[0], int) else 0)
        wanted = given[number] if given else examples.get(name, ())[1:]
        sizes.append(size_of(f"its input `{visible(name)}`", axes[1:], wanted))
        free = free and len(axes) > 2 and all(not isinstance(n, int) for n in axes[2:])
    if len(batches) > 1:
        raise ImportRefused("its inputs have different batches")
    return Chosen(sizes, batches.pop(), free)


def size_of(what: str, axes: Sequence[int | str], wanted: Size) -> Size:
    """The size of an input: that of the file, or the wanted one where it is free. Raises ImportRefused."""
    if wanted and len(wanted) != len(axes):
        raise ImportRefused(f"{what} has {len(axes)} axes behind the batch, not {len(wanted)}")
    found = []
    for axis, have in enumerate(axes):
        if isinstance(have, int) and have < 1:
            raise ImportRefused(f"{what} has an axis of size {have}")
        if isinstance(have, int) and wanted and wanted[axis] != have:
            raise ImportRefused(f"{what} has the size {have}, and {wanted[axis]} is given")
        if not isinstance(have, int) and axis == 0 and not wanted:
            raise ImportRefused(f"{what} has free channels; say how many with --size")
        found.append(have if isinstance(have, int) else wanted[axis] if wanted else EXAMPLE.get(len(axes) - 1, 8))
    return tuple(found)
