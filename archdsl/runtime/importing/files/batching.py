"""Files that fix the batch: where it is in each tensor, so that the sizes that the file has as numbers fit any other.

Every step is also run with a larger batch; what has another size then is the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from archdsl.runtime.refusal import ImportRefused

TIMES = 5
"""The other batch is so many times that of the file."""

Sizes: TypeAlias = Sequence[int]


@dataclass(frozen=True, slots=True)
class Place:
    """The axis that the batch is in, and how many numbers of that axis count around it."""

    axis: int
    outer: int = 1


@dataclass(frozen=True, slots=True)
class Fitted:
    """How sizes of the file fit another batch: their axis `at` grows as axis `axis` of the tensor, of size `size`."""

    at: int
    axis: int
    size: int

    def __call__(self, shape: Sizes, wanted: Sizes) -> list[int]:
        found = [*wanted]
        if found[self.at] != -1:
            found[self.at] = found[self.at] * shape[self.axis] // self.size
        return found


@dataclass(slots=True, eq=False)
class Batches:
    """The batch that a file fixes, and where it is in each value; `values` are those with the other batch."""

    batch: int
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def note(self, gives: Sequence[str], examples: Sequence[Any], others: Sequence[Any], takes: Sequence[str]) -> None:
        """Notes where the batch is in results; an axis that goes on keeps what counts around the batch in it."""
        around = {self.place_size(name): self.places[name].outer for name in takes if name in self.places}
        for name, one, other in zip(gives, examples, others, strict=False):
            self.values[name] = other
            if name in self.places or not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
                continue
            axes = [i for i, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if a != b]
            if len(axes) == 1:
                self.places[name] = Place(axes[0], around.get(other.shape[axes[0]], 1))

    def place_size(self, name: str) -> int:
        """The size of the axis that the batch is in, with the other batch."""
        return int(self.values[name].shape[self.places[name].axis])

    def fitted(self, name: str, gives: str, example: Sizes, wanted: Sizes) -> Fitted | None:
        """How the sizes to which a value is reshaped fit other batches; None if they do as they are.

        Notes where the batch is then.
        """
        if (place := self.places.get(name)) is None:
            return None
        known = math.prod(n for n in wanted if n != -1)
        sizes = [math.prod(example) // max(known, 1) if n == -1 else n for n in wanted]
        if math.prod(sizes) != math.prod(example):
            return None
        outer = math.prod(example[: place.axis]) * place.outer
        behind = math.prod(example) // (outer * self.batch)
        if (at := self.axis_with(sizes, outer, behind)) is None:
            return None
        self.places[gives] = Place(at, outer // math.prod(sizes[:at]))
        return Fitted(at, place.axis, example[place.axis])

    def expanded(self, place: Place | None, shape: Sizes, wanted: Sizes, first: Sequence[torch.Tensor]) -> list[int]:
        """The sizes to which a tensor is expanded, with the batch of the run: its own, or that of the `first` input."""
        found = [*wanted]
        if place is not None:
            found[len(wanted) - len(shape) + place.axis] = shape[place.axis]
        elif found and first and found[0] == self.batch:
            found[0] = first[0].shape[0]
        return found

    def repeated(self, place: Place | None, times: Sizes, first: Sequence[torch.Tensor]) -> list[int]:
        """How often a tensor is repeated along each axis; one without a batch so for each sample of the run."""
        found = [*times]
        if place is None and first and found[0] == self.batch:
            found[0] = first[0].shape[0]
        return found

    def axis_with(self, sizes: Sizes, outer: int, behind: int) -> int | None:
        """The axis of a reshaped tensor that has the batch, which so many numbers count around; None if it is torn.

        A batch of 1 fits both at the end of an axis and at the start of the next one: there if that has not all
        numbers that are behind the batch, as heads are no more than a part of the channels.
        """
        ends = [math.prod(sizes[: i + 1]) for i in range(len(sizes))]
        starts = [1, *ends[:-1]]
        fits = [
            i
            for i, (start, end) in enumerate(zip(starts, ends, strict=True))
            if outer % start == 0 and end % (outer * self.batch) == 0
        ]
        own = next((i for i in fits if starts[i] == outer), None)
        if own is None or len(fits) == 1 or outer == 1 or sizes[own] in (1, self.batch) or sizes[own] != behind:
            return own if own is not None else next(iter(fits), None)
        return fits[0]


def tried(run: Callable[..., Any], given: Sequence[Any], what: str) -> Any:
    """The result of a step on tensors without data. Raises ImportRefused if it cannot run, `what` of which it says."""
    try:
        with torch.no_grad(), torch.device("meta"):
            return run(*given)
    except ImportRefused:
        raise
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportRefused(f"{what}: {first}") from None


def joined(run: Callable[..., Any], parts: Sequence[torch.Tensor], axis: int = 0) -> Any:
    """Tensors one behind the other; those of parameters are repeated for each sample of the batch of the run."""
    sizes = [max(part.shape[i] for part in parts) for i in range(parts[0].ndim)]
    along = axis % len(sizes)
    found = []
    for part in parts:
        wanted = [*sizes[:along], part.shape[along], *sizes[along + 1 :]]
        found.append(part if [*part.shape] == wanted else part.expand(wanted))
    return run(found, axis)


def as_list(result: Any, gives: Sequence[str]) -> list[Any]:
    """The results of a step, by their names."""
    return [result] if len(gives) == 1 else [*result]
