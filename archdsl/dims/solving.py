"""Constraints on sizes, and the exact set of input sizes that satisfy one.

An equation or inequality in one free size is solved by cases. On an interval, constants are substituted and bounds
decide where they can; a size that grows leaves a finite interval to examine, a size that does not grow repeats, so one
period is enough; what remains is split at a step of the floor with the fewest steps. Sizes are never tried one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from archdsl.common.limits import budget
from archdsl.common.threads import cached_property
from archdsl.dims.errors import DimError
from archdsl.dims.expr import Dim, free_sizes
from archdsl.dims.expressions import (
    Extreme,
    Floor,
    Plain,
    Single,
    bounds,
    composed,
    floor_div,
    line,
    lines,
    period,
    restricted,
)
from archdsl.dims.pieces import Piece, classes, joined, strides, too_intricate
from archdsl.dims.products import Polynomial
from archdsl.dims.sets import EVERYTHING, NOTHING, SizeSet
from archdsl.dims.wording import text

WORK = 60_000
"""The maximum number of atoms examined in all cases of one constraint."""

CLASSES = 1_024
"""The maximum number of residue classes in which a constraint is solved separately."""

Relation = Literal["= 0", "≥ 0"]


@dataclass(frozen=True)
class Constraint:
    """A constraint that does not hold for every value of the free sizes, but may hold for some."""

    left: Dim
    relation: Literal["=", "≥", "divided by"]
    right: Dim

    @cached_property
    def variables(self) -> frozenset[str]:
        return free_sizes(self.left, self.right)

    @property
    def text(self) -> str:
        """The constraint as text: `⌊H/2⌋ = 2⌊H/4⌋`."""
        if self.relation == "divided by":
            return f"{text(self.right)} divides {text(self.left)}"
        return f"{text(self.left)} {self.relation} {text(self.right)}"

    def __str__(self) -> str:
        return self.text

    def narrow(self, current: SizeSet) -> SizeSet:
        """The sizes of `current` for which the constraint holds; `current` itself if it holds for all.

        Raises DimError if it relates two free sizes, or if the answer is too complex.
        """
        if any(isinstance(size, Polynomial) for size in (self.left, self.right)):
            tied = (
                f"makes {' and '.join(sorted(self.variables))} depend on each other; archdsl needs independent sizes"
                if len(self.variables) > 1
                else "has a power of a free size; archdsl cannot solve that"
            )
            raise DimError(
                f"this needs {self.text}, which {tied}",
                f"fix {' or '.join(sorted(self.variables))} with a number in the `input`",
            )
        if len(self.variables) != 1:
            names = " and ".join(sorted(self.variables))
            raise DimError(
                f"this needs {self.text}, which makes {names} depend on each other; archdsl needs independent sizes",
                "give both axes the same name, `input x[3, N, N]`, or fix one of them with a number in the `input`",
            )
        found = _narrowed(self, current)
        return current if found == current else found

    @property
    def _normal(self) -> tuple[Plain, Relation]:
        assert isinstance(self.left, int | Single) and isinstance(self.right, int | Single)
        if self.relation == "divided by":
            return self.left - floor_div(self.left, self.right) * self.right, "= 0"
        return self.left - self.right, "= 0" if self.relation == "=" else "≥ 0"


@lru_cache(maxsize=1 << 12)
def _narrowed(demand: Constraint, current: SizeSet) -> SizeSet:
    difference, relation = demand._normal
    if isinstance(difference, int):
        return current if (difference == 0 if relation == "= 0" else difference >= 0) else NOTHING
    with budget().solving():
        found = solution(difference, relation)
        try:
            found = found and current.intersect(found)
        except DimError:
            found = None
        # Within the classes of `current` it may be much simpler than for all sizes.
        found = found or _solution_within(difference, relation, current)
        if found is None:
            raise too_intricate()
        return current if found == current else found


@lru_cache(maxsize=1 << 12)
def decided(demand: Constraint) -> bool | Constraint:
    """True or False if it is so for every value, else the constraint."""
    difference, relation = demand._normal
    if isinstance(difference, int):
        return difference == 0 if relation == "= 0" else difference >= 0
    least, most = bounds(difference)
    if relation == "≥ 0" and least >= 0:
        return True
    if most < 0 or (relation == "= 0" and least > 0):
        return False
    with budget().solving():
        found = solution(difference, relation)
    if found is None:
        return demand  # together with other constraints it may be simple
    if found.is_empty:
        return False
    return True if found == EVERYTHING else demand


@lru_cache(maxsize=1 << 12)
def solution(d: Single, relation: Relation) -> SizeSet | None:
    """The values from 1 of the free size for which `d = 0`, or `d ≥ 0`; None if they are too complex."""
    if not d.terms and relation == "≥ 0":
        if d.slope > 0:
            return SizeSet.progression_from(-(d.offset // d.slope))
        return SizeSet([Piece(1, d.offset // -d.slope, 1, 0, 1, 1)])
    try:
        return SizeSet(_Solver(relation).solve(d, 1, None))
    except DimError:
        return None


@lru_cache(maxsize=1 << 8)
def _solution_within(d: Single, relation: Relation, current: SizeSet) -> SizeSet | None:
    """The solution in `current`, solved separately in each of its residue classes."""
    if sum(piece.length for piece in current.pieces) > CLASSES:
        return None
    try:
        return SizeSet(_within(d, relation, current))
    except DimError:
        return None


def _within(d: Single, relation: Relation, current: SizeSet) -> Iterator[Piece]:
    solver = _Solver(relation)
    for part in (part for piece in current.pieces for part in classes(piece)):
        factor, shift = part.period, part.next(part.low)
        high = None if part.high is None else (part.high - shift) // factor
        inner = composed(d, factor, shift)
        if isinstance(inner, int):
            if inner == 0 if relation == "= 0" else inner >= 0:
                yield part
            continue
        for p in solver.solve(inner, 0, high):
            end = None if p.high is None else shift + factor * p.high
            start = shift + factor * p.start
            yield Piece(shift + factor * p.low, end, factor * p.period, start, factor * p.step, p.length)


@dataclass(slots=True)
class _Solver:
    relation: Relation
    work: int = 0

    def solve(self, d: Plain, low: int, high: int | None) -> list[Piece]:
        """The n from `low` to `high` for which the relation holds, as disjoint pieces."""
        if high is not None and high < low:
            return []
        self.work += d.weight if isinstance(d, Single) else 1
        if self.work > WORK:
            raise too_intricate()
        d = restricted(d, low, high)
        least, most = bounds(d, low, high)
        if most < 0 or (self.relation == "= 0" and least > 0):
            return []
        if least >= 0 and (self.relation == "≥ 0" or most <= 0):
            return [Piece(low, high, 1, 0, 1, 1)]
        assert isinstance(d, Single)
        if not d.terms:
            return self._affine(d, low, high)
        band = line(d)
        if band is None:
            cut = _order_settled(d, low)
            if cut is not None and cut > low and (high is None or cut <= high):
                return self.solve(d, low, cut - 1) + self.solve(d, cut, high)
        elif band.slope:
            return self._growing(d, low, high)
        else:
            repeat = period(d)
            if high is None or high - low >= repeat:
                # Starting at a multiple of the period keeps intervals of residues in one piece.
                first = -(-low // repeat) * repeat
                if high is not None and first + repeat > high:
                    first = low
                return _repeated(self.solve(d, first, first + repeat - 1), repeat, low, high)
        assert high is not None
        cut = _cut(d, low, high)
        return self.solve(d, low, cut - 1) + self.solve(d, cut, high)

    def _affine(self, d: Single, low: int, high: int | None) -> list[Piece]:
        if self.relation == "= 0":
            n, rest = divmod(-d.offset, d.slope)
            return [Piece(n, n, 1, 0, 1, 1)] if not rest and n >= low and (high is None or n <= high) else []
        if d.slope > 0:
            return self._interval(max(low, -(d.offset // d.slope)), high)
        end = d.offset // -d.slope
        return self._interval(low, end if high is None else min(high, end))

    def _interval(self, low: int, high: int | None) -> list[Piece]:
        return [Piece(low, high, 1, 0, 1, 1)] if high is None or low <= high else []

    def _growing(self, d: Single, low: int, high: int | None) -> list[Piece]:
        """A size that tends to infinity with n is 0 only in a finite interval, after which its sign is known."""
        band = line(d)
        assert band is not None
        # slope * n + low <= 0 <= slope * n + high
        ends = (-band.high, -band.low) if band.slope > 0 else (band.low, band.high)
        first, last = max(low, -(-ends[0] // abs(band.slope))), ends[1] // abs(band.slope)
        if high is not None:
            last = min(high, last)
        result: list[Piece] = []
        if self.relation == "≥ 0":
            if band.slope > 0:
                result = self._interval(max(low, last + 1), high)
            elif first > low:
                result = self._interval(low, first - 1 if high is None else min(high, first - 1))
        if first > last:
            return result
        if (first, last) != (low, high):
            return result + self.solve(d, first, last)
        cut = _cut(d, first, last)
        return result + self.solve(d, first, cut - 1) + self.solve(d, cut, last)


def _order_settled(d: Plain, low: int) -> int | None:
    """The value from which the order of the arguments of an innermost minimum is known."""
    if isinstance(d, int):
        return None
    for _, atom in d.terms:
        if isinstance(atom, Floor):
            continue
        for x in atom.arguments:
            if (found := _order_settled(x, low)) is not None:
                return found
        bands = lines(atom)
        if len(bands) < len(atom.arguments):
            continue
        cut = None
        for i, a in enumerate(bands):
            for b in bands[:i]:
                if a.slope != b.slope:
                    at = max(a.high - b.low, b.high - a.low) // abs(a.slope - b.slope) + 1
                    cut = at if cut is None else max(cut, at)
        if cut is not None and cut > low:
            return cut
    return None


def _cut(d: Single, low: int, high: int) -> int:
    """Where to split an interval: in the middle of the floor with the fewest steps, or where a minimum switches."""
    best: tuple[int, int] | None = None
    stack: list[Single] = [d]
    while stack:
        e = stack.pop()
        for _, atom in e.terms:
            if isinstance(atom, Floor):
                if atom.inner.terms:
                    stack.append(atom.inner)
                    continue
                a, b, k = atom.inner.slope, atom.inner.offset, atom.divisor
                first, last = (a * low + b) // k, (a * high + b) // k
                if last > first and (best is None or last - first < best[0]):
                    middle = (first + last + 1) // 2
                    best = last - first, -(-(middle * k - b) // a)
            else:
                stack += [x for x in atom.arguments if isinstance(x, Single)]
                if best is None and all(isinstance(x, int) or not x.terms for x in atom.arguments):
                    turn = _turn(atom, low, high)
                    best = None if turn is None else (high - low, turn)
    return best[1] if best else (low + high + 1) // 2


def _turn(atom: Extreme, low: int, high: int) -> int | None:
    x, y = atom.arguments[:2]
    slope = (x.slope if isinstance(x, Single) else 0) - (y.slope if isinstance(y, Single) else 0)
    if not slope:
        return None
    offset = (x.offset if isinstance(x, Single) else x) - (y.offset if isinstance(y, Single) else y)
    # After `turn` the faster-growing one is larger.
    turn = -(offset // slope) if slope > 0 else -(-offset // -slope)
    return turn if low < turn <= high else None


def _repeated(found: list[Piece], repeat: int, low: int, high: int | None) -> list[Piece]:
    """The pieces of one period, from `low` to `low + repeat - 1`, repeated."""
    result: list[Piece] = []
    for piece in joined(found):
        for part in strides(piece):
            assert part.high is not None
            count = (part.high - part.low) // part.step + 1
            result.append(Piece(low, high, repeat, part.low % repeat, part.step if count > 1 else repeat, count))
    return result
