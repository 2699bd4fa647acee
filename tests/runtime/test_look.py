"""Visualisation: the pictures show what the network computes, and the file is self-contained."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import pytest
import skimage
import torch
from PIL import Image

import archdsl
from archdsl import cli
from archdsl.runtime.look import Unit, _edges, _shades, look
from archdsl.runtime.parts import parts_of
from archdsl.runtime.running import RunError, encode_png, network_of
from tests.helpers import source_of

PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "camera.png"


def pixels(png: bytes) -> numpy.ndarray:
    return numpy.array(Image.open(io.BytesIO(png)))


def test_pictures_are_encoded_without_loss() -> None:
    values = torch.arange(3 * 5 * 7).reshape(3, 5, 7) * 2
    found = pixels(encode_png(values / 255))
    assert (found == values.permute(1, 2, 0).numpy()).all()


def test_the_edges_of_a_photograph_are_differences_of_neighbours() -> None:
    found = look(archdsl.check("edges:edges"), PHOTOGRAPH)
    photograph = pixels(found.cards[""].pictures[0][1])[::2, ::2, 0].astype(float)
    assert photograph.shape == (128, 128)
    for path, axis in (("across", 1), ("down", 0)):
        words = [word for word, _ in found.cards[path].pictures]
        shown = dict(found.cards[path].pictures)["channels 0"]
        differences = numpy.diff(photograph, axis=axis)
        # Grey means no difference; the strongest difference is black or white.
        wanted = differences / abs(differences).max() * 127.5 + 127.5
        got = pixels(shown)[: wanted.shape[0], : wanted.shape[1], 0]
        assert abs(got - wanted).max() < 3
        row, column = numpy.unravel_index(differences.argmax(), differences.shape)
        assert f"receptive field of unit {row},{column}: {'1 x 2' if axis else '2 x 1'}" in words


def test_the_caption_says_whose_weights_these_are(tmp_path: Path) -> None:
    graph = archdsl.check(source_of("model net {\n input x[1, H = 16, W = 16]\n conv(4, 3)\n}"))
    file = tmp_path / 'a"b\\.pth'
    torch.save(network_of(graph, seed=3).state_dict(), tmp_path / "plain.pth")
    (tmp_path / "plain.pth").rename(file)
    found = look(graph, PHOTOGRAPH, weights=file)
    assert found.note.splitlines()[0] == f"The weights are those of {file.name}." and "a&quot;b\\" in found.svg()
    assert look(graph, PHOTOGRAPH, seed=7).note.startswith("The weights are random (seed 7), not trained")
    assert "weights" not in look(archdsl.check("edges:edges"), PHOTOGRAPH).note  # they are the spec's own numbers


def test_a_map_without_both_signs_is_stretched() -> None:
    """A trend on a large offset is visible, and so is a constant offset."""
    slope = torch.linspace(0, 1, 4).expand(4, 4)
    shades = _shades(torch.stack([slope, slope + 9, slope - 9, slope * 2 - 1, torch.full((4, 4), 5.0)]))
    for shown in shades[:4]:
        torch.testing.assert_close(shown, slope)
    assert (shades[4] == 0).all()
    assert _shades(torch.tensor([[[-1.0, 0.0, 4.0]]])).tolist() == [[[0.375, 0.5, 1.0]]]


def test_the_receptive_field_of_a_unit_is_framed() -> None:
    graph = archdsl.check("resnet:resnet18")
    found = look(graph, PHOTOGRAPH, at=["conv1"], units=[Unit("conv1", 10, 20)])
    (picture,) = [
        data for word, data in found.cards["conv1"].pictures if word == "receptive field of unit 10,20: 7 x 7"
    ]
    frame = (pixels(picture) == [255, 204, 26]).all(2)
    rows, columns = numpy.nonzero(frame)
    # Stride 2 and padding 3: unit i reads 2 i - 3 … 2 i + 3.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (17, 23, 37, 43)
    with pytest.raises(RunError, match="has no unit 112,0"):
        look(graph, PHOTOGRAPH, units=[Unit("conv1", 112, 0)])


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_pictures_of_any_number_of_channels_are_shown(channels: int) -> None:
    spec = source_of(f"model net {{ input x[{channels}, 24, 40]\n conv(4, 3, 2) -> relu }}")
    found = look(archdsl.check(spec), PHOTOGRAPH)
    assert pixels(found.cards[""].pictures[0][1]).shape[2] == 3 and len(found.cards["0"].pictures) == 3


def test_arrows_follow_the_network() -> None:
    graph = archdsl.check("unet:unet_padded", width=4, depth=1)
    parts = parts_of(graph, network_of(graph), 4)
    assert _edges(graph, parts) == [
        ("", "0.encode"),
        ("0.encode", "0.inner"),
        ("0.inner", "0.up"),
        ("0.encode", "0.decode"),
        ("0.up", "0.decode"),
        ("0.decode", "head"),
        ("head", "output"),
    ]


@pytest.mark.parametrize("ending", ["html", "svg", "png"])
def test_command_writes_a_file_that_stands_alone(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"look.{ending}"
    assert cli.run(["look", "edges:edges", "--image", str(PHOTOGRAPH), "-o", str(file)]) == 0
    if ending == "png":
        assert pixels(file.read_bytes()).size > 10_000
        return
    text = file.read_text("utf-8")
    assert text.count("data:image/png;base64,") == 8
    assert 'href="/' not in text and "file:" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["edges:edges", "--at", "nowhere"], "has no block or convolution `nowhere`"),
        (["unet:unet_3d"], "does not take exactly one image"),
        (["edges:edges", "--unit", "across"], "not of the form PATH:ROW,COLUMN"),
        (["edges:edges", "--weights", str(PHOTOGRAPH)], "contains no "),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["look", *arguments, "--image", str(PHOTOGRAPH), "-o", str(tmp_path / "x.svg")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.svg").exists()
