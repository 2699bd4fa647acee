"""Chooses the sizes at which an export is compared with the module, within a budget of work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod

from archdsl.analysis.costs import costs
from archdsl.dims import SizeSet
from archdsl.graph import Graph

MACS = 5 * 10**9
"""The maximum multiply-accumulates per comparison: a fraction of a second for each of the two runs."""

SHOWN = 16 * 10**9
"""The same for the example sizes, which matter most and have no substitute."""

ELEMENTS = 2 * 10**8
"""The maximum numbers in all feature maps of one comparison, 0.8 GB in float32 if none were freed."""

SLOW = 500
"""The factor by which to reduce the work if only onnx's reference evaluator, in Python, can run a file."""


@dataclass(frozen=True, slots=True)
class Try:
    """One comparison: values of all free sizes, including fixed ones, and a batch."""

    sizes: Mapping[str, int]
    batch: int

    def __str__(self) -> str:
        return ", ".join([*(f"{name} = {value}" for name, value in self.sizes.items()), f"batch {self.batch}"])


def listed(tries: Sequence[Try]) -> str:
    """Sizes as text: `batch × H × W = 1 × 32 × 32, 2 × 35 × 37`."""
    names = " × ".join(["batch", *(tries[0].sizes if tries else ())])
    return f"{names} = " + ", ".join(" × ".join(map(str, [t.batch, *t.sizes.values()])) for t in tries)


def draw(
    graph: Graph, valid: Mapping[str, SizeSet], pins: Mapping[str, int], share: int = 1
) -> tuple[list[Try], list[Try]]:
    """The comparisons: smallest, next, example, odd, large and mixed sizes; and those that are too much work.

    `valid` are the dynamic sizes of the file; the others are in `pins`. Axes get different sizes. Where the large or
    odd size exceeds the budget (its `share`-th part), a smaller one replaces it; the smallest is always compared.
    """
    chosen: list[Try] = []
    left: list[Try] = []

    def fits(candidate: Try, most: int) -> bool:
        cost = costs(graph, candidate.sizes)
        elements = sum(prod(shape) for shapes in cost.shapes for shape in shapes)
        return cost.total.macs * candidate.batch * share <= most and elements * candidate.batch * share <= ELEMENTS

    def add(*candidates: Try, most: int = MACS) -> None:
        found = next((c for c in candidates if c in chosen or fits(c, most)), None)
        if found is None or found is not candidates[0]:
            left.append(candidates[0])
        if found is not None and found not in chosen:
            chosen.append(found)

    smallest = {name: sizes.minimum or 1 for name, sizes in valid.items()}
    chosen += [Try({**pins, **smallest}, 1), Try({**pins, **smallest}, 2)]
    if not valid:
        return chosen, left
    # A file may reject the example size: then use the next one.
    examples = {name: next(_members(sizes, graph.examples[name]), smallest[name]) for name, sizes in valid.items()}
    followers = [_next(valid[name], smallest[name], 1 + i) for i, name in enumerate(valid)]
    close = {**pins, **dict(zip(valid, followers, strict=True))}
    add(Try(close, 3), Try(close, 1), most=SHOWN)
    add(Try({**pins, **examples}, 1), most=SHOWN)
    odd = [_scaled(valid, examples, factor, odd=True) for factor in (1.1, 0.7, 0.4, 0.2)]
    add(*(Try({**pins, **sizes}, 2) for sizes in odd))
    large = [_scaled(valid, examples, factor) for factor in (2, 1.5, 1, 0.7, 0.5, 0.25)]
    add(*(Try({**pins, **sizes}, 1) for sizes in large))
    for name in valid:  # one axis large, the others small, to detect swapped axes
        if len(valid) > 1:
            add(*(Try({**pins, **smallest, name: sizes[name]}, 2) for sizes in large))
    return chosen, left


def _scaled(
    valid: Mapping[str, SizeSet], examples: Mapping[str, int], factor: float, *, odd: bool = False
) -> dict[str, int]:
    """Valid sizes from `factor` times the examples on, different for each axis."""
    found = {}
    for i, (name, sizes) in enumerate(valid.items()):
        start = int(examples[name] * factor)
        members = [*islice(_members(sizes, start), 8)] or [examples[name]]
        if odd:  # or something close to it, but not the first one
            members = [n for n in members if n % 2] or members[1:] or members
        found[name] = members[min(i, len(members) - 1)]
    return found


def _next(sizes: SizeSet, start: int, steps: int) -> int:
    return [start, *islice(_members(sizes, start + 1), steps)][-1]


def _members(sizes: SizeSet, start: int) -> Iterator[int]:
    """The valid sizes from `start` on."""
    n: int | None = start if start in sizes else sizes.nearest(start)[1]
    while n is not None:
        yield n
        n = sizes.nearest(n)[1]
