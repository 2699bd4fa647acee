"""The order in which the ranks of a pipeline compute micro-batches, and how long a step takes.

The orders are those of torch.distributed.pipelining. Huang et al., GPipe, 2019 (arXiv:1811.06965); Narayanan et al.,
PipeDream, 2019 (1F1B); Narayanan et al., Efficient large-scale language model training on GPU clusters using
Megatron-LM, 2021 (arXiv:2104.04473; interleaved stages).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from archdsl.common.choices import Schedule

Action: TypeAlias = tuple[Literal["F", "B"], int, int]
"""A forward or backward pass, its stage, its micro-batch."""

SEVERAL: tuple[Schedule, ...] = ("interleaved", "interleaved-gpipe")
"""The schedules in which a rank has several stages: stage i is on rank i modulo the number of ranks."""


def orders(schedule: Schedule, stages: int, ranks: int, microbatches: int) -> list[list[Action]]:
    """What each rank computes, in order."""
    match schedule:
        case "gpipe" | "interleaved-gpipe":
            return [list(_gpipe(stages, ranks, microbatches, rank)) for rank in range(ranks)]
        case "1f1b":
            return [list(_one_each(stages, microbatches, rank)) for rank in range(ranks)]
        case _:
            return [list(_interleaved(stages // ranks, ranks, microbatches, rank)) for rank in range(ranks)]


def _gpipe(stages: int, ranks: int, microbatches: int, rank: int) -> Iterator[Action]:
    mine = range(rank, stages, ranks)
    yield from (("F", stage, number) for stage in mine for number in range(microbatches))
    yield from (("B", stage, number) for stage in reversed(mine) for number in range(microbatches))


def _one_each(stages: int, microbatches: int, stage: int) -> Iterator[Action]:
    ahead = min(microbatches, stages - stage)
    yield from (("F", stage, number) for number in range(ahead))
    for number in range(microbatches):
        yield "B", stage, number
        if number + ahead < microbatches:
            yield "F", stage, number + ahead


def _interleaved(own: int, ranks: int, microbatches: int, rank: int) -> Iterator[Action]:
    """`own` is the number of stages of a rank."""
    rounds = max(1, microbatches // ranks)
    together = microbatches // rounds
    total = own * microbatches
    ahead = min((own - 1) * together + 2 * (ranks - 1 - rank), total)
    done: dict[tuple[str, int], int] = {}

    def action(kind: Literal["F", "B"], number: int) -> Action:
        local = (number // together) % own
        stage = (local if kind == "F" else own - 1 - local) * ranks + rank
        done[kind, stage] = done.get((kind, stage), -1) + 1
        return kind, stage, done[kind, stage]

    yield from (action("F", number) for number in range(ahead))
    for number in range(ahead, total):
        yield action("F", number)
        yield action("B", number - ahead)
    yield from (action("B", number) for number in range(total - ahead, total))


@dataclass(frozen=True, slots=True)
class Run:
    """A simulated step: its length, and the share of it in which the ranks wait, on average."""

    time: float
    idle: float


def simulate(
    order: Sequence[Sequence[Action]], forward: Sequence[float], backward: Sequence[float], sending: Sequence[float]
) -> Run:
    """A step in which stage i takes `forward[i]` and `backward[i]` for a micro-batch.

    Stage i takes `sending[i]` to send a micro-batch to stage i + 1, and as long to send a gradient back, beside what it
    computes.
    """
    last = len(forward) - 1
    ends: dict[Action, float] = {}
    at = [0.0] * len(order)
    places = [0] * len(order)
    left = sum(map(len, order))
    while left:
        before = left
        for rank, actions in enumerate(order):
            while places[rank] < len(actions):
                kind, stage, number = actions[places[rank]]
                ready = _ready(ends, kind, stage, number, last, sending)
                if ready is None:
                    break
                takes = forward[stage] if kind == "F" else backward[stage]
                at[rank] = ends[kind, stage, number] = max(at[rank], ready) + takes
                places[rank] += 1
                left -= 1
        if left == before:
            raise ValueError("the ranks of this order wait for each other")
    time = max(at)
    busy = sum((forward if kind == "F" else backward)[stage] for actions in order for kind, stage, _ in actions)
    return Run(time, 1 - busy / (time * len(order)) if time else 0.0)


def _ready(
    ends: dict[Action, float], kind: str, stage: int, number: int, last: int, sending: Sequence[float]
) -> float | None:
    """When what a pass needs is there; None if it is not known yet."""
    if kind == "F":
        return 0.0 if stage == 0 else _after(ends.get(("F", stage - 1, number)), sending[stage - 1])
    own = ends.get(("F", stage, number))
    if own is None or stage == last:
        return own
    later = _after(ends.get(("B", stage + 1, number)), sending[stage])
    return None if later is None else max(own, later)


def _after(time: float | None, more: float) -> float | None:
    return None if time is None else time + more
