"""Built modules on a GPU: time compared with torchvision's, memory compared with the prediction, budgets kept.

Needs torch, torchvision and archdsl. It stops after 4 minutes and says what it left out. Times are medians of a few
runs, ours and torchvision's in turn; a U-Net has no peer there. A budget counts as kept if the measured peak is
at most a percent over it: the loss and its temporaries are not predicted. Budgets are for predicted peaks on a CPU,
which include copies that a GPU does not make. `--device cpu --tiny` tries the script itself on small networks.

Written for a GPU, and so far only tried on a CPU.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from statistics import median
from threading import Timer

import torch
import torchvision
from torch import Tensor, nn

import archdsl
from archdsl.analysis.memory import memory
from archdsl.common.choices import Budget
from archdsl.transform.fitting import Search
from archdsl.transform.recompute import as_run

SECONDS = 235
SPECS = {
    "resnet50": "resnet:resnet50",
    "densenet121": "densenet:densenet121",
    "vit_b_16": "vit:vit_b_16",
    "swin_t": "swin:swin_t",
    "convnext_tiny": "convnext:convnext_tiny",
    "unet": "unet:unet_padded",
}
TINY = {"resnet18": "resnet:resnet18", "unet": "unet:unet_padded"}
FORMS = ("eager", "channels_last", "bf16", "graphs", "compiled")
"""The slowest to prepare comes last."""


class Bench:
    """Runs on one device until the time is over."""

    def __init__(self, device: str, tiny: bool) -> None:
        self.device, self.tiny = torch.device(device), tiny
        self.cuda = self.device.type == "cuda"
        self.end = time.monotonic() + SECONDS
        self.batch, self.side, self.rounds = (2, 32, 2) if tiny else (32, 224, 10)
        self.left_out: list[str] = []
        self.now = ""
        watch = Timer(SECONDS, self.stop)
        watch.daemon = True
        watch.start()

    def stop(self) -> None:
        """Ends the process: what compiles or runs cannot be interrupted otherwise."""
        print(f"\nstopped after {SECONDS} s in {self.now}, with all that follows it", flush=True)
        os._exit(0)

    def attempt(self, what: str, action: Callable[[], None]) -> None:
        """One that a card or version lacks, or that does not fit, leaves the others."""
        self.now = what
        try:
            action()
        except Exception as error:
            print(f"{what}: failed: {type(error).__name__}: {str(error).partition(chr(10))[0][:80]}", flush=True)

    def image(self) -> Tensor:
        return torch.randn(self.batch, 3, self.side, self.side, device=self.device)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def over(self, what: str, reserve: float = 0) -> bool:
        """Whether there is no time left for something, which is then listed."""
        if time.monotonic() < self.end - reserve:
            return False
        self.left_out.append(what)
        return True

    def seconds(self, actions: list[Callable[[], object]]) -> list[float]:
        """The median time of each, in turn."""
        found: list[list[float]] = [[] for _ in actions]
        for number in range(self.rounds + 2):
            for times, action in zip(found, actions, strict=True):
                self.wait()
                start = time.perf_counter()
                action()
                self.wait()
                if number >= 2:  # the first ones warm up
                    times.append(time.perf_counter() - start)
        return [median(times) for times in found]


def steps(model: nn.Module) -> Callable[[Tensor], None]:
    """A forward and a backward pass; gradients stay allocated, as after the first step of a training."""

    def step(images: Tensor) -> None:
        model.zero_grad(set_to_none=False)
        output = model(images)
        output.float().square().mean().backward()

    return step


@contextmanager
def no_synchronisation(cuda: bool) -> Iterator[None]:
    """Raises an error if something in the context waits for the GPU."""
    if cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if cuda:
            torch.cuda.set_sync_debug_mode("default")


def actions(bench: Bench, form: str, model: nn.Module, images: Tensor) -> tuple[Callable, Callable]:
    """The forward pass without gradients, and the training step, in a form."""
    model.train()
    if form == "channels_last":
        model, images = (
            model.to(memory_format=torch.channels_last),
            images.contiguous(memory_format=torch.channels_last),
        )
    if form == "compiled":
        model = torch.compile(model)
    cast = torch.autocast(bench.device.type, torch.bfloat16) if form == "bf16" else nullcontext()
    train = steps(model)

    def forward() -> None:
        with torch.no_grad(), cast:
            model(images)

    def step() -> None:
        with cast:
            train(images)

    return (captured(forward), captured(step)) if form == "graphs" else (forward, step)


def captured(action: Callable[[], None]) -> Callable[[], None]:
    """The action as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            action()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay


