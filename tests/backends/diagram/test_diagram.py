"""Diagrams: what they collapse, which arrows are skips, and positions; never pixels."""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import combinations, pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from archdsl.analysis.costs import costs
from archdsl.backends.diagram import formats
from archdsl.backends.diagram.drawing import Diagram, DrawingError, draw
from archdsl.backends.diagram.layout import Box, Point, samples
from archdsl.backends.diagram.opening import encoder_decoder
from archdsl.backends.diagram.picture import Folder
from archdsl.backends.diagram.render import render
from archdsl.backends.diagram.scene import Polygon, Text
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.theme import LIGHT
from archdsl.backends.diagram.volumes import THINNEST
from archdsl.common import escaping
from archdsl.common.source import Source
from archdsl.compiler import check
from archdsl.dims import evaluate
from archdsl.graph import Graph, Scope, Tensor
from tests import published
from tests.helpers import ROOT, graph_of


def has_helvetica() -> bool:
    """Whether Graphviz finds letters here that are as wide as Helvetica's, for which boxes have room."""
    if shutil.which("fc-match") is None:
        return True  # it takes Helvetica's widths then
    found = subprocess.run(["fc-match", "Helvetica"], capture_output=True, text=True, check=False).stdout
    return any(name in found for name in ("Liberation", "Nimbus", "Helvetica", "Arial"))


HELVETICA = pytest.mark.skipif(
    not has_helvetica() and "CI" not in os.environ,
    reason="no letters as wide as Helvetica's on this machine: install fonts-liberation",
)


def drawn(text: str, **options: object) -> Diagram:
    return draw(graph_of(text), **options)  # type: ignore[arg-type]


def texts(picture: Diagram) -> list[str]:
    """Every text of the picture, as a reader of the SVG sees it."""
    root = ElementTree.fromstring(picture.svg())
    return [
        (element.text or "").replace("\xa0", " ").strip() for element in root.iter("{http://www.w3.org/2000/svg}text")
    ]


def laid_out(picture: Diagram) -> dict[str, object]:
    found: dict[str, object] = json.loads(render(picture.dot, "json", "fixed"))
    return found


# ---------------------------------------------------------------- folding

STAGES = """
block unit(width) { residual { conv(width, 3) -> batchnorm -> relu } }
block stage(width, count) { conv(width, 1)\n repeat count { unit(width) } }
model m() {
    input image[3, H = 32, W = 32]
    stage(8, 6)
    conv(16, 3) -> relu
    stage(16, 2)
}
"""


@pytest.mark.parametrize(
    ("depth", "expected", "absent"),
    [
        (0, {"stage": 2, "conv 3×3, 16": 1}, ["unit", "batchnorm · relu"]),
        (1, {"conv 1×1, 8": 1, "conv 1×1, 16": 1, "unit": 2, "× 6": 1, "× 2": 1}, ["batchnorm · relu"]),
        (2, {"batchnorm · relu": 2, "⊕": 2, "unit × 6": 1, "unit × 2": 1}, []),
    ],
)
def test_depth_opens_levels_and_equal_neighbours_are_one(
    depth: int, expected: dict[str, int], absent: list[str]
) -> None:
    found = texts(drawn(STAGES, depth=depth))
    for text, count in expected.items():
        assert found.count(text) == count, text
    assert not set(absent) & set(found)


def test_repetition_is_found_in_the_structure_not_in_the_text() -> None:
    """Blocks of different names that compute the same fold; one that differs in a number does not."""
    found = texts(
        drawn(
            "block one() { conv(4, 3)\n maxpool(3, 1, 1)\n conv(4, 1) }\n"
            "block two() { label: conv(4, 3, stride = 1)\n maxpool(3, stride = 1, pad = 1)\n conv(4, 1) }\n"
            "block other() { conv(4, 3)\n maxpool(3, 1, 1)\n conv(4, 3) }\n"
            "model m() {\n input x[4, 8, 8]\n one\n two\n one\n other\n}",
            depth=0,
        )
    )
    assert "× 3" in found and "other" in found


@pytest.mark.parametrize(
    "between",
    ["conv(4, 3)\n side: conv(4, 3)\n conv(4, 3)\n (it, side) -> add", "(it, it) -> concat -> conv(4, 3)\n conv(4, 3)"],
)
def test_what_is_used_elsewhere_is_not_folded_away(between: str) -> None:
    graph = graph_of(f"model m() {{\n input x[4, 8, 8]\n {between}\n}}")
    convs = sum(n.operation.name == "conv" for n in graph.nodes())
    shown = texts(draw(graph))
    folded = sum(int(t[2:]) for t in shown if re.fullmatch(r"× \d+", t))
    assert shown.count("conv 3×3, 4") + max(folded - 1, 0) == convs


