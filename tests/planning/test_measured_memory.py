"""The predicted memory of ranks against what PyTorch's profiler sees allocated, in steps of processes with gloo.

Only the third step counts, when the optimizer's state and all buffers are there; what was allocated before counts as
far as it was not freed. Gloo frees tensors in threads of its own, which the profiler does not see: with shards, whose
gathered weights it holds, the collectives are those of PyTorch's fake group, in one process, which send nothing but
allocate the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.profiler import ProfilerActivity, profile, record_function

import archdsl
from archdsl.common.choices import OPTIMIZERS, Schedule
from archdsl.compiler import check
from archdsl.planning.held import held
from archdsl.planning.pipelines import pipeline
from archdsl.planning.sharding import sharded_peak, units
from archdsl.planning.stages import split
from tests.helpers import source_of
from tests.ranks import run_ranks

TOLERANCE = 0.1
STEP = "the measured step"
MICROBATCH = 4


class Loss(torch.autograd.Function):
    """A sum whose gradient is a separate tensor, like that of a loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.ones_like(ctx.saved_tensors[0])


def measured(make: Callable[[], tuple[Any, Callable[[], None]]], optimizer: str) -> int:
    """The most bytes allocated during the third step. `make` gives what has the parameters, and a step."""
    gc.collect()  # what was made before must not be freed while it is measured
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        owner, step = make()
        kind = torch.optim.AdamW if optimizer == "adam" else torch.optim.SGD
        made = kind(owner.parameters(), 1e-3)
        for _ in range(2):
            step()
            made.step()
            made.zero_grad()
        with record_function(STEP):
            step()
    events = profiler.profiler.kineto_results.events()
    begin, end = next((e.start_ns(), e.end_ns()) for e in events if e.name() == STEP)
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = most = 0
    for time, count in changes:
        now += count
        most = max(most, now) if begin <= time <= end else most
    return most


def spread(
    spec: str | archdsl.Source,
    size: tuple[int, ...],
    axes: Mapping[str, int],
    microbatches: int,
    optimizer: str,
    **values: Any,
) -> int:
    """What a rank of a mesh holds."""

    def make() -> tuple[Any, Callable[[], None]]:
        mesh = init_device_mesh("cpu", tuple(axes.values()), mesh_dim_names=tuple(axes))
        model = archdsl.parallelize(archdsl.load(spec, parallel=True, **values), mesh)
        images = [torch.zeros(MICROBATCH, *size) for _ in range(microbatches)]

        def step() -> None:
            for part in images:
                Loss.apply(model(part)).backward()

        return model, step

    return measured(make, optimizer)


def predicted(
    spec: str | archdsl.Source, size: tuple[int, ...], axes: Mapping[str, int], microbatches: int, optimizer: str
) -> int:
    graph, sizes, state = check(spec), {"H": size[1], "W": size[2]}, OPTIMIZERS[optimizer]
    several = microbatches > 1
    if "shard" in axes:
        parts = units(graph, axes["shard"], "float32")
        peak = sharded_peak(graph, sizes, "float32", parts, state, cpu=True, accumulates=several)
        return peak.at(MICROBATCH)
    found = held(graph, sizes, "float32", cpu=True, accumulates=several)
    return found.peak.at(MICROBATCH) + (state + 1) * found.gradients


