"""Text from a spec is data in every output: it never becomes code, markup, a formula or a terminal escape."""

import ast
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

import pygraphviz
import pytest

import archdsl
from archdsl import cli
from tests.helpers import ROOT

Made = TypeVar("Made")

HOSTILE = [
    '"""\nimport os\nos.system("true")\n"""',
    "'''\nimport os\n'''",
    '""" + __import__("os").name + """',
    '\\"""\nimport os #',
    "\\",
    "\\\\",
    "a\\",
    '"',
    "'",
    "\\N{BELL}\\x41\\u0041\\101\\",
    "{0.__class__} {x} %s %(a)s ${a} {{",
    "\nimport os\n",
    "\r\nimport os\r",
    "\x00import os",
    "\f\v\x1c\x1d\x1e\x85\u2028\u2029import os",
    "# \nimport os",
    "\u202e\u2066 return \u2069 \u202d\u200f",
    "\u200b\ufeff\u00ad\u0301\ufffd\U000e0041",
    "\x1b[31mred\x1b]0;title\x07\x1b[2J\x9b31m\x08\x7f",
    "<script>alert(1)</script>",
    "</text></svg><script>alert(1)</script><!--",
    "--><b>&lt;&amp;&#x41;]]>",
    '"><img src=x onerror=alert(1)>',
    "<table><tr><td>x</td></tr></table>",
    "&xxe; <!ENTITY xxe SYSTEM 'file:///etc/passwd'>",
    '"]; evil [label="x"]; a -> b; //',
    'x\\"]; evil [label=<b>]; \\l\\r\\n\\N\\G',
    "\\input{/etc/passwd} $x^2$ \\end{document} % # & _ ~ ^",
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1+1",
    "=HYPERLINK(\"http://x\",\"y\")",
    "a,b\n=c;d\te",
    "\U0001f600\U0001d431",
    "x" * 5000,
    "line\n" * 500,
    "   ",
    "coding: latin-1\n# -*- coding: utf-7 -*-",
]  # fmt: skip


def literal(text: str) -> str:
    """A string of the language."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in plain) + '"'


def spec(text: str) -> str:
    said = literal(text)
    return f"""
let word = {said}
block unit(width, mode = {said}) {{
    {said}
    if mode == {said} {{ conv(width, 3) }} else {{ conv(width, 1) }}
    relu
}}
model m(note = word) {{
    {said}
    input x[1, H = 16, W = 16]
    unit(2)
    unit(3, {said})
    unit(4, "another")
    unit(4, note)
    require note == word, {said}
}}
model other(note) = m
"""


@pytest.fixture(params=HOSTILE, ids=lambda text: repr(text)[:24])
def hostile(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A text; the folder has a spec with it."""
    text: str = request.param
    (tmp_path / "hostile.arch").write_text(spec(text).replace("model other(note) = m\n", ""), "utf-8", newline="")
    monkeypatch.chdir(tmp_path)
    return text


@cache
def twin(made: Callable[[str], Made]) -> Made:
    """What is made of the harmless spec, the same beside every hostile one."""
    Path("twin.arch").write_text(spec("harmless").replace("model other(note) = m\n", ""), "utf-8")
    return made("twin")


