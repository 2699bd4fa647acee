"""Modules become specs with their keys and numbers, which read as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archdsl
from archdsl import cli
from archdsl.cli.specs import python_value
from archdsl.common.source import Source
from archdsl.runtime.importing import ImportRefused, from_module
from tests.helpers import ROOT
from tests.runtime.importing.networks import NETWORKS, LeNet, Pyramid, ResNet

GOLDEN = ROOT / "tests" / "golden" / "imported"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_module_reads_as_written(name: str, update: bool) -> None:
    made, size = NETWORKS[name]
    torch.manual_seed(0)
    found = from_module(made(), size, name=name)
    path = GOLDEN / f"{name}.arch"
    if update:
        path.write_text(found.text, "utf-8")
    assert found.text == path.read_text("utf-8")


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_numbers_and_gradients_are_the_modules(name: str) -> None:
    """The importer's own proof, made again here: at another size where sizes are free, in training mode, too."""
    made, size = NETWORKS[name]
    torch.manual_seed(0)
    module = made()
    network = archdsl.load(Source("net.arch", (GOLDEN / f"{name}.arch").read_text("utf-8")))
    network.load_state_dict(module.state_dict(), strict=True)
    free = archdsl.check(Source("net.arch", (GOLDEN / f"{name}.arch").read_text("utf-8"))).free
    image = torch.randn(3, size[0], *(n + 8 * bool(free) for n in size[1:]))
    for training in (False, True):
        torch.manual_seed(1)
        wanted = outputs(module.train(training)(image))
        torch.manual_seed(1)
        given = outputs(network.train(training)(image))
        torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5)
    sum(o.square().sum() for o in wanted).backward()
    sum(o.square().sum() for o in given).backward()
    theirs = {key: p.grad for key, p in module.named_parameters()}
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and theirs[key] is not None
        torch.testing.assert_close(parameter.grad, theirs[key], rtol=1e-3, atol=1e-4)


def outputs(found: object) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    values = found.values() if isinstance(found, dict) else found
    return [value for value in values if value is not None]  # type: ignore[attr-defined]


def test_a_module_stays_as_it_was() -> None:
    module = ResNet()
    module.layer1.eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    from_module(module, (3, 64, 64))
    assert module.training and not module.layer1.training and module.layer1[0].conv1.training is False
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_size_that_cannot_vary_is_fixed() -> None:
    found = from_module(LeNet(), (1, 28, 28))
    assert "input image[1, 28, 28]" in found.text
    assert found.notes and "fixed" in found.notes[0]


class Cuts(nn.Module):
    """Takes multiples of 80 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 80 or x.shape[3] % 80:
            raise ValueError("it cuts tiles of 80 x 80")
        return self.conv(x)


def test_a_size_that_varies_by_multiples_is_free() -> None:
    assert "input image[1, H = 80, W = 80]" in from_module(Cuts(), (1, 80, 80)).text


def test_it_shows_itself() -> None:
    found = archdsl.from_module(Pyramid(), (3, 32, 32))
    assert "image/svg+xml" in found._repr_mimebundle_()


# ---------------------------------------------------------------- there and back

BUILT = {
    "lenet:lenet": (1, 32, 32),
    "mobilenet:mobilenet_v2": (3, 64, 64),
    "mobilenet:mobilenet_v3_small": (3, 64, 64),
    "resnet:resnet18": (3, 64, 64),
    "shufflenet:shufflenet_v2_x0_5": (3, 64, 64),
    "squeezenet:squeezenet1_1": (3, 64, 64),
    "unet:unet_1d": (1, 256),
}


@pytest.mark.parametrize("spec", BUILT)
def test_a_built_module_becomes_its_network_again(spec: str) -> None:
    graph = archdsl.check(spec)
    found = from_module(archdsl.load(spec), BUILT[spec])
    assert not archdsl.diff(graph, found.graph).changes
    family = (ROOT / "specs" / f"{spec.partition(':')[0]}.arch").read_text("utf-8")
    assert len(found.text.splitlines()) <= 1.5 * len(family.splitlines())


# ---------------------------------------------------------------- refusals


class Refused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.other = nn.Conv2d(3, 4, 3)
        self.factor = nn.Parameter(torch.ones(4, 1, 1))


class NoOperation(Refused):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erf(self.conv(x) + self.other(x))


class Unused(Refused):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Shared(Refused):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.conv(x.flip(3))


class Caller(nn.Module):
    """Calls a layer of another module."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.scale = nn.Conv2d(4, 4, 1)
        self.layer = [layer]  # in a list, so that it is no part of this module

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.layer[0](x))


