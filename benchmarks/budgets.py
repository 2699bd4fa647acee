"""Training steps that fit a memory budget: their process time, in turn with that of the plain form.

The budget is a part of the plain form's predicted peak for a batch of 32 at the example sizes: half of it if nothing
else is said, or the smallest that can be met. What is recomputed for it is timed with smaller images, for a CPU.
`blocks` is the form that recomputes blocks whatever they save, as checkpointing by hand does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from timing import seconds
from torch import nn

import archdsl
from archdsl.analysis.costs import sized_shapes
from archdsl.common.choices import Budget
from archdsl.diagnostics import SpecError
from archdsl.transform.fitting import Search
from archdsl.transform.recompute import recompute

SPECS = {
    "resnet:resnet50": 96,
    "densenet:densenet121": 96,
    "unet:unet_padded": 96,
    "swin:swin_t": 224,
}
"""Networks with the side of the image."""
BATCH, TIMED, ROUNDS = 32, 2, 7


def step(model: nn.Module, image: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        model(image).square().mean().backward()
        model.zero_grad(set_to_none=True)

    return run


def measure(spec: str, side: int, part: float) -> None:
    graph = archdsl.check(spec)
    sizes = {size.name: side for size in graph.free}
    budget = Budget(0, BATCH, optimizer="sgd")
    search = Search(graph, budget)
    limit = max(int(search.plain.peak * part), search.least().peak)
    plan = search.within(limit)
    assert plan is not None
    forms = {"budget": (plan, archdsl.load(spec, memory=replace(budget, limit=limit)))}
    with suppress(SpecError):  # where no block reduces the peak
        forms["blocks"] = search.plan(recompute(graph, "blocks")), archdsl.load(spec, recompute="blocks")
    image = torch.randn(TIMED, *sized_shapes(graph, {**graph.examples, **sizes})[0][0])
    plain, *others = seconds(
        [step(model, image) for model in (archdsl.load(spec), *(m for _, m in forms.values()))], ROUNDS
    )
    for (name, (found, _)), took in zip(forms.items(), others, strict=True):
        peak = found.peak / search.plain.peak
        print(f"{spec:24} {name:8} {peak:6.2f} {found.time:10.2f} {took / plain:9.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("specs", nargs="*", metavar="SPEC", help=f"of {', '.join(SPECS)}")
    parser.add_argument("--part", type=float, default=0.5, help="the budget, as a part of the plain form's peak")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':24} {'form':8} {'peak':>6} {'predicted':>10} {'measured':>9}   as multiples of the plain form")
    for spec in given.specs or SPECS:
        measure(spec, SPECS[spec], given.part)


if __name__ == "__main__":
    main()
