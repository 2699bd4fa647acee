"""Runs the named examples, or all and a probe, and pastes their output into docs/training.md.

Each runs in one thread, so that the reported processor time is close to the elapsed time.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "training.md"
COMMANDS = {
    "probe": "archdsl probe resnet:resnet18",
    **{name: f"python examples/{name}.py" for name in ("digits", "textures", "coins", "few", "parameters")},
}


def run(name: str) -> str:
    """The output of a command, below the command line and its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program, *arguments = COMMANDS[name].split()
    command = [sys.executable, *(["-m", "archdsl"] if program == "archdsl" else []), *arguments]
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # A progress bar that is not on a terminal leaves its last state.
    said = [line.rstrip() for line in done.stdout.strip().splitlines() if "━" not in line]
    return "\n".join([f"$ {COMMANDS[name]}    # {seconds:.0f} s of processor time", *said])


def put(name: str, text: str) -> None:
    """Replaces the block of a command in the docs."""
    place = re.compile(rf"(<!-- {name}: made by `make examples` -->\n```text\n).*?(\n```)", re.DOTALL)
    page = DOCS.read_text("utf-8")
    if not place.search(page):
        sys.exit(f"{DOCS} has no place for {name}")
    DOCS.write_text(place.sub(lambda found: found[1] + text + found[2], page), "utf-8")


def main() -> None:
    wanted = sys.argv[1:] or list(COMMANDS)
    if unknown := set(wanted) - set(COMMANDS):
        sys.exit(f"there is no example `{', '.join(sorted(unknown))}`; there are {', '.join(COMMANDS)}")
    for name in wanted:
        text = run(name)
        print(text, flush=True)
        put(name, text)


if __name__ == "__main__":
    main()
