"""What is known of a text while it is written: what is wrong, and the sizes behind lines."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random

import pytest

from archdsl.common.limits import Brake, Stopped
from archdsl.common.source import Source
from archdsl.editing.analysis import Analysis, read_document
from archdsl.editing.files import Files
from archdsl.editing.lenses import call_title
from archdsl.editing.positions import Change, Encoding, LineMap, Lines, changed, units
from archdsl.editing.sizes import Calls, hints
from archdsl.syntax import tree

TEXT = """\
block unit(width) {
    conv(width, 3, stride = 2)
    relu
}

model net {
    input image[3, H = 32, W = 32]
    let n = 16
    a: unit(n)
    b: conv(2 * n, 3)
    (b, unit(8)) -> align(crop) -> concat
}

model other {
    input image[3, 64, 64]
    unit(4)
}
"""


def analysed(text: str, path: Path | None = None, files: Files | None = None) -> Analysis:
    found = read_document(Source("net.arch", text, path), files or Files(), Brake())
    while found.waiting:
        found.check_next(Brake())
    return found


def said(analysis: Analysis) -> list[tuple[str, int]]:
    return [(d.code, analysis.place(d).line) for d in analysis.diagnostics()]


def shown(analysis: Analysis) -> dict[int, str]:
    return {analysis.source.position(h.offset)[0]: h.text for h in hints(analysis, Calls(analysis, {}))}


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("    a: unit(n)", "    a: unit(n) -> 3", 9),
        ("    let n = 16", "    let n =", 8),
        ("    a: unit(n)", "    a unit(n)", 9),
        ("    a: unit(n)", "    a: unit(n", 9),
        ("    relu\n", "    relu relu\n", 3),
    ],
)
def test_a_broken_line_gives_one_error_and_silences_no_other(old: str, new: str, line: int) -> None:
    broken = analysed(TEXT.replace(old, new))
    errors = said(broken)
    assert errors and all(code.startswith("E01") for code, _ in errors) and line in {line for _, line in errors}
    # A mistake of another kind, elsewhere, is still seen.
    both = analysed(TEXT.replace(old, new).replace("unit(4)", "unit(4) -> conv(0, 1)"))
    assert [code for code, _ in said(both) if not code.startswith("E01")] == ["E0228"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("unit(width)", "unit(width,,)"),
        ("unit(width)", "unit(width stride = 2)"),
        ("unit(width)", "unit(width: int)"),
        ("unit(width)", "unit(width, stride = )"),
        ("unit(width)", "unit(width, stride = 2 + (3, 4)"),
        ("unit(width)", "unit width)"),
        ("model net", "model net(a = )"),
        ("model net", "model net 3"),
    ],
)
def test_a_broken_head_hides_neither_its_block_nor_others(old: str, new: str) -> None:
    broken = analysed(TEXT.replace(old, new, 1))
    assert {code for code, _ in said(broken)} <= {"E0101", "E0102"} and len(said(broken)) <= 2
    assert [d.name.name for d in broken.syntax.declarations if not isinstance(d, tree.Missing | tree.Import)] == [  # type: ignore[union-attr]
        "unit",
        "net",
        "other",
    ]
    assert shown(broken) == shown(analysed(TEXT))
    both = analysed(TEXT.replace(old, new, 1).replace("    relu\n", "    relu -> conv(0, 1)\n"))
    assert "E0228" in [code for code, _ in said(both)]


def test_sizes_behind_a_line_that_is_not_known_are_not_shown() -> None:
    whole = shown(analysed(TEXT))
    assert whole[9] == "→ [16, ⌈H/2⌉, ⌈W/2⌉]" and whole[11].startswith("→ [40, ")
    broken = shown(analysed(TEXT.replace("    b: conv(2 * n, 3)", "    b: conv(2 * n, 3) -> 3")))
    assert broken[9] == whole[9] and 10 not in broken and 11 not in broken
    assert broken[16] == "→ [4, 32, 32]"


def test_rounds_of_a_loop_show_the_first_and_the_last() -> None:
    text = "model net {\n    input x[3, 64, 64]\n    for c in [8, 16, 32] {\n        conv(c, 3, stride = 2)\n    }\n}\n"
    assert shown(analysed(text)) == {4: "→ [8, 32, 32] … [32, 8, 8]"}


BLOCKS = """\
block unit(width = 16) {
    input x[8, H, W]
    conv(width, 3, stride = 2)
}
block two(width = 4) {
    input a[width, H, W], b[8, _, _]
    (a, b -> conv(width, 1) -> resize(a.size)) -> add
    maxpool(2)
}
block three(width) { conv(width, 3, stride = 2) }
block four { conv(8, 3, stride = 2) }
block five {
    input x[C, H, W]
    conv(8, 3, stride = 2)
}
"""


def test_a_file_of_blocks_alone_shows_their_sizes_or_why_not() -> None:
    found = analysed(BLOCKS)
    assert said(found) == []
    assert shown(found) == {
        1: "[8, H, W] →",
        3: "→ [16, ⌈H/2⌉, ⌈W/2⌉]",
        5: "[4, H, W], [8, size_1, size_2] →",
        7: "→ [4, H, W]",
        8: "→ [4, ⌊H/2⌋, ⌊W/2⌋]",
    }
    titles = [call_title(Calls(found, {}), name) for name in ("unit", "three", "four", "five")]
    assert titles[0] == "sizes of unit alone"
    for title, reason in zip(
        titles[1:], ("`width` has no default", "no size of what it takes", "`x` has no number"), strict=True
    ):
        assert title.startswith("no sizes: ") and reason in title
    # With a model in the file, its calls have the sizes.
    whole = analysed(BLOCKS + "model net {\n    input x[8, 32, 32]\n    unit(4)\n}\n")
    assert shown(whole)[3] == "→ [4, 16, 16]" and 7 not in shown(whole)


def test_a_mistake_that_models_share_is_told_once() -> None:
    family = "model f(n) {\n    input x[3, 8, 8]\n    conv(n, 3) -> conv(n, 9, pad = valid)\n}\n"
    members = "".join(f"model m{n} = f({n})\n" for n in (1, 2, 3))
    found = analysed(family + members).diagnostics()
    assert len(found) == 1


def test_an_imported_file_is_read_again_only_when_it_changes(tmp_path: Path) -> None:
    blocks, files = tmp_path / "blocks.arch", Files()
    blocks.write_text("block b { conv(8, 3) }\n", "utf-8")
    text = "from blocks import b\nmodel m {\n    input x[3, 8, 8]\n    b\n}\n"
    first, second = (analysed(text, tmp_path / "m.arch", files) for _ in range(2))
    assert first.spec_file.imports[0] is second.spec_file.imports[0]
    files.open(blocks, Source("blocks.arch", "block b { conv(9, 3) }\n", blocks))
    assert shown(analysed(text, tmp_path / "m.arch", files))[4] == "→ [9, 8, 8]"
    files.close(blocks)
    assert shown(analysed(text, tmp_path / "m.arch", files))[4] == "→ [8, 8, 8]"
    blocks.write_text("block b { conv(10, 3) -> oops }\n", "utf-8")
    broken = analysed(text, tmp_path / "m.arch", files)
    assert said(broken) == [("E0201", 4)] or said(broken) == [("E0201", 1)]


def test_a_brake_ends_a_long_check() -> None:
    lines = "\n".join(f"fn f{i}(x) = f{i + 1}(x) + f{i + 1}(x)" for i in range(40))
    brake = Brake()
    threading.Timer(0.2, lambda: setattr(brake, "on", True)).start()
    with pytest.raises(Stopped):
        read_document(Source("slow.arch", f"{lines}\nfn f40(x) = x\nlet slow = f0(1)\n"), Files(), brake)


# ---------------------------------------------------------------- positions

ALPHABET = ["a", " ", "é", "→", "😀", "\n", "\r\n", "\r", "\u2028"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_positions_go_there_and_back(encoding: Encoding) -> None:
    random = Random(0)
    for _ in range(300):
        text = "".join(random.choices(ALPHABET, k=random.randrange(30)))
        lines = Lines(text)
        for offset in range(len(text) + 1):
            if text[offset - 1 : offset + 1] != "\r\n":  # nothing is between the two
                assert lines.offset(*lines.position(offset, encoding), encoding) == offset
        assert lines.offset(10_000, 0, encoding) == len(text)
        assert lines.offset(0, 10_000, encoding) == lines.ends[0]


def test_units() -> None:
    assert [units("é😀", e) for e in ("utf-8", "utf-16", "utf-32")] == [6, 3, 2]


def test_changes_count_one_after_the_other() -> None:
    changes = [Change((0, 1, 0, 3), "X"), Change((0, 2, 0, 2), "\n"), Change((1, 0, 1, 1), "")]
    assert changed("a😀b\nc", changes, "utf-16") == "aX\n\nc"
    assert changed("old", [Change(None, "new")], "utf-16") == "new"


def test_lines_that_did_not_change_are_found_again() -> None:
    lines = LineMap("a\nb\nc\nd", "a\nX\nY\nc\nd")
    assert [lines.line(i) for i in range(4)] == [0, None, 3, 4]