class OfAnother(Refused):
    def __init__(self) -> None:
        super().__init__()
        self.caller = Caller(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.caller(x)


class TwoKeys(Refused):
    def __init__(self) -> None:
        super().__init__()
        del self.factor
        self.other = self.conv

    def forward(self, x: Tensor) -> Tensor:
        return self.other(x)


class ByBatch(Refused):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(-1, 2, 30, 30)


class NoChannels(Refused):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))[:, 0]


class Changed(Refused):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) + self.other(x)
        y[:, 0] = y[:, 1]
        return y


class Two(nn.Module):
    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return fixed + moving


@pytest.mark.parametrize("sizes", [[(3, 8, 8)], [(3, 8, 8)] * 3])
def test_each_input_needs_a_size(sizes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ImportRefused, match="its forward takes `fixed`, `moving`: give the size of each input"):
        from_module(Two(), sizes)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (NoOperation, "no operation for the function `erf`"),
        (Shared, "no operation for the function `flip`"),
        (OfAnother, "called by `caller`, of which it is no part"),
        (ByBatch, "whose axes are parts of others"),
        (Changed, "changes a part of a tensor"),
    ],
)
def test_what_cannot_be_said_is_refused(module: type[nn.Module], reason: str) -> None:
    with pytest.raises(ImportRefused, match=reason) as refusal:
        from_module(module(), (3, 32, 32))
    if module not in (OfAnother, ByBatch):
        assert f"{Path(__file__).name}:" in refusal.value.line


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm2d(3, track_running_stats=False), "track_running_stats"),
        (nn.Softsign(), "no operation for the layer Softsign"),
        (nn.AvgPool2d(2, divisor_override=3), "divisor_override"),
    ],
)
def test_a_layer_with_more_than_the_operation_has_is_refused(layer: nn.Module, reason: str) -> None:
    with pytest.raises(ImportRefused, match=reason):
        from_module(nn.Sequential(nn.Conv2d(3, 3, 3), layer), (3, 32, 32), extern=False)


@pytest.mark.parametrize(
    ("module", "note"),
    [
        (Unused, "it does not use `factor` and 2 more, which the spec has not: load its checkpoints with strict=False"),
        (TwoKeys, "`other.weight` and 1 more is the weight `conv.weight` under a second key, which the spec has not"),
        (NoChannels, "its output 0 is one number for each sample, which the spec gives an axis of size 1"),
    ],
)
def test_what_the_spec_has_otherwise_is_noted(module: type[nn.Module], note: str) -> None:
    given = module()
    before = {key: (id(t), t.dtype, t.device, t.requires_grad) for key, t in given.named_parameters()}
    found = from_module(given, (3, 32, 32))
    assert {key: (id(t), t.dtype, t.device, t.requires_grad) for key, t in given.named_parameters()} == before
    assert any(line.startswith(note) for line in found.notes), found.notes
    assert {*found.state} == {*archdsl.load(Source("net.arch", found.text)).state_dict()}


def test_other_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong translation is found by the numbers, if by nothing else."""
    from archdsl.runtime.importing import importing

    written = importing.write
    monkeypatch.setattr(importing, "write", lambda *given: written(*given).replace("relu", "silu"))
    with pytest.raises(ImportRefused, match="differ from those of the spec"):
        from_module(ResNet(), (3, 64, 64))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3)

    def forward(self, image: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.left(image), self.right(depth)
        return x * y, x


def test_several_inputs_and_outputs() -> None:
    found = from_module(TwoInputs(), [(3, 32, 48), (1, 32, 48)])
    assert "input image[3, H = 32, W = 48], depth[1, H, W]" in found.text
    assert [output.name for output in found.graph.outputs] == ["output0", "output1"]


class Nested(nn.Module):
    """Skips across skips: labels, since no nest of sequences and parallels says it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, 4, 3, padding=1) for n in (3, 4, 8))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.a(x))
        b = F.relu(self.b(self.pool(a)))
        c = F.relu(self.c(torch.cat([a, self.up(b)], 1)))
        return torch.cat([a, c, self.up(F.gelu(b))], 1)


