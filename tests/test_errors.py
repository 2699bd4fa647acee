"""Every mistake has its message: each file of tests/errors holds specs and the exact diagnostics that they give.

A case is a `## ` heading, a fenced `arch` block (more of them, with `# file: NAME.arch` first, make several files), and
the `text` block that must come out. `pytest --update` rewrites the text blocks.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archdsl import compiler
from archdsl.diagnostics import SpecError, render

FOLDER = Path(__file__).parent / "errors"
CASE = re.compile(r"^## (?P<name>.+?)\n(?P<body>.*?)(?=^## |\Z)", re.M | re.S)
FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
FILE = re.compile(r"# file: (\S+)\n")

CASES = [
    pytest.param(path, match["name"], id=f"{path.stem}: {match['name']}")
    for path in sorted(FOLDER.glob("*.md"))
    for match in CASE.finditer(path.read_text())
]


def diagnose(body: str, folder: Path) -> str:
    """What archdsl says of the files of a case: the diagnostics of every model of the first."""
    names: list[str] = []
    for fence in FENCE.finditer(body):
        if fence["kind"] == "arch":
            named = FILE.match(fence["text"])
            names.append(named[1] if named else "net.arch")
            (folder / names[-1]).write_text(fence["text"])
    found = []
    try:
        infos = compiler.models(folder / names[0])
        for info in infos:
            if info.complete:
                compiler.check(f"{folder / names[0]}:{info.name}")
        if not any(i.complete for i in infos):
            compiler.check(folder / names[0])
    except SpecError as error:
        found = list(error.diagnostics)
    return render(found).replace(str(folder) + "/", "") + "\n"


@pytest.mark.parametrize(("path", "name"), CASES)
def test_message(path: Path, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    case = next(m for m in CASE.finditer(text) if m["name"] == name)
    said = diagnose(case["body"], tmp_path)
    wanted = [f for f in FENCE.finditer(case["body"]) if f["kind"] == "text"]
    if request.config.getoption("--update"):
        block = f"```text\n{said}```"
        body = case["body"]
        new = body[: wanted[0].start()] + block + body[wanted[0].end() :] if wanted else body.rstrip() + f"\n\n{block}\n\n"
        path.write_text(text[: case.start("body")] + new + text[case.end("body") :])
        return
    assert wanted, "this case has no expected text: run `pytest --update`"
    assert said == wanted[0]["text"]
    assert re.search(r"^(error|warning)\[E\d{4}\]", said, re.M)
