"""The language reference: every example does what the page says, and the operations are those of the code.

An example is a fenced block that begins with ```arch; the words behind that say what it is:
`body`   statements alone, which stand in a model with `input x[16, H = 32, W = 32]`
`error`  it is wrong; the ```text block behind shows the diagnostics
`keys`   the ```text block behind shows the keys of the compiled module's state_dict
A ```text block behind an example is what archdsl says of it; `pytest --update` writes it anew.
"""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from archdsl import compiler, report
from archdsl.diagnostics import Diagnostics, SpecError, render
from archdsl.graph import Graph
from archdsl.source import Source

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "language.md", DOCS.parent / "README.md"]
FENCE = re.compile(r"^```arch(?P<words>[a-z ]*)\n(?P<text>.*?)^```\n(?:^```text\n(?P<said>.*?)^```\n)?", re.M | re.S)


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
    module, _ = compiler.locate(source, diagnostics)
    names = [m for m in module.models if compiler.model_info(module, m, diagnostics).complete]
    graphs = [compiler.check_model(module, name, {}, Diagnostics()) for name in names]
    assert graphs, "an example without a model"
    return graphs


def keys(graph: Graph) -> Iterator[str]:
    for node in graph.nodes():
        for weight in node.operation.weights(graph.shapes(node.inputs)):
            yield f"{node.path}.{weight.name}"


def said_of(example: Example) -> str:
    """What archdsl says of an example."""
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
    said = said_of(example)
    if example.said is not None:
        assert example.said.rstrip("\n") == said, "`pytest --update tests/test_docs.py` writes it anew"
    else:
        assert not example.words & {"error", "keys"}, "what it gives should follow in a ```text block"


def test_update(update: bool) -> None:
    """Not a test of its own: with --update, writes what archdsl says into the pages."""
    if not update:
        return
    for page in PAGES:

        def renewed(match: re.Match[str], page: Path = page) -> str:
            if match["said"] is None:
                return match[0]
            example = Example(page, match.start(), frozenset(match["words"].split()), match["text"], match["said"])
            return f"```arch{match['words']}\n{match['text']}```\n```text\n{said_of(example)}\n```\n"

        page.write_text(FENCE.sub(renewed, page.read_text("utf-8")), "utf-8")


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_operations_are_those_of_the_code() -> None:
    page = (DOCS / "language.md").read_text("utf-8")
    assert reference().renewed(page) == page, "`make docs` writes them anew"