def test_dense_layers_fold_though_each_sees_more_channels() -> None:
    found = texts(draw(check("densenet:densenet121"), depth=2))
    assert [t for t in found if t.startswith("× ")] == ["× 6", "× 12", "× 24", "× 16"]
    assert any(t.startswith("64…224 → 32") for t in found)


def test_a_folded_block_says_what_it_is_and_what_it_costs() -> None:
    found = texts(draw(check("resnet:resnet50"), depth=1))
    at = next(i for i, t in enumerate(found) if t.startswith("64 → 256, width 64, stride 1"))
    assert found[at - 1] == "bottleneck"
    assert found[at + 1] == "256 × 56 × 56"
    assert found[at + 2] == "<1 % params · 6 % MACs"


@pytest.mark.parametrize("spec", published.one_of_each(published.first_of_family))
def test_default_diagrams_fit_a_page_and_go_from_the_input_to_the_output(spec: str) -> None:
    graph = check(spec)
    picture = draw(graph)
    boxes = re.findall(r"^\t+p\d+ \[", picture.dot, re.MULTILINE)
    assert 3 <= len(boxes) <= 45
    found = texts(picture)
    outputs = [(output.name or "output", output.tensor) for output in graph.outputs if not output.training]
    for name, tensor in [(graph.root.input_names[0], Tensor(graph.input_nodes[0].id)), *outputs]:
        size = " × ".join(str(evaluate(d, graph.examples)) for d in graph.shape(tensor))
        assert (name, size) in pairwise(found)


def test_sizes_that_the_spec_leaves_open_are_named() -> None:
    assert "8 × H/2 × 16" in texts(
        drawn("model m() {\n input x[3, H, W = 32]\n maxpool(2) -> conv(8, 1)\n expect [_, H/2, _]\n}")
    )


# ---------------------------------------------------------------- skips

EDGE = re.compile(r"^\t+(\w+) -> (\w+) \[(.*)\]$", re.MULTILINE)


def test_identity_projection_and_trunk_look_different() -> None:
    dot = draw(check("resnet:resnet18"), depth=2).dot
    kinds = [
        "projection" if "style=dashed" in looks else "identity" if "penwidth" in looks else "trunk"
        for _, _, looks in EDGE.findall(dot)
    ]
    # layer1 folds two equal blocks into one, and layers 2 to 4 hold one block of each kind.
    assert kinds.count("identity") == 4
    assert kinds.count("projection") == 2 * 3
    assert {"identity skip", "projection skip"} <= set(texts(draw(check("resnet:resnet18"), depth=2)))


@pytest.mark.parametrize(
    ("merge", "sign"), [("add", "⊕"), ("mul", "⊗"), ("concat", "‖"), ("sub", "⊖"), ("maximum", "maximum")]
)
def test_merges_have_their_signs(merge: str, sign: str) -> None:
    assert sign in texts(drawn(f"model m() {{\n input x[4, 8, 8]\n (it, conv(4, 3)) -> {merge}\n}}"))


def test_encoder_decoders_are_drawn_as_a_u_with_level_skips() -> None:
    picture = draw(check("unet:unet"))
    skips = re.findall(r'penwidth=1.6 pos="e,\S+,(\S+) \S+,(\S+) ', picture.dot)
    assert len(skips) == 4 and all(head == tail for head, tail in skips)


GATED = """
block level(width, depth) {
    here: conv(width, 3)
    if depth > 0 {
        maxpool(2) -> level(2 * width, depth - 1) -> upsample(2) -> deep: conv(width, 3)
        (here, deep) -> add -> relu -> gated: conv(width, 1)
        (gated, deep) -> concat -> conv(width, 3)
    }
}
model m() { input x[3, H = 64, W = 64]
 level(8, 3) }
"""


ATTENTION = """
block gate(width) {
    input x[C, H, W], coarse[_, _, _]
    (x -> conv(width, 1), coarse -> conv(width, 1) -> resize(x.size)) -> add -> relu -> conv(1, 1) -> sigmoid
    (x, it) -> mul
}
block level(width, depth) {
    encode: conv(width, 3)
    if depth > 0 {
        maxpool(2)
        inner: level(2 * width, depth - 1)
        low: { }
        (encode, low) -> skip: gate(width / 2)
        (skip, low -> up: upconv(width, 2)) -> concat
        decode: conv(width, 3)
    }
}
model attention {
    input image[1, H = 64, W = 64]
    level(8, 3)
    head: conv(2, 1)
}
"""


