"""Training steps that fit a memory budget, beside uniform checkpointing: their process time and their peaks.

The budget is a part of the plain form's predicted peak at these sizes: half of it if nothing else is said, or the
smallest that can be met. `blocks` recomputes all calls of the blocks that `--recompute blocks` chooses, and `every 2nd`
every second of them, and so on: checkpointing as it is done by hand; `ours` is the predicted time of what a budget of
that peak chooses. Peaks are those of PyTorch's allocations, with weights and gradients, on two threads, since on one
PyTorch computes small batches in another way. Time is process time on one thread, in turn with the plain form's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from timing import seconds
from torch import nn
from torch_speed import peak

import archdsl
from archdsl.analysis.costs import sized_shapes
from archdsl.backends.torch_source import write_module
from archdsl.built import execute
from archdsl.common.choices import Budget
from archdsl.common.units import bytes_text
from archdsl.graph import Graph
from archdsl.transform.fitting import Plan, Search
from archdsl.transform.recompute import Recompute, recompute

SPECS = {
    "resnet:resnet50": (8, 224),
    "densenet:densenet121": (4, 160),
    "unet:unet_padded": (8, 256),
    "swin:swin_t": (4, 224),
}
"""Networks with the batch, and the side of the images."""


@dataclass(frozen=True)
class Form:
    """One form of a network: a plan, and its module."""

    name: str
    plan: Plan
    module: nn.Module


def uniform(graph: Graph, search: Search) -> Iterator[tuple[str, Plan]]:
    """All blocks recomputed, then every second and fourth of them."""
    blocks = sorted(recompute(graph, "blocks").scopes, key=lambda s: min(n.id for n in s.nodes()))
    for step in (1, 2, 4):
        name = "blocks" if step == 1 else f"every {step}{'nd' if step == 2 else 'th'}"
        yield name, search.plan(Recompute(frozenset(blocks[::step])))


def made(graph: Graph, again: Recompute) -> nn.Module:
    """The module of the form that recomputes exactly this."""
    module = execute(write_module(graph, recompute=again), graph.name)
    return [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__][-1]()


def step(model: nn.Module, image: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        model(image.clone()).square().mean().backward()
        model.zero_grad(set_to_none=True)

    return run


def measure(spec: str, batch: int, side: int, part: float, rounds: int) -> None:
    graph = archdsl.check(spec)
    sizes = tuple((size.name, side) for size in graph.free)
    search = Search(graph, Budget(0, batch, optimizer="sgd", sizes=sizes))
    limit = max(int(search.plain.peak * part), search.least().peak)
    found = search.within(limit)
    assert found is not None
    plans = {"plain": search.plain, "budget": found, **dict(uniform(graph, search))}
    # What is no smaller than the plain form, and choices that are the same, say nothing.
    names = {plan.again: name for name, plan in reversed(plans.items()) if plan.peak <= search.plain.peak}
    forms = [Form(n, p, made(graph, p.again)) for n, p in plans.items() if names.get(p.again) == n]
    image = torch.randn(batch, *sized_shapes(graph, {**graph.examples, **dict(sizes)})[0][0])
    steps = [step(form.module, image) for form in forms]
    torch.set_num_threads(1)
    times = seconds(steps, rounds)
    torch.set_num_threads(2)
    for form, run, took in zip(forms, steps, times, strict=True):
        most = peak(form.module, run)
        ours = search.within(form.plan.peak)
        assert ours is not None
        figures = f"{form.plan.peak / most:9.3f} {form.plan.peak / search.plain.peak:6.2f} {took / times[0]:8.2f}"
        peak_text = bytes_text(form.plan.peak)
        print(f"{spec:22} {form.name:10} {peak_text:>9} {figures} {form.plan.time:9.2f} {ours.time:6.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("specs", nargs="*", metavar="SPEC", help=f"of {', '.join(SPECS)}")
    parser.add_argument("--part", type=float, default=0.5, help="the budget, as a part of the plain form's peak")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{'':22} {'form':10} {'peak':>9} {'/measured':>9} {'/plain':>6} {'time':>8} {'predicted':>9} {'ours':>6}")
    for spec in given.specs or SPECS:
        measure(spec, *SPECS[spec], given.part, given.rounds)


if __name__ == "__main__":
    main()
