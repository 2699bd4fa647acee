"""An imported spec does in training mode what its module does, or the import says why not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn

import archdsl
from archdsl.cli import cli
from archdsl.runtime.importing import ImportRefused, from_module

SIZE = (3, 8, 8)


class Two(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.between = nn.Identity() if between is None else between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.middle(self.between(self.a(x))))

    def middle(self, x: Tensor) -> Tensor:
        return x


class Noise(Two):
    def middle(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x) if self.training else x


class Double(Two):
    def middle(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x


class Dropped(Two):
    def middle(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.bernoulli(torch.full((len(x), 1, 1, 1), 0.8)) / 0.8


class Sampled(Two):
    """As a variational autoencoder, whose noise depends on the input."""

    def middle(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) * torch.exp(0.5 * x) if self.training else x


class Detached(Two):
    def middle(self, x: Tensor) -> Tensor:
        return x.detach()


class WithoutGradients(Two):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.a(x)
        return self.b(x)


class Logits(Two):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.training else y.sigmoid()


class Frozen(Two):
    def __init__(self) -> None:
        super().__init__(nn.BatchNorm2d(4))

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.between.eval()
        return self


class FrozenFunction(Frozen):
    def forward(self, x: Tensor) -> Tensor:
        norm = self.between
        assert isinstance(norm, nn.BatchNorm2d)
        return F.batch_norm(self.a(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, 1e-5)


class DropsLayers(Two):
    """Python's random numbers decide."""

    def middle(self, x: Tensor) -> Tensor:
        return x if self.training and random.random() < 0.1 else x * 1.0


class Decides(Two):
    def middle(self, x: Tensor) -> Tensor:
        return x * 2 if self.training and torch.rand(()) < 0.1 else x


class Scored(nn.Module):
    """A dropout of scores, which is given to a function in training alone."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        self.patch, self.three, self.out = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        batch, count, width = x.shape
        q, k, v = self.three(x).reshape(batch, count, 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate if self.training else 0.0)
        return self.out(y.transpose(1, 2).reshape(batch, count, width)).transpose(1, 2)


REFUSED: dict[Callable[[], nn.Module], str] = {
    Noise: "`randn_like`",
    Double: "in training mode it calls `mul`",
    Dropped: "in training mode it calls `mul`",
    Sampled: "`randn_like`",
    Detached: "`detach` cuts off gradients",
    WithoutGradients: "`torch.no_grad` cuts off gradients",
    Logits: "nothing where it calls `sigmoid`",
    Frozen: "`between` stays in evaluation mode",
    FrozenFunction: "`batch_norm` stays in evaluation mode",
    DropsLayers: "random numbers in Python",
    Decides: "random numbers by `rand`",
    Scored: "a dropout of scores",
}


@pytest.mark.parametrize("cls", REFUSED)
def test_what_training_alone_does_is_refused(cls: Callable[[], nn.Module]) -> None:
    with pytest.raises(ImportRefused) as refusal:
        from_module(cls(), SIZE)
    assert REFUSED[cls] in str(refusal.value) and "evaluation=True" in str(refusal.value)


@pytest.mark.parametrize("cls", REFUSED)
def test_evaluation_alone_is_written_if_that_is_wanted(cls: Callable[[], nn.Module]) -> None:
    found = from_module(cls(), SIZE, evaluation=True)
    assert "as it is in evaluation mode; training mode is not looked at" in found.text.splitlines()[0]
    assert found.text.partition("\n")[2] in from_module(cls(), SIZE, evaluation=True, source="here").text


def test_the_command_says_it_and_has_an_option() -> None:
    name = f"{__name__}:Double"
    refused = CliRunner().invoke(cli, ["import", name, "--size", "3x8x8"])
    assert (
        refused.exit_code and "in training mode it calls `mul`" in refused.output and "--evaluation" in refused.output
    )
    written = CliRunner().invoke(cli, ["import", name, "--size", "3x8x8", "--evaluation"])
    assert not written.exit_code and "in evaluation mode" in written.output


# ---------------------------------------------------------------- parts


class Part(nn.Module):
    def __init__(self, kind: str = "noise") -> None:
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "detach":
            return self.conv(x.detach())
        if self.kind == "no_grad":
            with torch.no_grad():
                return self.conv(x)
        x = self.conv(x)
        if not self.training:
            return x
        return x * 2 if self.kind == "double" else x + 0.1 * torch.randn_like(x)


@pytest.mark.parametrize("kind", ["noise", "double", "detach", "no_grad"])
def test_a_module_that_trains_otherwise_is_an_extern(kind: str) -> None:
    module = Two(Part(kind))
    found = from_module(module, SIZE)
    assert [extern.name for extern in found.externs] == ["part"]
    same(module, found.text, random=kind == "noise")


@pytest.mark.parametrize("kind", ["noise", "detach"])
def test_without_externs_it_is_refused(kind: str) -> None:
    with pytest.raises(ImportRefused, match="`between`"):
        from_module(Two(Part(kind)), SIZE, extern=False)


# ---------------------------------------------------------------- what can be said


class DropPath(nn.Module):
    """As many repositories have it: the draw is a sum of a uniform number, rounded down."""

    def __init__(self, drop_prob: float | None = None) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.drop_prob or not self.training:
            return x
        keep = 1 - self.drop_prob
        drawn = keep + torch.rand((len(x), *[1] * (x.ndim - 1)), dtype=x.dtype, device=x.device)
        return x.div(keep) * drawn.floor_()


class StochasticDepth(nn.Module):
    """One of another name, with the probability of keeping, for maps alone."""

    def __init__(self, survival: float) -> None:
        super().__init__()
        self.survival = survival

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.bernoulli(torch.full((len(x), 1, 1, 1), self.survival)) / self.survival


class NotScaled(DropPath):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 - self.drop_prob) if self.training and self.drop_prob else x


class Residual(Two):
    def middle(self, x: Tensor) -> Tensor:
        return x + self.drop(self.b(x)) if hasattr(self, "drop") else x


def residual(drop: nn.Module) -> nn.Module:
    module = Residual()
    module.drop = drop
    return module


@pytest.mark.parametrize("drop", [DropPath(0.2), StochasticDepth(0.8)])
def test_modules_that_drop_samples_are_recognised_by_what_they_do(drop: nn.Module) -> None:
    found = from_module(residual(drop), SIZE)
    assert "drop: droppath(0.2)" in found.text and not found.externs


def test_others_are_not() -> None:
    assert from_module(residual(NotScaled(0.2)), SIZE).externs


class DropsInTraining(Two):
    def middle(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3) if self.training else x


class Switched(Two):
    def middle(self, x: Tensor) -> Tensor:
        return F.dropout2d(x, 0.3, self.training)


@pytest.mark.parametrize(
    ("cls", "said"), [(DropsInTraining, "dropout(p = 0.3)"), (Switched, "dropout_channels(p = 0.3)")]
)
def test_dropouts_are_said(cls: Callable[[], nn.Module], said: str) -> None:
    assert said in from_module(cls(), SIZE).text


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (nn.BatchNorm2d(4, momentum=None, eps=1e-3), "batchnorm(eps = 0.001, momentum = none)"),
        (nn.BatchNorm2d(4, momentum=0.2), "batchnorm(momentum = 0.2)"),
        (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), "track = true"),
    ],
)
def test_running_statistics_are_those_of_the_module(norm: nn.Module, said: str) -> None:
    module = Two(norm)
    found = from_module(module, SIZE)
    assert said in found.text
    same(module, found.text)


@pytest.mark.parametrize("layer", [nn.RReLU(), nn.AlphaDropout(0.3), nn.BatchNorm2d(4, track_running_stats=False)])
def test_layers_that_the_language_has_not_train_as_externs(layer: nn.Module) -> None:
    assert from_module(Two(layer), SIZE).externs


def test_attention_without_a_dropout_of_scores_is_said() -> None:
    assert "attend" in from_module(Scored(0.0), (3, 16, 16)).text


# ---------------------------------------------------------------- modules that cannot train


class Fails(Two):
    def middle(self, x: Tensor) -> Tensor:
        if self.training:
            raise ValueError("targets should not be none")
        return x


class OneSample(nn.Module):
    """A batch normalisation of one position, which a single sample cannot train."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x).mean((2, 3), keepdim=True))


