"""Sums and products of sizes that depend on several free sizes, or on one more than once: `H·W + 1`.

A polynomial keeps its products as they are written, since the number of tokens of an image, ⌊H / 16⌋ · ⌊W / 16⌋, is
mostly compared with itself: products are equal if their factors are. Where that does not decide, both sides are
expanded into free sizes, floors and minima.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import gcd, inf, prod
from typing import TypeAlias

from archdsl.dims.errors import DimError
from archdsl.dims.expr import Dim, Expr, free_sizes, pin
from archdsl.dims.expressions import BITS, Bound, Plain, Single, at, bounds, extreme, floor_div, make, order, plus

TERMS = 64
"""The maximum number of products in a size, and of factors in a product."""

Factors: TypeAlias = tuple[Single, ...]


class Polynomial(Expr):
    """A sum: `offset`, one size in `parts` for each free size (without an offset), and products with coefficients.

    Factors are without common divisors of their coefficients, and in order. Equality is equality of this form.
    """

    __slots__ = ("_hash", "_variables", "offset", "parts", "products")

    def __init__(self, offset: int, parts: Factors, products: tuple[tuple[int, Factors], ...]) -> None:
        self.offset = offset
        self.parts = parts
        self.products = products
        self._variables = free_sizes(*parts, *chain.from_iterable(factors for _, factors in products))
        if len(products) > TERMS or any(len(factors) > TERMS for _, factors in products):
            raise DimError("the sizes that follow from the input are too complex to compute", pin(self.variables))
        if any(n.bit_length() > BITS for n in (offset, *(c for c, _ in products))):
            raise DimError(f"a size that follows from {' and '.join(sorted(self.variables))} becomes too large")
        self._hash = hash((offset, parts, products))

    @property
    def variables(self) -> frozenset[str]:
        return self._variables

    def __reduce__(self) -> tuple[object, ...]:
        return Polynomial, (self.offset, self.parts, self.products)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Polynomial)
            and self.offset == other.offset
            and self.parts == other.parts
            and self.products == other.products
        )

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Dim) -> Dim:
        return added(self, other) if isinstance(other, int | Expr) else NotImplemented

    def __neg__(self) -> Polynomial:
        products = tuple((-c, factors) for c, factors in self.products)
        return Polynomial(-self.offset, tuple(-part for part in self.parts), products)

    def __mul__(self, other: Dim) -> Dim:
        return multiplied(self, other) if isinstance(other, int | Expr) else NotImplemented

    def __floordiv__(self, other: Dim) -> Dim:
        if not isinstance(other, int) or other == 0:
            return floor_div(0, other)  # raises with the reason
        wholes = [floor_div(part, other) for part in self.parts]
        if all(whole * other == part for whole, part in zip(wholes, self.parts, strict=True)) and all(
            c % other == 0 for c, _ in self.products
        ):
            return polynomial(self.offset // other, wholes, [(c // other, factors) for c, factors in self.products])
        from archdsl.dims.wording import text

        raise DimError(f"{text(self)} cannot be divided by {other} and rounded", pin(self.variables))

    def __rfloordiv__(self, other: int) -> Dim:
        return floor_div(other, self)

    def _unordered(self, other: object) -> bool:
        names = " and ".join(sorted(self.variables))
        raise DimError(f"which of two sizes is larger depends on {names}", pin(self.variables))

    __lt__ = __le__ = __gt__ = __ge__ = _unordered

    def __repr__(self) -> str:
        products = [f"{c}*{'*'.join(f'({f!r})' for f in factors)}" for c, factors in self.products]
        return " + ".join([*products, *map(repr, self.parts), str(self.offset)])


def polynomial(offset: int, parts: Iterable[Dim], terms: Iterable[tuple[int, Factors]]) -> Dim:
    """The canonical sum; a `Single` or an int where that is all that remains."""
    by_name: dict[str, Plain] = {}
    kept: dict[Factors, int] = {}
    for part in parts:
        assert isinstance(part, int | Single)
        if isinstance(part, Single):
            by_name[part.variable] = by_name.get(part.variable, 0) + part
        else:
            offset += part
    for c, factors in terms:
        kept[factors] = kept.get(factors, 0) + c
    singles: list[Single] = []
    for _, part in sorted(by_name.items()):
        if isinstance(part, Single):
            offset += part.offset
            part = part - part.offset
        if isinstance(part, Single):
            singles.append(part)
        else:
            offset += part
    left = tuple((c, factors) for factors, c in sorted(kept.items(), key=lambda term: _order(term[0])) if c)
    if left or len(singles) > 1:
        return Polynomial(offset, tuple(singles), left)
    return singles[0] + offset if singles else offset


def added(a: Dim, b: Dim) -> Dim:
    """a + b."""
    sums = [_taken_apart(d) for d in (a, b)]
    return polynomial(
        sum(offset for offset, _, _ in sums),
        chain.from_iterable(parts for _, parts, _ in sums),
        chain.from_iterable(products for _, _, products in sums),
    )


def _taken_apart(d: Dim) -> tuple[int, tuple[Dim, ...], tuple[tuple[int, Factors], ...]]:
    if isinstance(d, Polynomial):
        return d.offset, d.parts, d.products
    return 0, (d,), ()


def multiplied(a: Dim, b: Dim) -> Dim:
    """a · b: sums are multiplied out, products keep their factors."""
    offset, parts, found = 0, list[Dim](), list[tuple[int, Factors]]()
    for x, one in products(a):
        for y, other in products(b):
            factors = (*one, *other)
            if len(factors) < 2:
                parts.append(factors[0] * (x * y) if factors else x * y)
                continue
            whole = [_primitive(factor) for factor in factors]
            kept = tuple(sorted((factor for _, factor in whole), key=_key))
            found.append((x * y * prod(content for content, _ in whole), kept))
    return polynomial(offset, parts, found)


def products(d: Dim) -> Iterator[tuple[int, Factors]]:
    """The terms of a sum: coefficients and factors; a size of one free size is one factor."""
    if isinstance(d, int):
        yield d, ()
    elif isinstance(d, Single):
        yield 1, (d,)
    elif isinstance(d, Polynomial):
        yield from d.products
        yield from ((1, (part,)) for part in d.parts)
        if d.offset:
            yield d.offset, ()


def _primitive(d: Single) -> tuple[int, Single]:
    """The greatest common divisor of the coefficients, with the sign of the first, and the size divided by it."""
    first = d.slope or d.terms[0][0]
    content = gcd(d.slope, d.offset, *(c for c, _ in d.terms)) * (1 if first > 0 else -1)
    if content == 1:
        return 1, d
    return content, Single(
        d.variable, d.slope // content, d.offset // content, tuple((c // content, atom) for c, atom in d.terms)
    )


def _key(d: Single) -> tuple[object, ...]:
    return d.variable, order(d)


def _order(factors: Factors) -> tuple[object, ...]:
    return -len(factors), tuple(map(_key, factors))


def single_product(d: Dim) -> tuple[int, Factors, int] | None:
    """Coefficient, factors and offset of a size that is one product and a number; None for another one."""
    if isinstance(d, Single):
        content, factor = _primitive(d)
        return content, (factor,), 0
    if isinstance(d, Polynomial) and not d.parts and len(d.products) == 1:
        return *d.products[0], d.offset
    return None


def positive_factors(size: Dim) -> Iterator[Dim]:
    """Sizes, one of which at least is above 1 where a size of a tensor is: its factors, if it is a product."""
    product = single_product(size)
    if isinstance(size, Polynomial) and product is not None and not product[2]:
        yield product[0]
        yield from product[1]
    else:
        yield size


def limits_of(d: Dim) -> tuple[Bound, Bound]:
    """A lower and an upper bound of a size, for free sizes from 1."""
    if not isinstance(d, Polynomial):
        return bounds(d)  # type: ignore[arg-type]
    least: Bound = d.offset
    most: Bound = d.offset
    for c, factors in [*d.products, *((1, (part,)) for part in d.parts)]:
        low, high = _product(map(bounds, factors))
        low, high = (_times(c, low), _times(c, high)) if c > 0 else (_times(c, high), _times(c, low))
        least, most = plus(least, low), plus(most, high)
    return least, most


def _product(ranges: Iterable[tuple[Bound, Bound]]) -> tuple[Bound, Bound]:
    """The range of a product of factors within ranges."""
    low: Bound = 1
    high: Bound = 1
    for least, most in ranges:
        ends = [_times(a, b) for a in (low, high) for b in (least, most)]
        low, high = min(ends), max(ends)
    return low, high


def _times(a: Bound, b: Bound) -> Bound:
    """a · b; 0 times infinity is 0, and ints are never multiplied with floats."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return 0 if a == 0 or b == 0 else inf if (a > 0) == (b > 0) else -inf


