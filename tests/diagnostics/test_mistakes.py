"""Specs with one mistake in one line: a result, or diagnostics of which the first is about that line."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

import archdsl
from archdsl import cli
from archdsl.checker.spec import check_model, locate, model_info
from archdsl.common.limits import Limits, limited
from archdsl.diagnostics import Diagnostics, SpecError
from tests.helpers import ROOT

GOOD = sorted([*(ROOT / "specs").glob("*.arch"), *(ROOT / "examples").glob("*.arch")])
WRONG = [
    text
    for path in sorted((ROOT / "tests" / "errors").glob("*.md"))
    for text in re.findall(r"^```arch\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
]
TOKEN = re.compile(r'"[^"]*"|[A-Za-z_]\w*|\d+(?:x\d+)+|\d+\.\d+|\d+|->|\.\.=?|[<>=!/]=|//|#.*|\S')
KEYWORDS = frozenset(
    [
        "model",
        "block",
        "let",
        "fn",
        "from",
        "import",
        "input",
        "output",
        "expect",
        "if",
        "else",
        "for",
        "in",
        "repeat",
        "residual",
        "dense",
    ]
)
Token = tuple[int, int, str]
Change = Callable[[Random, str, Token, Token], str]


def tokens(line: str) -> list[Token]:
    return [(m.start(), m.end(), m.group()) for m in TOKEN.finditer(line) if not m.group().startswith("#")]


def without(random: Random, line: str, token: Token, following: Token) -> str:
    return line[: token[0]] + line[token[1] :]


def swapped(random: Random, line: str, token: Token, following: Token) -> str:
    between = line[token[1] : following[0]]
    return line[: token[0]] + following[2] + between + token[2] + line[following[1] :]


def misspelt(random: Random, line: str, token: Token, following: Token) -> str:
    at = random.randrange(token[0], token[1])
    return line[:at] + random.choice("xqz") + line[at:]


def renumbered(random: Random, line: str, token: Token, following: Token) -> str:
    return line[: token[0]] + str(random.choice([0, 1, 7, int(token[2]) + 1, 10**6])) + line[token[1] :]


def with_more(random: Random, line: str, token: Token, following: Token) -> str:
    more = random.choice([*"()[]{},:=+*", "->", "..", "x", "3", "if", "for"])
    return f"{line[: token[0]]}{more} {line[token[0] :]}"


def with_half_a_string(random: Random, line: str, token: Token, following: Token) -> str:
    return line[: token[0]] + random.choice([token[2][1:], token[2][:-1]]) + line[token[1] :]


def doubled(random: Random, line: str, token: Token, following: Token) -> str:
    return f"{line}\n{line}"


def anything(word: str) -> bool:
    return True


# For each kind: the change, the words that it is made at, and the share of first errors that tell of it, at least.
KINDS: dict[str, tuple[Change, Callable[[str], bool], float]] = {
    "a token gone": (without, anything, 0.85),
    "a bracket gone": (without, lambda word: word in "()[]", 0.9),
    "a brace gone": (without, lambda word: word in "{}", 0.9),
    "two tokens swapped": (swapped, anything, 0.95),
    "a keyword misspelt": (misspelt, KEYWORDS.__contains__, 0.97),
    "a name misspelt": (misspelt, lambda word: len(word) > 2 and word.isidentifier() and word not in KEYWORDS, 0.65),
    "another number": (renumbered, str.isdecimal, 0.45),
    "a token too many": (with_more, anything, 0.95),
    "a quote gone": (with_half_a_string, lambda word: word.startswith('"') and len(word) > 1, 0.95),
    "a line twice": (doubled, anything, 0.9),
}  # fmt: skip


def mutants(text: str, kind: str, number: int, random: Random) -> Iterator[tuple[int, str]]:
    """The changed line, and the text with the change."""
    change, fits, _ = KINDS[kind]
    lines = text.split("\n")
    places = [(i, k) for i, line in enumerate(lines) for k, token in enumerate(tokens(line)) if fits(token[2])]
    for i, k in random.sample(places, min(number, len(places))):
        found = tokens(lines[i])
        changed = change(random, lines[i], found[k], found[min(k + 1, len(found) - 1)])
        if changed != lines[i]:
            yield i + 1, "\n".join([*lines[:i], changed, *lines[i + 1 :]])


def partners(text: str) -> dict[int, set[int]]:
    """For each line, the lines with the other ends of its brackets."""
    found: dict[int, set[int]] = defaultdict(set)
    open_: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        for _, _, word in tokens(line):
            if word in "([{":
                open_.append(number)
            elif word in ")]}" and open_:
                other = open_.pop()
                found[number].add(other)
                found[other].add(number)
    return found


def outcome(text: str, name: str = "spec.arch", path: Path | None = None) -> set[int] | None:
    """The lines that the first error marks; None if there is none. Any other exception fails the test."""
    diagnostics = Diagnostics()
    source = archdsl.Source(name, text, path)
    try:
        with limited(Limits(solver_seconds=2, nodes=5_000, steps=200_000)):
            spec_file, _ = locate(source, diagnostics)
            complete = [n for n in spec_file.models if model_info(spec_file, n, Diagnostics()).complete]
            for model in complete[:1] + complete[1:][-1:]:
                check_model(spec_file, model, {}, Diagnostics())
    except SpecError as error:
        assert str(error)
        first = next(d for d in error.diagnostics if d.severity == "error")
        return {mark.span.line for mark in first.marks if mark.span.source is source}
    return None


def shares(paths: list[Path], number: int, seed: int) -> dict[str, float]:
    """For each kind, the fraction of first errors that are about the changed line, or a bracket that it shares."""
    random = Random(seed)
    told, wrong = Counter[str](), Counter[str]()
    for path in paths:
        text = path.read_text("utf-8")
        together = partners(text)
        for kind in KINDS:
            for line, changed in mutants(text, kind, number, random):
                marked = outcome(changed, path.name, path)
                if marked is not None:
                    wrong[kind] += 1
                    told[kind] += bool(marked & {line, line + (kind == "a line twice"), *together[line]})
    return {kind: told[kind] / wrong[kind] for kind in KINDS}


def test_the_first_error_speaks_of_the_mistake() -> None:
    found = shares(GOOD[::2], 1, seed=0)
    assert not {kind: share for kind, share in found.items() if share < KINDS[kind][2] - 0.1}  # of few, chance has more


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_the_first_error_speaks_of_most_mistakes(seed: int) -> None:
    found = shares(GOOD, 25, seed=100 + seed)
    assert not {kind: share for kind, share in found.items() if share < KINDS[kind][2]}


def test_two_mistakes_are_told_without_a_traceback() -> None:
    random = Random(1)
    for text in WRONG:
        for kind in random.sample(list(KINDS), 2):
            for _, changed in mutants(text, kind, 1, random):
                outcome(changed)


def test_the_exit_status_says_whether_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = Random(2)
    text = (ROOT / "specs" / "lenet.arch").read_text("utf-8")
    statuses = Counter[int]()
    for kind in KINDS:
        for _, changed in mutants(text, kind, 2, random):
            (tmp_path / "net.arch").write_text(changed, "utf-8")
            status = cli.run(["check", str(tmp_path / "net.arch")])
            said = capsys.readouterr().err
            assert (status, "error[" in said) in ((0, False), (1, True)), said
            statuses[status] += 1
    assert statuses[0] and statuses[1]
