"""Members in an nn.ModuleList: the proof follows the numbers in the text."""

from __future__ import annotations

import pytest

from archdsl.backends.torch_source import Plainness
from archdsl.compiler import prove_build
from archdsl.graph import Graph
from archdsl.proof import Unproved, prove
from tests.helpers import graph_of, net_text

BODY = """
    ("convs.0": conv(4, 3), "convs.1": conv(4, 3), "convs.2": conv(4, 3)) -> concat
    "inner.0.0": conv(4, 1) -> relu -> "inner.1.0": conv(4, 1)
    ("sides.left": conv(4, 1), "sides.right": conv(4, 3)) -> add
"""


@pytest.fixture(scope="module")
def net() -> Graph:
    return graph_of(net_text(BODY, "x[4, 6, 6]"))


@pytest.fixture(scope="module")
def text(net: Graph) -> str:
    found = prove_build(net)
    assert found.plainness is Plainness.READABLE, found.refused
    return found.text


def test_numbered_members_are_a_list(text: str) -> None:
    assert "torch.cat([self.convs[0](x), self.convs[1](x), self.convs[2](x)], 1)" in text
    assert "self.inner[1](self.relu(self.inner[0](x)))" in text
    assert "get_submodule" not in text


TABLES = {
    '"a.1": conv(4, 3) -> "a.2": conv(4, 3)': ("nn.ModuleDict(", 'self.a["2"](self.a["1"](x))'),
    '"a.0": conv(4, 3) -> "a.b": conv(4, 3)': ("nn.ModuleDict(", 'self.a["b"](self.a["0"](x))'),
    '"a.0": conv(4, 3) -> "a.1.x": conv(4, 3)': ('nn.ModuleDict({"x"', 'self.get_submodule("a.1.x")(self.a[0](x))'),
    '"a.0.0": conv(4, 3) -> "a.0.1": conv(4, 3)': ("nn.ModuleList([nn.ModuleList(", 'self.get_submodule("a.0.1")('),
}


@pytest.mark.parametrize("body", TABLES)
def test_other_names_are_a_table(body: str) -> None:
    found = prove_build(graph_of(net_text(body, "x[4, 6, 6]")))
    assert found.plainness is Plainness.READABLE, found.refused
    written = "".join(found.text.replace(" ", "").split())
    assert all("".join(part.split()) in written for part in TABLES[body]), found.text
    assert "add_module" not in found.text


def test_what_is_no_list_stays_as_it_is_called() -> None:
    for body in (
        '"a.0": conv(4, 3) -> "a.1": scale(1.0)',
        '"a.0": conv(4, 3)\n for i in 1..9 { "a.{i}": conv(4, 3) }',
        '"a.keys": conv(4, 3) -> "a.1": conv(4, 3)',
    ):
        found = prove_build(graph_of(net_text(body, "x[4, 6, 6]")))
        assert found.plainness is Plainness.READABLE, found.refused
        assert "self.a = nn.Module" in found.text and "nn.ModuleList" not in found.text


WRONG = {
    "others in another order": ("self.convs[1](x), self.convs[2](x)", "self.convs[2](x), self.convs[1](x)"),
    "one twice": ("self.convs[1](x)", "self.convs[0](x)"),
    "one that is not there": ("self.convs[2](x)", "self.convs[3](x)"),
    "several at once": ("self.convs[2](x)", "self.convs[2:](x)"),
    "the list itself": ("self.convs[2](x)", "self.convs(x)"),
    "a layer outside its sequence": ("nn.Sequential(nn.Conv2d(4, 4, 1, **kw))", "nn.Conv2d(4, 4, 1, **kw)"),
    "a sequence for the list": ("nn.ModuleList", "nn.Sequential"),
    "another name in the table": ('"left": ', '"centre": '),
    "one that is not in the table": ('self.sides["left"](x)', 'self.sides["keys"](x)'),
    "a list for the table": ("nn.ModuleDict(\n", "nn.ModuleList(\n"),
}


@pytest.mark.parametrize(("right", "wrong"), WRONG.values(), ids=WRONG)
def test_refuses_wrong_numbers(net: Graph, text: str, right: str, wrong: str) -> None:
    assert right in text
    with pytest.raises(Unproved):
        prove(text.replace(right, wrong, 1), net)