def expanded(d: Dim) -> Mapping[Factors, int]:
    """The coefficients of the products of free sizes, floors and minima of which a size is the sum."""
    found: dict[Factors, int] = {}
    for c, factors in products(d):
        product: dict[Factors, int] = {(): c}
        for factor in factors:
            atoms = [*_atoms(factor)]
            grown: dict[Factors, int] = {}
            for had, n in product.items():
                for atom, m in atoms:
                    now = tuple(sorted((*had, *atom), key=_key))
                    grown[now] = grown.get(now, 0) + n * m
            if len(grown) > TERMS * TERMS:
                raise DimError("the sizes that follow from the input are too complex to compare", pin(factor.variables))
            product = grown
        for now, n in product.items():
            found[now] = found.get(now, 0) + n
    return {factors: c for factors, c in found.items() if c}


def _atoms(d: Single) -> Iterator[tuple[Factors, int]]:
    if d.slope:
        yield (Single(d.variable, 1, 0, ()),), d.slope
    for c, atom in d.terms:
        whole = make(d.variable, 0, 0, [(1, atom)])
        assert isinstance(whole, Single)
        yield (whole,), c
    if d.offset:
        yield (), d.offset


# ---------------------------------------------------------------- sizes of any kind


def ceil_div(a: Dim, k: int) -> Dim:
    """⌈a / k⌉."""
    return (a + k - 1) // k


