"""The peak memory of inference: the inference form compared with the plain form and with torchvision's module.

Tensors are followed on the meta device, so that nothing is computed: an operation's results are held until Python
frees them, exactly as with real data. What a kernel allocates inside is not seen; `--measure` runs the networks on the
CPU under PyTorch's profiler instead, which sees it. Weights do not count.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable
from contextlib import suppress
from math import prod

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import archdsl
from archdsl.analysis.costs import sized_shapes
from archdsl.analysis.memory import memory
from archdsl.checker.spec import models
from archdsl.elaborate.spec_files import library_families
from archdsl.transform.inference import for_inference


class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and the most at once."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: dict[int, object] = {}
        self.known = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for tensor in tree_iter(results):
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return results

    def note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.known or key in self.seen:
            return
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        self.seen[key] = weakref.finalize(storage, self.free, key, size)

    def free(self, key: int, size: int) -> None:
        self.now -= size
        self.seen.pop(key, None)


def followed(model: nn.Module, images: list[Tensor]) -> int:
    """The most bytes held at once, without weights and inputs."""
    with torch.no_grad(), Held(*model.parameters(), *model.buffers(), *images) as held:
        model(*images)
    return held.most


def measured(model: nn.Module, images: list[Tensor]) -> int:
    """The most bytes that PyTorch has allocated at once while the module runs."""
    from torch.profiler import ProfilerActivity, profile  # slow to import

    with torch.no_grad():
        model(*images)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            model(*images)
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def images_of(spec: str, device: str) -> list[Tensor]:
    """The inputs of a network, one of each, at the example sizes."""
    graph = archdsl.check(spec)
    shapes = sized_shapes(graph, graph.examples)
    return [torch.empty(1, *shapes[n.id][0], device=device) for n in graph.input_nodes]


def peer(name: str) -> Callable[[], nn.Module] | None:
    """torchvision's network of that name."""
    try:
        import torchvision
    except (ImportError, RuntimeError):  # not installed, or not for this torch
        return None
    for kind in (torchvision.models, torchvision.models.segmentation, torchvision.models.video):
        if callable(made := getattr(kind, name, None)):
            return lambda: made(weights=None, **({"weights_backbone": None} if "segm" in kind.__name__ else {}))
    return None


def predicted(spec: str, *, cpu: bool) -> int:
    """What archdsl says about the inference form, without weights and inputs."""
    graph, _ = for_inference(archdsl.check(spec))
    held = memory(graph, cpu=cpu, evaluates=True)
    inputs = sum(prod(sized_shapes(graph, graph.examples)[n.id][0]) * 4 for n in graph.input_nodes)
    return held.inference.at(1) - held.weights - inputs


def row(spec: str, *, cpu: bool) -> str:
    """The peaks of the plain form, of the inference form, and of torchvision's module."""
    device, peak = ("cpu", measured) if cpu else ("meta", followed)
    images = images_of(spec, device)
    if cpu:
        images = [torch.randn_like(image) for image in images]
    plain, ours = (peak(archdsl.load(spec, inference=i, device=device).eval(), images) for i in (False, True))
    made = peer(spec.partition(":")[2])
    other = None
    if made is not None:
        with torch.device(device), suppress(NotImplementedError):  # some of them draw numbers, which needs data
            other = peak(made().eval(), images)
    told = predicted(spec, cpu=cpu)
    theirs = f"{other / 2**20:9.2f} {ours / other:6.2f}" if other is not None else f"{'-':>9} {'-':>6}"
    figures = f"{told / 2**20:9.2f} {ours / 2**20:9.2f} {told / ours:6.2f}   {plain / 2**20:9.2f} {ours / plain:6.2f}"
    return f"{spec:36} {figures}   {theirs}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("specs", nargs="*", metavar="SPEC", help="the whole library if none is named")
    parser.add_argument("--measure", action="store_true", help="run them on the CPU, under the profiler")
    given = parser.parse_args()
    print(f"{'MiB':36} predicted  measured  ratio       plain  ratio   torchvision's")
    for spec in given.specs or library():
        print(row(spec, cpu=given.measure), flush=True)


def library() -> list[str]:
    """Every network of the library."""
    return [f"{family}:{m.name}" for family in library_families() for m in models(family) if m.complete]


if __name__ == "__main__":
    main()
