"""The examples for a cluster, on this machine: a process is killed, a training goes on, a family is swept."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT

CLUSTER = ROOT / "examples" / "cluster"
SETTINGS = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
ENVIRONMENT = {**os.environ, **SETTINGS}
PLAIN = """
block unit(width) { residual { conv(width, 3) -> relu -> conv(width, 3) } -> relu }
model plain {
    input image[1, H = 8, W = 8]
    conv(4, 3) -> unit(4) -> unit(4)
    global_avgpool -> flatten -> linear(10)
}
"""


def torchrun(folder: Path, *arguments: str, processes: int = 2) -> subprocess.Popen[str]:
    """Starts a training in float64, with a checkpoint every 10 steps."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("--max-restarts", "3", str(CLUSTER / "train.py"), "--folder", str(folder), "--dtype", "float64"),
        *("--every", "10", *arguments),
    ]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def losses(folder: Path) -> list[tuple[int, float]]:
    path = folder / "losses.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(row["step"], row["loss"]) for row in rows]


def workers(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes of torchrun in /proc")
def test_a_training_survives_the_death_of_a_process(tmp_path: Path) -> None:
    steps = ("--axes", "shard", "--steps", "150")
    finished(torchrun(tmp_path / "whole", *steps))
    process = torchrun(tmp_path / "killed", *steps)
    end = time.monotonic() + 100
    while len(losses(tmp_path / "killed")) < 25 and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(workers(process)[1], signal.SIGKILL)
    said = finished(process)
    whole, killed = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    assert [step for step, _ in whole] == list(range(1, 151))
    begins = [line for line in said.splitlines() if line.startswith("process 0 of 2 begins at step")]
    assert len(begins) == 2 and int(begins[1].split()[-1]) >= 20, begins
    assert len(killed) > 150  # steps behind the last checkpoint are done again
    assert [dict(killed)[step] for step, _ in whole] == pytest.approx([loss for _, loss in whole], abs=1e-10)
    assert all(dict(whole)[step] == pytest.approx(loss, abs=1e-10) for step, loss in killed)


@pytest.mark.long
def test_a_checkpoint_is_for_stages(tmp_path: Path) -> None:
    """A training with micro-batches goes on in two stages, in stages whose weights are in parts, and in two copies."""
    (tmp_path / "plain.arch").write_text(PLAIN)
    options = ("--spec", str(tmp_path / "plain.arch"), "--steps", "30")
    finished(torchrun(tmp_path / "whole", *options, processes=1))
    moved = (*options, "--microbatches", "4")
    finished(torchrun(tmp_path / "moved", *moved, "--until", "10", "--recompute", "blocks", processes=1))
    finished(torchrun(tmp_path / "moved", *moved, "--until", "20", "--axes", "stage"))
    four = ("--sizes", "2x2")
    finished(torchrun(tmp_path / "moved", *moved, "--until", "25", "--axes", "shard,stage", *four, processes=4))
    finished(torchrun(tmp_path / "moved", *moved, "--axes", "replicate,stage", *four, processes=4))
    whole, others = losses(tmp_path / "whole"), losses(tmp_path / "moved")
    assert [loss for _, loss in others] == pytest.approx([loss for _, loss in whole], abs=1e-10)


@pytest.mark.long
def test_a_checkpoint_is_for_any_number_of_processes(tmp_path: Path) -> None:
    (tmp_path / "plain.arch").write_text(PLAIN)
    spec = ("--spec", str(tmp_path / "plain.arch"))
    finished(torchrun(tmp_path / "whole", *spec, "--axes", "shard", "--steps", "40", "--until", "40"))
    finished(torchrun(tmp_path / "parts", *spec, "--axes", "shard", "--steps", "40", "--until", "20"))
    again = ("--axes", "replicate", "--steps", "40", "--microbatches", "2")
    finished(torchrun(tmp_path / "parts", *spec, *again, processes=1))
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert [step for step, _ in parts] == list(range(1, 41))
    assert [loss for _, loss in parts] == pytest.approx([loss for _, loss in whole], abs=1e-10)


def sweep(folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(CLUSTER / "sweep.py"), *arguments, "--folder", str(folder)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_sweep_as_an_array_job(tmp_path: Path) -> None:
    count = int(sweep(tmp_path, "count"))
    assert f"--array=0-{count - 1}\n" in (CLUSTER / "sweep.sbatch").read_text()
    for index in (0, 5):
        sweep(tmp_path, "run", str(index), "--epochs", "4")
    assert f"2 of {count} are done" in sweep(tmp_path, "table")
    small, large = csv.DictReader((tmp_path / "table.csv").open())
    assert int(small["parameters"]) < int(large["parameters"]) and int(small["macs"]) < int(large["macs"])
    assert float(small["accuracy"]) < float(large["accuracy"]) > 0.8
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


@pytest.mark.long
def test_a_sweep_by_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[sweep]'")
    sweep(tmp_path, "ray", "--epochs", "1")
    assert len(list(tmp_path.glob("*.json"))) == int(sweep(tmp_path, "count"))
