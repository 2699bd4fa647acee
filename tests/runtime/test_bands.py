"""Training on bands of an image: gradients and statistics are those of one process with the whole image."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

import archdsl
from archdsl.diagnostics import SpecError
from archdsl.dims import evaluate
from archdsl.graph import Tensor as Result
from archdsl.runtime.bands import Bands
from tests.helpers import graph_of, random_graph, source_of
from tests.hostile_forms import NETWORKS
from tests.random_networks import network
from tests.ranks import run_ranks
from tests.threads import Threads

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
CLASSES = """
model classes {
    input x[2, H, W]
    conv(4, 3) -> batchnorm -> relu
    (it, gate: global_avgpool -> conv(4, 1) -> batchnorm -> sigmoid) -> mul
    conv(4, 3, 2) -> groupnorm(2) -> conv(4, 3) -> instancenorm -> maxpool(3, 2, 1)
    (mean: global_avgpool, global_maxpool) -> add -> flatten -> linear(3)
}
"""
WINDOWS = """
model swin {
    input x[2, H, W]
    conv(4, 3) -> windows(4) { attention(2) } -> windows(4, 2) { attention(2) } -> conv(2, 3)
}
"""
SHARED = """
model tied {
    input x[2, H, W]
    conv(4, 3) -> relu
    share again: conv(4, 3)
    again -> batchnorm -> relu -> again -> instancenorm -> again -> groupnorm(2) -> again -> batchnorm
}
"""
SEED = Lock()
"""Held by the thread that draws random numbers."""
Case = tuple[Any, ...]
"""A spec, its parameters, and the sizes of the inputs."""
CASES: dict[str, Case] = {
    "net": (source_of(TEXT), {}, (2, 52, 8)),
    "uneven": (source_of(UNEVEN), {}, (2, 31, 7)),
    "unet": ("unet:unet_padded", {"width": 2, "depth": 2}, (3, 132, 12)),
    "classes": (source_of(CLASSES), {}, (2, 50, 12)),
    "windows": (source_of(WINDOWS), {}, (2, 64, 8)),
    "shared": (source_of(SHARED), {}, (2, 48, 6)),
}


LIBRARY: dict[str, Case] = {
    "resnet": ("resnet:resnet18", {"classes": 5}, (3, 96, 32)),
    "efficientnet": ("efficientnet:efficientnet_b0", {"classes": 5}, (3, 192, 32)),
    "unet": ("unet:unet_padded", {"width": 2, "depth": 3}, (3, 136, 8)),
    "unetpp": ("unetpp:unetpp", {"width": 2}, (3, 128, 16)),
}


def made(case: Case) -> tuple[nn.Module, list[Tensor]]:
    spec, values, *sizes = case
    with SEED:
        torch.manual_seed(0)
        network = archdsl.load(spec, dtype=torch.float64, parallel=True, **values)
        images = [torch.randn(2, *size, dtype=torch.float64) for size in sizes]
    for module in network.modules():
        if isinstance(getattr(module, "p", None), float):
            module.p = 0.0  # of dropouts, whose masks are random
    return network, images


def loss_of(results: Any) -> Tensor:
    """A sum over all positions, which differ in what they contribute."""
    parts = results if isinstance(results, tuple) else (results,)
    return torch.stack([(part.sin() + part.square()).sum() for part in parts if part is not None]).sum()


def state(network: nn.Module) -> dict[str, Tensor]:
    grads = {f"{name} grad": p.grad for name, p in network.named_parameters() if p.grad is not None}
    return grads | {name: buffer.clone() for name, buffer in network.named_buffers()}


def run(case: Case, exchange: bool | None, mesh: DeviceMesh | None = None) -> tuple[Bands, dict[str, Tensor], Tensor]:
    """The band of this rank, its gradients and statistics, and what it keeps of the first output."""
    network, images = made(case)
    part = archdsl.bands(network, *(image.shape[1:] for image in images), exchange=exchange)
    model = network if mesh is None else archdsl.parallelize(network, mesh)
    height = images[0].shape[2]
    results = part.kept(model(*(x[:, :, part.rows] if x.shape[2] == height else x for x in images)))
    (loss_of(results) * (1 if mesh is None else part.ranks)).backward()
    return part, state(network), results[0] if isinstance(results, tuple) else results


def compare(case: Case, found: dict[str, Tensor], kept: Tensor, targets: slice) -> None:
    """Demands the gradients and statistics of whole images, and their results in the rows `targets`."""
    network, images = made(case)
    results = network(*images)
    loss_of(results).backward()
    wanted = state(network)
    close = {"rtol": 1e-10, "atol": 1e-10 * max(1.0, *(float(value.abs().max()) for value in wanted.values()))}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **close, msg=lambda m, n=name: f"{n}: {m}")
    whole = results[0] if isinstance(results, tuple) else results
    torch.testing.assert_close(kept, whole if targets == slice(None) else whole[:, :, targets], **close)


def in_threads(case: Case, exchange: bool | None, ranks: int) -> Bands:
    """Compares bands in threads with whole images."""
    found = Threads(ranks).run(lambda rank: run(case, exchange))
    sums = dict(found[0][1])
    for name in sums:
        if name.endswith(" grad"):
            sums[name] = torch.stack([gradients[name] for _, gradients, _ in found]).sum(0)
    targets, results = [part.targets for part, *_ in found], [kept for *_, kept in found]
    if targets[0] == slice(None):
        for result in results:
            compare(case, sums, result, targets[0])
    else:
        assert all(a.stop == b.start for a, b in pairwise(targets))
        compare(case, sums, torch.cat(results, 2), slice(targets[0].start, targets[-1].stop))
    return found[0][0]


@pytest.mark.parametrize("case", CASES)
def test_gradients(case: str) -> None:
    """Bands that exchange what they lack, or compute it."""
    assert in_threads(CASES[case], True, 3).exchanges > in_threads(CASES[case], False, 3).exchanges == 0


def trial(seed: int, ranks: int) -> str:
    random = Random(seed)
    text, graph = random_graph(lambda r: network(r, free=True, parts=False), random, 250, 100_000)
    if not any(weight.trainable for _, weight in graph.weights()):
        return "without weights"
    base = {1: 300, 2: 80, 3: 30}[len(graph.free)]
    sizes = graph.always.near({size.name: base + random.randint(0, base // 4) for size in graph.free})
    shapes = [tuple(evaluate(d, sizes) for d in graph.shape(Result(n.id))) for n in graph.input_nodes]
    try:
        part = in_threads((source_of(text), {}, *shapes), random.choice([None, True]), ranks)
    except (SpecError, ValueError) as error:
        return "refused: " + (error.diagnostics[0].message if isinstance(error, SpecError) else str(error))
    except Exception as error:
        raise AssertionError(f"{seed}: {shapes}\n{text}") from error
    return "exchanged" if part.exchanges else "computed"


@pytest.mark.long
def test_gradients_of_random_networks() -> None:
    counts = Counter(trial(seed, 2 + seed % 3).split(":")[0] for seed in range(300))
    assert counts["exchanged"] >= 40, counts


@pytest.mark.long
def test_gradients_of_hostile_networks() -> None:
    """Networks in which the forms of the language meet are right on bands, or refused."""
    counts: Counter[str] = Counter()
    for name, text in NETWORKS.items():
        graph = graph_of(text)
        if not graph.free or not any(weight.trainable for _, weight in graph.weights()):
            counts["left out"] += 1
            continue
        sizes = graph.always.near({**graph.examples, graph.free[0].name: 64})
        shapes = [tuple(evaluate(d, sizes) for d in graph.shape(Result(n.id))) for n in graph.input_nodes]
        for exchange in (None, True):
            try:
                part = in_threads((source_of(text), {}, *shapes), exchange, 2)
                counts["exchanged" if part.exchanges else "computed"] += 1
            except (SpecError, ValueError):
                counts["refused"] += 1
            except Exception as error:
                raise AssertionError(f"{name}: {shapes}, exchange = {exchange}") from error
    assert counts["exchanged"] >= 25, counts
    assert counts["computed"] >= 40, counts


def in_processes() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("replicate",))
    for case in CASES.values():
        for exchange in (True, False):
            part, found, kept = run(case, exchange, mesh)
            compare(case, found, kept, part.targets)


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
def test_gradients_in_processes(ranks: int, tmp_path: Path) -> None:
    run_ranks(tmp_path, ranks, __name__, "in_processes", timeout=200)


def on_a_mesh() -> None:
    """Two groups of two processes, each with images of its own, whose weights are in parts over all four."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    network, images = made(CASES["net"])
    part = archdsl.bands(network, images[0].shape[1:], mesh=mesh["shard"], exchange=True)
    model = archdsl.parallelize(network, mesh)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # the statistics are those of a group's images
    own = images[0].chunk(2)[mesh["replicate"].get_local_rank()]
    (loss_of(part.kept(model(own[:, :, part.rows]))) * part.ranks).backward()
    found = {n: p.grad.full_tensor() for n, p in model.named_parameters() if p.grad is not None}  # type: ignore[union-attr,operator]
    network, images = made(CASES["net"])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    (loss_of(network(*images)) / 2).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.long
