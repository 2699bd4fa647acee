"""Warnings: what triggers each, and that nothing else does."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

import archdsl
from archdsl import check, cli
from archdsl.dims import evaluate
from archdsl.graph import Tensor
from archdsl.runtime.loading import instantiate
from tests import published
from tests.helpers import graph_of


def warned(spec: str) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in graph_of(spec).warnings]


MODEL = "model net({parameters}) {{\n input x[4, {size}]\n {body}\n}}\n"


def net(body: str, parameters: str = "", size: str = "16, 16", before: str = "") -> str:
    return before + MODEL.format(parameters=parameters, size=size, body=body)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (net("conv(4, 3)", "classes = 10"), ["the parameter `classes` of `net`"]),
        (
            net("unit(4)", before="block unit(width, stride = 1) { conv(width, 3) }\n"),
            ["the parameter `stride` of `unit`"],
        ),
        (net("let a = 3\n let b = a\n relu"), ["`b`"]),
        (net("for i in 0..2 { let w = 4 * i\n relu }"), ["`w`"]),
        (net("relu", "_classes = 10"), []),
        (net('let i = 3\n "c{i}": relu'), []),
        (net("conv(n, 3)\n expect [n, _, _]", "n = 4"), []),
        (net("conv(m, 3)", "n = 4, m = n"), []),
        (net("unit(relu)", before="block unit(act) { act }\n"), []),
        (net("unit(2)", before="block unit(C) { input y[2 * C, _, _]\n relu }\n"), []),
        # Blocks that are passed get the arguments of their callers.
        (net("use(a) -> use(b)", before="block use(u) { u(4) }\nblock a(w) { conv(w, 3) }\nblock b(w) { relu }\n"), []),
    ],
)
def test_unused_names(spec: str, wanted: list[str]) -> None:
    assert warned(spec) == [("W0602", f"nothing uses {what}") for what in wanted]


HALVED = "(it, conv(4, 3, stride = 2)) -> add"


@pytest.mark.parametrize(
    ("body", "size", "wanted"),
    [
        (HALVED, "H, 1", ["only H = 1 is valid"]),
        ("conv(4, 3, pad = valid)\n expect [4, 2, 2]", "H, W", [f"only {n} = 4 is valid" for n in "HW"]),
        ("conv(4, 3, pad = valid)\n expect [4, 2, 2]", "H = 4, W = 4", []),
        ("maxpool(2)\n expect [4, 7, 7]", "H, W", []),
        ("maxpool(2)", "H, W", []),
    ],
)
def test_sizes_that_cannot_be_meant(body: str, size: str, wanted: list[str]) -> None:
    assert warned(net(body, size=size)) == [("W0601", message) for message in wanted]


@pytest.mark.parametrize(
    ("body", "size", "comes_in"),
    [
        ("global_avgpool -> conv(8, 1) -> batchnorm", "H, W", "[8, 1, 1]"),
        ("global_avgpool -> flatten -> linear(5) -> batchnorm -> relu -> linear(5) -> batchnorm", "H, W", "[5]"),
        ("conv(4, 3, pad = valid)\n expect [4, 1, 1]\n batchnorm", "H = 3, W = 3", "[4, H - 2, W - 2]"),
        ("conv(4, 3, stride = 2) -> batchnorm", "2, 2", "[4, 1, 1]"),
        ("conv(4, 3, stride = 2) -> batchnorm", "2, W", None),
        ("batchnorm -> global_avgpool -> groupnorm(2)", "H, W", None),
        ("global_avgpool -> layernorm", "H, W", None),
    ],
)
def test_batchnorm_over_one_position(body: str, size: str, comes_in: str | None) -> None:
    """A warning if no input size gives more than one position, where PyTorch rejects a batch of 1 in training."""
    graph = graph_of(net(body, size=size))
    module, values = instantiate(graph), graph.examples
    x = torch.zeros(1, 4, *(evaluate(d, values) for d in graph.shape(Tensor(0))[1:]))
    assert module.eval()(x) is not None and module.train()(x.repeat(2, 1, 1, 1)) is not None
    if comes_in is None:
        assert not graph.warnings and module(x) is not None
        return
    (warning,) = graph.warnings
    assert warning.code == "W0603" and warning.marks[0].text == f"{comes_in} comes in"
    with pytest.raises(ValueError, match="more than 1 value per channel when training"):
        module(x)


@pytest.mark.parametrize(
    ("body", "size", "wanted"),
    [
        ("linear(5)", "8, 8", "flatten -> linear(5)"),
        ("conv(4, 3) -> linear(5) -> relu -> dropout -> fc: linear(3) -> softmax", "8, 8", "flatten -> linear(5) ->"),
        ("global_avgpool -> fc: linear(5)", "H, W", "global_avgpool -> flatten -> fc: linear(5)"),
        ("linear(5) -> conv(3, 1)", "8, 8", None),
        ("linear(5) -> conv(3, 3)", "8, 8", None),
        ("residual { linear(4) }", "8, 8", None),
        ("linear(5) -> global_avgpool", "8, 8", None),
        ("(it, global_avgpool -> linear(4) -> sigmoid) -> mul", "8, 8", None),
        ("linear(3) -> y: relu\n conv(2, 3) -> z: relu\n output y, z", "8, 8", None),
        ("linear(5)", "8", None),
        ("flatten -> linear(5)", "8, 8", None),
    ],
)
def test_a_linear_on_a_map_at_the_end(body: str, size: str, wanted: str | None) -> None:
    spec = net(body, size=size)
    if wanted is None:
        assert warned(spec) == []
        return
    (found,) = graph_of(spec).warnings
    assert found.code == "W0608" and found.fix is not None
    assert wanted in spec[: found.fix.span.start] + found.fix.text + spec[found.fix.span.end :]


@pytest.mark.parametrize("sizes", ["[8, H, W], y[8, 1, 1]", "[8, 4, 4], y[8, 1, 1]", "[8, 4, 1], y[8, 1, 4]"])
def test_sizes_of_1_are_told_how_to_be_broadcast(sizes: str) -> None:
    text = f"model m {{\n    input x{sizes}\n    (x, y) -> add -> relu\n}}\n"
    try:
        found = graph_of(text).warnings
    except archdsl.SpecError as error:
        found = error.diagnostics
        assert found[0].fix is not None and found[0].fix.text == "(stretch = true)"
    assert found[0].help == "broadcast the sizes of 1: `add(stretch = true)`"


def test_sizes_of_which_none_is_1_are_not_broadcast() -> None:
    with pytest.raises(archdsl.SpecError) as caught:
        graph_of("model m {\n    input x[8, 4, 4], y[8, 1, 2]\n    (x, y) -> add -> relu\n}\n")
    assert "stretch" not in str(caught.value)


WARNED = {"deeplabv3": {"W0603"}}
"""Published networks that a warning is right about: DeepLabv3 normalises features of the whole image over the batch."""


@pytest.mark.parametrize("spec", published.one_of_each())
def test_the_library_is_warned_of_nothing(spec: str) -> None:
    assert {w.code for w in check(spec).warnings} == WARNED.get(spec.partition(":")[0], set())


def test_a_warning_is_told_once_and_is_no_failure(tmp_path, capsys) -> None:
    members = "model a = net(4)\nmodel b = net(5)\n"
    file = tmp_path / "net.arch"
    file.write_text(net("conv(n, 3)", "n, classes = 10") + members)
    assert cli.run(["check", str(file), f"{file}:a"]) == 0
    out, err = capsys.readouterr()
    assert out.count("parameters") == 3 and err.count("warning[W0602]") == 1
    assert cli.run(["check", "--json", str(file)]) == 0
    (found,) = json.loads(capsys.readouterr().out)["diagnostics"]
    assert found["severity"] == "warning"


def told(spec: str) -> list[tuple[str, str | None]]:
    """The code of each warning, and the fix that it shows."""
    return [(d.code, d.fix.text if d.fix else None) for d in graph_of(spec).warnings]


@pytest.mark.parametrize(
    ("body", "size", "wanted"),
    [
        ("conv(4, 16, 3, pad = 1)", "16, 16", "conv(16, 3, pad = 1)"),
        ("conv(4, 64, 1, pad = 31)", "16, 16", "conv(64, 1, pad = 31)"),
        ("upconv(4, 16, 2)", "16, 16", "upconv(16, 2)"),
        ("batchnorm(4)", "16, 16", "batchnorm"),
        ("layernorm(4)", "16, 16", "layernorm"),
        ("groupnorm(2, 4)", "16, 16", "groupnorm(2)"),
        ("prelu(4)", "16, 16", "prelu"),
    ],
)
def test_the_channels_that_come_in_as_pytorch_has_them(body: str, size: str, wanted: str) -> None:
    assert told(net(body, size=size)) == [("W0605", wanted)]


@pytest.mark.parametrize(
    "body",
    [
        "conv(4, 3)",
        "conv(4, 3, 2)",
        "conv(4, 7, 4, pad = 3)",
        "conv(4, 31, groups = 4, pad = 15)",
        "conv(8, 16, 3, pad = 1)",
        "upconv(4, 16, 8, pad = 4)",
        "upconv(4, 4, 2, 1)",
        "groupnorm(4)",
        "batchnorm(0.001)",
        "conv(out = 4, kernel = 15, stride = 3)",
    ],
)
def test_what_may_be_meant_as_it_stands(body: str) -> None:
    assert told(net(body)) == []


def test_a_tensor_in_a_value() -> None:
    assert told(net("let old = it\n conv(4, 3)")) == [("W0607", "old: { }")]
    assert told(net("a: relu\n let all = [a, it]\n conv(4, 3)")) == [("W0607", None)]
    assert told(net("let old = it\n conv(2 * old.channels, 3)")) == []
    assert told(net("let old = it.size\n maxpool(2) -> resize(old)")) == []


def test_a_label_that_is_given_twice() -> None:
    assert told(net("y: { }\n conv(4, 3)\n y: { }\n (y, it) -> add")) == [("W0606", None)]
    assert told(net("for i in 0..2 { y: { }\n conv(4, 3)\n (y, it) -> add }")) == []
    assert told(net("if 1 < 2 { y: { } } else { y: { } }\n (y, conv(4, 3)) -> add")) == []


WORDS: list[tuple[str, str | None]] = [("W0604", "valid"), ("W0604", "relu"), ("W0604", None)]
"""An operation stands where one is called, a word where a parameter accepts it, and neither where a number belongs."""


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ("block never { convv(4, 3) }\n", [("W0604", "conv")]),
        ("block never(n) { conv(m, 3) -> relu }\nblock more { never(2) }\n", [("W0604", None)]),
        ("block unit(u, n = width) { u(n) }\n", [("W0604", None)]),
        ("block never(width) { conv(nope, 3) -> conv(widht, 3) }\n", [("W0604", None), ("W0604", "width")]),
        ("block never { conv(4, 3, pad = vaild) -> (reluu, conv(rellu, 3)) -> add }\n", WORDS),
        ("block never(n) { other(actt = reluu) }\nblock other(act) { act }\n", [("W0604", "relu")]),
        (
            "let k = 3\nfn f(x) = x + k\nblock never(u, n = 2) {\n input y[C, H, _], z[C, _, _]\n let w = n\n"
            " for a, b in [[1, w]] { u(f(a), b, pad = valid) }\n (y, c: z -> relu, it) -> (d, e, _): align\n"
            " (c, d, e) -> concat -> split(2) -> add\n expect [C, H, _]\n output c, more = d\n}\n",
            [],
        ),
    ],
)
def test_names_in_blocks_that_nobody_calls(before: str, wanted: list[tuple[str, str | None]]) -> None:
    assert told(net("relu", before=before)) == wanted


def test_a_code_of_a_warning_has_one_meaning():
    package = Path(archdsl.__file__).parent
    files = [file for file in package.rglob("*.py") if file.parent.name != "codes"]
    found = Counter(code for file in files for code in re.findall(r'"(W\d{4})"', file.read_text()))
    assert found and set(found.values()) == {1}, found
