"""Weights from files: what fits is loaded, the rest is told, and nothing of a file is run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

import archdsl
from archdsl.weights import WeightsError, fit, match, read_state, renamed, state_shapes, write_state

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
        model = archdsl.load(SMALL, weights=tmp_path / "w.pth", classes=3)
    assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"])
    assert "10×84 in the file, 3×84 here" in found.as_text()


def test_renaming() -> None:
    keys = ["module.conv1.weight", "module.fc.bias", "other"]
    assert renamed(keys, [("module.fc.*", "head.*"), ("module.*", "*")]) == {
        "module.conv1.weight": "conv1.weight",
        "module.fc.bias": "head.bias",
        "other": "other",
    }
    with pytest.raises(WeightsError, match="come to the name"):
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
        found = match(wanted, given)
        assert found.rule == rule and f"--rename '{rule[0]}={rule[1]}'" in found.as_text()
        names = renamed(list(given), [rule])
        assert match(wanted, {names[key]: tensor for key, tensor in given.items()}).complete
    deeper = match(state_shapes(archdsl.check("resnet:resnet34")), state)
    assert deeper.rule is None and "missing           12  layer3.5.*" in deeper.as_text()
    assert len(deeper.as_text().splitlines()) == 9


def test_match_tells_every_key() -> None:
    found = match({"a": (2,), "b": (3,)}, {"b": torch.zeros(3), "c": torch.zeros(1)})
    assert (found.matched, found.missing, found.unexpected) == (("b",), ("a",), ("c",))


class Bomb:
    def __reduce__(self) -> object:
        return (Path.touch, (Path("exploded"),))


def test_nothing_of_a_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bomb.pth").write_bytes(pickle.dumps({"weight": Bomb()}))
    with pytest.raises(WeightsError, match="without running it; save them alone"):
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
    with pytest.raises(WeightsError, match="nothing of"):
        fit(archdsl.check(SMALL), tmp_path / "w.pth")
