"""Predicted memory compared with what autograd saves and the profiler sees allocated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from archdsl import check, load
from archdsl.analysis.ledger import Moment, Peak
from archdsl.analysis.memory import memory
from archdsl.common.choices import BYTES, OPTIMIZERS, Mode
from archdsl.common.source import Source
from archdsl.diagnostics import SpecError
from archdsl.transform.recompute import as_run, recompute
from tests.helpers import graph_of, net_text, source_of
from tests.modules import class_of

TOLERANCE = 0.05

Case = tuple[str, Mode, tuple[int, ...], int]

# A spec, what is computed a second time, an image, a batch. On maps of a few pixels kernels take workspaces of their
# own, each CPU's others: sizes are as small as that allows.
MODELS: list[Case] = [
    ("vgg:vgg11", "none", (3, 64, 64), 2),
    ("resnet:resnet50", "none", (3, 96, 96), 2),
    ("resnet:resnet50", "blocks", (3, 96, 96), 2),
    ("densenet:densenet121", "none", (3, 64, 64), 2),
    ("densenet:densenet121", "dense", (3, 64, 64), 2),
    ("densenet:densenet121", "blocks", (3, 64, 64), 2),
    ("unet:unet", "none", (1, 188, 188), 1),
    ("unet:unet", "blocks", (1, 188, 188), 1),
]
LARGE: list[Case] = [
    ("vgg:vgg11", "none", (3, 224, 224), 4),
    ("resnet:resnet50", "none", (3, 224, 224), 4),
    ("resnet:resnet50", "blocks", (3, 224, 224), 4),
    ("densenet:densenet121", "none", (3, 224, 224), 4),
    ("densenet:densenet121", "dense", (3, 224, 224), 4),
    ("densenet:densenet121", "blocks", (3, 224, 224), 4),
    ("unet:unet", "none", (1, 572, 572), 1),
    ("unet:unet", "blocks", (1, 572, 572), 1),
    ("unet:unet_padded", "none", (3, 256, 256), 2),
    ("unet:unet_padded", "blocks", (3, 256, 256), 2),
    ("mobilenet:mobilenet_v2", "none", (3, 224, 224), 4),
    ("mobilenet:mobilenet_v2", "blocks", (3, 224, 224), 4),
]

# A multiple of 16 channels, as oneDNN's layouts have them: what it copies is as large as the tensor then.
SMALL = {
    "activations": "conv(16, 3) -> gelu -> conv(16, 3) -> silu -> conv(16, 3) -> sigmoid -> conv(16, 3) -> leaky_relu",
    "relu6": "conv(16, 3) -> relu6 -> conv(16, 3) -> elu -> conv(16, 3) -> relu6",
    "norms": "conv(16, 3) -> groupnorm(2) -> conv(16, 3) -> layernorm -> conv(16, 3) -> instancenorm -> conv(16, 3)",
    "lrn": "conv(16, 3) -> lrn(5) -> conv(16, 3)",
    "pools": "conv(16, 3) -> maxpool(3, 2, 1) -> conv(16, 3) -> avgpool(2) -> conv(16, 3) -> adaptive_avgpool(5)",
    "dropout": "conv(16, 3) -> dropout(0.3) -> conv(16, 3) -> dropout_channels(0.3) -> conv(16, 3)",
    "merges": "conv(16, 3)\n (conv(16, 3), conv(16, 3)) -> mul\n (conv(16, 3), it) -> maximum -> conv(16, 3)",
    "resizes": "conv(16, 3) -> upsample(2, bilinear) -> conv(64, 3) -> pixel_shuffle(2) -> conv(16, 3)",
    "slices": "conv(32, 3) -> slice(0, 16) -> conv(16, 3) -> crop(2) -> conv(16, 3) -> global_avgpool -> flatten",
    "pads": "conv(16, 3, pad_mode = reflect) -> conv(16, 4, stride = 2, pad = same_upper) -> pad(2) -> conv(16, 3)",
    "frozen": "conv(16, 3, trainable = false) -> relu -> conv(16, 3)\n residual { conv(16, 3) -> relu -> conv(16, 3) }",
    "scale": "conv(16, 3)\n residual { conv(16, 3) -> scale(0.1) }\n conv(16, 3)",
    "attention": "conv(64, 3, stride = 4)\n repeat 3 { attention(2) }",
    "dropout of scores": "conv(64, 3, stride = 4)\n repeat 2 { attention(2, dropout = 0.1) }",
    "cross-attention": "conv(64, 3, stride = 4)\n (conv(64, 1), it, conv(64, 1)) -> attention(2) -> attention(2)",
    "convnext": """
        conv(64, 4, stride = 4, pad = valid) -> layernorm
        repeat 2 {
            residual {
                conv(64, 7, groups = 64) -> layernorm -> linear(256) -> gelu -> linear(64)
                scale(0.1) -> droppath(0.1)
            }
        }""",
    "vit": """
        conv(64, 4, stride = 4, pad = valid) -> tokens
        repeat 2 {
            residual { layernorm -> attention(4) } -> residual { layernorm -> linear(256) -> gelu -> linear(64) }
        }""",
    "swin": """
        conv(64, 4, stride = 4, pad = valid) -> layernorm
        for i in 0..2 {
            residual {
                layernorm
                windows(8, 4 * i, pad) {
                    (parameter([4, 225], stored = rows) -> relative(8), linear(192) -> split(3)) -> (bias, q, k, v): { }
                    (q, k, v, bias) -> attend(4) -> linear(64)
                }
                droppath(0.1)
            }
            residual { layernorm -> linear(256) -> gelu -> linear(64) -> droppath(0.1) }
        }""",
    "channels": """
        conv(16, 3)
        ({ }, (channel_mean, channel_max) -> concat -> conv(1, 3) -> sigmoid) -> mul -> conv(16, 3)""",
    "positions": "conv(16, 3)\n (it, it -> sine_positions(32) -> conv(16, 3)) -> add -> relu -> conv(16, 3)",
    "skips": "conv(16, 3)\n dense { conv(16, 3) -> relu }\n dense { conv(32, 3) }\n residual { conv(64, 3) -> relu }",
}


def small(name: str) -> Source:
    return source_of(net_text(SMALL[name], "x[3, H = 64, W = 64]"))


def weights(model: nn.Module) -> int:
    return sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))


def saved(model: nn.Module, images: Tensor) -> int:
    """The bytes that autograd saves, except weights, each memory counted once."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    found: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model.train()(images)
    return sum(count for count, _ in found.values())


