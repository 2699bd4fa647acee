"""Which pixels move an answer: exact for linear networks, within receptive fields, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest
import skimage
import torch

from archdsl import cli
from archdsl.runtime.look import look
from archdsl.runtime.running import RunError, network_of
from archdsl.runtime.saliency import saliency
from tests.helpers import graph_of

PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "camera.png"
NET = "model net { input x[3, 12, 12]\n a: conv(6, 3, 2) -> relu -> b: conv(5, 3) -> relu -> flatten -> c: linear(4) }"


def test_a_linear_network_is_explained_by_its_weights() -> None:
    network = network_of(graph_of("model net { input x[3, 6, 5]\n flatten -> a: linear(4) }"), seed=1)
    picture = torch.rand(3, 6, 5)
    (a,) = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    for number in range(4):
        found = saliency(network, picture, number)
        weight = a.weight[number].detach().view(3, 6, 5)
        torch.testing.assert_close(found.gradient, weight.abs().amax(0))
        torch.testing.assert_close(found.integrated, (weight * picture).sum(0))
        assert found.explained == pytest.approx(1, abs=1e-4) and found.answer == f"class {number}"
    best = int(network(picture[None])[0].argmax())
    assert saliency(network, picture).answer == f"class {best}"


def test_integrated_gradients_are_complete() -> None:
    """What pixels add sums up to the difference from the answer to a black image, on networks with corners, too."""
    for seed in range(3):
        network = network_of(graph_of(NET), seed=seed)
        torch.manual_seed(seed)
        found = saliency(network, torch.rand(3, 12, 12))
        assert abs(float(found.integrated.sum()) - found.difference) < 0.01 * float(found.integrated.abs().sum())


def test_a_place_of_a_map_depends_on_its_field_alone() -> None:
    network = network_of(graph_of("model net { input x[1, H = 12, W = 12]\n conv(4, 3) -> relu -> conv(2, 3) }"))
    found = saliency(network, torch.rand(1, 12, 12), 1)
    words, _, place = found.answer.rpartition(" at ")
    row, column = map(int, place.split(","))
    rows, columns = found.gradient.nonzero().T
    assert words == "channel 1" and (rows - row).abs().max() <= 2 and (columns - column).abs().max() <= 2


def test_tokens_have_one_number() -> None:
    network = network_of(graph_of("model net { input x[3, 8, 8]\n conv(4, 4, 4, pad = valid) -> reshape([4, 4]) }"))
    assert saliency(network, torch.rand(3, 8, 8)).answer.count(",") == 0


def test_refusals() -> None:
    network = network_of(graph_of(NET))
    with pytest.raises(RunError, match="has 4 channels, counted from 0; there is no 4"):
        saliency(network, torch.rand(3, 12, 12), 4)


def test_nothing_moves_the_answer_of_a_constant_network() -> None:
    network = network_of(graph_of("model net { input x[1, 8, 8]\n conv(1, weight = [[0]], trainable = false) }"))
    found = saliency(network, torch.rand(1, 8, 8))
    assert not found.gradient.any() and found.explained == 1


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.arch").write_text(NET)
    command = ["look", str(tmp_path / "net.arch"), "--image", str(PHOTOGRAPH)]
    assert cli.run([*command, "--gradients", "--class", "2", "-o", str(tmp_path / "look.svg")]) == 0
    svg = (tmp_path / "look.svg").read_text()
    assert "gradient of class 2, which is" in svg and "integrated: " in svg and svg.count("<image") >= 3
    assert "The weights are random (seed 0)" in svg
    assert cli.run([*command, "--gradients", "--class", "4", "-o", str(tmp_path / "other.svg")]) == 2
    assert "there is no 4" in capsys.readouterr().err
    assert cli.run([*command, "--class", "2", "-o", str(tmp_path / "other.svg")]) == 2
    assert "--class says whose --gradients" in capsys.readouterr().err


def test_every_picture_of_a_card_is_drawn() -> None:
    """Also where only some of them have words below."""
    found = look(graph_of(NET), PHOTOGRAPH, gradients=True)
    assert found.svg().count("<image") == sum(len(card.pictures) for card in found.cards.values())
