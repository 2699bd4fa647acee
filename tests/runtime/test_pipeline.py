"""Pipelines over processes: their gradients, losses, statistics and outputs are those of the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import archdsl
from archdsl.common.choices import SCHEDULES, Schedule
from archdsl.compiler import checked
from archdsl.graph import Graph
from archdsl.runtime.loading import instantiate
from tests.helpers import source_of
from tests.ranks import run_ranks

U = """
model u {
    input x[3, H, W]
    first: conv(4, 3) -> batchnorm -> relu
    maxpool(2) -> second: conv(8, 3) -> batchnorm -> relu
    conv(8, 3) -> relu -> upconv(4, 2)
    (it, first, x) -> concat -> conv(3, 3) -> permute([2, 0, 1]) -> permute([1, 2, 0])
}
"""
BATCH = 8

Case = tuple[archdsl.Source | Graph, tuple[int, ...], Schedule, int]
TINY: dict[str, Case] = {
    "1f1b": (source_of(U), (3, 8, 8), "1f1b", 4),
    "interleaved": (source_of(U), (3, 8, 8), "interleaved", 4),
}
LARGER: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "unet": ("unet:unet_padded", {"width": 4, "depth": 3}, (3, 32, 32)),
    "densenet": ("densenet:densenet", {"counts": [3, 2, 2, 2], "growth": 4, "width": 8, "classes": 5}, (3, 64, 64)),
    "mobilenet": ("mobilenet:mobilenet_v3_small", {"classes": 5}, (3, 64, 64)),
    "swin": (
        "swin:swin",
        {"width": 8, "depths": [2, 2], "heads": [2, 4], "drop_rate": 0.0, "window": 4, "size": 32, "classes": 5},
        (3, 32, 32),
    ),
}


def larger(name: str) -> dict[str, Case]:
    """A network of the library, narrow, under each schedule."""
    spec, values, size = LARGER[name]
    graph = archdsl.check(spec, **values)
    return {schedule: (graph, size, schedule, 4) for schedule in SCHEDULES}


def mean_square(output: Any, target: Tensor) -> Tensor:
    parts = output if isinstance(output, tuple) else (output,)
    return torch.stack([(part - target.reshape(-1, *[1] * (part.dim() - 1))).square().mean() for part in parts]).sum()


def network_of(spec: archdsl.Source | Graph) -> nn.Module:
    torch.manual_seed(0)
    network = instantiate(checked(spec), dtype=torch.float64)
    for module in network.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    return network


def batch_of(size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    images, target = (torch.randn(*s, generator=random, dtype=torch.float64) for s in ((BATCH, *size), (BATCH,)))
    return images, target


def work(cases: Mapping[str, Case], training: bool) -> dict[str, Any]:
    found = {}
    for name, (spec, size, schedule, microbatches) in cases.items():
        images, target = batch_of(size)
        made = archdsl.pipeline(
            spec,
            batch=BATCH,
            microbatches=microbatches,
            loss=mean_square,
            schedule=schedule,
            size=size,
            dtype=torch.float64,
        )
        for module in made.modules.values():
            for part in module.modules():
                if hasattr(part, "p"):
                    part.p = 0.0
        made.load_state_dict(network_of(spec).state_dict())
        made.train(training)
        loss = made.step(images, target=target)
        gradients = {n: p.grad for module in made.modules.values() for n, p in module.named_parameters()}
        state = {key: value.clone() for key, value in made.state_dict().items()}
        outputs = made.eval().evaluate(images)
        found[name] = {
            "loss": loss,
            "gradients": gradients,
            "state": state,
            "outputs": None if outputs is None else tuple(outputs) if isinstance(outputs, tuple) else (outputs,),
        }
    return found


def tiny() -> dict[str, Any]:
    return work(TINY, True)


def both_modes(name: str) -> list[dict[str, Any]]:
    return [work(larger(name), training) for training in (True, False)]


larger_unet, larger_densenet, larger_mobilenet, larger_swin = (partial(both_modes, name) for name in LARGER)


def compare(found: list[dict[str, Any]], cases: Mapping[str, Case], training: bool) -> None:
    for name, (spec, size, _, microbatches) in cases.items():
        network = network_of(spec).train(training)
        images, target = batch_of(size)
        # In evaluation mode the whole batch at once gives the same; in training a micro-batch is a batch of its own.
        parts = microbatches if training else 1
        losses = []
        for part, wanted in zip(images.chunk(parts), target.chunk(parts), strict=True):
            loss = mean_square(network(part), wanted) / parts
            loss.backward()
            losses.append(loss.detach())
        close = {"rtol": 1e-9, "atol": 1e-12}
        given = {key: value for rank in found for key, value in rank[name]["gradients"].items()}
        wanted_gradients = {n: p.grad for n, p in network.named_parameters()}
        assert given.keys() == wanted_gradients.keys()
        for key, gradient in wanted_gradients.items():
            torch.testing.assert_close(given[key], gradient, **close, msg=lambda m, k=key, n=name: f"{n} {k}: {m}")
        state = {key: value for rank in found for key, value in rank[name]["state"].items()}
        for key, value in network.state_dict().items():
            torch.testing.assert_close(state[key], value, **close, msg=lambda m, k=key, n=name: f"{n} {k}: {m}")
        assert [rank[name]["loss"] is None for rank in found] == [True] * (len(found) - 1) + [False]
        torch.testing.assert_close(found[-1][name]["loss"], torch.stack(losses).sum(), **close)
        with torch.no_grad():
            outputs = network.eval()(images)
        outputs = tuple(y for y in (outputs if isinstance(outputs, tuple) else (outputs,)))
        for one, other in zip(found[-1][name]["outputs"], outputs, strict=True):
            assert (one is None) is (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, **close)


def test_gradients_are_those_of_the_whole(tmp_path: Path) -> None:
    compare(run_ranks(tmp_path, 2, __name__, "tiny"), TINY, True)


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", LARGER)
def test_gradients_of_larger_networks(name: str, ranks: int, tmp_path: Path) -> None:
    found = run_ranks(tmp_path, ranks, __name__, f"larger_{name}", timeout=600)
    for number, training in enumerate((True, False)):
        compare([rank[number] for rank in found], larger(name), training)


def sharded() -> tuple[list[float], dict[str, Tensor]]:
    """Losses of five steps of two copies, whose stages are in parts, and the gradients of the first step."""
    spec, size, schedule, microbatches = TINY["1f1b"]
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("shard", "stage"))
    state = network_of(spec).eval().state_dict()

    def wrap(stage: nn.Module) -> nn.Module:
        stage.load_state_dict({key: state[key] for key in stage.state_dict()})
        return fully_shard(stage.eval(), mesh=mesh["shard"])

    made = archdsl.pipeline(
        spec,
        batch=BATCH // 2,
        microbatches=microbatches,
        loss=mean_square,
        schedule=schedule,
        size=size,
        dtype=torch.float64,
        group=mesh["stage"].get_group(),
        wrap=wrap,
    )
    optimizer = torch.optim.SGD(made.parameters(), 0.01)
    images, target = (part.chunk(2)[mesh["shard"].get_local_rank()] for part in batch_of(size))
    losses, gradients = [], {}
    for _ in range(5):
        optimizer.zero_grad()
        loss = made.step(images, target=target)
        losses.append(0.0 if loss is None else loss.item())
        named = [item for module in made.modules.values() for item in module.named_parameters()]
        gradients = gradients or {name: p.grad.full_tensor() for name, p in named}  # type: ignore[union-attr,operator]
        optimizer.step()
    return losses, gradients


@pytest.mark.long
def test_stages_in_parts(tmp_path: Path) -> None:
    """Each stage of a pipeline may be sharded by FSDP, over the copies of the pipeline."""
    found = run_ranks(tmp_path, 4, __name__, "sharded")
    network, (images, target) = network_of(TINY["1f1b"][0]).eval(), batch_of(TINY["1f1b"][1])
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for step in range(5):
        optimizer.zero_grad()
        loss = mean_square(network(images), target)
        loss.backward()
        if step == 0:
            for _, gradients in found:
                for name, gradient in gradients.items():
                    wanted = network.get_parameter(name).grad
                    assert wanted is not None
                    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-12)
        assert sum(losses[step] for losses, _ in found) / 2 == pytest.approx(loss.item(), rel=1e-10)
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stages": 3}, "3 stages do not fit 1 ranks"),
        ({"microbatches": 3}, "a batch of 8 cannot be cut into 3 micro-batches"),
        ({"schedule": "zigzag"}, "there is no schedule 'zigzag'"),
    ],
)
def test_numbers_that_do_not_fit(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match=words):
            archdsl.pipeline(source_of(U), batch=BATCH, loss=mean_square, **options)
    finally:
        dist.destroy_process_group()


def test_a_batch_of_another_size(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        made = archdsl.pipeline(source_of(U), batch=BATCH, loss=mean_square, stages=1, size=(3, 8, 8))
        with pytest.raises(ValueError, match="for batches of 8, and this one has 6"):
            made.step(torch.zeros(6, 3, 8, 8), target=torch.zeros(6))
    finally:
        dist.destroy_process_group()
