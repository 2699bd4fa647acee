"""The proof of the accepted sizes: those for which the graph is valid, in calls and in exports."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from archdsl import dims
from archdsl.dims import Choice, DimError, Expr, Region, SizeSet
from archdsl.graph import Graph
from archdsl.graph import Tensor as Edge
from archdsl.proof.budget import Budget
from archdsl.proof.errors import Unproved
from archdsl.proof.library import FreeDim
from archdsl.proof.terms import Size, dim_of

SPAN = 4096
"""A check is tried on every size up to the period of the valid ones if that is no larger; else around their ends."""


@dataclass(slots=True, eq=False)
class Guard:
    """A function of a text that checks sizes: its calls in `forward` are recorded, and it is tried on numbers later.

    `definition` is its syntax, `space` the names of the text. Where it searches the nearest valid size for the words of
    its error, it is tried without these words for most sizes.
    """

    function: Callable[..., None]
    definition: ast.FunctionDef
    space: dict[str, Any]
    budget: Budget
    calls: dict[tuple[object, ...], None] = field(default_factory=dict)
    """The arguments of its calls, without repetitions."""
    deciding: Callable[..., None] | None = None
    """The function without the words of its error, if these take long."""
    tried: int = 0

    def __call__(self, *args: object) -> None:
        self.calls[tuple(dim_of(a) if isinstance(a, Size) else a for a in args)] = None

    def accepts(self, *args: object) -> bool:
        self.tried += 1
        before = self.budget.left
        try:
            (self.deciding if self.deciding and self.tried % WORDED else self.function)(*args)
        except ValueError:
            if self.deciding is None and before - self.budget.left > LONG:
                own = {**self.space}
                exec(compile(ast.Module([_without_words(self.definition)], []), "<check>", "exec"), own)
                self.deciding = own[self.definition.name]
            return False
        return True

    def numbers(self) -> frozenset[int]:
        """The numbers in its text, near which its answer may change."""
        constants = (n.value for n in ast.walk(self.definition) if isinstance(n, ast.Constant))
        return frozenset([n for n in constants if type(n) is int])


LONG = 100
"""The steps from which on an error takes long."""

WORDED = 50
"""Every how many sizes such an error is worded."""


def _without_words(check: ast.FunctionDef) -> ast.FunctionDef:
    """A check that raises its error at once where it would only word it: after the last `if` with a `return`."""
    deciding = max((i for i, s in enumerate(check.body) if not isinstance(s, ast.Assign | ast.Raise)), default=-1)
    kept = check.body[: deciding + 1]
    if not isinstance(check.body[-1], ast.Raise):
        return check
    made = ast.FunctionDef(**{**vars(check), "body": [*kept, ast.Raise(ast.Name("ValueError", ast.Load()))]})
    return ast.fix_missing_locations(made)


def compare_guards(guards: Sequence[Guard], valid: Region) -> None:
    """Compares the checks in a run with the valid sizes. Raises Unproved."""
    single: dict[str, list[Guard]] = {}
    joint: dict[tuple[str, ...], list[Guard]] = {}
    for guard in guards:
        for args in guard.calls:
            names = tuple(name for a in args if (name := dims.name_of(a) if isinstance(a, Expr) else ""))
            if len(args) == 2 and names == args[:1]:
                single.setdefault(names[0], []).append(guard)
            elif args and len(names) == len(args):
                joint.setdefault(names, []).append(guard)
            else:
                raise Unproved("checks something else than a size of an input")
    for name, sizes in valid.items():
        mine = single.pop(name, [])
        if not mine and sizes != SizeSet.everything() and _can_be_written(sizes):
            raise Unproved(f"does not check the size {name}")
        for guard in mine:
            wrong = next(
                (n for n in (*_trials(sizes), *_near(guard.numbers())) if guard.accepts(name, n) != (n in sizes)), None
            )
            if wrong is not None:
                raise Unproved(f"{'refuses' if wrong in sizes else 'accepts'} {name} = {wrong}")
    for choice in valid.choices:
        mine = joint.pop(tuple(choice.sets), [])
        if not mine and all(map(_can_be_written, choice.sets.values())):
            raise Unproved(f"does not check that {choice.describe(' is')}")
        for guard in mine:
            _compare_choice(guard, choice)
    if single or joint:
        raise Unproved("checks a size that is always valid")


def _compare_choice(guard: Guard, choice: Choice) -> None:
    columns = [_ends(sizes, guard.numbers()) for sizes in choice.sets.values()]
    for values in product(*columns):
        holds = choice.holds(dict(zip(choice.sets, values, strict=True)))
        if guard.accepts(*values) != holds:
            raise Unproved(f"{'refuses' if holds else 'accepts'} {' × '.join(map(str, values))}")


def _can_be_written(sizes: SizeSet) -> bool:
    try:
        sizes.python("n")
    except DimError:
        return False
    return True


def _trials(sizes: SizeSet) -> Iterator[int]:
    """Sizes that distinguish a set from others: all up to its period, or those around its ends."""
    threshold, pattern, _ = sizes.form
    threshold = threshold if pattern else (sizes.maximum or 0) + 1
    end = threshold + 2 * (pattern.modulus if pattern else 1) + 2
    if end <= SPAN:
        yield from range(1, end)
        return
    near = {1, 2, 3, threshold - 1, threshold, threshold + 1, end - 1, end}
    for n in (1, 64, 224, threshold // 2, threshold, end):
        near.update(m for m in sizes.nearest(n) if m is not None)
    yield from sorted(m for n in near for m in (n - 1, n, n + 1) if m >= 1)


def _near(numbers: Collection[int]) -> list[int]:
    """Sizes around the numbers of a text, and if these are few, around the sums and products of two."""
    found = set(numbers)
    if len(numbers) <= FEW:
        found.update(n for a in numbers for b in numbers for n in (a + b, a * b))
    return sorted({m for n in found for m in (n - 1, n, n + 1) if m >= 1})


FEW = 12


def _ends(sizes: SizeSet, numbers: Collection[int]) -> list[int]:
    """A few sizes around the smallest members of a set, around the numbers of a text, and one far away."""
    found = {1, 1000, *(numbers if len(numbers) <= FEW else ())}
    for n in (1, 64):
        found.update(m for m in sizes.nearest(n) if m is not None)
    return sorted({m for n in found for m in (n - 1, n, n + 1) if m >= 1})


def compare_free(graph: Graph, shapes: Sequence[Mapping[int, Any]]) -> None:
    """Compares the dynamic sizes of exports with those valid in evaluation. Raises Unproved."""
    names: dict[str, str] = {}
    for node, axes in zip(graph.input_nodes, shapes, strict=True):
        shape = graph.shape(Edge(node.id))
        for axis, dim in axes.items():
            size = shape[axis - 1] if axis else None
            of = "" if size is None else dims.name_of(size)
            if not isinstance(dim, FreeDim) or (axis and not of):
                raise Unproved(f"lets an export leave axis {axis} of an input free")
            if dim.name and names.setdefault(dim.name, of) != of:
                raise Unproved(f"ties {of or 'the batch'} to another size in exports")
            values = _progression(dim, graph.sizes[of]) if dim.name and of else ()
            wrong = next((n for n in values if n not in graph.sizes[of]), None)
            if wrong is not None:
                raise Unproved(f"lets an export take {of} = {wrong}")


def _progression(dim: FreeDim, sizes: SizeSet) -> Iterator[int]:
    """The sizes that a dim allows, up to the period of a set."""
    if dim.factor < 1:
        raise Unproved("lets an export take sizes that become smaller")
    threshold, pattern, _ = sizes.form
    end = (threshold if pattern else (sizes.maximum or 0) + 1) + dim.factor * (pattern.modulus if pattern else 1)
    last = max(dim.least, (end - dim.shift) // dim.factor + 1)
    steps = range(dim.least, last + 1)
    for n in steps if len(steps) <= SPAN else (*steps[: SPAN // 2], *steps[-SPAN // 2 :]):
        yield dim.factor * n + dim.shift