def peak(run) -> int:
    """The peak of allocated bytes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


class Loss(torch.autograd.Function):
    """A sum whose gradient is a separate tensor, like that of a loss."""

    @staticmethod
    def forward(context, output: Tensor) -> Tensor:
        context.shape = output.shape
        return output.sum()

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return torch.ones(context.shape)


def step(model: nn.Module, images: Tensor) -> None:
    # Cloned, so that the profiler sees the input allocated.
    output = model.train()(images.clone())
    Loss.apply(output).backward()


def infer(model: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        model.eval()(images.clone())


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """On one thread PyTorch computes 1×1 convolutions without oneDNN, and without copies."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def loaded(spec: str | Source, mode: Mode = "none") -> nn.Module:
    """A module with uninitialised weights, since drawing them would take longer than the test."""
    with torch.device("meta"):
        model = load(spec, recompute=mode)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(0.01 if tensor.is_floating_point() else 0)
    return model


def agrees(spec: str | Source, mode: Mode, size: tuple[int, ...], batch: int, *, peaks: bool = True) -> None:
    """Compares the prediction with what PyTorch saves, and with its peak, in eval and in a training step."""
    graph, model = check(spec), loaded(spec, mode)
    sizes = dict(zip(("H", "W"), size[1:], strict=True))
    run, scopes = as_run(graph, recompute(graph, mode))
    predicted = memory(run, sizes, recompute=scopes)
    if mode != "none":
        assert predicted.saved.at(batch) < 0.8 * memory(graph, sizes).saved.at(batch)
    images = torch.randn(batch, *size)
    assert predicted.weights == weights(model)
    assert predicted.saved.at(batch) == pytest.approx(saved(model, images), rel=TOLERANCE)
    if not peaks:
        return
    held = weights(model) + peak(lambda: infer(model, images))
    assert predicted.inference.at(batch) == pytest.approx(held, rel=TOLERANCE)
    model.zero_grad(set_to_none=True)
    held = weights(model) + peak(lambda: step(model, images))
    assert predicted.training("sgd").at(batch) == pytest.approx(held, rel=TOLERANCE)


