"""No choice of what is recomputed is faster than the bound that the benchmark of the choices prints."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

import pytest

from archdsl.analysis.simulation import Simulation
from archdsl.common.choices import Budget
from archdsl.transform.fitting import Search
from benchmarks.exact import TINY, antichains, choices, joined
from benchmarks.lower_bound import LowerBound
from tests.helpers import graph_of, net_text

FINE = {
    "parts of two nodes": """
        block norm { batchnorm -> relu }
        model net {
            input x[3, 32, 32]
            left: { conv(8, 3) -> norm -> conv(8, 3) -> norm }
            maxpool(2) -> { conv(16, 3) -> norm }
            (up: { upsample(2) -> conv(8, 3) }, left) -> whole: concat
            conv(8, 3) -> norm
        }""",
    "activations that save their inputs": """
        block norm { batchnorm -> silu }
        model net {
            input x[3, 32, 32]
            conv(16, 3) -> norm -> second: silu
            conv(16, 3) -> norm -> dropout(0.1)
            last: { conv(8, 3) -> hardswish -> lrn(3) }
        }""",
    "activations that save one or the other": """
        block layer(width) { conv(width, 3) -> leaky_relu }
        model net {
            input x[3, 32, 32]
            layer(8) -> layer(8) -> batchnorm -> layer(8) -> conv(8, 3) -> act: leaky_relu
            conv(8, 3)
        }""",
    "a concat in a concat": """
        block join {
            input a[_, _, _], b[_, _, _]
            (a, b) -> concat -> conv(4, 3)
        }
        model net {
            input x[3, 32, 32]
            ({ conv(8, 3) }, { conv(8, 3) }) -> whole: concat
            conv(2, 3) -> more: tanh
            (whole, more) -> join
            conv(8, 3) -> tanh -> conv(8, 3) -> tanh -> conv(4, 3)
        }""",
}


def search_in(text: str, cpu: bool = True) -> Search:
    with patch.object(Simulation, "of", partial(Simulation.of, cpu=cpu)):
        return Search(graph_of(text), Budget(0, 32, optimizer="adam"))


CASES = [*((name, True) for name in TINY), *((name, False) for name in FINE)]


@pytest.mark.parametrize(
    ("name", "cpu"), [pytest.param(*case, marks=[pytest.mark.long] * (case == ("plain", True))) for case in CASES]
)
def test_no_set_of_parts_is_faster(name: str, cpu: bool) -> None:
    text = {**TINY, **FINE}[name]
    search = search_in(text, cpu)
    with patch.object(Simulation, "of", partial(Simulation.of, cpu=cpu)):
        every = [search.plan(joined(parts)) for parts in antichains(choices(search))]
        every += [search.plan(candidate.again) for candidate in search.candidates]
        every.append(search.within(int(0.9 * search.plain.peak)) or search.plain)
        lower = LowerBound(search)
    peaks = sorted({p.peak for p in every})
    least = [lower.within(peak)[0] for peak in peaks]
    for peak, bound in zip(peaks, least, strict=True):
        assert bound <= min(p.time for p in every if p.peak <= peak) + 1e-6
    assert least[-1] == 1
    assert lower.within(0.8 * search.plain.peak)[0] > 1.01
    assert lower.within(peaks[0] // 3)[0] == float("inf")


def test_what_is_not_held_costs_its_work() -> None:
    """A row of equal tensors: each that does not fit is computed again, once."""
    search = search_in(net_text("conv(8, 3) -> mish -> mish -> mish -> mish -> mish -> mish", "x[8, 16, 16]"))
    lower, size = LowerBound(search), 32 * 8 * 16 * 16 * 4
    for dropped in range(4):
        time = lower.time(search.base[None] - dropped * size, None)
        assert time == pytest.approx(1 + dropped * search.works[-1] / (3 * sum(search.works)), rel=1e-6)


def test_a_convolution_behind_a_concat_leaves_less_than_the_beginning_of_the_backward_pass() -> None:
    """It holds the concat, its gradient, and copies of oneDNN."""
    search = search_in(FINE["parts of two nodes"])
    lower, limit = LowerBound(search), search.least().peak
    reader = next(n for n in search.graph.nodes() if any(search.graph.node(t).path == "whole" for t in n.inputs))
    assert lower.time(limit, reader.id) > lower.time(limit, None)
