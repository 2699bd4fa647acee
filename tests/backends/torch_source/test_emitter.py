"""Statements of a constructor while it is written: blocks, and what is put before them."""

from __future__ import annotations

from archdsl.backends.python.printer import lines
from archdsl.backends.python.tree import Assign, Do, For, Var
from archdsl.backends.torch_source.emitter import Emitter


def loop(name: str) -> For:
    return For(Var(name), Var("items"))


def test_statements_go_into_the_innermost_open_block() -> None:
    code = Emitter()
    outer, inner = loop("a"), loop("b")
    code.add(outer)
    with code.within(outer.body):
        code.add(inner)
        with code.within(inner.body):
            code.add(Do(Var("x")))
        code.add(Do(Var("y")))
    code.add(Do(Var("z")))
    assert lines(code.top) == ["for a in items:", "    for b in items:", "        x", "    y", "z"]


def test_what_is_put_before_the_open_blocks_stays_in_order() -> None:
    code = Emitter()
    code.put_before(Do(Var("first")))
    outer, inner = loop("a"), loop("b")
    code.add(Assign(Var("n"), Var("m")), outer)
    with code.within(outer.body):
        code.put_before(Do(Var("second")))
        code.add(inner)
        with code.within(inner.body):
            code.put_before(Do(Var("third")))
            code.add(Do(Var("x")))
    assert lines(code.top) == [
        *("first", "n = m", "second", "third"),
        *("for a in items:", "    for b in items:", "        x"),
    ]


def test_a_block_is_open_while_it_is_written() -> None:
    code = Emitter()
    outer, later = loop("a"), loop("b")
    code.add(outer)
    with code.within(outer.body):
        assert code.is_open(outer.body) and code.is_open(code.top)
    code.add(later)
    with code.within(later.body):
        assert not code.is_open(outer.body) and code.is_open(code.top)
