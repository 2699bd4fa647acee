"""Built modules under distributed data parallel: two processes with half of the batch each, and one with all of it."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import archdsl
from tests.ranks import run_ranks

RESIDUAL = """
block unit(width) {
    residual via conv(width, 1) {
        conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm
    }
    relu
}
model residual {
    input x[3, H, W]
    conv(4, 3) -> unit(4) -> unit(4) -> unit(8) -> unit(8) -> unit(8)
    global_avgpool -> flatten -> linear(5)
}
"""
AUXILIARY = """
model auxiliary {
    input x[3, H, W]
    a: conv(4, 3) -> batchnorm -> relu
    b: conv(2, 3)
    a -> side: conv(2, 1)
    output main = b, aux = side if training
}
"""
FROZEN = """
model frozen {
    input x[3, H, W]
    conv(4, 3, bias = false, trainable = false) -> batchnorm -> relu
    conv(2, 3)
}
"""
FORMS: dict[str, tuple[str | archdsl.Source, dict[str, object]]] = {
    "resnet": ("resnet:resnet", {"unit": "basic", "counts": [1, 1, 1, 1], "classes": 5}),
    "unet": ("unet:unet_padded", {"width": 4, "depth": 2}),
    "fcdensenet": ("fcdensenet:fcdensenet", {"counts": [2, 2, 2], "growth": 4, "width": 8}),
    "fcdensenet again": (
        "fcdensenet:fcdensenet",
        {"counts": [2, 2, 2], "growth": 4, "width": 8, "recompute": "dense"},
    ),
    "densenet again": ("densenet:densenet", {"counts": [2, 2, 2, 2], "growth": 4, "width": 8, "recompute": "dense"}),
    "residual again": (archdsl.Source("residual.arch", RESIDUAL), {"recompute": "blocks"}),
    "auxiliary": (archdsl.Source("auxiliary.arch", AUXILIARY), {}),
    "frozen": (archdsl.Source("frozen.arch", FROZEN), {}),
}
SIZE = 32


def network_of(form: str) -> nn.Module:
    """The network of a form in float64, with the same weights everywhere; dropouts keep everything."""
    spec, values = FORMS[form]
    torch.manual_seed(0)
    network = archdsl.load(spec, dtype=torch.float64, **values)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return network


def freeze_statistics(network: nn.Module) -> None:
    """Makes batchnorms use their running statistics: those of half a batch differ from those of the whole."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def images(batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss_of(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Of every output of the network."""
    parts = [result] if isinstance(result, Tensor) else list(result)
    return torch.stack([part.square().mean() for part in parts if part is not None]).sum()


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def work() -> dict[str, object]:
    """The work of one of the two processes: each form in turn, plain and with a static graph."""
    rank = dist.get_rank()
    found: dict[str, object] = {}
    for form in FORMS:
        for static in (False, True):
            network = network_of(form)
            freeze_statistics(network)
            parallel = DistributedDataParallel(network, static_graph=static)
            for _ in range(2):  # errors of one step are reported in the next
                network.zero_grad()
                loss_of(parallel(images()[2 * rank : 2 * rank + 2])).backward()
            found[f"{form} {static}"] = gradients(network)
        network = network_of(form)
        parallel = DistributedDataParallel(network)
        loss_of(parallel(images()[2 * rank : 2 * rank + 2])).backward()
        found[f"{form} buffers"] = dict(network.named_buffers())
    found["unused"] = unused(rank)
    return found


def unused(rank: int) -> list[str]:
    """The effect of a loss without the auxiliary output: an error in the second step, unless it is allowed."""
    said = []
    for allowed in (False, True):
        parallel = DistributedDataParallel(network_of("auxiliary"), find_unused_parameters=allowed)
        try:
            for _ in range(2):
                parallel(images()[2 * rank : 2 * rank + 2]).main.sum().backward()
            said.append("")
        except RuntimeError as error:
            said.append(str(error))
    return said


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this PyTorch has no gloo")
    return run_ranks(tmp_path_factory.mktemp("ddp"), 2, __name__, "work", timeout=200)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_the_whole_batch(form: str, results: list[dict[str, dict[str, Tensor]]]) -> None:
    network = network_of(form)
    freeze_statistics(network)
    loss_of(network(images())).backward()
    wanted = gradients(network)
    assert wanted and any(grad.any() for grad in wanted.values())
    for static in (False, True):
        for found in results:
            given = found[f"{form} {static}"]
            assert given.keys() == wanted.keys()
            for name, grad in wanted.items():
                torch.testing.assert_close(given[name], grad, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("form", FORMS)
def test_statistics_are_counted_once(form: str, results: list[dict[str, dict[str, Tensor]]]) -> None:
    for rank, found in enumerate(results):
        network = network_of(form)
        loss_of(network(images()[2 * rank : 2 * rank + 2])).backward()
        for name, buffer in network.named_buffers():
            torch.testing.assert_close(found[f"{form} buffers"][name], buffer, msg=lambda m, n=name: f"{n}: {m}")


def test_an_output_that_no_loss_uses(results: list[dict[str, list[str]]]) -> None:
    for found in results:
        refused, allowed = found["unused"]
        assert "find_unused_parameters=True" in refused and allowed == ""
