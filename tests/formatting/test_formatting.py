"""The formatter: its style, and that it keeps trees and comments, whatever the text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest

from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics, SpecError
from archdsl.formatting import format_text, layout
from archdsl.syntax.parser import parse_tokens
from tests.helpers import ROOT

SPECS = sorted([*(ROOT / "specs").glob("*.arch"), *(ROOT / "examples").glob("*.arch")])
SAMPLES = ROOT / "tests" / "syntax" / "samples.arch"


def formatted(text: str) -> str:
    """The formatted text, which must not change when it is formatted again."""
    done = format_text(text, "net.arch")
    assert format_text(done, "net.arch") == done
    return done


def attempt(text: str) -> tuple[str, set[str]]:
    """The formatted text, or the codes of the errors for which a text is not formatted."""
    try:
        return format_text(text, "net.arch"), set()
    except SpecError as error:
        return "", {d.code for d in error.diagnostics}


# ---------------------------------------------------------------- the style


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_specs_are_formatted(path: Path) -> None:
    text = path.read_text("utf-8")
    assert formatted(text) == text, f"archdsl fmt {path.relative_to(ROOT)}"


CASES = sorted((Path(__file__).parent / "cases").glob("*.arch"))


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_style(path: Path, update: bool) -> None:
    """A case has the text as written, then the text as formatted."""
    before, line, after = path.read_text("utf-8").partition("# ---- formatted ----\n")
    assert line, "a case has two parts"
    now = formatted(before)
    if update:
        path.write_text(before + line + now, "utf-8")
    assert now == after or update
    assert before != after, "this case shows nothing"


def test_lines_fit() -> None:
    """No line that could be broken is longer than the page."""
    names = ", ".join(f"parameter_{i} = value_{i}" for i in range(30))
    deep = "f(" * 30 + "1" + ")" * 30
    text = (
        f"let a = f({names})\nlet b = [{deep}, {deep}]\nlet c = f(a + {names.replace(', ', ' + ').replace(' =', '')})\n"
    )
    text = text.replace(" value", "")
    for line in formatted(text).splitlines():
        assert len(line) <= layout.WIDTH


# ---------------------------------------------------------------- comments


def words(text: str) -> list[tuple[int, int]]:
    """The starts and ends of the tokens of a text without syntax errors."""
    diagnostics = Diagnostics()
    tokens = parse_tokens(Source("net.arch", text), diagnostics)[1]
    assert not diagnostics.errors
    return [(token.start, token.end) for token in tokens if token.kind != "NEWLINE"]


def declarations(text: str) -> Iterator[str]:
    """Each declaration of a file alone, so that a test parses little."""
    file, _ = parse_tokens(Source("net.arch", text), Diagnostics())
    for declaration in file.declarations:
        yield declaration.span.text


def check_comments_in_gaps(text: str) -> int:
    """Puts a comment into each gap between words; returns how many of these texts are specs."""
    legal = 0
    for start, _ in words(text):
        for comment in (" # c", "\n# c"):
            changed = f"{text[:start]}{comment}\n{text[start:]}"
            done, refused = attempt(changed)
            assert "E0605" not in refused, changed
            if not refused:
                legal += 1
                line = next(line for line in done.splitlines() if line.endswith("# c"))
                # Behind a word it stays, and alone it stays alone, unless another comment has its place.
                own = comment[0] == "\n" or not changed[:start].split("\n")[-1].strip()
                assert (line.strip() == "# c") == own or "#" in text, changed
    return legal


@pytest.mark.parametrize("name", ["lenet", "tiny"])
def test_a_comment_in_every_gap(name: str) -> None:
    (path,) = [path for path in SPECS if path.stem == name]
    texts = list(declarations(path.read_text("utf-8")))
    assert sum(map(check_comments_in_gaps, texts)) > 100


@pytest.mark.long
@pytest.mark.parametrize("path", [*SPECS, SAMPLES], ids=lambda p: p.stem)
def test_a_comment_in_every_gap_of_every_spec(path: Path) -> None:
    texts = list(declarations(path.read_text("utf-8")))
    assert sum(map(check_comments_in_gaps, texts)) > 50


@pytest.mark.parametrize("path", [*SPECS, SAMPLES], ids=lambda p: p.stem)
def test_many_comments(path: Path) -> None:
    """Comments into some of the gaps at once, where they are legal."""
    texts = list(declarations(path.read_text("utf-8")))
    random = Random(path.name)
    text = with_comments(random.choice(texts), random)
    formatted(text)


def with_comments(text: str, random: Random) -> str:
    for start, _ in reversed(words(text)):
        if random.random() < 0.2:
            comment = random.choice([" # a\n", "\n# b\n", " # c\n# d\n", "\n\n# e\n\n\n# f\n\n"])
            changed = text[:start] + comment + text[start:]
            diagnostics = Diagnostics()
            parse_tokens(Source("net.arch", changed), diagnostics)
            text = text if diagnostics.errors else changed
    return text


def test_comments_that_moved_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout that loses a comment, moves one, loses a word or never ends is refused."""
    text = "# one\nlet a = 1  # two\nlet b = [a, 2]\n"
    spaces = count(2)
    faults = {
        "this comment would change or move": lambda done: done.replace("  # two", "").replace("2]\n", "2]  # two\n"),
        "this comment would": lambda done: done.replace("# one\n", ""),
        "a comment would be added": lambda done: done + "# three\n",
        "a word or a number": lambda done: done.replace("2]", "3]"),
        "another number of parts": lambda done: done.replace(", 2]", "]"),
        "the syntax tree would change": lambda done: done.replace("a, 2", "a, x(2)"),
        "formatting again would change": lambda done: done.replace("let b", "let" + " " * next(spaces) + "b"),
        "a syntax error": lambda done: done.replace("let b", "let let b"),
    }
    for message, fault in faults.items():
        with monkeypatch.context() as patch:
            patch.setattr("archdsl.formatting.lay_out", lambda whole, fault=fault: fault(layout.lay_out(whole)))
            with pytest.raises(SpecError, match=message) as raised:
                format_text(text, "net.arch")
            assert [d.code for d in raised.value.diagnostics] == ["E0605"]


