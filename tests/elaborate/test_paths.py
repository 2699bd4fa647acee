"""The paths of items without a label: their positions, and which ones yield their number to a label."""

from __future__ import annotations

import pytest

import archdsl
from archdsl.common.source import Source
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.graph.verifying import verify
from tests.helpers import net_text, source_of


def net(body: str, before: str = "") -> Source:
    return source_of(net_text(body, "x[8, 16, 16]", before))


def keys(graph: Graph) -> list[str]:
    return [
        f"{node.path}.{weight.name}" if weight.name else node.path
        for node in graph.nodes()
        for weight in node.operation.weights(graph.shapes(node.inputs))
    ]


ACT = "block act { gelu }"

# The body, and the paths of all items in order: items without weights yield their numbers.
CASES = [
    ("conv(8, 1) -> relu -> conv(8, 1)", "0 1 2"),
    ('"3": conv(8, 1)\n relu -> relu\n relu', "3 1 2 4"),
    ('"0": conv(8, 7) -> "2": layernorm -> gelu -> "3": conv(8, 1) -> gelu -> "5": conv(8, 1)', "0 2 4 3 6 5"),
    ('relu -> "0": conv(8, 1)', "1 0"),
    ('relu -> relu -> relu -> "0": conv(8, 1)', "3 1 2 0"),
    # A renumbered item yields again, to a label and to an item with weights.
    ('"1": conv(8, 1) -> relu -> "2": conv(8, 1) -> conv(8, 1)', "1 4 2 3"),
    ('"2": conv(8, 1) -> relu -> relu -> conv(8, 1)', "2 1 4 3"),
    ('(relu, "0": conv(8, 1)) -> concat', "1 0 2"),
    ('residual { "1": conv(8, 1) }', "1 2"),
    ('relu -> "0.conv": conv(8, 1)', "1 0.conv"),
    ('"0.conv": conv(8, 1) -> "1": conv(8, 1) -> relu', "0.conv 1 2"),
    ('body: { relu -> "0": conv(8, 1) }', "body.1 body.0"),
    # A block without weights yields its number, and all paths inside it change.
    ('act -> "0": conv(8, 1)', "1.0 0"),
    ('"1": conv(8, 1) -> act', "1 2.0"),
    ('for i in 0..2 { relu -> "{2 * i}": conv(8, 1) }', "1 0 3 2"),
]


@pytest.mark.parametrize(("body", "paths"), CASES)
def test_paths(body: str, paths: str) -> None:
    graph = archdsl.check(net(body, ACT))
    verify(graph)
    assert [node.path for node in graph.nodes()][1:] == paths.split()
    assert [node.id for node in graph.nodes()] == list(range(len(graph)))
    for scope in graph.root.scopes():
        for member in scope.members:
            assert member.path == (f"{scope.path}.{member.name}" if scope.path else member.name)


@pytest.mark.parametrize(("body", "paths"), CASES)
def test_the_module_has_these_keys(body: str, paths: str) -> None:
    spec = net(body, ACT)
    assert sorted(archdsl.load(spec).state_dict()) == sorted(keys(archdsl.check(spec)))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ('"1": conv(8, 1) -> conv(8, 1)', "the one here has no label"),
        ('conv(8, 1) -> "0": conv(8, 1)', "the first one has no label"),
        ('"1": conv(8, 1) -> batchnorm', "the one here has no label"),
        ('"1": conv(8, 1) -> unit', "the one here has no label"),
        ('conv(8, 1) -> "0.conv": conv(8, 1)', "the first one has no label"),
        ('"1": relu -> "1": relu', "two items have the path `1`"),
        ("repeat 2 { a: relu }", "each iteration of the loop"),
    ],
)
def test_what_owns_weights_keeps_its_number(body: str, wanted: str) -> None:
    with pytest.raises(SpecError) as caught:
        archdsl.check(net(body, "block unit { conv(8, 3) }"))
    (error,) = caught.value.diagnostics
    assert error.code == "E0230" and wanted in error.message


def test_one_that_failed_is_no_second_mistake() -> None:
    with pytest.raises(SpecError) as caught:
        archdsl.check(net('conv(8, 3, groups = 3)\n relu -> "1": conv(8, 1)'))
    assert [d.code for d in caught.value.diagnostics] == ["E0302"]
