"""Exact sets of sizes: unions of arithmetic progressions, cyclic windows and intervals, never lists of sizes.

A set is a union of disjoint pieces. A piece is `{n : low <= n <= high, (n - start) mod period in {0, step, …, (length -
1) * step}}`: a residue class (`length` 1), an interval of residues (`step` 1), or a strided one. Real networks need few
such pieces: multiples of 2^20 are one piece, and so are the sizes with n mod 2^20 < 2^19.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import gcd, lcm
from typing import NamedTuple

from archdsl.dims.errors import DimError

PIECES = 4096
"""The maximum number of pieces of a set, and of residues that are listed individually."""


def too_intricate() -> DimError:
    return DimError(
        "the valid input sizes of this network are too complex to compute",
        "fix the input size, or make the branches' sizes equal with `align`",
    )


class Piece(NamedTuple):
    """See the module's docstring. `step` divides `period`, and equals it if `length` is 1."""

    low: int
    high: int | None
    period: int
    start: int
    step: int
    length: int

    def __contains__(self, n: object) -> bool:
        if not isinstance(n, int) or n < self.low or (self.high is not None and n > self.high):
            return False
        q = (n - self.start) % self.period
        return q < self.length * self.step and q % self.step == 0

    def next(self, n: int) -> int:
        """The first number of the pattern at or after `n` (ignores the bounds)."""
        q = (n - self.start) % self.period
        return n - q + self.period if q > (self.length - 1) * self.step else n + -q % self.step

    def previous(self, n: int) -> int:
        """The last number of the pattern at or before `n` (ignores the bounds)."""
        q = (n - self.start) % self.period
        last = (self.length - 1) * self.step
        return n - q + last if q > last else n - q % self.step

    def number(self, low: int, high: int) -> int:
        """How many numbers of the pattern are in `low` to `high`."""

        def below(n: int) -> int:
            whole, part = divmod(n - self.start, self.period)
            return whole * self.length + min(self.length, part // self.step + 1)

        return max(0, below(high) - below(low - 1))

    def members(self) -> Iterator[int]:
        """The members of a bounded piece, in order."""
        assert self.high is not None
        n = self.next(self.low)
        while n <= self.high:
            yield n
            n = self.next(n + 1)

    def tidy(self) -> Piece | None:
        """The same numbers with the tightest bounds and the simplest pattern; None if the piece is empty."""
        low, high, period, start, step, count = self
        low = self.next(low)
        if high is not None:
            high = self.previous(high)
            if high < low:
                return None
            if high == low:
                return Piece(low, low, 1, 0, 1, 1)
            if count > 1 and (low - start) // period == (high - start) // period:
                return Piece(low, high, step, low % step, step, 1)
        if count * step == period:
            return Piece(low, high, step, start % step, step, 1)
        return Piece(low, high, period, start % period, step if count > 1 else period, count)


def congruence(r: int, m: int, s: int, k: int) -> tuple[int, int] | None:
    """The residue and modulus of the numbers that are r mod m and s mod k, by the Chinese remainder theorem."""
    g = gcd(m, k)
    if (s - r) % g:
        return None
    common = m // g * k
    return (r + m * ((s - r) // g * pow(m // g, -1, k // g) % (k // g))) % common, common


def classes(piece: Piece) -> Iterator[Piece]:
    """The `length` residue classes of a piece."""
    low, high, period, start, step, count = piece
    for i in range(count):
        yield Piece(low, high, period, (start + i * step) % period, period, 1)


def intersect(a: Piece, b: Piece) -> list[Piece]:
    """The common members of two pieces, as disjoint pieces (some may be empty)."""
    low = max(a.low, b.low)
    high = b.high if a.high is None else a.high if b.high is None else min(a.high, b.high)
    if high is not None and high < low:
        return []
    if a.length > 1:
        a, b = b, a
    if a.length > 1:
        return _meet_windows(low, high, a, b)
    found = congruence(a.start, a.period, b.start, b.step)
    if found is None:
        return []
    residue, step = found
    if b.length == 1:
        return [Piece(low, high, step, residue, step, 1)]
    period = lcm(b.period, step)
    turns = period // b.period
    if turns > b.length:
        return [p for c in classes(b._replace(low=low, high=high)) for p in intersect(a, c)]
    result = []
    for start in range(b.start, b.start + period, b.period):
        first = start + (residue - start) % step
        count = (start + (b.length - 1) * b.step - first) // step + 1
        if count > 0:
            result.append(Piece(low, high, period, first % period, step if count > 1 else period, count))
    return result


def _meet_windows(low: int, high: int | None, a: Piece, b: Piece) -> list[Piece]:
    if a.period > b.period:
        a, b = b, a
    found = congruence(a.start % a.step, a.step, b.start % b.step, b.step)
    if found is None:
        return []
    residue, step = found
    period = lcm(a.period, b.period)
    a_reach, b_reach = (a.length - 1) * a.step, (b.length - 1) * b.step
    overlaps = period // b.period * ((a_reach + b_reach) // a.period + 1)
    if min(overlaps, a.length, b.length) > PIECES:
        raise too_intricate()
    if overlaps > min(a.length, b.length):
        few, other = (a, b) if a.length < b.length else (b, a)
        return [p for c in classes(few._replace(low=low, high=high)) for p in intersect(c, other)]
    result = []
    for left in range(b.start, b.start + period, b.period):
        # From the first window of `a` whose end reaches `left` to the last one that begins in the window of `b`.
        begin = a.start + -(-(left - a_reach - a.start) // a.period) * a.period
        for start in range(begin, left + b_reach + 1, a.period):
            first = max(left, start)
            first += (residue - first) % step
            count = (min(left + b_reach, start + a_reach) - first) // step + 1
            if count > 0:
                result.append(Piece(low, high, period, first % period, step if count > 1 else period, count))
    return result


def joined(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The same disjoint pieces, simplified, sorted and joined with pieces that continue their pattern."""
    result: list[Piece] = []
    last: dict[tuple[int, ...], int] = {}
    for piece in sorted(t for p in pieces if (t := p.tidy()) is not None):
        pattern = (piece.period, piece.start, piece.step, piece.length)
        at = last.get(pattern)
        if at is not None and (end := result[at].high) is not None and piece.next(end + 1) == piece.low:
            result[at] = result[at]._replace(high=piece.high)
        else:
            last[pattern] = len(result)
            result.append(piece)
    if len(result) > PIECES:
        raise too_intricate()
    return tuple(result)


class Run(NamedTuple):
    """`first`, `first + step`, …: `length` numbers."""

    first: int
    step: int
    length: int

    @property
    def last(self) -> int:
        return self.first + (self.length - 1) * self.step

    def members(self) -> range:
        return range(self.first, self.last + 1, self.step)


class Pattern(NamedTuple):
    """A repeating pattern: residues of a modulus."""

    modulus: int
    runs: tuple[Run, ...]

    @property
    def number(self) -> int:
        return sum(count for _, _, count in self.runs)

    def pieces(self, low: int, high: int | None) -> list[Piece]:
        return [Piece(low, high, self.modulus, first, step, count) for first, step, count in self.runs]

    def residues(self) -> list[int]:
        return sorted(r for run in self.runs for r in run.members())

    def first(self, low: int) -> int:
        """The first number at or after `low`."""
        return min(p.next(low) for p in self.pieces(low, None))


class CanonicalForm(NamedTuple):
    """The canonical form of a set: `pattern` from `threshold`, and the sizes `below` it."""

    threshold: int
    pattern: Pattern | None
    below: tuple[Run, ...]


def runs_of(numbers: Sequence[int], modulus: int = 0) -> tuple[Run, ...]:
    """Sorted numbers as few runs; residues have a modulus, which the steps then divide."""
    runs = []
    i = 0
    while i < len(numbers):
        step, count = modulus or 1, 1
        if i + 1 < len(numbers):
            d = numbers[i + 1] - numbers[i]
            j = i + 1
            while j + 1 < len(numbers) and numbers[j + 1] - numbers[j] == d:
                j += 1
            if modulus % d == 0 and (d == 1 or j - i >= 2):
                step, count = d, j - i + 1
        runs.append(Run(numbers[i], step, count))
        i += count
    return tuple(runs)


def bounded_runs(pieces: Iterable[Piece]) -> tuple[Run, ...]:
    """The members of disjoint bounded pieces as runs."""
    parts = [part for piece in pieces for part in strides(piece)]
    runs = [Run(p.low, p.step, (p.high - p.low) // p.step + 1) for p in parts if p.high is not None]
    if sum(run.length for run in runs) <= PIECES:
        return runs_of(sorted(n for run in runs for n in run.members()))
    return tuple(sorted(runs))


def _primes(n: int) -> list[int]:
    """The prime factors of n up to a thousand, and the remaining factor."""
    found = []
    for q in (2, *range(3, 1000, 2)):
        if q * q > n:
            break
        if n % q == 0:
            found.append(q)
            while n % q == 0:
                n //= q
    return [*found, n] if n > 1 else found


def pattern_of(pieces: list[Piece]) -> Pattern:
    """The pattern of unbounded pieces, with the smallest modulus that can be found without listing too much."""
    modulus = lcm(*(p.period for p in pieces))
    if sum(p.length * (modulus // p.period) for p in pieces) <= PIECES:
        residues = sorted(
            (p.start + i * p.step + shift) % modulus
            for p in pieces
            for i in range(p.length)
            for shift in range(0, modulus, p.period)
        )
        for q in _primes(modulus):
            while modulus % q == 0:
                smaller = modulus // q
                reduced = sorted({r % smaller for r in residues})
                if len(reduced) * q != len(residues):
                    break
                modulus, residues = smaller, reduced
        return Pattern(modulus, runs_of(residues, modulus))
    runs = []
    for p in pieces:
        if p.length == 1:
            runs.append(Run(p.start, p.period, modulus // p.period))
            continue
        if modulus // p.period > PIECES:
            raise too_intricate()
        for shift in range(0, modulus, p.period):
            start = (p.start + shift) % modulus
            room = (modulus - 1 - start) // p.step + 1
            runs.append(Run(start, p.step, min(room, p.length)))
            if room < p.length:
                runs.append(Run(start + room * p.step - modulus, p.step, p.length - room))
    return Pattern(modulus, tuple(sorted(runs)))


def strides(piece: Piece) -> list[Piece]:
    """A bounded piece as bounded residue classes: of its residues or of its windows, whichever are fewer."""
    low, high, period, start, step, count = piece
    assert high is not None
    first = start + (low - start) // period * period
    if min(count, (high - first) // period + 1) > PIECES:
        raise too_intricate()
    if count <= (high - first) // period + 1:
        parts = classes(piece)
    else:
        reach = (count - 1) * step
        windows = range(first, high + 1, period)
        parts = (Piece(max(low, s), min(high, s + reach), step, start % step, step, 1) for s in windows)
    return [tidy for part in parts if (tidy := part.tidy()) is not None]
