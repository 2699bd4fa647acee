"""The passes of the generator on small bodies: what is folded, what flows, and which expression a number gets."""

from __future__ import annotations

import pytest

from archdsl.backends.python.tree import Binary, Const, Expr, Item, Var
from archdsl.backends.torch_source.cells import Cell, cells
from archdsl.backends.torch_source.flow import Action, Call, Decision, Rounds, Router
from archdsl.backends.torch_source.fold import CannotMerge, CannotReroll, Choice, Entry, Folder, Group, Leaf, Loop
from archdsl.backends.torch_source.numbers import Frame, Numbers
from archdsl.backends.torch_source.plan import Heading, Parameter, Plan
from archdsl.common.source import Source
from archdsl.compiler import check
from archdsl.graph import Node


def calls(block: str, model: str) -> list[Cell]:
    """The cells of the calls of block `a`, in order."""
    graph = check(Source("net.arch", f"block a({block}\nmodel net {{\n input x[4, 8, 8]\n {model}\n}}"))
    found = [c for c in cells(graph) if c.scope.definition is not None and c.scope.definition.name == "a"]
    return sorted(found, key=lambda c: c.scope.span.start)


def shown(entries: list[Entry]) -> str:
    """The entries as text: `conv [2: relu] (conv | tanh)` for a loop and a choice."""
    texts: list[str] = []
    for entry in entries:
        match entry:
            case Leaf():
                member = entry.steps[0].member
                texts.append(member.operation.name if isinstance(member, Node) else member.scope.name)
            case Loop():
                texts.append(f"[{','.join(map(str, entry.counts))}: {shown(entry.body)}]")
            case Choice():
                texts.append(f"({' | '.join(shown(b.body) for b in entry.branches)})")
    return " ".join(texts)


@pytest.mark.parametrize(
    ("block", "model", "expected"),
    [
        ("n) { conv(n, 3) -> relu }", "a(2) -> a(4)", "conv relu"),
        ("n) { repeat n { conv(4, 3) -> relu } }", "a(3) -> a(5)", "[3,5: conv relu]"),
        # Two rounds of one step take no more room than a loop of them.
        ("n) { repeat n { relu } }", "a(2) -> a(2)", "relu relu"),
        ("n) { if n > 2 { relu }\n conv(n, 3) }", "a(2) -> a(4)", "(relu) conv"),
        ("n) { if n > 2 { relu } else { tanh -> conv(n, 1) } }", "a(2) -> a(4)", "(relu | tanh conv)"),
        # What all calls have is no choice, and a loop of one round or none is one.
        ("n) { if n > 2 { relu } else { tanh } }", "a(4) -> a(6)", "relu"),
        ("n) { conv(4, 3)\n repeat n { relu } }", "a(0) -> a(1)", "conv (relu)"),
        ("n) { for i in 0..n { conv(4, 3)\n if i > 0 { relu }\n tanh } }", "a(3)", "[3: conv (relu) tanh]"),
        ("n) { residual if n > 2 { conv(4, 3) } }", "a(2) -> a(4)", "conv (add)"),
    ],
)
def test_fold(block: str, model: str, expected: str) -> None:
    found = calls(block, model)
    assert shown(Folder(frozenset()).fold_cells(found, Group(len(found)))) == expected


def test_calls_of_other_structure_do_not_fold() -> None:
    found = calls("f) { f }", "a(relu) -> a(tanh)")
    assert (
        shown(Folder(frozenset()).fold_cells(found, Group(2))) == "relu"
    )  # one place of the spec; forms are settled later
    with pytest.raises(CannotMerge):
        Folder(frozenset(), branches=False).fold_cells(
            calls("n) { if n > 2 { relu }\n tanh }", "a(2) -> a(4)"), Group(2)
        )


def flowing(actions: list[Action]) -> str:
    """The actions as text, with the values that are joined or carried on."""
    texts: list[str] = []
    for action in actions:
        match action:
            case Call():
                member = action.leaf.steps[0].member
                assert isinstance(member, Node)
                optional = "?" if action.optional is not None else ""
                texts.append(f"{member.operation.name}{optional}/{len(action.inputs)}")
            case Decision():
                texts.append(f"({' | '.join(map(flowing, action.branches))}; {len(action.joins)} joined)")
            case Rounds():
                texts.append(f"[{flowing(action.body)}; {len(action.carried)} carried]")
    return " ".join(texts)


@pytest.mark.parametrize(
    ("block", "model", "expected"),
    [
        ("n) { residual { conv(4, 3) -> relu } }", "a(2) -> a(4)", "conv/1 relu/1 add/2"),
        # One module more or less is an nn.Identity where it is not; more than one are a condition.
        ("n) { if n > 2 { act: relu }\n conv(4, 3) }", "a(2) -> a(4)", "relu?/1 conv/1"),
        ("n) { if n > 2 { relu -> tanh }\n conv(4, 3) }", "a(2) -> a(4)", "(relu/1 tanh/1; 1 joined) conv/1"),
        ("n) { repeat n { conv(4, 3) -> relu } }", "a(3) -> a(5)", "[conv/1 relu/1; 1 carried]"),
        # A skip from before the loop is no value that the loop changes.
        (
            "n) { s: relu\n repeat n { conv(4, 3)\n (it, s) -> add } }",
            "a(3) -> a(5)",
            "relu/1 [conv/1 add/2; 1 carried]",
        ),
        ("n) { residual if n > 2 { conv(4, 3) } }", "a(2) -> a(4)", "conv/1 (add/2; 1 joined)"),
    ],
)
def test_flow(block: str, model: str, expected: str) -> None:
    found = calls(block, model)
    group = Group(len(found))
    flow = Router().flow(found, group, Folder(frozenset()).fold_cells(found, group))
    assert flowing(flow.actions) == expected
    assert all(v.row == [c.outputs[0] for c in found] for v in flow.outputs)