# ---------------------------------------------------------------- texts of all kinds


@pytest.mark.parametrize(
    ("text", "done"),
    [
        ("", ""),
        ("\n\n", ""),
        ("  \t\n", ""),
        ("# only", "# only\n"),
        ("\n\n#   a \n\n\n\n# b\t\n\n", "#   a\n\n# b\n"),
        ("let a=1", "let a = 1\n"),
        ("let a=1\r\n\r\n\r\nlet b=2\r\n", "let a = 1\r\n\r\nlet b = 2\r\n"),
        ("\ufefflet a=1\n", "\ufefflet a = 1\n"),
        ("\ufeff", "\ufeff"),
        ("let a=1\rlet b=2\r", "let a = 1\nlet b = 2\n"),
        ("let a = 1  .x\nlet b = 3x3 .. 4\nlet c = - - 1\n", "let a = 1 .x\nlet b = 3x3 ..4\nlet c = --1\n"),
    ],
)
def test_odd_texts(text: str, done: str) -> None:
    assert formatted(text) == done


@pytest.mark.parametrize("text", ["model net {", "let a = ", "let a = 'x'\n", "block b { conv(3) conv(4) }\n"])
def test_syntax_errors_are_refused(text: str) -> None:
    codes = attempt(text)[1]
    assert codes and "E0605" not in codes


def squeezed(text: str, random: Random) -> str:
    """The text with other blanks, and other newlines where they are white space."""
    places = words(text)
    out, end = [], 0
    for start, stop in places:
        gap = text[end:start]
        if gap and not gap.strip(" ") and "#" not in gap:
            gap = random.choice([" ", "  ", "\t", " \t  "])
        elif gap and not gap.strip(" \n"):
            gap = gap.replace(" ", "") + random.choice(["", " ", "   "])
        out.append(gap + text[start:stop])
        end = stop
    return "".join(out)


@pytest.mark.parametrize("path", [*SPECS, SAMPLES], ids=lambda p: p.stem)
def test_blanks_do_not_matter(path: Path) -> None:
    """Whatever the blanks, the result is the same, except for the columns that they mean."""
    text = formatted(path.read_text("utf-8"))
    changed = squeezed(text, Random(path.name)).replace("  ", " ")
    assert single(format_text(changed, path.name)) == single(text)


def single(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(line[: len(line) - len(line.lstrip())] + " ".join(line.split()) for line in lines)


@pytest.mark.long
def test_ten_thousand_lines_take_seconds() -> None:
    text = "\n".join(path.read_text("utf-8") for path in SPECS) * 5
    lines = text.count("\n")
    assert lines > 10_000
    started = time.process_time()
    format_text(text, "net.arch")
    assert time.process_time() - started < 4, "it takes 1.5 s on an idle core"
