"""The same spec gives the same bytes of every output, wherever and however archdsl runs."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

SPEC = (ROOT / "specs" / "unet.arch").read_text("utf-8")

CODE = """
import hashlib, sys
from pathlib import Path
import archdsl
from archdsl import cli
from archdsl.report import summary as report
from archdsl.backends.diagram.drawing import draw
for name in ("net.arch:unet_padded", "resnet:resnet18"):
    graph = archdsl.check(name)
    outputs = [archdsl.build(graph), draw(graph).dot, draw(graph, depth=1).tex(), draw(graph, depth=1).svg()]
    print(name, *[hashlib.sha256(o.encode()).hexdigest() for o in outputs], sep="\\n")
sys.stdout.flush()
for command in (["show", "net.arch:unet", "--csv"], ["show", "net.arch:unet", "--json"], ["check", "net.arch"]):
    cli.run(command)
    sys.stdout.flush()
"""

PLACES = {
    "plain": {},
    "seed 1, C locale, time zone": {"PYTHONHASHSEED": "1", "LC_ALL": "C", "LANG": "C", "TZ": "Pacific/Kiritimati"},
    "seed 4242, optimised, Turkish": {"PYTHONHASHSEED": "4242", "PYTHONOPTIMIZE": "2", "LC_ALL": "tr_TR.UTF-8"},
}
"""Settings of processes; a Turkish locale where there is one."""


def outputs(folder: Path, text: str, settings: dict[str, str]) -> bytes:
    folder.mkdir(parents=True)
    (folder / "net.arch").write_bytes(text.encode())
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **settings}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=folder, env=env, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return outputs(tmp_path_factory.mktemp("deterministic") / "first", SPEC, {"PYTHONHASHSEED": "0"})


@pytest.mark.parametrize("place", PLACES)
def test_same_bytes_everywhere(place: str, expected: bytes, tmp_path: Path) -> None:
    assert outputs(tmp_path / "some where" / "é", SPEC, PLACES[place]) == expected


@pytest.mark.parametrize("end", ["\r\n", pytest.param("\r", marks=pytest.mark.long)])
def test_line_ends_and_a_byte_order_mark_change_nothing(end: str, expected: bytes, tmp_path: Path) -> None:
    assert outputs(tmp_path / "net", "\ufeff" + SPEC.replace("\n", end), {}) == expected


def test_same_bytes_in_one_process(tmp_path: Path, expected: bytes) -> None:
    """Independent of earlier compilations."""
    twice = (
        "import archdsl\nfor n in ('vgg:vgg11', 'unet:unet_3d', 'resnet:resnet50'): archdsl.build(archdsl.check(n))\n"
    )
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "net.arch").write_text(SPEC, "utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", twice + CODE], cwd=folder, env=env, capture_output=True, timeout=300)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(expected).digest(), done.stderr
