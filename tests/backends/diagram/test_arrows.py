"""The kinds of arrows, held against what the spec says: whether a skip carries what the other way takes, or has layers
of its own."""

import pytest

from archdsl.backends.diagram.drawing import draw
from archdsl.backends.diagram.picture import Edge, Part
from tests.helpers import graph_of


def edges(text: str, **options: object) -> tuple[Edge, ...]:
    return draw(graph_of(text), **options).drawing.pictures[0][1].edges  # type: ignore[arg-type]


def name(part: Part) -> str:
    return part.nodes[-1].operation.name if part.nodes else part.kind


def kinds(text: str, **options: object) -> set[tuple[str, str, str]]:
    """The last operation of the tail and of the head of each arrow that is none of the flow, and its kind."""
    return {(name(e.tail), name(e.head), e.kind) for e in edges(text, **options) if e.kind != "flow"}


SPLIT = """
model m {
    input x[8, 32, 32]
    conv(16, 3) -> (g, b): split(2)
    (g -> sigmoid, %s) -> add
}
"""


@pytest.mark.parametrize("options", [{}, {"style": "volumes"}], ids=str)
def test_an_identity_skip_carries_what_the_other_way_takes(options: dict[str, object]) -> None:
    assert kinds(SPLIT % "b", **options) == set()
    assert kinds(SPLIT % "g", **options) == {("split", "add", "identity")}
    assert kinds(SPLIT % "b, g", **options) == set()  # one arrow, of which only half is a skip


def test_the_other_result_of_a_block_is_no_skip() -> None:
    both = "block two { conv(16, 3) -> (g, b): split(2)\n output g, b }"
    text = f"{both}\nmodel m {{ input x[8, 32, 32]\n two -> (g, b): it\n (g -> sigmoid, %s) -> add }}"
    assert kinds(text % "b", depth=0) == set()
    assert kinds(text % "g", depth=0) == {("split", "add", "identity")}


def test_a_skip_may_lead_around_a_part_of_the_box_that_it_leaves() -> None:
    both = "block down { conv(8, 3) -> relu -> f: it\n maxpool(2) -> s: it\n output f, s }"
    text = f"{both}\nmodel m {{ input x[8, 32, 32]\n down -> (f, s): it\n (f, s -> conv(8, 3) -> upsample(2)) -> add }}"
    assert ("maxpool", "add", "identity") in kinds(text, depth=0)


def test_a_skip_into_windows_carries_what_the_other_way_takes() -> None:
    text = """model m {
    input x[8, 28, 28]
    conv(16, 3) -> layernorm
    windows(7) { residual { linear(16) -> relu } }
    windows(7) { split(2) -> (g, b): it
        (g -> sigmoid, b) -> add }
}"""
    assert kinds(text) == {("entry", "add", "identity")}


# ---------------------------------------------------------------- projections

GATED = "(it, { global_avgpool -> conv(8, 1) -> relu -> conv(32, 1) -> sigmoid }) -> mul"


@pytest.mark.parametrize("style", ["boxes", "volumes"])
@pytest.mark.parametrize(
    "body",
    [
        "conv(32, 3, 2)",
        "conv(32, 3, 2) -> relu -> conv(32, 3)",
        "conv(32, 3, 2) -> relu -> conv(32, 3) -> relu -> conv(32, 3)",
        f"conv(32, 3, 2) -> relu\n {GATED} -> conv(32, 3)",
        "residual via conv(16, 1, 2) { conv(16, 3, 2) -> relu -> conv(16, 3) } -> conv(32, 3)",
        "residual { conv(16, 3) -> relu -> conv(16, 3) } -> conv(32, 3, 2)",
    ],
)
def test_a_skip_with_its_own_layers_is_a_projection_whatever_the_body_is(style: str, body: str) -> None:
    text = f"model m {{\n input x[16, 32, 32]\n residual via {{ maxpool(2) -> stdconv(32, 1) }} {{ {body} }}\n}}"
    of_skip = [e for e in edges(text, style=style) if {name(e.tail), name(e.head)} & {"maxpool", "stdconv"}]
    assert [e.kind for e in of_skip] == ["projection"] * 3


def test_a_projection_may_branch_and_take_what_else_there_is() -> None:
    text = """model m {
    input x[16, 32, 32], y[16, 32, 32]
    x -> residual via { (maxpool(2), avgpool(2)) -> concat -> conv(32, 1) } { stdconv(32, 3, 2) }
    residual via { (it, y -> stdconv(8, 3, 2) -> relu) -> concat -> conv(8, 1, 2) } { stdconv(8, 3, 2) }
}"""
    found = {(name(e.tail), name(e.head)): e.kind for e in edges(text)}
    dashed = {pair for pair, kind in found.items() if kind == "projection"}
    assert dashed == {
        *(("input", "maxpool"), ("input", "avgpool"), ("maxpool", "concat"), ("avgpool", "concat")),
        *(("concat", "conv"), ("conv", "add"), ("add", "concat"), ("relu", "concat")),
    }


@pytest.mark.parametrize("depth", [1, 2, 9])
def test_each_round_and_call_has_its_own_skip(depth: int) -> None:
    text = """block unit(out, by) {
    residual via { maxpool(by) -> stdconv(out, 1) } { conv(out, 3, by) -> relu
 conv(out, 3) }
    relu
}
model m {
    input x[16, 32, 32]
    for i in 0..2 { residual via { maxpool(2) -> stdconv(8, 1) } { conv(8, 3, 2) } }
    s: { unit(16, 2)
        unit(32, 2) }
}"""
    found: dict[bool, set[str]] = {}
    for edge in edges(text, depth=depth):
        of_skip = not {name(edge.tail), name(edge.head)}.isdisjoint(("maxpool", "stdconv"))
        found.setdefault(of_skip, set()).add(edge.kind)
    assert found == {True: {"projection"}, False: {"flow"}}


@pytest.mark.parametrize(
    "own", ["maxpool(2)", "maxpool(2) -> stdconv(32, 1)", "maxpool(2) -> stdconv(32, 1) -> softmax"]
)
def test_the_trunk_runs_through_the_body_however_long_the_skip_is(own: str) -> None:
    text = f"model m {{\n input x[32, 32, 32]\n residual via {{ {own} }} {{ conv(32, 3, 2) }}\n conv(8, 1)\n}}"
    trunk = draw(graph_of(text)).drawing.pictures[0][1].trunk()
    assert [name(part) for part in trunk] == ["input", "conv", "add", "conv", "output"]
