"""Trains a network of a spec on many devices: start it with torchrun, and start it again to go on.

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nproc-per-node 2 --max-restarts 3 examples/cluster/train.py --folder runs/digits --axes shard

If a process dies, torchrun starts all of them again, and they go on from the last checkpoint. A checkpoint is for any
number of processes: the same command with another number goes on, too. The variable gives each start a store of its
own: in the one that PyTorch 2.13 uses again, processes find the addresses of dead ones.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import digits
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import archdsl

HERE = Path(__file__).parent


@dataclass
class Progress:
    """All that a training needs to go on; distributed checkpoints save and load it in parts."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0

    options = StateDictOptions(flatten_optimizer_state_dict=True)
    """By the names of weights, since each stage of a pipeline has others."""

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer, options=self.options)
        return {"model": model, "optimizer": optimizer, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        model, optimizer = state["model"], state["optimizer"]
        set_state_dict(
            self.model, self.optimizer, model_state_dict=model, optim_state_dict=optimizer, options=self.options
        )
        self.step = state["step"]

    def save(self, folder: Path) -> None:
        """Writes a checkpoint; the one before it goes when this one is complete."""
        place = folder / f"step-{self.step}"
        dcp.save({"training": self}, checkpoint_id=place)  # returns in a process when its own part is written
        dist.barrier()
        if dist.get_rank() == 0:
            (folder / "latest.part").write_text(place.name)
            (folder / "latest.part").replace(folder / "latest")
            for old in folder.glob("step-*"):
                if old != place:
                    shutil.rmtree(old)
        dist.barrier()

    def resume(self, folder: Path) -> None:
        """Reads the last complete checkpoint, if there is one."""
        if (folder / "latest").exists():
            dcp.load({"training": self}, checkpoint_id=folder / (folder / "latest").read_text())


@dataclass
class Samples:
    """The part of the data that this process trains on; the order depends on nothing but the seed and the step."""

    images: Tensor
    labels: Tensor
    batch: int
    rank: int
    ranks: int
    seed: int = 0

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's part of the batch of a step."""
        steps = len(self.images) // self.batch
        epoch, place = divmod(step, steps)
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(self.seed + epoch))
        rows = order[place * self.batch : (place + 1) * self.batch].chunk(self.ranks)[self.rank]
        return self.images[rows], self.labels[rows]


def share_of(mesh: DeviceMesh) -> tuple[int, int]:
    """Which part of a batch this process trains on, of how many.

    Processes along `tensor` have the same one, as have the stages of a pipeline, of which the first one reads it.
    """
    rank, ranks = 0, 1
    for axis in mesh.mesh_dim_names or ():
        if axis not in ("tensor", "stage"):
            rank, ranks = rank * mesh[axis].size() + mesh[axis].get_local_rank(), ranks * mesh[axis].size()
    return rank, ranks


def mean(value: Tensor) -> float:
    """The mean of a number over all processes."""
    value = value.detach().to(torch.float64, copy=True)
    dist.all_reduce(value)
    return value.item() / dist.get_world_size()


class Whole:
    """A network of which every process has the whole, or a part of each weight."""

    def __init__(self, given: argparse.Namespace, mesh: DeviceMesh, device: str, values: dict[str, Any]) -> None:
        dtype = getattr(torch, given.dtype)
        network = archdsl.load(
            given.spec, parallel=True, recompute=given.recompute, device=device, dtype=dtype, **values
        )
        self.model = archdsl.parallelize(network, mesh, sync_batchnorm=given.sync_batchnorm)
        self.microbatches = given.microbatches

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Adds up the gradients of the micro-batches; their mean loss."""
        total = torch.zeros((), device=images.device)
        parts = zip(images.chunk(self.microbatches), labels.chunk(self.microbatches), strict=True)
        for number, (part, wanted) in enumerate(parts, 1):
            waits = number < self.microbatches and isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if waits else nullcontext():
                loss = cross_entropy(self.model(part), wanted) / self.microbatches
                loss.backward()
            total = total + loss.detach()
        return total

    def outputs(self, images: Tensor) -> Tensor | None:
        with torch.no_grad():
            return self.model(images)


class Staged:
    """A network in stages: every process along the axis `stage` has one, or along `shard` as well a part of one."""

    def __init__(self, given: argparse.Namespace, mesh: DeviceMesh, device: str, values: dict[str, Any]) -> None:
        axes = tuple(axis for axis in mesh.mesh_dim_names or () if axis != "stage")
        if axes not in ((), ("replicate",), ("shard",), ("replicate", "shard")):
            raise SystemExit("stages go with the axes replicate and shard, in this order")

        def spread(stage: nn.Module) -> nn.Module:
            if axes == ("replicate",):
                return DistributedDataParallel(stage, process_group=mesh["replicate"].get_group())
            return fully_shard(stage, mesh=mesh[axes])

        self.batch = given.batch // share_of(mesh)[1]
        self.stages = mesh["stage"].size()
        self.pipeline = archdsl.pipeline(
            archdsl.check(given.spec, **values),
            batch=self.batch,
            microbatches=given.microbatches,
            loss=cross_entropy,
            size=digits.SIZE,
            recompute=given.recompute,
            group=mesh["stage"].get_group(),
            device=device,
            dtype=getattr(torch, given.dtype),
            wrap=spread if axes else None,
        )
        (self.model,) = self.pipeline.modules.values()

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss, where it is known; the mean over all processes counts it once."""
        loss = self.pipeline.step(images, target=labels)
        return torch.zeros((), device=images.device) if loss is None else loss * self.stages

    def outputs(self, images: Tensor) -> Tensor | None:
        """In batches of the size that the pipeline is for, the last one filled up."""
        found = []
        for part in images.split(self.batch):
            filled = torch.cat([part, part.new_zeros(self.batch - len(part), *part.shape[1:])])
            output = self.pipeline.evaluate(filled)
            found += [] if output is None else [output[: len(part)]]
        return torch.cat(found) if found else None


