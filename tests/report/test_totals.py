"""Comparisons of models, and plots."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from archdsl import check, cli
from archdsl.report import totals
from archdsl.report.fitting import fitted
from archdsl.report.layers import Layers, Options
from archdsl.report.stages import stages

MODELS = ["resnet:resnet18", "vgg:vgg16", "densenet:densenet121"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_forms_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(said(capsys, *MODELS, "--json"))["models"]
    rows = list(csv.DictReader(io.StringIO(said(capsys, *MODELS, "--csv"))))
    assert [{k: str(v) for k, v in row.items()} for row in data] == rows
    assert [(m["model"], m["parameters"], m["field"]) for m in data] == [
        ("resnet18", 11_689_512, "435"),
        ("vgg16", 138_357_544, "212"),
        ("densenet121", 7_978_856, "2071"),
    ]
    text, markdown, latex = (said(capsys, *MODELS, *form) for form in ([], ["--markdown"], ["--latex"]))
    for row in rows:
        count = f"{int(row['macs']):,}"
        assert count in text and f"| {count} |" in markdown and f"& {count} &" in latex
    assert latex.startswith(r"\begin{tabular}{llr") and r"3 $\times$ 224 $\times$ 224" in latex


def test_options_reach_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (*MODELS, "--size", "3x64x64", "--batch", "2", "--flops", "--gpu-memory", "1GiB", "--json")
    for row in json.loads(said(capsys, *arguments))["models"]:
        assert row["input"] == "3 × 64 × 64" and row["flops"] > 2 * row["macs"] and row["batch"] >= 0


@pytest.mark.parametrize(
    ("width", "words"), [("160", ["11,689,512", "1,814,073,344"]), ("100", ["11.7 M", "44.6 MiB", "1.81 G"])]
)
def test_a_terminal_has_numbers_whole(width: str, words: list[str]) -> None:
    out, _ = fitted(totals.side_by_side([Layers(check("resnet:resnet18"), Options())]), int(width))
    assert [w for w in words if w not in out] == []


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_plots_are_whole_and_stable(form: str) -> None:
    pytest.importorskip("matplotlib")
    models = [Layers(check(spec), Options()) for spec in ("lenet:lenet", "alexnet:alexnet")]
    models = models if form == "svg" else models[:1]
    first = totals.plot(models, form)
    assert first == totals.plot(models, form)
    assert first.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[form])
    if form == "svg":
        texts = {"".join(e.itertext()).strip() for e in ET.fromstring(first).iter("{http://www.w3.org/2000/svg}text")}
        assert {"lenet, 1 × 32 × 32", "alexnet", "parameters (millions)", "MACs (millions)"} <= texts
        assert {"fc1 … fc3  flat", "features.6 … 10  13×13"} <= texts


STAGES = {
    "resnet:resnet18": ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"],
    "unet:unet": [
        *("0.encode", "0.inner.encode", "0.inner.inner.encode", "0.inner.inner.inner.encode"),
        "0.inner.inner.inner.inner",
        *("0.inner.inner.inner.up … decode", "0.inner.inner.up … decode", "0.inner.up … decode", "0.up … head"),
    ],
    "vgg:vgg16": [
        *("features.0 … 2", "features.5 … 7", "features.10 … 14", "features.17 … 21", "features.24 … 28"),
        *("features.30 … avgpool", "classifier"),
    ],
    "densenet:densenet121": [
        "features.conv0",
        *(f"features.denseblock{i} … transition{i}.conv" for i in (1, 2, 3)),
        *("features.denseblock4", "classifier"),
    ],
    "mobilenet:mobilenet_v2": [
        *("features.0 … 2.conv.0", "features.2.conv.1 … 4.conv.0", "features.4.conv.1 … 7.conv.0"),
        *("features.7.conv.1 … 14.conv.0", "features.14.conv.1 … 18", "classifier"),
    ],
}


@pytest.mark.parametrize("spec", STAGES)
def test_stages_are_the_resolutions_and_hold_all(spec: str) -> None:
    model = Layers(check(spec), Options(batch=2))
    found = stages(model)
    assert [s.name for s in found] == STAGES[spec]
    assert sum(s.macs for s in found) == model.number("macs")
    assert sum(s.memory for s in found) == model.number("memory")
    assert sum(s.parameters for s in found) == model.costs.total.parameters


def test_plot_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert said(capsys, "lenet:lenet", "-o", str(tmp_path / "cost.svg")) == ""
    assert (tmp_path / "cost.svg").read_bytes().startswith(b"<?xml")


def test_without_matplotlib_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert cli.run(["show", "lenet:lenet", "-o", str(tmp_path / "cost.svg")]) == 2
    assert "archdsl[plots]" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [["-o", "cost.txt"], ["--latex", "--json"], ["--gpu-memory", "much"], ["--batch", "0"]]
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show", "lenet:lenet", *arguments]) == 2
    assert capsys.readouterr().err