@HELVETICA
def test_skips_of_a_u_run_straight_through_gates_that_what_comes_up_steers() -> None:
    graph = check(Source("attention.arch", ATTENTION))
    found = encoder_decoder(Folder(graph, Structure(graph)), costs(graph))
    assert found is not None
    picture = draw(graph)
    places = {name: ((a + c) / 2, (b + d) / 2) for name, (a, b, c, d) in boxes_of(laid_out(picture)).items()}
    rows = [[places[p.id] for p in (tail, gate, head)] for gate, (tail, head) in found[1].gates.items()]
    assert len(rows) == 3
    for row in rows:
        assert len({round(y, 1) for _, y in row}) == 1 and [x for x, _ in row] == sorted(x for x, _ in row)
    assert faults(picture) == []


def test_an_arrow_past_the_boxes_of_a_column_has_its_text_clear_of_them() -> None:
    picture = drawn(GATED)
    assert u_shaped(graph_of(GATED))
    assert len([1 for _, _, looks in EDGE.findall(picture.dot) if "lp=" in looks]) > 10
    assert faults(picture) == []


def u_shaped(graph: Graph) -> bool:
    return encoder_decoder(Folder(graph, Structure(graph)), costs(graph)) is not None


@pytest.mark.parametrize("spec", ["resnet:resnet18", "densenet:densenet121", "vgg:vgg19", "lenet:lenet"])
def test_other_networks_are_not(spec: str) -> None:
    assert not u_shaped(check(spec))


# ---------------------------------------------------------------- layout


def boxes_of(layout: dict[str, object]) -> dict[str, tuple[float, float, float, float]]:
    found = {}
    for thing in layout["objects"]:  # type: ignore[attr-defined]
        if "pos" in thing:
            x, y = map(float, thing["pos"].split(","))
            w, h = (36 * float(thing[k]) for k in ("width", "height"))
            found[thing["name"]] = (x - w, y - h, x + w, y + h)
    return found


def curve(pos: str) -> list[Point]:
    """Points along a spline of Graphviz."""
    points = [tuple(map(float, p.removeprefix("e,").split(","))) for p in pos.split()]
    return samples([(x, y) for x, y in (points[1:] if pos.startswith("e,") else points)], 16)


def words_of(thing: dict[str, Any]) -> list[tuple[str, Box]]:
    """The texts of a box, a frame or an arrow, and the room that each takes."""
    size, found = 9.0, []
    for op in thing.get("_ldraw_", ()):
        if op["op"] == "F":
            size = op["size"]
        if op["op"] == "T":
            (x, y), width = op["pt"], op["width"]
            left = x - {"l": 0, "c": 0.5, "r": 1}[op["align"]] * width
            found.append((op["text"], (left, y - size * 0.2, left + width, y + size * 0.75)))
    return found


def overlap(a: Box, b: Box, slack: float = 0.5) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack


def stands_out(box: Box, page: Box) -> bool:
    return box[0] < page[0] - 0.5 or box[1] < page[1] - 0.5 or box[2] > page[2] + 0.5 or box[3] > page[3] + 0.5


def loose_ends(edge: dict[str, Any], objects: Any, boxes: dict[str, Box], texts: dict[int, Box]) -> list[str]:
    """Ends of an arrow that are not at the border of their box; it may begin under the box's text or beside it."""
    points = edge["pos"].split()
    tip = next((p[2:] for p in points if p.startswith("e,")), points[-1])
    begin = next(p for p in points if not p.startswith("e,"))
    found = []
    for end, point, slack in (("tail", begin, 14), ("head", tip, 0)):
        x, y = map(float, point.split(","))
        name = objects[edge[end]]["name"]
        left, bottom, right, top = boxes[name]
        note = boxes.get(f"{name}_note")  # its middle
        if end == "tail" and note is not None and abs((note[0] + note[2]) / 2 - x) < 1:
            bottom = min(bottom, note[1])
        beside = texts[edge["tail"]][2] if end == "tail" and edge["tail"] in texts else right
        distances = [max(left - x, x - r, bottom - y, y - top) for r in (right, beside)]
        found += [] if any(-1 < far < 5 + slack for far in distances) else [end]  # a second outline is 4 points around
    return found


