"""Built modules are ready for a GPU, as far as a machine without one can tell."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from archdsl import check, dims, load
from archdsl.graph import Graph
from archdsl.graph import Tensor as Result
from tests import published
from tests.helpers import ROOT, graph_of, net_text

SAVED = json.loads((ROOT / "tests" / "data" / "saved_bytes.json").read_text())

ODD = {
    "aligned": "a: conv(8, 3, stride = 2)\n a -> upconv(8, 2)\n (it, x) -> align(crop) -> concat -> conv(4, 1)",
    "padded": "(maxpool(2), maxpool(3)) -> align(pad) -> add -> conv(4, 3)",
    "resized": "(x, conv(4, 3, stride = 2)) -> align(resize) -> concat -> resize(to = x.size) -> upsample(2, bilinear)",
    "shuffled": "conv(16, 3) -> pixel_shuffle(2) -> pixel_unshuffle(2) -> channel_shuffle(4) -> conv(4, 3)",
    "split": "conv(8, 3) -> (a, b): split(2)\n (b, a) -> concat -> slice(1, 7) -> conv(4, 3) -> crop(1) -> pad(1)",
    "dense": 'conv(4, 3)\n for i in 0..3 { dense { "layer{i}": { batchnorm -> relu -> conv(4, 3) } } }\n conv(4, 1)',
    "gated": "s: conv(8, 3)\n s -> global_avgpool -> conv(8, 1) -> sigmoid\n (s, it) -> mul -> conv(4, 1)",
    "normed": "conv(8, 3) -> groupnorm(2) -> silu -> conv(8, 3) -> instancenorm -> layernorm -> scale -> prelu",
    "edges": "conv(8, 3, pad_mode = reflect) -> conv(8, 4, 2, pad = same_upper) -> maxpool(2, pad = 1) -> lrn(3)",
    "dropped": "conv(8, 3) -> dropout_channels(0.2) -> droppath(0.1) -> leaky_relu -> avgpool(3, 2, 1, ceil = true)",
}


FAMILIES = [
    "alexnet:alexnet",
    "densenet:densenet121",
    "edges:edges",
    "fcdensenet:fcdensenet56",
    "lenet:lenet",
    "mobilenet:mobilenet_v2",
    "resnet:resnet18",
    "squeezenet:squeezenet1_1",
    "unet:unet_padded",
    "vgg:vgg11_bn",
]
"""The smallest of each family; those of a family run the same code."""


def odd(name: str) -> Graph:
    return graph_of(net_text(ODD[name], "x[4, H = 24, W = 24]"))


def instance(graph: Graph, **options: object) -> nn.Module:
    from archdsl.runtime.loading import instantiate

    return instantiate(graph, **options)  # type: ignore[arg-type]


def images(graph: Graph, device: str = "cpu", size: int = 64, batch: int = 2) -> list[Tensor]:
    valid = graph.training or graph.sizes
    sizes = {name: found.nearest(size)[1] or size for name, found in valid.items()}
    shapes = ([dims.evaluate(d, sizes) for d in graph.shape(Result(n.id))] for n in graph.input_nodes)
    return [torch.randn(batch, *shape, device=device) for shape in shapes]


def outputs(found: object) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [x for x in found if x is not None]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- where tensors are, and of which type


@pytest.mark.parametrize("spec", published.one_of_each(lambda: published.FEW))
def test_device_and_dtype_reach_every_tensor(spec: str) -> None:
    graph = check(spec)
    model = instance(graph, device="meta", dtype=torch.bfloat16)
    dtypes = {weight.key(node.path): weight.dtype for node, weight in graph.weights()}
    for name, tensor in model.state_dict().items():
        assert tensor.is_meta, name
        assert tensor.dtype == (torch.int64 if dtypes[name] == "int64" else torch.bfloat16), name
    given = outputs(model(*(x.to("meta", torch.bfloat16) for x in images(graph))))
    assert all(x.is_meta and x.dtype == torch.bfloat16 for x in given)


@pytest.mark.parametrize("spec", ["resnet:resnet18", "unet:unet_padded", "edges:edges"])
def test_a_module_on_the_meta_device_is_filled_later(spec: str) -> None:
    graph = check(spec)
    whole = load(spec).eval()
    later = load(spec, device="meta").to_empty(device="cpu").eval()
    later.load_state_dict(whole.state_dict())
    tensors = images(graph)
    torch.testing.assert_close(outputs(later(*tensors)), outputs(whole(*tensors)))


# ---------------------------------------------------------------- layout, precision


def watch(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The 4-d results of modules, as the model runs."""
    found: list[tuple[str, Tensor]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.InstanceNorm2d):
            continue  # PyTorch's makes its result contiguous; the convolution behind it puts the channels last again
        module.register_forward_hook(
            lambda _, __, out, name=name: found.extend((name, x) for x in outputs(out) if x.ndim == 4)
        )
    return found


