"""The tutorial, the lecture and the how-to pages do what they say: `docs/pages.py` runs them in an empty folder.

`pytest --update tests/test_pages.py` renews the outputs and pictures.
"""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from docs import lecture
from docs.pages import PICTURE, run
from tests.helpers import ROOT

DOCS = ROOT / "docs"
# The tutorial trains and exports, as another page; the lecture measures gradients.
LONG = {"tutorial", "lecture", "export"}
PAGES = [
    pytest.param(path, marks=[pytest.mark.long] if path.stem in LONG else [], id=path.stem)
    for path in (
        *(DOCS / f"{name}.md" for name in ("tutorial", "lecture", "python")),
        *sorted((DOCS / "how-to").glob("*.md")),
    )
]


def words(picture: Path) -> list[str]:
    return sorted(re.findall(r">([^<>]*)</t(?:ext|span)>", picture.read_text("utf-8")))


@pytest.mark.parametrize("page", PAGES)
def test_page(page: Path, update: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    text = page.read_text("utf-8")
    now = run(text, str(page))
    if update:
        page.write_text(now, "utf-8")
    for shown, drawn in PICTURE.findall(text):
        if update:
            (page.parent / shown).write_bytes(Path(drawn).read_bytes())
        # The same boxes and words: where they lie depends on the version of Graphviz.
        assert words(page.parent / shown) == words(Path(drawn))
    assert page.read_text("utf-8") == now, "`pytest --update tests/test_pages.py` writes it anew"


def test_the_notebook_is_the_lecture() -> None:
    assert lecture.NOTEBOOK.read_text("utf-8") == lecture.notebook(), "`make lecture` writes it anew"


@pytest.mark.long
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, in a kernel: no command fails, and each picture is shown."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.reads(lecture.notebook(), as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output for cell in cells for output in cell.outputs if "image/svg+xml" in output.get("data", {})]
    assert len(shown) == len(PICTURE.findall(lecture.PAGE.read_text("utf-8")))
    said = json.dumps([cell.outputs for cell in cells])
    assert "error[" not in said and "Error" not in said and "not found" not in said
