"""The list of quick tests names tests that there are, of every part of the package."""

import re

import pytest

from tests.helpers import ROOT
from tests.quick import FOLDER, QUICK

PARTS = sorted(p.name for p in (ROOT / "archdsl").iterdir() if (p / "__init__.py").exists())
TESTED_BY = {
    "augment": "its tests need kornia",
    "common": "the tests of all others",
    "editing": "language_server",
    "starters": "cli, which runs what it writes",
    "values": "elaborate",
    "watching": "its tests wait for a browser",
}
"""Parts that have no quick tests of their own, and why."""


@pytest.mark.parametrize("file", QUICK)
def test_names_begin_as_listed(file: str) -> None:
    names = re.findall(r"^ *(?:async )?def (test_\w+)\(", (FOLDER / file).read_text("utf-8"), re.M)
    for start in QUICK[file]:
        assert any(name.startswith(start.partition("[")[0]) for name in names), f"no test begins with {start}"


def test_every_part_has_quick_tests() -> None:
    tested = {file.partition("/")[0] for file in QUICK}
    assert not set(PARTS) - tested - set(TESTED_BY)
    assert not set(TESTED_BY) & tested
