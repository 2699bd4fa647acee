"""Trainings that are spread over processes: their losses are those of one process with the whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.functional import cross_entropy

import archdsl
from archdsl.common.choices import Budget
from archdsl.compiler import check
from archdsl.runtime.whole_images import normalised
from archdsl.transform.parallel import parallel
from tests.helpers import source_of
from tests.ranks import run_ranks

STEPS = 20
RESIDUAL = """
block unit(width) {
    residual via conv(width, 1) {
        conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm
    }
    relu
}
model residual {
    input x[3, H, W]
    conv(4, 3) -> unit(4) -> unit(8) -> unit(8)
    global_avgpool -> flatten -> linear(5)
}
"""
OLDER = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12)
if OLDER:  # FSDP refuses classes of numbered layers there
    inside = "conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm"
    named = "c1: conv(width, 3) -> n1: batchnorm -> relu -> c2: conv(width, 3) -> n2: batchnorm"
    RESIDUAL = RESIDUAL.replace("via conv", "via skip: conv").replace(inside, named)
LEVELS = """
block pair(width) {
    c1: conv(width, 3) -> n1: batchnorm -> relu
    c2: conv(width, 3) -> n2: batchnorm -> relu
}
block level(width, depth) {
    encode: pair(width)
    if depth > 0 {
        (it, maxpool(2) -> inner: level(2 * width, depth - 1) -> up: upconv(width, 2)) -> concat
        decode: pair(width)
    }
}
model levels {
    input x[3, H = 16, W = 16]
    level(4, 2)
    global_avgpool -> flatten -> linear(5)
}
"""
Case = tuple[str | archdsl.Source, Mapping[str, Any], tuple[int, ...]]
TINY: dict[str, Case] = {"residual": (source_of(RESIDUAL), {}, (3, 9, 9))}
LARGER: dict[str, Case] = {
    "residual again": (source_of(RESIDUAL), {"recompute": "blocks"}, (3, 9, 9)),
    "levels in a budget": (source_of(LEVELS), {"memory": Budget(850_000, 16)}, (3, 16, 16)),
    "densenet again": (
        "densenet:densenet",
        {"counts": [2, 1, 1, 1], "growth": 4, "width": 8, "classes": 5, "recompute": "dense"},
        (3, 32, 32),
    ),
    "vit": (
        "vit:vit",
        {"width": 16, "depth": 2, "heads": 4, "mlp_width": 32, "patch": 32, "classes": 5},
        (3, 224, 224),
    ),
}
CROSS = """
model cross {
    input x[6, H, W]
    x -> q: conv(8, 1)
    x -> maxpool(2) -> kv: conv(6, 1)
    (q, kv) -> attention(4) -> layernorm -> linear(12) -> gelu -> linear(8) -> relu -> linear(8)
    global_avgpool -> flatten -> linear(16) -> silu -> linear(5)
}
"""
ATTENTIONS: dict[str, Case] = {"vit": LARGER["vit"], "cross": (source_of(CROSS), {}, (6, 8, 8))}
"""Those that are divided along an axis `tensor`."""


def network_of(case: Case, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network with the same weights everywhere; dropouts keep everything, batchnorms are in evaluation."""
    spec, values, _ = case
    torch.manual_seed(0)
    network = archdsl.load(spec, dtype=dtype, parallel=True, **values)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def freeze_statistics(network: nn.Module) -> nn.Module:
    """Makes batchnorms use their running statistics: those of a part of the batch differ from those of the whole."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return network


def curve(network: nn.Module, shape: tuple[int, ...], rank: int = 0, ranks: int = 1, steps: int = STEPS) -> list[float]:
    """The losses of a training with this rank's part of each batch, averaged over the ranks."""
    random = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    dtype = next(network.parameters()).dtype
    losses = []
    for _ in range(steps):
        images, labels = torch.randn(8, *shape, generator=random, dtype=torch.float64), torch.arange(8) % 5
        loss = cross_entropy(network(images.to(dtype).chunk(ranks)[rank]).float().to(dtype), labels.chunk(ranks)[rank])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach().double()
        if dist.is_initialized():
            dist.all_reduce(mean)
        losses.append(mean.item() / (dist.get_world_size() if dist.is_initialized() else 1))
    return losses


def spread(
    cases: Mapping[str, Case], axes: tuple[str, ...], sizes: tuple[int, ...], **options: Any
) -> dict[str, list[float]]:
    """The losses of each case, spread over a mesh."""
    mesh = init_device_mesh("cpu", sizes, mesh_dim_names=axes)
    ranks = sizes[-1] if axes[-1] == "tensor" else 1  # which have the same samples
    found = {}
    for name, case in cases.items():
        network = archdsl.parallelize(network_of(case), mesh, **options)
        found[name] = curve(
            freeze_statistics(network), case[2], dist.get_rank() // ranks, dist.get_world_size() // ranks
        )
    return found


