"""The Pygments lexer: every spec is coloured whole, keywords only where they are keywords."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from pygments import highlight
from pygments.formatters import HtmlFormatter, LatexFormatter
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, String

from archdsl.highlighting import ArchLexer
from archdsl.syntax.machine import language
from tests.helpers import ROOT

SPECS = sorted([*(ROOT / "specs").glob("*.arch"), *(ROOT / "examples").glob("*.arch")])
SPECS += [ROOT / "tests" / "syntax" / "samples.arch"]


def colours(text: str) -> dict[str, object]:
    """The kind of each word; a word that comes again must have the same one."""
    return {word: kind for _, kind, word in ArchLexer().get_tokens_unprocessed(text)}


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_specs(path: Path) -> None:
    text = path.read_text("utf-8")
    pieces = list(ArchLexer().get_tokens_unprocessed(text))
    assert "".join(word for _, _, word in pieces) == text
    assert [word for _, kind, word in pieces if kind in Error] == []
    assert [at for at, _, _ in pieces] == sorted(at for at, _, _ in pieces)
    assert any(kind in Keyword for _, kind, _ in pieces)


def test_words() -> None:
    text = """# a comment
model net(width = 8) {
    "Documentation."
    input block[3, H, W]
    "layer{i}.x": conv(8, 3x3, bias = false) -> let: relu
    repeat 2 { it -> conv(1.5 if not true else 2) }
}
"""
    found = colours(text)
    assert found["# a comment"] is Comment.Single and found['"Documentation."'] is String.Doc
    assert found["model"] is Keyword.Declaration and found["net"] is Name.Class
    assert found["block"] is Name and found["let"] is Name.Label and found["it"] is Name.Builtin.Pseudo
    assert found["{i}"] is String.Interpol and found["conv"] is Name.Builtin and found["bias"] is Name.Attribute
    assert found["3x3"] is Number and found["not"] is Operator.Word and found["repeat"] is Keyword
    assert found["if"] is Keyword and found["true"] is Keyword.Constant


def test_every_keyword_has_a_colour() -> None:
    """In the specs and a text with the two words that they lack."""
    text = "\n".join(path.read_text("utf-8") for path in SPECS)
    text += "\nlet a = none\naugment b { one_of { c } }\n"
    kinds = {(word, kind) for _, kind, word in ArchLexer().get_tokens_unprocessed(text)}
    coloured = {word for word, kind in kinds if kind in Keyword or kind in Operator.Word}
    assert coloured == set(language().scanner.keywords)


@pytest.mark.parametrize(
    "text", ["", "\n", "model (", "}} ) model m { conv(3 ->", "a | b && 'c' \u00e9 é$", 'let x = "open']
)
def test_texts_with_mistakes_are_whole(text: str) -> None:
    assert "".join(word for _, _, word in ArchLexer().get_tokens_unprocessed(text)) == text


def test_formatters_and_entry_point() -> None:
    text = "model <net> { relu }  # </span>"
    assert "&lt;" in highlight(text, ArchLexer(), HtmlFormatter()) and highlight(text, ArchLexer(), LatexFormatter())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["entry-points"]["pygments.lexers"]["arch"].partition(":")
    assert getattr(import_module(module), name) is ArchLexer
