"""The source of the function that spreads a training over many devices, as a built file has it.

All of it is PyTorch's: DistributedDataParallel, fully_shard (FSDP2), DeviceMesh. The generator writes it, and the proof
demands it, to the letter; what differs from network to network is in the table UNITS.
"""

from __future__ import annotations

from archdsl.transform.parallel import Parallel

FUNCTION = "parallelize"
UNITS = "UNITS"

UNITS_SAY = "The modules whose weights are gathered together, by their paths; * is the rest of a name."

FOUND = '''def modules_at(model: nn.Module, patterns: tuple[str, ...]) -> list[nn.Module]:
    """The modules of a network whose paths match a pattern."""
    return [
        module
        for path, module in model.named_modules()
        if any(
            fnmatchcase(path, pattern) and path.count(".") == pattern.count(".")
            for pattern in patterns
        )
    ]'''

DOC = """
    \"\"\"Spreads a training over the processes of a mesh, as the names of its axes say.

    Along "replicate" each process has all weights (DDP), along "shard" a part of them
    (FSDP2); with both axes, each copy is in parts (HSDP). Every process gives the model
    other samples of the batch. Make the optimizer afterwards.

    Sharded weights compute in `dtype`{norms}.{sync}
    Raises ValueError for other axes.
    \"\"\""""

NORMS_SAY = ", but for batchnorms, which keep their own"
SYNC_SAYS = """
    `sync_batchnorm` makes batchnorms use the statistics of the whole batch, on GPUs."""

AXES = """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torch.nn.parallel import DistributedDataParallel

    axes = mesh.mesh_dim_names
    if axes not in (("replicate",), ("shard",), ("replicate", "shard")):
        raise ValueError(f"the axes of a mesh are replicate, shard or both, not {axes}")"""

SYNC = """
    if sync_batchnorm:
        every = mesh if mesh.ndim == 1 else mesh._flatten()
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model, every.get_group())"""

REPLICATE = """
    if axes == ("replicate",):
        if dtype is not None:
            raise ValueError("with copies of the weights, torch.autocast says the type")
        return DistributedDataParallel(model, process_group=mesh.get_group())"""

SHARD = """
    policy = MixedPrecisionPolicy(dtype, torch.float32 if dtype else None)
    for unit in [*modules_at(model, UNITS), model]:
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    return model"""

SHARD_WITH_NORMS = """
    policy = MixedPrecisionPolicy(dtype, torch.float32 if dtype else None)
    for unit in [*modules_at(model, UNITS), model]:
        norms = [m for m in unit.modules() if is_whole_norm(m)] if dtype else []
        if norms:
            fully_shard(norms, mesh=mesh)
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    return model"""

WHOLE_NORM = '''def is_whole_norm(module: nn.Module) -> bool:
    """Whether it is a batchnorm with weights that are not sharded yet."""
    weights = [w for w in module.parameters() if not isinstance(w, DTensor)]
    return bool(weights) and isinstance(module, nn.modules.batchnorm._BatchNorm)'''


def parallel_function(found: Parallel) -> str:
    """The function, and what it calls; parts are two empty lines apart."""
    norms = found.has_norms
    parameters = [
        "model: nn.Module",
        "mesh: DeviceMesh",
        "*",
        "dtype: torch.dtype | None = None",
        *(["sync_batchnorm: bool = False"] if norms else []),
    ]
    head = "".join(f"    {parameter},\n" for parameter in parameters)
    doc = DOC.format(norms=NORMS_SAY if norms else "", sync=SYNC_SAYS if norms else "")
    body = f"{doc}{AXES}{SYNC if norms else ''}{REPLICATE}{SHARD_WITH_NORMS if norms else SHARD}"
    function = f"def {FUNCTION}(\n{head}) -> nn.Module:{body}"
    return "\n\n\n".join([FOUND, *([WHOLE_NORM] if norms else []), function])
