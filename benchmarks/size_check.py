"""The cost of the input size check in `forward`: a model with it compared with the same file without it.

Both run alternately on one image, in eager mode and under torch.compile, and the medians are compared. Target: 1.00,
indistinguishable from no check.
"""

from __future__ import annotations

import re
import sys
import time
import timeit
from statistics import median

import torch

import archdsl
from archdsl.built import execute

ROUNDS = 300
MODELS: list[tuple[str, dict[str, object], tuple[int, ...]]] = [
    ("unet:unet_padded", {"width": 4, "depth": 2}, (1, 3, 64, 64)),
    ("squeezenet:squeezenet1_1", {}, (1, 3, 64, 64)),
]
CHECK = re.compile(r"^ +check_size\(.*\)\n", re.M)


def model(source: str) -> torch.nn.Module:
    module = execute(source, "<built>")
    found = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__][-1]
    torch.manual_seed(0)
    built: torch.nn.Module = found()
    return built.eval()


def ratio(with_check: torch.nn.Module, without: torch.nn.Module, image: torch.Tensor) -> tuple[float, float]:
    """The median milliseconds of a forward pass without the check, and the ratio with it."""

    def seconds(net: torch.nn.Module) -> float:
        start = time.perf_counter()
        net(image)
        return time.perf_counter() - start

    for net in (with_check, without) * 3:  # compile, and fill the caches
        net(image)
    pairs = [(seconds(with_check), seconds(without)) for _ in range(ROUNDS)]
    a, b = (median(times) for times in zip(*pairs, strict=True))
    return b * 1000, a / b


def main() -> None:
    torch.set_num_threads(1)
    for spec, values, shape in MODELS:
        source = archdsl.build(archdsl.check(spec, **values))
        bare, removed = CHECK.subn("", source)
        assert removed == 2, "H and W are checked"
        nets = model(source), model(bare)
        compiled = [torch.compile(net, fullgraph=True, dynamic=True, backend="eager") for net in nets]
        with torch.no_grad():
            for way, (a, b) in (("as it is", nets), ("compiled", compiled)):
                milliseconds, times = ratio(a, b, torch.zeros(shape))
                print(f"{spec}, {way}: {milliseconds:.3f} ms, with the check {times:.3f} times (aim: 1.00)")
        check_size = sys.modules[type(nets[0]).__module__].check_size
        seconds = timeit.timeit(lambda check=check_size, size=shape[2]: check("H", size), number=10**5) / 10**5
        print(f"{spec}: one check takes {seconds * 1e6:.2f} µs")


if __name__ == "__main__":
    main()