def faults(picture: Diagram) -> list[str]:
    """What a reader of the picture would stumble on: things on top of each other, words that do not fit."""
    layout: dict[str, Any] = laid_out(picture)  # type: ignore[assignment]
    boxes, objects, edges = boxes_of(layout), layout["objects"], layout.get("edges", [])
    frames = [(o, tuple(map(float, o["bb"].split(",")))) for o in objects if o["name"].startswith("cluster")]
    found = [f"{a} on {b}" for (a, p), (b, q) in combinations(boxes.items(), 2) if overlap(p, q)]
    words = [(text, room, thing) for thing in [*edges, *(o for o, _ in frames)] for text, room in words_of(thing)]
    found += [f"`{t}` on {name}" for t, room, _ in words for name, box in boxes.items() if overlap(room, box, 1.5)]
    found += [f"`{t}` on `{u}`" for (t, p, a), (u, q, b) in combinations(words, 2) if a is not b and overlap(p, q)]
    page = tuple(map(float, layout["bb"].split(",")))
    found += [f"{name} stands out of the picture" for name, box in boxes.items() if stands_out(box, page)]
    texts = {edge["tail"]: room for edge in edges for _, room in words_of(edge)}
    for edge in edges:
        ends = {objects[edge[end]]["name"] for end in ("tail", "head")}
        way = curve(edge["pos"])
        found += [f"{ends} stands out of the picture" for x, y in way if stands_out((x, y, x, y), page)][:1]
        found += [f"{ends} does not begin or end at its box" for _ in loose_ends(edge, objects, boxes, texts)]
        rooms = [(name, box) for name, box in boxes.items() if name not in ends]
        rooms += [(text, room) for text, room, thing in words if thing is not edge]
        found += [
            f"{ends} through {name}" for name, (a, b, c, d) in rooms if any(a < x < c and b < y < d for x, y in way)
        ]
    for thing in objects:
        if "pos" in thing and not thing["name"].endswith("_note"):
            left, bottom, right, top = boxes[thing["name"]]
            fits = (left <= a and c <= right and bottom <= b and d <= top for _, (a, b, c, d) in words_of(thing))
            found += [] if all(fits) else [f"words stand out of {thing['name']}"]
    names = {o["_gvid"]: o["name"] for o in objects}
    for frame, (left, bottom, right, top) in frames:
        held = (boxes[names[n]] for n in frame.get("nodes", ()))
        inside = (left <= a and bottom <= b and c <= right and d <= top for a, b, c, d in held)
        found += [] if all(inside) else [f"something stands out of {frame['name']}"]
    for (one, p), (other, q) in combinations(frames, 2):
        apart = not set(one.get("nodes", ())) & set(other.get("nodes", ()))
        found += [f"{one['name']} on {other['name']}"] if apart and overlap(p, q) else []
    return found


GATES = """
block attention_gate(width) {
    input x[C, H, W], gate[_, H, W]
    (x -> conv(width, 1), gate -> conv(width, 1)) -> add -> relu -> conv(1, 1) -> sigmoid
    (x, it) -> mul
}
block squeeze_excite(inner) {
    input x[C, _, _]
    (x, x -> global_avgpool -> conv(inner, 1) -> relu -> conv(C, 1) -> sigmoid) -> mul
}
block unit(width, stride = 1) {
    residual via { if stride != 1 { conv(width, 1, stride) -> batchnorm } } {
        conv(width, 3, stride) -> batchnorm -> relu -> conv(width, 3)
        squeeze_excite(width // 4)
    }
}
block a_name_as_long_as_some_people_write_them_in_their_networks(width) { dense { conv(width, 3) -> relu } }
model gates {
    input image[3, H = 64, W = 64], a_second_input_with_a_long_name[1, H, W]
    (image, a_second_input_with_a_long_name) -> concat -> skip: conv(16, 3)
    unit(16) -> unit(32, 2) -> upsample(2) -> deep: conv(16, 3)
    side: conv(4, 1)
    (skip, deep) -> attention_gate(8)
    long: { a_name_as_long_as_some_people_write_them_in_their_networks(4) -> maxpool(2) }
    a_name_as_long_as_some_people_write_them_in_their_networks(5)
    logits: conv(4, 1)
    output logits, long, aux = side if training
}
"""
# Residuals in residuals that repeat, laterals, and outputs beside the trunk.
PYRAMID = """
block unit(width) { residual { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) } -> relu }
block group(width, count) {
    residual {
        repeat count { unit(width) }
        conv(width, 1)
    }
}
block body(width) {
    residual { conv(width, 1) }
    residual {
        repeat 3 { group(width, 2) }
        conv(width, 3)
    }
}
model pyramid {
    input image[3, H = 64, W = 64]
    conv(16, 3) -> fine: body(16)
    maxpool(2) -> middle: conv(16, 3)
    maxpool(2) -> coarse: conv(16, 3)
    (middle -> conv(16, 1), coarse -> upsample(2)) -> p4: add
    (fine -> conv(16, 1), p4 -> upsample(2)) -> p3: add
    conv(16, 3) -> fine_out: conv(4, 1)
    p4 -> middle_out: conv(16, 3)
    coarse -> coarse_out: conv(16, 3)
    output fine_out, middle_out, coarse_out
}
"""
CROWDED: dict[str, str | Path | Source] = {
    "resnet18": "resnet:resnet18",
    "densenet121": "densenet:densenet121",
    "unet": "unet:unet",
    "fcdensenet56": "fcdensenet:fcdensenet56",
    "squeezenet": "squeezenet:squeezenet1_0",
    "inception": ROOT / "examples" / "inception.arch",
    "gates": Source("gates.arch", GATES),
    "pyramid": Source("pyramid.arch", PYRAMID),
    "edges": "edges:edges",
    "shufflenet": "shufflenet:shufflenet_v2_x0_5",
}


