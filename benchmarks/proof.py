"""The share of a build's time that its proof takes, over the library: check, write and proof in process time.

    python benchmarks/proof.py             one model of each family
    python benchmarks/proof.py resnet:     the models that begin so
    python benchmarks/proof.py --every     all complete models

Each step is timed with the garbage collector off, the fastest of some rounds, after a first one that warms up imports
and caches of the code; nothing of the network is kept between rounds.
"""

from __future__ import annotations

import argparse
import gc
from collections import defaultdict
from itertools import pairwise
from time import process_time

from archdsl import check
from archdsl.backends.torch_source import write_module
from archdsl.checker.spec import models
from archdsl.compiler import deep_stack
from archdsl.diagnostics import SpecError
from archdsl.elaborate.spec_files import library_families
from archdsl.graph import Graph
from archdsl.proof import prove
from archdsl.transform.inference import for_inference
from archdsl.transform.recompute import recompute

FORMS = ("plain", "inference", "dense", "blocks")
STEPS = ("check", "choose", "write", "proof")


def times(name: str, form: str) -> tuple[list[float], Graph]:
    """The seconds of each step of a build. Raises SpecError if the network has no such form."""
    marks = [process_time()]
    graph = check(name)
    marks.append(process_time())
    with deep_stack():
        shown, folding = for_inference(graph) if form == "inference" else (graph, None)
        again = recompute(graph, "none" if form in ("plain", "inference") else form)
        marks.append(process_time())
        text = write_module(shown, folding, recompute=again)
        marks.append(process_time())
        prove(text, shown, folding=folding, recompute=again)
        marks.append(process_time())
    return [b - a for a, b in pairwise(marks)], graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="?", default="")
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--form", choices=FORMS, action="append")
    options = parser.parse_args()
    names = [f"{family}:{m.name}" for family in library_families() for m in models(family) if m.complete]
    if options.prefix:
        names = [name for name in names if name.startswith(options.prefix)]
    elif not options.every:
        names = list({name.partition(":")[0]: name for name in reversed(names)}.values())
    total: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(STEPS))
    gc.disable()
    for form in options.form or FORMS:
        for name in names:
            try:
                rounds = [times(name, form)[0] for _ in range(options.rounds)]
            except SpecError:  # nothing to recompute
                continue
            best = [min(step) for step in zip(*rounds, strict=True)]
            total[form] = [a + b for a, b in zip(total[form], best, strict=True)]
            print(_line(f"{form:9} {name:32}", best), flush=True)
            gc.collect()
    print()
    for form, steps in total.items():
        print(_line(f"{form:42}", steps))


def _line(head: str, steps: list[float]) -> str:
    shown = "  ".join(f"{name} {1000 * seconds:6.0f}" for name, seconds in zip(STEPS, steps, strict=True))
    share, apart = steps[-1] / sum(steps), steps[-1] / (sum(steps) - steps[1])
    return f"{head} {shown}  ms;  proof {share:4.0%} of all, {apart:4.0%} without choosing"


if __name__ == "__main__":
    main()