def tiny() -> dict[str, Any]:
    return {axis: spread(TINY, (axis,), (2,)) for axis in ("replicate", "shard")}


def larger() -> dict[str, Any]:
    found = {axis: spread(TINY | LARGER, (axis,), (4,)) for axis in ("replicate", "shard")}
    return found | {"both": spread(TINY | LARGER, ("replicate", "shard"), (2, 2))}


def divided() -> dict[str, Any]:
    found = {"tensor": spread(ATTENTIONS, ("tensor",), (4,))}
    return found | {"shard and tensor": spread(ATTENTIONS, ("shard", "tensor"), (2, 2))}


def options() -> dict[str, Any]:
    """Batchnorms over the whole batch; bfloat16; a model that is made in parts; norms of gradients."""
    case, found = TINY["residual"], {}
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("shard",))
    nn.SyncBatchNorm.forward = synchronised  # type: ignore[method-assign]  # PyTorch's own needs GPUs
    network = archdsl.parallelize(network_of(case), mesh, sync_batchnorm=True)
    found["synchronised"] = curve(network, case[2], dist.get_rank(), 2), dict(network.named_buffers())

    types = []
    network = archdsl.parallelize(network_of(case, torch.float32), mesh, dtype=torch.bfloat16)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda m, given: types.append((type(m), given[0].dtype, m.weight.dtype)))
    found["bfloat16"] = curve(network, case[2], dist.get_rank(), 2)
    found["types"] = {(kind.__name__.removeprefix("FSDP"), *rest) for kind, *rest in types}

    network = archdsl.load(case[0], device="meta", dtype=torch.float64, parallel=True)
    archdsl.parallelize(network, mesh).to_empty(device="cpu")
    full = network_of(case).state_dict() if dist.get_rank() == 0 else {}
    set_model_state_dict(network, full, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    found["meta"] = curve(freeze_statistics(network), case[2], dist.get_rank(), 2)
    return found


def synchronised(module: nn.SyncBatchNorm, x: Tensor) -> Tensor:
    return normalised(module, slice(None), dist.get_world_size() * x[0, 0].numel(), module.process_group, x)


def compare(found: list[dict[str, dict[str, list[float]]]], cases: Mapping[str, Case]) -> None:
    for name, case in cases.items():
        wanted = curve(freeze_statistics(network_of(case)), case[2])
        assert wanted[-1] < wanted[0]
        for way in found[0]:
            for rank in found:
                assert rank[way][name] == pytest.approx(wanted, abs=1e-10), (way, name)


def test_losses_are_those_of_one_process(tmp_path: Path) -> None:
    compare(run_ranks(tmp_path, 2, __name__, "tiny"), TINY)


@pytest.mark.long
def test_losses_of_four_processes(tmp_path: Path) -> None:
    compare(run_ranks(tmp_path, 4, __name__, "larger", timeout=200), TINY | LARGER)


@pytest.mark.long
def test_losses_of_divided_layers(tmp_path: Path) -> None:
    compare(run_ranks(tmp_path, 4, __name__, "divided", timeout=200), ATTENTIONS)


@pytest.mark.long
def test_options(tmp_path: Path) -> None:
    ranks = run_ranks(tmp_path, 2, __name__, "options")
    case = TINY["residual"]
    network = network_of(case)
    wanted = curve(network, case[2])
    frozen = curve(freeze_statistics(network_of(case)), case[2])
    for found in ranks:
        losses, buffers = found["synchronised"]
        assert losses == pytest.approx(wanted, abs=1e-10)
        for name, buffer in network.named_buffers():
            torch.testing.assert_close(buffers[name], buffer, rtol=1e-9, atol=1e-9)
        assert found["meta"] == pytest.approx(frozen, abs=1e-10)
        assert found["bfloat16"][-1] < found["bfloat16"][0] - 0.05
        half, single = torch.bfloat16, torch.float32
        assert found["types"] == {("Conv2d", half, half), ("BatchNorm2d", half, single)}


def test_another_module_is_refused() -> None:
    with pytest.raises(ValueError, match="build it with --parallel"):
        archdsl.parallelize(nn.Linear(1, 1), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "units"),
    [
        ("resnet:resnet18", ("layer1", "layer2", "layer3.0", "layer3.1", "layer4.0", "layer4.1")),
        ("vit:vit_b_32", (*(f"encoder.layers.encoder_layer_{i}" for i in range(12)), "heads")),
        (source_of("model m {\n    input x[3]\n    linear(2)\n}\n"), ()),
    ],
)
def test_units_follow_the_blocks(spec: str | archdsl.Source, units: tuple[str, ...]) -> None:
    assert parallel(check(spec)).units == units
