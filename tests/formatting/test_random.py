"""The formatter on random specs, written without any style."""

from __future__ import annotations

from random import Random

import pytest

from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics, SpecError
from archdsl.formatting import format_text
from archdsl.syntax.parser import parse_tokens
from tests.fuzz.texts import WORDS
from tests.random_specs import parts, written


def spoiled(text: str, random: Random) -> str:
    """The same spec with other white space, and with comments at the ends of lines."""
    tokens = parse_tokens(Source("net.arch", text), Diagnostics())[1]
    pieces, end = [], 0
    for token in tokens:
        if token.kind == "NEWLINE":
            continue
        gap = text[end : token.start]
        if "\n" in gap:
            gap = random.choice([gap, "\n", "\n\n\n", "  # x\n", "\n# y\n", " \n\n#z\n\n"])
        elif gap == " ":
            gap = random.choice([" ", "  ", "\t"])
        pieces.append(gap + text[token.start : token.end])
        end = token.end
    return "".join(pieces) + "\n"


def check(seed: int) -> int:
    """Formats a random spec; returns its number of lines, 0 if the parser refuses it.

    The formatter itself proves that the result says the same.
    """
    random = Random(seed)
    text, _ = written(parts(random))
    diagnostics = Diagnostics()
    parse_tokens(Source("net.arch", text), diagnostics)
    if diagnostics.errors:  # the writer takes any word for a name
        return 0
    done = format_text(text, "net.arch")
    format_text(spoiled(text, random), "net.arch")
    return done.count("\n")


def test_random_specs() -> None:
    assert sum(map(check, range(8))) > 100


@pytest.mark.long
def test_many_random_specs() -> None:
    assert sum(map(check, range(8, 4_000))) > 100_000


def refused_or_formatted(text: str) -> bool:
    """Whether a text is formatted; a text is refused for its errors alone."""
    try:
        format_text(text, "net.arch")
    except SpecError as error:
        assert all(d.code != "E0605" for d in error.diagnostics), text
        return False
    return True


def test_any_words() -> None:
    """Words in any order: what the parser takes by chance, too."""
    random = Random(1)
    small = [word for word in WORDS if word not in "(){}[]"]
    values = [
        "1",
        "a",
        "-",
        "not",
        "3x3",
        "1.5",
        ".",
        "..",
        "..=",
        "**",
        "(1)",
        "[1, 2]",
        "f(2)",
        "if",
        "else",
        "+",
        "x",
    ]
    formatted = 0
    for _ in range(600):
        if random.random() < 0.5:
            text = "let a = " + " ".join(random.choices(values, k=random.randint(1, 6)))
        else:
            text = "block b { " + " ".join(random.choices(small, k=random.randint(1, 4))) + " }"
        formatted += refused_or_formatted(text)
    assert formatted > 20