@pytest.mark.parametrize(("spec", "mode", "size", "batch"), MODELS)
def test_models(spec: str, mode: Mode, size: tuple[int, ...], batch: int) -> None:
    agrees(spec, mode, size, batch)


@pytest.mark.long
@pytest.mark.parametrize(("spec", "mode", "size", "batch"), LARGE)
def test_models_at_their_sizes(spec: str, mode: Mode, size: tuple[int, ...], batch: int) -> None:
    agrees(spec, mode, size, batch)


@pytest.mark.parametrize(
    ("spec", "size"),
    [("unet:unet", (1, 572, 572)), ("unet:unet_padded", (3, 256, 256)), ("fcdensenet:fcdensenet56", (3, 64, 64))],
)
def test_variables_of_a_u_hold_what_nothing_reads(spec: str, size: tuple[int, ...]) -> None:
    """A narrow U on a large image: its peak is at the finest level, where skips stay in the variables of `forward`."""
    values = {"width": 16}
    with torch.device("meta"):
        model = load(spec, **values)
    model = model.to_empty(device="cpu")
    predicted = memory(check(spec, **values), dict(zip(("H", "W"), size[1:], strict=True)))
    held = weights(model) + peak(lambda: infer(model, torch.zeros(2, *size)))
    assert predicted.inference.at(2) == pytest.approx(held, rel=TOLERANCE)


@pytest.mark.parametrize("mode", ["dense", "blocks"])
def test_a_network_without_blocks_has_nothing_to_recompute(mode: Mode) -> None:
    with pytest.raises(SpecError, match="there is nothing to recompute"):
        recompute(check("vgg:vgg11"), mode)


@pytest.mark.parametrize("name", SMALL)
def test_operations(name: str) -> None:
    # Copies of views, of padded tensors and in nested expressions are temporary; not all are predicted.
    peaks = name not in ("slices", "pads", "scale", "convnext", "vit", "swin", "channels")
    agrees(small(name), "none", (3, 64, 64), batch=8, peaks=peaks)


