"""Exact sizes as functions of one free input size. Sums and products of several are in `products`.

A size is a canonical sum `slope * n + offset + Σ coefficient * atom`. An atom is a floor `⌊inner / divisor⌋`, a minimum
or a maximum. Nested floors combine (`⌊(⌊x / c⌋ + e) / f⌋ = ⌊(x + c e) / (c f)⌋`), terms that divide evenly move out of
a floor, and floors move inside minima: a chain of convolutions and poolings of any length is one floor.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import gcd, inf, lcm
from typing import Literal, NamedTuple, TypeAlias

from archdsl.common.limits import budget
from archdsl.dims.errors import DimError
from archdsl.dims.expr import Dim, Expr

Bound: TypeAlias = int | float
"""An int or an infinity."""

BITS = 10_000
DEPTH = 40
WEIGHT = 20_000
ARGUMENTS = 32


class Floor(NamedTuple):
    inner: Single
    divisor: int


class Extreme(NamedTuple):
    kind: Literal["min", "max"]
    arguments: tuple[Plain, ...]


Atom: TypeAlias = Floor | Extreme
Term: TypeAlias = tuple[int, Atom]


class Line(NamedTuple):
    """Bounds of a size d: `scale * d` lies between `slope * n + low` and `slope * n + high`."""

    scale: int
    slope: int
    low: int
    high: int


class Single(Expr):
    """A size that depends on the free size `variable` alone. Equality is equality of the canonical form.

    Its sums with others are typed as if all had the same free size, as within this module.
    """

    __slots__ = ("_hash", "_key", "_line", "depth", "offset", "slope", "terms", "variable", "weight")
    variable: str
    slope: int
    offset: int
    terms: tuple[Term, ...]

    def __init__(self, variable: str, slope: int, offset: int, terms: tuple[Term, ...]) -> None:
        self.variable = variable
        self.slope = slope
        self.offset = offset
        self.terms = terms
        # The nesting depth and total number of atoms.
        self.depth = 0
        self.weight = 1
        if terms:
            self.depth = 1 + max(_depth(atom) for _, atom in terms)
            self.weight += sum(_weight(atom) for _, atom in terms)
            if self.depth > DEPTH or self.weight > WEIGHT:
                raise DimError(f"the sizes that follow from {variable} are too complex to compute", f"pin {variable}")
        if offset.bit_length() > BITS or slope.bit_length() > BITS:
            raise DimError(f"a size that follows from {variable} becomes too large")
        self._hash = hash((variable, slope, offset, terms))
        self._key: tuple[object, ...] | None = None
        self._line: Line | Literal[False] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return Single, (self.variable, self.slope, self.offset, self.terms)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Single)
            and self._hash == other._hash
            and self.slope == other.slope
            and self.offset == other.offset
            and self.variable == other.variable
            and self.terms == other.terms
        )

    def __hash__(self) -> int:
        return self._hash

    @property
    def variables(self) -> frozenset[str]:
        return frozenset((self.variable,))

    def __add__(self, other: Plain) -> Plain:  # type: ignore[override]
        if isinstance(other, int):
            return Single(self.variable, self.slope, self.offset + other, self.terms) if other else self
        if not isinstance(other, Single):
            return NotImplemented
        if self.variable != other.variable:
            from archdsl.dims.products import added  # which uses this module

            return added(self, other)  # type: ignore[return-value]
        return make(self.variable, self.slope + other.slope, self.offset + other.offset, (*self.terms, *other.terms))

    def __radd__(self, other: int) -> Plain:  # type: ignore[override]
        return self + other

    def __neg__(self) -> Single:
        return Single(self.variable, -self.slope, -self.offset, tuple((-c, atom) for c, atom in self.terms))

    def __pos__(self) -> Single:
        return self

    def __sub__(self, other: Plain) -> Plain:  # type: ignore[override]
        if isinstance(other, (int, Single)):
            return self + -other
        return NotImplemented

    def __rsub__(self, other: int) -> Plain:
        return -self + other

    def __mul__(self, other: Plain) -> Plain:  # type: ignore[override]
        if isinstance(other, int):
            if other in (0, 1):
                return self if other else 0
            if other.bit_length() > BITS:
                raise DimError(f"a size that follows from {self.variable} becomes too large")
            terms = tuple((c * other, atom) for c, atom in self.terms)
            return Single(self.variable, self.slope * other, self.offset * other, terms)
        if not isinstance(other, Single):
            return NotImplemented
        from archdsl.dims.products import multiplied

        return multiplied(self, other)  # type: ignore[return-value]

    def __rmul__(self, other: int) -> Plain:  # type: ignore[override]
        return self * other

    def __floordiv__(self, other: Plain) -> Plain:  # type: ignore[override]
        return floor_div(self, other)

    def __rfloordiv__(self, other: int) -> Plain:
        return floor_div(other, self)

    def __mod__(self, other: Plain) -> Plain:  # type: ignore[override]
        return self - floor_div(self, other) * other

    def __rmod__(self, other: int) -> Plain:
        return other - floor_div(other, self) * self

    def _unordered(self, other: object) -> bool:
        raise DimError(
            f"which of two sizes is larger depends on the free size {self.variable}",
            f"pin {self.variable}, or state a requirement with `expect`",
        )

    __lt__ = __le__ = __gt__ = __ge__ = _unordered

    def __repr__(self) -> str:
        parts = [f"{self.slope}*{self.variable}"] if self.slope else []
        for c, atom in self.terms:
            body = (
                f"({atom.inner!r})//{atom.divisor}"
                if isinstance(atom, Floor)
                else f"{atom.kind}({', '.join(map(repr, atom.arguments))})"
            )
            parts.append(f"{c}*({body})")
        return " + ".join([*parts, *([str(self.offset)] if self.offset or not parts else [])])


Plain: TypeAlias = int | Single


def free(name: str) -> Single:
    """The free size itself: any integer from 1."""
    return Single(name, 1, 0, ())


def name_of(d: Dim) -> str:
    """The name of the free size that a size is; empty for any other size."""
    return d.variable if isinstance(d, Single) and d == free(d.variable) else ""


def _depth(atom: Atom) -> int:
    if isinstance(atom, Floor):
        return atom.inner.depth
    return max(a.depth for a in atom.arguments if isinstance(a, Single))


def _weight(atom: Atom) -> int:
    if isinstance(atom, Floor):
        return atom.inner.weight
    return sum(a.weight for a in atom.arguments if isinstance(a, Single))


def _same_variable(a: Single, b: Single) -> None:
    if a.variable != b.variable:
        raise DimError(
            f"{a.variable} and {b.variable} cannot be combined in one size",
            f"give both axes the same name if they are equal, `[3, {a.variable}, {a.variable}]`, or pin one of them",
        )


def order(d: Plain) -> tuple[object, ...]:
    """A key to sort sizes of one free size."""
    if isinstance(d, int):
        return (0, (), d)
    if d._key is None:
        terms = tuple((_atom_key(atom), c) for c, atom in d.terms)
        d._key = (d.slope, terms, d.offset)
    return d._key


def _atom_key(atom: Atom) -> tuple[object, ...]:
    if isinstance(atom, Floor):
        return (0, atom.divisor, order(atom.inner))
    return (1 if atom.kind == "min" else 2, len(atom.arguments), tuple(map(order, atom.arguments)))


def make(variable: str, slope: int, offset: int, terms: Iterable[Term]) -> Plain:
    """The canonical sum; an int if it does not depend on the variable."""
    collected: dict[Atom, int] = {}
    for c, atom in terms:
        collected[atom] = collected.get(atom, 0) + c
    kept = [(c, atom) for atom, c in collected.items() if c]
    if len(kept) > 1:
        kept.sort(key=lambda term: _atom_key(term[1]))
    if not kept and not slope:
        return offset
    return Single(variable, slope, offset, tuple(kept))


def floor_div(a: Plain, k: Dim) -> Plain:
    """⌊a / k⌋ for a known k."""
    if isinstance(k, Expr):
        names = " and ".join(sorted(k.variables))
        raise DimError(f"a size cannot be divided by one that depends on {names}", f"pin {names}")
    if k == 0:
        raise DimError("a size cannot be divided by zero")
    if isinstance(a, int):
        return a // k
    if k == 1:
        return a
    return _floor(-a, -k) if k < 0 else _floor(a, k)


@lru_cache(maxsize=1 << 14)
def _floor(a: Single, k: int) -> Plain:
    if k.bit_length() > BITS:
        raise DimError(f"{a.variable} is divided by more than any input size")
    for c, atom in a.terms:
        if isinstance(atom, Extreme):
            rest = a - make(a.variable, 0, 0, [(c, atom)])
            kind: Literal["min", "max"] = atom.kind if c > 0 else "max" if atom.kind == "min" else "min"
            return extreme(kind, [floor_div(rest + x * c, k) for x in atom.arguments])
    slope, rest_slope = divmod(a.slope, k)
    whole = [(c // k, atom) for c, atom in a.terms if c // k]
    rest_terms = [(c % k, atom) for c, atom in a.terms if c % k]
    if not rest_slope and not rest_terms:
        return make(a.variable, slope, a.offset // k, whole)
    g = gcd(k, rest_slope, *(c for c, _ in rest_terms))
    offset, rest_offset = divmod(a.offset // g, k // g)
    k //= g
    rest_slope //= g
    rest_terms = [(c // g, atom) for c, atom in rest_terms]
    if not rest_slope and len(rest_terms) == 1 and rest_terms[0][0] == 1:
        atom = rest_terms[0][1]
        assert isinstance(atom, Floor)
        folded = floor_div(atom.inner + atom.divisor * rest_offset, atom.divisor * k)
    else:
        inner = Single(a.variable, rest_slope, rest_offset, tuple(rest_terms))
        folded = make(a.variable, 0, 0, [(1, Floor(inner, k))])
    return make(a.variable, slope, offset, whole) + folded


def extreme(kind: Literal["min", "max"], dims: Iterable[Plain], low: int = 1, high: int | None = None) -> Plain:
    """The minimum or maximum for free sizes from `low` to `high`, without arguments that never attain it."""
    waiting = list(dict.fromkeys(dims))
    if not waiting:
        raise DimError(f"{kind}() needs a size")
    if len(waiting) == 1:
        return waiting[0]
    if all(isinstance(d, int) for d in waiting):
        ints = [d for d in waiting if isinstance(d, int)]
        return min(ints) if kind == "min" else max(ints)
    exprs = [d for d in waiting if isinstance(d, Single)]
    for other in exprs[1:]:
        _same_variable(exprs[0], other)
    arguments: list[Plain] = []
    while waiting:
        d = waiting.pop(0)
        if isinstance(d, Single):
            found = next(((c, x) for c, x in d.terms if isinstance(x, Extreme) and (x.kind == kind) == (c > 0)), None)
            if found:
                c, atom = found
                rest = d - make(d.variable, 0, 0, [found])
                assert isinstance(atom, Extreme)
                waiting[:0] = [rest + x * c for x in atom.arguments]
                continue
        arguments = _with(kind, arguments, d, low, high)
    if len(arguments) == 1:
        return arguments[0]
    if len(arguments) > ARGUMENTS:
        raise DimError(f"the sizes that follow from {exprs[0].variable} are too complex to compute")
    # Move the offset of one argument outside.
    reference = max((d for d in arguments if isinstance(d, Single)), key=lambda d: order(d)[:2])
    shifted = sorted((d - reference.offset for d in arguments), key=order, reverse=True)
    return make(reference.variable, 0, reference.offset, [(1, Extreme(kind, tuple(shifted)))])


def _with(kind: Literal["min", "max"], arguments: list[Plain], new: Plain, low: int, high: int | None) -> list[Plain]:
    """The arguments with a new one, without those that never attain the minimum or maximum."""
    kept = []
    for old in arguments:
        least, most = bounds(new - old, low, high)
        if least >= 0 if kind == "min" else most <= 0:
            return arguments
        if not (most <= 0 if kind == "min" else least >= 0):
            kept.append(old)
    return [*kept, new]


def line(d: Plain) -> Line | None:
    """A band of constant height that contains the size; None if a minimum has arguments of different slopes."""
    if isinstance(d, int):
        return Line(1, 0, d, d)
    if d._line is None:
        d._line = _line(d) or False
    return d._line or None


def _line(d: Single) -> Line | None:
    scale, slope, low, high = 1, d.slope, d.offset, d.offset
    for c, atom in d.terms:
        if isinstance(atom, Floor):
            inner = line(atom.inner)
            if inner is None:
                return None
            # ⌊x / divisor⌋ is between x / divisor - (divisor - 1) / divisor and x / divisor.
            k = inner.scale * atom.divisor
            band = Line(k, inner.slope, inner.low - inner.scale * (atom.divisor - 1), inner.high)
        else:
            bands = lines(atom)
            if len(bands) < len(atom.arguments) or len({x.slope for x in bands}) > 1:
                return None
            pick = min if atom.kind == "min" else max
            first, *_ = bands
            band = Line(first.scale, first.slope, pick(x.low for x in bands), pick(x.high for x in bands))
        common = lcm(scale, band.scale)
        f, g = common // scale, c * (common // band.scale)
        scale, slope = common, slope * f + band.slope * g
        low, high = low * f + min(band.low * g, band.high * g), high * f + max(band.low * g, band.high * g)
    return Line(scale, slope, low, high)


def lines(atom: Extreme) -> list[Line]:
    """The bands of the arguments that have one, on a common scale."""
    bands = [band for x in atom.arguments if (band := line(x))]
    scale = lcm(*(band.scale for band in bands))
    return [Line(scale, *(scale // band.scale * x for x in band[1:])) for band in bands]


def bounds(d: Plain, low: int = 1, high: int | None = None) -> tuple[Bound, Bound]:
    """A lower and an upper bound of the size, for values of its free size from `low` to `high`."""
    if isinstance(d, int):
        return d, d
    end: Bound = inf if high is None else high
    least, most = _scaled(d.slope, low, end)
    least, most = plus(least, d.offset), plus(most, d.offset)
    if not d.terms:
        return least, most
    for c, atom in d.terms:
        if isinstance(atom, Floor):
            a, b = (_quotient(x, atom.divisor) for x in bounds(atom.inner, low, high))
        else:
            pairs = [bounds(x, low, high) for x in atom.arguments]
            pick = min if atom.kind == "min" else max
            a, b = pick(p[0] for p in pairs), pick(p[1] for p in pairs)
        a, b = _scaled(c, a, b)
        least, most = plus(least, a), plus(most, b)
    if band := line(d):
        # Both bounds hold; which is tighter depends on the width of the interval.
        first, last = (low, high) if band.slope >= 0 else (high, low)
        if first is not None or not band.slope:
            least = max(least, -((-band.slope * (first or 0) - band.low) // band.scale))
        if last is not None or not band.slope:
            most = min(most, (band.slope * (last or 0) + band.high) // band.scale)
    return least, most


def _scaled(c: int, a: Bound, b: Bound) -> tuple[Bound, Bound]:
    """The interval from a to b times c; 0 times infinity is 0."""
    if c < 0:
        c, a, b = -c, -b, -a
    return (0, 0) if c == 0 else (a if isinstance(a, float) else c * a, b if isinstance(b, float) else c * b)


def plus(a: Bound, b: Bound) -> Bound:
    """a + b; ints stay exact, and are never added to floats."""
    return a if isinstance(a, float) else b if isinstance(b, float) else a + b


def _quotient(x: Bound, k: int) -> Bound:
    return x if isinstance(x, float) else x // k


def restricted(d: Plain, low: int, high: int | None) -> Plain:
    """An equal size, with fewer atoms, for values of the free size from `low` to `high` only."""
    budget().tick()
    if isinstance(d, int) or not d.terms:
        return d.slope * low + d.offset if isinstance(d, Single) and low == high else d
    result: Plain = make(d.variable, d.slope, d.offset, [])
    if low == high:
        result = d.slope * low + d.offset
    for c, atom in d.terms:
        value: Plain
        if isinstance(atom, Floor):
            inner = restricted(atom.inner, low, high)
            a, b = (_quotient(x, atom.divisor) for x in bounds(inner, low, high))
            value = a if a == b and isinstance(a, int) else floor_div(inner, atom.divisor)
        else:
            value = extreme(atom.kind, [restricted(x, low, high) for x in atom.arguments], low, high)
        result = result + value * c
    return result


def period(d: Plain) -> int:
    """A p > 0 such that the size at n + p is that at n plus a constant, wherever its minima keep their order."""
    if isinstance(d, int):
        return 1
    result = 1
    for _, atom in d.terms:
        if isinstance(atom, Floor):
            result = lcm(result, period(atom.inner) * atom.divisor)
        else:
            result = lcm(result, *map(period, atom.arguments))
    return result


def composed(d: Plain, factor: int, shift: int) -> Plain:
    """The size with n replaced by `factor * n + shift`."""
    if isinstance(d, int):
        return d
    result: Plain = make(d.variable, d.slope * factor, d.slope * shift + d.offset, [])
    for c, atom in d.terms:
        if isinstance(atom, Floor):
            value = floor_div(composed(atom.inner, factor, shift), atom.divisor)
        else:
            # The new n may be 0 or less where the old one was at least 1, so no argument may be dropped.
            start = min(1, -(-(1 - shift) // factor)) if factor > 0 else 1
            value = extreme(atom.kind, [composed(x, factor, shift) for x in atom.arguments], start)
        result = result + value * c
    return result


def at(d: Plain, n: int) -> int:
    """The size for a value of its free size."""
    if isinstance(d, int):
        return d
    result = d.slope * n + d.offset
    for c, atom in d.terms:
        if isinstance(atom, Floor):
            result += c * (at(atom.inner, n) // atom.divisor)
        else:
            result += c * (min if atom.kind == "min" else max)(at(x, n) for x in atom.arguments)
    return result
