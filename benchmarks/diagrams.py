"""Times diagrams, after import, against their targets, and the page in a browser if there is one.

Targets: the default diagram of every model of specs/ within 1 s, densenet201 fully opened within 10 s, a spec of 10,000
nodes collapsed within 5 s, the page of densenet201 under 2 MB and rendered within 2 s.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from archdsl.backends.diagram.drawing import Diagram
from archdsl.checker.spec import models
from archdsl.common.source import Source
from archdsl.compiler import check, draw
from archdsl.elaborate.spec_files import library_families
from archdsl.graph import Graph

DEEP = """
block unit(width) { residual { conv(width, 3) -> batchnorm -> relu -> conv(width, 3) -> batchnorm } -> relu }
block stage(width, count) { conv(width, 1)\n repeat count { unit(width) } }
model deep() {
    input image[3, 64, 64]
    for i in 1..=10 { stage(8 * i, 142) }
}
"""
# Nothing repeats, and no block can be collapsed.
FLAT = """
model flat() {
    input image[3, 64, 64]
    for i in 1..=3333 { conv(1 + i % 97, 3) -> batchnorm -> relu }
}
"""


class Took(NamedTuple):
    """Wall-clock and CPU seconds, including Graphviz: the two differ on a busy machine."""

    clock: float
    processor: float


def seconds(work: Callable[[], object]) -> Took:
    start, used = time.perf_counter(), processor()
    work()
    return Took(time.perf_counter() - start, processor() - used)


def processor() -> float:
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def svg(graph: Graph, **options: int) -> Took:
    return seconds(lambda: draw(graph, **options).svg())


def report(what: str, took: Took | float, aim: float, unit: str = "s") -> None:
    value = took.clock if isinstance(took, Took) else took
    used = f", {took.processor:.2f} s of the processor" if isinstance(took, Took) else ""
    print(f"{what:72} {value:8.2f} {unit}{used}  (aim {aim:g} {unit}){'' if value <= aim else '  TOO MUCH'}")


def first_paint(picture: Diagram) -> float | None:
    """Seconds from opening the page to its first rendering; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "page.html"
        picture.save(path)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        paint: float = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        browser.close()
    return paint / 1000


def main() -> None:
    svg(check("lenet:lenet"))  # imports, and the disk cache
    ready = [f"{f}:{m.name}" for f in library_families() for m in models(f) if m.complete]
    times = {spec: min(svg(graph) for graph in [check(spec)] * 3) for spec in ready}
    slowest = max(times, key=lambda spec: times[spec].clock)
    report(f"default diagram of {len(times)} models, best of 3, the slowest ({slowest})", times[slowest], 1)
    densenet = check("densenet:densenet201")
    report("densenet201, everything unfolded", svg(densenet, depth=99), 10)
    for text in (DEEP, FLAT):
        graph = check(Source("bench.arch", text))
        report(f"{graph.name}, {len(graph):,} nodes, default diagram", svg(graph), 5)
        report(f"{graph.name}, {len(graph):,} nodes, page", seconds(draw(graph).html), 30)
    picture = draw(densenet)
    report("page of densenet201, written", seconds(picture.html), 10)
    report("page of densenet201, size", len(picture.html().encode()) / 1e6, 2, "MB")
    paint = first_paint(picture)
    if paint is None:
        print("no browser: the page's first paint was not measured")
    else:
        report("page of densenet201, first paint", paint, 2)


if __name__ == "__main__":
    main()
