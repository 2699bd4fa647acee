"""Runs of networks tile by tile: arrays, files, outputs, batches, resuming, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

import archdsl
from archdsl.diagnostics import SpecError
from archdsl.runtime.tiled import Share
from tests.helpers import ROOT, source_of

TEXT = """
model net {
    input x[2, H, W]
    conv(3, 3) -> fine: relu
    maxpool(2) -> conv(4, 3, pad_mode = reflect) -> deep: relu
    upsample(2)
    (fine, it) -> concat
    full: conv(1, 3)
    output full, half = deep
}
"""
LINE = "model line {\n    input x[1, T]\n    conv(2, 3, pad = causal, dilation = 4) -> relu -> conv(1, 5)\n}\n"


def made(text: str = TEXT) -> torch.nn.Module:
    torch.manual_seed(0)
    return archdsl.load(source_of(text)).eval()


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return made()


def test_several_outputs_and_batches(model: torch.nn.Module) -> None:
    image = torch.rand(2, 2, 46, 58)
    whole = model(image)
    for batch in (1, 3):
        found = archdsl.tiled(model, image, tile=24, batch=batch)
        assert list(found) == ["full", "half"]
        for one, other in zip(whole, found.values(), strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_memory_chooses_the_tile_and_the_batch(model: torch.nn.Module) -> None:
    image = torch.rand(1, 2, 100, 60)
    found = archdsl.tiled(model, image, memory="100 kB")
    assert torch.allclose(model(image)[0], found["full"], atol=1e-6)
    with pytest.raises(SpecError, match="smallest exact tiles"):
        archdsl.tiled(model, image, memory=1000)
    with pytest.raises(ValueError, match="amount of memory"):
        archdsl.tiled(model, image, memory="much")


def test_files(tmp_path: Path) -> None:
    line = made(LINE)
    path, out = tmp_path / "in.npy", tmp_path / "out.npy"
    numpy.save(path, numpy.random.default_rng(0).integers(0, 255, (1, 1, 999), numpy.uint8))
    image = numpy.load(path, mmap_mode="r")

    def prepare(piece: torch.Tensor) -> torch.Tensor:
        return piece.float() / 255

    archdsl.tiled(line, image, tile=100, prepare=prepare, out=out)
    whole = line(prepare(torch.from_numpy(numpy.array(image))))
    assert numpy.allclose(whole.detach(), numpy.load(out), atol=1e-6)
    with pytest.raises(ValueError, match="is the file of an image"):
        archdsl.tiled(line, image, tile=100, prepare=prepare, out=path)
    with pytest.raises(ValueError, match=r"\.npy files"):
        archdsl.tiled(line, image, tile=100, prepare=prepare, out=tmp_path / "out.tif")


def test_zarr(model: torch.nn.Module) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    image = torch.rand(1, 2, 40, 60)
    stored = zarr.create_array({}, data=image.numpy(), chunks=(1, 2, 16, 16))
    outs = {
        name: zarr.create_array({}, shape=shape, dtype="float32", chunks=(1, 1, 7, 7))
        for name, shape in (("full", (1, 1, 40, 60)), ("half", (1, 4, 20, 30)))
    }
    archdsl.tiled(model, stored, tile=24, out=outs)
    for one, other in zip(model(image), outs.values(), strict=True):
        assert numpy.allclose(one.detach(), other[:], atol=1e-6)


class Stops(torch.nn.Module):
    """Fails after some calls."""

    def __init__(self, inner: torch.nn.Module, calls: int) -> None:
        super().__init__()
        self.inner, self.calls = inner, calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        found: torch.Tensor = self.inner(x)
        return found


def test_resume(tmp_path: Path) -> None:
    line, image = made(LINE), torch.rand(1, 1, 999)
    out, done = tmp_path / "out.npy", tmp_path / "done"
    spec = source_of(LINE)
    stopping = Stops(line, 5).eval()
    with pytest.raises(KeyboardInterrupt):
        archdsl.tiled(stopping, image, spec=spec, tile=100, out=out, resume=done)
    stopping.calls = rest = 20
    archdsl.tiled(stopping, image, spec=spec, tile=100, out=out, resume=done)
    plan_count = 12
    assert rest - stopping.calls == plan_count - 5, "the first five are not computed again"
    assert numpy.allclose(line(image).detach(), numpy.load(out), atol=1e-6)
    # A line that was not written completely does not count; nor do other weights, or a file that is gone.
    with open(done / "tiles0.txt", "a", encoding="utf-8") as file:
        file.write("0 99")
    archdsl.tiled(stopping, image, spec=spec, tile=100, out=out, resume=done)
    out.unlink()
    with pytest.raises(ValueError, match="is gone"):
        archdsl.tiled(stopping, image, spec=spec, tile=100, out=out, resume=done)
    with torch.no_grad():
        next(line.parameters()).add_(1)
    with pytest.raises(ValueError, match="other weights"):
        archdsl.tiled(stopping, image, spec=spec, tile=100, out=out, resume=done)
    with pytest.raises(ValueError, match="needs `out`"):
        archdsl.tiled(stopping, image, spec=spec, tile=100, resume=done)


GATED = """
model gated {
    input x[2, H, W]
    conv(4, 3) -> (it, global_avgpool -> conv(4, 1)) -> mul -> conv(1, 3)
}
"""


def test_approximate() -> None:
    """The warning says how far the results differ: for an image of that size exactly so far."""
    gated, image = made(GATED), torch.rand(1, 2, 40, 40)
    with pytest.raises(SpecError, match="global_avgpool"):
        archdsl.tiled(gated, image, tile=24)
    with pytest.warns(UserWarning, match=r"`global_avgpool` .* see only their tile") as caught:
        found = archdsl.tiled(gated, image, tile=24, approximate=True)
    whole = gated(image).detach()
    error = float((whole - found).norm() / whole.norm())
    assert 0 < error < 0.5
    assert f"differ by {error:.2%}" in str(caught[0].message)


GATHERED = {
    "a gate": "conv(4, 3) -> (it, global_avgpool -> conv(4, 1)) -> mul -> conv(1, 3)",
    "gates": "conv(4, 3) -> (it, global_avgpool -> sigmoid) -> mul -> conv(4, 3) -> (it, global_avgpool) -> mul",
    "the largest": "conv(4, 3, stride = 2) -> relu -> (it, global_maxpool) -> mul -> conv(1, 3)",
    "norms": "conv(4, 3) -> instancenorm -> relu -> maxpool(2) -> conv(4, 3) -> groupnorm(2) -> upsample(2)",
    "learned norms": "conv(4, 3) -> instancenorm(affine = true) -> relu -> conv(2, 3) -> groupnorm(1, eps = 0.1)",
    "a pyramid": "conv(4, 3) -> y: relu\n    (y, y -> global_avgpool -> conv(2, 1) -> resize(y.size)) -> concat",
    "classes": "conv(4, 3) -> relu\n    (mean: global_avgpool, global_maxpool) -> add -> flatten -> linear(3)",
}


@pytest.mark.parametrize("name", GATHERED)
def test_gather(name: str) -> None:
    """With statistics of the whole image the results are exact, for each sample its own."""
    text = f"model net {{\n    input x[2, H, W]\n    {GATHERED[name]}\n}}\n"
    torch.manual_seed(0)
    net = archdsl.load(source_of(text), dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.2, 0.5)
    image = torch.randn(2, 2, 60, 78, dtype=torch.float64).cumsum(3) / 5  # another mean and variance everywhere
    found = archdsl.tiled(net, image, tile=24, batch=3, gather=True)
    whole = net(image).detach()
    assert float((found - whole).abs().max()) <= 1e-9 * float(whole.abs().max())


def test_what_cannot_be_gathered() -> None:
    text = "model net {\n    input x[4, H, W]\n    conv(4, 3) -> attention(2)\n}\n"
    with pytest.raises(ValueError, match="not for all of `attention`"):
        archdsl.tiled(made(text), torch.rand(1, 4, 60, 50), tile=24, gather=True)


def test_what_does_not_fit(model: torch.nn.Module) -> None:
    image = torch.rand(1, 2, 40, 60)
    with pytest.raises(ValueError, match="training mode"):
        archdsl.tiled(made().train(), image, tile=24)
    with pytest.raises(ValueError, match="give its spec"):
        archdsl.tiled(torch.nn.Conv2d(2, 1, 3).eval(), image, tile=24)
    with pytest.raises(ValueError, match="where its spec says"):
        archdsl.tiled(torch.nn.Conv2d(2, 1, 3).eval(), image, spec=source_of(TEXT), tile=24)
    with pytest.raises(ValueError, match="several outputs"):
        archdsl.tiled(model, image, tile=24, out=torch.zeros(1, 1, 40, 60))
    with pytest.raises(SpecError, match="is not a valid size"):
        archdsl.tiled(model, torch.rand(1, 2, 41, 60), tile=24)
    with pytest.raises(SpecError, match="at least"):
        archdsl.tiled(model, image, tile=4)
    with pytest.raises(ValueError, match="takes `x`"):
        archdsl.tiled(model, image, image, tile=24)
    with pytest.raises(ValueError, match="must have the batch"):
        archdsl.tiled(model, image[0], tile=24)
    with pytest.raises(ValueError, match="has integers"):
        archdsl.tiled(model, image.byte(), tile=24)
    for wrong in ({"tile": 0}, {"tile": 24.5}, {"tile": (24, -1)}, {"tile": 24, "batch": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            archdsl.tiled(model, image, **wrong)
    # Floats of another width are converted, as NumPy's often are.
    found = archdsl.tiled(model, image.double().numpy(), tile=24)
    assert torch.allclose(model(image)[0], found["full"], atol=1e-6)


def test_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What two processes do, one after the other: the second finds the file of the first."""
    line, image, out = made(LINE), torch.rand(3, 1, 500), tmp_path / "out.npy"
    monkeypatch.setattr(Share, "wait", lambda self: None)
    for rank in range(2):
        monkeypatch.setattr(Share, "here", lambda rank=rank: Share(rank, 2))
        archdsl.tiled(line, image, tile=100, out=out)
    assert numpy.allclose(line(image).detach(), numpy.load(out), atol=1e-6)
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    with pytest.raises(ValueError, match="array in chunks"):
        archdsl.tiled(line, image, tile=100, out=zarr.create_array({}, shape=(3, 1, 500), dtype="float32"))