@contextmanager
def fake_ranks(count: int) -> Iterator[None]:
    """This process as the first of many ranks, whose collectives do nothing."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=count, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


SHARDED = [
    ("resnet:resnet18", (3, 64, 64), {"shard": 2}, 1, "adam"),
    ("resnet:resnet18", (3, 64, 64), {"shard": 2}, 2, "adam"),
    ("resnet:resnet18", (3, 64, 64), {"shard": 64}, 1, "adam"),
    ("resnet:resnet50", (3, 96, 96), {"shard": 4}, 1, "adam"),
    ("densenet:densenet121", (3, 64, 64), {"shard": 4}, 1, "sgd"),
    ("vit:vit_b_16", (3, 224, 224), {"shard": 4}, 1, "sgd"),
    ("unet:unet_padded", (3, 64, 64), {"replicate": 2, "shard": 2}, 1, "adam"),
]


SMALL = source_of("""
block unit(width) { conv(width, 3) -> batchnorm -> relu }
model small {
    input x[3, H, W]
    unit(32) -> maxpool(2) -> unit(128) -> maxpool(2) -> unit(256) -> unit(256) -> unit(512)
    global_avgpool -> flatten -> linear(10)
}
""")


def test_shards() -> None:
    with fake_ranks(4):
        case = (SMALL, (3, 32, 32), {"shard": 4}, 1, "adam")
        assert predicted(*case) == pytest.approx(spread(*case), rel=TOLERANCE)


@pytest.mark.long
@pytest.mark.parametrize("case", SHARDED, ids=str)
def test_more_shards(case: tuple[str, tuple[int, ...], dict[str, int], int, str]) -> None:
    ranks = 1
    for count in case[2].values():
        ranks *= count
    with fake_ranks(ranks):
        assert predicted(*case) == pytest.approx(spread(*case), rel=TOLERANCE)


REPLICATED = [
    ("resnet:resnet18", (3, 64, 64), 1, "adam"),
    ("resnet:resnet18", (3, 64, 64), 3, "adam"),
    ("densenet:densenet121", (3, 64, 64), 1, "sgd"),
    ("unet:unet_padded", (3, 64, 64), 2, "sgd"),
]


def replicated() -> list[int]:
    ranks = {"replicate": dist.get_world_size()}
    return [spread(spec, size, ranks, many, optimizer) for spec, size, many, optimizer in REPLICATED]


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 4])
def test_copies(ranks: int, tmp_path: Path) -> None:
    for found in run_ranks(tmp_path, ranks, __name__, "replicated", timeout=240):
        for (spec, size, many, optimizer), most in zip(REPLICATED, found, strict=True):
            wanted = predicted(spec, size, {"replicate": ranks}, many, optimizer)
            assert wanted == pytest.approx(most, rel=TOLERANCE), (spec, ranks)


PIPELINES: list[tuple[str, tuple[int, ...], int, int, Schedule, str]] = [
    ("resnet:resnet18", (3, 96, 96), 16, 4, "gpipe", "adam"),
    ("resnet:resnet18", (3, 96, 96), 16, 4, "1f1b", "adam"),
    ("unet:unet_padded", (3, 64, 64), 8, 4, "1f1b", "sgd"),
    ("densenet:densenet121", (3, 64, 64), 16, 4, "interleaved", "adam"),
]


def staged() -> list[int]:
    return [staged_of(*case) for case in PIPELINES]


def staged_of(spec: str, size: tuple[int, ...], batch: int, many: int, schedule: Schedule, optimizer: str) -> int:
    def make() -> tuple[Any, Callable[[], None]]:
        made = archdsl.pipeline(
            spec,
            batch=batch,
            microbatches=many,
            loss=lambda output, target: Loss.apply(output),
            schedule=schedule,
            size=size,
        )
        images, target = torch.zeros(batch, *size) if made.is_first else None, torch.zeros(batch)
        return made, lambda: made.step(images, target=target) and None

    return measured(make, optimizer)


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 4])
def test_stages(ranks: int, tmp_path: Path) -> None:
    found = run_ranks(tmp_path, ranks, __name__, "staged", timeout=240)
    for number, (spec, size, batch, many, schedule, optimizer) in enumerate(PIPELINES):
        graph = check(spec)
        count = ranks * 2 if schedule == "interleaved" else ranks
        parts = split(graph, count, {"H": size[1], "W": size[2]})
        plan = pipeline(parts, schedule, ranks, many, batch // many, optimizer, cpu=True)
        measured_peaks = [rank[number] for rank in found]
        assert list(plan.peaks) == pytest.approx(measured_peaks, rel=TOLERANCE), (spec, schedule)
