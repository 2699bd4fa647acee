"""Graphviz: from dot text to bytes. The system's `dot` where there is one, else the Graphviz in pygraphviz's wheel."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TIMEOUT = 120
"""Seconds after which a layout is given up."""

PROGRAMS = {"dot": ["dot"], "fixed": ["neato", "-n2"]}
"""How a layout is made: `dot` finds it, `fixed` takes the positions that the text has."""


class DrawingError(OSError):
    """No picture could be made: Graphviz is missing, failed, or took too long."""


def layouts(dots: Sequence[str]) -> list[Any]:
    """The layouts of several graphs by `dot`, as Graphviz's JSON has them, by one process. Raises DrawingError."""
    found: list[Any] = []
    text = render("\0".join(dots), "json").decode() if dots else ""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            layout, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise DrawingError(f"Graphviz gave an unreadable layout: {error}") from None
        found.append(layout)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def render(dot: str, form: str, layout: str = "dot") -> bytes:
    """The picture as `svg`, `png`, `pdf` or `json`; of several graphs, parted by NUL, one after the other.

    Raises DrawingError.
    """
    program, *options = PROGRAMS[layout]
    found = shutil.which(program)
    if found:
        command = [found, f"-T{form}", *options]
    else:
        # In a process of its own: the C library writes its warnings to stderr, and could take the caller down with it.
        worker = Path(__file__).with_name("_graphviz.py")
        command = [sys.executable, "-P", str(worker), form, "nop2" if layout == "fixed" else program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    try:
        done = subprocess.run(
            command,
            input=(dot.replace("\0", "\n") if found else dot).encode(),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise DrawingError(f"Graphviz found no layout within {TIMEOUT} s; collapse more blocks: `--depth 1`") from None
    except OSError as error:
        raise DrawingError(f"Graphviz could not be started: {error}") from None
    if done.returncode or not done.stdout:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise DrawingError(f"Graphviz failed: {last[0]}")
    return undated(done.stdout) if form == "pdf" else done.stdout


def undated(pdf: bytes) -> bytes:
    """A PDF without its date, so that the same picture is the same bytes. Blanks, since a PDF counts its bytes."""
    return re.sub(rb"/CreationDate \([^()]*\)", lambda found: b" " * len(found[0]), pdf)


Point = tuple[float, float]


def positions(dot: str) -> tuple[dict[str, Point], dict[tuple[str, str], list[Point]]]:
    """Where `dot` puts the middle of each node, and the Bézier points of each arrow, by the names of its ends.

    Points; y grows upwards. Raises DrawingError.
    """
    [layout] = layouts([dot])
    objects = layout.get("objects", [])
    places = {o["name"]: _point(o["pos"]) for o in objects if "pos" in o}
    splines = {
        (objects[e["tail"]]["name"], objects[e["head"]]["name"]): [_point(p) for p in e["pos"].split()]
        for e in layout.get("edges", [])
    }
    return places, splines


def _point(text: str) -> Point:
    x, y = text.split(",")
    return float(x), float(y)