def times(bench: Bench, name: str, spec: str, form: str) -> None:
    """A row of the table of times."""
    ours = archdsl.load(spec, device=bench.device)
    pair = [ours]
    if hasattr(torchvision.models, name):
        pair.append(torchvision.models.get_model(name, weights=None).to(bench.device))
        pair[1].load_state_dict(ours.state_dict())
    images = bench.image()
    made = [actions(bench, form, model, images) for model in pair]
    for forward, step in made:
        forward()
        step()
    bench.wait()
    synchronised = "no"
    try:
        with no_synchronisation(bench.cuda):
            made[0][1]()
    except RuntimeError:
        synchronised = "YES"
    cells = []
    for which in (0, 1):
        found = bench.seconds([each[which] for each in made])
        ratio = f"{found[0] / found[1]:.2f}" if len(found) > 1 else "-"
        cells.append(f"{found[0] * 1e3:10.2f} ms {ratio:>6}")
    waits = synchronised if bench.cuda else "-"
    print(f"{name:14} {form:14} {cells[0]}   {cells[1]}   {waits}", flush=True)


def peak(bench: Bench, action: Callable[[], None]) -> int:
    """The bytes allocated at once, besides those before."""
    if bench.cuda:
        bench.wait()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        action()
        bench.wait()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def memories(bench: Bench, name: str, spec: str) -> None:
    """Rows of the table of memory: the plain form, and those for budgets."""
    graph = archdsl.check(spec)
    sizes = {size.name: bench.side for size in graph.free}
    search = Search(graph, Budget(0, bench.batch, optimizer="sgd", sizes=tuple(sizes.items())))
    low, high = search.least().peak, search.plain.peak
    plain = 0.0
    for label, limit in (("plain", high), ("0.75", 3 * high // 4), ("0.5", high // 2), ("least", low)):
        if label != "plain" and limit < low:
            print(f"{name:14} {label:8} not reachable: at least {low / high:.2f} of the plain peak", flush=True)
            continue
        if bench.over(f"memory of {name} at {label}"):
            continue
        plan = search.within(limit)
        assert plan is not None
        model = archdsl.load(spec, device=bench.device, memory=replace(search.budget, limit=limit))
        weights = sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))
        train, images = steps(model), bench.image()

        def step(model: nn.Module = model, train: Callable = train, images: Tensor = images) -> None:
            model.zero_grad(set_to_none=True)
            train(images.clone())

        step()
        model.zero_grad(set_to_none=True)
        measured = weights + peak(bench, step)
        (took,) = bench.seconds([step])
        plain = plain or took
        run, scopes = as_run(graph, plan.again)
        predicted = memory(run, sizes, cpu=not bench.cuda, recompute=scopes).training("sgd").at(bench.batch)
        kept = "-" if label == "plain" else "yes" if measured <= 1.01 * limit else "NO"
        print(
            f"{name:14} {label:8} {predicted / 2**20:9.1f} {measured / 2**20:9.1f} MiB {predicted / measured:6.3f}"
            f"   {kept:>4}   {took / plain:5.2f} {plan.time:5.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and images, to try the script itself")
    given = parser.parse_args()
    bench = Bench(given.device, given.tiny)
    torch.manual_seed(0)
    card = torch.cuda.get_device_name(bench.device) if bench.cuda else "CPU"
    print(f"{card}, torch {torch.__version__}, torchvision {torchvision.__version__}, archdsl {archdsl.__version__}")
    print(f"batch {bench.batch}, {bench.side} × {bench.side}; ratios: ours / torchvision's\n")
    specs = TINY if bench.tiny else SPECS
    print(f"{'memory':14} {'budget':8} predicted  measured     ratio   kept   time  as predicted")
    for name, spec in specs.items():
        if not bench.over(f"memory of {name}", reserve=120):
            bench.attempt(f"memory of {name}", partial(memories, bench, name, spec))
    print(f"\n{'time':14} {'form':14} {'forward':>13} {'ratio':>6}   {'step':>13} {'ratio':>6}   waits")
    for form in FORMS:
        for name, spec in specs.items():
            needs = 25 if form == "compiled" else 5
            if (form == "graphs" and not bench.cuda) or bench.over(f"{form} of {name}", reserve=needs):
                continue
            bench.attempt(f"{form} of {name}", partial(times, bench, name, spec, form))
    if bench.left_out:
        print(f"\nleft out for lack of time: {', '.join(bench.left_out)}")


if __name__ == "__main__":
    main()