def printable(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


class Blank(ast.NodeTransformer):
    """Removes the text from strings."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("…") if isinstance(node.value, str) else node


def tree(source: str) -> str:
    return ast.dump(Blank().visit(ast.parse(source)))


def module(name: str) -> str:
    assert cli.run(["build", f"{name}.arch", "-o", f"{name}.py"]) == 0
    return Path(f"{name}.py").read_bytes().decode("utf-8")


def test_python(hostile: str) -> None:
    source, plain = module("hostile"), twin(module)
    if hostile.strip():
        assert tree(source) == tree(plain)
    assert printable(source)


def test_the_documentation_is_kept(hostile: str) -> None:
    graph = archdsl.check("hostile.arch")
    assert graph.root.definition is not None and graph.root.definition.syntax.doc == hostile


def shape(element: ElementTree.Element) -> list[str]:
    return [e.tag for e in element.iter()]


def pictures(name: str) -> dict[str, str]:
    """The files of a spec's diagram, which is laid out once for all of them."""
    diagram = archdsl.draw(f"{name}.arch")
    found = {}
    for ending in (".svg", ".dot", ".tex"):
        diagram.save(f"{name}{ending}")
        found[ending] = Path(f"{name}{ending}").read_bytes().decode("utf-8")
    return found


def test_pictures(hostile: str) -> None:
    found, plain = pictures("hostile"), twin(pictures)
    svg_is_data(found[".svg"], plain[".svg"])
    dot_is_data(found[".dot"], plain[".dot"])
    tikz_is_data(found[".tex"], plain[".tex"])


def svg_is_data(source: str, plain: str) -> None:
    assert sorted({*shape(ElementTree.fromstring(source))} - {*shape(ElementTree.fromstring(plain))}) == []
    assert "<script" not in source and "onerror" not in re.sub(r">[^<]*<", "><", source)
    assert printable(source.replace("\t", ""))


def dot_is_data(source: str, plain: str) -> None:
    ours, theirs = (pygraphviz.AGraph(string=text) for text in (source, plain))
    assert sorted(ours.nodes()) == sorted(theirs.nodes()) and sorted(ours.edges()) == sorted(theirs.edges())


def tikz_is_data(source: str, plain: str) -> None:
    commands = re.compile(r"\\[A-Za-z]+")
    assert {*commands.findall(source)} <= {*commands.findall(plain)}


def test_json_and_csv(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["show", "hostile.arch", "--json"],
        ["check", "hostile.arch", "--json"],
        ["list", "hostile.arch", "--json"],
    ):
        assert cli.run(command) == 0
        said = capsys.readouterr().out
        assert json.loads(said) and printable(said)
    assert cli.run(["show", "hostile.arch", "--csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not [cell for row in rows for cell in row if re.match(r"[=+@\t\r]|-[^0-9]", cell)]


def test_terminal(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, errors and warnings contain nothing that a terminal would interpret."""
    Path("wrong.arch").write_text(
        Path("hostile.arch").read_text("utf-8").replace("note == word", "note != word"), "utf-8", newline=""
    )
    for command in (
        ["check", "hostile.arch"],
        ["show", "hostile.arch"],
        ["list", "hostile.arch"],
        ["check", "wrong.arch"],
    ):
        cli.run(command)
        said = capsys.readouterr()
        assert printable(said.out + said.err), command
    with pytest.raises(archdsl.SpecError) as caught:
        archdsl.check("wrong.arch")
    assert printable(str(caught.value))


def test_raw_characters_in_a_spec(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In a comment, a string or between tokens, as bytes of the file; and in the file's name."""
    path = tmp_path / "a\x1b[31m\u202e.arch"
    path.write_text('# \x1b[2J\nmodel m { \x1b]0;x\x07 "\u202e"\ninput x[1, 8]\n\x9b31m relu \x7f }', "utf-8")
    assert cli.run(["check", str(path)]) == 1
    assert cli.run(["check", str(path) + ":\x1b[31m"]) == 1
    assert cli.run(["check", "\x1b[31mnothing"]) == 1
    assert cli.run(["draw", "lenet:lenet", "-o", "\x1b[31m.nothing"]) == 2
    assert cli.run(["build", "lenet:lenet", "-o", "/\x1b[31m/x.py"]) == 2
    assert cli.run(["check", "lenet:lenet", "--set", "\x1b[31m=1"]) == 2
    assert printable(capsys.readouterr().err)


def test_halves_of_characters() -> None:
    """As passed by Python; no file can contain any."""
    graph = archdsl.check(archdsl.Source("a\ud800.arch", '# \udfff\nmodel m {\n"\ud800"\ninput x[1, 8]\nrelu\n}'))
    for text in (
        archdsl.build(graph),
        archdsl.draw(graph).html(),
        archdsl.draw(graph).svg(),
        archdsl.draw(graph).tex(),
    ):
        assert text.encode()
    archdsl.load(archdsl.Source("a.arch", 'model m {\n"\ud800"\ninput x[1, 8]\nrelu\n}'))
    assert "\\ud800" in archdsl.build(graph) and "\\udfff" in archdsl.draw(graph).html()


def test_file_name_in_the_built_file(tmp_path: Path) -> None:
    for name in ('a"""\nimport os\n"""', "a\\", "a\x1b[31m", "\u202ea"):
        source = archdsl.build(archdsl.check(archdsl.Source(f"{name}.arch", spec("x").split("model other")[0])))
        assert tree(source) == tree(
            archdsl.build(archdsl.check(archdsl.Source("b.arch", spec("x").split("model other")[0])))
        )
        assert printable(source)


def test_a_real_terminal(tmp_path: Path) -> None:
    """On a terminal output is coloured, but text from the spec is not."""
    (tmp_path / "net.arch").write_text(spec("\x1b[5mblink\x1b]0;x\x07").split("model other")[0], "utf-8")
    parent, child = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    for command in ("list", "show", "check"):
        subprocess.run(
            [sys.executable, "-m", "archdsl", command, "net.arch"], cwd=tmp_path, env=env, stdout=child, check=True
        )
    os.close(child)
    said = b""
    while chunk := read(parent):
        said += chunk
    assert b"\x1b[5m" not in said and b"\x1b]" not in said and b"\x07" not in said


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
