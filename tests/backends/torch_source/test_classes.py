"""Which classes a spec gives: a recursion, a block that is an argument, a block at several widths are one each."""

from __future__ import annotations

import re

import pytest

from archdsl.backends.torch_source import Plainness
from archdsl.common.source import Source
from archdsl.compiler import check, prove_build
from tests.helpers import ROOT

SPECS, GOLDEN = ROOT / "tests" / "data" / "classes", ROOT / "tests" / "golden"


def classes(text: str) -> list[str]:
    """The classes of modules of a built file."""
    return re.findall(r"^class (\w+)\(nn\.", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["argument", "recursion", "shuffle", "squeeze"])
def test_each_block_is_one_class(name: str, update: bool) -> None:
    spec, path = SPECS / f"{name}.arch", GOLDEN / f"{name}.py"
    found = prove_build(check(spec))
    assert found.plainness is Plainness.READABLE, found.refused
    if update:
        path.write_text(found.text)
    assert path.read_text() == found.text
    blocks = re.findall(r"^(?:block|model) ", spec.read_text(), re.MULTILINE)
    assert len(classes(found.text)) == len(blocks)


@pytest.mark.parametrize(
    ("blocks", "model", "expected"),
    [
        # A let that no expression of the class gives is a parameter of its own name.
        (
            "block a() { let h = it.size[0]\n reshape([it.channels * h, it.size[1]]) -> reshape([2, h, -1]) }",
            "a -> maxpool(2) -> conv(4, 1) -> a",
            "self.h",
        ),
        # The optional part of a block numbers what stands behind it.
        (
            "block a(more) { if more { conv(4, 1) -> tanh }\n residual { conv(4, 3) -> relu } }",
            "last: a(true) -> a(false)",
            'self["2" if more else "0"] = nn.Conv2d',
        ),
        # A block and an operation cannot be one argument.
        ("block b(n, k) { conv(n, k) }\n block a(f) { f(4, 1) -> relu }", "a(b) -> a(conv)", None),
        # All blocks that are arguments take the parameters of their call, used or not.
        (
            "block b(n, k) { conv(n, 3) }\n block c(n, k) { conv(n, k) -> relu }\n block a(f) { f(4, 1) -> tanh }",
            "a(b) -> a(c)",
            "def __init__(self, in_channels: int, n: int, k: int, **kw: Unpack[Factory])",
        ),
        # What is passed may have arguments already, which the class takes with it.
        (
            "block b(n, k = 1) { conv(n, k) -> tanh }\n"
            "block c(n, k = 1) { conv(n, 3) -> conv(n, k) }\n"
            "block a(f) { f(4) -> relu }",
            "a(b(k = 3)) -> a(c) -> a(c(k = 5))",
            "f(4, 4, k=k, **kw)",
        ),
        # What is bound in a round that is written out is an element of the list.
        (
            "block a(ns) { for n in ns { conv(n, 3) } }",
            "a([4, 6]) -> relu -> a([6, 8])",
            "nn.Conv2d(ns[0], ns[1], 3, padding=1, **kw)",
        ),
        # Sizes of several axes that the spec gives by a parameter stay so where they are alike in a call.
        (
            "block a(n, k, s) { conv(n, [k, 3], [1, s]) }",
            "a(4, 1, 1) -> a(6, 3, 2) -> a(8, 3, 1)",
            "nn.Conv2d(in_channels, n, (k, 3), stride=(1, s), padding=(k // 2, 1), **kw)",
        ),
    ],
)
def test_what_a_class_takes(blocks: str, model: str, expected: str | None) -> None:
    graph = check(Source("net.arch", f"{blocks}\nmodel net {{\n input x[4, 6, 6]\n {model}\n}}"))
    found = prove_build(graph)
    assert found.plainness is Plainness.READABLE, found.refused
    assert expected is None or expected in " ".join(found.text.split()).replace("( ", "(").replace(", )", ")")


def test_a_slice_of_all_channels_shows_its_bound() -> None:
    graph = check(Source("net.arch", "model net {\n input x[4, 6, 6]\n slice(0, 4) -> slice(1, 4) -> slice(0, 2)\n}"))
    assert "x[:, :4][:, 1:][:, :2]" in prove_build(graph).text


def test_blocks_of_several_widths_are_one_class_where_they_attend_in_windows() -> None:
    path = ROOT / "specs" / "swin.arch"
    found = prove_build(check(f"{path}:swin", width=8, depths=[2, 2], heads=[2, 4], drop_rate=0.1))
    assert found.plainness is Plainness.READABLE, found.refused
    expected = ["DropPath", "Permute", "WindowAttention", "SwinBlock", "Squares", "Swin"]
    assert classes(found.text) == expected
    assert "WindowAttention(in_channels, heads, shift, **kw)" in found.text


def test_a_loop_of_named_members_stays_a_loop_in_a_sequence() -> None:
    text = """
        block unit(n) { conv(n, 3) -> relu -> conv(n, 3) -> relu }
        model net {
            input x[4, 6, 6]
            units: { for i in 0..5 { "unit{i + 1}": unit(4) } }
            grow: { for i, n in enumerate([4, 7, 9, 13, 6]) { "grow{i + 1}": unit(n) } }
            last: { for i in 0..5 { "conv{i}": conv(8 + 2 * i, 3) } }
        }
    """
    found = prove_build(check(Source("net.arch", text)))
    assert found.plainness is Plainness.READABLE, found.refused
    lines = " ".join(found.text.split())
    assert '[(f"unit{i}", Unit(4, 4, **kw)) for i in range(1, 6)]' in lines
    assert "OrderedDict( grow1=Unit(4, 4, **kw), grow2=Unit(4, 7, **kw)," in lines  # only statements count channels
    assert '(f"conv{i}", nn.Conv2d(2 * i + 6, 8 + 2 * i, 3, padding=1, **kw))' in lines


def test_what_a_body_picks_from_tables_is_a_parameter() -> None:
    """Each stage of a model is made of its own numbers, as by hand, and not of all tables and a place in them."""
    text = """
        model net(widths, kernels) {
            input x[3, H = 32, W = 32]
            stem: conv(widths[0], 3)
            for i in 0..len(widths) {
                "stages.{i}": {
                    if i > 0 { down: conv(widths[i], 2, stride = 2, pad = valid) }
                    blocks: { repeat 2 { conv(widths[i], kernels[i]) -> relu } }
                }
            }
        }
        model small = net([8, 24, 48], [3, 5, 3])"""
    found = prove_build(check(Source("net.arch", text)))
    assert found.plainness is Plainness.READABLE
    assert "class Stage(nn.Sequential)" in found.text
    assert "(8, 24, 48)" not in found.text
    assert "Stage(24, 48, 3, with_conv=True, **kw)" in found.text


def test_layers_that_first_meet_a_learned_tensor_are_one_class() -> None:
    """A decoder as DETR has it: its objects are learned before the first layer, and computed before the others."""
    text = """
        block decoder_layer(heads) {
            input x[C, _], memory[C, _]
            (x, (x, memory) -> attn: attention(heads)) -> add -> norm: layernorm
        }
        model net {
            input image[3, H = 32, W = 32]
            conv(8, 4, stride = 4, pad = valid) -> tokens -> memory: it
            queries: parameter([8, 5], init = normal(1))
            layers: { repeat 3 { (it, memory) -> decoder_layer(2) } }
        }"""
    found = prove_build(check(Source("net.arch", text)))
    assert found.plainness is Plainness.READABLE
    assert found.text.count("class DecoderLayer") == 1
