"""Weights from files: matching ones are loaded, the others are reported, and no code in a file is executed."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import archdsl
from archdsl import cli
from archdsl.graph import Graph
from archdsl.runtime.weights import (
    WeightsError,
    fit,
    match,
    proposed,
    read_state,
    renamed,
    same_numbers,
    state_shapes,
    write_state,
)
from tests.helpers import graph_of, source_of

SMALL = "lenet:lenet"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return archdsl.load(SMALL).state_dict()


@pytest.mark.parametrize("spec", ["lenet:lenet", "densenet:densenet121", "mobilenet:mobilenet_v2", "unet:unet_3d"])
def test_the_graph_knows_the_state_dict(spec: str) -> None:
    model = archdsl.load(spec, device="meta")
    assert state_shapes(archdsl.check(spec)) == {k: tuple(v.shape) for k, v in model.state_dict().items()}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_what_is_written_is_read(name: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(write_state(path, state))
    found = read_state(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], state[k]) for k in state)


def test_a_checkpoint_holds_its_state_dict_under_a_key(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "c.pth")
    assert read_state(tmp_path / "c.pth").keys() == state.keys()


def test_an_edited_network_starts_from_old_weights(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    kept, found = fit(archdsl.check(SMALL, classes=3), tmp_path / "w.pth")
    assert [s[0] for s in found.shapes] == ["fc3.weight", "fc3.bias"]
    assert len(found.matched) == len(state) - 2 and not found.missing and not found.unexpected
    assert kept.keys() == state.keys() - {"fc3.weight", "fc3.bias"}
    with pytest.warns(UserWarning, match="matched 8 of 10"):
        model = archdsl.load(SMALL, weights=tmp_path / "w.pth", strict=False, classes=3)
    assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"])
    assert "10×84 in the file, 3×84 here" in found.as_text()


def test_renaming() -> None:
    keys = ["module.conv1.weight", "module.fc.bias", "other"]
    assert renamed(keys, [("module.fc.*", "head.*"), ("module.*", "*")]) == {
        "module.conv1.weight": "conv1.weight",
        "module.fc.bias": "head.bias",
        "other": "other",
    }
    with pytest.raises(WeightsError, match="would be named"):
        renamed(["a", "b"], [("b", "a")])
    with pytest.raises(WeightsError, match="more"):
        renamed(["a"], [("a", "*")])


def test_a_report_is_short_and_tells_the_renaming_that_helps() -> None:
    state = archdsl.load("resnet:resnet18", device="meta").state_dict()
    wrapped = {f"module.{key}": tensor for key, tensor in state.items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    for given, wanted, rule in (
        (wrapped, shapes, ("module.*", "*")),
        (state, {f"net.body.{key}": shape for key, shape in shapes.items()}, ("*", "net.body.*")),
        ({k.replace("layer4", "last"): v for k, v in state.items()}, shapes, ("last.*", "layer4.*")),
    ):
        rules = proposed(wanted, {key: tuple(tensor.shape) for key, tensor in given.items()})
        assert rules == (rule,)
        assert f"--rename '{rule[0]}={rule[1]}'" in replace(match(wanted, given), rules=rules).as_text()
        names = renamed(list(given), [rule])
        assert match(wanted, {names[key]: tensor for key, tensor in given.items()}).complete
    deeper = match(state_shapes(archdsl.check("resnet:resnet34")), state)
    assert not proposed(state_shapes(archdsl.check("resnet:resnet34")), shapes)
    assert "missing           12  layer3.5.*" in deeper.as_text()
    assert len(deeper.as_text().splitlines()) == 9


def test_every_proposed_renaming_was_tried() -> None:
    """Several renamings together, after those that are given; none that would give two tensors one name."""
    shapes = state_shapes(archdsl.check("resnet:resnet18"))
    other = {"layer1": "one", "layer2": "two", "layer3": "three"}

    def named(key: str) -> str:
        first, dot, rest = key.partition(".")
        return "module." + other.get(first, first) + dot + rest

    there = {named(key): shape for key, shape in shapes.items()}
    rules = proposed(shapes, there, [("module.*", "*")])
    assert rules[-1] == ("module.*", "*") and len(rules) == 4
    assert set(renamed(list(there), rules).values()) == shapes.keys()
    shifted = {key.replace("layer1.0", "layer1.1"): shape for key, shape in shapes.items() if "layer1.1" not in key}
    both = {**shifted, **{f"old.{key}": shape for key, shape in shifted.items()}}
    assert not proposed(shapes, both) or len(set(renamed(list(both), proposed(shapes, both)).values())) == len(both)


def test_match_tells_every_key() -> None:
    found = match({"a": (2,), "b": (3,)}, {"b": torch.zeros(3), "c": torch.zeros(1)})
    assert (found.matched, found.missing, found.unexpected) == (("b",), ("a",), ("c",))


class Bomb:
    def __reduce__(self) -> object:
        return (Path.touch, (Path("exploded"),))


def test_nothing_of_a_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bomb.pth").write_bytes(pickle.dumps({"weight": Bomb()}))
    with pytest.raises(WeightsError, match="without executing code; save only them"):
        read_state(Path("bomb.pth"))
    assert not Path("exploded").exists()


@pytest.mark.parametrize("text", [b"", b"nothing of the kind", b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_what_is_no_checkpoint(text: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(WeightsError):
        read_state(tmp_path / name)


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="no tensor of"):
        fit(archdsl.check(SMALL), tmp_path / "w.pth")


# ---------------------------------------------------------------- other shapes, types and containers

PAIR = "model net {\n    input x[6, 1, 1]\n    conv(4, 1) -> flatten\n    fc: linear(3)\n}\n"
FLAT = "model net {\n    input x[6, 1, 1]\n    flatten -> linear(4)\n    fc: linear(3)\n}\n"


def graph(text: str) -> Graph:
    return graph_of(text)


def pair() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return archdsl.load(source_of(PAIR)).state_dict()


def saved(path: Path, found: object) -> Path:
    torch.save(found, path)
    return path


def test_a_linear_and_a_convolution_hold_the_same_numbers(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", {k.replace("0.", "1."): v for k, v in pair().items()})
    _, found = fit(graph(FLAT), file)
    assert found.alike == ["1.weight"] and not found.complete
    assert "1.weight has the same numbers in the same order: `archdsl weights --reshape`" in found.as_text()
    state, found = fit(graph(FLAT), file, reshape=True)
    assert found.complete and found.reshaped == (("1.weight", (4, 6, 1, 1), (4, 6)),)
    assert "4×6×1×1 in the file, 4×6 here" in found.as_text() and "help" not in found.as_text()
    with pytest.warns(UserWarning, match="another shape"):
        archdsl.load(source_of(FLAT), weights=file, strict=False)
    module = archdsl.load(source_of(FLAT), weights=file, reshape_weights=True)
    original = archdsl.load(source_of(PAIR))
    original.load_state_dict(pair())
    x = torch.randn(2, 6, 1, 1)
    assert torch.allclose(module(x), original(x), atol=1e-6) and state["1.weight"].shape == (4, 6)


def test_a_kernel_holds_the_numbers_of_a_linear_behind_a_flatten(tmp_path: Path) -> None:
    dense = "model net {\n    input x[2, 3, 4]\n    flatten -> fc: linear(5)\n}\n"
    deep = "model net {\n    input x[2, 3, 4]\n    fc: conv(5, 3x4, pad = valid)\n    flatten\n}\n"
    original = archdsl.load(source_of(dense))
    file = saved(tmp_path / "w.pth", original.state_dict())
    module = archdsl.load(source_of(deep), weights=file, reshape_weights=True)
    x = torch.randn(2, 2, 3, 4)
    assert torch.allclose(module(x), original(x), atol=1e-6)


@pytest.mark.parametrize(
    ("theirs", "ours", "alike"),
    [
        ((96, 384), (96, 384, 1, 1), True),
        ((96, 384, 1), (96, 384, 1, 1), True),
        ((1, 64, 1, 1), (64,), True),
        ((), (1,), True),
        ((5, 24), (5, 2, 3, 4), True),
        ((384, 96), (96, 384, 1, 1), False),
        ((10, 12), (5, 2, 3, 4), False),
        ((64, 3, 3, 3), (64, 3, 9), False),
        ((4, 9), (9, 4), False),
        ((0, 3), (3,), False),
    ],
)
def test_which_shapes_hold_the_same_numbers(theirs: tuple[int, ...], ours: tuple[int, ...], alike: bool) -> None:
    assert same_numbers(theirs, ours) == same_numbers(ours, theirs) == alike


TYPES = [
    *("float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
    *("int8", "uint8", "int16", "int32", "int64", "bool"),
]


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_of_other_types_are_loaded_and_told(dtype: str, name: str, tmp_path: Path) -> None:
    given = {key: (4 * value).to(getattr(torch, dtype)) for key, value in pair().items()}
    path = tmp_path / name
    path.write_bytes(write_state(path, given))
    _, found = fit(graph(PAIR), path)
    assert found.complete
    told = f"4 tensors, such as 0.weight, are of {dtype}"
    if dtype.startswith("float") or dtype == "bfloat16":
        assert found.notes == (f"{told}, and are converted to the module's dtype when loaded",) and not found.doubts
        assert f"note: {told}" in found.as_text()
        module = archdsl.load(source_of(PAIR), weights=path)
    else:
        assert found.doubts[0].startswith(f"{told}, not floats") and not found.notes
        with pytest.warns(UserWarning, match="not floats"):
            module = archdsl.load(source_of(PAIR), weights=path)
    for key, value in module.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, given[key].float())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_numbers_that_are_not_finite_are_told(number: float, tmp_path: Path) -> None:
    given = {key: value.double() for key, value in pair().items()}
    given["fc.bias"][1] = number
    file = saved(tmp_path / "w.pth", given)
    _, found = fit(graph(PAIR), file)
    assert found.doubts == ("fc.bias is not finite in float32: NaN, infinite, or beyond its range",)
    with pytest.warns(UserWarning, match=r"fc\.bias is not finite"):
        archdsl.load(source_of(PAIR), weights=file)


@pytest.mark.parametrize(
    ("turned", "said"),
    [
        (lambda w: w.to(torch.complex64), "fc.weight is complex"),
        (lambda w: w.to_sparse(), "fc.weight is sparse (sparse_coo)"),
        (lambda w: w.to_sparse_csr(), "fc.weight is sparse (sparse_csr)"),
        (lambda w: w.to("meta"), "fc.weight has no data"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "fc.weight is quantised"),
    ],
)
def test_what_is_no_plain_tensor_is_refused_in_words(
    turned: Callable[[torch.Tensor], torch.Tensor], said: str, tmp_path: Path
) -> None:
    file = saved(tmp_path / "w.pth", {**pair(), "fc.weight": turned(pair()["fc.weight"])})
    with pytest.raises(WeightsError, match=re.escape(said)):
        fit(graph(PAIR), file)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: OrderedDict(s),
        lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(())}}}},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"params_ema": s, "step": 7},
        lambda s: {
            "0": {"weight": s["0.weight"], "bias": s["0.bias"]},
            "fc": {k: s[f"fc.{k}"] for k in ("weight", "bias")},
        },
        lambda s: {k: torch.nn.Parameter(v) for k, v in s.items()},
        lambda s: {k: v.repeat_interleave(2, -1)[..., ::2] for k, v in s.items()},
        lambda s: {k: torch.stack([v, v])[0] for k, v in s.items()},
        lambda s: dict(reversed(s.items())),
    ],
)
def test_state_dicts_in_every_wrapping(wrap: Callable[[dict[str, torch.Tensor]], object], tmp_path: Path) -> None:
    """Bare, in checkpoints, nested by modules, as views: the same numbers are read."""
    state, found = fit(graph(PAIR), saved(tmp_path / "w.pth", wrap(pair())))
    assert found.complete and not (found.notes or found.doubts)
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(write_state(tmp_path / name, state))
        again = read_state(tmp_path / name)
        assert all(torch.equal(again[key], value) for key, value in pair().items())


@pytest.mark.parametrize(
    ("prefix", "rule"), [("module.", "module.*=*"), ("model.", "model.*=*"), ("_orig_mod.", "_orig_mod.*=*")]
)
def test_a_prefix_of_a_wrapper_is_told(prefix: str, rule: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", {f"{prefix}{key}": value for key, value in pair().items()})
    with pytest.raises(WeightsError, match=re.escape(f"`--rename '{rule}'`")):
        fit(graph(PAIR), file)
    old, _, new = rule.partition("=")
    assert fit(graph(PAIR), file, [(old, new)])[1].complete


def test_tensors_that_share_their_numbers_are_written_apart(tmp_path: Path) -> None:
    tensor = torch.randn(4, 4)
    path = tmp_path / "w.safetensors"
    path.write_bytes(write_state(path, {"a": tensor, "b": tensor, "c": tensor.T, "d": tensor[:2]}))
    found = read_state(path)
    assert torch.equal(found["b"], tensor) and torch.equal(found["c"], tensor.T) and torch.equal(found["d"], tensor[:2])
    whole = torch.zeros(100_000)
    assert len(write_state(tmp_path / "w.pth", {"a": whole[:4]})) < 10_000


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([torch.zeros(3)], "(a dict of tensors by name), but an object of type list"),
        (torch.zeros(3), "of type Tensor"),
        (7, "of type int"),
        (None, "of type NoneType"),
        ({}, "no tensors by name"),
        ({"epoch": 3, "args": {"lr": 0.1}}, "it holds `epoch` (int), `args` (dict)"),
        ({"weights": [torch.zeros(3)]}, "it holds `weights` (list)"),
    ],
)
def test_files_of_something_else_are_told_by_what_they_hold(found: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape(said)):
        read_state(saved(tmp_path / "w.pth", found))


def test_a_dict_that_holds_itself(tmp_path: Path) -> None:
    loop: dict[str, object] = {"a": {"x": torch.zeros(1)}, "b": {"y": torch.zeros(1)}}
    loop["self"] = loop
    assert read_state(saved(tmp_path / "w.pth", loop)).keys() == {"a.x", "b.y"}


def test_a_tensor_of_no_numbers_is_of_another_shape(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", {**pair(), "fc.weight": torch.zeros(0, 4)})
    _, found = fit(graph(PAIR), file, reshape=True)
    assert found.shapes == (("fc.weight", (0, 4), (3, 4)),)


def test_reshape_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flat.arch").write_text(FLAT)
    file = saved(tmp_path / "w.pth", {k.replace("0.", "1."): v for k, v in pair().items()})
    output = tmp_path / "out.safetensors"
    assert cli.run(["weights", str(tmp_path / "flat.arch"), str(file), "--reshape", "-o", str(output)]) == 0
    assert "1.weight  4×6×1×1 in the file, 4×6 here" in capsys.readouterr().out
    assert read_state(output)["1.weight"].shape == (4, 6)
