"""Spreads the training of a loaded network over many devices, by the function that its built file would have."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

from archdsl.built import execute
from archdsl.compiler import build
from archdsl.runtime.loading import graph_of
from archdsl.transform.parallel_function import FUNCTION

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh


def parallelize(
    model: torch.nn.Module,
    mesh: DeviceMesh,
    *,
    dtype: torch.dtype | None = None,
    sync_batchnorm: bool = False,
) -> torch.nn.Module:
    """Spreads the training of a network from `load` over the processes of a mesh, as the names of its axes say.

    Along `replicate` each process has all weights (DDP), along `shard` a part of them (FSDP2); with both axes, each
    copy is in parts (HSDP). The modules that are sharded follow the blocks of the spec. Every process gives the model
    other samples of the batch. Make the optimizer afterwards, of the model that this returns.

    Sharded weights compute in `dtype`, but for batchnorms, which keep their own. `sync_batchnorm` makes batchnorms use
    the statistics of the whole batch, by nn.SyncBatchNorm, which needs GPUs. This is the function that
    `archdsl build --parallel` writes. Raises ValueError for a module of another origin, and for other axes.
    """
    spread = getattr(sys.modules.get(type(model).__module__), FUNCTION, None)
    if spread is None:
        graph = graph_of(model)
        if graph is None:
            raise ValueError(
                "this module was not made by archdsl.load here: build its file with --parallel, which has `parallelize`"
            )
        spread = getattr(execute(build(graph, parallel=True), graph.name), FUNCTION)
    options = {"dtype": dtype, "sync_batchnorm": sync_batchnorm}
    takes = inspect.signature(spread).parameters  # a network without batchnorms has no option for them
    found: torch.nn.Module = spread(model, mesh, **{n: v for n, v in options.items() if n in takes})
    return found