@HELVETICA
@pytest.mark.parametrize("options", [{}, {"depth": 9}, {"direction": "right", "depth": 2}], ids=str)
@pytest.mark.parametrize("spec", CROWDED)
def test_nothing_overlaps_and_no_arrow_runs_through_a_box(spec: str, options: dict[str, object]) -> None:
    assert faults(draw(check(CROWDED[spec]), **options)) == []  # type: ignore[arg-type]


# ---------------------------------------------------------------- formats

FIRST = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF", "dot": b"// made by archdsl", "tex": b"% made by archdsl"}


@pytest.mark.parametrize("style", formats.STYLES)
@pytest.mark.parametrize("form", FIRST)
def test_formats_by_the_ending_without_a_system_graphviz(
    form: str, style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    target = tmp_path / f"net.{form}"
    draw(check("lenet:lenet"), style=style).save(target)
    assert target.read_bytes().startswith(FIRST[form])
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_a_dot_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho made by $0 $@\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(DrawingError, match="Graphviz gave an unreadable layout"):
        draw(check("lenet:lenet")).svg()
    assert render("digraph {}", "svg") == f"made by {program} -Tsvg\n".encode()


def test_text_stays_text_in_a_pdf(tmp_path: Path) -> None:
    assert b"/ToUnicode" in draw(check("lenet:lenet")).pdf()


def test_an_existing_file_outlives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "net.svg"
    target.write_text("before")
    broken = Diagram(lambda: replace(draw(check("lenet:lenet")).drawing, dot="digraph {"))
    with pytest.raises(DrawingError):
        broken.save(target)
    with pytest.raises(ValueError, match=r"no format ends in `\.gif`"):
        draw(check("lenet:lenet")).save(tmp_path / "net.gif")
    assert target.read_text() == "before" and list(tmp_path.iterdir()) == [target]


def test_notebooks_show_it() -> None:
    picture = draw(check("lenet:lenet"))
    bundle = picture._repr_mimebundle_()
    assert picture._repr_svg_() == bundle["image/svg+xml"] and picture.svg().endswith(bundle["image/svg+xml"])
    assert bundle["image/svg+xml"].startswith("<svg") and bundle["text/html"].startswith('<img alt="lenet"')


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_themes(theme: str) -> None:
    dot = draw(check("resnet:resnet18"), theme=theme).dot
    colours = {c.lower() for c in re.findall("#[0-9a-fA-F]{6}", dot)}
    if theme == "print":
        assert all(c[1:3] == c[3:5] == c[5:7] for c in colours)
    assert dot != draw(check("resnet:resnet18"), theme={"light": "dark"}.get(theme, "light")).dot


@pytest.mark.parametrize("options", [{"theme": "pink"}, {"direction": "up"}, {"style": "oil"}])
def test_options_that_there_are_not(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"pink|up|oil"):
        drawn("model m() {\n input x[1, 4, 4]\n relu\n}", **options)


# ---------------------------------------------------------------- volumes


def quads(picture: Diagram, fill: str) -> list[tuple[float, float]]:
    """Widths and heights of the upright faces of a colour."""
    found = []
    for shape in picture.scene.shapes:
        if isinstance(shape, Polygon) and shape.pen.fill == fill and len(shape.points) == 4:
            (x1, y1), (x2, y2), (x3, y3), _ = shape.points
            if y1 == y2 and x2 == x3:
                found.append((x2 - x1, y3 - y2))
    return found


def test_sides_of_volumes_follow_the_square_roots_of_sizes_and_channels() -> None:
    text = "model m() {\n input x[4, H = 64, W = 64]\n conv(16, 3)\n maxpool(4)\n conv(64, 3)\n}"
    picture = drawn(text, style="volumes")
    (thin, high), (thick, low), _ = quads(picture, LIGHT.families["convolution"][0])  # the third is in the legend
    assert high / low == pytest.approx(sqrt(64 / 16))
    assert (thick - THINNEST) / (thin - THINNEST) == pytest.approx(sqrt(64 / 16))


@pytest.mark.parametrize("spec", ["unet:unet", "unet:unet_1d", "unet:unet_3d", "squeezenet:squeezenet1_0"])
def test_volumes_and_their_words_do_not_overlap(spec: str) -> None:
    graph = check(spec)
    picture = draw(graph, style="volumes")
    words = [s for s in picture.scene.shapes if isinstance(s, Text)]
    for a, b in combinations(words, 2):
        apart = abs(a.at[0] - b.at[0]) >= (a.width + b.width) / 2 - 1 or abs(a.at[1] - b.at[1]) >= min(a.size, b.size)
        assert apart, f"{a.text} and {b.text}"
    assert {w.text for w in words} <= {t.text for t in words} and len(texts(picture)) == len(words)


def test_a_concatenation_is_what_was_skipped_beside_what_came_up() -> None:
    picture = draw(check("unet:unet"), style="volumes")
    skipped = [q for q in quads(picture, LIGHT.background) if q[0] > THINNEST + 5]
    assert len(skipped) == 4


# ---------------------------------------------------------------- TikZ


@pytest.mark.parametrize("style", formats.STYLES)
def test_tikz_has_all_the_text_and_balanced_braces(style: str) -> None:
    picture = draw(check("unet:unet"), style=style)
    source = picture.tex()
    assert source.count("{") - source.count(r"\{") == source.count("}") - source.count(r"\}")
    assert source.count(r"\selectfont") == len(texts(picture))
    styles = set(re.findall(r"\\tikzset{(.*?)/\.style", source))
    colours = set(re.findall(r"\\definecolor{(\w+)}", source))
    places = re.findall(r"^\\coordinate \((\w+)\) at (.*);$", source, re.MULTILINE)
    boxes = [p for _, one in picture.drawing.pictures for p in one.boxes()]
    assert {p.id for p in boxes} <= {name for name, _ in places}
    # Each place is counted from the one before.
    assert all(f"$({before})+(" in at for (before, _), (_, at) in pairwise(places))
    for line in source.splitlines():
        if line.startswith((r"\path", r"\node", r"\coordinate")):
            assert line.endswith(";")
        if line.startswith(r"\path"):
            assert re.match(r"\\path\[(.*?)[,\]]", line)[1] in styles  # type: ignore[index]
        assert set(re.findall(r"(?:fill=|draw=|color{)(c\d+)", line)) <= colours


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b^c", r"a\_b\textasciicircum{}c"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("100 % & #1 $x$", r"100 \% \& \#1 \$x\$"),
        ("64 × 3 → ⌊H/2⌋", r"64 $\times$ 3 $\to$ $\lfloor$H/2$\rfloor$"),
        ("é日", r"é{\ttfamily U+65E5}"),
        ("27²  conv  \u22121", r"27\textsuperscript{2}~~conv~~$-$1"),
        ("   4 \u0025", r"~~~4 \%"),
        ("a--b ``c''", r"a{-}-b \textasciigrave{}\textasciigrave{}c\textquotesingle{}\textquotesingle{}"),
    ],
)
def test_text_is_data_for_latex(text: str, latex: str) -> None:
    assert escaping.latex(text) == latex


