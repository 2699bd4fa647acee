"""Modules for a network whose file has no names: what repeats between places through which one tensor flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise

import torch
from torch import nn

from archdsl.runtime.importing.files.program import Key, Program, Ref, Scope, Step

ALIKE = 0.7
"""How like each other the steps of two modules of a class are, at least."""
FOLLOWING = frozenset({"Relu", "Clip", "LeakyRelu", "HardSwish", "Swish", "Gelu", "Elu", "Mish", "PRelu", "Selu"})
"""Operators that belong to what is before them."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Steps number `start` to `end` that may become a module; `sizes` are those of the positions of its result."""

    start: int
    end: int
    kinds: tuple[str, ...]
    sizes: tuple[int, ...]


def invent(program: Program) -> None:
    """Puts what repeats into modules, and numbers the layers in each."""
    program.steps = program.early()
    grow(program)
    units = [unit for group in alike(units_of(program)) if len(group) > 1 for unit in group]
    units = sorted((u for u in units if not shared(program, u)), key=lambda u: u.start)
    kinds = {unit: number for number, group in enumerate(alike(units)) for unit in group}
    around: dict[int, tuple[Scope, ...]] = {}
    stage = number = 0
    before: Unit | None = None
    for unit in units:
        follows = before is not None and (before.end, before.sizes) == (unit.start, unit.sizes)
        stage, number = (stage, number + 1) if follows else (stage + 1, 0)
        before = unit
        scopes = (Scope(f"stage{stage}", plain=True), Scope(f"stage{stage}.{number}", f"Unit@{kinds[unit]}"))
        around |= dict.fromkeys(range(unit.start, unit.end), scopes)
    program.steps = [replace(step, scopes=around.get(at, ())) for at, step in enumerate(program.steps)]
    rename(program)


def grow(program: Program) -> None:
    """A concat that begins with all that an earlier one took takes its result instead, as dense layers do."""
    known: dict[tuple[object, ...], str] = {}
    for at, step in enumerate(program.steps):
        if step.kind != "Concat" or len(step.takes) != 1 or not isinstance(step.takes[0], list):
            continue
        given = tuple(step.takes[0])
        for end in range(len(given) - 1, 1, -1):
            if given[:end] in known:
                program.steps[at] = replace(step, takes=([Ref(known[given[:end]]), *given[end:]],))
                break
        known[given] = step.gives[0]


def units_of(program: Program) -> list[Unit]:
    """The parts of several steps between places where one tensor flows, each with the activations behind it."""
    last: dict[str, int] = {}
    for at, step in enumerate(program.steps):
        last |= dict.fromkeys(step.names(), at)
    last |= dict.fromkeys(program.outputs.values(), len(program.steps))
    live = {name for name in program.inputs if name in last}
    cuts = [0] if len(live) == 1 else []
    for at, step in enumerate(program.steps):
        live |= {name for name in step.gives if last.get(name, -1) > at}
        live = {name for name in live if last[name] > at}
        if len(live) == 1:
            cuts.append(at + 1)
    found: list[Unit] = []
    for start, end in pairwise(cuts):
        steps = program.steps[start:end]
        if end - start > 1:
            found.append(unit(program, start, end))
        elif found and found[-1].end == start and steps[0].kind in FOLLOWING:
            found[-1] = unit(program, found[-1].start, end)
    return found


def unit(program: Program, start: int, end: int) -> Unit:
    result = program.values[program.steps[end - 1].gives[0]]
    sizes = tuple(result.shape[2:]) if isinstance(result, torch.Tensor) else ()
    kinds = tuple(step.kind for step in program.steps[start:end])
    return Unit(start, end, kinds, sizes)


def alike(units: Sequence[Unit]) -> list[list[Unit]]:
    """The units in groups of like steps."""
    groups: list[list[Unit]] = []
    for one in units:
        for group in groups:
            known = group[0].kinds
            if known == one.kinds or SequenceMatcher(None, known, one.kinds, autojunk=False).ratio() >= ALIKE:
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def shared(program: Program, one: Unit) -> bool:
    """Whether a layer or parameter of a unit is used outside of it, too."""
    inside = owned(program.steps[one.start : one.end])
    outside = owned([*program.steps[: one.start], *program.steps[one.end :]])
    return bool(inside & outside)


def owned(steps: Sequence[Step]) -> set[object]:
    """The layers and keys of parameters that steps use."""
    keys: set[object] = {part for step in steps for part in step.takes if isinstance(part, Key)}
    return keys | {step.run for step in steps if isinstance(step.run, nn.Module)}


def rename(program: Program) -> None:
    """Numbers the layers and parameters in their modules."""
    paths = {id(layer): path for path, layer in program.layers.items()}
    counts: Counter[tuple[str, str]] = Counter()
    new: dict[str, str] = {}

    def named(old: str, scopes: tuple[Scope, ...], base: str) -> None:
        if old not in new:
            prefix = f"{scopes[-1].path}." if scopes else ""
            counts[prefix, base] += 1
            new[old] = f"{prefix}{base}{counts[prefix, base]}"

    for step in program.steps:
        if id(step.run) in paths:
            old = paths[id(step.run)]
            named(old, step.scopes, old.rstrip("0123456789"))
        for part in step.takes:
            if isinstance(part, Key):
                named(part.key, step.scopes, "parameter")
    program.layers = {new.get(path, path): layer for path, layer in program.layers.items()}
    program.parameters = {new.get(key, key): tensor for key, tensor in program.parameters.items()}
    state = {}
    for key, tensor in program.state.items():
        path, _, name = key.rpartition(".")
        state[new[key] if key in new else f"{new.get(path, path)}.{name}"] = tensor
    program.state = state
    program.steps = [
        replace(s, takes=tuple(Key(new[p.key]) if isinstance(p, Key) else p for p in s.takes)) for s in program.steps
    ]