def test_what_is_no_nest_is_said_with_labels() -> None:
    assert "(after_relu, " in from_module(Nested(), (3, 32, 32)).text


# ---------------------------------------------------------------- command line

NETWORK = "tests.runtime.importing.networks:ResNet"


def test_the_command_writes_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.arch"
    given = ["import", NETWORK, "--set", "width=4", "--set", "classes=3", "--size", "3x64x64", "-o", str(path)]
    assert cli.run(given) == 0
    text = path.read_text("utf-8")
    assert text.startswith(f"# Imported from {NETWORK}.\n") and "fc: linear(3)" in text
    assert cli.run(["check", str(path)]) == 0
    capsys.readouterr()
    assert cli.run(given) == 2  # the user may have edited it
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *((word, value) for words, value in (("true True", True), ("false False", False)) for word in words.split()),
        *(("none", None), ("None", None), ("'false'", "false"), ('"none"', "none"), ("falsely", "falsely")),
        *(("[1, true]", [1, True]), ("(none, 'none')", (None, "none")), ("1e-3", 1e-3), ("x(true)", "x(true)")),
    ],
)
def test_values_for_python_are_spelt_as_in_python_or_as_in_a_spec(given: str, expected: object) -> None:
    found = python_value(given)
    assert found == expected and type(found) is type(expected)


def switched(relu: bool = True) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU() if relu else nn.Identity())


