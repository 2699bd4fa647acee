"""The printer of generated Python: trees in, text out, in lines as ruff format would break them."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from difflib import unified_diff
from random import Random

import pytest

from archdsl.backends.python import printer
from archdsl.backends.python.printer import docstring, lines, text
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import (
    Assign,
    Binary,
    Branches,
    Call,
    Class,
    Comprehension,
    Const,
    Dict,
    Do,
    Doc,
    Expr,
    For,
    Format,
    Function,
    If,
    Import,
    Item,
    Layer,
    List,
    Negative,
    Not,
    Pair,
    Parameter,
    Row,
    Slice,
    Source,
    Star,
    Statement,
    Tuple,
    Var,
    call,
    mapped,
    names_in,
)

A, B, C = Var("a"), Var("b"), Var("c")
LONG = Var("a" * 50)


@pytest.mark.parametrize(
    ("expr", "written"),
    [
        (Binary("*", Binary("+", A, B), C), "(a + b) * c"),
        (Binary("+", A, Binary("+", B, C)), "a + b + c"),
        (Binary("-", A, Binary("-", B, C)), "a - (b - c)"),
        (Binary("//", Binary("*", A, B), C), "a * b // c"),
        (Binary("**", A, Const(2)), "a**2"),
        (Binary("**", A, Const(-2)), "a**-2"),
        (Binary("**", Negative(A), Binary("**", code("self.b"), C)), "(-a) ** self.b**C".replace("C", "c")),
        (Binary("**", Binary("**", A, B), Binary("+", B, C)), "(a**b) ** (b + c)"),
        (Negative(Binary("**", A, B)), "-(a**b)"),
        (Binary("*", Const(8), Binary("**", A, Item(B, C))), "8 * a ** b[c]"),
        (Binary("==", Binary("==", A, B), C), "(a == b) == c"),
        (Binary("and", Binary("or", A, B), Not(Binary("==", B, C))), "(a or b) and not b == c"),
        (If(If(A, B, C), A, If(A, B, C)), "a if (b if a else c) else b if a else c"),
        (
            Item(Binary("+", A, B), Row((Slice(), Slice(None, Const(2)), Slice(A, code("self.b"))))),
            "(a + b)[:, :2, a : self.b]",
        ),
        (call("torch.cat", List((A, Star(B))), Const(1)), "torch.cat([a, *b], 1)"),
        (Call(Const(Layer("nn.Conv2d", (("bias", False),))), (A,)), "partial(nn.Conv2d, bias=False)(a)"),
        (Comprehension(Pair(A, B), Row((A, B)), C, A, "{}"), "{a: b for a, b in c if a}"),
        (Dict((Pair(Const('"'), Const((1,))),)), "{'\"': (1,)}"),
        (Format(("a{", A, '}"')), 'f"a{{{a}}}\\""'),
        (Format(("x", Item(A, Const("k")))), "f\"x{a['k']}\""),
        (Format(("x", Item(A, Const("\\")))), '"x" + str(a["\\\\"])'),
        (Negative(Binary("+", A, B)), "-(a + b)"),
        (Const((1, -2.5, None, float("inf"))), '(1, -2.5, None, float("inf"))'),
        (code("1 <= n <= 5 and n in (2, 3) or not (n % 2 == 0)"), "1 <= n <= 5 and n in (2, 3) or not n % 2 == 0"),
    ],
)
def test_expressions(expr: Expr, written: str) -> None:
    assert text(expr) == written
    compile(written, "<expression>", "eval")


@pytest.mark.parametrize(
    ("template", "operands", "values", "written"),
    [
        ("{0} + {1}", [Binary("+", A, B), C], {}, "(a + b) + c"),
        ("({0} + {1}) / 2", [A, B], {}, "(a + b) / 2"),
        ("torch.maximum({0}, {1})", [Binary("+", A, B), C], {}, "torch.maximum(a + b, c)"),
        ("{0}.chunk({n}, 1)", [Binary("+", A, B)], {"n": Const(3)}, "(a + b).chunk(3, 1)"),
        ("{0}[:, {start}:{stop}]", [A], {"start": None, "stop": Const(2)}, "a[:, :2]"),
        ("{0}[:, :, {n}:-{n}]", [A], {"n": Const(2)}, "a[:, :, 2:-2]"),
        ("{0}[:, :, {n}:-{n}]", [A], {"n": code("self.n")}, "a[:, :, self.n : -self.n]"),
        ("torch.cat([{all}], 1)", [A, Star(B), C], {}, "torch.cat([a, *b, c], 1)"),
        ("mean_of([{all}])", [A], {}, "mean_of([a])"),
    ],
)
def test_templates(template: str, operands: list[Expr], values: dict[str, Expr | None], written: str) -> None:
    assert text(code(template, *operands, **values)) == written


@pytest.mark.parametrize(
    ("statement", "written"),
    [
        (Assign(Var("x"), call("f", A, B)), ["x = f(a, b)"]),
        (Assign(Var("x"), call("f", A, Var("b" * 80))), ["x = f(", f"    a, {'b' * 80}", ")"]),
        (Assign(Var("x"), call("f", LONG, LONG)), ["x = f(", f"    {LONG.name},", f"    {LONG.name},", ")"]),
        (Assign(Var("x"), List((LONG, LONG))), ["x = [", f"    {LONG.name},", f"    {LONG.name},", "]"]),
        (Assign(Var("long"), If(B, LONG, Var("c" * 22))), ["long = (", f"    {LONG.name} if b else {'c' * 22}", ")"]),
        (
            Assign(Var("x"), code("({0} + {1}) / 2", LONG, LONG)),
            ["x = (", f"    {LONG.name}", f"    + {LONG.name}", ") / 2"],
        ),
        (
            Assign(Row((LONG, LONG)), call("f", A)),
            ["(", f"    {LONG.name},", f"    {LONG.name},", ") = f(a)"],
        ),
        (Assign(A, B, comment="[3, H, W]"), ["a = b  # [3, H, W]"]),
        (Assign(A, LONG, annotation=Var("T" * 20), comment="c" * 20), [f"a: {'T' * 20} = {LONG.name}"]),
        (Do(call("f", Const("(")), comment="a"), ['f("(")  # a']),
        (Do(Binary("+", LONG, LONG), "return"), ["return (", f"    {LONG.name}", f"    + {LONG.name}", ")"]),
        (For(Row((A, B)), call("zip", A, B)), ["for a, b in zip(a, b):", "    pass"]),
        (
            Branches([(A, [Do(B)]), (Binary("or", LONG, LONG), []), (None, [Do(C)])]),
            [
                *("if a:", "    b", "elif (", f"    {LONG.name}", f"    or {LONG.name}", "):"),
                *("    pass", "else:", "    c"),
            ],
        ),
        (
            Class("N", Var("M"), [Doc("Says."), Function("f", [Parameter("self"), Parameter("b", A, C)], B, [Do(A)])]),
            ["class N(M):", '    """Says."""', "", "    def f(self, b: a = c) -> b:", "        a"],
        ),
        (
            Function("f", [Parameter("a", LONG), Parameter("b", LONG)], B, [Import("import c"), Do(A, "return")]),
            [
                *("def f(", f"    a: {LONG.name},", f"    b: {LONG.name},", ") -> b:"),
                *("    import c", "", "    return a"),
            ],
        ),
    ],
)
def test_statements(statement: Statement, written: list[str]) -> None:
    assert lines([statement]) == written


def expression(random: Random, depth: int) -> Expr:
    """An expression as forwards have them."""

    def name() -> Expr:
        return Var(random.choice("abc") * random.choice([1, 5, 12, 25, 40]))

    def inner(least: int, most: int) -> list[Expr]:
        return [expression(random, depth - 1) for _ in range(random.randint(least, most))]

    match random.randint(0, 7) if depth else 0:
        case 1:
            operands = inner(2, 5)
            total = " + ".join(f"{{{i}}}" for i in range(len(operands)))
            return code(f"({total}) / {random.randint(2, 9)}", *operands)
        case 2:
            return code("{0} - {1} - {2}", *inner(3, 3))
        case 3:
            return code("torch.maximum({0}, {1})", *inner(2, 2))
        case 4:
            return code("torch.cat([{all}], 1)", *inner(1, 4))
        case 5:
            return If(*inner(3, 3))
        case 6:
            return Tuple(tuple(inner(1, 3)))
        case 7:
            return code("self.scale({0})[:, None, {1}]", name(), name())
    return name()


def test_breaking_lines_changes_no_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(1)
    for _ in range(300):
        statement = Assign(Var("y"), expression(random, 3))
        broken = textwrap.dedent("\n".join(lines([statement], 8)))
        with monkeypatch.context() as patch:
            patch.setattr(printer, "WIDTH", 1 << 30)
            (whole,) = lines([statement])
        assert ast.dump(ast.parse(broken)) == ast.dump(ast.parse(whole))
        assert ast.dump(ast.parse(whole)) == ast.dump(
            ast.parse(text(Row((Var("y"),))) + " = " + text(statement.value or A))
        )


def test_names_are_those_that_code_speaks_of() -> None:
    tree = [
        Do(Call(Const(Layer("nn.Conv2d", (("bias", False),))), (code("torch.nn.F"),))),
        Source('def f(x: Tensor) -> None:\n    """Any."""\n    x.wraps(F)\n'),
    ]
    found = names_in(tree)
    assert {"partial", "nn", "torch", "Tensor", "F"} <= found
    assert not found & {"Any", "wraps", "Conv2d"}


def test_parts_are_replaced_wherever_they_stand() -> None:
    tree = Call(A, (List((A, Binary("+", A, B))), Format(("x", A))))
    found = mapped(tree, lambda part: C if part == A else None)
    assert text(found) == 'c([c, c + b], f"x{c}")'
    assert text(tree) == 'a([a, a + b], f"x{a}")'


def test_documentation_strings_hold_anything() -> None:
    for words in ('"', 'a "', '"""', "\\", "é\n\n\tb", "word " * 40, "\ud800"):
        said = ast.literal_eval("\n".join(docstring(words, 0)) or '""')
        assert isinstance(said, str)


def test_formatters_leave_the_lines_alone() -> None:
    pytest.importorskip("ruff", reason="the formatter is not installed")
    random = Random(2)
    written = "\n".join(lines([Assign(Var("y"), expression(random, 3)) for _ in range(200)])) + "\n"
    command = [sys.executable, "-m", "ruff", "format", "--isolated", f"--line-length={printer.WIDTH}", "-"]
    found = subprocess.run(command, input=written, capture_output=True, text=True, check=True).stdout
    assert list(unified_diff(written.split("\n"), found.split("\n"), lineterm="")) == []
