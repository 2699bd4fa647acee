"""Networks that keep several resolutions: a row for each, in which its streams run, through boxes as high as these."""

import pytest

from archdsl.backends.diagram.drawing import Diagram, draw
from archdsl.backends.diagram.scene import Curve, Text
from archdsl.compiler import check, diff
from archdsl.compiler import draw as drawing
from tests.backends.diagram.test_diagram import HELVETICA, faults, texts
from tests.backends.diagram.test_width import COLUMN, printed
from tests.backends.diagram.truth import falsehoods
from tests.helpers import graph_of

STREAMS = """
block fuse(width) {
    input a[_, H, W], b[_, _, _], c[_, _, _]
    (a -> conv(width, 3), b -> conv(width, 1) -> upsample(2)) -> fine: add
    (b -> conv(width, 3), a -> conv(width, 3, stride = 2)) -> middle: add
    (c -> conv(width, 3), b -> conv(width, 3, stride = 2)) -> coarse: add
    output fine, middle, coarse
}
block head(classes) {
    input x[_, _, _]
    x -> scores: conv(classes, 1)
    x -> boxes: conv(4, 1)
    output scores, boxes
}
model streams {
    input image[3, H = 64, W = 64]
    one: conv(8, 3, stride = 2)
    two: conv(16, 3, stride = 2)
    three: conv(32, 3, stride = 2)
    (one, two, three) -> (a, b, c): fuse(8)
    (a, b, c) -> (d, e, f): fuse(8)
    share head: head(5)
    d -> head -> (s1, b1): it
    e -> head -> (s2, b2): it
    f -> head -> (s3, b3): it
    output s1, b1, s2, b2, s3, b3
}
"""


def sides(diagram: Diagram, title: str) -> list[tuple[float, float]]:
    """Width and height of the boxes whose first line is this."""
    found = []
    for thing in diagram.scene.things:
        if thing.name and not thing.frame and diagram.scene.texts(thing.name)[:1] == [title]:
            points = [p for s in thing.shapes if isinstance(s, Curve) for p in s.points]
            xs, ys = zip(*points, strict=True)
            found.append((max(xs) - min(xs), max(ys) - min(ys)))
    return found


@HELVETICA
@pytest.mark.parametrize("width", [None, 12 * 72.0])
def test_a_box_of_several_streams_is_in_all_their_rows(width: float | None) -> None:
    diagram = draw(graph_of(STREAMS), depth=None, width=width)
    assert list(falsehoods(diagram)) == [] and faults(diagram) == []
    assert "shared A, call 1 of 3" in texts(diagram)
    [box] = {(round(w), round(h)) for w, h in sides(diagram, "fuse")}
    assert box[1] > 2 * max(height for _, height in sides(diagram, "head"))
    assert all(diagram.scene.strokes(e.tail.id, e.head.id) == 1 for e in diagram.drawing.pictures[0][1].edges)


@HELVETICA
def test_a_grid_runs_in_the_direction_that_is_asked_for() -> None:
    """Streams keep to their rows to the right, and to their columns down."""
    for direction, axis in (("right", 1), ("down", 0)):  # blocks reach over all their streams
        diagram = draw(graph_of(STREAMS), direction=direction)  # type: ignore[arg-type]
        assert list(falsehoods(diagram)) == [] and faults(diagram) == []
        assert all(box[axis] > 1.5 * box[1 - axis] for box in sides(diagram, "fuse"))


@pytest.mark.parametrize("spec", ["hrnet:hrnet_w18", "fpn:retinanet_resnet50_fpn_v2", "maxvit:maxvit_t"])
@pytest.mark.long
def test_wide_networks_fit_a_column(spec: str) -> None:
    diagram = draw(check(spec), width=COLUMN)
    width, height = printed(diagram)
    assert width <= 3.3 and height <= 9 and not diagram.notes


def test_what_layers_without_padding_take_off_makes_no_row() -> None:
    """Of the U-Net of the paper: beside 568, 392 is nearer to 284, but of one level."""
    shapes = drawing(check("unet:unet"), direction="right").scene.shapes
    down, up = (
        {round(s.at[1], 1) for s in shapes if isinstance(s, Text) and s.text == f"{way}: double_conv"}
        for way in ("encode", "decode")
    )
    assert len(up) == 4 and up < down


def test_a_comparison_has_the_form_of_its_networks() -> None:
    found = drawing(diff(check("unet:unet"), check("unet:unet_padded")))
    left, bottom, right, top = found.scene.bounds
    assert right - left > top - bottom
    assert "was 1 × 572 × 572" in texts(found)  # to which the difference of multiply-accumulates is due
    assert "identity skip" not in texts(found)  # what was removed has a colour of its own


def test_a_body_without_a_name_says_how_much_it_holds() -> None:
    text = "model m { input x[3, 8, 8]\n { conv(4, 3) -> relu -> conv(4, 3) -> relu -> maxpool(2) -> conv(8, 1) } }"
    diagram = draw(graph_of(text), depth=0)
    assert list(falsehoods(diagram)) == [] and all(
        diagram.scene.texts(part.id) for part in diagram.drawing.pictures[0][1].boxes()
    )


@HELVETICA
def test_the_notes_of_a_merge_give_way_to_an_arrow_from_below() -> None:
    text = """
    model net {
        input x[4, 6, 5]
        (conv(1, 1) -> conv(1, 3) -> pad(1x0), conv(4, 3), x -> upconv(2, 2, stride = 2)) -> align(resize) -> concat
    }
    """
    assert faults(draw(graph_of(text))) == []
    assert list(falsehoods(draw(graph_of(text)))) == []
