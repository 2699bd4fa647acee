"""Sizes as readable text, and as Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from math import lcm

from archdsl.dims.expr import Dim
from archdsl.dims.expressions import Extreme, Floor, Plain, Single, composed, restricted
from archdsl.dims.pieces import classes
from archdsl.dims.products import Polynomial
from archdsl.dims.sets import SizeSet, literal, number

READABLE = 20
"""The maximum number of atoms of a size that is written out for readers."""


def text(d: Dim, sets: Mapping[str, SizeSet] = {}) -> str:
    """A size as text: `H/4` if the valid sizes make that exact, else `⌊H/4⌋`; a product as `H·W/16`."""
    if isinstance(d, Polynomial):
        return _text_of_sum(d, sets)
    assert isinstance(d, int | Single)
    return number(d) if isinstance(d, int) else _text(d, sets.get(d.variable))


def _text_of_sum(d: Polynomial, sets: Mapping[str, SizeSet]) -> str:
    terms = [(c < 0, _text_of_product(abs(c), factors, sets)) for c, factors in d.products]
    for part in d.parts:
        terms.append((_starts_below(part), text(-part if _starts_below(part) else part, sets)))
    if d.offset:
        terms.append((d.offset < 0, number(abs(d.offset))))
    (negative, first), *rest = sorted(terms, key=lambda term: term[0])
    return ("-" if negative else "") + first + "".join(f" {'-' if minus else '+'} {body}" for minus, body in rest)


def _starts_below(part: Single) -> bool:
    """Whether the text of a size would start with a minus."""
    return (part.slope or part.terms[0][0]) < 0


def _text_of_product(coefficient: int, factors: Sequence[Single], sets: Mapping[str, SizeSet]) -> str:
    whole = Fraction(coefficient)
    bodies: list[str] = []
    for factor, same in groupby(factors):
        exact, power = linear(factor, sets), len(list(same))
        if exact is not None and exact[1] == 0 and exact[0]:
            whole *= exact[0] ** power
            body = factor.variable
        else:
            body = text(factor, sets)
            body = body if _is_bracketed(body) else f"({body})"
        bodies.append(body + (str(power).translate(SUPERSCRIPT) if power > 1 else ""))
    above = _times(whole.numerator, "·".join(bodies))
    return above + (f"/{number(whole.denominator)}" if whole.denominator != 1 else "")


SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _is_bracketed(body: str) -> bool:
    return (body[0] + body[-1] in ("⌊⌋", "⌈⌉") and not any(sign in body[1:-1] for sign in "⌊⌈")) or body.isidentifier()


@lru_cache(maxsize=1 << 12)
def _text(d: Single, known: SizeSet | None) -> str:
    if d.weight > READABLE:
        return f"f({d.variable})"
    if known is None or known.minimum is None:
        return _sum(d)
    exact = _exact(d, known)
    return _sum(restricted(d, known.minimum, known.maximum)) if exact is None else _ratio(d.variable, *exact)


@lru_cache(maxsize=1 << 12)
def _linear(d: Single, known: SizeSet | None) -> tuple[Fraction, Fraction] | None:
    if known is None or known.minimum is None:
        return None if d.terms else (Fraction(d.slope), Fraction(d.offset))
    return _exact(d, known)


def linear(d: Single, sets: Mapping[str, SizeSet] = {}) -> tuple[Fraction, Fraction] | None:
    """Slope and offset if the size is the same linear function of every valid input size; else None."""
    return _linear(d, sets.get(d.variable))


def _exact(d: Single, sizes: SizeSet) -> tuple[Fraction, Fraction] | None:
    """Slope and offset if the size is the same linear function of every valid input size."""
    if not d.terms:
        return Fraction(d.slope), Fraction(d.offset)
    if sum(p.length for p in sizes.pieces) > 64:
        return None
    found: tuple[Fraction, Fraction] | None = None
    alone: list[tuple[int, int]] = []
    for piece in sizes.pieces:
        for part in classes(piece):
            low = part.next(part.low)
            if part.high is not None and low > part.high:
                continue
            steps = None if part.high is None else (part.high - low) // part.period
            inner = restricted(composed(d, part.period, low), 0, steps)
            if steps == 0:
                assert isinstance(inner, int)
                alone.append((low, inner))
                continue
            if isinstance(inner, Single) and inner.terms:
                return None
            slope = Fraction(inner.slope if isinstance(inner, Single) else 0, part.period)
            line = slope, (inner.offset if isinstance(inner, Single) else inner) - slope * low
            if found is not None and line != found:
                return None
            found = line
    if found is None or any(found[0] * n + found[1] != value for n, value in alone):
        return None
    return found


def _ratio(name: str, slope: Fraction, offset: Fraction) -> str:
    k = lcm(slope.denominator, offset.denominator)
    if offset.denominator == 1:
        body = _times(abs(slope.numerator), name) + (f"/{number(k)}" if k > 1 else "")
        return _joined([((slope > 0) - (slope < 0), body)], int(offset))
    return f"({_joined([(int(slope * k), name)], int(offset * k))})/{number(k)}"


def _times(c: int, body: str) -> str:
    return body if c == 1 else f"{number(c)}{'·' if body[0].isdigit() else ''}{body}"


def _joined(terms: list[tuple[int, str]], offset: int) -> str:
    """A sum; it starts with a positive term if there is one."""
    parts = [(c, _times(abs(c), body)) for c, body in terms if c]
    if offset:
        parts.append((offset, number(abs(offset))))
    if not parts:
        return "0"
    if parts[0][0] < 0:
        parts.sort(key=lambda part: part[0] < 0)
    first, *rest = parts
    return ("-" if first[0] < 0 else "") + first[1] + "".join(f" {'-' if c < 0 else '+'} {body}" for c, body in rest)


def _sum(d: Plain) -> str:
    if isinstance(d, int):
        return number(d)
    offset = d.offset
    terms = [(d.slope, d.variable)]
    for c, atom in d.terms:
        if isinstance(atom, Floor):
            terms.append((c, _floor(atom)))
        else:
            terms.append((c, _extreme(atom, offset if len(d.terms) == 1 and c == 1 and not d.slope else 0)))
            if len(d.terms) == 1 and c == 1 and not d.slope:
                offset = 0
    return _joined(terms, offset)


def _extreme(atom: Extreme, offset: int) -> str:
    return f"{atom.kind}({', '.join(_sum(x + offset) for x in atom.arguments)})"


def _floor(atom: Floor) -> str:
    inner, k = atom.inner, atom.divisor
    left, right = "⌊", "⌋"
    if inner.offset == k - 1:
        inner = Single(inner.variable, inner.slope, 0, inner.terms)
        left, right = "⌈", "⌉"
    body = _sum(inner)
    return f"{left}{body}/{number(k)}{right}" if _is_atom(inner) else f"{left}({body})/{number(k)}{right}"


def _is_atom(d: Single) -> bool:
    return not d.offset and len(d.terms) + bool(d.slope) == 1


def python(d: Dim, names: Mapping[str, str] = {}) -> str:
    """A Python expression for the size; `names` gives the expression of each free size, by default its own name."""
    if not isinstance(d, Polynomial):
        assert isinstance(d, int | Single)
        return _python(d, names)[0]
    terms = [(c < 0, _python_product(abs(c), factors, names)) for c, factors in d.products]
    terms += [(False, python(part, names)) for part in d.parts if not _starts_below(part)]
    terms += [(True, python(-part, names)) for part in d.parts if _starts_below(part)]
    terms += [(d.offset < 0, literal(abs(d.offset)))] if d.offset else []
    (negative, first), *rest = sorted(terms, key=lambda term: term[0])
    return ("-" if negative else "") + first + "".join(f" {'-' if minus else '+'} {body}" for minus, body in rest)


def _python_product(coefficient: int, factors: Sequence[Single], names: Mapping[str, str]) -> str:
    bodies = [literal(coefficient)] if coefficient != 1 else []
    for factor in factors:
        body, binding = _python(factor, names)
        # After `*` a floor division needs its parentheses, as a sum does: a * (b // 2).
        bodies.append(body if binding == 2 or (binding == 1 and not bodies) else f"({body})")
    return " * ".join(bodies)


def _python(d: Plain, names: Mapping[str, str]) -> tuple[str, int]:
    """Source text and precedence: 2 an atom, 1 a product, 0 a sum."""
    if isinstance(d, int):
        return literal(d), 2 if d >= 0 else 0
    parts: list[tuple[int, str, int]] = []
    if d.slope:
        parts.append((d.slope, names.get(d.variable, d.variable), 2))
    for c, atom in d.terms:
        if isinstance(atom, Floor):
            body, binding = _python(atom.inner, names)
            parts.append((c, f"{body if binding else f'({body})'} // {literal(atom.divisor)}", 1))
        else:
            parts.append((c, f"{atom.kind}({', '.join(_python(x, names)[0] for x in atom.arguments)})", 2))
    if d.offset:
        parts.append((1 if d.offset > 0 else -1, literal(abs(d.offset)), 2))
    if parts[0][0] < 0:
        parts.sort(key=lambda part: part[0] < 0)
    out = ""
    for i, (c, body, binding) in enumerate(parts):
        product = f"({body})" if binding < 2 and (abs(c) > 1 or (i == 0 and c < 0)) else body
        sign = ("-" if c < 0 else "") if i == 0 else (" - " if c < 0 else " + ")
        out += sign + (product if abs(c) == 1 else f"{literal(abs(c))} * {product}")
    c, _, binding = parts[0]
    return out, (binding if c == 1 else 1) if len(parts) == 1 and c > 0 else 0


def describe_sets(sets: Mapping[str, SizeSet]) -> str:
    """Sets of sizes in one line: `H, W: multiples of 16`; empty if there is no free size."""
    alike: dict[str, list[str]] = {}
    for name, sizes in sets.items():
        alike.setdefault(sizes.describe(), []).append(name)
    parts = []
    for description, names in alike.items():
        joined = ", ".join(names)
        if description == "any":
            parts.append(f"any {joined}" if len(alike) == 1 else f"{joined}: any")
        else:
            parts.append(f"{joined} {description}" if description[0] in "≡≢" else f"{joined}: {description}")
    return "; ".join(parts)
