"""Bytes held over the moments of a run, and the peaks among them, for any batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from archdsl.graph import Node


@dataclass(frozen=True, slots=True)
class Moment:
    """Bytes that are held at a moment, whatever the batch and for each sample; `node` is what runs."""

    fixed: int
    sample: int
    node: int | None = None

    def at(self, batch: int) -> int:
        return self.fixed + batch * self.sample


@dataclass(frozen=True, slots=True)
class Peak:
    """The moments of a run that are the largest for one batch or another."""

    moments: tuple[Moment, ...]

    @classmethod
    def of(cls, moments: Iterable[Moment]) -> Peak:
        """Of all moments of a run."""
        kept: list[Moment] = []
        for moment in sorted(moments, key=lambda m: (-m.fixed, -m.sample)):
            if not kept or moment.sample > kept[-1].sample:
                kept.append(moment)
        return cls(tuple(kept))

    def moment(self, batch: int) -> Moment:
        return max(self.moments, key=lambda m: m.at(batch))

    def at(self, batch: int) -> int:
        """Bytes."""
        return self.moment(batch).at(batch)

    def largest_batch(self, limit: int) -> int:
        """The largest batch that stays within `limit` bytes; 0 where none does."""
        return max(0, min((limit - m.fixed) // max(m.sample, 1) for m in self.moments))


@dataclass(slots=True)
class Ledger:
    """Buffers that are held, each as often as something holds it, and the moments seen."""

    fixed: int
    sample: int = 0
    sizes: dict[object, tuple[int, int]] = field(default_factory=dict)
    holders: Counter[object] = field(default_factory=Counter)
    moments: dict[tuple[int, int], Moment] = field(default_factory=dict)

    def hold(self, buffer: object, sample: int = 0, fixed: int = 0) -> None:
        """Holds a buffer once more; a new one is of that size."""
        if not self.holders[buffer]:
            self.sizes[buffer] = fixed, sample
            self.fixed += fixed
            self.sample += sample
        self.holders[buffer] += 1

    def release(self, buffer: object) -> None:
        self.holders[buffer] -= 1
        if not self.holders[buffer]:
            del self.holders[buffer]
            fixed, sample = self.sizes.pop(buffer)
            self.fixed -= fixed
            self.sample -= sample

    def note(self, node: Node | None, sample: int = 0, fixed: int = 0) -> None:
        """A moment, with so many bytes more."""
        key = self.fixed + fixed, self.sample + sample
        self.moments.setdefault(key, Moment(*key, None if node is None else node.id))

    def peak(self) -> Peak:
        return Peak.of(self.moments.values())