@pytest.mark.parametrize(("word", "shown"), [("false", False), ("False", False), ("true", True)])
def test_false_turns_off(word: str, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", f"{__name__}:switched", "--set", f"relu={word}", "--size", "3x8x8"]) == 0
    assert ("relu" in capsys.readouterr().out) is shown


def test_commands_take_a_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show", NETWORK, "--set", "width=4", "--size", "3x64x64"]) == 0
    assert "layer1.0.conv1" in capsys.readouterr().out
    picture = tmp_path / "net.svg"
    assert cli.run(["draw", NETWORK, "--size", "3x64x64", "-o", str(picture)]) == 0
    assert b"conv 7" in picture.read_bytes()
    assert cli.run(["diff", NETWORK, NETWORK, "--set-after", "classes=3", "--size", "3x64x64"]) == 0
    assert "fc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.path", "is not of the form"),
        ("no_such_package:net", "cannot be called: ModuleNotFoundError"),
        ("os:getcwd", "makes an object of type str"),
        ("torch.nn:Linear", "needs `in_features`, `out_features`: --set in_features=VALUE --set out_"),
        ("torch.nn:Linear --set in_features=3", "needs `out_features`: --set out_features=VALUE"),
        ("torch.nn:Conv2d --set in_channels=3 --set out_channels=8 --set kernel_size=3", "is a single layer"),
        ("torch.nn:Linear --set width=3", "has no argument `width`; its arguments: `in_features`, `out_features`, "),
        ("tests.runtime.importing.test_importing:NoOperation", "no operation for the function `erf`"),
    ],
)
def test_the_command_explains(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", *name.split()]) == 2
    assert message in capsys.readouterr().err


def test_frozen_parameters_are_reported() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert not from_module(module, (3, 16, 16)).notes
    module[0].requires_grad_(False)
    (note,) = from_module(module, (3, 16, 16)).notes
    assert note.startswith("`0.weight` and 1 more did not require gradients")


def test_a_fixed_kernel_keeps_its_numbers() -> None:
    across, random = nn.Conv2d(1, 2, (1, 2), bias=False), nn.Conv2d(2, 2, 3)
    across.weight.data[:] = torch.tensor([0.1, -1.0])
    module = nn.Sequential(across, random).requires_grad_(False)
    found = from_module(module, (1, 16, 16))
    assert "conv(2, pad = valid, bias = false, weight = [[0.1, -1]], trainable = false)" in found.text
    (note,) = found.notes
    assert note.startswith("`1.weight` and 1 more did not require gradients")
    assert torch.equal(archdsl.load(Source("net.arch", found.text))[0].weight, across.weight)


@pytest.mark.parametrize("shape", ["[1, T = 16]", "[1, H = 16, W = 16]", "[1, D = 8, H = 8, W = 8]"])
def test_a_flipped_convolution_is_known_for_each_number_of_axes(shape: str) -> None:
    source = Source("net.arch", f"model net {{\n    input x{shape}\n    conv(2, 3, flip = true)\n}}\n")
    sizes = tuple(int(n) for n in re.findall(r"\d+", shape))
    assert "conv(2, 3, flip = true)" in from_module(archdsl.load(source), sizes).text


class Sums(nn.Module):
    """A sum of three branches, and one of two branches and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, kernel) for kernel in (1, 1, 1))
        self.d, self.e = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x) + self.b(x) + self.c(x))
        return y + self.d(y) + self.e(y)


def test_a_sum_of_several_is_one_item() -> None:
    text = from_module(Sums(), (3, 8, 8)).text
    assert "(a: conv(3, 1), b: conv(3, 1), c: conv(3, 1)) -> add -> relu" in text
    assert "residual { d: conv(3, 1) }" in text


class ConvNorm(nn.Module):
    def __init__(self, act: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.act = nn.ReLU() if act else nn.Identity()
        self.drop = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.act(self.norm(self.conv(x))))


def test_an_identity_in_the_place_of_an_activation_is_a_value_of_one_block() -> None:
    text = from_module(nn.Sequential(ConvNorm(True), ConvNorm(False)), (3, 8, 8)).text
    assert "block conv_norm(act) {\n    conv: conv(3, 3) -> norm: batchnorm -> act\n}" in text
    assert "conv_norm(relu)\n    conv_norm(identity)" in text and "drop" not in text


class Reduced(nn.Module):
    """Attention of each position to a map of half the size, whose keys are computed first."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.reduce, self.kv = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 2, 2), nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        k, v = (y.flatten(2).mT.unsqueeze(1) for y in self.kv(self.reduce(x)).chunk(2, 1))
        y = F.scaled_dot_product_attention(self.q(x).flatten(2).mT.unsqueeze(1), k, v)
        return y.squeeze(1).mT.reshape(x.shape)


def test_attention_of_maps_of_two_sizes_needs_no_tokens() -> None:
    found = from_module(Reduced(), (8, 8, 8))
    assert "tokens" not in found.text and "(q, " in found.text
    assert re.findall(r"(\w+): conv", found.text) == ["q", "reduce", "kv"]


class Level(nn.Module):
    """A level of a U, and those below."""

    def __init__(self, width: int, counts: list[int]) -> None:
        super().__init__()
        self.first = nn.Sequential(*(nn.Conv2d(width, width, 3, padding=1) for _ in range(counts[0])))
        if counts[1:]:
            self.down, self.below = nn.Conv2d(width, 2 * width, 2, 2), Level(2 * width, counts[1:])
            self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat([x, self.up(self.below(self.down(x)))], 1)[:, : x.shape[1]] if hasattr(self, "up") else x


class Levels(nn.Module):
    def __init__(self, *counts: int) -> None:
        super().__init__()
        self.level = Level(3, [*counts])

    def forward(self, x: Tensor) -> Tensor:
        return self.level(x)


def test_nested_modules_of_a_class_are_a_block_that_calls_itself() -> None:
    text = from_module(Levels(2, 3, 4, 2), (3, 32, 32)).text
    assert "block level(counts, depth) {" in text and "let count = counts[depth]" in text
    assert "below: level(counts, depth - 1)" in text and "level: level([2, 4, 3, 2], 3)" in text


class Gated(nn.Module):
    """A convolution that passes a tensor on, and adds to a sum of all that were passed."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x).tanh()
        return total + y, x + y


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 4, 1)
        self.layers = nn.ModuleList(Gated(dilation) for dilation in (1, 2, 4, 1, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = total = self.first(x)
        for layer in self.layers:
            total, x = layer(x, total)
        return total + x


def test_blocks_of_two_tensors_flow_on_in_a_loop() -> None:
    text = from_module(Stack(), (1, 16)).text
    assert 'for i, dilation in enumerate([2, 4, 1, 3], 1) { "layers.{i}": gated_2(dilation' in text


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores, self.boxes = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(x), self.boxes(x)


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.down, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), Head()

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        x = self.body(x)
        return [self.head(x), self.head(self.down(x))]


def test_a_head_of_two_results_is_called_for_each_level() -> None:
    text = from_module(Detector(), (3, 16, 16)).text
    assert "share head: head" in text
    assert text.count("(head0") == 2
