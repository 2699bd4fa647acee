"""Training on bands of an image: gradients and statistics are those of one process with the whole image."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

import archdsl
from archdsl.diagnostics import SpecError
from archdsl.dims import evaluate
from archdsl.graph import Tensor as Result
from archdsl.runtime.bands import Bands
from tests.helpers import random_graph, source_of
from tests.random_networks import network
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
Case = tuple[Any, ...]
"""A spec, its parameters, and the sizes of the inputs."""
CASES: dict[str, Case] = {
    "net": (source_of(TEXT), {}, (2, 52, 8)),
    "uneven": (source_of(UNEVEN), {}, (2, 31, 7)),
    "unet": ("unet:unet_padded", {"width": 2, "depth": 2}, (3, 132, 12)),
}


LIBRARY: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "unet": ("unet:unet_padded", {"width": 2, "depth": 3}, (3, 136, 8)),
    "unetpp": ("unetpp:unetpp", {"width": 2}, (3, 128, 16)),
}


def made(case: Case) -> tuple[nn.Module, list[Tensor]]:
    spec, values, *sizes = case
    torch.manual_seed(0)
    network = archdsl.load(spec, dtype=torch.float64, parallel=True, **values)
    for module in network.modules():
        if hasattr(module, "p"):
            module.p = 0.0  # of dropouts, whose masks are random
    return network, [torch.randn(2, *size, dtype=torch.float64) for size in sizes]


def loss_of(results: Any) -> Tensor:
    """A sum over all positions, which differ in what they contribute."""
    parts = results if isinstance(results, tuple) else (results,)
    return torch.stack([(part.sin() + part.square()).sum() for part in parts if part is not None]).sum()


def state(network: nn.Module) -> dict[str, Tensor]:
    grads = {f"{name} grad": p.grad for name, p in network.named_parameters() if p.grad is not None}
    return grads | {name: buffer.clone() for name, buffer in network.named_buffers()}


def compare(case: Case, exchange: bool | None) -> Bands:
    """Demands that the gradients, statistics and results of the bands are those of the whole images."""
    network, images = made(case)
    part = archdsl.bands(network, *(image.shape[1:] for image in images), exchange=exchange)
    model = archdsl.parallelize(network, init_device_mesh("cpu", (part.ranks,), mesh_dim_names=("replicate",)))
    results = part.kept(model(*(x[:, :, part.rows] if x.shape[2] > 1 else x for x in images)))
    (loss_of(results) * part.ranks).backward()
    found = state(network)
    network, images = made(case)
    whole = network(*images)
    loss_of(whole).backward()
    wanted = state(network)
    close = {"rtol": 1e-10, "atol": 1e-10 * max(1.0, *(float(value.abs().max()) for value in wanted.values()))}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **close, msg=lambda m, n=name: f"{n}: {m}")
    one, other = (r[0] if isinstance(r, tuple) else r for r in (results, whole))
    torch.testing.assert_close(one, other[:, :, part.targets], **close)
    ends = [None] * part.ranks
    dist.all_gather_object(ends, (part.targets.start, part.targets.stop))
    assert [start for start, _ in ends[1:]] == [stop for _, stop in ends[:-1]]  # type: ignore[misc]
    return part


def small() -> None:
    """Bands that exchange what they lack, or compute it, or do a part of both."""
    for case in CASES.values():
        counts = [compare(case, exchange).exchanges for exchange in (True, False)]
        assert counts[0] > counts[1] == 0


def library() -> None:
    for case in LIBRARY.values():
        for exchange in (True, False):
            compare(case, exchange)


SEEDS = range(60)


def random_networks() -> dict[str, int]:
    """How many random networks were cut with exchanges, without, or refused."""
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        random = Random(seed)
        text, graph = random_graph(lambda r: network(r, free=True, parts=False), random, 250, 100_000)
        base = {1: 90, 2: 40, 3: 16}[len(graph.free)]
        sizes = graph.always.near({size.name: base + random.randint(0, base // 4) for size in graph.free})
        shapes = [tuple(evaluate(d, sizes) for d in graph.shape(Result(n.id))) for n in graph.input_nodes]
        try:
            part = compare((source_of(text), {}, *shapes), None)
        except (SpecError, ValueError):
            counts["refused"] += 1
            continue
        except Exception as error:
            raise AssertionError(f"{seed}: {text}") from error
        counts["exchanged" if part.exchanges else "computed"] += 1
    return dict(counts)


def test_gradients_on_three_bands(tmp_path: Path) -> None:
    run_ranks(tmp_path, 3, __name__, "small")


@pytest.mark.long
def test_gradients_of_library_models(tmp_path: Path) -> None:
    run_ranks(tmp_path, 2, __name__, "library", timeout=200)


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
def test_gradients_of_random_networks(ranks: int, tmp_path: Path) -> None:
    counts = run_ranks(tmp_path, ranks, __name__, "random_networks", timeout=200)[0]
    assert counts["exchanged"] >= 10 and counts["computed"] >= 1, counts


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
