"""How the time of a check grows with the network: seconds per node at 1,000 and at 100,000 nodes.

Target: within a factor of 1.3.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median

import archdsl

SMALL, LARGE = 1_000, 100_000


def chain(nodes: int) -> str:
    """A deep chain: convolution, normalisation, activation."""
    return f"""
model chain {{
    input x[16, H = 64, W = 64]
    repeat {nodes // 3} {{ conv(16, 3) -> batchnorm -> relu }}
}}
"""


def dense(nodes: int) -> str:
    """Dense blocks of 20 layers, with a narrowing convolution between them."""
    return f"""
block layer {{ batchnorm -> relu -> conv(8, 3) }}
block dense_block {{
    repeat 20 {{ dense {{ layer }} }}
    conv(16, 1)
}}
model dense_blocks {{
    input x[16, H = 64, W = 64]
    repeat {nodes // 81} {{ dense_block }}
}}
"""


def seconds_a_node(text: str) -> float:
    source = archdsl.Source("benchmark.arch", text)
    start = time.perf_counter()
    graph = archdsl.check(source)
    return (time.perf_counter() - start) / len(graph)


def compare(make: Callable[[int], str]) -> None:
    seconds_a_node(make(SMALL))  # fill imports and caches once
    gc.collect()
    small = median(seconds_a_node(make(SMALL)) for _ in range(9))
    large = median(seconds_a_node(make(LARGE)) for _ in range(3))
    print(
        f"{make.__name__}: {small * 1e6:.1f} µs a node at {SMALL:,}, {large * 1e6:.1f} µs at {LARGE:,}, "
        f"ratio {large / small:.2f} (aim: 1.3)"
    )


if __name__ == "__main__":
    compare(chain)
    compare(dense)
