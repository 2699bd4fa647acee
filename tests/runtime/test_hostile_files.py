"""Untrusted weights and images: no code in them runs, and they neither hang nor fill the memory."""

import json
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch

import archdsl
from archdsl import cli
from archdsl.runtime.weights import WeightsError, read_state, renamed


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def claims(shape: list[int], end: int) -> bytes:
    return safetensors(json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode())


BYTES = {
    "pickle.pth": pickle.dumps({"a": Evil()}),
    "empty.pth": b"",
    "empty.safetensors": b"",
    "text.pth": b"conv1.weight = 1\n",
    "nested.pth": b"\x80\x02" + b"]" * 100_000 + b".",
    "endless.pth": b"\x80\x02K\x01" + b"2" * 1_000_000 + b".",
    "header.safetensors": safetensors(b"{", 10**18),
    "cut.safetensors": safetensors(b"{", 90_000_000),
    "deep.safetensors": safetensors(b'{"a":' + b"[" * 1_000_000),
    "long.safetensors": claims([10**12], 4 * 10**12),
    "overflow.safetensors": claims([2**62, 2**62], 0),
}
STATES = {
    "code in an archive": {"a": Evil(), "b": torch.zeros(3)},
    "sparse": {"conv1.weight": torch.zeros(6, 1).to_sparse()},
    "complex": {"conv1.weight": torch.zeros(6, 1, 5, 5, dtype=torch.complex64)},
    "without contents": {"conv1.weight": torch.zeros(6, 1, 5, 5, device="meta")},
    "no tensors": {"state_dict": {"model": {"network": {}}}},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_weights(name: str) -> None:
    Path(name).write_bytes(BYTES[name])
    with pytest.raises(WeightsError):
        read_state(Path(name))
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", STATES)
def test_checkpoints_that_no_network_takes(name: str) -> None:
    torch.save(STATES[name], "file.pth")
    with pytest.raises(WeightsError):
        read_state(Path("file.pth"))
    assert not Path("ran").exists()


def test_a_checkpoint_in_a_circle() -> None:
    state: dict[str, object] = {}
    state["state_dict"] = state
    torch.save(state, "circle.pth")
    with pytest.raises(WeightsError):
        read_state(Path("circle.pth"))


def test_a_bomb_is_not_unpacked() -> None:
    with zipfile.ZipFile("bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(50_000_000))
    assert Path("bomb.pth").stat().st_size < 100_000
    with pytest.raises(WeightsError, match="unpacks to more than"):
        read_state(Path("bomb.pth"))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_regular_file_is_not_waited_for(kind: str, ending: str) -> None:
    path = Path(f"weights{ending}")
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match="not a regular file"):
        read_state(path)


def test_keys_are_data(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\n\x1b[31m\x9b\u202e"
    network = archdsl.load("lenet:lenet").state_dict()
    torch.save({hostile: torch.zeros(1), "x" * 100_000: torch.zeros(1), 5: torch.zeros(1), **network}, "keys.pth")
    assert cli.run(["weights", "lenet:lenet", "keys.pth"]) == 0
    said = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in said) and max(map(len, said.splitlines())) < 400
    assert cli.run(["weights", "lenet:lenet", "keys.pth", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unexpected"] == [hostile, "x" * 100_000, "5"]
    assert cli.run(["weights", "lenet:lenet", "keys.pth", "--rename", f"{hostile}=*\x1b[31m"]) == 2
    assert cli.run(["weights", "lenet:lenet", "keys.pth", "--rename", "*=\x9b"]) == 2
    said = capsys.readouterr().err
    assert said and all(c.isprintable() or c == "\n" for c in said)


def test_many_stars_take_no_time() -> None:
    start = time.process_time()
    keys = ["a" * 100_000 + "b" * n for n in range(20)]
    assert list(renamed(keys, [("*a" * 30 + "*c", "x")]).values()) == keys
    assert len(renamed([f"k{i}" for i in range(20_000)], [("*x*y*", "*"), ("k*", "n*")])) == 20_000
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("rule", "key", "new"),
    [
        ("a.*=b.*", "a.x", "b.x"),
        ("*.w=*.weight", "a.w.w", "a.w.weight"),
        ("*.*.*=*/*/*", "a.b.c.d", "a/b/c.d"),
        ("**=**", "ab", "ab"),
        ("a*a=*", "a", "a"),
        ("a*a=*", "aa", ""),
        ("x=y", "xx", "xx"),
        ("*x*=*", "axb", "a"),
    ],
)
def test_stars(rule: str, key: str, new: str) -> None:
    old, _, name = rule.partition("=")
    assert renamed([key], [(old, name)]) == {key: new}


HEADS = {
    "nothing": b"",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "gif": b"GIF89a" + b"\xff" * 50,
    "tiff": b"II*\0" + b"\xff" * 64,
}


@pytest.mark.parametrize("head", HEADS)
def test_pictures_that_are_none(head: str) -> None:
    pytest.importorskip("PIL")
    from archdsl.runtime.running import RunError, read_picture

    Path("picture.png").write_bytes(HEADS[head])
    with pytest.raises((RunError, OSError)):
        read_picture(Path("picture.png"))


def test_names_of_files_are_data(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    name = "x\n\x1b[31m\x9b\u202e.pth"
    Path(name).write_bytes(b"")
    for command in (
        ["weights", "lenet:lenet", name],
        ["look", "lenet:lenet", "--image", name, "-o", "x.png"],
        ["probe", "lenet:lenet", "--weights", name],
        ["probe", "lenet:lenet", "--images", name],
        ["export", "lenet:lenet", "-o", "x.pt2", "--weights", name],
        ["build", "lenet:lenet", "-o", f"{name}/x.py"],
        ["draw", "lenet:lenet", "-o", f"/{name}/x.svg"],
        ["check", "lenet:lenet", "--limit", name],
        [name],
        [f"--{name}"],
    ):
        assert cli.run(command) == 2, command
        said = capsys.readouterr()
        assert said.err and all(c.isprintable() or c == "\n" for c in said.err + said.out), command
