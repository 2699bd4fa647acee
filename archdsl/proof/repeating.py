"""Calls that are made again on the same tensors: what the first one did is done at once.

A file that recomputes runs its blocks several times: in the backward pass, and once more for every state of PyTorch
that it asks about. Such a call gives what the first gave, if it takes the same terms in equally shared memory and asks
about no state itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeAlias

from archdsl.proof.terms import Key, Order, Storage, Table, Tensor, Term

if TYPE_CHECKING:  # which imports this
    from archdsl.proof.layers import Layer
    from archdsl.proof.library import Run
    from archdsl.proof.modules import Module

Result: TypeAlias = tuple[int, Term, Order]
"""A tensor that a call gives: the number of its memory, a term, and the order of its axes."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a call did. Memory is numbered: first that of its inputs, then what it made."""

    overwritten: tuple[bool, ...]
    """Of the inputs' memory."""
    needed: tuple[str, ...]
    """What still needs each memory because of the call; empty if nothing does."""
    results: tuple[int | Result, ...]
    """An input, by its number, or another tensor."""
    is_single: bool
    drawn: tuple[Key, ...]
    """The operations that drew at random."""
    starts: dict[Key, int]
    """How often each of them had run before."""
    counted: tuple[tuple[Layer, tuple[int, ...]], ...]
    """The layers that counted statistics, and the terms that they counted."""

    def may_happen(self, storages: Sequence[Storage], table: Table) -> bool:
        """Whether a call on this memory does the same now."""
        kept = any(o and s.kept for o, s in zip(self.overwritten, storages, strict=True))
        return not kept and all(table.ran[key] == number for key, number in self.starts.items())

    def happen(self, inputs: Sequence[Tensor], storages: Sequence[Storage], table: Table) -> Any:
        """Does the same, and gives the results."""
        made = [*storages, *[Storage() for _ in self.needed[len(storages) :]]]
        for storage, overwritten in zip(storages, self.overwritten, strict=True):
            storage.version += overwritten
        for storage, needed in zip(made, self.needed, strict=True):
            if needed:
                storage.keep(needed)
        for key in self.drawn:
            table.draw(key)
        for layer, taken in self.counted:
            layer.counting(taken, table)
        results = tuple(
            [inputs[r] if isinstance(r, int) else Tensor(table, r[1], made[r[0]], r[2]) for r in self.results]
        )
        return results[0] if self.is_single else results


class Repeatable:
    """A `forward` of a text, in a run that repeats calls."""

    __slots__ = ("function", "known", "run")

    def __init__(self, function: FunctionType, run: Run) -> None:
        self.function, self.run = function, run
        self.known: dict[object, Effect] = {}

    def __get__(self, module: Module | None, kind: type) -> Any:
        return self if module is None else MethodType(self, module)

    def __call__(self, module: Module, *inputs: Any) -> Any:
        if not all(map(_is_current, inputs)):
            return self.function(module, *inputs)
        run, table = self.run, self.run.table
        numbers = {s: i for i, s in enumerate(dict.fromkeys([x.storage for x in inputs]))}
        storages = list(numbers)
        key = (run.training, module, *[(x.term.number, x.order, numbers[x.storage]) for x in inputs])
        effect = self.known.get(key)
        if effect is not None and effect.may_happen(storages, table):
            return effect.happen(inputs, storages, table)
        before = [(s.version, s.needs) for s in storages]
        asked, drawn, counted = run.questions, len(table.drawn), len(table.counted)
        given = self.function(module, *inputs)
        results = (given,) if isinstance(given, Tensor) else given
        if run.questions != asked or type(results) is not tuple or not all(map(_is_current, results)):
            return given
        own = [s for s in dict.fromkeys([t.storage for t in results]) if s not in numbers]
        changed = [(s.version != v, s.needs != n) for s, (v, n) in zip(storages, before, strict=True)]
        drawn_now = table.drawn[drawn:]
        starts = {key: table.ran[key] - drawn_now.count(key) for key in dict.fromkeys(drawn_now)}
        self.known[key] = Effect(
            tuple([overwritten for overwritten, _ in changed]),
            tuple(
                [s.kept if needed else "" for s, (_, needed) in zip(storages, changed, strict=True)]
                + [s.kept for s in own]
            ),
            tuple([_numbered(t, inputs, storages + own) for t in results]),
            results is not given,
            tuple(drawn_now),
            starts,
            tuple(table.counted[counted:]),
        )
        return given


def _is_current(value: object) -> bool:
    """Whether it is a tensor that has not been overwritten."""
    return type(value) is Tensor and value.version == value.storage.version


def _numbered(tensor: Tensor, inputs: Sequence[Tensor], memory: Sequence[Storage]) -> int | Result:
    """A result, by the number of the input that it is, or of its memory."""
    same = [i for i, x in enumerate(inputs) if x is tensor]
    return same[0] if same else (memory.index(tensor.storage), tensor.term, tensor.order)
