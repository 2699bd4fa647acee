"""The time of a cold `archdsl check` compared with importing lark, pydantic and networkx.

Only the unit of the measure: a check imports none of the three. Both are run alternately, as fresh processes, and the
medians compared. Target: at most 1.25 times.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

ROUNDS = 15
CHECK = [sys.executable, "-m", "archdsl", "check", "resnet:resnet152"]
IMPORTS = [sys.executable, "-c", "import lark, pydantic, networkx"]


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    for command in (CHECK, IMPORTS):  # byte code and the disk cache
        seconds(command)
    pairs = [(seconds(CHECK), seconds(IMPORTS)) for _ in range(ROUNDS)]
    check, imports = (median(times) for times in zip(*pairs, strict=True))
    print(f"check: {check * 1000:.0f} ms, imports: {imports * 1000:.0f} ms, ratio {check / imports:.2f} (aim: 1.25)")


if __name__ == "__main__":
    main()
