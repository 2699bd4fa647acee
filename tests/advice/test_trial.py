"""Fixes that errors propose: tried before they are shown, within limits, also in imported files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import archdsl
from archdsl.advice import trial
from archdsl.advice.trial import Trials
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostic, Fix, Mark, Proposal, SpecError
from tests.helpers import graph_of, source_of


def errors(spec: Source | str | Path, **values: object) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as caught:
        archdsl.check(spec, **values)
    return caught.value.diagnostics


def one(text: str) -> tuple[Source, Diagnostic]:
    """A text in which the word `bad` is wrong, with proposals for other words."""
    source = source_of(text)
    at = text.index("bad")
    span = Span(source, at, at + 3)
    proposals = tuple(Proposal(f"write {w}", Fix(span, w)) for w in ("worse", "elsewhere", "fine", "better"))
    return source, Diagnostic("E0201", "bad is bad", (Mark(span),), help="advice", proposals=proposals)


def said(text: str, words: dict[str, str]) -> list[Diagnostic]:
    """The errors of a check that rejects each of some words."""
    source = source_of(text)
    return [
        Diagnostic(code, word, (Mark(Span(source, text.index(word), text.index(word) + len(word))),))
        for word, code in words.items()
        if word in text
    ]


def told(text: str, wrong: dict[str, str], hidden: str = "", before: str = "bad") -> Diagnostic:
    source, diagnostic = one(text)
    start = text.find(hidden) if hidden else 0
    spans = [Span(source, start, start + len(hidden))] if hidden else []
    (found,) = Trials([diagnostic], spans, lambda changed: said(changed.text, wrong)).diagnostics()
    return found


def test_the_first_change_that_holds_is_shown() -> None:
    found = told("a bad b", {})
    assert (found.help, found.fix and found.fix.text, found.proposals) == ("write worse", "worse", ())


def test_one_that_errs_at_the_same_place_is_not() -> None:
    found = told("a bad b", {"worse": "E0999", "elsewhere": "E0301"})
    assert found.fix is not None and found.fix.text == "fine"


def test_one_that_errs_elsewhere_is_not() -> None:
    # With any replacement of `bad`, `zz` is wrong.
    found = told("a bad zz", {"zz": "E0301"})
    assert found.fix is None and found.help == "advice"


def test_what_was_hidden_is_told_with_the_change() -> None:
    found = told("a bad zz", {"zz": "E0301"}, hidden="zz")
    assert found.fix is not None and found.fix.text == "worse"
    assert any("line 1 is wrong next" in note for note in found.notes)


def test_a_change_after_which_a_limit_is_passed_is_not_shown() -> None:
    assert told("a bad b", {"a": "E0502"}).fix is None


def test_errors_that_were_there_do_not_count_and_are_mended_with_it() -> None:
    text = "a bad b other"
    source, diagnostic = one(text)
    other = Diagnostic("E0301", "other", (Mark(Span(source, 8, 13)),))
    kept = Trials([diagnostic, other], (), lambda changed: said(changed.text, {"other": "E0301"})).diagnostics()
    assert [d.fix is not None for d in kept] == [True, False]
    (alone,) = Trials([diagnostic, other], (), lambda changed: []).diagnostics()
    assert alone.fix is not None


def test_the_number_of_trials_is_bounded() -> None:
    text = "bad " * 100
    source = source_of(text)
    found = [
        Diagnostic("E0201", f"bad {i}", (Mark(span),), proposals=(Proposal("write x", Fix(span, "x")),))
        for i in range(100)
        for span in [Span(source, 4 * i, 4 * i + 3)]
    ]
    checks: list[Source] = []

    # Each is fixed separately, so the others must still be reported.
    Trials(found, (), lambda changed: (checks.append(changed), found[1:])[1]).diagnostics()
    assert len(checks) <= trial.TRIALS


def test_a_spec_without_errors_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trials, "attempt", lambda *_: pytest.fail("a trial"))
    graph_of("model m { input x[3, H, W]\n conv(8, 3) }\n")
    archdsl.check("resnet:resnet50")


def test_errors_in_a_large_network_are_told_soon() -> None:
    lines = "\n".join(
        f' "c{i}": conv(8, 3)\n residual {{ conv({9 + i % 3}, 3) }}\n conv(8, 3, padd = 1)' for i in range(400)
    )
    start = time.process_time()
    found = errors(source_of(f"model m {{ input x[8, H, W]\n{lines}\n}}\n"))
    assert len(found) > 20 and time.process_time() - start < 8


def test_a_change_in_an_imported_file(tmp_path: Path) -> None:
    (tmp_path / "blocks.arch").write_text("block unit(width) {\n    conv(width, 3, padd = 1) -> relu\n}\n")
    (tmp_path / "net.arch").write_text("from blocks import unit\nmodel m { input x[3, 8, 8]\n unit(8) }\n")
    (found,) = errors(tmp_path / "net.arch")
    assert found.fix is not None and Path(found.fix.span.source.name).name == "blocks.arch"
    assert found.fix.text == "pad"
    assert (tmp_path / "blocks.arch").read_text().count("padd") == 1


def test_files_that_come_with_archdsl_are_not_to_be_changed(tmp_path: Path) -> None:
    source = Source("blocks.arch", "bad", tmp_path / "blocks.arch")
    span = Span(source, 0, 3)
    found = Diagnostic("E0201", "bad", (Mark(span),), proposals=(Proposal("write good", Fix(span, "good")),))
    (kept,) = Trials([found], (), lambda changed: [], fixed=tmp_path).diagnostics()
    assert kept.fix is None and kept.help is None


def test_values_that_name_blocks() -> None:
    text = "block a { relu }\nmodel m(unit) { input x[3, 8, 8]\n unit -> conv(8, 3, padd = 1) }\n"
    (found,) = errors(source_of(text), unit="a")
    assert found.fix is not None and found.fix.text == "pad"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        # A projection with a number works for one call only; with the name, for all.
        ("residual { conv(w, 3) }", "via conv(w, 1) "),
        ("residual { conv(w, 3) -> relu }", "via conv(w, 1) "),
    ],
)
def test_what_holds_for_every_call_of_a_block(body: str, wanted: str) -> None:
    text = f"block unit(w) {{\n {body}\n}}\nmodel m {{ input x[3, 8, 8]\n unit(4)\n unit(8)\n unit(16) }}\n"
    (found,) = errors(source_of(text))
    assert found.fix is not None and found.fix.text == wanted


def test_a_value_from_the_command_line() -> None:
    from archdsl.checker.parameters import value_from_text
    from archdsl.checker.spec import locate
    from archdsl.diagnostics import Diagnostics

    spec = source_of("block basic { relu }\nmodel m(unit) { input x[3, 8, 8]\n unit }\n")
    spec_file, _ = locate(spec, Diagnostics())
    with pytest.raises(SpecError) as caught:
        value_from_text("basik", spec_file, Diagnostics())
    (found,) = caught.value.diagnostics
    assert found.help == "did you mean `basic`?"