@pytest.mark.parametrize("spec", ["alexnet:alexnet", "unet:unet_3d", "mobilenet:mobilenet_v2"])
def test_latex_knows_every_sign_that_a_diagram_writes(spec: str) -> None:
    graph = check(spec)
    assert not re.search(r"U\+[0-9A-F]{4}", "".join(draw(graph, style=style).tex() for style in formats.STYLES))


@pytest.mark.parametrize("options", [{}, {"style": "volumes"}], ids=str)
def test_the_same_spec_gives_the_same_bytes(options: dict[str, str]) -> None:
    """In every process, wherever its objects lie and however its strings hash."""
    code = f"""
import random
from archdsl.compiler import check
from archdsl.backends.diagram.drawing import draw
keep = [object() for _ in range(random.randrange(100_000))]
print(draw(check("unet:unet"), **{options!r}).dot)
"""
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "012"
    }
    assert len(runs) == 1


# ---------------------------------------------------------------- hostile names

HOSTILE = [
    "<script>alert(1)</script>",
    '"]; evil [label="',
    "\\N \\G \\l",
    "&lt; & ]]>",
    "<<B>>",
    "a{b|c}",
    "\u202e\u0007x",
    "-",
]


@pytest.mark.parametrize("options", [{"depth": 0}, {"depth": 1}, {"style": "volumes", "depth": 0}], ids=str)
def test_names_of_a_spec_are_data(options: dict[str, Any]) -> None:
    calls = "\n".join(f" b{i}: b({i + 1})\n conv(3, {2 * i + 1})" for i in range(len(HOSTILE)))
    block = "block b(n) { residual { conv(3, 3) -> relu }\n maxpool(3, 1, 1) }\n"
    text = f"{block}model m() {{\n input x[3, 8, 8]\n{calls}\n}}"
    graph = graph_of(text)
    # Paths and identifiers are plain in a spec; a diagram does not rely on it.
    graph.name = HOSTILE[0]
    for member, name in zip([m for m in graph.root.members if isinstance(m, Scope)], HOSTILE, strict=True):
        member.name = member.path = name
        member.arguments = {"note": name}
        assert member.definition
        member.definition = replace(member.definition, name=name)
    picture = draw(graph, **options)
    found = texts(picture)
    for name in HOSTILE:
        plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
        if "style" in options:  # a figure has typographic quotes and strokes for these
            plain = plain.replace('"', "\u201d").replace("\\", "\u2216")
        assert plain in " ".join(found), plain
    names = {o["name"] for o in laid_out(picture)["objects"]}  # type: ignore[attr-defined]
    assert all(re.fullmatch(r"(cluster_)?[pi]\d+(_\w+)?|[ab]", n) for n in names)
    assert not re.search(r"<script|onload", picture.svg())


