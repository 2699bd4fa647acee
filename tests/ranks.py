"""Runs a function of a test file in several processes, as the ranks of a group with gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.helpers import ROOT

WORK = """
import sys
from importlib import import_module
from pathlib import Path

import torch
import torch.distributed as dist

module, name, rank, ranks, folder = sys.argv[1:]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=int(rank), world_size=int(ranks))
found = getattr(import_module(module), name)()
torch.save(found, Path(folder) / f"{rank}.pt")
dist.destroy_process_group()
"""


def run_ranks(folder: Path, ranks: int, module: str, name: str, timeout: float = 100) -> list[Any]:
    """What a function without arguments returns in each rank."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, module, name, str(rank), str(ranks), str(folder)],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        said = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * ranks, "".join(said)
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]
