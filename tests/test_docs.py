"""Tests the docs: every example does what the page says, and generated parts are up to date.

An example is a fenced block that begins with ```arch; the words after that describe it: `body` means only statements,
for a model with `input x[16, H = 32, W = 32]`; `error` means it is wrong, and the ```text block after it shows the
diagnostics; `formatted` means that it is in the style of `archdsl fmt`; `keys` means the ```text block after it shows
the keys of the compiled module's state_dict. Another ```text block after an example is archdsl's output for it.
`pytest --update` rewrites these blocks.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import archdsl
from archdsl.backends.torch_source import write_module
from archdsl.checker.spec import check_model, locate, model_info
from archdsl.common.choices import Budget
from archdsl.common.source import Source
from archdsl.diagnostics import Diagnostics, SpecError, render
from archdsl.formatting import format_text
from archdsl.graph import Graph
from archdsl.report import summary as report
from archdsl.transform.fitting import Search
from tests.helpers import ROOT

DOCS = ROOT / "docs"
TINY = DOCS.parent / "examples" / "tiny.arch"
PAGES = [DOCS / "language.md", *sorted((DOCS / "language").glob("*.md")), DOCS / "formatting.md", ROOT / "README.md"]
FENCE = re.compile(r"^```arch(?P<words>[a-z ]*)\n(?P<text>.*?)^```\n(?:^```text\n(?P<said>.*?)^```\n)?", re.M | re.S)
PYTHON = re.compile(r"^```python\n(?P<text>.*?)^```\n", re.M | re.S)
CODE = re.compile(r"^```python\nclass (?P<name>\w+).*?^```\n", re.M | re.S)


@dataclass(frozen=True)
class Example:
    page: Path
    start: int
    words: frozenset[str]
    text: str
    said: str | None

    def __str__(self) -> str:
        line = self.page.read_text("utf-8").count("\n", 0, self.start) + 1
        return f"{self.page.name}:{line}"

    def source(self) -> Source:
        text = self.text
        if "body" in self.words:
            text = "model example {\n    input x[16, H = 32, W = 32]\n" + text + "}\n"
        return Source("example.arch", text)


def examples() -> Iterator[Example]:
    for page in PAGES:
        for match in FENCE.finditer(page.read_text("utf-8")):
            words = frozenset(match["words"].split())
            yield Example(page, match.start(), words, match["text"], match["said"])


def check(source: Source) -> list[Graph]:
    """Every model of the text that can be compiled."""
    diagnostics = Diagnostics()
    spec_file, _ = locate(source, diagnostics)
    names = [m for m in spec_file.models if model_info(spec_file, m, diagnostics).complete]
    graphs = [check_model(spec_file, name, {}, Diagnostics()) for name in names]
    assert graphs, "an example without a model"
    return graphs


def keys(graph: Graph) -> Iterator[str]:
    for node in graph.nodes():
        for weight in node.operation.weights(graph.shapes(node.inputs)):
            yield weight.key(node.path)


def said_of(example: Example) -> str:
    """The output of archdsl for an example."""
    try:
        graphs = check(example.source())
    except SpecError as error:
        assert "error" in example.words, str(error)
        return render(error.diagnostics)
    assert "error" not in example.words, "the example is not wrong"
    if "keys" in example.words:
        return "\n".join(key for graph in graphs for key in keys(graph))
    return "\n".join(report.summary(graph) for graph in graphs)


@pytest.mark.parametrize("example", list(examples()), ids=str)
def test_example(example: Example) -> None:
    said_of(example)
    assert example.said is not None or not example.words & {"error", "keys"}, "what it gives has to follow"


def test_formatted_examples() -> None:
    """The page of the style shows one text before and after, and others as they are formatted."""
    rough, *done = [e for e in examples() if e.page.name == "formatting.md"]
    assert len(done) > 2 and all("formatted" in example.words for example in done)
    assert format_text(rough.text, "example") == done[0].text != rough.text
    for example in done:
        assert format_text(example.text, str(example)) == example.text


def renewed(page: Path) -> str:
    """The page with the current output for its examples, and with their current classes."""

    def example(match: re.Match[str]) -> str:
        if match["said"] is None:
            return match[0]
        found = Example(page, match.start(), frozenset(match["words"].split()), match["text"], match["said"])
        return f"```arch{match['words']}\n{match['text']}```\n```text\n{said_of(found)}\n```\n"

    def code(match: re.Match[str]) -> str:
        """A class that is shown belongs to the last example before it."""
        *_, last = FENCE.finditer(text[: match.start()])
        spec = Example(page, last.start(), frozenset(last["words"].split()), last["text"], None).source()
        parts = archdsl.build(archdsl.check(spec)).rstrip("\n").split("\n\n\n")
        (block,) = [part for part in parts if part.startswith(f"class {match['name']}(")]
        return f"```python\n{block}\n```\n"

    text = FENCE.sub(example, page.read_text("utf-8"))
    return CODE.sub(code, text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page_is_up_to_date(page: Path, update: bool) -> None:
    now = renewed(page)
    if update:
        page.write_text(now, "utf-8")
    assert page.read_text("utf-8") == now, "`pytest --update tests/test_docs.py` writes it anew"


def test_the_readme_shows_the_example_file() -> None:
    assert f"```arch\n{TINY.read_text('utf-8')}```\n" in (DOCS.parent / "README.md").read_text("utf-8")


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_those_of_the_code() -> None:
    parts = set()
    for path in reference().PAGES:
        page = path.read_text("utf-8")
        parts |= {part for part, _ in reference().PART.findall(page)}
        assert reference().renewed(page) == page, "`make docs` writes it anew"
    assert parts == {"operations", "changes", "limits", "codes", "functions"}


def test_the_page_of_errors_is_that_of_the_registry() -> None:
    page = (DOCS / "errors.md").read_text("utf-8")
    assert reference().errors() == page, "`make docs` writes it anew"


def test_the_page_of_commands_is_that_of_the_code() -> None:
    assert reference().commands() == (DOCS / "commands.md").read_text("utf-8"), "`make docs` writes it anew"


def test_links_lead_somewhere() -> None:
    """Links between pages, of the README and of CONTRIBUTING: to a file that is there, and to a heading of it."""
    for page in (*DOCS.rglob("*.md"), *ROOT.glob("*.md")):
        text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text):
            if "://" in target or target.startswith("mailto:"):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            assert file.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert set(re.findall(r"[\w/\-]+\.md", navigation)) == pages | {"index.md"}


@pytest.mark.long
def test_the_site_is_built(tmp_path: Path) -> None:
    """Strictly: every link between pages leads to one, and every page is in the navigation."""
    # Not --quiet, with which mkdocs counts no warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert "tutorial.html" in (tmp_path / "index.html").read_text("utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page: those of its headings, as GitHub makes them, and its own."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.+?)\s*$", text, flags=re.M)
    marks = re.findall(r'<a id="([^"]+)"></a>', text)
    return {*marks, *(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)}


@pytest.mark.parametrize("spec", ["resnet:resnet50", "unet:unet_padded"])
def test_the_module_page_shows_what_a_budget_writes(spec: str) -> None:
    """Of half of the memory, for a batch of 32."""
    page = (DOCS / "module.md").read_text("utf-8")
    shown = [text for text in re.findall(r"^```\n(.*?)^```$", page, flags=re.M | re.S) if "recomputed_" in text]
    search = Search(archdsl.check(spec), Budget(0, 32, optimizer="sgd"))
    plan = search.within(search.plain.peak // 2)
    assert plan is not None
    text = write_module(search.graph, recompute=plan.again)
    assert [part in text for part in shown].count(True) == 1 and len(shown) == 2


def test_the_code_on_the_module_runs() -> None:
    page = DOCS / "module.md"
    code = "".join(match["text"] for match in PYTHON.finditer(page.read_text("utf-8")))
    exec(compile(code, str(page), "exec"), {"__name__": "page"})
