"""How long after a save `archdsl watch` has renewed the picture of ResNet-50. Target: half a second."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SPECS = Path(__file__).resolve().parent.parent / "specs"
SAVES = 10


def wait_for(changed: Path, since: int) -> None:
    while not changed.exists() or changed.stat().st_mtime_ns == since:
        time.sleep(0.002)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec, picture = folder / "resnet.arch", folder / "net.svg"
        text = (SPECS / "resnet.arch").read_text("utf-8")
        spec.write_text(text, "utf-8")
        command = [sys.executable, "-m", "archdsl", "watch", "resnet.arch:resnet50", "-o", "net.svg"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
            wait_for(picture, 0)
            time.sleep(1)
            seconds = []
            for save in range(SAVES):
                before = picture.stat().st_mtime_ns
                started = time.perf_counter()
                spec.write_text(text.replace("conv(64, 7", f"conv({64 + save}, 7"), "utf-8")
                wait_for(picture, before)
                seconds.append(time.perf_counter() - started)
                time.sleep(0.3)
            process.terminate()
    print(f"watch: {median(seconds):.2f} s from a save to the new picture of ResNet-50, {max(seconds):.2f} s at most")


if __name__ == "__main__":
    main()
