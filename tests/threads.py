"""Ranks of a group as threads of this process: much faster than processes, for what only adds up, sends and gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Barrier, local
from typing import Any, TypeVar

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

Found = TypeVar("Found")
TIMEOUT = 60
HERE = local()


class Threads:
    """Stands for torch.distributed in the functions that `run` calls, one in each of so many threads."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.barrier = Barrier(ranks, timeout=TIMEOUT)
        self.given: list[Tensor] = [torch.empty(0)] * ranks
        self.mail: dict[tuple[int, int], Queue[Tensor]] = {(a, b): Queue() for a in range(ranks) for b in range(ranks)}

    def all_reduce(self, tensor: Tensor, group: Any = None) -> None:
        self.given[HERE.rank] = tensor.clone()
        self.barrier.wait()
        tensor.copy_(torch.stack(self.given).sum(0))
        self.barrier.wait()

    def batch_isend_irecv(self, todo: Sequence[tuple[str, Tensor, int, Any]]) -> list[Any]:
        for what, tensor, peer, _ in todo:
            if what == "send":
                self.mail[HERE.rank, peer].put(tensor.clone())
        for what, tensor, peer, _ in todo:
            if what == "get":
                tensor.copy_(self.mail[peer, HERE.rank].get(timeout=TIMEOUT))
        return []

    def run(self, work: Callable[[int], Found]) -> list[Found]:
        def start(rank: int) -> Found:
            HERE.rank = rank
            try:
                return work(rank)
            except BaseException:
                self.barrier.abort()
                raise

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist, "get_rank", lambda group=None: HERE.rank)
            patch.setattr(dist, "get_world_size", lambda group=None: self.ranks)
            patch.setattr(dist, "get_process_group_ranks", lambda group=None: list(range(self.ranks)))
            patch.setattr(dist, "all_reduce", self.all_reduce)
            patch.setattr(dist, "batch_isend_irecv", self.batch_isend_irecv)
            patch.setattr(dist, "P2POp", lambda *given: given)
            patch.setattr(dist, "isend", "send")
            patch.setattr(dist, "irecv", "get")
            with ThreadPoolExecutor(self.ranks) as pool:
                return list(pool.map(start, range(self.ranks)))
