"""The parser: all syntax, exact spans, contextual keywords, limits, and robustness."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics, render
from archdsl.syntax import build_tables, tree
from archdsl.syntax.machine import language
from archdsl.syntax.parser import MAX_ERRORS, parse, parse_value, read
from tests.helpers import ROOT, source_of

from .printing import show_file, show_statement, show_value

SPECS = sorted((ROOT / "specs").glob("*.arch"))
TEXTS = [p.read_text("utf-8") for p in [*SPECS, Path(__file__).with_name("samples.arch")]]
WORDS = sorted(language().scanner.keywords)


def parsed(text: str) -> tree.File:
    diagnostics = Diagnostics()
    file = parse(source_of(text), diagnostics)
    assert not diagnostics.items, render(diagnostics.items)
    return file


def codes(text: str) -> list[str]:
    diagnostics = Diagnostics()
    parse(source_of(text), diagnostics)
    return [d.code for d in diagnostics.items]


def in_body(statements: str) -> str:
    return f"block b {{\n{statements}\n}}\n"


def nodes(node: Any) -> Iterator[Any]:
    """A node and all nodes inside."""
    if isinstance(node, tuple | list):
        for part in node:
            yield from nodes(part)
    elif type(node).__module__ == tree.__name__:
        yield node
        for field in dataclasses.fields(node):
            yield from nodes(getattr(node, field.name))


# ---------------------------------------------------------------- the grammar


def test_grammar_is_lalr_without_ambiguity() -> None:
    build_tables.build(strict=True)


def test_tables_are_those_of_the_grammar() -> None:
    message = "run `python -m archdsl.syntax.build_tables`"
    assert build_tables.TABLES.read_text("utf-8") == build_tables.text_of_tables(), message


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("1 + 2 * 3 - 4", "((1 + (2 * 3)) - 4)"),
        ("-a * b // c % d", "((((- a) * b) // c) % d)"),
        ("(1 + 2) * 3", "((1 + 2) * 3)"),
        ("not a == b and c or d", "(((not (a == b)) and c) or d)"),
        ("a if b else c if d else e", "(a if b else (c if d else e))"),
        ("1..n + 1", "(1 .. (n + 1))"),
        ("0 ..= 4", "(0 ..= 4)"),
        ("it.size[0]", "it.size[0]"),
        ("max(a, b = 2,)[1]", "max(a, b = 2)[1]"),
        ("[[1, -1], [],]", "[[1, (- 1)], []]"),
        ("[3x3, 1x7x7, 1.5, 1e-5, 2E3]", "[3x3, 1x7x7, 1.5, 1e-05, 2000.0]"),
        ("[true, false, none]", "[true, false, none]"),
        (r'"a\"b\\c\n\t\u00e9{"', r'"a\"b\\c\n\té{"'),
        ("a\n+ b", "(a + b)"),
        ("a < b < c", None),
        ("f(1)(2)", None),
    ],
)
def test_value(text: str, meaning: str | None) -> None:
    diagnostics = Diagnostics()
    value = parse_value(Source("value", text), diagnostics)
    assert (show_value(value) if not diagnostics.items else None) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("conv(64, 3, pad = same) -> relu", "conv(64, 3, pad = same) -> relu"),
        ("x\n-> relu ->\n\n# why\nconv(1)", "x -> relu -> conv(1)"),
        ("{ }", "{ }"),
        ("{ relu\n\n\nit\n}", "{\nrelu\nit\n}"),
        ("(it, a -> b, { },)", "(it, a -> b, { })"),
        ("(\na,\nb\n)", "(a, b)"),
        ("(a, _): split(2)", "(a, _): split(2)"),
        ("a: (b, c)", "a: (b, c)"),
        ('"a.{i + 1}-{{b}}\\"": relu', '"a.{(i + 1)}-{{b}}\\"": relu'),
        ("residual { relu }", "residual { relu }"),
        ("a: residual if b via c: d(1) { }", "a: residual if b via c: d(1) { }"),
        ("residual via { a -> b } if c { }", "residual if c via { a -> b } { }"),
        ("dense { relu }", "dense { relu }"),
        ("let x = 1", "let x = 1"),
        ("for a, b in zip(c, d) { relu }", "for a, b in zip(c, d) { relu }"),
        ("repeat n - 1 { relu }", "repeat (n - 1) { relu }"),
        ("if a { } else if b { }\nelse { relu }", "if a { } else if b { } else { relu }"),
        ("input x[C, H = 224, _, 2 * n], y[]", "input x[C, H = 224, _, (2 * n)], y[]"),
        ("output a, b = c if training, d if training", "output a, b = c if training, d if training"),
        ("expect [2 * C, H / 2, _,]", "expect [(2 * C), (H / 2), _]"),
        ('require a > 0, "no"', 'require (a > 0), "no"'),
        ("require (a) > 0", "require (a > 0)"),
        ("default conv(bias = false)", "default conv(bias = false)"),
    ],
)
def test_statement(text: str, meaning: str) -> None:
    (block,) = parsed(in_body(text)).declarations
    assert isinstance(block, tree.Block)
    (statement,) = block.body.statements
    assert show_statement(statement) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("from a.b import c, d as e", "from a.b import c, d as e"),
        ("let x = [\n1,\n2\n]", "let x = [1, 2]"),
        ("fn f(a, b = 2) = a * b", "fn f(a, b = 2) = (a * b)"),
        ("block b { relu }", "block b() { relu }"),
        ('block b(a, c = "x",) { "doc"\n relu }', 'block b(a, c = "x") {\n"doc"\nrelu\n}'),
        ('model m { "doc" }', 'model m() { "doc" }'),
        ('block b { "label": relu }', 'block b() { "label": relu }'),
        ("model m = f(1, x = g)", "model m = f(1, x = g)"),
        ("model m = f", "model m = f()"),
        ("default conv(bias = false)", "default conv(bias = false)"),
        ("", ""),
        ("\n# nothing\n\t\n", ""),
    ],
)
def test_declaration(text: str, meaning: str) -> None:
    assert show_file(parsed(text)).strip() == meaning


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_a_tree_gives_the_tree_again(text: str) -> None:
    shown = show_file(parsed(text))
    assert show_file(parsed(shown)) == shown
    for newline in ("\r\n", "\r"):
        assert show_file(parsed(text.replace("\n", newline))) == shown


@pytest.mark.parametrize("text", TEXTS)
def test_spans(text: str) -> None:
    file = parsed(text)
    for node in nodes(file.declarations):
        said = node.span.text
        for part in nodes([getattr(node, f.name) for f in dataclasses.fields(node) if f.name != "label"]):
            assert node.span.start <= part.span.start <= part.span.end <= node.span.end
        match node:
            case tree.Name(name=name):
                assert said.replace(" ", "") == name
            case tree.Label(quoted=quoted, parts=parts):
                assert (said[0], said[-1]) == ('"', '"') if quoted else said == parts[0]
            case tree.Call(name=name, arguments=arguments):
                assert said == name.name or (
                    said.startswith(name.name) and said.endswith(")") and arguments is not None
                )
            case tree.Body():
                assert (said[0], said[-1]) == ("s" if node.scoped else "{", "}")
            case tree.Parallel() | tree.Pattern():
                assert (said[0], said[-1]) == ("(", ")")
            case _ if isinstance(node, tree.Value):
                diagnostics = Diagnostics()
                again = parse_value(Source("value", said), diagnostics)
                assert not diagnostics.items
                assert show_value(again) == show_value(node)
            case _ if isinstance(node, tree.Statement | tree.Declaration) and not isinstance(node, tree.Chain):
                first = type(node).__name__.lower()
                first = {"import": "from", "function": "fn", "member": "model"}.get(first, first)
                assert said.split()[0] == first


# ---------------------------------------------------------------- contextual keywords

# Literals and `not` keep their meaning in values.
AS_NAMES = [w for w in WORDS if w not in ("true", "false", "none", "not")]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("{}: conv(1)\nrelu", WORDS),
        ("{}: residual {{ relu }}\n{}", WORDS),
        ("relu\n{} -> relu -> {}\n{}", WORDS),
        ("({}, relu -> {}, {})", WORDS),
        ("({}, b): split(2)", WORDS),
        ("residual via {}(3) {{ relu }}", WORDS),
        ("let {} = 3\nrelu", WORDS),
        ("for {}, a in b {{ relu }}", WORDS),
        ("input {}[3, {}]", AS_NAMES),
        ("input x[{} = 2]", WORDS),
        ("output {}, a = {} if training", WORDS),
        ("conv(1, {} = 2)", WORDS),
        ("default {}(bias = 1)", WORDS),
        ("{}(3) -> relu", WORDS),
        ("conv({}, {} + 1, [{}], x.{}, {}.size)", AS_NAMES),
        ("if {} == {} {{ relu }}", AS_NAMES),
        ("let x = {} if {} else {}", AS_NAMES),
        ("repeat {} {{ relu }}", AS_NAMES),
        ("require {} and {}", AS_NAMES),
        ("expect [{}, 1]", AS_NAMES),
    ],
)
def test_keyword_as_a_name_in_a_body(form: str, words: list[str]) -> None:
    for word in words:
        text = in_body(form.replace("{}", word).replace("{{", "{").replace("}}", "}"))
        assert codes(text) == [], text


@pytest.mark.parametrize(
    "form",
    [
        "block {}({}, a, b = 1) {{ }}",
        "block b(a = 2, {} = 3) {{ relu }}",
        "model {} {{ relu }}",
        "model {} = {}(3)",
        "fn {}({}) = 3",
        "from {}.a import {}, b as {}",
        "let {} = 1",
    ],
)
def test_keyword_as_a_name_in_a_declaration(form: str) -> None:
    for word in WORDS:
        text = form.replace("{}", word).replace("{{", "{").replace("}}", "}") + "\n"
        assert codes(text) == [], text


def test_it_is_reserved() -> None:
    assert codes("let it = 1\n") == ["E0106"]


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("before", "middle", "after"),
    [
        ("1 + ", "1", ""),
        ("", "1", " - 1"),
        ("not ", "a", ""),
        ("- ", "a", ""),
        ("", "a", ".b"),
        ("", "a", "[0]"),
        ("a if b else ", "c", ""),
    ],
)
def test_depth_of_operators(before: str, middle: str, after: str) -> None:
    def text(depth: int) -> str:
        return f"let x = {before * depth}{middle}{after * depth}\n"

    assert [codes(text(n)) for n in (1000, 1001, 20_000)] == [[], ["E0105"], ["E0105"]]


@pytest.mark.parametrize(("opening", "closing"), ["()", "[]", "{}"])
def test_depth_of_brackets(opening: str, closing: str) -> None:
    def text(depth: int) -> str:
        if opening == "{":
            return f"block b {opening * depth}{closing * depth}\n"
        return f"let x = {opening * depth}1{closing * depth}\n"

    assert [codes(text(n)) for n in (200, 201, 20_000)] == [[], ["E0105"], ["E0105"]]


def test_depth_of_detours() -> None:
    assert codes(in_body("residual via " * 2000 + "a " + "{ }" * 2000)) == ["E0105"]


@pytest.mark.parametrize(("number", "code"), [("9" * 1000, []), ("9" * 5000, ["E0103"]), ("1e999", ["E0103"])])
def test_size_of_numbers(number: str, code: list[str]) -> None:
    assert codes(f"let x = {number}\n") == code


def test_number_of_errors() -> None:
    diagnostics = Diagnostics()
    parse(source_of("relu relu\n" * 1000), diagnostics)
    assert len(diagnostics.items) == MAX_ERRORS + 1
    assert diagnostics.items[-1].message == "900 more errors follow"


# ---------------------------------------------------------------- recovery


def test_what_is_right_survives_what_is_wrong() -> None:
    text = "let = 1\nblock a {\n    relu relu\n    conv(1)\n}\nblok b {\n    relu ->\n}\nblock c {\n    (\n"
    diagnostics = Diagnostics()
    file = parse(source_of(text), diagnostics)
    assert [(d.code, d.marks[0].span.line) for d in diagnostics.items] == [
        ("E0101", 1),
        ("E0101", 3),
        ("E0101", 6),
        ("E0101", 7),
        ("E0102", 10),
    ]
    assert show_file(file) == "?\nblock a() {\n?\nconv(1)\n}\n?\nblock c() { ? }\n"


# ---------------------------------------------------------------- any text whatsoever

PIECES = [*WORDS, *"()[]{}:=,.+-*/%<>!;'\"\\#\n\r\t_", "->", "==", "..", "..=", "&&", "=>", "//", "**", "x", "it"]
PIECES += ["1", "1.5", "3x3", "1x", '"a{i}"', '"{', '"}"', "conv(64, 3)", "block b {\n", "training", "é", "“", "\x00"]


def check_any(text: str) -> None:
    diagnostics = Diagnostics()
    file = parse(source_of(text), diagnostics)
    render(diagnostics.items)
    for diagnostic in diagnostics.items:
        assert diagnostic.code.startswith("E01")
        assert all(0 <= m.span.start <= m.span.end <= len(text) for m in diagnostic.marks)
    if not diagnostics.items:
        shown = show_file(file)
        assert show_file(parsed(shown)) == shown


@given(st.text())
def test_any_text(text: str) -> None:
    check_any(text)
    parse_value(Source("value", text), Diagnostics())


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.sampled_from(["", " "]), st.booleans())
def test_any_pieces(pieces: list[str], between: str, body: bool) -> None:
    text = between.join(pieces)
    check_any(in_body(text) if body else text)


@given(st.sampled_from(TEXTS), st.integers(0), st.integers(0, 40), st.sampled_from(["", *PIECES]))
def test_any_change_of_a_spec(text: str, place: int, length: int, piece: str) -> None:
    at = place % len(text)
    check_any(text[:at] + piece + text[at + length :])


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"let x = 1\n", "let x = 1\n"),
        (b"\xef\xbb\xbflet x = 1\n", "let x = 1\n"),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
        ("# é\n".encode(), "# é\n"),
        (b"", ""),
    ],
)
def test_read(data: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "net.arch"
    path.write_bytes(data)
    diagnostics = Diagnostics()
    source = read(path, diagnostics)
    assert source is not None
    assert (source.text, source.path, source.name, diagnostics.items) == (text, path, str(path), [])


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"a\nb\xff", "E0004", "byte 0xff at offset 3, line 2"),
        (b"\xef\xbb\xbfa\n\x80", "E0004", "byte 0x80 at offset 5, line 2"),
        ("a".encode("utf-16"), "E0004", "is not UTF-8"),
        (b"a\n\n\x00", "E0005", "a NUL byte at offset 3, line 3"),
    ],
)
def test_read_what_is_no_text(data: bytes, code: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.arch"
    path.write_bytes(data)
    diagnostics = Diagnostics()
    assert read(path, diagnostics) is None
    (diagnostic,) = diagnostics.items
    assert diagnostic.code == code
    assert says in diagnostic.message


PYTHON = "import torch\n\n\nclass Net:\n    def forward(self, x):\n        return self.conv(x)\n"
HTML = "<!DOCTYPE html>\n<html>\n" + "<p class='model'>block of text; more</p>\n" * 500
PAGE = (
    "# A page\n\nIt's one; with a spec:\n\n```arch\nmodel a {\n    input x[3, H, W]\n}\n```\n"
    + "* Words. **More.**\n" * 9
)


@pytest.mark.parametrize(
    ("name", "text", "spec", "help"),
    [
        ("net.py", PYTHON, False, "archdsl writes Python but does not read it"),
        ("net.py", "x = 1\n", False, "archdsl writes Python"),
        ("net", PYTHON * 9, False, "name a .arch file"),
        ("net.arch", PYTHON * 9, False, "name a .arch file"),
        ("net.html", HTML, False, "name a .arch file"),
        ("net.arch", HTML, False, "name a .arch file"),
        ("net.md", PAGE, False, "name a .arch file"),
        ("net.pth", "lines\n" * 20, False, "archdsl weights SPEC net.pth"),
        ("net.onnx", "lines\n" * 20, False, "archdsl writes such files"),
        ("net.txt", "model a {\n    input x[3, H, W]\n    conv(8 3)\n}\n", True, ""),
        ("net.arch", "modle a {\n    input x[3, H, W]\n    conv(8, 3)\n}\n", True, ""),
        ("net.arch", "model a {\n    input x[3, H, W]\n" + "    conv(8 3)\n" * 50 + "}\n", True, ""),
        ("net.arch", "let x = 1\nlet y = = 2\n" * 20, True, ""),
        ("net.arch", "relu\n", True, ""),
    ],
)
def test_a_file_that_is_no_spec_has_one_error(
    name: str, text: str, spec: bool, help: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    diagnostics = Diagnostics()
    source = read(name, diagnostics)
    assert source is not None
    parse(source, diagnostics)
    assert diagnostics.errors
    if spec:
        assert {d.code for d in diagnostics.items} <= {"E0101", "E0102", "E0103"}
    else:
        (error,) = diagnostics.items
        assert error.code == "E0007" and f"`{name}` does not look like a spec" in error.message
        assert error.help is not None and help in error.help


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0", b"PK\3\4\0\0\x08\xff", b"\x7fELF\x02\0\xff"])
def test_read_what_is_binary(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(data)
    diagnostics = Diagnostics()
    assert read(path, diagnostics) is None
    (error,) = diagnostics.items
    assert error.code == "E0005" and "is not text" in error.message and "archdsl weights SPEC" in (error.help or "")


@pytest.mark.parametrize(
    ("name", "code"), [("none.arch", "E0001"), (".", "E0002"), ("net.arch/none.arch", "E0001"), ("a\x00b", "E0006")]
)
def test_read_what_is_no_file(name: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text("")
    diagnostics = Diagnostics()
    assert read(f"{tmp_path}/{name}", diagnostics) is None
    assert [d.code for d in diagnostics.items] == [code]
