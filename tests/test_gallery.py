"""The gallery shows what the code draws."""

import importlib.util
from types import ModuleType

import pytest

from tests.helpers import ROOT

DOCS = ROOT / "docs"


def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GALLERY = gallery()


PICTURES = [
    pytest.param(name, specs, options, marks=[pytest.mark.long] if "width" in options else [])  # many trials
    for name, _, specs, options, _ in GALLERY.PICTURES
]


@pytest.fixture(autouse=True)
def graphviz_of_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other versions of Graphviz, as a system may have, place some boxes elsewhere."""
    monkeypatch.setattr("archdsl.backends.diagram.render.shutil.which", lambda program: None)


@pytest.mark.parametrize(("name", "specs", "options"), PICTURES)
def test_each_picture_is_drawn_from_the_dot_text_of_today(name: str, specs: tuple[str, ...], options: dict) -> None:
    text = (DOCS / "images" / "gallery" / f"{name}.svg").read_text("utf-8")
    assert GALLERY.MARK.findall(text) == [GALLERY.digest(GALLERY.diagram(specs, options))], "`make gallery` renews it"


def test_the_page_shows_each_picture() -> None:
    assert (DOCS / "gallery.md").read_text("utf-8") == GALLERY.page(), "`make gallery` writes it anew"
    assert {p.stem for p in (DOCS / "images" / "gallery").iterdir()} == {p[0] for p in GALLERY.PICTURES}
