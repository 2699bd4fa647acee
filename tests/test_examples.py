"""The trainings on real data, in a short form: `make examples` runs them in full."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import archdsl

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("training")


def run(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> float:
    """The score that a script prints last."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [name, "--quiet", *arguments])
    importlib.import_module(name).main()
    return float(capsys.readouterr().out.split(" on ")[0].split()[-1])


@pytest.mark.parametrize(("name", "epochs", "score"), [("digits", 4, 0.96), ("textures", 2, 0.9), ("coins", 10, 0.85)])
def test_a_training_learns(
    name: str,
    epochs: int,
    score: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    found = run(name, monkeypatch, capsys, "--epochs", str(epochs), "--folder", str(tmp_path))
    assert found >= score
    rows = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    assert float(rows[-1]["score"]) == pytest.approx(found, abs=1e-4)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) / 2


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(training: ModuleType, tmp_path: Path) -> None:
    data = importlib.import_module("data")
    train, test = data.digits(200)
    augment = archdsl.load_augment(EXAMPLES / "digits.arch:convolutional")

    def made(folder: Path) -> training.Training:  # type: ignore[name-defined]
        torch.manual_seed(3)
        network = archdsl.load(EXAMPLES / "digits.arch:convolutional", width=4)
        settings = {"loss": nn.CrossEntropyLoss(), "score": training.accuracy, "epochs": 3, "seed": 1, "show": False}
        return training.Training(
            network,
            train,
            (test[0][:50], test[1][:50]),
            **settings,
            folder=folder,
            prepare=lambda x, y, generator: (augment(x, generator=generator), y),
        )

    whole = made(tmp_path / "whole")
    whole.run()
    made(tmp_path / "parts").run(until=1)
    torch.rand(5)
    resumed = made(tmp_path / "parts")
    resumed.run()
    for a, b in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_convolutional_network_needs_fewer_parameters(training: ModuleType) -> None:
    """Trained alike, it is the better one with a sixth of the parameters."""
    data = importlib.import_module("data")
    train, test = data.digits()
    scores, sizes = {}, {}
    for name, values in (("convolutional", {"width": 8}), ("fully_connected", {"hidden": [32]})):
        torch.manual_seed(0)
        network = archdsl.load(EXAMPLES / f"digits.arch:{name}", **values)
        loss = nn.CrossEntropyLoss()
        scores[name] = training.Training(network, train, test, loss, training.accuracy, 6, rate=1e-2, show=False).run()
        sizes[name] = training.parameters(network)
    assert scores["convolutional"] > scores["fully_connected"]
    assert sizes["convolutional"] * 6 < sizes["fully_connected"]


def test_augmentation_helps_where_data_are_few(training: ModuleType) -> None:
    few = importlib.import_module("few")
    scores = {augmented: few.train(0, 500, 30, augmented) for augmented in (False, True)}
    assert scores[True] > scores[False] > 0.8
