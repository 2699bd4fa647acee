"""Warnings: what they are given for, and that nothing else is warned of."""

from __future__ import annotations

import json

import pytest
import torch

from archdsl import check, cli
from archdsl.compiler import instantiate, models
from archdsl.dims import evaluate
from archdsl.graph import Tensor
from archdsl.modules import library_families
from archdsl.source import Source


def warned(spec: str) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in check(Source("net.arch", spec)).warnings]


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
        # Blocks that are passed on take what their callers give.
        (net("use(a) -> use(b)", before="block use(u) { u(4) }\nblock a(w) { conv(w, 3) }\nblock b(w) { relu }\n"), []),
    ],
)
def test_unused_names(spec: str, wanted: list[str]) -> None:
    assert warned(spec) == [("W0602", f"nothing uses {what}") for what in wanted]


HALVED = "(it, conv(4, 3, stride = 2)) -> add"


@pytest.mark.parametrize(
    ("body", "size", "wanted"),
    [
        (HALVED, "H, 1", ["the network takes H = 1 alone"]),
        ("conv(4, 3, pad = valid)\n expect [4, 2, 2]", "H, W", [f"the network takes {n} = 4 alone" for n in "HW"]),
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
    """Warned of where no size of the input gives more, and there PyTorch refuses a batch of 1 in training alone."""
    graph = check(Source("net.arch", net(body, size=size)))
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


@pytest.mark.parametrize("family", library_families())
def test_the_library_is_warned_of_nothing(family: str) -> None:
    assert not any(check(f"{family}:{m.name}").warnings for m in models(family) if m.complete)


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
