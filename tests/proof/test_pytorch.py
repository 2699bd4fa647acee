"""The facts of PyTorch on which the proof relies, checked against PyTorch."""

import inspect

import pytest
import torch
from torch import nn

from archdsl.proof import layers, modules
from archdsl.proof.pytorch import ATTRIBUTES, REQUIRED, SIGNATURES, weights

PLAIN = {"Sigmoid", "Tanh", "Identity"}
"""Modules whose signatures accept anything, and ignore it."""

MADE = {
    "in_channels": 4,
    "out_channels": 6,
    "kernel_size": 2,
    "num_features": 3,
    "in_features": 5,
    "out_features": 7,
    "num_groups": 2,
    "num_channels": 4,
    "normalized_shape": 3,
    "size": 3,
    "output_size": 2,
    "padding": 1,
    "upscale_factor": 2,
    "downscale_factor": 2,
    "groups": 2,
    "embed_dim": 4,
    "num_heads": 2,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_of_pytorch(name: str) -> None:
    if name in PLAIN:
        assert not SIGNATURES[name]
        return
    parameters = inspect.signature(getattr(nn, name)).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in ("device", "dtype")]
    theirs = {p.name: REQUIRED if p.default is p.empty else p.default for p in positional}
    theirs.pop("divisor_override", None)  # of average poolings: no operation asks for it, and the proof refuses it
    assert list(theirs) == list(SIGNATURES[name])
    assert theirs == SIGNATURES[name]


MORE: list[dict[str, object]] = [
    {},
    {"bias": False},
    {"affine": False},
    {"affine": True, "track_running_stats": True},
    {"kdim": 3},
    {"kdim": 5, "vdim": 6, "bias": False},
]


@pytest.mark.parametrize(
    ("name", "more"), [(n, m) for n, s in SIGNATURES.items() for m in MORE if m.keys() <= s.keys()]
)
def test_layers_own_what_those_of_pytorch_own(name: str, more: dict[str, object]) -> None:
    signature = SIGNATURES[name]
    given = {k: MADE[k] for k, v in signature.items() if v is REQUIRED} | more
    module = getattr(nn, name)(**given)
    parameters, buffers = weights(name, {**signature, **given})
    assert {k: tuple(p.shape) for k, p in module.named_parameters()} == parameters
    assert {k: tuple(b.shape) for k, b in module.named_buffers()} == buffers
    layer = layers.LAYERS[name](**given)
    assert [k for k, _ in layer.named_parameters()] == list(parameters)
    if "Norm" in name:  # these start from fixed numbers, which a spec may say once more
        for key, parameter in module.named_parameters():
            assert torch.equal(parameter, torch.full_like(parameter, key == "weight"))


def test_names_that_every_module_has_are_known() -> None:
    owned = {*dir(nn.Module), *dir(nn.Sequential), *vars(nn.Module()), *vars(nn.Sequential())}
    assert {name for name in owned if not name.startswith("__")} <= ATTRIBUTES


MEMBERS = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        shared = nn.ReLU()
        self.b = nn.Sequential(nn.Linear(2, 3), shared, nn.Identity(), shared)
        self.a = nn.Linear(3, 3, bias=False)
        self.b.add_module("late", nn.Sequential())
        self.again = self.b[1]
        self.weight = nn.Parameter(torch.ones(3))
        self.add_module("0", self.a) if False else None
        self.number = 3
"""


def test_members_are_registered_and_counted_as_in_pytorch() -> None:
    ours: dict[str, object] = {"__name__": "ours"}
    theirs: dict[str, object] = {"__name__": "theirs", "torch": torch}
    exec(MEMBERS, theirs)
    from archdsl.proof.library import Library, Run
    from archdsl.proof.terms import Table

    library = Library(Run(Table()))
    ours = {**library.globals(), "torch": library.torch}
    exec(MEMBERS, ours)
    a, b = ours["Net"](), theirs["Net"]()  # type: ignore[operator]
    assert [n for n, _ in a.named_parameters()] == [n for n, _ in b.named_parameters()]
    assert [n for n, _ in a.named_children()] == [n for n, _ in b.named_children()]
    assert [type(m).__name__ for m in a.children()] == [type(m).__name__ for m in b.children()]
    assert [type(m).__name__ for m in a.b] == [type(m).__name__ for m in b.b]
    assert [type(m).__name__ for m in a.b.children()] == [type(m).__name__ for m in b.b.children()]
    assert [type(m).__name__ for m in a.modules()] == [type(m).__name__ for m in b.modules()]
    assert type(a.get_submodule("b.0")).__name__ == type(b.get_submodule("b.0")).__name__


@pytest.mark.parametrize("name", ["train", "forward", "a.b", "", "type", "_modules", "children"])
def test_names_that_pytorch_refuses_are_refused(name: str) -> None:
    with pytest.raises(KeyError):
        nn.Module().add_module(name, nn.ReLU())
    with pytest.raises(modules.Unproved):
        modules.Module().add_module(name, layers.LAYERS["ReLU"]())


def test_a_member_of_a_method_s_name_is_out_of_reach() -> None:
    ours, theirs = modules.Module(), nn.Module()
    ours.train, theirs.train = layers.LAYERS["ReLU"](), nn.ReLU()  # type: ignore[method-assign]
    assert callable(theirs.train) and not isinstance(theirs.train, nn.Module)
    assert not isinstance(ours.train, modules.Module)