def minimum(*dims: Dim) -> Dim:
    """The minimum of sizes that depend on at most one free size."""
    return extreme("min", _plain(dims))


def maximum(*dims: Dim) -> Dim:
    """The maximum of sizes that depend on at most one free size."""
    return extreme("max", _plain(dims))


def _plain(dims: Sequence[Dim]) -> list[Plain]:
    kept = list(dict.fromkeys(dims))
    if len(kept) == 1 and isinstance(kept[0], Polynomial):
        return kept  # type: ignore[return-value]
    for size in kept:
        if isinstance(size, Polynomial):
            names = " and ".join(sorted(size.variables))
            raise DimError(f"which of two sizes is larger depends on {names}", pin(size.variables))
    return kept  # type: ignore[return-value]


def evaluate(d: Dim, values: Mapping[str, int]) -> int:
    """The size for given values of the free sizes. Raises DimError if one is missing."""
    if isinstance(d, int):
        return d
    if missing := sorted(d.variables - values.keys()):
        raise DimError(f"the size of {missing[0]} is not known")
    found = substitute(d, values)
    assert isinstance(found, int)
    return found


def substitute(d: Dim, values: Mapping[str, int]) -> Dim:
    """The size with the free sizes in `values` substituted."""
    if isinstance(d, Single):
        return at(d, values[d.variable]) if d.variable in values else d
    if isinstance(d, Polynomial) and not d.variables.isdisjoint(values):
        total: Dim = 0
        for c, factors in products(d):
            product: Dim = c
            for factor in factors:
                product = product * substitute(factor, values)
            total = total + product
        return total
    return d
