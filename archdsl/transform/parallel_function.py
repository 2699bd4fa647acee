"""The source of the function that spreads a training over many devices, as a built file has it.

All of it is PyTorch's: DistributedDataParallel, fully_shard (FSDP2), tensor parallelism, DeviceMesh. The generator
writes it, and the proof demands it, to the letter; what differs from network to network is in tables of paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill, indent

from archdsl.transform.parallel import Parallel

FUNCTION = "parallelize"

TABLES = {
    "UNITS": "The modules whose weights are gathered together; `*` is the rest of a name.",
    "COLUMNS": "Linear layers that are divided by the channels of their result.",
    "ROWS": "Those behind them, which are divided by the channels of their input.",
    "HEADS": "Layers of attention, which are divided by heads.",
}
"""The tables of a file, and what it says of them."""

NAMES = frozenset(
    {*TABLES, FUNCTION, "DeviceMesh", "modules_at", "is_whole_norm", "copied_to", "forward_of_heads", "divide_layers"}
)
"""The names that the file uses for this, which none of its classes may have."""


def tables(found: Parallel) -> Sequence[str]:
    """The names of the tables that a file has."""
    units, columns, rows, heads = TABLES
    return [units, *([columns, rows] if found.pairs else []), *([heads] if found.attentions else [])]


MODULES_AT = '''def modules_at(model: nn.Module, patterns: tuple[str, ...]) -> list[nn.Module]:
    """The modules of a network whose paths match a pattern."""
    from fnmatch import fnmatchcase

    return [
        module
        for path, module in model.named_modules()
        if any(
            fnmatchcase(path, pattern) and path.count(".") == pattern.count(".")
            for pattern in patterns
        )
    ]'''

WHOLE_NORM = '''def is_whole_norm(module: nn.Module) -> bool:
    """Whether it is a batchnorm with weights that are not sharded yet."""
    from torch.distributed.tensor import DTensor

    weights = [w for w in module.parameters() if not isinstance(w, DTensor)]
    return bool(weights) and isinstance(module, nn.modules.batchnorm._BatchNorm)'''

COPIED_TO = '''def copied_to(mesh: DeviceMesh, whole: Tensor) -> Tensor:
    """A tensor that is alike in all processes of a mesh, whose gradients are added up."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    alike = DTensor.from_local(whole, mesh, [Replicate()], run_check=False)
    return alike.to_local(grad_placements=[Partial()])'''

FORWARD_OF_HEADS = '''def forward_of_heads(
    layer: nn.MultiheadAttention, mesh: DeviceMesh, *inputs: Tensor
) -> Tensor:
    """The forward of an attention, of which each process of a mesh computes some heads."""
    from copy import copy

    part, rank, ranks = copy(layer), mesh.get_local_rank(), mesh.size()
    part.num_heads //= ranks
    part._parameters = dict.fromkeys(layer._parameters)
    for name, weight in layer.named_parameters(recurse=False):
        matrices = 3 if name.startswith("in_proj") else 1
        rows = copied_to(mesh, weight).unflatten(0, (matrices, ranks, -1))
        part._parameters[name] = rows[:, rank].flatten(0, 1)
    mixed: Tensor = type(layer).forward(part, *(copied_to(mesh, x) for x in inputs))
    return mixed'''

DIVIDE_LAYERS = '''def divide_layers(model: nn.Module, mesh: DeviceMesh) -> None:
    """Divides {what} among the processes of a mesh."""
    from torch.distributed.tensor.parallel import (
        {imports},
        parallelize_module,
    )
