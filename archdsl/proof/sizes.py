"""The proof of the accepted sizes: those for which the graph is valid, in calls and in exports."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import lcm
from typing import Any

from archdsl import dims
from archdsl.dims import Choice, DimError, Expr, Region, SizeSet
from archdsl.graph import Graph
from archdsl.graph import Tensor as Edge
from archdsl.proof.budget import Budget
from archdsl.proof.errors import Unproved
from archdsl.proof.library import FreeDim
from archdsl.proof.terms import Size, dim_of
from archdsl.proof.vocabulary import wrong_at

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

    def reach(self) -> tuple[int, int]:
        """The size from which on its answers repeat at the latest, and their period. Raises Unproved if it has none."""
        found = _Tests({a.arg for a in self.definition.args.args})
        for statement in self.definition.body[: _decided(self.definition)]:
            found.statement(statement)
        return sum(found.numbers), lcm(*found.moduli)

    def numbers(self) -> frozenset[int]:
        """The numbers in its text, near which its answer may change."""
        constants = (n.value for n in ast.walk(self.definition) if isinstance(n, ast.Constant))
        return frozenset([n for n in constants if type(n) is int])


LONG = 100
"""The steps from which on an error takes long."""

WORDED = 50
"""Every how many sizes such an error is worded."""


def _decided(check: ast.FunctionDef) -> int:
    """The number of statements after which a check only words its error, and raises it. Raises Unproved."""
    if not isinstance(check.body[-1], ast.Raise):
        raise Unproved("has a check of sizes that does not end with its error")
    return 1 + max((i for i, s in enumerate(check.body) if not isinstance(s, ast.Assign | ast.Raise)), default=-1)


def _without_words(check: ast.FunctionDef) -> ast.FunctionDef:
    """A check that raises its error at once."""
    body = [*check.body[: _decided(check)], ast.Raise(ast.Name("ValueError", ast.Load()))]
    return ast.fix_missing_locations(ast.FunctionDef(**{**vars(check), "body": body}))


@dataclass(slots=True, eq=False)
class _Tests:
    """What decides in a check: comparisons of a size, or of its remainders, with numbers.

    So its answers are periodic from some size on, and trying it up to there shows them all.
    """

    names: set[str]
    numbers: list[int] = field(default_factory=list)
    moduli: list[int] = field(default_factory=list)

    def statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Expr(value=ast.Constant() | ast.Call(func=ast.Name(id="STEP__"))):
                pass
            case ast.FunctionDef(name="fits", body=[_, ast.Return(value=ast.expr() as test)], args=arguments):
                self.names |= {"fits", *[a.arg for a in arguments.args]}
                self.test(test)
            case ast.If(test=test, body=[ast.Return(value=None)], orelse=[]):
                self.test(test)
            case _:
                raise wrong_at(statement, "checks a size otherwise than built files do")

    def test(self, node: ast.expr) -> None:
        match node:
            case ast.BoolOp(values=tests):
                for test in tests:
                    self.test(test)
            case ast.UnaryOp(op=ast.Not(), operand=test):
                self.test(test)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd(), right=right):
                self.test(left)
                self.test(right)
            case ast.Compare(left=left, comparators=others):
                for side in (left, *others):
                    self.side(side)
            case ast.Constant(value=bool()):
                pass
            case ast.Call(func=ast.Name(id="fits"), args=[ast.Name()], keywords=[]) if "fits" in self.names:
                pass
            case _:
                raise wrong_at(node, "checks a size otherwise than built files do")

    def side(self, node: ast.expr) -> None:
        """A size, a number, numbers, or a size minus a number, or its remainder."""
        match node:
            case ast.Name(id=name) if name in self.names:
                pass
            case ast.Constant(value=int(number)):
                self.numbers.append(number)
            case ast.Tuple(elts=numbers) if all(isinstance(n, ast.Constant) for n in numbers):
                self.numbers.append(max(n.value for n in numbers))  # type: ignore[attr-defined]
            case ast.BinOp(left=size, op=ast.Sub(), right=ast.Constant(value=int(number))):
                self.side(size)
                self.numbers.append(number)
            case ast.Call(func=ast.Name(id="MOD__"), args=[size, ast.Constant(value=int(number))]) if number > 0:
                self.side(size)
                self.moduli.append(number)
            case _:
                raise wrong_at(node, "checks a size otherwise than built files do")


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
            wrong = next((n for n in _sizes_to_try(guard, sizes) if guard.accepts(name, n) != (n in sizes)), None)
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


def _sizes_to_try(guard: Guard, sizes: SizeSet) -> Iterable[int]:
    """All sizes up to those from which on a check and a set repeat; only some if these are too many."""
    start, period = guard.reach()
    threshold, pattern, _ = sizes.form
    start = max(start, threshold, sizes.maximum or 0)
    both = lcm(period, pattern.modulus if pattern else 1)
    if start + both < SPAN:
        return range(1, start + both + 1)
    if pattern and both > pattern.modulus:
        raise Unproved("checks remainders that the valid sizes have not got")
    return (*_trials(sizes), *_near(guard.numbers()))


def _compare_choice(guard: Guard, choice: Choice) -> None:
    others = {name: next((n for n in range(1, SPAN) if n not in sizes), 0) for name, sizes in choice.sets.items()}
    for name, sizes in choice.sets.items():  # one size, where the others are not in their sets
        for n in _sizes_to_try(guard, sizes) if all(others.values()) else ():
            tried = {**others, name: n}
            if guard.accepts(*tried.values()) != choice.holds(tried):
                raise Unproved(f"{'accepts' if n not in sizes else 'refuses'} {name} = {n}")
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
