"""Figures for a given width in print: they fit, their text can be read, and they say what they leave out."""

from itertools import combinations
from pathlib import Path

import pytest

from archdsl.backends.diagram.colours import read_colours
from archdsl.backends.diagram.detail import Detail
from archdsl.backends.diagram.drawing import Diagram, draw
from archdsl.backends.diagram.scene import Text
from archdsl.compiler import check
from tests.backends.diagram.test_diagram import HELVETICA, drawn, texts
from tests.backends.diagram.truth import falsehoods
from tests.published import library

COLUMN = 3.3 * 72


def printed(diagram: Diagram) -> tuple[float, float]:
    """Width and height in print, in inches, as the file says."""
    left, bottom, right, top = diagram.scene.bounds
    scale = diagram.drawing.scale / 72
    return scale * (right - left), scale * (top - bottom)


def smallest(diagram: Diagram) -> float:
    """Points of the smallest text in print."""
    return diagram.drawing.scale * min(s.size for s in diagram.scene.shapes if isinstance(s, Text))


def collisions(diagram: Diagram) -> list[str]:
    """Texts that lie on others."""
    words = [s for s in diagram.scene.shapes if isinstance(s, Text)]

    def apart(a: Text, b: Text) -> bool:
        aside = abs(a.at[0] - b.at[0]) >= (a.width + b.width) / 2 - 1
        return aside or abs(a.at[1] - b.at[1]) >= min(a.size, b.size) - 1.5

    return [f"{a.text} on {b.text}" for a, b in combinations(words, 2) if not apart(a, b)]


def assert_fits(spec: str) -> None:
    diagram = draw(check(spec), width=COLUMN)
    width, height = printed(diagram)
    assert (width <= 3.3 and height <= 9) or diagram.notes
    assert smallest(diagram) >= 6.99
    assert collisions(diagram) == []
    assert list(falsehoods(diagram)) == []


@HELVETICA
@pytest.mark.parametrize("spec", ["resnet:resnet50", "vit:vit_b_16"])
def test_figures_fit_a_column(spec: str) -> None:
    assert_fits(spec)


@pytest.mark.long
@HELVETICA
@pytest.mark.parametrize("spec", library())
def test_every_model_fits_a_column_or_says_why_not(spec: str) -> None:
    assert_fits(spec)


def test_what_is_cut_off_stands_below() -> None:
    found = texts(draw(check("resnet:resnet50"), width=COLUMN))
    assert any(text.startswith("not shown: batchnorm, relu") for text in found)
    assert "bottleneck" in found


def test_a_trunk_beside_itself_leaves_room_for_what_teaches() -> None:
    [(_, _), (heading, inset)] = draw(check("googlenet:googlenet"), width=COLUMN).drawing.pictures
    assert heading.startswith("inception") and sum(box.kind == "merge" for box in inset.boxes()) == 1


def test_long_networks_wrap() -> None:
    text = "model m() {\n input x[3, H = 32, W = 32]\n for i in 1..=40 { conv(8 + i, 3) -> relu }\n}"
    left, bottom, right, top = drawn(text).scene.bounds
    assert top - bottom < 1000 and right - left > 300
    left, bottom, right, top = drawn(text, direction="right").scene.bounds
    assert right - left < 1500 and top - bottom > 150


@pytest.mark.parametrize(
    ("detail", "gone"),
    [
        (Detail(title=False), "resnet50"),
        (Detail(legend=False), "convolution"),
        (Detail(shares=False), "<1 % params · 6 % MACs"),
        (Detail(sizes=False), "64 × 112 × 112"),
        (Detail(labels=False), "fc:"),
    ],
)
def test_switches(detail: Detail, gone: str) -> None:
    graph = check("resnet:resnet50")
    assert gone in texts(draw(graph)) and gone not in texts(draw(graph, detail=detail))


def test_kernels_are_on_the_maps_that_layers_read() -> None:
    text = "model m() {\n input x[3, 64, 64]\n conv(8, 5) -> relu\n conv(8, 3, dilation = 2)\n flatten -> linear(4)\n}"
    plain, full = (drawn(text, style="volumes", detail=Detail(kernels=k)) for k in (False, True))
    more = [thing for thing in full.scene.things if thing not in plain.scene.things]
    heights = [max(y for _, y in t.shapes[-1].points) - min(y for _, y in t.shapes[-1].points) for t in more]  # type: ignore[union-attr]
    assert len(more) == 2 and heights[0] == pytest.approx(heights[1])  # 5 places each: 2 · (3 - 1) + 1
    with pytest.raises(ValueError, match="in volumes alone"):
        drawn(text, detail=Detail(kernels=True))


COLOURS = """
[families]
convolution = { fill = "#ffe0e0", name = "conv layers" }
[groups.trunk]
paths = ["layer1", "layer[23].*"]
fill = "#ddffdd"
border = "#008000"
[names]
bottleneck = "Bottleneck"
"""


def test_own_colours_and_names(tmp_path: Path) -> None:
    file = tmp_path / "colours.toml"
    file.write_text(COLOURS)
    diagram = draw(
        check("resnet:resnet50"), colours=read_colours(file), detail=Detail(caption="Figure 1. " + "word " * 40)
    )
    found = texts(diagram)
    assert {"conv layers", "trunk", "Bottleneck"} <= set(found) and "bottleneck" not in found
    assert sum(text.count("word") for text in found) == 40
    boxes = [p for p in diagram.drawing.pictures[0][1].boxes() if p.kind == "block"]
    green = [p for p in boxes if diagram.drawing.writer.colours(p)[0] == "#ddffdd"]
    assert {n.path.split(".")[0] for p in green for n in p.covered} == {"layer1", "layer2", "layer3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "no TOML"),
        ("[family]", "there is no table"),
        ("[families]\nconv = '#ffffff'", "there is no family `conv`"),
        ("[families]\nconvolution = 'red'", "'red' is no colour"),
        ("[families]\nconvolution = 3", "is a colour such as"),
        ("[groups.a]\nfill = '#ffffff'", "needs paths"),
        ("[names]\na = 1", "is a text"),
        ("families = 1", "is a table"),
    ],
)
def test_files_that_are_no_colours(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "colours.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_colours(file)
