"""Where the numbers of a tensor are: PyTorch's axes as products of parts of the axes of the network's tensor.

A reshape or a permutation computes nothing; a view follows it exactly. An axis of a tensor that PyTorch has is a row of
atoms: parts of axes of the network's tensor, its `base`, each with its size and its stride on that axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from archdsl.runtime.importing.recorded import Value

Order: TypeAlias = tuple[int, ...]
"""For each axis of PyTorch's tensor, without the batch, the axis of the network's tensor."""
Numbers: TypeAlias = tuple[int, ...]
"""A number for each recorded run."""


@dataclass(frozen=True, slots=True)
class Atom:
    """A part of an axis of the base, which is counted with the batch."""

    axis: int
    sizes: Numbers
    strides: Numbers


Axis: TypeAlias = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A tensor as a view of its base. Axes of size 1 have no atoms."""

    base: Value
    axes: tuple[Axis, ...]

    @property
    def sizes(self) -> list[Numbers]:
        """The size of each axis, in each run."""
        runs = len(self.base.shapes)
        return [product([atom.sizes for atom in axis], runs) for axis in self.axes]


def product(numbers: Sequence[Numbers], runs: int) -> Numbers:
    found = (1,) * runs
    for each in numbers:
        found = times(found, each)
    return found


def times(one: Numbers, two: Numbers) -> Numbers:
    return tuple(a * b for a, b in zip(one, two, strict=True))


def divided(one: Numbers, two: Numbers) -> Numbers | None:
    """The exact quotients; None if there is a rest."""
    return (
        None
        if any(a % b for a, b in zip(one, two, strict=True))
        else tuple(a // b for a, b in zip(one, two, strict=True))
    )


def is_one(numbers: Numbers) -> bool:
    return all(n == 1 for n in numbers)


def sizes_of(value: Value) -> list[Numbers]:
    """The size of each axis, with the batch, in each run."""
    return [tuple(shape[axis] for shape in value.shapes) for axis in range(len(value.shapes[0]))]


def axis_of(base: Value, axis: int) -> Axis:
    """A whole axis of a tensor of the network."""
    sizes = sizes_of(base)[axis]
    return () if is_one(sizes) else (Atom(axis, sizes, (1,) * len(sizes)),)


def whole(base: Value) -> View:
    """A tensor of the network as it is."""
    return View(base, tuple(axis_of(base, axis) for axis in range(len(base.shapes[0]))))


def merged(axis: Sequence[Atom]) -> Axis:
    """An axis with neighbours that are one part made one."""
    found: list[Atom] = []
    for atom in axis:
        if is_one(atom.sizes):
            continue
        if found and found[-1].axis == atom.axis and found[-1].strides == times(atom.strides, atom.sizes):
            atom = Atom(atom.axis, times(found.pop().sizes, atom.sizes), atom.strides)
        found.append(atom)
    return tuple(found)


def permuted(view: View, axes: Sequence[int]) -> View:
    """A view whose axis i is axis `axes[i]` of this one."""
    return View(view.base, tuple(view.axes[axis] for axis in axes))


def reshaped(view: View, sizes: Sequence[Numbers]) -> View | None:
    """A view with these sizes, the numbers in the same order; None if an axis would need parts of parts."""
    left = [atom for axis in view.axes for atom in axis]
    axes: list[Axis] = []
    for size in sizes:
        need, found = size, []
        while not is_one(need):
            if not left:
                return None
            atom = left.pop(0)
            if (rest := divided(need, atom.sizes)) is not None:
                found.append(atom)
                need = rest
            elif (inner := divided(atom.sizes, need)) is not None:
                found.append(Atom(atom.axis, need, times(atom.strides, inner)))
                left.insert(0, Atom(atom.axis, inner, atom.strides))
                need = (1,) * len(need)
            else:
                return None
        axes.append(merged(found))
    return View(view.base, tuple(axes)) if not left else None


def order_of(view: View) -> Order | None:
    """The order of axes of a view that only permutes whole axes; None of others."""
    if len(view.axes) != len(view.base.shapes[0]):
        return None
    wholes = [axis_of(view.base, axis) for axis in range(len(view.axes))]
    if view.axes[0] != wholes[0]:
        return None
    free = [i for i, axis in enumerate(wholes) if not axis and i > 0]
    order = []
    for axis in view.axes[1:]:
        if not axis:
            if not free:
                return None
            order.append(free.pop(0) - 1)
        elif len(axis) == 1 and axis == wholes[axis[0].axis]:
            order.append(axis[0].axis - 1)
        else:
            return None
    return tuple(order) if sorted(order) == [*range(len(order))] else None


def parts_of(view: View, axis: int) -> list[Atom]:
    """The atoms of an axis of the base, from the outermost on."""
    found = [atom for row in view.axes for atom in row if atom.axis == axis]
    return sorted(found, key=lambda atom: atom.strides, reverse=True)


def is_complete(view: View, axis: int) -> bool:
    """Whether the atoms of an axis of the base are all of it, each once."""
    return merged(parts_of(view, axis)) == axis_of(view.base, axis)


def placed(view: View, base: Value, moved: dict[Atom, Atom]) -> View:
    """A view of another base, in which some atoms are others."""
    return View(base, tuple(merged([moved.get(atom, atom) for atom in axis]) for axis in view.axes))
