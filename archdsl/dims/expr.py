"""The base of sizes that depend on free sizes."""

from __future__ import annotations

from typing import TypeAlias


class Expr:
    """A size that depends on free sizes: a `Single` on one of them, a `Polynomial` on products or on several."""

    __slots__ = ()

    @property
    def variables(self) -> frozenset[str]:
        """The names of the free sizes."""
        raise NotImplementedError

    def __add__(self, other: Dim) -> Dim:
        raise NotImplementedError

    def __radd__(self, other: Dim) -> Dim:
        return self + other

    def __neg__(self) -> Expr:
        raise NotImplementedError

    def __pos__(self) -> Expr:
        return self

    def __sub__(self, other: Dim) -> Dim:
        return self + -other if isinstance(other, int | Expr) else NotImplemented

    def __rsub__(self, other: int) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        raise NotImplementedError

    def __rmul__(self, other: Dim) -> Dim:
        return self * other

    def __floordiv__(self, other: Dim) -> Dim:
        raise NotImplementedError

    def __rfloordiv__(self, other: int) -> Dim:
        raise NotImplementedError

    def __mod__(self, other: Dim) -> Dim:
        return self - self // other * other

    def __rmod__(self, other: int) -> Dim:
        return other - other // self * self


Dim: TypeAlias = int | Expr


def free_sizes(*sizes: Dim) -> frozenset[str]:
    """The names of the free sizes on which some sizes depend."""
    return frozenset().union(*(size.variables for size in sizes if isinstance(size, Expr)))


def pin(names: frozenset[str]) -> str:
    """Advice that names free sizes: `pin H or W`."""
    return f"pin {' or '.join(sorted(names))}"