@pytest.mark.long
def test_two_processes(tmp_path: Path) -> None:
    """Each computes its share: into new tensors, and into one file."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "STORE": str(tmp_path / "store"), "OUT": str(tmp_path),
    }  # fmt: skip
    running = [
        subprocess.Popen([sys.executable, __file__], env={**environment, "RANK": str(rank)}) for rank in range(2)
    ]
    assert [process.wait(120) for process in running] == [0, 0]


def one_of_two() -> None:
    import torch.distributed as dist

    dist.init_process_group(
        "gloo", init_method=f"file://{os.environ['STORE']}", world_size=2, rank=int(os.environ["RANK"])
    )
    line = made(LINE)
    image = torch.rand(1, 1, 999, generator=torch.Generator().manual_seed(0))
    whole = line(image).detach()
    folder = Path(os.environ["OUT"])
    assert torch.allclose(archdsl.tiled(line, image, tile=100), whole, atol=1e-6)
    archdsl.tiled(line, image, tile=100, out=folder / "out.npy", resume=folder / "done")
    assert numpy.allclose(numpy.load(folder / "out.npy"), whole, atol=1e-6)
    gated, image = made(GATED), torch.rand(1, 2, 50, 60, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(archdsl.tiled(gated, image, tile=24, gather=True), gated(image), atol=1e-6)
    lines = [(folder / "done" / f"tiles{rank}.txt").read_text("utf-8").count(" .") for rank in range(2)]
    assert lines == [6, 6]
    dist.destroy_process_group()


if __name__ == "__main__":
    one_of_two()
