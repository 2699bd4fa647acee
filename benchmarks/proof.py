"""The share of a build's time that its proof takes, over the library: check, write and proof in process time.

    python benchmarks/proof.py             one model of each family
    python benchmarks/proof.py resnet:     the models that begin so
    python benchmarks/proof.py --every     all complete models

Each step is timed with the garbage collector off, the fastest of some rounds, after a first one that warms up imports
and caches of the code; nothing of the network is kept between rounds. `command` is the share of the whole command
`archdsl build`, in a process of its own: from its start to its end, with all imports.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
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


COMMAND = """
import sys
from time import process_time
from archdsl import compiler
from archdsl.cli import run

def timed(function):
    def call(*arguments, **named):
        before = process_time()
        function(*arguments, **named)
        spent.append(process_time() - before)
    return call

def build(*arguments, **named):
    before = process_time()
    from archdsl import proof
    spent.append(process_time() - before)
    proof.prove = timed(proof.prove)
    return prove_build(*arguments, **named)

spent, prove_build, compiler.prove_build = [], compiler.prove_build, build
run(sys.argv[1:])
print(sum(spent), process_time(), file=sys.stderr)
"""
"""Runs a command of archdsl and prints the seconds of its proof, with the imports for it, and of all."""

OPTIONS = {"plain": (), "inference": ("--for", "inference"), "dense": ("--recompute", "dense")}
OPTIONS["blocks"] = ("--recompute", "blocks")


def command(name: str, form: str, rounds: int) -> tuple[float, float]:
    """The seconds of the proof and of the whole command, the fastest of some rounds."""
    run = [sys.executable, "-c", COMMAND, "build", name, *OPTIONS[form]]
    said = [subprocess.run(run, capture_output=True, text=True, check=True).stderr for _ in range(rounds)]
    proof, whole = min((tuple(map(float, text.split()[-2:])) for text in said), key=lambda pair: pair[1])
    return proof, whole


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
    whole: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    gc.disable()
    for form in options.form or FORMS:
        for name in names:
            try:
                rounds = [times(name, form)[0] for _ in range(options.rounds)]
            except SpecError:  # nothing to recompute
                continue
            best = [min(step) for step in zip(*rounds, strict=True)]
            total[form] = [a + b for a, b in zip(total[form], best, strict=True)]
            cold = command(name, form, options.rounds)
            whole[form] = [a + b for a, b in zip(whole[form], cold, strict=True)]
            print(_line(f"{form:9} {name:32}", best, cold), flush=True)
            gc.collect()
    print()
    for form, steps in total.items():
        print(_line(f"{form:42}", steps, whole[form]))


def _line(head: str, steps: Sequence[float], whole: Sequence[float]) -> str:
    shown = "  ".join(f"{name} {1000 * seconds:6.0f}" for name, seconds in zip(STEPS, steps, strict=True))
    share, apart = steps[-1] / sum(steps), steps[-1] / (sum(steps) - steps[1])
    proof, command = whole
    return (
        f"{head} {shown}  ms;  proof {share:4.0%} of all, {apart:4.0%} without choosing;  "
        f"{proof / command:4.0%} of the command's {1000 * command:.0f} ms"
    )


if __name__ == "__main__":
    main()
