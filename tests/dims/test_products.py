"""Sums and products of free sizes compared with brute force, and their descriptions."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from itertools import product

import pytest

from archdsl.dims import (
    Demanded,
    Dim,
    DimError,
    Region,
    at_least,
    ceil_div,
    divisible,
    equal,
    evaluate,
    exact_div,
    free,
    free_sizes,
    name_of,
    python,
    substitute,
    text,
)
from archdsl.dims.deciding import fix

H, W, N = free("H"), free("W"), free("N")
H16, W16 = H // 16, W // 16
TOKENS = H16 * W16


@pytest.mark.parametrize(
    ("size", "said", "source"),
    [
        (H * W, "H·W", "H * W"),
        (W * H, "H·W", "H * W"),
        (TOKENS + 1, "⌊H/16⌋·⌊W/16⌋ + 1", "H // 16 * (W // 16) + 1"),
        (2 * H * (3 * W), "6H·W", "6 * H * W"),
        (N * N, "N²", "N * N"),
        (N * N * H - 2, "H·N² - 2", "H * N * N - 2"),
        ((H + 1) * (W - 1), "(H + 1)·(W - 1)", "(H + 1) * (W - 1)"),
        (H + W, "H + W", "H + W"),
        (H - W, "H - W", "H - W"),
        (W // 2 - H, "⌊W/2⌋ - H", "W // 2 - H"),
        (1 - H * W, "1 - H·W", "1 - H * W"),
        (H * W + H // 2 - 1, "H·W + ⌊H/2⌋ - 1", "H * W + H // 2 - 1"),
        ((H // 2 + H // 3) * W, "(⌊H/2⌋ + ⌊H/3⌋)·W", "(H // 2 + H // 3) * W"),
    ],
)
def test_are_written(size: Dim, said: str, source: str) -> None:
    assert (text(size), python(size)) == (said, source)
    for h, w, n in product(range(1, 40, 6), repeat=3):
        assert eval(source, {"H": h, "W": w, "N": n}) == evaluate(size, {"H": h, "W": w, "N": n})
    assert python(size, {"H": "x.shape[2]"}) == source.replace("H", "x.shape[2]")
    assert pickle.loads(pickle.dumps(size)) == size


def test_are_shorter_where_divisions_are_exact() -> None:
    sets = Region.everything(["H", "W"]).narrow(divisible(H, 16))
    assert text(TOKENS + 1, sets) == "H·⌊W/16⌋/16 + 1"
    sets = sets.narrow(divisible(W, 32))
    assert text(TOKENS + 1, sets) == "H·W/256 + 1"
    assert text(2 * TOKENS, sets) == "H·W/128"


def test_what_is_no_product_is_a_plain_size() -> None:
    assert H * W - W * H == 0 and (H + W) - W == H and 0 * (H * W) == 0
    assert substitute(TOKENS, {"H": 32}) == 2 * W16 and substitute(TOKENS, {"H": 3}) == 0
    assert evaluate(TOKENS + H, {"H": 32, "W": 48}) == 38
    assert free_sizes(H * W, N, 3) == {"H", "W", "N"} and name_of(H) == "H" and not name_of(H * W) and not name_of(3)
    assert (6 * TOKENS + 7) // 3 == 2 * TOKENS + 2 and (6 * TOKENS + 7) % 3 == 1 and (4 * H + 2 * W) // 2 == 2 * H + W
    with pytest.raises(DimError, match="the size of W is not known"):
        evaluate(H * W, {"H": 3})


@pytest.mark.parametrize(
    ("decided", "wanted"),
    [
        (equal(H * W, W * H), True),
        (equal(TOKENS, ceil_div(H - 15, 16) * W16), True),
        (equal((H + 1) * W, H * W + W), True),
        (equal((H + 1) * (W + 1), H * W + H + W), False),
        (equal(H * W + 1, H * W), False),
        (equal(2 * H * W, 3), False),
        (equal(4 * H * W, 6), False),
        (equal(N * N, 197), False),
        (equal(H * W, -3), False),
        (at_least(H * W, 1), True),
        (at_least(TOKENS + 1, 1), True),
        (at_least(H * W, H * W + 1), False),
        (at_least(3, H * W + 3), False),
        (at_least(H + W, 2), True),
        (divisible(6 * H * W + 3, 3), True),
        (divisible(6 * H * W + 2, 3), False),
    ],
)
def test_what_holds_for_all_sizes_is_decided(decided: object, wanted: bool) -> None:
    assert decided is wanted


def allowed(demand: bool | Demanded, names: str) -> Region | None:
    region = Region.everything(names.split())
    if isinstance(demand, bool):
        return region if demand else None
    return region.narrow(demand)


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        (equal(N * N, 196), "N: only 14"),
        (equal(TOKENS, 14 * W16), "H: only 224 to 239"),
        (equal(3 * H * W, 3), "H, W: only 1"),
        (at_least(N * N, 50), "N: any from 8"),
        (at_least(TOKENS + 1, 2), "H, W: any from 16"),
        (at_least(H * W, 2), "any H, W; H or W at least 2"),
        (at_least(TOKENS, 2), "H, W: any from 16; H or W at least 32"),
    ],
)
def test_what_factors_demand_is_solved(demand: bool | Demanded, said: str) -> None:
    names = "N" if said.startswith("N") else "H W"
    found = allowed(demand, names)
    assert found is not None
    assert found.describe().removeprefix("any W; ").replace("; W: any", "") == said


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        (equal(H * W, 196), "this needs H·W = 196, which makes H and W depend on each other"),
        (equal(TOKENS + 1, H + W), "makes H and W depend on each other"),
        (at_least(H * W, 5), "this needs H·W ≥ 5"),
        (equal(N * N + N, 6), "this needs N² \\+ N = 6, which has a power of a free size"),
    ],
)
def test_what_ties_sizes_to_each_other_is_refused(demand: Demanded, message: str) -> None:
    with pytest.raises(DimError, match=message) as caught:
        Region.everything(sorted(demand.variables)).narrow(demand)
    assert caught.value.help is not None and caught.value.help.startswith("fix ")


def random_size(r: random.Random) -> Dim:
    """A sum or product as sizes of tokens are."""
    plain = [H, W, H // 2, W // 3, ceil_div(H, 4), W // 2 + 1, 2 * H, H + 1, H // 2 + H // 3]
    size: Dim = r.choice(plain)
    for _ in range(r.randint(1, 4)):
        other: Dim = r.choice([*plain, r.randint(1, 3)])
        size = r.choice([size * other, size + other, size * other, size - r.randint(0, 2)])
    return size


def test_arithmetic_and_decisions_agree_with_numbers() -> None:
    r = random.Random(0)
    places: list[Mapping[str, int]] = [{"H": h, "W": w} for h in range(1, 9) for w in range(1, 9)]
    solved = 0
    for _ in range(400):
        a, b, k = random_size(r), r.choice([random_size(r), r.randint(1, 6)]), r.randint(2, 4)
        for at in places[:: r.randint(3, 9)]:
            x, y = evaluate(a, at), evaluate(b, at)
            assert [evaluate(d, at) for d in (a + b, a - b, a * b, -a)] == [x + y, x - y, x * y, -x]
            assert eval(python(a), dict(at)) == x
            assert evaluate(substitute(a, {"H": at["H"]}), at) == x
            assert evaluate((a * k + 1) // k, at) == x
        if any(evaluate(d, at) < 1 for d in (a, b) for at in places):
            continue  # not sizes of tensors
        for demand, holds in ((equal(a, b), int.__eq__), (at_least(a, b), int.__ge__)):
            try:
                region = allowed(demand, "H W")
            except DimError:
                continue
            solved += 1
            for at in places:
                valid = region is not None and region.holds(at)
                assert valid == holds(evaluate(a, at), evaluate(b, at)), (text(a), text(b), demand, at)
                if not isinstance(demand, bool):
                    assert fix(demand, at) is valid
    assert solved > 80


def test_too_many_terms_are_refused() -> None:
    with pytest.raises(DimError, match="too complex"):
        _power(H + W, 70)
    with pytest.raises(DimError, match="too large"):
        _power(H * 2**400 * W, 40)
    assert exact_div(4 * H * W, 4) == (H * W, True)


def _power(size: Dim, times: int) -> Dim:
    found: Dim = 1
    for _ in range(times):
        found = found * size
    return found
