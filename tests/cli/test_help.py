"""`archdsl help`: pages, headings, commands."""

from __future__ import annotations

import pytest

from archdsl import cli
from archdsl.common.pages import sections
from archdsl.ops import OPERATIONS


def helped(capsys: pytest.CaptureFixture[str], *topic: str) -> str:
    assert cli.run(["help", *topic]) == 0
    return capsys.readouterr().out


def test_pages_headings_operations_and_commands_are_topics(capsys: pytest.CaptureFixture[str]) -> None:
    pages = helped(capsys)
    assert "language" in pages and "The .arch language" in pages
    assert helped(capsys, "language").startswith("# The .arch language\n")
    limits = helped(capsys, "limits")
    assert limits.startswith("## Limits\n") and "| `nodes` |" in limits and limits.count("\n## ") == 0
    assert helped(capsys, "Exit", "status").startswith("## Exit status\n")
    assert helped(capsys, "draw").startswith("Usage: archdsl draw ")


def test_each_operation_is_a_topic() -> None:
    topics = {section.topic for section in sections()}
    assert set(OPERATIONS) <= topics


def test_an_unknown_topic_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["help", "limitz"]) == 2
    assert "there is no page or heading 'limitz'; did you mean `limits`?" in capsys.readouterr().err
    assert cli.run(["help", "zzzzzzzz"]) == 2
    assert "`archdsl help` lists the pages" in capsys.readouterr().err