def test_the_state_of_optimizers_is_what_pytorch_keeps() -> None:
    graph, model = check("lenet:lenet"), load("lenet:lenet")
    optimizers = {
        "sgd": torch.optim.SGD,
        "momentum": lambda p: torch.optim.SGD(p, momentum=0.9),
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    assert optimizers.keys() == OPTIMIZERS.keys()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    found = memory(graph)
    for name, make in optimizers.items():
        optimizer = make(model.parameters())
        optimizer.step()
        state = sum(
            t.nbytes for s in optimizer.state.values() for t in s.values() if isinstance(t, Tensor) and t.numel() > 1
        )
        assert found.training(name).at(0) - found.training("sgd").at(0) == state


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    found = memory(check("resnet:resnet18"))
    for run in (found.inference, found.training("adam")):
        for limit in (2**28, 2**32, 10**11):
            batch = run.largest_batch(limit)
            assert run.at(batch) <= limit < run.at(batch + 1)
        assert run.largest_batch(10**6) == 0


def test_a_peak_is_the_largest_moment_for_a_batch() -> None:
    run = Peak((Moment(100, 1), Moment(10, 20)))
    assert [run.at(batch) for batch in (1, 4, 5, 10)] == [101, 104, 110, 210]
    assert run.largest_batch(110) == 5


def test_half_as_wide_is_half_as_much() -> None:
    graph = check("lenet:lenet")
    assert BYTES["float16"] * 2 == BYTES["float32"]
    assert memory(graph, dtype="bfloat16").saved.sample < memory(graph).saved.sample


BIAS = "parameter([2, 49], init = normal(0.5), stored = rows) -> relative(4)"
MOVED = (
    "conv(8, 3) -> relu -> linear(8) -> linear(8) -> relu -> conv(8, 3)",
    "conv(8, 3) -> relu -> linear(8) -> flatten -> linear(3)",
    "conv(8, 3) -> relu -> tokens -> layernorm -> linear(8) -> maps(16x16) -> conv(8, 3) -> sigmoid -> linear(8)",
    "linear(8) -> conv(8, 3) -> relu -> linear(8) -> batchnorm -> tanh -> linear(8) -> tanh -> conv(8, 1)",
    *(
        f"conv(8, 3)\nwindows(4{shift}) {{ {mix} }}\nlinear(8)"
        for shift in ("", ", 2")
        for mix in (
            "attention(2)",
            "linear(24) -> split(3) -> attend(2)",
            f"(linear(24) -> split(3), {BIAS}) -> attend(2)",
        )
    ),
    "conv(8, 3)\n(linear(8), linear(8), linear(4)) -> attend(2, scale = cosine) -> linear(8)",
    "conv(8, 3)\n(linear(8), linear(8), linear(8)) -> attend(2, scale = cosine) -> linear(8)",
    "conv(8, 3) -> linear(24) -> split(3) -> attend(4) -> linear(8)",
    "conv(8, 3) -> (it, conv(4, 1), conv(2, 1)) -> attention(2)",
    "conv(8, 3) -> (it, it, it, parameter([2, 256, 256])) -> attention(2)",
    "conv(8, 3)\nresidual { conv(8, 3) -> droppath(0.1) }",
    "conv(8, 3) -> tokens -> residual { layernorm -> attention(2) } -> residual { linear(16) -> gelu -> linear(8) }",
)


@pytest.mark.parametrize("body", MOVED)
def test_saves_what_pytorch_saves_where_axes_move(body: str) -> None:
    graph = graph_of(net_text(body, "x[3, 16, 16]"))
    module = class_of(graph)().train()
    weights = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}

    def save(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        result = module(torch.randn(2, 3, 16, 16))  # of a single sample a view of a linear layer's input would do
    saved = memory(graph).saved
    assert 2 * saved.sample + saved.fixed == sum(x.untyped_storage().nbytes() for x in kept.values())
    assert result.shape[0] == 2


DENSE = """
    block layer { batchnorm -> relu -> conv(8, 1) }
    block stage(count) { repeat count { dense { layer } } }
    block inner { a: { relu -> conv(8, 1) } -> batchnorm }
    block split { (it, a: { relu -> conv(8, 1) }) -> concat -> conv(8, 1) }
    block nested { stage(2) -> conv(8, 1) }
    block steps(n) {
        if n > 0 { dense { layer } }
        stage: dense { layer }
        repeat 2 { dense { layer } }
    }
"""


@pytest.mark.parametrize(
    "body",
    [
        "stage(4)",
        "stage(2) -> stage(2)",
        "stage(2) -> dense { layer }",
        "dense { layer } -> stage(2)",
        "a: dense { layer } -> b: dense { layer } -> dense { layer } -> relu",
        "steps(1) -> conv(8, 1) -> steps(0)",
        *(f"dense {{ {body} }} -> dense {{ {body} }}" for body in ("inner", "split", "nested")),
    ],
)
def test_saves_what_pytorch_saves_of_dense_connections(body: str) -> None:
    """What leaves the scope of a connection is put together, and stored if another connection takes it.

    A connection in the body of another one runs again with this body.
    """
    graph = graph_of(net_text(body, "x[8, 16, 16]", DENSE))
    again = recompute(graph, "dense")
    run, parts = as_run(graph, again)
    predicted = memory(run, recompute=parts).saved
    module = class_of(graph, recompute=again)()
    assert predicted.at(2) == saved(module, torch.randn(2, 8, 16, 16))
