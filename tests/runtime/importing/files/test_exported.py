"""Exported programs (.pt2) become the specs of their modules; they are read as data, and nothing is unpickled."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archdsl.runtime.importing import ImportRefused, from_module
from archdsl.runtime.opening import from_file
from tests.runtime.importing.networks import NETWORKS

FIXED = ("lenet", "mixer", "vit")
"""Networks whose positions cannot vary."""


def export(module: nn.Module, size: tuple[int, ...], path: Path, *, free: bool = True) -> nn.Module:
    axes = [0, *range(2, 1 + len(size))] if free else [0]
    shapes = ({axis: torch.export.Dim.AUTO for axis in axes},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), (torch.randn(2, *size),), strict=False, dynamic_shapes=shapes)
        torch.export.save(program, path)
    return module


def of_network(name: str, path: Path) -> nn.Module:
    made, size = NETWORKS[name]
    torch.manual_seed(0)
    return export(made(), size, path, free=name not in FIXED)


def body(text: str) -> list[str]:
    """The lines without the head, and without the lines of the models' names."""
    return [line for line in text.splitlines()[1:] if not line.startswith("model ")]


TRAINED = {"inception": "side."}
"""The modules that a network uses only while it trains, which a program for inference has not."""


def same_as_the_module(name: str, path: Path) -> None:
    module = of_network(name, path)
    found = from_file(path)
    assert found.notes[-1].startswith("equal to the program's operators")
    only = TRAINED.get(name)
    assert {*found.state} == {key for key in module.state_dict() if only is None or not key.startswith(only)}
    size = NETWORKS[name][1]
    assert len(found.text.splitlines()) <= 1.3 * len(from_module(module, size, name="net").text.splitlines())


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_every_program_is_its_module(name: str, tmp_path: Path) -> None:
    same_as_the_module(name, tmp_path / "net.pt2")


def test_a_program_reads_as_its_module(tmp_path: Path) -> None:
    module = of_network("chain", tmp_path / "net.pt2")
    direct = from_module(module, NETWORKS["chain"][1], name="net")
    assert body(from_file(tmp_path / "net.pt2").text) == body(direct.text)


class InPlace(nn.Module):
    """A result that is changed in place, and used again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z = y.relu_()
        return torch.cat([y, z.sigmoid()], 1)


def test_what_is_changed_in_place_stays_changed(tmp_path: Path) -> None:
    module = export(InPlace(), (3, 16, 16), tmp_path / "net.pt2")
    found = from_file(tmp_path / "net.pt2")
    assert "conv(4, 3, pad = valid) -> relu" in found.text
    assert module is not None


# ---------------------------------------------------------------- what is wrong

Change = Callable[[dict[str, bytes]], None]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The parts of a small program, by their names without the root."""
    path = tmp_path_factory.mktemp("programs") / "net.pt2"
    export(InPlace(), (3, 16, 16), path)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def pack(path: Path, parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(f"net/{name}", data)
    return path


def changed(part: str, change: Callable[[Any], None]) -> Change:
    """Changes a part that is JSON."""

    def apply(parts: dict[str, bytes]) -> None:
        content = json.loads(parts[part])
        change(content)
        parts[part] = json.dumps(content).encode()

    return apply


MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def target(name: str) -> Change:
    return changed(MODEL, lambda m: m["graph_module"]["graph"]["nodes"][0].update(target=name))


def weight(**values: object) -> Change:
    return changed(WEIGHTS, lambda w: w["config"]["conv.weight"].update(values))


def shape(**values: object) -> Change:
    return changed(WEIGHTS, lambda w: w["config"]["conv.weight"]["tensor_meta"].update(values))


WRONG: dict[str, tuple[Change, str]] = {
    "an operator that loads": (target("torch.ops.aten.load.default"), "no operation for the node"),
    "Python": (target("os.system"), "no operation for the node"),
    "an operator of others": (target("torch.ops.mine.conv.default"), "no operation for the node"),
    "a pickled weight": (weight(use_pickle=True), "is not one of float32 or int64 numbers"),
    "half precision": (shape(dtype=6), "is not one of float32 or int64 numbers"),
    "a large weight": (shape(sizes=[{"as_int": 10**9}] * 4), "too few numbers"),
    "a negative stride": (shape(strides=[{"as_int": -1}] * 4), "negative"),
    "a weight elsewhere": (weight(path_name="../../../etc/hostname"), "is not as its format demands"),
    "no weights": (lambda parts: parts.update({WEIGHTS: b'{"config": {}}'}), "is not one of float32 or int64"),
    "no graph": (lambda parts: parts.update({MODEL: b"{}"}), "is not as its format demands"),
    "no JSON": (lambda parts: parts.update({MODEL: b"\x80\x04."}), "is not as its format demands"),
    "deep JSON": (lambda parts: parts.update({MODEL: b"[" * 100_000}), "is not as its format demands"),
    "no program": (lambda parts: parts.pop(MODEL) and None, "it has 0 programs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused(name: str, parts: dict[str, bytes], tmp_path: Path) -> None:
    change, reason = WRONG[name]
    mine = dict(parts)
    change(mine)
    with pytest.raises(ImportRefused) as error:
        from_file(pack(tmp_path / "net.pt2", mine))
    assert reason in str(error.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_nothing_is_unpickled(parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evil = io.BytesIO()
    pickle.dump(Evil(), evil)
    mine = {name: evil.getvalue() if name.startswith("data/sample_inputs") else data for name, data in parts.items()}
    mine["data/constants/custom_obj_0"] = evil.getvalue()
    assert from_file(pack(tmp_path / "net.pt2", mine)).text.startswith("# Imported from net.pt2")
    assert not (tmp_path / "ran").exists()


def test_a_bomb_is_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    mine = {**parts, MODEL: b" " * 10_000_000}
    with pytest.raises(ImportRefused, match="is too large"):
        from_file(pack(tmp_path / "net.pt2", mine, zipfile.ZIP_DEFLATED))


def test_every_cut_is_an_error(parts: dict[str, bytes], tmp_path: Path) -> None:
    data = pack(tmp_path / "net.pt2", parts).read_bytes()
    for end in range(0, len(data) - 1, len(data) // 20):
        (tmp_path / "cut.pt2").write_bytes(data[:end])
        with pytest.raises(ImportRefused):
            from_file(tmp_path / "cut.pt2")
