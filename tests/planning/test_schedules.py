"""The orders of micro-batches against PyTorch's, and the time that simulated steps take."""

from __future__ import annotations

import pytest

from archdsl.common.choices import SCHEDULES, Schedule
from archdsl.planning.schedules import SEVERAL, Action, orders, simulate

CASES: list[tuple[Schedule, int, int, int]] = [
    ("gpipe", 4, 4, 6),
    ("1f1b", 4, 4, 8),
    ("1f1b", 3, 3, 2),
    ("interleaved", 4, 2, 4),
    ("interleaved", 8, 4, 8),
    ("interleaved", 6, 2, 6),
    ("interleaved-gpipe", 4, 2, 4),
]


LETTERS = {"FORWARD": "F", "FULL_BACKWARD": "B"}


def of_pytorch(schedule: Schedule, stages: int, ranks: int, microbatches: int) -> list[list[Action]]:
    """The order in PyTorch's own tables, which only schedules of several stages a rank have."""
    pytest.importorskip("torch", reason="torch is not installed")
    from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B, ScheduleLoopedBFS

    kind = ScheduleInterleaved1F1B if schedule == "interleaved" else ScheduleLoopedBFS
    made = object.__new__(kind)
    made.pp_group_size, made._num_stages, made.n_local_stages = ranks, stages, stages // ranks
    made._n_microbatches, made._stages = microbatches, [None] * made.n_local_stages
    if schedule == "interleaved":
        made.number_of_rounds = max(1, microbatches // ranks)
        made.microbatches_per_round = microbatches // made.number_of_rounds
    found = [made._calculate_single_rank_operations(rank) for rank in range(ranks)]
    return [
        [(LETTERS[a.computation_type.name], a.stage_index, a.microbatch_index) for a in actions if a is not None]  # type: ignore[misc]
        for actions in found
    ]


@pytest.mark.parametrize("case", [case for case in CASES if case[0] in SEVERAL], ids=str)
def test_orders_are_those_of_pytorch(case: tuple[Schedule, int, int, int]) -> None:
    ours, theirs = orders(*case), of_pytorch(*case)
    if case[0] == "interleaved-gpipe":  # whose backward passes begin with the last micro-batch; the memory is the same
        ours, theirs = ([[a[:2] for a in actions] for actions in found] for found in (ours, theirs))  # type: ignore[misc]
    assert ours == theirs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_pass_is_done_once(case: tuple[Schedule, int, int, int]) -> None:
    _, stages, ranks, microbatches = case
    found = orders(*case)
    everything = {(k, s, m) for k in "FB" for s in range(stages) for m in range(microbatches)}
    assert sorted(a for actions in found for a in actions) == sorted(everything)
    assert all(stage % ranks == rank for rank, actions in enumerate(found) for _, stage, _ in actions)


def test_times() -> None:
    """The bubble of p stages and m micro-batches is (p - 1) / (m + p - 1), with v stages a rank a v-th of the time."""
    for microbatches in (4, 8, 32):
        for schedule in ("gpipe", "1f1b"):
            run = simulate(orders(schedule, 4, 4, microbatches), [1.0] * 4, [2.0] * 4, [0.0] * 4)
            assert run.idle == pytest.approx(3 / (microbatches + 3))
            assert run.time == pytest.approx(3 * (microbatches + 3))
        run = simulate(orders("interleaved", 8, 4, microbatches), [0.5] * 8, [1.0] * 8, [0.0] * 8)
        assert run.time == pytest.approx(3 * (microbatches + 1.5))


def test_sending_delays() -> None:
    run = simulate(orders("gpipe", 2, 2, 1), [1.0, 1.0], [2.0, 2.0], [0.5, 0.0])
    assert run.time == pytest.approx(1 + 0.5 + 1 + 2 + 0.5 + 2)


def test_ranks_that_wait_for_each_other() -> None:
    with pytest.raises(ValueError, match="wait for each other"):
        simulate([[("B", 0, 0), ("F", 0, 0)]], [1.0], [1.0], [0.0])


def test_schedules_have_orders() -> None:
    assert {case[0] for case in CASES} == set(SCHEDULES)
