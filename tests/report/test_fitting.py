"""Tables on terminals: nothing breaks inside a word or number, at any width."""

import re

import pytest

from archdsl.common.source import Source
from archdsl.compiler import check, diff
from archdsl.report import compare
from archdsl.report.compare import common_sizes
from archdsl.report.fitting import fitted, folded
from archdsl.report.layers import Layers, Options
from archdsl.report.shown import report
from archdsl.report.tables import Column, Table, short, shown
from archdsl.report.totals import side_by_side

SPECS = ("resnet:resnet18", "densenet:densenet121", "unet:unet")


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    graphs = [check(spec) for spec in SPECS]
    models = [Layers(graph, Options()) for graph in graphs]
    found = {spec: report([model], 80).table for spec, model in zip(SPECS, models, strict=True)}
    found["models"] = side_by_side(models)
    found["diff"] = compare.table(diff(check("resnet:resnet18"), check("resnet:resnet50")))
    return found


@pytest.mark.parametrize("width", [40, 60, 80, 100, 132, 200])
@pytest.mark.parametrize("name", [*SPECS, "models", "diff"])
def test_lines_fit_and_no_word_breaks(tables: dict[str, Table], name: str, width: int) -> None:
    table = tables[name]
    text, left_out = fitted(table, width)
    lines = text.splitlines()
    kept = [c for c in table.columns if c.key not in left_out]
    assert width < 80 or max(map(len, lines)) <= width
    assert [c.key for c in kept][:2] == [c.key for c in table.columns if c.rank == 0][:2] or kept[0].key == "model"
    # Every word of the table stands whole in the text; a path may break behind its dots only.
    words = set(re.split(r"[\s.]+", text))
    for row in (*table.rows, *([table.total] if table.total else [])):
        for column, cell in zip(table.columns, row, strict=True):
            if column in kept:
                assert any(set(re.split(r"[\s.]+", form(column, cell))) <= words for form in (shown, short)), cell


def test_a_wider_terminal_has_more_columns_and_then_all_digits(tables: dict[str, Table]) -> None:
    found = [fitted(tables["resnet:resnet18"], width) for width in (80, 90, 110, 140)]
    counts = [len(left_out) for _, left_out in found]
    assert counts == sorted(counts, reverse=True) and counts[0] and not counts[-1]
    assert "11.7 M" in found[0][0] and "11,689,512" in found[-1][0]


def test_units_and_columns_are_the_users() -> None:
    graph = check("resnet:resnet18")
    model = Layers(graph, Options(graph.examples, columns=("path", "flops", "parameters")))
    assert [c.key for c in model.table.columns] == ["path", "flops", "parameters"]
    assert "11,689,512" in fitted(model.table, 40, "raw", whole=True)[0]
    assert "11.7 M" in fitted(model.table, units="short")[0]
    with pytest.raises(ValueError, match="no column 'flop'; the columns are path, operation"):
        assert Layers(graph, Options(columns=("flop",))).table


def test_formulas_that_are_too_wide_are_numbers_at_the_shown_sizes() -> None:
    found = report([Layers(check("resnet:resnet18"), Options())], 80)
    assert "64 × 112 × 112" in found.table.as_text() and "H = 224, W = 224, for lack of room" in found.notes[0]
    assert "⌈" in report([Layers(check("resnet:resnet18"), Options())], 400).table.as_text()


def test_sizes_and_amounts_stay_on_one_line() -> None:
    table = Table((Column("a", "a", prose=True),), [("about 64 × 112 × 112 at 97.7 MiB in all of it",)])
    lines = fitted(table, 18)[0].splitlines()[2:]
    assert lines == ["about", "64 × 112 × 112 at", "97.7 MiB in all of", "it"]
    assert folded("memory: 97.7 MiB", 14) == "memory:\n  97.7 MiB\n"


INPUT = "model m() {{\n input x[{0}, H = {1}, W = {1}]\n conv(4, 3, pad = same)\n {2}\n}}"


@pytest.mark.parametrize(
    ("before", "after", "common"),
    [
        ((3, 64, "relu"), (3, 64, "relu"), None),
        ((1, 64, "relu"), (3, 32, "relu"), 64),
        ((3, 30, "relu"), (3, 32, "pixel_unshuffle(4)"), 32),
    ],
)
def test_two_networks_are_compared_at_a_common_size(
    before: tuple[int, int, str], after: tuple[int, int, str], common: int | None
) -> None:
    old, new = (check(Source("m.arch", INPUT.format(*case))) for case in (before, after))
    wanted = {} if common is None else {"H": common, "W": common}
    assert common_sizes(old, new) == (wanted, wanted)


def test_networks_without_a_common_size_say_so() -> None:
    lines = dict(compare.totals(diff(check("unet:unet"), check("unet:unet_padded"))))
    assert lines["compared at"] == "H = 572, W = 572 → H = 256, W = 256: no input size is valid for both"
