"""Networks with very many nodes, or deeply nested blocks: time is linear in their nodes, and memory stays small."""

import ast
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import archdsl
from archdsl.backends.diagram.drawing import draw
from archdsl.graph import Graph
from archdsl.report.layers import Layers, Options
from tests.helpers import ROOT


def chain(nodes: int) -> str:
    body = "residual { conv(16, 3) -> batchnorm -> relu\nconv(16, 3) -> batchnorm }"
    return f"model m {{\ninput x[16, H = 64, W = 64]\nrepeat {nodes // 6} {{ {body} }}\n}}"


def dense(nodes: int) -> str:
    """Dense blocks of 300 layers."""
    layers = min(300, nodes // 4)
    return f"""
block layer {{ batchnorm -> relu -> conv(4, 3) }}
block dense_block {{
    repeat {layers} {{ dense {{ layer }} }}
    conv(16, 1)
}}
model m {{
    input x[16, H = 64, W = 64]
    repeat {max(1, nodes // (4 * layers + 1))} {{ dense_block }}
}}
"""


def recursion(nodes: int) -> str:
    """Twelve levels of a block that calls itself twice, in two variants."""
    return f"""
block level(depth) {{
    if depth > 0 {{
        level(depth - 1)
        if depth > {12 - (nodes // 4).bit_length()} {{ level(depth - 1) }}
    }}
    residual {{ conv(16, 3) -> batchnorm -> relu }}
}}
model m {{
    input x[16, H = 64, W = 64]
    level(12)
}}
"""


ALL = {
    "check": lambda graph: len(graph),
    "show": lambda graph: len(Layers(graph, Options()).table.as_csv()),
    "draw folded": lambda graph: len(draw(graph, depth=1).dot),
    "build": lambda graph: len(archdsl.build(graph)),
}


def seconds_a_node(text: str, output: Callable[[Graph], int]) -> float:
    gc.collect()
    gc.freeze()  # exclude objects left by other tests from garbage collection
    start = time.process_time()
    graph = archdsl.check(archdsl.Source("huge.arch", text))
    output(graph)
    return (time.process_time() - start) / len(graph)


@pytest.mark.parametrize("output", ALL)
def test_time_is_linear(output: str) -> None:
    holds_linear(dense, output)


@pytest.mark.parametrize("output", [pytest.param(name, marks=[pytest.mark.long] * (name != "check")) for name in ALL])
def test_time_of_a_chain_is_linear(output: str) -> None:
    holds_linear(chain, output)


@pytest.mark.parametrize("output", [pytest.param(name, marks=[pytest.mark.long] * (name != "check")) for name in ALL])
def test_time_of_a_recursion_is_linear(output: str) -> None:
    holds_linear(recursion, output)


def holds_linear(make: Callable[[int], str], output: str) -> None:
    small = min(seconds_a_node(make(500), ALL[output]) for _ in range(2))
    # A factor of two is far from eight, that of a quadratic step, and more than a busy machine adds, twice at least.
    assert any(seconds_a_node(make(4_000), ALL[output]) < 2 * small for _ in range(2))


MEASURE = """
import re
from pathlib import Path
import archdsl
from archdsl.graph import Graph
from archdsl.report.layers import Layers, Options
from archdsl.backends.diagram.drawing import draw
def most(): return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
archdsl.build(archdsl.check("lenet:lenet")), draw(archdsl.check("lenet:lenet"), depth=1)
before = most()
graph = archdsl.check("net.arch")
archdsl.build(graph), draw(graph, depth=1), Layers(graph, Options()).table.as_csv()
print(len(graph), (most() - before) / len(graph))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how much memory a process took")
@pytest.mark.parametrize("make", [pytest.param(chain, marks=pytest.mark.long), dense], ids=["chain", "dense"])
def test_memory_of_a_node(make: Callable[[int], str], tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text(make(8_000))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    nodes, kilobytes = done.stdout.split()
    assert int(nodes) > 7_000 and float(kilobytes) < 4


DEPTH = 98
RECURSION = "block b(d) { relu\nif d > 0 { b(d - 1) }\nconv(2, 1) }\nmodel m {\ninput x[2, 8, 8]\n"
DEEP = {
    "recursion": RECURSION + f"b({DEPTH - 1})\n}}",
    "blocks": "".join(f"block b{i} {{ a: relu\nb{i + 1}\nconv(2, 1) }}\n" for i in range(DEPTH))
    + f"block b{DEPTH} {{ relu }}\nmodel m {{\ninput x[2, 8, 8]\nb0\n}}",
    "bodies": "model m {\ninput x[2, 8, 8]\n" + "a: { relu\n" * DEPTH + "conv(2, 1)" + "}" * DEPTH + "\n}",
    "residuals": "model m {\ninput x[2, 8, 8]\n"
    + "a: residual { relu()\n" * DEPTH
    + "conv(2, 1)"
    + "}" * DEPTH
    + "\n}",
    "unlabelled": "model m {\ninput x[2, 8, 8]\n" + "residual { relu()\n" * 190 + "conv(2, 1)" + "}" * 190 + "\n}",
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_networks_work(name: str) -> None:
    graph = archdsl.check(archdsl.Source("deep.arch", DEEP[name]))
    compile(ast.parse(archdsl.build(graph)), "deep.py", "exec")
    assert draw(graph).dot
    if name in ("bodies", "residuals"):  # the frames of blocks are drawn in the long run
        assert draw(graph, depth=DEPTH).dot
    assert Layers(graph, Options()).table.as_text()
    network = archdsl.load(archdsl.Source("deep.arch", DEEP[name]))
    assert network(torch.zeros(1, 2, 8, 8)).shape == (1, 2, 8, 8)


@pytest.mark.long
@pytest.mark.parametrize("name", DEEP)
def test_deep_frames_are_drawn(name: str) -> None:
    """Graphviz takes a minute for the skips around 190 bodies in each other."""
    assert draw(archdsl.check(archdsl.Source("deep.arch", DEEP[name])), depth=DEPTH).dot
