"""The memory of a process that compiles many specs does not grow."""

from __future__ import annotations

import gc
import linecache
import sys
from collections.abc import Callable

import pytest
import torch

import archdsl
from archdsl import built

TEXT = """
model m{0} {{
    input x[3, H, W]
    conv({1}, 3, stride = {2})
    c{0}: conv(4, {3}) -> relu
    {4}
}}
"""


def source(number: int, last: str = "upsample(3)") -> archdsl.Source:
    """A unique spec, with the same sizes as others."""
    return archdsl.Source(
        f"n{number}.arch", TEXT.format(number, 1 + number % 50, 1 + number % 3, 1 + 2 * (number % 4), last)
    )


def checked(number: int) -> None:
    archdsl.check(source(number))


def refused(number: int) -> None:
    with pytest.raises(archdsl.SpecError) as caught:
        archdsl.check(source(number, f"cov{number}(3"))
    assert str(caught.value)


def written(number: int) -> None:
    assert archdsl.build(archdsl.check(source(number)))


def drawn(number: int) -> None:
    assert archdsl.draw(archdsl.check(source(number))).dot


def loaded(number: int) -> None:
    archdsl.load(source(number))(torch.zeros(1, 3, 9, 9))


WAYS: dict[str, Callable[[int], None]] = {
    "check": checked,
    "refuse": refused,
    "build": written,
    "load": loaded,
    "draw": drawn,
}


def growth(way: str, first: int, rounds: int) -> int:
    """The number of Python objects left by that many rounds, after as many before."""
    if way == "load":
        for number in range(first + 2 * rounds, first + 2 * rounds + built.KEPT):  # the latest stay, with their texts
            loaded(number)
    found = []
    for start in (first, first + rounds):
        for number in range(start, start + rounds):
            WAYS[way](number)
        gc.collect()
        found.append(len(gc.get_objects()) + len(sys.modules) + len(linecache.cache))
    return found[1] - found[0]


@pytest.mark.parametrize("way", [way for way in WAYS if way != "draw"])  # laying out each diagram takes long
def test_nothing_is_left_of_a_compilation(way: str) -> None:
    # One object per round would be 60.
    assert growth(way, 0, 60) < 40


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_of_many(way: str) -> None:
    assert growth(way, 1_000, 600) < 400
