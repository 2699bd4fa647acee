"""The valid values of several free sizes together: a set for each, and choices, which one of their sizes must meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from archdsl.dims.errors import DimError
from archdsl.dims.pieces import too_intricate
from archdsl.dims.sets import EVERYTHING, SizeSet
from archdsl.dims.solving import Constraint
from archdsl.dims.wording import describe_sets

CASES = 10_000
"""The maximum number of cases in the search for values that satisfy all choices."""


@dataclass(frozen=True)
class AnyOf:
    """A constraint that one of several free sizes can satisfy: H ≥ 2 or W ≥ 2. `demands` has one entry per size."""

    demands: tuple[Constraint, ...]

    @cached_property
    def variables(self) -> frozenset[str]:
        return frozenset().union(*(demand.variables for demand in self.demands))

    @property
    def text(self) -> str:
        """The constraint as text."""
        return " or ".join(demand.text for demand in self.demands)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class AllOf:
    """Constraints that must hold together."""

    demands: tuple[Constraint | AnyOf, ...]

    @cached_property
    def variables(self) -> frozenset[str]:
        return frozenset().union(*(demand.variables for demand in self.demands))

    @property
    def text(self) -> str:
        """The constraints as text."""
        return " and ".join(demand.text for demand in self.demands)

    def __str__(self) -> str:
        return self.text


Demanded: TypeAlias = Constraint | AnyOf | AllOf


def any_of(*conditions: bool | Demanded) -> bool | Demanded:
    """Whether one of the conditions, each on another free size, holds: decided, or the constraint that one does."""
    if True in conditions:
        return True
    left: list[Constraint] = []
    for i, condition in enumerate(conditions):
        if isinstance(condition, AllOf):
            return all_of(*(any_of(*conditions[:i], part, *conditions[i + 1 :]) for part in condition.demands))
        if not isinstance(condition, bool):
            left += condition.demands if isinstance(condition, AnyOf) else (condition,)
    return left[0] if len(left) == 1 else AnyOf(tuple(left)) if left else False


def all_of(*conditions: bool | Demanded) -> bool | Demanded:
    """Whether all conditions hold: decided, or the constraint that they do."""
    if False in conditions:
        return False
    left: dict[Constraint | AnyOf, None] = {}
    for condition in conditions:
        if not isinstance(condition, bool):
            left.update(dict.fromkeys(condition.demands if isinstance(condition, AllOf) else (condition,)))
    return next(iter(left)) if len(left) == 1 else AllOf(tuple(left)) if left else True


@dataclass(frozen=True)
class Choice:
    """Sets of several free sizes, of which at least one must contain its size's value."""

    sets: Mapping[str, SizeSet]

    def describe(self, verb: str = "") -> str:
        """`H or W at least 5`; with a verb such as ` must be`, as a sentence."""
        conditions = {name: sizes.condition() for name, sizes in self.sets.items()}
        if len(set(conditions.values())) == 1:
            return f"{' or '.join(conditions)}{verb} {next(iter(conditions.values()))}"
        return " or ".join(f"{name}{verb} {condition}" for name, condition in conditions.items())

    def holds(self, values: Mapping[str, int]) -> bool:
        return any(values[name] in sizes for name, sizes in self.sets.items())

    def follows_from(self, other: Choice) -> bool:
        """Whether this one holds whenever the other one does."""
        return all(
            name in self.sets and sizes.intersect(self.sets[name]) == sizes for name, sizes in other.sets.items()
        )


