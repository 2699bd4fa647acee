"""Layers in series across the borders of blocks, which the module around recomputes together."""

from __future__ import annotations

import pytest
import torch

from archdsl.analysis.layout import Layout
from archdsl.backends.torch_source import Plainness, write_module
from archdsl.built import execute
from archdsl.common.choices import Budget
from archdsl.graph import Graph
from archdsl.graph.series import Series
from archdsl.proof import prove
from archdsl.transform.crossing import crossing
from archdsl.transform.fitting import Search, fitted
from archdsl.transform.parallel import parallel
from archdsl.transform.recompute import Recompute
from tests.helpers import graph_of, net_text
from tests.modules import inputs
from tests.transform.test_recompute import agrees
from tests.transform.test_series import text_of

LEVEL = """
    block double(width) { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm -> relu }
    block level(width, depth) {
        encode: double(width)
        if depth > 0 {
            (it, maxpool(2) -> inner: level(2 * width, depth - 1) -> up: upconv(width, 2)) -> concat
            decode: double(width)
        }
    }
"""

PLAIN = """
    block one(width) { conv(width, 3) -> batchnorm -> relu }
    block bottleneck(width) { residual { a: one(width) -> b: one(width) } }
"""


DOWN_AND_UP = "a: one(4) -> maxpool(3) -> b: one(6) -> up: upconv(4, 2)\n"


def found(graph: Graph) -> dict[str, Series]:
    return {series.path: series for series in crossing(graph, Layout.of(graph))}


def taken(graph: Graph, *paths: str) -> Recompute:
    every = found(graph)
    return Recompute(series=frozenset(every[path] for path in paths))


def test_lead_from_the_last_layers_of_a_block_to_the_first_ones_of_the_next() -> None:
    assert list(found(graph_of(net_text("a: one(4) -> b: one(4) -> conv(2, 1)", before=PLAIN)))) == [
        "a…b.0",
        "a.1…b.0",
        "a.1…2",
        "b.1…2",
    ]


def test_take_a_concat_with_what_leads_to_it_and_what_reads_it() -> None:
    every = found(graph_of(net_text("level(2, 1) -> conv(1, 1)", before=LEVEL)))
    assert "0.inner.encode.4…decode.0" in every and "0.inner.encode.4…up" in every
    assert "0.4…decode.0" in every


def test_take_the_align_before_a_concat() -> None:
    every = found(graph_of(net_text(f"{DOWN_AND_UP} (a, up) -> align -> concat -> c: one(4)", before=PLAIN)))
    assert {"b.1…up", "b.1…c.0", "4…c.0"} <= every.keys()


@pytest.mark.parametrize(
    "joined",
    [
        "(a, up) -> align -> (p, q): it\n (q, p) -> concat",  # in another order
        "(a, up) -> align -> (p, q): it\n (p, q, q) -> concat",
        "(a, up) -> align -> (p, q): it\n (p, q) -> r: concat\n (p, r) -> concat",
        "(up, up) -> align -> concat",
    ],
)
def test_no_align_that_gives_something_else_than_the_concat_takes(joined: str) -> None:
    graph = graph_of(net_text(f"{DOWN_AND_UP} {joined} -> c: one(4)", before=PLAIN))
    assert not any(node.operation.name == "align" for s in found(graph).values() for node in s.nodes())


@pytest.mark.parametrize(
    "body",
    [
        "share c: one(4)\n c -> c",  # shared
        "a: one(4) -> flatten -> linear(3)",  # a function, not a module, between them
        "a: one(4) -> b: { (it, tanh) -> add }",  # read twice within the next one
    ],
)
def test_none_that_something_else_reads(body: str) -> None:
    assert not found(graph_of(net_text(body, before=PLAIN)))


def test_no_concat_of_a_tensor_with_itself_or_of_one_that_comes_later() -> None:
    alike, later = (
        found(graph_of(net_text(f"a: one(4)\n {body} -> conv(2, 1)", before=PLAIN)))
        for body in ("(a, a) -> concat", "b: one(4)\n (b -> relu, a -> tanh) -> concat")
    )
    assert not alike
    assert not any("b.1" in path and path.endswith("…5") for path in later)


BODIES = [
    ("level(2, 1) -> conv(1, 1)", LEVEL),
    pytest.param("level(2, 2) -> conv(1, 1)", LEVEL, marks=pytest.mark.long),
    ("one(4) -> one(6) -> one(4) -> conv(2, 1) -> relu", PLAIN),
    ("bottleneck(4) -> one(6) -> bottleneck(6) -> conv(2, 1)", PLAIN),
    ("a: { b: { conv(4, 3) -> relu } -> tanh } -> conv(4, 3) -> c: { d: { gelu -> conv(3, 3) } -> silu }", ""),
    ("repeat 3 { one(4) }\n dropout(0.5) -> one(4)", PLAIN),
    ('"a-b": one(4) -> children: { one(4) -> train: one(4) -> conv(2, 1) } -> relu', PLAIN),
    ("a: one(4)\n b: one(4)\n (a, it, b -> relu -> conv(2, 3)) -> concat -> one(4)", PLAIN),
    ("a: one(4) -> maxpool(2) -> b: one(6) -> up: upconv(4, 2)\n (up, a) -> concat -> one(4)", PLAIN),
    ("a: one(4) -> conv(2, 1) -> up: upconv(4, 1)\n (up, a, a) -> add -> one(4)", PLAIN),
    ("a: one(4) -> conv(4, 1) -> b: one(4) -> c: conv(4, 1)\n (a, b, c, it) -> concat -> one(4)", PLAIN),
    ("a: one(4)\n (it -> relu -> conv(2, 3), a) -> concat -> c: one(4)", PLAIN),
    (f"{DOWN_AND_UP} (up, a) -> align -> concat -> one(4)", PLAIN),
    (f"{DOWN_AND_UP} (a -> relu, up, a -> conv(3, 5)) -> align(pad) -> concat -> c: one(4)", PLAIN),
    pytest.param(
        f"{DOWN_AND_UP} (a, up, it -> relu) -> align(resize) -> concat -> c: one(4)", PLAIN, marks=pytest.mark.long
    ),
]


