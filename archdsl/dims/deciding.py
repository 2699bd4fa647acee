"""Whether sizes are equal, at least as large as others, or divisible: decided for all free sizes, or the constraint.

What a product of sizes demands is decided exactly where it follows for each factor by itself. Anything else stays a
constraint that ties free sizes to each other, which no set of valid sizes can say: solving it raises DimError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import gcd

from archdsl.dims.errors import DimError
from archdsl.dims.expr import Dim, Expr, pin
from archdsl.dims.expressions import Single, bounds, floor_div
from archdsl.dims.products import (
    Factors,
    Polynomial,
    expanded,
    limits_of,
    multiplied,
    single_product,
    substitute,
)
from archdsl.dims.regions import AllOf, AnyOf, Demanded, all_of, any_of
from archdsl.dims.solving import Constraint, decided


def equal(a: Dim, b: Dim) -> bool | Demanded:
    """Whether two sizes are equal: decided for every value, or the constraint that they are."""
    if a is b:
        return True
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    if isinstance(a, Polynomial) or isinstance(b, Polynomial):
        return _equal_products(a, b)
    if isinstance(a, Single) and isinstance(b, Single) and a.variable != b.variable:
        return _equal_apart(a, b)
    return decided(Constraint(a, "=", b))


def _equal_apart(a: Single, b: Single) -> bool | Constraint:
    """Compares sizes of different free sizes: never equal if their ranges or residues are disjoint."""
    (a_least, a_most), (b_least, b_most) = bounds(a), bounds(b)
    g = gcd(a.slope, b.slope, *(c for c, _ in (*a.terms, *b.terms)))
    if a_most < b_least or b_most < a_least or (a.offset - b.offset) % g:
        return False
    return Constraint(a, "=", b)


def _equal_products(a: Dim, b: Dim) -> bool | Demanded:
    difference = a - b
    if not isinstance(difference, Polynomial):
        return equal(difference, 0)
    terms = expanded(difference)
    if not terms.keys() - {()}:
        return not terms
    least, most = limits_of(difference)
    if least > 0 or most < 0:
        return False
    one, other = single_product(a), single_product(b)
    if one is not None and other is not None and not (one[2] or other[2]):
        # Sizes of tensors are at least 1, so common factors cancel.
        mine, others = Counter(one[1]) - Counter(other[1]), Counter(other[1]) - Counter(one[1])
        if mine.total() + others.total() < len(one[1]) + len(other[1]):
            return equal(_product(one[0], tuple(mine.elements())), _product(other[0], tuple(others.elements())))
    product = single_product(difference)
    if product is not None:
        c, factors, offset = product
        wanted, rest = divmod(-offset, c)
        if rest:
            return False
        if wanted == 1 and _are_sizes(factors):
            return all_of(*(equal(factor, 1) for factor in factors))
        if len(set(factors)) == 1 and _are_sizes(factors):
            root = _root(wanted, len(factors))
            return equal(factors[0], root) if root ** len(factors) == wanted else False
    return Constraint(a, "=", b)


def at_least(a: Dim, n: Dim) -> bool | Demanded:
    """Whether a >= n: decided for every value, or the constraint."""
    if isinstance(a, int) and isinstance(n, int):
        return a >= n
    if isinstance(a, Polynomial) or isinstance(n, Polynomial):
        return _products_at_least(a, n)
    if isinstance(a, Single) and isinstance(n, Single) and a.variable != n.variable:
        if bounds(a)[0] >= bounds(n)[1]:
            return True
        return False if bounds(a)[1] < bounds(n)[0] else Constraint(a, "≥", n)
    return decided(Constraint(a, "≥", n))


def _products_at_least(a: Dim, n: Dim) -> bool | Demanded:
    difference = a - n
    if not isinstance(difference, Polynomial):
        return at_least(difference, 0)
    least, most = limits_of(difference)
    if least >= 0:
        return True
    if most < 0:
        return False
    product = single_product(difference)
    if product is not None and product[0] > 0 and _are_sizes(product[1]):
        c, factors, offset = product
        wanted = -(offset // c)
        ones = all_of(*(at_least(factor, 1) for factor in factors))
        if wanted == 1:
            return ones
        if len(set(factors)) == 1:
            root = _root(wanted, len(factors))
            return at_least(factors[0], root if root ** len(factors) >= wanted else root + 1)
        if wanted == 2 and len({factor.variable for factor in factors}) == len(set(factors)):
            return all_of(ones, any_of(*(at_least(factor, 2) for factor in dict.fromkeys(factors))))
    return Constraint(a, "≥", n)


def quotient(a: Dim, b: Dim) -> Dim | None:
    """a / b for sizes of tensors, where that is a size for every value of the free sizes; None where it may not be."""
    one, other = _as_product(a), _as_product(b)
    if one is None or other is None or one[0] % other[0] or Counter(other[1]) - Counter(one[1]):
        return None
    return _product(one[0] // other[0], tuple((Counter(one[1]) - Counter(other[1])).elements()))


def _as_product(d: Dim) -> tuple[int, Factors] | None:
    if isinstance(d, int):
        return d, ()
    product = single_product(d)
    return None if product is None or product[2] else product[:2]


def _are_sizes(factors: Factors) -> bool:
    """Whether factors are never negative, as sizes of tensors."""
    return all(bounds(factor)[0] >= 0 for factor in factors)


def _product(coefficient: int, factors: Factors) -> Dim:
    found: Dim = coefficient
    for factor in factors:
        found = multiplied(found, factor)
    return found


def _root(n: int, k: int) -> int:
    """⌊n^(1/k)⌋."""
    low, high = 0, 1 << (-(-n.bit_length() // k))
    while low < high:
        middle = (low + high + 1) // 2
        if middle**k <= n:
            low = middle
        else:
            high = middle - 1
    return low


def divisible(a: Dim, k: int) -> bool | Demanded:
    """Whether k divides a: decided for every value, or the constraint."""
    return _divided(a, k)


def exact_div(a: Dim, k: int) -> tuple[Dim, bool | Demanded]:
    """⌊a / k⌋, and the constraint that k divides a."""
    return a // k, _divided(a, k)


def _divided(a: Dim, k: Dim) -> bool | Demanded:
    if isinstance(k, Expr) or k == 0:
        floor_div(0, k)  # raises with the reason
    if isinstance(a, int):
        assert isinstance(k, int)
        return a % k == 0
    if isinstance(a, Polynomial):
        rest = a % k
        if isinstance(rest, int):
            return rest == 0
        raise DimError("whether a product of free sizes is divisible cannot be decided", pin(a.variables))
    return decided(Constraint(a, "divided by", k))


def fix(demand: Demanded, values: Mapping[str, int]) -> bool | Demanded:
    """A constraint with known values substituted: decided, or what remains."""
    match demand:
        case AnyOf():
            return any_of(*(fix(part, values) for part in demand.demands))
        case AllOf():
            return all_of(*(fix(part, values) for part in demand.demands))
        case Constraint():
            left, right = substitute(demand.left, values), substitute(demand.right, values)
            if demand.relation == "=":
                return equal(left, right)
            return at_least(left, right) if demand.relation == "≥" else _divided(left, right)