def stays(x: Tensor) -> bool:
    """Whether the channels of a tensor, or of the one that it is a slice of, lie side by side."""
    return x.is_contiguous(memory_format=torch.channels_last) or x.stride(1) == 1


def keeps_channels_last(graph: Graph) -> None:
    model = instance(graph, device="meta").to_empty(device="cpu").eval().to(memory_format=torch.channels_last)
    found = watch(model)
    with torch.no_grad():
        model(*(x.contiguous(memory_format=torch.channels_last) for x in images(graph)))
    assert found and [name for name, x in found if not stays(x)] == []


@pytest.mark.parametrize("spec", FAMILIES)
def test_channels_last_stays_to_the_end(spec: str) -> None:
    keeps_channels_last(check(spec))


@pytest.mark.parametrize("name", ODD)
def test_channels_last_stays_in_odd_networks(name: str) -> None:
    keeps_channels_last(odd(name))


@pytest.mark.parametrize("graph", [*(odd(n) for n in ODD), check("resnet:resnet18")])
def test_runs_under_autocast(graph: Graph) -> None:
    model = instance(graph)
    with torch.autocast("cpu", torch.bfloat16):
        given = outputs(model(*images(graph, size=32)))
    torch.stack([x.float().square().mean() for x in given]).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(x.isfinite().all() for x in gradients)


# ---------------------------------------------------------------- compiled


def compiles_once(graph: Graph, sizes: Iterator[int] | tuple[int, ...]) -> None:
    """No break, and no second compilation for another batch; `sizes` are batches."""
    torch.compiler.reset()
    counter = CompileCounter()
    model = torch.compile(instance(graph).eval(), fullgraph=True, backend=counter)
    with torch.no_grad():
        for batch in sizes:
            tensors = images(graph, size=32, batch=batch)
            for x in tensors:
                torch._dynamo.mark_dynamic(x, 0)
            model(*tensors)
    assert counter.frame_count == 1


def test_compiles_whole_and_once_for_all_batches() -> None:
    compiles_once(check("resnet:resnet18"), (2, 3, 5))


@pytest.mark.parametrize("name", ODD)
def test_odd_networks_compile_whole_and_once(name: str) -> None:
    compiles_once(odd(name), (2, 3))


# ---------------------------------------------------------------- what training keeps


KINDS = {"alexnet", "densenet121", "mobilenet_v2", "resnet18", "resnet50", "resnext50_32x4d", "squeezenet1_1"}
KINDS |= {"vgg11", "vgg11_bn"}
"""One of each kind, by default; the others have more of the same layers."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name not in KINDS)) for name in SAVED["bytes"]]
)
def test_autograd_keeps_no_more_than_of_torchvisions_model(name: str) -> None:
    model = load(published.spec(name), device="meta").train()
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(torch.empty(SAVED["input"], device="meta"))
    assert 0 < sum(count for at, (count, _) in kept.items() if at not in own) <= SAVED["bytes"][name]