# ---------------------------------------------------------------- large networks


def test_ten_thousand_nodes_fold() -> None:
    """Costs are counted, not timed: what is drawn stays small."""
    text = """
block unit(width) { residual { conv(width, 3) -> batchnorm -> relu\n conv(width, 3) -> batchnorm }\n relu }
block stage(width, count) { conv(width, 3, 2)\n repeat count { unit(width) } }
model m() {
    input image[3, H = 64, W = 64]
    for width in [8, 16, 32, 64] { stage(width, 350) }
}
"""
    graph = graph_of(text)
    assert sum(1 for _ in graph.nodes()) > 9_800
    picture = draw(graph)
    assert len(re.findall(r"^\t+p\d+ \[", picture.dot, re.MULTILINE)) <= 40


def test_a_long_network_without_blocks_is_gathered_by_resolution() -> None:
    text = """
model m() {
    input image[3, H = 64, W = 64]
    for i in 0..600 { conv(8 + (i * i) % 61, 3) -> relu }
    maxpool(2)
    for i in 0..600 { conv(8 + (i * i) % 61, 3) -> relu }
}
"""
    found = texts(draw(graph_of(text)))
    assert found.count("1200 operations") == 1 and found.count("1201 operations") == 1


def test_branches_stand_side_by_side() -> None:
    graph = check(ROOT / "examples" / "inception.arch")
    objects = laid_out(draw(graph, depth=1))["objects"]
    heights: dict[str, set[float]] = {}
    for thing in objects:  # type: ignore[attr-defined]
        words = [op["text"] for op in thing.get("_ldraw_", ()) if op["op"] == "T"]
        if words and words[0] in ("conv 1×1, 64", "branch2", "branch3", "maxpool 3×3") and "pos" in thing:
            heights.setdefault(words[0], set()).add(float(thing["pos"].split(",")[1]))
    first, second = heights["branch2"]
    assert heights["branch3"] == heights["maxpool 3×3"] == {first, second}
    # The second block's last branch has an equal convolution further down.
    assert heights["conv 1×1, 64"] & {first, second}


