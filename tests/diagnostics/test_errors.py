"""Every mistake has its message: each file of tests/errors holds specs and the exact diagnostics that they give.

A case is a `## ` heading, a fenced `arch` block (more of them, with `# file: NAME.arch` first, make several files), and
the `text` block that must come out. `pytest --update` rewrites the text blocks.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archdsl import compiler
from archdsl.checker.spec import models
from archdsl.diagnostics import Diagnostic, Fix, SpecError, render
from tests.helpers import ROOT

FOLDER = ROOT / "tests" / "errors"
CASE = re.compile(r"^## (?P<name>.+?)\n(?P<body>.*?)(?=^## |\Z)", re.M | re.S)
FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
FILE = re.compile(r"# file: (\S+)\n")

CASES = [
    pytest.param(path, match["name"], id=f"{path.stem}: {match['name']}")
    for path in sorted(FOLDER.glob("*.md"))
    for match in CASE.finditer(path.read_text())
]


def diagnostics_of(body: str, folder: Path, write: bool = True) -> list[Diagnostic]:
    """The output for every model of the first file of a case; without `write`, with the files as they are."""
    names: list[str] = []
    for fence in FENCE.finditer(body):
        if fence["kind"] == "arch":
            named = FILE.match(fence["text"])
            names.append(named[1] if named else "net.arch")
            if write:
                (folder / names[-1]).write_text(fence["text"])
    main = folder / (names[0] if names else "net.arch")
    try:
        infos = models(main)
        for info in infos:
            if info.complete:
                compiler.check(f"{main}:{info.name}")
        if not any(i.complete for i in infos):
            compiler.check(main)
    except SpecError as error:
        return list(error.diagnostics)
    return []


def diagnose(body: str, folder: Path) -> str:
    return render(diagnostics_of(body, folder)).replace(str(folder) + "/", "") + "\n"


@pytest.mark.parametrize(("path", "name"), CASES)
def test_message(path: Path, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    case = next(m for m in CASE.finditer(text) if m["name"] == name)
    said = diagnose(case["body"], tmp_path)
    wanted = [f for f in FENCE.finditer(case["body"]) if f["kind"] == "text"]
    if request.config.getoption("--update"):
        block = f"```text\n{said}```"
        body = case["body"]
        new = (
            body[: wanted[0].start()] + block + body[wanted[0].end() :]
            if wanted
            else body.rstrip() + f"\n\n{block}\n\n"
        )
        path.write_text(text[: case.start("body")] + new + text[case.end("body") :])
        return
    assert wanted, "this case has no expected text: run `pytest --update`"
    assert said == wanted[0]["text"]
    assert re.search(r"^(error|warning)\[E\d{4}\]", said, re.M)


def apply(fix: Fix, folder: Path) -> None:
    path = folder / Path(fix.span.source.name).name
    text = fix.span.source.text
    path.write_text(text[: fix.span.start] + fix.text + text[fix.span.end :])


@pytest.mark.parametrize(("path", "name"), CASES)
def test_each_change_alone(path: Path, name: str, tmp_path: Path) -> None:
    """Each fix that is shown resolves its own error, and causes no new one."""
    case = next(m for m in CASE.finditer(path.read_text()) if m["name"] == name)
    first = diagnostics_of(case["body"], tmp_path)
    for diagnostic in (d for d in first if d.fix is not None):
        fix = diagnostic.fix
        assert fix is not None
        diagnostics_of(case["body"], tmp_path)  # the original files
        apply(fix, tmp_path)
        left = diagnostics_of(case["body"], tmp_path, write=False)
        same, still = ([d for d in found if d.message == diagnostic.message] for found in (first, left))
        assert len(still) < len(same)
        said_next = [n for n in diagnostic.notes if n.startswith("with this change")]
        syntax = any(d.code.startswith("E01") for d in first)
        assert len(left) < len(first) or said_next or syntax, render(left)


SIZE_CASES = [c for c in CASES if c.values[0].stem == "sizes"]


@pytest.mark.parametrize(("path", "name"), SIZE_CASES)
def test_fix(path: Path, name: str, tmp_path: Path) -> None:
    """Applying the fix of a size error resolves it, and causes no other one."""
    case = next(m for m in CASE.finditer(path.read_text()) if m["name"] == name)
    first = diagnostics_of(case["body"], tmp_path)
    count = len(first)
    for _ in range(count):
        fixable = [d for d in diagnostics_of(case["body"], tmp_path, write=False) if d.fix is not None]
        if not fixable:
            break
        fix = fixable[0].fix
        assert fix is not None
        apply(fix, tmp_path)
    left = diagnostics_of(case["body"], tmp_path, write=False)
    if "No fix:" in case["body"]:
        assert left, "this case is mended, so it should not say that it has no fix"
        return
    assert left == [], render(left)
