"""The reported sizes of a network: which line narrowed them."""

from __future__ import annotations

import pytest

from archdsl.diagnostics import SpecError
from archdsl.report import summary as report
from tests.helpers import graph_of


def test_an_expectation_is_named_by_its_line() -> None:
    spec = "model m { input x[3, H, W]\n maxpool(2)\n last: conv(8, 3)\n expect [8, H / 2, 20]\n}\n"
    lines = report.why(graph_of(spec)).splitlines()
    assert "net.arch:2: `maxpool(2)` (`0`) needs" in lines[0]
    assert [line.partition("net.arch:4: ")[2] for line in lines[1:]] == [
        "`expect [8, H / 2, 20]` needs 2 divides H",
        "`expect [8, H / 2, 20]` needs ⌊W/2⌋ = 20",
    ]


def test_an_expectation_behind_a_merge_is_no_error_of_the_merge() -> None:
    spec = (
        "model m { input x[4, H, W]\n maxpool(2)\n (it, relu) -> add\n expect [4, H / 2, 20]\n expect [4, _, 21]\n}\n"
    )
    with pytest.raises(SpecError) as caught:
        graph_of(spec)
    assert [d.code for d in caught.value.diagnostics] == ["E0303"]
