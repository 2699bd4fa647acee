"""No text breaks archdsl: any bytes, tokens in any order, specs with something changed. `make fuzz` goes on."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archdsl.diagnostics import Diagnostics
from archdsl.syntax import parser
from tests.fuzz.hostile import exercise
from tests.fuzz.texts import CORPUS, KINDS, WORDS


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.arch")), ids=lambda path: path.stem)
def test_what_once_broke(path: Path) -> None:
    exercise(path.read_text("utf-8", "surrogatepass"), run=True)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_bytes(data: bytes) -> None:
    path = CORPUS.parent / ".bytes.arch"
    try:
        path.write_bytes(data)
        diagnostics = Diagnostics()
        source = parser.read(path, diagnostics)
    finally:
        path.unlink()
    assert (source is None) == bool(diagnostics.errors)
    if source is not None:
        exercise(source.text)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WORDS), max_size=40), st.sampled_from([" ", "", "\n"]))
def test_tokens(words: list[str], between: str) -> None:
    exercise(between.join(words))


@settings(max_examples=200)
@given(st.text(max_size=100))
def test_characters(text: str) -> None:
    exercise(f"model m {{ input x[1, 8]\n{text}\nrelu }}")


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS), ids=lambda kind: kind.__name__)
def test_texts_that_nobody_would_write(kind) -> None:  # type: ignore[no-untyped-def]
    @settings(max_examples=40)
    @given(st.integers(0, 2**64))
    def run(seed: int) -> None:
        random = Random(seed)
        exercise(kind(random), random=random)

    run()
