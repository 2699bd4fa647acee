"""What the check of the input's size costs in `forward`: a model with it against the same file without it.

Both run in turns on one image, as they are and under torch.compile, and the medians are compared. Aim: 1.00, which no
run can tell from a check that is free.
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
    """The median time of a forward without the check in milliseconds, and how many times that it takes with it."""

    def seconds(net: torch.nn.Module) -> float:
        start = time.perf_counter()
        net(image)
        return time.perf_counter() - start

    for net in (with_check, without) * 3:  # compiled, and in the caches
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