@dataclass(frozen=True, eq=False)
class Region(Mapping[str, SizeSet]):
    """The valid values of the free sizes: a set for each, by name, restricted by the choices.

    If a choice remains, no single size decides it, and a set may contain a value that is invalid with some values of
    another size.
    """

    sets: Mapping[str, SizeSet]
    choices: tuple[Choice, ...] = ()

    @staticmethod
    def everything(names: Sequence[str] = ()) -> Region:
        return Region(dict.fromkeys(names, EVERYTHING))

    def __getitem__(self, name: str) -> SizeSet:
        return self.sets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sets)

    def __len__(self) -> int:
        return len(self.sets)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Region):
            return dict(self.sets) == dict(other.sets) and self.choices == other.choices
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of other mappings

    def describe(self) -> str:
        """All valid values in one line: `any H, W; H or W at least 2`."""
        return "; ".join(filter(None, [describe_sets(self.sets), *(choice.describe() for choice in self.choices)]))

    def holds(self, values: Mapping[str, int]) -> bool:
        """Whether the values are valid together."""
        return all(values[name] in sizes for name, sizes in self.sets.items()) and self.failing(values) is None

    def failing(self, values: Mapping[str, int]) -> Choice | None:
        """The first choice that the given values of all sizes violate."""
        return next((choice for choice in self.choices if not choice.holds(values)), None)

    def narrow(self, demand: Demanded) -> Region | None:
        """The values for which the constraint also holds; None if there are none. Raises DimError like `Constraint`."""
        if isinstance(demand, AllOf):
            found: Region | None = self
            for part in demand.demands:
                found = None if found is None else found.narrow(part)
            return found
        if isinstance(demand, Constraint):
            after = demand.narrow(self.sets[min(demand.variables)])
            return _settled({**self.sets, min(demand.variables): after}, self.choices)
        held = {name: self._solved(part, name) for part in demand.demands for name in part.variables}
        return _settled(self.sets, (*self.choices, Choice({name: held[name] for name in self.sets if name in held})))

    def _solved(self, demand: Constraint, name: str) -> SizeSet:
        """The sizes for which a constraint holds: among all sizes if that is shorter, else among the valid ones."""
        try:
            return demand.narrow(EVERYTHING)
        except DimError:
            return demand.narrow(self.sets[name])

    def where(self, values: Mapping[str, int]) -> Region | None:
        """The region with some sizes fixed to individually valid values; None if it is empty."""
        fixed = {name: SizeSet.only(values[name]) if name in values else sizes for name, sizes in self.sets.items()}
        return _settled(fixed, self.choices)

    def near(self, wanted: Mapping[str, int], given: Mapping[str, int] = {}) -> dict[str, int]:
        """The given values, and for the other sizes the next valid ones from the wanted values on, if there are any."""
        sets = self.sets
        while True:
            values = {name: given.get(name) or _near(sizes, wanted[name]) for name, sizes in sets.items()}
            broken = self.failing(values)
            if broken is None:
                return values
            boxes = (Region(part, self.choices).where(given) for part in _parts(sets, broken))
            box = next((box for box in boxes if box is not None), None)
            if box is None:  # the given values are not valid
                return values
            sets = box.sets


def _near(sizes: SizeSet, wanted: int) -> int:
    if wanted in sizes:
        return wanted
    below, above = sizes.nearest(wanted)
    return above or below or 1


def _parts(sets: Mapping[str, SizeSet], choice: Choice) -> Iterator[Mapping[str, SizeSet]]:
    """The ways to narrow one of the sets so that a choice holds."""
    for name, sizes in choice.sets.items():
        yield {**sets, name: sets[name].intersect(sizes)}


def _settled(sets: Mapping[str, SizeSet], choices: Sequence[Choice]) -> Region | None:
    """The region after applying every choice that only one size can satisfy; None if it is empty."""
    found = _taken(sets, choices)
    return found if found is not None and _is_inhabited(found) else None


def _taken(sets: Mapping[str, SizeSet], choices: Sequence[Choice]) -> Region | None:
    if any(sizes.is_empty for sizes in sets.values()):
        return None
    left: list[Choice] = []
    for choice in choices:
        met = {name: sets[name].intersect(sizes) for name, sizes in choice.sets.items()}
        if any(met[name] == sets[name] for name in met):
            continue
        open_ = {name: sizes for name, sizes in choice.sets.items() if not met[name].is_empty}
        if not open_:
            return None
        if len(open_) == 1:
            (name,) = open_
            return _taken({**sets, name: met[name]}, [c for c in choices if c is not choice])
        left.append(choice if len(open_) == len(choice.sets) else Choice(open_))
    kept: list[Choice] = []
    for choice in left:
        if not any(choice.follows_from(other) for other in kept):
            kept = [*(other for other in kept if not other.follows_from(choice)), choice]
    return Region(sets, tuple(kept))


def _is_inhabited(region: Region) -> bool:
    """Whether some values satisfy all choices: an exact search by cases."""
    waiting, cases = [region], 0
    while waiting:
        here = waiting.pop()
        if len(here.choices) < 2:
            return True
        cases += 1
        if cases > CASES:
            raise too_intricate()
        parts = (_taken(sets, here.choices) for sets in _parts(here.sets, here.choices[0]))
        waiting += [part for part in parts if part is not None]
    return False


def describe_sizes(sizes: Mapping[str, SizeSet]) -> str:
    """All valid input sizes in one line, as in `Region.describe`; empty if there is no free size."""
    return (sizes if isinstance(sizes, Region) else Region(sizes)).describe()
