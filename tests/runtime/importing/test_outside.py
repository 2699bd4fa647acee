"""What cannot be said becomes an extern; parts of modules are imported alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archdsl
from archdsl import cli
from archdsl.runtime.importing import ImportRefused, from_callable, from_module
from tests.runtime.importing.networks import ResNet

HERE = "tests.runtime.importing.test_outside"


class Odd(nn.Module):
    """Computes what no operation says."""

    def __init__(self, width: int, power: float = 2.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.power = power
        self.register_buffer("shift", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).tan().pow(self.power) + self.shift


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.first = Odd(8)
        self.down = nn.Conv2d(8, 16, 3, stride=2)
        self.second, self.third = Odd(16), Odd(16, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(F.relu(self.stem(x)))
        return self.third(self.second(self.down(x)))


def test_what_cannot_be_said_is_an_extern() -> None:
    found = from_callable(f"{HERE}:Net", {}, (3, 32, 32))
    assert f'extern odd(width, power = 2.0) = "{HERE}:Odd"' in found.text
    assert "third: odd(16, power = 3.0)" in found.text
    assert "input image[3, H = 32, W = 32]" in found.text
    (note,) = found.notes
    assert "3 modules of the class Odd" in note and "`first`: the language has no operation" in note
    assert f"{Path(__file__).name}:" in note
    assert [len(extern.stands_for) for extern in found.externs] == [3]


def test_arguments_are_also_found_among_the_attributes() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.crop = nn.Threshold(-2.0, 3.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.crop(x)

    text = from_module(Kept(), (3, 16, 16)).text
    assert '"torch.nn.modules.activation:Threshold"' in text and "threshold = -2.0, value = 3.0" in text


def test_an_extern_is_an_error_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", f"{HERE}:Net", "--size", "3x32x32", "--no-extern"]) == 2
    assert (
        "`first`: the language has no operation for the function `tan`: the functions of tensors are"
        in capsys.readouterr().err
    )


class Given(Odd):
    """Made with a module, which no spec can pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(8)
        self.inner = inner


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.given = Given(nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.given(self.stem(x))


def test_what_no_extern_can_declare_is_refused() -> None:
    with pytest.raises(ImportRefused, match="nor can an `extern` be `given`"):
        from_callable(f"{HERE}:Around", {}, (3, 32, 32))


def test_a_part_is_imported_alone(capsys: pytest.CaptureFixture[str]) -> None:
    network = "tests.runtime.importing.networks:ResNet"
    assert cli.run(["import", network, "--only", "layer2", "--size", "8x32x32"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"# Imported from {network}, its part layer2.\n") and "model layer2 {" in text
    assert cli.run(["import", network, "--only", "layer2.7"]) == 2
    assert "has no module `layer2.7`; `layer2` has 0, 1" in capsys.readouterr().err


class Head(nn.Module):
    """As heads of detectors: one convolution for all levels, which come as a list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [self.conv(level) for level in x]


def test_a_head_of_several_levels() -> None:
    found = from_module(Head(), [(8, 32, 32), (8, 16, 16)])
    assert 'share shared_conv: "conv": conv(4, 3)' in found.text and len(found.graph.outputs) == 2


def test_a_failing_layer_of_torch_is_the_extern_itself() -> None:
    found = from_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softshrink()), (3, 32, 32))
    assert 'extern softshrink = "torch.nn.modules.activation:Softshrink"' in found.text


def test_the_import_is_a_spec_like_any_other() -> None:
    found = archdsl.from_module(ResNet(), (3, 64, 64))
    assert not found.externs and not found.notes