'''

COLUMNS_AND_ROWS = """
    for layer in modules_at(model, COLUMNS):
        if layer.out_features % mesh.size():
            raise ValueError(f"{mesh.size()} processes cannot share {layer}")
        parallelize_module(layer, mesh, ColwiseParallel(use_local_output=False))
    for layer in modules_at(model, ROWS):
        parallelize_module(layer, mesh, RowwiseParallel())"""

HEADS = """
    for layer in modules_at(model, HEADS):
        if layer.num_heads % mesh.size():
            raise ValueError(f"{mesh.size()} processes cannot share {layer.num_heads} heads")
        parallelize_module(layer.out_proj, mesh, RowwiseParallel())
        layer.forward = partial(forward_of_heads, layer, mesh)"""

DOC = """
    \"\"\"Spreads a training over the processes of a mesh, as the names of its axes say.

{says}
    \"\"\"
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torch.nn.parallel import DistributedDataParallel

    axes = mesh.mesh_dim_names"""

SAYS = (
    'Along "replicate" each process has all weights (DDP), along "shard" a part of them (FSDP2); with both axes, each '
    "copy is in parts (HSDP). Every process gives the model other samples of the batch"
)
TENSOR_SAYS = '; but along "tensor", the last axis, processes divide layers, and have the same samples'
OPTIMIZER_SAYS = ". Make the optimizer afterwards."
DTYPE_SAYS = "Sharded weights compute in `dtype`"
NORMS_SAY = (
    ", but for batchnorms, which keep their own. `sync_batchnorm` makes batchnorms use the statistics of the whole "
    "batch; it needs GPUs"
)
RAISES_SAY = ". Raises ValueError for other axes."

TENSOR = """
    if axes is not None and axes[-1] == "tensor" and axes[:-1] != ("replicate",):
        divide_layers(model, mesh["tensor"])
        if axes == ("tensor",):
            return model
        mesh, axes = mesh[axes[:-1]], axes[:-1]"""

AXES = """
    if axes not in (("replicate",), ("shard",), ("replicate", "shard")):
        raise ValueError(f"the axes of a mesh are replicate, shard or both, not {axes}")"""

AXES_WITH_TENSOR = """
    if axes not in (("replicate",), ("shard",), ("replicate", "shard")):
        raise ValueError(
            "the axes of a mesh are replicate, shard or both, and tensor behind shard or "
            f"alone, not {axes}"
        )"""

SYNC = """
    if sync_batchnorm:
        every = mesh if mesh.ndim == 1 else mesh._flatten()
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model, every.get_group())"""

REPLICATE = """
    if axes == ("replicate",):
        if dtype is not None:
            raise ValueError("with copies of the weights, torch.autocast says the type")
        return DistributedDataParallel(model, process_group=mesh.get_group())
    policy = MixedPrecisionPolicy(dtype, torch.float32 if dtype else None)
    for unit in [*modules_at(model, UNITS), model]:"""

SHARD_NORMS = """
        norms = [m for m in unit.modules() if is_whole_norm(m)] if dtype else []
        if norms:
            fully_shard(norms, mesh=mesh)"""

SHARD = """
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    return model"""


def parallel_functions(found: Parallel) -> list[str]:
    """The function, behind those that it calls, without what a network does not need."""
    parts = [MODULES_AT]
    if found.has_norms:
        parts.append(WHOLE_NORM)
    if found.attentions:
        parts += [COPIED_TO, FORWARD_OF_HEADS]
    if found.pairs or found.attentions:
        parts.append(_divide_layers(found))
    return [*parts, _parallelize(found)]


def _divide_layers(found: Parallel) -> str:
    linear, heads = bool(found.pairs), bool(found.attentions)
    what = " and ".join(["linear layers"] * linear + ["attention"] * heads)
    imports = ",\n        ".join(["ColwiseParallel"] * linear + ["RowwiseParallel"])
    head = DIVIDE_LAYERS.replace("{what}", what).replace("{imports}", imports)
    return head + COLUMNS_AND_ROWS * linear + HEADS * heads


def _parallelize(found: Parallel) -> str:
    norms, tensor = found.has_norms, bool(found.pairs or found.attentions)
    parameters = ["model: nn.Module", "mesh: DeviceMesh", "*", "dtype: torch.dtype | None = None"]
    parameters += ["sync_batchnorm: bool = False"] * norms
    head = "".join(f"    {parameter},\n" for parameter in parameters)
    paragraphs = SAYS + TENSOR_SAYS * tensor + OPTIMIZER_SAYS, DTYPE_SAYS + NORMS_SAY * norms + RAISES_SAY
    doc = DOC.format(says="\n\n".join(indent(fill(paragraph, 84), "    ") for paragraph in paragraphs))
    checks = TENSOR + AXES_WITH_TENSOR if tensor else AXES
    body = doc + checks + SYNC * norms + REPLICATE + SHARD_NORMS * norms + SHARD
    return f"def {FUNCTION}(\n{head}) -> nn.Module:{body}"