@pytest.mark.parametrize(("body", "before"), BODIES)
def test_computes_the_same(body: str, before: str) -> None:
    """Every one by itself, and as many as do not overlap; these in every form of a file."""
    graph = graph_of(net_text(body, before=before))
    every = list(found(graph).values())
    together: list[Series] = []
    for series in every[::-1]:
        inside = {node.id for node in series.nodes()}
        if all(inside.isdisjoint(node.id for node in other.nodes()) for other in together):
            together.append(series)
    for chosen in (together, *([series] for series in every)):
        again = Recompute(series=frozenset(chosen))
        agrees(graph, again)
        for plainness in Plainness if chosen is together else (Plainness.READABLE,):
            prove(write_module(graph, recompute=again, plainness=plainness), graph, recompute=again)


def test_is_written_where_the_module_around_calls_both_blocks() -> None:
    graph = graph_of(net_text("level(2, 1) -> conv(1, 1)", before=LEVEL))
    text = text_of(graph, taken(graph, "0.inner.encode.4…decode.0"))
    assert "(x,), y, (), *list(self.inner.encode)[4:], self.up, None, self.decode[0]" in text
    assert '"""Without the layers that the module around recomputes with others."""' in text
    assert "for layer in layers[1:6]:" in text and "for layer in layers[:4]:" in text


def test_is_written_with_the_function_that_aligns_before_a_concat() -> None:
    graph = graph_of(net_text(f"{DOWN_AND_UP} (a, up) -> align(pad) -> concat -> c: one(4)", before=PLAIN))
    text = text_of(graph, taken(graph, "b.1…c.0"))
    assert "pad_to_largest, (x,), y, (), *list(self.b)[1:], self.up, None, self.c[0]" in text


def test_is_written_with_the_skip_that_it_gives() -> None:
    graph = graph_of(net_text("level(2, 1) -> conv(1, 1)", before=LEVEL))
    text = text_of(graph, taken(graph, "0.encode.4…inner.encode.0"))
    assert (
        "= recomputed_branch(\n            x, *list(self.encode)[4:], None, self.maxpool, self.inner.encode[0]" in text
    )


def test_is_written_in_a_sequence_by_paths() -> None:
    graph = graph_of(net_text("s: { one(4) -> one(4) -> conv(2, 1) }", before=PLAIN))
    text = text_of(graph, taken(graph, "s.0.1…1.0", "s.1.1…2"))
    paths = [f'self.get_submodule("{path}"),\n' for path in ("0.1", "0.2", "1.0")]
    assert (12 * " ").join(paths) in text
    assert 'input, self.get_submodule("1.1"), self.get_submodule("1.2"), layers[2]' in text


def test_compiles_as_one_graph_and_exports() -> None:
    graph = graph_of(net_text("level(2, 1) -> one(2) -> one(2)", before=LEVEL + PLAIN))
    again = taken(graph, "0.inner.encode.4…decode.0", "1.1…2.0")
    given = inputs(graph, dtype=torch.float32)
    model = execute(text_of(graph, again), "net").Net()
    seen = torch.compile(model, backend="aot_eager", fullgraph=True)(*given)
    seen.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    exported = torch.export.export(model.eval(), tuple(given)).module()
    torch.testing.assert_close(exported(*given), model(*given))


def test_calls_no_layer_of_what_is_sharded_together() -> None:
    """Its weights are there only while its own `forward` runs."""
    graph = graph_of(net_text("level(4, 2) -> conv(1, 1)", "x[3, 16, 16]", LEVEL))
    units = parallel(graph).scopes
    limit = Search(graph, Budget(0, 16)).plain.peak * 7 // 10
    alone, together = (fitted(graph, Budget(limit, 16), given).again.series for given in ((), units))
    assert any(not {*s.ends, *s.begins}.isdisjoint(units) for s in alone)
    assert together and all({*s.ends, *s.begins}.isdisjoint(units) for s in together)


def test_makes_half_of_the_memory_cheaper() -> None:
    """The time that they take is less than that of whatever else fits."""
    graph = graph_of(net_text("level(8, 3) -> conv(1, 1)", "x[3, 64, 64]", LEVEL))
    search = Search(graph, Budget(0, 32))
    half = search.plain.peak * 6 // 10
    with_them = search.within(half)
    search.candidates = [c for c in search.candidates if not any(s.crosses for s in c.again.series)]
    search.known.clear()
    without = search.within(half)
    assert with_them is not None and (without is None or with_them.time < without.time - 0.02)
