"""The size arithmetic compared with brute force, and its descriptions."""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Callable
from operator import ge, gt, le, lt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archdsl.dims import (
    Constraint,
    Dim,
    DimError,
    SizeSet,
    at_least,
    ceil_div,
    describe_sizes,
    divisible,
    equal,
    evaluate,
    exact_div,
    free,
    maximum,
    minimum,
    python,
    substitute,
    text,
)
from archdsl.dims.deciding import fix

H, W = free("H"), free("W")
ANY = SizeSet.everything()
LIMIT = 600


def conv(n: Dim, kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Dim:
    return (n + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1


def narrowed(*demands: bool | Constraint, start: SizeSet = ANY) -> SizeSet:
    """The sizes for which all demands hold."""
    for demand in demands:
        if demand is not True:
            start = SizeSet.nothing() if demand is False else demand.narrow(start)
    return start


def members(sizes: SizeSet, limit: int = LIMIT) -> set[int]:
    return {n for n in range(1, limit + 1) if n in sizes}


def unpadded_unet(n: Dim, depth: int, demands: list[bool | Constraint]) -> Dim:
    n -= 4
    if depth:
        demands.append(at_least(n, 2))
        n = minimum(n, unpadded_unet(n // 2, depth - 1, demands) * 2) - 4
    demands.append(at_least(n, 1))
    return n


def padded_unet(n: Dim, depth: int, demands: list[bool | Constraint], halve: Callable[[Dim], Dim]) -> Dim:
    if depth:
        demands.append(equal(n, padded_unet(halve(n), depth - 1, demands, halve) * 2))
    return n


# Expressions


def test_chains_fold_to_one_floor() -> None:
    n: Dim = H
    for _ in range(5):
        n = conv(n, 3, 2, 1)
    assert n == ceil_div(H, 32) == (H + 31) // 32
    assert ((H // 2 - 1) // 3 + 5) // 4 == (H + 28) // 24
    assert (2 * (H // 3) + 2) // 2 == H // 3 + 1
    assert (6 * H + 5) // 4 == H + H // 2 + 1
    assert hash(2 * H // 6) == hash(H // 3)
    assert (minimum(H, 20) // 2) == minimum(H // 2, 10)
    assert minimum(H - 4, 30, H) + 4 == minimum(H, 34)


def test_a_size_known_for_every_value_is_an_int() -> None:
    known = [H - H, H * 0, (4 * H + 7) % 4, minimum(H, 1), maximum(0, 1 - H), 2 * (H // 2) - H + H % 2, H // 2 - H // 2]
    assert known == [0, 0, 3, 1, 0, 0, 0]
    assert all(type(n) is int for n in known)
    assert minimum(H, 2 * (H // 2) + 1) is H, "the sizes of a transposed convolution cropped to its skip"


def test_plain_numbers() -> None:
    assert (ceil_div(7, 2), minimum(3, 2), maximum(3, 2), equal(2, 2), equal(2, 3)) == (4, 2, 3, True, False)
    assert (at_least(3, 3), at_least(2, 3), divisible(6, 3), exact_div(7, 2)) == (True, False, True, (3, False))
    assert (text(7), python(7), evaluate(7, {}), substitute(7, {"H": 1})) == ("7", "7", 7, 7)


def test_values() -> None:
    size = 3 * (H // 2) - minimum(H, 7) % 4
    assert evaluate(size, {"H": 9, "W": 1}) == 9 == substitute(size, {"H": 9})
    assert substitute(size, {"W": 9}) is size
    assert pickle.loads(pickle.dumps(size)) == size
    assert size.variable == "H"
    with pytest.raises(DimError, match="H is not known"):
        evaluate(size, {"W": 9})


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda: minimum(H, W), "H and W cannot be combined"),
        (lambda: minimum(H * W, 3), "which of two sizes is larger depends on H and W"),
        (lambda: H * W // 2, "H·W cannot be divided by 2 and rounded"),
        (lambda: H // (H * W), "divided by one that depends on H and W"),
        (lambda: exact_div(H * W, 3), "H·W cannot be divided by 3"),
        (lambda: H // W, "divided by one that depends on W"),
        (lambda: 7 % H, "divided by one that depends on H"),
        (lambda: H // 0, "divided by zero"),
        (lambda: exact_div(H, 0), "divided by zero"),
        (lambda: H // 2 ** (10**5), "divided by more than any input size"),
        (lambda: H * 2 ** (10**5), "becomes too large"),
        *((lambda compare=compare: compare(H, 3), "depends on the free size H") for compare in (lt, le, gt, ge)),
    ],
)
def test_what_cannot_be_computed(compute: Callable[[], object], message: str) -> None:
    with pytest.raises(DimError, match=message):
        compute()


# Sets


@pytest.mark.parametrize(
    ("demands", "said", "python_source"),
    [
        ([], "any", "True"),
        ([at_least(H, 33)], "any from 33", "H >= 33"),
        ([divisible(H, 32)], "multiples of 32", "H % 32 == 0"),
        ([divisible(H, 32), at_least(H, 65)], "multiples of 32, at least 96", "H % 32 == 0 and H >= 96"),
        ([equal(H % 16, 12)], "≡ 12 (mod 16)", "H % 16 == 12"),
        ([equal(H % 16, 12), at_least(H, 180)], "≡ 12 (mod 16), at least 188", "H % 16 == 12 and H >= 188"),
        ([equal(H % 2, 1), at_least(H, 6)], "odd, at least 7", "H % 2 == 1 and H >= 7"),
        ([equal(minimum(H, 100), 2 * H - 60)], "only 60", "H == 60"),
        (
            [divisible(H, 32), equal(256 // 32, 8), at_least(260, H), at_least(H, 224)],
            "only 224, 256",
            "H in (224, 256)",
        ),
        ([at_least(96, H)], "only 1 to 96", "1 <= H <= 96"),
        ([equal(H // 2, 2 * (H // 4))], "≡ 0, 1 (mod 4)", "H % 4 < 2"),
        ([equal(H // 8, 2 * (H // 16))], "≡ 0 to 7 (mod 16)", "H % 16 < 8"),
        ([equal(H // 16, 2 * (H // 32))], "≡ 0 to 15 (mod 32)", "H % 32 < 16"),
        ([at_least(H % 5, 1)], "≢ 0 (mod 5)", "(H - 1) % 5 < 4"),
        ([at_least(H // 3 - H // 5, 4)], "any from 27, and 24", "H >= 27 or H == 24"),
        ([at_least(maximum(7 - H, H - 8), 1)], "any, except 7, 8", "not (H in (7, 8))"),
        (
            [at_least(maximum(minimum(7 - H, H - 2), H - 20), 1)],
            "any from 21, and 3 to 6",
            "H >= 21 or 3 <= H <= 6",
        ),
        ([at_least(3 * (H // 4) - H // 3, 10)], "any from 24, except 27", "H >= 24 and not (H == 27)"),
        ([divisible(minimum(H, 32), 2)], "any from 32, and 2, 4, …, 30", "H >= 32 or 2 <= H <= 30 and H % 2 == 0"),
        ([at_least(2, H + 3)], "none", "False"),
        ([divisible(H // 2**40, 2)], "≡ 0 to 1099511627775 (mod 2199023255552)", "H % 2199023255552 < 1099511627776"),
    ],
)
def test_sets_are_said_as_people_say_them(demands: list[bool | Constraint], said: str, python_source: str) -> None:
    sizes = narrowed(*demands)
    assert (sizes.describe(), sizes.python("H")) == (said, python_source)
    assert {n for n in range(1, LIMIT) if eval(python_source, {"H": n})} == members(sizes, LIMIT - 1)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({}, ""),
        ({"H": ANY}, "any H"),
        ({"H": ANY, "W": ANY}, "any H, W"),
        ({"H": narrowed(divisible(H, 16)), "W": narrowed(divisible(W, 16))}, "H, W: multiples of 16"),
        ({"H": narrowed(divisible(H, 4)), "W": narrowed(at_least(W, 3))}, "H: multiples of 4; W: any from 3"),
        ({"H": narrowed(equal(H % 16, 12)), "W": ANY}, "H ≡ 12 (mod 16); W: any"),
    ],
)
def test_all_sets_in_a_line(sets: dict[str, SizeSet], said: str) -> None:
    assert describe_sizes(sets) == said


def test_sets_as_data() -> None:
    sizes = narrowed(at_least(H // 3 - H // 5, 4))
    exceptions = {"added": [24], "removed": []}
    assert sizes.as_data() == {"modulus": 1, "residues": [0], "minimum": 27, "exceptions": exceptions}
    assert narrowed(divisible(H // 2**20, 2)).as_data()["residues"] == [{"first": 0, "last": 2**20 - 1, "step": 1}]
    assert narrowed(at_least(5, H)).as_data()["exceptions"] == {"added": [1, 2, 3, 4, 5], "removed": []}


def test_questions_to_a_set() -> None:
    sizes = narrowed(equal(H % 16, 12), at_least(H, 188))
    assert (sizes.minimum, sizes.maximum, sizes.is_empty, sizes.progression) == (188, None, False, (16, 12, 188))
    assert [sizes.nearest(n) for n in (1, 188, 200, 572)] == [(None, 188), (None, 204), (188, 204), (556, 588)]
    assert 188 in sizes and 189 not in sizes and "x" not in sizes
    only = SizeSet.only(224, 256)
    assert (only.minimum, only.maximum, only.progression, only.nearest(300)) == (224, 256, None, (256, None))
    assert SizeSet.nothing().is_empty and SizeSet.nothing().nearest(3) == (None, None)
    assert sizes.intersect(only) == SizeSet.nothing()


def test_equal_sets_are_equal_however_they_came_about() -> None:
    even_or_odd = narrowed(divisible(minimum(H, 10) * 0 + 2 * (H // 2) - H + 2 * H, 1))
    assert even_or_odd == ANY
    fours = narrowed(divisible(H, 2), divisible(H, 4))
    assert fours == narrowed(divisible(H, 4)) and hash(fours) == hash(narrowed(divisible(H, 4)))
    split = narrowed(at_least(maximum(H % 4, 4 * (2 - H) + H % 4), 1))  # 2 and 1 stand apart from the residues
    assert split == narrowed(at_least(H % 4, 1)) and hash(split) == hash(narrowed(at_least(H % 4, 1)))
    assert fours != narrowed(divisible(H, 4), at_least(H, 5)) and fours != 4


# Demands


def test_demands_are_decided_where_they_can_be() -> None:
    assert equal(H // 2 + ceil_div(H, 2), H) is True
    assert equal(2 * H, 2 * (H // 2) + 1 + H % 2 - 1 + H) is True
    assert equal(2 * H, 2 * (H // 3) + 1) is False
    assert (at_least(H, 1), at_least(H // 2, 0), at_least(-H, 0), divisible(6 * H + 3, 3)) == (True, True, False, True)
    assert divisible(6 * H + 2, 3) is False
    assert exact_div(4 * H, 2) == (2 * H, True)
    quotient, demand = exact_div(H, 4)
    assert quotient == H // 4 and isinstance(demand, Constraint) and demand.text == "4 divides H"


def test_a_demand_that_changes_nothing_gives_back_the_set() -> None:
    sizes = narrowed(divisible(H, 8))
    demand = equal(H // 2, 2 * (H // 4))
    assert isinstance(demand, Constraint) and demand.variables == {"H"}
    assert demand.text == "⌊H/2⌋ = 2⌊H/4⌋"
    assert demand.narrow(sizes) is sizes
    assert (fix(demand, {"H": 6}), fix(demand, {"H": 8}), fix(demand, {"W": 8})) == (False, True, demand)


def test_two_free_sizes_are_decided_or_refused() -> None:
    assert equal(2 * H, 4 * (W // 2) + 1) is False
    assert equal(minimum(H, 3), W + 5) is False
    assert at_least(W + 5, minimum(H, 3)) is True
    assert at_least(minimum(H, 3), W + 5) is False
    demand = equal(H, W // 2)
    assert isinstance(demand, Constraint) and demand.variables == {"H", "W"}
    with pytest.raises(DimError, match=r"^this needs H = ⌊W/2⌋, which makes H and W depend on each other") as caught:
        demand.narrow(ANY)
    assert "`input x[3, N, N]`" in str(caught.value.help)
    pinned = fix(demand, {"H": 7})
    assert isinstance(pinned, Constraint) and pinned.narrow(ANY) == SizeSet.only(14, 15)


# Networks


def test_unpadded_unet() -> None:
    demands: list[bool | Constraint] = []
    out = unpadded_unet(H, 4, demands)
    fits = narrowed(*demands)
    assert fits.describe() == "any from 188"
    sizes = narrowed(equal(out, H - 184), start=fits)
    assert describe_sizes({"H": sizes, "W": sizes}) == "H, W ≡ 12 (mod 16), at least 188"
    assert text(out, {"H": sizes}) == "H - 184"
    assert text(out, {"H": fits}) == "16⌊(H + 4)/16⌋ - 188"


@pytest.mark.parametrize("halve", [lambda n: n // 2, lambda n: conv(n, 3, 2, 1)], ids=["pool", "conv"])
@pytest.mark.parametrize("depth", [1, 4, 5, 20])
@pytest.mark.parametrize("deepest_first", [True, False])
def test_padded_unet(depth: int, halve: Callable[[Dim], Dim], deepest_first: bool) -> None:
    demands: list[bool | Constraint] = []
    padded_unet(H, depth, demands, halve)
    sizes = ANY
    for demand in demands if deepest_first else reversed(demands):
        assert isinstance(demand, Constraint)
        sizes = demand.narrow(sizes)
        assert len(sizes.pieces) <= 2, "congruences and bounds, not lists of sizes"
    assert sizes.describe() == f"multiples of {2**depth}"
    assert sizes.progression == (2**depth, 0, 2**depth)


def test_deep_networks() -> None:
    start = time.process_time()
    pooled: Dim = H
    sizes = ANY
    for _ in range(1000):
        sizes = narrowed(at_least(pooled, 2), start=sizes)
        pooled = conv(conv(pooled, 2, 2), 3, 1, 1)
    assert (pooled, text(pooled), sizes.describe()) == (H // 2**1000, "⌊H/2^1000⌋", "any from 2^1000")
    demands: list[bool | Constraint] = []
    padded_unet(H, 300, demands, lambda n: n // 2)
    assert narrowed(*demands).progression == (2**300, 0, 2**300)
    plain: Dim = H
    for _ in range(1000):
        plain = conv(plain, 3)
    assert plain == H - 2000
    assert time.process_time() - start < 5, "a bound that only trying sizes one by one would miss"


@pytest.mark.parametrize(
    ("demands", "count"),
    [
        ([equal(H // 2, 2**18 * (H // 2**19))], 2),
        ([equal(H // 2, 2 * (H // 4)), equal(H // 2**19, 2 * (H // 2**20))], 2**18),
        ([equal(H // 2**19, 2 * (H // 2**20)), divisible(H, 3), equal(H // 2, 2 * (H // 4))], 2**18),
        ([equal(H // 2**9, 2 * (H // 2**10)), equal(H // 2**19, 2 * (H // 2**20)), divisible(H, 2**5)], 2**13),
    ],
)
def test_coarse_and_fine_demands_meet(demands: list[bool | Constraint], count: int) -> None:
    sizes = narrowed(*demands)
    assert sizes.form.pattern is not None and sizes.form.pattern.number == count
    for n in [
        *range(1, 40),
        *range(2**19 - 20, 2**19 + 20),
        *range(3 * 2**19, 3 * 2**19 + 20),
        *range(2**20, 2**20 + 40),
    ]:
        assert (n in sizes) == all(isinstance(d, Constraint) and fix(d, {"H": n}) for d in demands)


def test_what_is_too_intricate_is_refused_in_time() -> None:
    sizes = ANY
    start = time.process_time()
    with pytest.raises(DimError, match="too complex"):
        for p in (101, 103, 107, 109, 113, 127, 131):
            sizes = narrowed(equal(H // p, 2 * (H // (2 * p))), start=sizes)
    assert time.process_time() - start < 5
    deep: Dim = H
    with pytest.raises(DimError, match="too complex"):
        for _ in range(100):
            deep = 2 * deep // 3


# Writing


@pytest.mark.parametrize(
    ("size", "said", "source"),
    [
        (H, "H", "H"),
        (2 * H, "2H", "2 * H"),
        (H - 184, "H - 184", "H - 184"),
        (30 - H, "30 - H", "30 - H"),
        (H // 4, "⌊H/4⌋", "H // 4"),
        (ceil_div(H, 2), "⌈H/2⌉", "(H + 1) // 2"),
        ((H + 1) // 4, "⌊(H + 1)/4⌋", "(H + 1) // 4"),
        (3 * (H // 2) - 1, "3⌊H/2⌋ - 1", "3 * (H // 2) - 1"),
        (2 * H // 3, "⌊2H/3⌋", "2 * H // 3"),
        (-(H // 2), "-⌊H/2⌋", "-(H // 2)"),
        (H % 2, "H - 2⌊H/2⌋", "H - 2 * (H // 2)"),
        (minimum(H, 32), "min(H, 32)", "min(H, 32)"),
        (minimum(H, 32) - 2, "min(H - 2, 30)", "min(H, 32) - 2"),
        (2 * maximum(H // 2, 7), "2max(⌊H/2⌋, 7)", "2 * max(H // 2, 7)"),
        ((2 * (H // 3)) // 5, "⌊2⌊H/3⌋/5⌋", "2 * (H // 3) // 5"),
        (H * 2**70, "2^70H", "1180591620717411303424 * H"),
    ],
)
def test_sizes_are_written(size: Dim, said: str, source: str) -> None:
    assert (text(size), python(size)) == (said, source)
    assert all(eval(source, {"H": n}) == evaluate(size, {"H": n}) for n in range(1, 60))
    shape = python(size, {"H": "x.shape[2]"})
    assert shape == source.replace("H", "x.shape[2]")


@pytest.mark.parametrize(
    ("size", "demand", "said"),
    [
        (H // 4, divisible(H, 8), "H/4"),
        (3 * (H // 4), divisible(H, 8), "3H/4"),
        (ceil_div(H, 2), divisible(H, 2), "H/2"),
        (ceil_div(H, 2), equal(H % 2, 1), "(H + 1)/2"),
        (H // 2 - 3, divisible(H, 2), "H/2 - 3"),
        (H // 4, divisible(H, 2), "⌊H/4⌋"),
        (minimum(H, 32), at_least(H, 32), "32"),
        (minimum(H, 32), at_least(20, H), "H"),
        (minimum(H // 2, 32), equal(minimum(H, 6) * 2, H), "6"),
        (H // 3, equal(H % 6, 3), "H/3"),
        (H % 3, equal(H % 6, 3), "0"),
        (H // 2, divisible(minimum(H, 8), 8), "⌊H/2⌋"),
    ],
)
def test_division_is_exact_where_the_valid_sizes_make_it_so(size: Dim, demand: bool | Constraint, said: str) -> None:
    assert text(size, {"H": narrowed(demand)}) == said


# Against brute force


Function = Callable[[int], int]


def random_size(r: random.Random) -> tuple[Dim, Function]:
    """A size as computed by a network, and the same as a plain function."""
    steps: list[tuple[Dim, Function]] = [(H, lambda n: n)]
    for _ in range(r.randint(1, 8)):
        n, f = steps[-1]
        other, g = r.choice(steps)
        stride, kernel, pad, dilation = r.randint(1, 4), r.randint(1, 6), r.randint(0, 3), r.randint(1, 2)
        match r.choice(["conv", "conv", "pool", "ceil", "upsample", "upconv", "crop", "pad", "difference", "limit"]):
            case "conv":
                reach = 2 * pad - dilation * (kernel - 1) - 1
                n, f = conv(n, kernel, stride, pad, dilation), lambda x, f=f, c=reach, s=stride: (f(x) + c) // s + 1
            case "pool":
                n, f = n // stride, lambda x, f=f, s=stride: f(x) // s
            case "ceil":
                n = minimum(ceil_div(n + 2 - kernel, 2) + 1, ceil_div(n + 1, 2))
                f = lambda x, f=f, k=kernel: min(-((k - 2 - f(x)) // 2) + 1, -(-(f(x) + 1) // 2))  # noqa: E731
            case "upsample":
                n, f = n * stride, lambda x, f=f, s=stride: f(x) * s
            case "upconv":
                n, f = (n - 1) * stride + kernel, lambda x, f=f, s=stride, k=kernel: (f(x) - 1) * s + k
            case "crop":
                n, f = minimum(n, other), lambda x, f=f, g=g: min(f(x), g(x))
            case "pad":
                n, f = maximum(n, other), lambda x, f=f, g=g: max(f(x), g(x))
            case "difference":
                n, f = n - other, lambda x, f=f, g=g: f(x) - g(x)
            case _:
                n, f = minimum(n, 5 * kernel), lambda x, f=f, c=5 * kernel: min(f(x), c)
        steps.append((n, f))
    return steps[-1]


def random_demand(r: random.Random) -> tuple[bool | Constraint, Callable[[int], bool]]:
    n, f = random_size(r)
    offset = r.choice([0, 0, 0, r.randint(-3, 3)])
    match r.choice(["equal", "equal", "least", "divisible", "number"]):
        case "equal":
            m, g = random_size(r) if r.random() < 0.6 else (H, lambda x: x)
            return equal(n, m + offset), lambda x: f(x) == g(x) + offset
        case "number":
            return equal(n, 7 + offset), lambda x: f(x) == 7 + offset
        case "least":
            m, g = random_size(r) if r.random() < 0.3 else (2, lambda x: 2)
            return at_least(n, m + offset), lambda x: f(x) >= g(x) + offset
        case _:
            k = r.randint(2, 6)
            return divisible(n + offset, k), lambda x: (f(x) + offset) % k == 0


@given(st.integers(0, 10**9))
def test_sizes_are_those_of_plain_arithmetic(seed: int) -> None:
    size, f = random_size(random.Random(seed))
    source = compile(python(size), "size", "eval")
    for n in range(1, 120):
        assert evaluate(size, {"H": n}) == f(n) == eval(source, {"H": n, "min": min, "max": max})


@pytest.mark.parametrize("chunk", range(8))
def test_the_valid_sizes_are_those_of_brute_force(chunk: int) -> None:
    kinds = set()
    for seed in range(50 * chunk, 50 * chunk + 50):
        r = random.Random(seed)
        sizes, valid = ANY, set(range(1, LIMIT + 1))
        for _ in range(r.randint(1, 4)):
            demand, holds = random_demand(r)
            narrower = {n for n in valid if holds(n)}
            if isinstance(demand, bool):
                assert {holds(n) for n in range(1, LIMIT + 1)} == {demand}, seed
                sizes = sizes if demand else SizeSet.nothing()
            else:
                before, sizes = sizes, demand.narrow(sizes)
                assert (sizes is before) == (sizes == before)
            valid = narrower
            assert members(sizes) == valid, seed
        kinds.add(sizes.describe())
        check_a_set(sizes, valid, r)
    assert len(kinds) > 5


def check_a_set(sizes: SizeSet, valid: set[int], r: random.Random) -> None:
    """All properties of a set agree with its members up to LIMIT."""
    source = compile(sizes.python("H"), "set", "eval")
    assert {n for n in range(1, LIMIT + 1) if eval(source, {"H": n})} == valid
    data = sizes.as_data()
    modulus, minimum, residues = data["modulus"], data["minimum"], data["residues"]
    exceptions = data["exceptions"]
    assert isinstance(residues, list) and isinstance(exceptions, dict)
    regular = {n for n in range(1, LIMIT + 1) if modulus and n >= minimum and n % modulus in residues}  # type: ignore
    if all(isinstance(n, int) for n in (*residues, *exceptions["added"])):
        assert (regular | {*exceptions["added"]} - {n for n in exceptions["added"] if n > LIMIT}) - {
            *exceptions["removed"]
        } == valid
    for n in r.sample(range(1, LIMIT), 10):
        below, above = sizes.nearest(n)
        assert below == max((m for m in valid if m < n), default=None)
        assert above == min((m for m in valid if m > n), default=above)
        assert above is None or above in sizes
