"""Theory of shifts, flips and pooling, measured with random weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import archdsl
from archdsl import cli
from archdsl.runtime.probe import OUTPUT, SHIFTS, Probe, curves, measure, probe, wider
from archdsl.runtime.running import RunError, frame_of, network_of, pictures
from tests.helpers import graph_of, net_text

EXACT = 1e-6
"""Rounding error, relative to the distance between images."""


def probed(body: str, size: str = "3, 64, 64", canvas: torch.Tensor | None = None) -> Probe:
    graph = graph_of(net_text(body, f"x[{size}]"))
    frame = frame_of(graph)
    if canvas is None:
        canvas = pictures(None, wider(frame, 32))[0]
    # In double precision, where nothing but a difference is one.
    return measure(graph, network_of(graph).double(), canvas.double(), frame)


EQUIVARIANT = {
    "a: conv(8, 3) -> relu": 1,
    "a: conv(8, 3, 2) -> batchnorm -> relu -> b: conv(8, 3, 2)": 4,
    "a: conv(8, 5) -> maxpool(2) -> b: conv(8, 3) -> avgpool(3, 3)": 6,
    "residual via conv(8, 1, 2) { a: conv(8, 3, 2) -> b: conv(8, 3) }": 2,
    "a: conv(8, 3) -> (it, { maxpool(4) -> b: conv(8, 3) -> upconv(8, 4) }) -> concat": 4,
    "a: conv(8, 3, dilation = 4) -> b: conv(8, 2, 2, pad = 0)": 2,
    "a: conv(8, 2, 2, pad = 0) -> pixel_shuffle(2) -> b: conv(4, 3)": 2,
}


@pytest.mark.parametrize("body", EQUIVARIANT)
def test_a_fully_convolutional_network_follows_shifts_by_its_stride(body: str) -> None:
    stride = EQUIVARIANT[body]
    found = probed(body)
    assert next(p.grid for p in found.parts if p.path == OUTPUT) == stride
    for t in SHIFTS[:8]:
        shift = found.find("shift", t)
        assert shift.deviation is not None and shift.inside
        # For shifts that are not multiples of the stride it is not equivariant; the deviation is far from rounding.
        assert (shift.deviation < EXACT) if t % stride == 0 else (shift.deviation > 1e-3), t


def test_what_padding_reaches_does_not_follow() -> None:
    graph = graph_of("model net { input x[3, 24, 24]\n a: conv(8, 9) -> relu -> conv(4, 9) }")
    frame = frame_of(graph)
    canvas = pictures(None, wider(frame, 11))[0]
    network = network_of(graph)
    assert measure(graph, network, canvas, frame).find("shift", 2).deviation < 1e-5  # type: ignore[operator]
    with torch.no_grad():
        left, right = (canvas[:, :, 10:34, 10 + i : 34 + i] for i in (2, 0))
        before, after = network(left), network(right)
    # Two convolutions of 9 reach 8 from the border; on the ring around, the shifted map differs.
    torch.testing.assert_close(after[:, :, 8:16, 10:16], before[:, :, 8:16, 8:14], atol=1e-5, rtol=0)
    assert (after[:, :, 8:16, 2:8] - before[:, :, 8:16, 0:6]).abs().max() > 1e-3


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_global_pooling_makes_equivariance_invariance(stride: int) -> None:
    """For an object on a black background, far from the border; bias makes padding and background differ only there."""
    canvas = torch.zeros(6, 3, 164, 164)
    canvas[:, :, 74:90, 74:90] = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = probed(f"a: conv(8, 3, {stride}) -> relu -> b: conv(8, 3) -> relu -> global_avgpool", "3, 96, 96", canvas)
    for t in (1, 2, 3, 4, 6, 8, 12):
        displacement = found.find("shift", t).displacement
        assert (displacement < EXACT) if t % stride == 0 else (displacement > 1e-3), t
    for change in ("flip", "rotation"):
        assert found.find(change, {"flip": 0, "rotation": 90}[change]).displacement > 1e-2  # type: ignore[arg-type]


def test_flips_are_not_built_in_but_by_kernels_that_are_their_own_mirror() -> None:
    free = probed("a: conv(8, 3) -> relu")
    even = probed("a: conv(1, weight = [[1, 2, 1], [0, 1, 0], [-1, 3, -1]], bias = false) -> relu")
    for found, hflip, vflip in ((free, False, False), (even, True, False)):
        assert (found.find("flip", 0).deviation < EXACT) == hflip  # type: ignore[operator]
        assert (found.find("flip", 1).deviation < EXACT) == vflip  # type: ignore[operator]


def test_a_network_for_grey_pictures_is_shown_no_colours() -> None:
    kinds = {m.change.kind for m in probed("a: conv(4, 3)", "1, 32, 32").measured}
    assert kinds == {"flip", "shift", "rotation", "scale", "brightness"}
    grey = probed("a: conv(1, 1, weight = [[1]], bias = false, trainable = false)")
    assert grey.find("hue", 0.1).displacement > 0.01


def test_distances_are_in_units_of_pictures() -> None:
    """The identity is displaced as far as the images are, and scaling what it gives changes no number."""
    one, thousand = (probed(f"a: conv(3, 1, groups = 3, weight = [[{w}]], bias = false)") for w in (1, 1000))
    for a, b in zip(one.measured, thousand.measured, strict=True):
        assert a.displacement == pytest.approx(b.displacement, rel=1e-4) and 0 < a.displacement < 3


def test_curves_are_an_svg() -> None:
    found = probed("a: conv(4, 3)")
    svg = curves(found).decode()
    assert svg == curves(found).decode() and "shift, pixels" in svg and "hue" in svg
    # The highest point of all plots is inside the frame, and far above the lowest.
    paths = re.findall(r'<path d="([^"]+)" clip-path', svg)
    heights = [float(y) for path in paths for y in re.findall(r"[ML] [-\d.]+ ([-\d.]+)", path)]
    frame = [float(y) for y in re.findall(r'<rect x="[-\d.]+" y="([-\d.]+)"', svg)]
    assert len(paths) == 5 and min(frame) <= min(heights) < max(heights) / 2


def test_networks_that_take_no_picture_are_refused() -> None:
    with pytest.raises(RunError, match="does not take exactly one image"):
        probe(archdsl.check("unet:unet_1d"))


SPEC = "model net { input x[3, 32, 32]\n a: conv(4, 3, 2) -> relu -> b: conv(4, 3)\n global_avgpool -> flatten }"


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "net.arch").write_text(SPEC)
    return str(tmp_path / "net.arch")


def test_command(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["probe", spec, "-o", str(tmp_path / "curves.svg")]) == 0
    out = capsys.readouterr().out
    assert "exact for shifts by" in out and "random weights" in out
    assert (tmp_path / "curves.svg").read_text().lstrip().startswith("<?xml")
    assert cli.run(["probe", spec, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    shifts = [m for m in data["measured"] if m["change"] == "shift" and m["part"] == "b" and m["inside"] == "yes"]
    assert {m["amount"] for m in shifts if float(m["strays"]) < 1e-5} >= {"2", "4", "6", "8"}
    assert {m["amount"] for m in shifts if float(m["strays"]) > 1e-5} == {"1", "3"}


def test_weights_and_images_of_ones_own(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.effect_noise((80, 60), 20 + 40 * i).save(folder / f"{i}.png")
    torch.save({"state_dict": archdsl.load(spec).state_dict()}, tmp_path / "net.pt")
    arguments = ["probe", spec, "--images", str(folder), "--csv"]
    assert cli.run([*arguments, "--weights", str(tmp_path / "net.pt")]) == 0
    assert capsys.readouterr().out.startswith("change,amount,part,moves,strays,inside\n")
    torch.save(archdsl.load("lenet:lenet").state_dict(), tmp_path / "other.pt")
    assert cli.run([*arguments, "--weights", str(tmp_path / "other.pt")]) == 2
    assert "does not fit net" in capsys.readouterr().err
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    assert cli.run([*arguments, "--weights", str(tmp_path / "bad.pt")]) == 2
    assert cli.run(["probe", spec, "--images", str(tmp_path)]) == 2
    assert "fewer than two images" in capsys.readouterr().err
