"""Memory held at each moment of a run, and its peaks, for any batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from archdsl.graph import Node


@dataclass(frozen=True, slots=True)
class Moment:
    """Bytes held at a moment: a constant, and an amount per sample; `node` is the running node."""

    fixed: int
    sample: int
    node: int | None = None

    def at(self, batch: int) -> int:
        return self.fixed + batch * self.sample


@dataclass(frozen=True, slots=True)
class Peak:
    """The moments of a run that are the peak for some batch."""

    moments: tuple[Moment, ...]

    @classmethod
    def of(cls, moments: Iterable[Moment]) -> Peak:
        """Collected over all moments of a run."""
        kept: list[Moment] = []
        for moment in sorted(moments, key=lambda m: (-m.fixed, -m.sample)):
            if not kept or moment.sample > kept[-1].sample:
                kept.append(moment)
        return cls(tuple(kept))

    def moment(self, batch: int) -> Moment:
        return max(self.moments, key=lambda m: m.at(batch))

    def at(self, batch: int) -> int:
        """The peak in bytes."""
        return self.moment(batch).at(batch)

    def largest_batch(self, limit: int) -> int:
        """The largest batch that fits into `limit` bytes; 0 if none does."""
        return max(0, min((limit - m.fixed) // max(m.sample, 1) for m in self.moments))


@dataclass(slots=True)
class Ledger:
    """Allocated buffers with their reference counts, and the moments so far."""

    fixed: int
    sample: int = 0
    sizes: dict[object, tuple[int, int]] = field(default_factory=dict)
    holders: Counter[object] = field(default_factory=Counter)
    moments: dict[tuple[int, int], Moment] = field(default_factory=dict)

    def hold(self, buffer: object, sample: int = 0, fixed: int = 0) -> None:
        """Adds a reference to a buffer; a new buffer has that size."""
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
        """Records a moment, with some additional bytes."""
        key = self.fixed + fixed, self.sample + sample
        self.moments.setdefault(key, Moment(*key, None if node is None else node.id))

    def peak(self) -> Peak:
        return Peak.of(self.moments.values())


@dataclass(slots=True)
class Profile(Ledger):
    """A ledger of bytes for one batch, by node: `most[node]` is the most held while it runs, None between the passes.

    A node runs in the forward pass, in the backward pass, and when it is recomputed.
    """

    batch: int = 1
    most: dict[int | None, int] = field(default_factory=dict)

    def note(self, node: Node | None, sample: int = 0, fixed: int = 0) -> None:
        key = None if node is None else node.id
        held = self.fixed + fixed + self.batch * (self.sample + sample)
        if held > self.most.get(key, -1):
            self.most[key] = held
