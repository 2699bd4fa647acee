"""Diagrams of windows, learned tensors, what is shared and what repeats with other numbers, held against the graph."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archdsl.backends.diagram.colours import read_colours
from archdsl.backends.diagram.drawing import Diagram, draw
from archdsl.backends.diagram.layered import spread
from archdsl.backends.diagram.picture import Picture
from archdsl.backends.diagram.scene import Text
from archdsl.backends.diagram.theme import DARK, LIGHT
from archdsl.compiler import check, diff
from archdsl.compiler import draw as drawing
from archdsl.dims import evaluate
from tests.backends.diagram.test_diagram import drawn, faults, texts
from tests.helpers import ROOT, graph_of

SHIFTED = """
model net {
    input x[8, H = 28, W = 28]
    conv(16, 3)
    residual { layernorm -> windows(7, shift = 3) { linear(48) -> split(3) -> attend(4) -> linear(16) } }
    linear(8)
}
"""

TOKENS = """
block layer(rate) {
    residual { layernorm -> linear(8) -> droppath(rate) }
}
model net {
    input x[8, 16]
    class_token: parameter([8, 1])
    (class_token, x) -> both: concat(axis = 1)
    place: parameter([8, 17])
    (both, place) -> add
    for i in 0..4 { layer(i / 10) }
}
"""

SIAMESE = """
model net {
    input left[3, H = 16, W = 16], right[3, H, W]
    share tower: { conv(4, 3) -> batchnorm -> relu -> maxpool(2) -> last: conv(4, 3) }
    (left -> tower, right -> tower) -> concat -> conv(2, 1)
}
"""

STREAMS = """
block mix(width) {
    input a[_, H, W], b[_, _, _]
    (a, b -> conv(width, 1) -> resize(a.size)) -> one: add
    (b, a -> conv(2 * width, 3, stride = 2)) -> two: add
    output one, two
}
block last(width) {
    input a[_, H, W], b[_, _, _], c[_, _, _]
    (a, b -> conv(width, 1) -> resize(a.size), c -> conv(width, 1) -> resize(a.size)) -> add
}
model net {
    input x[8, 32, 32]
    y: conv(16, 3, stride = 2)
    (x, y) -> s: mix(8)
    s[1] -> z: conv(32, 3, stride = 2)
    (s[0], s[1], z) -> last(8)
}
"""


def pictures(diagram: Diagram) -> list[Picture]:
    return [picture for _, picture in diagram.drawing.pictures]


def assert_as_in_the_graph(picture: Picture) -> None:
    """Each arrow is a way through the graph by nodes that no box shows, and no way between two boxes is missing."""
    graph = picture.graph
    owner = {n.id: box for box in picture.boxes() for n in box.covered}
    expected = set()
    shown = [node for box in picture.boxes() for node in box.nodes]  # of what repeats, the first round
    for node in shown:
        for tensor in node.sources:
            while tensor.node not in owner and (sources := graph.node(tensor).sources):
                tensor = sources[0]
            if tensor.node in owner and owner[tensor.node] is not owner[node.id]:
                expected.add((owner[tensor.node], owner[node.id]))
    outputs = {(owner[e.tensors[0].node], e.head) for e in picture.edges if e.head.kind == "output"}
    found: set[tuple[object, object]] = set()
    entries = {e.head: e.tail for e in picture.edges if e.head.kind == "entry"}
    for edge in picture.edges:
        tail = edge.tail
        while tail in entries:
            tail = entries[tail]
        if edge.head.kind != "entry":
            found.add((tail, edge.head))
            assert all(owner[t.node] is tail for t in edge.tensors)
    assert found == expected | outputs


@pytest.mark.parametrize("text", [SHIFTED, TOKENS, SIAMESE])
@pytest.mark.parametrize("style", ["boxes", "volumes"])
def test_arrows_are_those_of_the_graph(text: str, style: str) -> None:
    assert_as_in_the_graph(pictures(drawn(text, style=style))[0])


def test_windows_are_a_frame_around_what_meets_them() -> None:
    diagram = drawn(SHIFTED)
    found = texts(diagram)
    assert found.count("windows 7×7, shift 3") == 1 and "windows" in found  # its heading, and the legend
    assert not {"join windows", "mask strangers"} & set(found)
    [frame] = [p for p in pictures(diagram)[0].walk() if p.kind == "windows"]
    graph = pictures(diagram)[0].graph
    inside = {n.id for p in frame.walk() if not p.children for n in p.covered}
    windowed = {n.id for n in graph.nodes() if n.windows is not None and not n.operation.cuts}
    assert inside == windowed
    # Sizes within are those of a window.
    assert "48 × 7 × 7" in found
    assert LIGHT.families["windows"][1] in diagram.dot
    assert DARK.families["windows"][1] in drawn(SHIFTED, theme="dark").dot


def test_learned_tensors_go_by_their_names() -> None:
    diagram = drawn(TOKENS)
    found = texts(diagram)
    assert {"class_token", "place"} <= set(found) and found.count("parameter") == 2
    assert "×N" not in found and not any("expand" in text for text in found)
    [token] = [b for b in pictures(diagram)[0].boxes() if b.nodes and b.nodes[0].path == "class_token"]
    [arrow] = [e for e in pictures(diagram)[0].edges if e.tail is token]
    assert arrow.head.kind == "merge" and arrow.kind == "flow"


def test_layers_that_differ_in_a_rate_are_one_with_its_range() -> None:
    found = texts(drawn(TOKENS, depth=0))
    assert "× 4" in found and any("rate 0…0.3" in text for text in found)
    assert any("droppath 0…0.3" in text for text in texts(drawn(TOKENS, depth=1)))
    other = TOKENS.replace("linear(8)", "linear(8 + i) -> linear(8)").replace("layer(rate)", "layer(rate, i)")
    assert "× 4" not in texts(drawn(other.replace("layer(i / 10)", "layer(i / 10, i)"), depth=0))


def test_a_run_may_take_the_same_tensor_from_outside_each_time() -> None:
    text = (
        "block layer(width) { input x[C, _, _], p[_, _, _]\n (x -> conv(width, 3), p) -> add }\n"
        "model net {\n input x[4, 8, 8], p[4, 8, 8]\n layers: { for i in 0..3 { (x, p) -> layer(4) -> x: { } } }\n}"
    )
    diagram = drawn(text, depth=1)
    assert "× 3" in texts(diagram)
    assert_as_in_the_graph(pictures(diagram)[0])


def test_calls_of_one_thing_have_one_letter_and_one_colour() -> None:
    for theme in (LIGHT, DARK):
        diagram = drawn(SIAMESE, theme="dark" if theme is DARK else "light")
        assert texts(diagram).count("tower (shared A)") == 2
        assert "A: tower, 2 calls of one module" in texts(diagram)
        assert len(re.findall(rf"cluster_\w+ \{{\n[^\n]*{theme.shared[0]}", diagram.dot)) == 2
    assert {"shared A, call 1 of 2", "shared A, call 2 of 2"} <= set(texts(drawn(SIAMESE, depth=0)))
    assert any("(A)" in text for text in texts(drawn(SIAMESE, style="volumes")))


def test_streams_from_block_to_block_are_no_skips() -> None:
    picture = pictures(drawn(STREAMS, depth=0))[0]
    blocks = [e for e in picture.edges if e.tail.kind == e.head.kind == "block"]
    assert [(len(e.tensors), e.kind) for e in blocks] == [(2, "flow")]


@pytest.mark.parametrize("text", [SHIFTED, TOKENS, SIAMESE])
@pytest.mark.parametrize("direction", ["down", "right"])
def test_nothing_overlaps(text: str, direction: str) -> None:
    assert faults(drawn(text, direction=direction)) == []


def test_swin_shows_its_windows_and_the_shifted_ones() -> None:
    diagram = draw(check("swin:swin_t"))
    frames = [p for picture in pictures(diagram) for p in picture.walk() if p.kind == "windows"]
    shown = {diagram.drawing.writer.captions.frame(frame) for frame in frames}
    assert shown == {"windows 7×7", "windows 7×7, shift 3"} and "× 3" in texts(diagram)
    for picture in pictures(diagram):
        for edge in picture.edges:
            sizes = {tuple(evaluate(d, picture.graph.examples) for d in picture.graph.shape(t)) for t in edge.tensors}
            told = {" × ".join(map(str, size)) for size in sizes}
            assert set(diagram.drawing.writer.captions.edge(edge)) <= told


def test_a_comparison_says_at_the_frame_how_windows_changed() -> None:
    before, after = graph_of(SHIFTED.replace(", shift = 3", "")), graph_of(SHIFTED)
    found = texts(drawing(diff(before, after)))
    assert any(text.startswith("~ windows 7×7, shift 3") for text in found)


def test_every_call_of_a_shared_body_has_its_frame() -> None:
    """Those beside a fork, too: without it nobody would see that they are calls of the one."""
    spec = """
        model net {
            input x[8, H = 32, W = 32]
            conv(8, 3) -> levels: it
            repeat 2 { (levels, levels[-1] -> conv(8, 3, 2) -> relu) -> levels: it }
            share head: { conv(8, 3) -> relu -> conv(4, 1) }
            (for y in levels { y -> head }) -> (a, b, c): it
            output a, b, c
        }"""
    assert texts(drawn(spec)).count("head (shared A)") == 3


def test_the_page_has_the_frame_of_windows_and_the_mark_of_what_is_shared() -> None:
    def page(text: str) -> str:
        return drawn(text).data(".html").decode()

    fill, border = LIGHT.families["windows"]
    assert f'"text":"windows 7\u00d77, shift 3","fill":"{fill}","border":"{border}"' in page(SHIFTED).replace(
        "×", "\u00d7"
    )
    found = page(SIAMESE)
    assert found.count(f'"shared":"{LIGHT.shared[0]}"') >= 2 and "tower (shared A)" in found


ATTENTION = """
block heads(count, width) {
    input x[_, _]
    x -> q: linear(width)
    x -> k: linear(width)
    x -> v: linear(width)
    (q, k, v) -> attend(count) -> proj: linear(width)
}
model net {
    input image[3, 32, 32]
    conv(16, 3) -> tokens
    repeat 3 { residual { layernorm -> heads(4, 16) } }
}
"""


def test_queries_keys_and_values_are_beside_each_other_and_arrive_apart() -> None:
    diagram = drawn(ATTENTION)
    tips = []
    middles = {}
    for thing in diagram.scene.things:
        words = [s for s in thing.shapes if isinstance(s, Text)]
        if thing.name and words:
            middles["".join(w.text for w in words)] = words[-1].at
    q, k, v = (middles[f"{name}: linear 16"] for name in "qkv")
    attend = middles["attend, 4 heads"]
    assert q[1] == k[1] == v[1] > attend[1] and q[0] < k[0] < v[0]
    assert q[0] < attend[0] < v[0]
    for thing in diagram.scene.things:
        if thing.ends and "attend, 4 heads" in diagram.scene.texts(thing.ends[1]):
            tips.append(thing.shapes[0].points[-1][0])  # type: ignore[union-attr]
    assert len(set(map(round, tips))) == 3 and faults(diagram) == []


def test_a_network_within_one_body_is_opened_and_what_is_too_large_is_named() -> None:
    layers = "\n".join(f"        conv({8 + i}, 3) -> relu" for i in range(24))
    inside = f"model net {{\n    input x[3, 32, 32]\n    features: {{\n{layers}\n    }}\n    conv(2, 1)\n}}"
    assert "conv 3×3, 31" in texts(drawn(inside))
    blocks = f"block long {{\n{layers}\n}}\nmodel net {{\n    input x[3, 32, 32]\n    long -> conv(3, 1)\n"
    blocks += "    long -> conv(3, 3) -> long -> conv(2, 1)\n}"
    assert "not opened: long: 24 conv" in texts(drawn(blocks))


def test_dropouts_belong_to_the_layer_behind_them_in_a_body_that_begins_with_one() -> None:
    text = """model net { input x[8]
        classifier: { dropout -> linear(8) -> relu -> dropout -> linear(8) -> relu -> linear(4) } }"""
    found = texts(drawn(text))
    assert [t for t in found if "dropout" in t] == ["dropout 0.5"] and any(t.endswith("× 2") for t in found)


def test_a_block_that_mixes_many_streams_is_opened_although_it_is_large() -> None:
    found = texts(draw(check(ROOT / "tests" / "data" / "figures" / "hrnet.arch")))
    assert not any(text.startswith("not opened") for text in found) and "fuse3 16, 32, 64 → 16, 32, 64" in found


def test_volumes_say_which_outputs_are_there_only_in_training() -> None:
    text = """model net { input x[3, 8, 8]
        y: conv(4, 3) -> relu
        main: (conv(4, 3) -> flatten -> linear(2))
        y -> flatten -> aux: linear(2)
        output main, aux if training }"""
    assert "only in training" in texts(drawn(text, style="volumes"))


@pytest.mark.parametrize("direction", ["down", "right"])
def test_no_arrow_runs_through_the_notes_of_merges(direction: str) -> None:
    assert faults(draw(check("detr:detr_resnet50"), direction=direction)) == []  # type: ignore[arg-type]
    assert faults(draw(check("edges:edges"), direction=direction)) == []  # type: ignore[arg-type]


LABELLED_TOWERS = """
block tower() {
    conv(32, 5) -> batchnorm -> relu
    global_avgpool -> flatten -> linear(128)
}
model siamese() {
    input left[3, 96, 96], right[3, 96, 96]
    share embed: tower
    left -> embed -> a: it
    right -> embed -> b: it
    (a, b) -> both: concat
    (a, b) -> gap: mul
    (both, gap) -> concat -> linear(64)
}
"""


@pytest.mark.parametrize("direction", ["down", "right"])
def test_arrows_that_leave_a_frame_part_behind_it(direction: str) -> None:
    assert faults(drawn(LABELLED_TOWERS, direction=direction)) == []


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=9), st.floats(10, 100))
def test_arrows_arrive_apart_and_in_order(wanted: list[float], limit: float) -> None:
    wanted.sort()
    found = spread(wanted, limit)
    assert all(b - a >= min(16, limit / len(wanted)) - 1e-6 for a, b in pairwise(found))
    assert all(-limit - 1e-6 <= at <= limit + 1e-6 for at in found)
    straight = [at for want, at in zip(wanted, found, strict=True) if abs(want) < 1]
    assert not straight or any(abs(at) < 1e-6 for at in straight)


STAGE = "block stage(n, out) { for k in 0..n { conv(out + k, 3) -> relu -> conv(out, 3) } }"


@pytest.mark.parametrize(
    ("layer", "last", "entry"),
    [
        ("conv({0}, 3) -> relu", "", "conv 3×3 · relu"),
        ("conv({0}, 3) -> relu", "conv(8, 3)", "convolution (unlabelled: conv 3×3 · relu)"),
        ("conv({0}, 3)", "conv(8, 3, 2)", "conv 3×3"),
        ("conv({0}, 3, 2)", "conv(8, 3)", "conv 3×3 (unlabelled: /2)"),
        ("conv({0}, 3)", "conv(8, 7) -> upconv(8, 2)", "convolution (unlabelled: conv 3×3)"),
        ("stage(2, {0})", "", "stage"),
        ("stage(2, {0})", "stage(1, 8) -> stage(3, 8)", "stage (unlabelled: n 2)"),
        ("stage(2, {0})", "rest: { conv(8, 3) -> conv(8, 5) }", "block (unlabelled: stage)"),
    ],
)
def test_a_colour_of_volumes_means_what_all_its_maps_have_in_common(layer: str, last: str, entry: str) -> None:
    layers = "\n ".join([*(layer.format(64 + k) for k in range(9)), last])
    picture = drawn(f"{STAGE}\nmodel m {{\n input x[64, 1024, 1024]\n {layers}\n}}", style="volumes", depth=0)
    [legend] = [thing for thing in picture.scene.things if not thing.name and thing.ends is None]
    words = [shape.text for shape in legend.shapes if isinstance(shape, Text)]
    assert entry in words
    unlabelled = [thing for thing in picture.scene.things if thing.name and len(thing.shapes) == 5]
    assert len(unlabelled) == 9  # three faces, channels and sides


def test_volumes_in_colours_of_your_own_say_what_has_no_label(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[families]\nconvolution = { fill = "#cfe5f4", name = "filters" }\n'
        '[groups.neck]\npaths = ["neck"]\nfill = "#ffeecc"\n'
    )
    layers = "\n ".join(f"conv({64 + k}, 3, 2)" for k in range(5))
    neck = "\n ".join(f"conv({64 + k}, 5)" for k in range(5))
    text = f"model m {{\n input x[64, 1024, 1024]\n {layers}\n conv(8, 1)\n neck: {{ {neck}\n conv(8, 1)\n }}\n}}"
    picture = drawn(text, style="volumes", depth=1, colours=read_colours(tmp_path / "own.toml"))
    assert {"filters (unlabelled: conv 3×3, /2)", "neck (unlabelled: conv 5×5)"} <= set(texts(picture))