# ---------------------------------------------------------------- numbers


def numbers(**rows: list[object]) -> Numbers:
    """Those of a class with these parameters, one value a call."""
    group = Group(len(next(iter(rows.values()))))
    found = Numbers(Plan([], [], None), group, parameters={n: Parameter(n, row) for n, row in rows.items()})
    found.frames[group] = Frame(group.count, dict(rows))
    return found


WIDTH = Var("width")
WIDTHS: list[object] = [4, 8, 16]


@pytest.mark.parametrize(
    ("row", "stated", "expected"),
    [
        ([3, 3, 3], None, Const(3)),
        # The spec's expression is taken where it gives every number; what is right in two of three calls is not.
        (
            [9, 17, 33],
            Binary("+", Binary("*", Const(2), WIDTH), Const(1)),
            Binary("+", Binary("*", Const(2), WIDTH), Const(1)),
        ),
        ([8, 16, 33], Binary("*", Const(2), WIDTH), Var("out")),
        ([1, 1, 0], Binary("//", WIDTH, Const(0)), Var("out")),
        # What the spec does not say: a variable, a multiple, a part, a distance, a line through three points.
        ([4, 8, 16], None, WIDTH),
        ([12, 24, 48], None, Binary("*", Const(3), WIDTH)),
        ([2, 4, 8], None, Binary("//", WIDTH, Const(2))),
        ([5, 9, 17], None, Binary("+", WIDTH, Const(1))),
        ([3, 11, 27], None, Binary("-", Binary("*", Const(2), WIDTH), Const(5))),
        # 1, 1.0 and True are three values.
        ([4.0, 8.0, 16.0], None, Var("out")),
        ([7, 7, 8], None, Var("out")),
    ],
)
def test_numbers(row: list[object], stated: Expr | None, expected: Expr) -> None:
    found = numbers(width=WIDTHS)
    assert found.resolve(row, found.group, [], "out", stated) == expected
    assert found.frames[found.group].row(expected) == row


def test_an_element_of_a_list_that_differs_is_said_so_where_it_is_one_number() -> None:
    found = numbers(widths=[(4, 8), (6, 8)])
    second = Item(Var("widths"), Const(1))
    assert found.resolve([8, 8], found.group, [], "out", second) == second
    alike = numbers(widths=[(4, 8), (4, 8)])
    assert alike.resolve([8, 8], alike.group, [], "out", second) == Const(8)


def test_a_bound_name_is_a_parameter_where_nothing_else_has_its_values() -> None:
    found = numbers(width=WIDTHS)
    assert found.bound("n", [4, 8, 16], found.group) == WIDTH
    assert found.bound("n", [5, 5, 5], found.group) == Const(5)
    assert found.bound("n", [9, 2, 4], found.group) == Var("n")
    assert found.parameters["n"].values == [9, 2, 4]


def loop(found: Numbers, counts: list[int]) -> Loop:
    lanes = [i for i, n in enumerate(counts) for _ in range(n)]
    inner = Group(len(lanes), found.group, lanes, rounds=[k for n in counts for k in range(n)])
    made = Loop(found.group, inner, counts, None, ())  # type: ignore[arg-type]
    inner.loop = made
    index = Var("index@1")
    found.plan.headings[made] = Heading(Var("count"), index)
    found.frame(inner).values[index.name] = list(inner.rounds)
    return made


def test_numbers_of_a_loop() -> None:
    found = numbers(width=[4, 8])
    inner = loop(found, [3, 4]).inner
    index = Var("index@1")
    grown: list[object] = [4, 6, 8, 8, 10, 12, 14]
    assert found.progression(grown, inner, 3) == Binary("+", WIDTH, Binary("*", Const(2), index))
    # A number that is the same in all rounds of a call belongs to the call.
    assert found.resolve([4, 4, 4, 8, 8, 8, 8], inner, [], "out") == WIDTH
    # One that no expression gives is a list that the class is given.
    listed = found.resolve([7, 1, 5, 2, 2, 9, 4], inner, [], "out")
    assert isinstance(listed, Var) and found.parameters["outs"].values == [(7, 1, 5), (2, 2, 9, 4)]


def test_a_short_loop_of_unlike_numbers_is_written_out() -> None:
    found = numbers(width=[4, 8])
    with pytest.raises(CannotReroll):
        found.resolve([7, 1, 5, 2, 9, 4], loop(found, [3, 3]).inner, [], "out")