def test_a_module_that_cannot_train_has_a_note() -> None:
    (note,) = from_module(Fails(), SIZE).notes
    assert "it cannot run in training mode" in note and "targets should not be none" in note


class Root(Two):
    """Its numbers are finite for inputs above 0 alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x.sqrt()) * (2 if self.training and self.twice else 1))

    twice = False


def test_inputs_above_0_are_compared() -> None:
    assert from_module(Root(), SIZE).notes == []
    module = Root()
    module.twice = True
    with pytest.raises(ImportRefused, match="in training mode"):
        from_module(module, SIZE)


def test_statistics_of_one_position_are_compared() -> None:
    assert from_module(OneSample(), SIZE).notes == []


def test_what_is_shown_is_the_network_of_evaluation_mode(tmp_path: Path) -> None:
    """A table or picture says nothing of training mode; a module is built for it."""
    name = f"{__name__}:Double"
    for command in (
        ["show", name],
        ["draw", name, "-o", str(tmp_path / "net.svg")],
        ["build", name, "--for", "inference"],
    ):
        shown = CliRunner().invoke(cli, [*command, "--size", "3x8x8"])
        assert (
            not shown.exit_code and "this is the network of evaluation mode: in training mode it calls" in shown.output
        )
    refused = CliRunner().invoke(cli, ["build", name, "--size", "3x8x8"])
    assert refused.exit_code and "archdsl import --evaluation" in refused.output


def test_the_module_stays_as_it_was() -> None:
    module = Two(nn.BatchNorm2d(4))
    module.between.eval()
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    from_module(module, SIZE)
    assert module.training and not module.between.training
    assert all(torch.equal(tensor, state[key]) for key, tensor in module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def same(module: nn.Module, text: str, *, random: bool = False) -> None:
    """Compares a step of training of a module and of the network of its spec."""
    spec = archdsl.Source("spec.arch", text)
    built = archdsl.load(spec, allow_extern=[__name__.partition(".")[0]])
    built.load_state_dict(module.state_dict())
    x = torch.randn(4, *SIZE)
    steps = []
    for one in (module.train(), built.train()):
        torch.manual_seed(0)
        y = one(x)
        y.square().sum().backward()
        none = torch.zeros(())
        grads = {key: none if p.grad is None else p.grad for key, p in one.named_parameters()}
        steps.append({"y": y.detach(), **grads, **dict(one.named_buffers())})
    assert steps[0].keys() == steps[1].keys()
    for key, tensor in steps[0].items():
        torch.testing.assert_close(steps[1][key], tensor, rtol=1e-4, atol=1e-5)
