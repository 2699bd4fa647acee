"""The check of a size in a generated module: which sizes it takes, and what it says of the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import pytest

from archdsl.backends.python import printer
from archdsl.backends.torch_source import checks
from archdsl.built import execute
from archdsl.dims import Choice, Constraint, SizeSet, at_least, divisible, equal, free, maximum, minimum

H = free("H")


def narrowed(*demands: bool | Constraint) -> SizeSet:
    sizes = SizeSet.everything()
    for demand in demands:
        assert isinstance(demand, Constraint)
        sizes = demand.narrow(sizes)
    return sizes


def function(valid: SizeSet) -> Callable[[str, int], None]:
    tree = checks.check_function("check_size", "net", valid)
    assert tree is not None
    found: Callable[[str, int], None] = execute(printer.module([tree]), "<check>").check_size
    return found


def refusal(check: Callable[[str, int], None], size: int) -> str | None:
    try:
        check("H", size)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "demands",
    [
        [at_least(H, 33)],
        [divisible(H, 16)],
        [divisible(H, 16), at_least(H, 100)],
        [equal(H % 16, 12), at_least(H, 180)],
        [equal(H % 2, 1), at_least(H, 6)],
        [equal(H // 2, 2 * (H // 4))],
        [equal(H // 8, 2 * (H // 16)), divisible(H, 3)],
        [at_least(H % 5, 1)],
        [at_least(H // 3 - H // 5, 4)],
        [at_least(maximum(7 - H, H - 8), 1)],
        [at_least(maximum(minimum(7 - H, H - 2), H - 20), 1)],
        [at_least(3 * (H // 4) - H // 3, 10)],
        [divisible(minimum(H, 32), 2)],
        [divisible(H, 32), at_least(260, H), at_least(H, 224)],
        [at_least(96, H)],
        [equal(H, 60)],
    ],
)
def test_takes_the_set_and_names_the_nearest(demands: list[bool | Constraint]) -> None:
    valid = narrowed(*demands)
    check = function(valid)
    for size in range(1, 300):
        said = refusal(check, size)
        assert (said is None) == (size in valid), size
        if said is not None:
            near = [n for n in valid.nearest(size) if n is not None]
            assert said == (
                f"net: H must be {valid.condition()}, got {size}; the nearest "
                f"{'is' if len(near) == 1 else 'are'} {' and '.join(map(str, near))}"
            )


@pytest.mark.parametrize(
    "demand",
    [divisible(H, 2**40), at_least(H, 3 * 2**500), equal(H // 2**39, 2 * (H // 2**40) + 1), equal(H // 2**40, 1)],
)
def test_far_sizes_are_not_looked_for_one_by_one(demand: bool | Constraint) -> None:
    said = refusal(function(narrowed(demand)), 224)
    assert said is not None and re.match(r"net: H must be .*, got 224(; the nearest is (\d+|about 2.501))?$", said), (
        said
    )


def test_sizes_of_which_one_has_to_fit() -> None:
    """Names that are no Python, or differ by their case alone, are parameters all the same."""
    sets = {"in": narrowed(at_least(H, 5)), "lambda": narrowed(divisible(H, 3)), "h": narrowed(at_least(3, H))}
    choice = Choice({**sets, "H": narrowed(equal(H % 4, 1), at_least(H, 9))})
    tree = checks.check_of_choice("check_size", "net", choice, "training")
    assert tree is not None
    check = execute(printer.module([tree]), "<check>").check_size
    for values in product((1, 4, 5, 6, 9, 13), repeat=4):
        named = dict(zip(choice.sets, values, strict=True))
        if choice.holds(named):
            check(*values)
            continue
        with pytest.raises(ValueError, match=r"must be .* in training, got in = ") as caught:
            check(*values)
        assert str(caught.value).endswith(", ".join(f"{name} = {value}" for name, value in named.items()))
