"""Exact sets of input sizes, and their descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from archdsl.common.threads import cached_property
from archdsl.dims.errors import DimError
from archdsl.dims.pieces import (
    PIECES,
    CanonicalForm,
    Pattern,
    Piece,
    Run,
    bounded_runs,
    intersect,
    joined,
    pattern_of,
    runs_of,
    too_intricate,
)


class SizeSet:
    """An exact set of integers from 1. Sets with the same members are equal."""

    __slots__ = ("__dict__", "pieces")
    pieces: tuple[Piece, ...]

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.pieces = joined(pieces)

    @staticmethod
    def everything() -> SizeSet:
        return EVERYTHING

    @staticmethod
    def nothing() -> SizeSet:
        return NOTHING

    @staticmethod
    def only(*sizes: int) -> SizeSet:
        """Only these sizes."""
        return SizeSet(Piece(n, n, 1, 0, 1, 1) for n in {*sizes} if n >= 1)

    @staticmethod
    def progression_from(minimum: int, modulus: int = 1, residue: int = 0) -> SizeSet:
        """The sizes from `minimum` that leave `residue` when divided by `modulus`."""
        return SizeSet([Piece(max(1, minimum), None, modulus, residue % modulus, modulus, 1)])

    def __contains__(self, n: object) -> bool:
        return any(n in p for p in self.pieces)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SizeSet):
            return NotImplemented
        if self is other or self.pieces == other.pieces:
            return True
        return hash(self) == hash(other) and self._measure == self.intersect(other)._measure == other._measure

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"SizeSet({self.describe()})"

    @cached_property
    def _hash(self) -> int:
        return hash((self.minimum, self.maximum, self._measure))

    @cached_property
    def _measure(self) -> tuple[Fraction, Fraction]:
        """The density, and the number of members relative to it: distinguishes a set from its subsets."""
        density = offset = Fraction(0)
        for p in self.pieces:
            if p.high is not None:
                offset += p.number(p.low, p.high)
                continue
            # For a class that starts at `low`, the mean over X of (members up to X) - X / period is ((period + 1) / 2 -
            # low) / period. `lows` is the sum of these for the classes of the piece.
            at = (p.low - p.start) % p.period // p.step
            lows = p.length * p.low + p.step * (p.length * (p.length - 1) // 2 - p.length * at) + p.period * at
            density += Fraction(p.length, p.period)
            offset += Fraction(p.length * (p.period + 1) - 2 * lows, 2 * p.period)
        return density, offset

    @property
    def is_empty(self) -> bool:
        return not self.pieces

    @property
    def minimum(self) -> int | None:
        return self.pieces[0].low if self.pieces else None

    @property
    def maximum(self) -> int | None:
        """The largest member; None for an empty or unbounded set."""
        highs = [p.high for p in self.pieces]
        return None if None in highs or not highs else max(h for h in highs if h is not None)

    def intersect(self, other: SizeSet) -> SizeSet:
        if self is other or other is EVERYTHING:
            return self
        if self is EVERYTHING:
            return other
        if len(self.pieces) * len(other.pieces) > 64 * PIECES:
            raise too_intricate()
        return SizeSet(p for a in self.pieces for b in other.pieces for p in intersect(a, b))

    def nearest(self, n: int) -> tuple[int | None, int | None]:
        """The largest member below `n` and the smallest above it; None if there is none."""
        below = above = None
        for p in self.pieces:
            if p.low < n:
                m = p.previous(n - 1 if p.high is None else min(n - 1, p.high))
                below = m if below is None else max(below, m)
            if p.high is None or p.high > n:
                m = p.next(max(n + 1, p.low))
                above = m if above is None else min(above, m)
        return below, above

    @cached_property
    def form(self) -> CanonicalForm:
        """The canonical form. Raises DimError if the set is too complex."""
        endless = [p for p in self.pieces if p.high is None]
        if not endless:
            return CanonicalForm(1, None, bounded_runs(self.pieces))
        pattern = pattern_of(endless)
        ends = [p.previous(p.low - 1) if p.high is None else p.high for p in self.pieces]
        top = max(0, *ends) + 1
        bounded = [p if p.high is not None else p._replace(high=top - 1) for p in self.pieces if p.low < top]
        repeating = pattern.pieces(1, None)
        for _ in range(PIECES):
            mine = max((p.previous(min(top - 1, p.high or 0)) for p in bounded if p.low < top), default=0)
            theirs = max(0, *(p.previous(top - 1) for p in repeating))
            if mine != theirs:
                top = max(mine, theirs) + 1
                break
            top = max(mine, 1)
            if not mine:
                break
        below = bounded_runs(joined(p._replace(high=min(p.high or 0, top - 1)) for p in bounded if p.low < top))
        return CanonicalForm(top, pattern, below)

    @cached_property
    def gaps(self) -> tuple[Run, ...]:
        """The numbers of the pattern that the set lacks, if these are fewer than `form.below`."""
        threshold, pattern, below = self.form
        inside = sum(run.length for run in below)
        if pattern is None or not inside or inside > PIECES:
            return ()
        low = below[0].first
        whole = pattern.pieces(low, threshold - 1)
        if not inside < sum(p.number(low, threshold - 1) for p in whole) < 2 * inside:
            return ()
        pieces = joined(whole)
        gaps = {n for p in pieces for n in p.members()} - {n for run in below for n in run.members()}
        # Members below the threshold that are not in the pattern cannot be expressed by gaps.
        return runs_of(sorted(gaps)) if len(gaps) + inside == sum(1 for p in pieces for _ in p.members()) else ()

    @property
    def progression(self) -> tuple[int, int, int] | None:
        """(modulus, residue, minimum) if the set is one arithmetic progression from a minimum."""
        _, pattern, below = self.form
        if pattern is None or below or pattern.number != 1:
            return None
        assert self.minimum is not None
        return pattern.modulus, pattern.runs[0].first, self.minimum

    def describe(self) -> str:
        """A readable description: `multiples of 32`, `≡ 12 (mod 16), at least 188`, `only 224, 256`."""
        if self.is_empty:
            return "none"
        try:
            threshold, pattern, below = self.form
        except DimError:
            return f"{len(self.pieces)} progressions, at least {number(self.pieces[0].low)}"
        if pattern is None:
            return f"only {_words(below)}"
        if self.gaps:
            return f"{_repeating(pattern, below[0].first)}, except {_words(self.gaps)}"
        tail = _repeating(pattern, pattern.first(threshold))
        return f"{tail}, and {_words(below)}" if below else tail

    def condition(self) -> str:
        """The condition on a size: `a multiple of 16`, `at least 33`."""
        text = self.describe()
        for start, said in (("multiples of ", "a multiple of "), ("any from ", "at least ")):
            if text.startswith(start):
                return said + text.removeprefix(start)
        if text.startswith("only "):
            sizes = text.removeprefix("only ")
            return f"one of {sizes}" if "," in sizes else sizes
        return text

    def as_data(self) -> dict[str, object]:
        """The set as plain data, exactly.

        A size n is valid if n >= minimum and n % modulus is one of `residues`, or n is one of exceptions["added"],
        unless it is one of exceptions["removed"]. `modulus` is None for a finite set, which is all in "added". If
        residues or exceptions are too many to list, they are runs {"first", "last", "step"}.
        """
        threshold, pattern, below = self.form
        minimum = pattern.first(threshold) if pattern and not self.gaps else self.minimum
        return {
            "modulus": pattern.modulus if pattern else None,
            "residues": _data(pattern.runs) if pattern else [],
            "minimum": minimum,
            "exceptions": {"added": [] if self.gaps else _data(below), "removed": _data(self.gaps)},
        }

    def python(self, name: str) -> str:
        """A Python expression over the int variable `name` that is true for the members, among the integers from 1."""
        if self.is_empty:
            return "False"
        threshold, pattern, below = self.form
        if pattern is None:
            return " or ".join(_tests_of_sizes(name, below))
        tests = [_test_of_pattern(name, pattern)] if pattern.modulus > 1 else []
        minimum = below[0].first if self.gaps else pattern.first(threshold)
        if minimum > pattern.first(1):
            tests.append(f"{name} >= {literal(minimum)}")
        if self.gaps:
            return " and ".join([*tests, f"not ({' or '.join(_tests_of_sizes(name, self.gaps))})"])
        test = " and ".join(tests) or "True"
        return " or ".join([test, *_tests_of_sizes(name, below)])


LISTED = 16
"""The maximum number of residues that are tested individually rather than by lookup."""

EVERYTHING = SizeSet([Piece(1, None, 1, 0, 1, 1)])
NOTHING = SizeSet([])


def literal(n: int) -> str:
    """A number in Python source (Python refuses to print ints of more than a few thousand decimal digits)."""
    return str(n) if n.bit_length() <= 128 else hex(n)


def number(n: int) -> str:
    """A number as text."""
    if n.bit_length() <= 64:
        return str(n)
    sign, power = "-" if n < 0 else "", abs(n).bit_length() - 1
    return f"{sign}2^{power}" if abs(n) == 1 << power else f"{sign}about 2^{power}"


def _words(runs: Sequence[Run]) -> str:
    parts: list[str] = []
    for run in runs:
        if run.length <= 3:
            parts += [number(n) for n in run.members()]
        elif run.step == 1:
            parts.append(f"{number(run.first)} to {number(run.last)}")
        else:
            parts += [number(run.first), number(run.first + run.step), "…", number(run.last)]
    return ", ".join(parts if len(parts) <= 24 else [*parts[:20], "…", parts[-1]])


def _repeating(pattern: Pattern, minimum: int) -> str:
    modulus, runs = pattern
    bound = f", at least {number(minimum)}" if minimum > pattern.first(1) else ""
    if modulus == 1:
        return f"any from {number(minimum)}" if bound else "any"
    if pattern.number == 1 and runs[0].first == 0:
        return f"multiples of {number(modulus)}{bound}"
    if modulus == 2:
        return f"odd{bound}"
    sign = "≡"
    if modulus <= PIECES and 3 * (modulus - pattern.number) <= modulus:
        sign, runs = "≢", runs_of(sorted({*range(modulus)} - {*pattern.residues()}), modulus)
    return f"{sign} {_words(runs)} (mod {number(modulus)}){bound}"


def _data(runs: Sequence[Run]) -> list[object]:
    if sum(run.length for run in runs) <= PIECES:
        return [*sorted(n for run in runs for n in run.members())]
    return [{"first": run.first, "last": run.last, "step": run.step} for run in runs]


def _listed(name: str, numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"{name} == {literal(numbers[0])}"
    return f"{name} in ({', '.join(map(literal, sorted(numbers)))})"


def _test_of_pattern(name: str, pattern: Pattern) -> str:
    """One expression, without `or` if possible: torch.compile guards each branch and recompiles for it."""
    modulus = literal(pattern.modulus)
    alone = [run.first for run in pattern.runs if run.length == 1]
    if len(alone) <= LISTED:
        tests = [[f"{name} % {modulus} == {literal(residue)}"] for residue in alone]
    else:
        tests = [[_listed(f"{name} % {modulus}", alone)]]
    for run in pattern.runs:
        if run.length == 1:
            continue
        parts = [f"{name} % {literal(run.step)} == {literal(run.first % run.step)}"] if run.step > 1 else []
        if run.step * run.length < pattern.modulus:
            shifted = f"({name} - {literal(run.first)})" if run.first else name
            parts.append(f"{shifted} % {modulus} < {literal(run.step * run.length)}")
        tests.append(parts)
    if len(tests) == 1:
        return " and ".join(tests[0])
    return " | ".join(" & ".join(f"({part})" for part in parts) for parts in tests)


def _tests_of_sizes(name: str, runs: Iterable[Run]) -> list[str]:
    alone: list[int] = []
    tests = []
    for run in runs:
        if run.length <= 3:
            alone += run.members()
            continue
        step = f" and {name} % {literal(run.step)} == {literal(run.first % run.step)}" if run.step > 1 else ""
        tests.append(f"{literal(run.first)} <= {name} <= {literal(run.last)}{step}")
    return [_listed(name, alone), *tests] if alone else tests
