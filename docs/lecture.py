"""Runs the lecture in build/lecture, which then has its specs and pictures, and writes its notebook: `make lecture`."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from docs.pages import BLOCK, PICTURE, commands, run

HERE = Path(__file__).parent
PAGE = HERE / "lecture.md"
NOTEBOOK = HERE.parent / "examples" / "lecture.ipynb"
FOLDER = HERE.parent / "build" / "lecture"

START = """\
# What the lecture draws goes to a folder of its own. archdsl has to be installed:
# pip install 'archdsl[examples]'
import os
import tempfile

from IPython.display import SVG

os.chdir(tempfile.mkdtemp(prefix="lecture-"))"""


def notebook() -> str:
    """The page as a notebook without outputs: files and commands become cells, pictures are shown from their files."""
    cells = [cell("code", START)]
    text = PAGE.read_text("utf-8")
    at = 0
    for block in BLOCK.finditer(text):
        cells += prose(text[at : block.start()])
        if block["file"]:
            cells.append(cell("code", f"%%writefile {block['file']}\n{block['text'].rstrip()}"))
        elif block["kind"] == "console":
            cells += [cell("code", f"!{command}") for command, _ in commands(block["text"])]
        elif block["kind"] == "python":
            cells.append(cell("code", block["text"].rstrip()))
        at = block.end()
    cells += prose(text[at:])
    for number, one in enumerate(cells):
        one["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    data = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def prose(text: str) -> list[dict[str, object]]:
    """The cells of a text, with a cell for each of its pictures."""
    found, at = [], 0
    for picture in PICTURE.finditer(text):
        found += words(text[at : picture.start()])
        found.append(cell("code", f'SVG("{picture[2]}")'))
        at = picture.end()
    return found + words(text[at:])


def words(text: str) -> list[dict[str, object]]:
    """A cell of Markdown, whose links to pages lead there from the notebook's folder."""
    linked = re.sub(r"\]\((?=[\w\-/]+\.md)", "](../docs/", text)
    return [cell("markdown", linked.strip())] if text.strip() else []


def cell(kind: str, source: str) -> dict[str, object]:
    lines = source.splitlines(keepends=True)
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "id": "", "metadata": {}, "source": lines, **code}


def main() -> None:
    NOTEBOOK.write_text(notebook(), "utf-8")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    os.chdir(FOLDER)
    (FOLDER / "lecture.md").write_text(run(PAGE.read_text("utf-8"), str(PAGE)), "utf-8")
    print(f"{FOLDER}: {len(list(FOLDER.iterdir()))} files; {NOTEBOOK.name} written")


if __name__ == "__main__":
    main()
