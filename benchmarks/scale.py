"""A network of a million nodes: process time and memory of a check, then of drawing it.

    python benchmarks/scale.py 100000 1000000

Targets: the time per node is the same at both, at most 4 KB of memory a node, and a drawing in under 60 s.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import archdsl
from archdsl.common.limits import Limits

LIMITS = Limits(nodes=2_000_000, rounds=10_000_000, steps=1_000_000_000)


def text(nodes: int) -> str:
    """Residual blocks of 8 nodes."""
    return f"""
block unit {{
    residual {{ conv1: conv(16, 3) -> bn1: batchnorm -> relu -> conv2: conv(16, 3) -> bn2: batchnorm }}
    relu
}}
model large {{
    input x[16, H = 64, W = 64]
    repeat {nodes // 7} {{ unit }}
}}
"""


def bytes_held() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one(nodes: int) -> None:
    archdsl.check(archdsl.Source("small.arch", text(1_000)))  # imports
    before, start = bytes_held(), time.process_time()
    graph = archdsl.check(archdsl.Source("large.arch", text(nodes)), limits=LIMITS)
    took, held = time.process_time() - start, bytes_held() - before
    count = len(graph)
    figures = f"{took:7.1f} s, {took / count * 1e6:5.1f} µs and {held / count / 1024:.2f} KB a node"
    print(f"{count:9,} nodes: check {figures}", flush=True)
    start = time.process_time()
    drawn = archdsl.draw(graph).data(".svg")
    print(f"{count:9,} nodes: draw  {time.process_time() - start:7.1f} s, {len(drawn) / 1024:.0f} KB", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        one(int(sys.argv[2]))
    else:
        for size in map(int, sys.argv[1:] or ("100000", "1000000")):
            subprocess.run([sys.executable, __file__, "--one", str(size)], check=True)