def accuracy(network: Whole | Staged, images: Tensor, labels: Tensor, rank: int, ranks: int) -> float:
    """The share of right answers; each process tries a part of the images."""
    network.model.eval()
    outputs, wanted = network.outputs(images.tensor_split(ranks)[rank]), labels.tensor_split(ranks)[rank]
    right = [(outputs.argmax(1) == wanted).sum(), len(wanted)] if outputs is not None else [0, 0]
    counts = torch.tensor(right, dtype=torch.float64, device=images.device)
    dist.all_reduce(counts)
    return (counts[0] / counts[1]).item()


def train(given: argparse.Namespace, device: str) -> float:
    mesh = init_device_mesh(device, given.sizes, mesh_dim_names=tuple(given.axes.split(",")))
    torch.manual_seed(given.seed)  # so that all processes begin with the same weights
    values = {name: ast.literal_eval(value) for name, value in given.set}
    network = (Staged if "stage" in given.axes.split(",") else Whole)(given, mesh, device, values)
    model = network.model
    progress = Progress(model, torch.optim.SGD(model.parameters(), given.rate, momentum=0.9))
    progress.resume(given.folder)

    rank, ranks = share_of(mesh)
    (images, labels), held_out = digits.digits(device, getattr(torch, given.dtype))
    samples = Samples(images, labels, given.batch, rank, ranks, given.seed)
    print(f"process {dist.get_rank()} of {dist.get_world_size()} begins at step {progress.step}", flush=True)
    with (given.folder / "losses.jsonl").open("a") as log:
        model.train()
        last = given.steps if given.until is None else given.until
        while progress.step < last:
            for group in progress.optimizer.param_groups:
                group["lr"] = given.rate * (1 + math.cos(math.pi * progress.step / given.steps)) / 2
            images, labels = samples.at(progress.step)
            progress.optimizer.zero_grad()
            loss = network.step(images, labels)
            progress.optimizer.step()
            progress.step += 1
            found = mean(loss)
            if dist.get_rank() == 0:
                print(json.dumps({"step": progress.step, "loss": found}), file=log, flush=True)
            if progress.step % given.every == 0 or progress.step == last:
                progress.save(given.folder)
    return accuracy(network, *held_out, rank, ranks)


def size(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def setting(text: str) -> list[str]:
    return text.split("=", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints and losses are kept")
    parser.add_argument("--spec", default=str(HERE / "family.arch"))
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--axes", default="replicate", help="of the mesh: replicate,shard or replicate,stage, say")
    parser.add_argument("--sizes", type=size, help="how many processes along each axis, such as 2x8")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--until", type=int, help="stop after this step; another run goes on from there")
    parser.add_argument("--batch", type=int, default=64, help="of all processes together")
    parser.add_argument("--microbatches", type=int, default=1, help="whose gradients are added up")
    parser.add_argument("--recompute", choices=("none", "dense", "blocks"), default="none")
    parser.add_argument("--every", type=int, default=25, help="steps between checkpoints")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--sync-batchnorm", action="store_true")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    given.sizes = given.sizes or (dist.get_world_size(),)
    given.folder.mkdir(parents=True, exist_ok=True)
    score = train(given, device)
    if dist.get_rank() == 0:
        print(f"accuracy {score:.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
