"""Runs a function of a test file in several processes, as the ranks of a group with gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tests.helpers import ROOT

WORK = """
import sys
from importlib import import_module
from multiprocessing import connection, get_context
from pathlib import Path

import torch
import torch._dynamo  # which the ranks would import, each of them
import torch.distributed as dist

module, name, ranks, folder = sys.argv[1:]
work = getattr(import_module(module), name)


def run(rank):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=int(ranks))
    torch.save(work(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


processes = {}
for rank in range(int(ranks)):
    process = get_context("fork").Process(target=run, args=(rank,), daemon=True)
    process.start()
    processes[process.sentinel] = process
while processes:
    for ended in connection.wait(list(processes)):
        process = processes.pop(ended)
        process.join()
        if process.exitcode:
            sys.exit(1)  # the others would wait for it; they end with this process
"""


def run_ranks(folder: Path, ranks: int, module: str, name: str, timeout: float = 100) -> list[Any]:
    """What a function without arguments returns in each rank.

    The ranks are forks of one process, so that all that they import is imported once, and before PyTorch has threads.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORK, module, name, str(ranks), str(folder)]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said = process.communicate(timeout=timeout)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]
