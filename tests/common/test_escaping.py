"""Text of a spec is data in every language into which it is written."""

from __future__ import annotations

import ast
import json

import pytest

from archdsl.backends.python.printer import in_docstring
from archdsl.common import escaping

HOSTILE = ['"""', "a\\", '\\"', "x\x07\u202e", "tab\there", "half \ud800", "|a|", "<b>&\\N</b>", "\\N \\G"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_text_never_leaves_its_place(text: str) -> None:
    shown = escaping.visible(text)
    assert shown.isprintable()
    whole = text.encode("utf-8", "backslashreplace").decode()  # halves of characters, which no file can have
    assert ast.literal_eval(f'"""{in_docstring(text)}"""') == whole
    assert escaping.markdown(text).replace("\\|", "").count("|") == 0
    label = escaping.dot_label(text)
    assert not {"<", ">", '"'} & set(label) and "\\" not in label.replace("\\\\", "")
    page = escaping.json_in_html([text])
    assert json.loads(page) == [text] and not {"<", ">", "&"} & set(page) and page.encode()
    length, _, counted = escaping.xdot(text).partition(" -")
    assert int(length) == len(counted.encode()) and not {'"', "\\"} & set(counted)


def test_latex_takes_text_with_its_blanks_and_dashes() -> None:
    assert escaping.latex("  a---b 5 % of {x_1}") == r"~~a{-}{-}-b 5 \% of \{x\_1\}"
