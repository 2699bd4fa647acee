"""Exact amounts that depend on the free sizes: sums of products, such as `37,632·H·W + 64`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from math import prod
from typing import TypeAlias

from archdsl import dims
from archdsl.dims import Dim, Single, SizeSet

Monomial: TypeAlias = tuple[Single, ...]
"""Factors, each a free size, a floor or a minimum, ordered by name."""

SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Formula:
    """A polynomial in sizes. `terms` maps each monomial to its coefficient; () is the constant."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Monomial, int | Fraction] | int = 0) -> None:
        self.terms: dict[Monomial, int | Fraction] = {}
        given: Mapping[Monomial, int | Fraction] = {(): terms} if isinstance(terms, int) else terms
        for monomial, factor in given.items():
            if factor:
                self.terms[monomial] = factor

    @staticmethod
    def product(factor: int, shape: Sequence[Dim], sets: Mapping[str, SizeSet] = {}) -> Formula:
        """`factor` times all sizes of a shape, simplified for the valid sizes `sets`: H/2 for ⌊H/2⌋ if H is even."""
        terms: dict[Monomial, int | Fraction] = {(): factor}
        for size in shape:
            if isinstance(size, int):
                terms = {m: c * size for m, c in terms.items()}
                continue
            out: dict[Monomial, int | Fraction] = {}
            for factor, factors in dims.products(size):
                product: dict[Monomial, int | Fraction] = {m: c * factor for m, c in terms.items()}
                for part in factors:
                    product = _grown(product, _summands(part, sets))
                for m, c in product.items():
                    out[m] = out.get(m, 0) + c
            terms = out
        return Formula(terms)

    def __add__(self, other: Formula) -> Formula:
        return total((self, other))

    def __mul__(self, factor: int) -> Formula:
        return Formula({m: c * factor for m, c in self.terms.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __repr__(self) -> str:
        return f"Formula({self.text()})"

    @property
    def number(self) -> int | None:
        """The amount if it depends on no free size."""
        if any(self.terms.keys() - {()}):
            return None
        return int(self.terms.get((), 0))

    def at(self, values: Mapping[str, int]) -> int:
        """The amount for given values of the free sizes."""
        found = Fraction()
        for monomial, factor in self.terms.items():
            part = Fraction(factor)
            for size in monomial:
                part *= dims.evaluate(size, values)
            found += part
        assert found.denominator == 1, "free sizes that are not valid"
        return int(found)

    def text(self, sets: Mapping[str, SizeSet] = {}) -> str:
        """The formula as text: `118,013,952·⌈H/2⌉·⌈W/2⌉ + 2,048,000`."""
        if not self.terms:
            return "0"
        parts = []
        for monomial in sorted(self.terms, key=lambda m: (-_growth(m), repr(m))):
            factor = self.terms[monomial]
            body = "·".join(_power(dims.text(a, sets), len(list(same))) for a, same in groupby(monomial))
            numerator, denominator = abs(Fraction(factor)).as_integer_ratio()
            text = "·".join(filter(None, [f"{numerator:,}" if numerator != 1 or not body else "", body]))
            parts.append((factor < 0, text + (f"/{denominator:,}" if denominator != 1 else "")))
        (negative, first), *rest = parts
        return ("-" if negative else "") + first + "".join(f" {'-' if n else '+'} {text}" for n, text in rest)


@lru_cache(maxsize=1 << 12)
def _parts(size: Single, exact: tuple[Fraction, Fraction] | None) -> tuple[tuple[Single | None, int | Fraction], ...]:
    slope, offset = exact or (size.slope, size.offset)
    parts: list[tuple[Single | None, int | Fraction]] = [(dims.free(size.variable), slope), (None, offset)]
    if exact is None:
        parts += [(Single(size.variable, 0, 0, ((1, atom),)), c) for c, atom in size.terms]
    return tuple((atom, c) for atom, c in parts if c)


def _grown(
    terms: Mapping[Monomial, int | Fraction], summands: Sequence[tuple[Single | None, int | Fraction]]
) -> dict[Monomial, int | Fraction]:
    """A polynomial times a sum."""
    found: dict[Monomial, int | Fraction] = {}
    for atom, slope in summands:
        for m, c in terms.items():
            grown = tuple(sorted((*m, atom), key=_order)) if atom is not None else m
            found[grown] = found.get(grown, 0) + c * slope
    return found


def _summands(size: Single, sets: Mapping[str, SizeSet]) -> tuple[tuple[Single | None, int | Fraction], ...]:
    """A size as a sum: pairs of a free size, floor or minimum (None for 1) and its coefficient."""
    return _parts(size, dims.linear(size, sets))


def _order(atom: Single) -> tuple[str, str]:
    return atom.variable, repr(atom)


def _growth(monomial: Monomial) -> float:
    """The growth of a monomial for large sizes, as a sort key."""
    return prod(float(dims.evaluate(a, {a.variable: 1 << 20})) for a in monomial)


def _power(text: str, exponent: int) -> str:
    return text + (str(exponent).translate(SUPERSCRIPT) if exponent > 1 else "")


def total(formulas: Iterable[Formula]) -> Formula:
    """The sum."""
    terms: dict[Monomial, int | Fraction] = {}
    for formula in formulas:
        for m, c in formula.terms.items():
            terms[m] = terms.get(m, 0) + c
    return Formula({m: c if c.denominator > 1 else int(c) for m, c in terms.items()})