def test_bands_on_a_mesh(tmp_path: Path) -> None:
    run_ranks(tmp_path, 4, __name__, "on_a_mesh", timeout=200)


@pytest.mark.long
@pytest.mark.parametrize("case", LIBRARY)
def test_gradients_of_library_models(case: str) -> None:
    assert in_threads(LIBRARY[case], True, 2).exchanges
    in_threads(LIBRARY[case], None, 3)


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda group=None: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: 4)


def test_what_cannot_be_cut_is_refused_by_name(ranks: None) -> None:
    mixed = "model m {\n    input x[1, H, W]\n    conv(2, 3) -> attention(1) -> conv(2, 1)\n}\n"
    with pytest.raises(SpecError, match=r"`attention` \(`1`\) is in the way"):
        archdsl.bands(archdsl.load(source_of(mixed)), (1, 256, 256))
    with pytest.raises(ValueError, match="16 rows can be divided among 2 processes, not 4"):
        archdsl.bands(archdsl.load(source_of("model m {\n    input x[1, H, W]\n    maxpool(8)\n}\n")), (1, 16, 9))
    shared = "model m {\n    input x[4, H, W]\n    share n: batchnorm\n    n -> conv(4, 3) -> n\n}\n"
    with pytest.raises(ValueError, match="called several times"):
        archdsl.bands(archdsl.load(source_of(shared)), (4, 64, 64))
