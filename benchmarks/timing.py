"""The time of what is compared, each in turn within one run, so that a busy machine slows all of it alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median


def seconds(actions: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median process time of each, in turn."""
    times: list[list[float]] = [[] for _ in actions]
    for number in range(rounds + 1):
        for found, action in zip(times, actions, strict=True):
            start = time.process_time()
            action()
            if number:  # the first round warms up
                found.append(time.process_time() - start)
    return [median(found) for found in times]
