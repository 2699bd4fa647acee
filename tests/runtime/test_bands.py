"""Training on bands of an image: gradients and statistics are those of one process with the whole image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

import archdsl
from archdsl.diagnostics import SpecError
from tests.helpers import source_of
from tests.ranks import run_ranks

TEXT = """
block unit(width) {
    residual via conv(width, 1) { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> bn: batchnorm }
    relu
}
model net {
    input x[2, H, W]
    top: unit(4)
    maxpool(2) -> unit(6) -> down: conv(6, 3, 2) -> relu
    upsample(4)
    (top, it) -> concat
    unit(4) -> full: conv(2, 1)
    output full, deep = down
}
"""
UNEVEN = """
model uneven {
    input x[2, H, W]
    conv(3, 3, pad = valid) -> batchnorm -> relu -> conv(3, 5) -> maxpool(3, 1)
}
"""
CASES: dict[str, tuple[str | archdsl.Source, dict[str, Any], tuple[int, int, int]]] = {
    "net": (source_of(TEXT), {}, (2, 52, 8)),
    "uneven": (source_of(UNEVEN), {}, (2, 31, 7)),
    "unet": ("unet:unet_padded", {"width": 2, "depth": 2}, (3, 132, 12)),
}


def made(case: str) -> tuple[nn.Module, Tensor]:
    spec, values, size = CASES[case]
    torch.manual_seed(0)
    network = archdsl.load(spec, dtype=torch.float64, parallel=True, **values)  # type: ignore[arg-type]
    return network, torch.randn(2, *size, dtype=torch.float64)


def loss_of(results: Any) -> Tensor:
    """A sum over all positions, which differ in what they contribute."""
    parts = results if isinstance(results, tuple) else (results,)
    return torch.stack([(part.sin() + part.square()).sum() for part in parts]).sum()


def state(network: nn.Module, factor: float = 1.0) -> dict[str, Tensor]:
    grads = {f"{name} grad": p.grad / factor for name, p in network.named_parameters() if p.grad is not None}
    return grads | {name: buffer.clone() for name, buffer in network.named_buffers()}


def on_bands(cases: list[str]) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("replicate",))
    found: dict[str, Any] = {}
    for case in cases:
        network, image = made(case)
        part = archdsl.bands(network, image.shape[1:])
        model = archdsl.parallelize(network, mesh)
        results = part.kept(model(image[:, :, part.rows]))
        (loss_of(results) * part.ranks).backward()
        first = results[0] if isinstance(results, tuple) else results
        found[case] = (
            state(network),
            first.detach(),
            (part.targets.start, part.targets.stop),
            part.rows.stop - part.rows.start,
        )
    return found


def two() -> dict[str, Any]:
    return on_bands(["net"])


def three() -> dict[str, Any]:
    return on_bands(list(CASES))


def compare(ranks: list[dict[str, Any]]) -> None:
    for case in ranks[0]:
        network, image = made(case)
        results = network(image)
        loss_of(results).backward()
        whole, first = state(network), results[0] if isinstance(results, tuple) else results
        done = 0
        for rank in ranks:
            found, kept, (start, stop), rows = rank[case]
            assert start == done and rows < image.shape[2]
            torch.testing.assert_close(kept, first[:, :, start:stop], rtol=1e-9, atol=1e-10)
            assert found.keys() == whole.keys()
            for name, value in whole.items():
                torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
            done = stop
        assert done == first.shape[2]


@pytest.mark.long
def test_gradients_on_two_bands(tmp_path: Path) -> None:
    compare(run_ranks(tmp_path, 2, __name__, "two"))


@pytest.mark.long
def test_gradients_on_three_bands(tmp_path: Path) -> None:
    compare(run_ranks(tmp_path, 3, __name__, "three", timeout=200))


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda group=None: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: 4)


def test_what_cannot_be_cut_is_refused_by_name(ranks: None) -> None:
    pooled = "model m {\n    input x[1, H, W]\n    conv(2, 3) -> global_avgpool -> flatten\n}\n"
    with pytest.raises(SpecError, match=r"`global_avgpool` \(`1`\) is in the way"):
        archdsl.bands(archdsl.load(source_of(pooled)), (1, 256, 256))
    with pytest.raises(ValueError, match="16 rows can be divided among 2 processes, not 4"):
        archdsl.bands(archdsl.load(source_of("model m {\n    input x[1, H, W]\n    maxpool(8)\n}\n")), (1, 16, 9))
    shared = "model m {\n    input x[4, H, W]\n    share n: batchnorm\n    n -> conv(4, 3) -> n\n}\n"
    with pytest.raises(ValueError, match="called several times"):
        archdsl.bands(archdsl.load(source_of(shared)), (4, 64, 64))