UNNAMED = """
model m {
    input x[8, 16, 16]
    repeat 4 { scope { residual { conv(8, 3) -> relu -> conv(8, 3) } } }
    scope { conv(8, 5) -> relu -> conv(8, 5) }
    outer: { for i in 0..2 { "{i}": { residual { conv(8, 7) -> relu -> conv(8, 3) } } } }
    for i in 0..3 { "layers.{i}": { residual { conv(8, 5) -> relu -> conv(8, 1) } } }
    for i in 0..3 { "stage{i}": { residual { conv(8, 3) -> relu -> conv(8, 1) } } }
}
"""


@pytest.mark.parametrize("style", ["boxes", "volumes"])
@pytest.mark.parametrize("depth", [0, 1, 9])
def test_a_number_is_no_title_and_a_repetition_goes_by_no_label_of_one_round(style: str, depth: int) -> None:
    picture = drawn(UNNAMED, style=style, depth=depth)
    words = [word for text in texts(picture) for word in text.split()]
    assert not {"stage0", "layers.0"} & set(words)
    titles = [picture.drawing.writer.captions.title(p) for p in picture.drawing.pictures[0][1].walk() if p.scope]
    assert not any(title[:1].isdigit() for title in titles if not title.endswith("operations"))
    assert {"× 4", "× 2", "layers × 3", "stage × 3"} <= set(headings(picture)) or depth < 2
    assert not any(re.match(r"\d", heading) for heading in headings(picture))


def test_a_label_that_is_a_number_goes_with_the_name_around_it() -> None:
    unit = "block unit { conv(8, 3) -> relu -> conv(8, 3) }"
    layers = 'features: { "0": { conv(8, 7) -> conv(8, 5) }\n "1": unit\n scope { conv(8, 1) -> conv(8, 5) } }'
    text = f"{unit}\nmodel m {{\n input x[8, 16, 16]\n {layers}\n conv(8, 1)\n}}"
    assert {"features.0", "1: unit", "features.2"} <= set(texts(drawn(text, depth=1)))
    assert headings(drawn(text, depth=9)) == ["features", "features.0", "1: unit", "features.2"]


def headings(picture: Diagram) -> list[str]:
    captions = picture.drawing.writer.captions
    return [captions.frame(part) for _, one in picture.drawing.pictures for part in one.walk() if part.children]


def test_a_number_is_no_name_of_an_inset() -> None:
    layers = "".join(f"conv(8, {2 * k + 1}) -> batchnorm -> relu\n" for k in range(1, 9))
    picture = drawn(f"model m {{\n input x[8, 64, 64]\n for w in 8..14 {{ scope {{ conv(w, 1)\n {layers} }} }}\n}}")
    insets = [heading for heading, _ in picture.drawing.pictures if heading]
    assert insets
    assert all(heading.startswith("25 operations: 8 → 8") for heading in insets)


def test_a_frame_names_no_block_that_it_holds_alone() -> None:
    unit = "block unit(out) { residual via conv(out, 1) { conv(out, 3) -> relu -> conv(out, 3) } }"
    stages = 'for i in 1..4 { "stage{i}": { for j in 0..(4 - i) { unit(8 * i + j) } } }'
    picture = drawn(f"{unit}\nmodel m {{ input x[8, 16, 16]\n {stages} }}", depth=1)
    assert headings(picture) == ["stage1", "stage2", "stage3"]
    folded = drawn(f"{unit}\nmodel m {{ input x[8, 16, 16]\n {stages} }}", depth=0)
    assert {"stage1", "stage2", "stage3: unit"} <= set(texts(folded))


@pytest.mark.parametrize(
    ("labels", "operation", "shown"),
    [
        (["a", "b"], "normalize", ["a", "b"]),
        (["q", "k", "v"], "conv(8, 1)", ["q", "k", "v"]),
        (["in", "out"], "linear(8)", ["in", "out"]),
        (["max", "pool"], "maxpool(3, 1, 1)", []),
        (["avg", "pool"], "global_avgpool", []),
    ],
)
def test_alike_boxes_all_show_their_labels_or_none(labels: list[str], operation: str, shown: list[str]) -> None:
    branches = ", ".join(f"x -> {label}: {operation}" for label in labels)
    picture = drawn(f"model m {{\n input x[8, 16, 16]\n ({branches}) -> concat\n}}")
    captions = picture.drawing.writer.captions
    found = [captions.box(p).label for p in picture.drawing.pictures[0][1].boxes() if p.kind == "layers"]
    assert [label for label in found if label] == shown
