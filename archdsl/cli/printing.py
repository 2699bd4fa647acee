"""Printing: text and tables on standard output, diagnostics on standard error."""

from __future__ import annotations

import codecs
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archdsl.common.choices import Units
    from archdsl.diagnostics import Diagnostic
    from archdsl.report.tables import Table


def write(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)


def write_lines(lines: Sequence[str]) -> None:
    """Writes lines below a table."""
    write("\n")
    write_text("".join(f"{line}\n" for line in lines))


def write_text(text: str) -> None:
    """Writes lines; on a terminal they break between words."""
    from archdsl.report.fitting import folded

    width = room()
    write(text if width is None else folded(text, width))


def room() -> int | None:
    """The width of the terminal, in characters; None if standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def progress(specs: Sequence[str]) -> Iterator[str]:
    """The specs, with a progress bar on a terminal if there are many."""
    if len(specs) < 4 or sys.stderr is None or not sys.stderr.isatty():
        yield from specs
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(specs, "reading", console=Console(stderr=True), transient=True)


@contextmanager
def busy(what: str, *, long: bool) -> Iterator[None]:
    """Shows a status line on a terminal during long work."""
    if not long or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def write_json(data: object) -> None:
    write(json.dumps(data, indent=2) + "\n")


def write_table(table: Table, units: Units = "auto", *, whole: bool = False) -> None:
    """Writes a table; on a terminal within its width. `whole`: without leaving columns out."""
    from archdsl.report.fitting import WIDE, fitted

    text, left_out = fitted(table, room() or WIDE, units, whole=whole)
    write(text)
    if left_out:
        write_lines([f"left out for lack of room: {', '.join(left_out)}"])


def write_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    """Writes diagnostics to standard error, in colour on a terminal."""
    from archdsl.diagnostics import render

    if diagnostics and sys.stderr is not None:
        color = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        sys.stderr.write(render(diagnostics, color=color) + "\n")


def note(text: str) -> None:
    """Writes a note to standard error."""
    if sys.stderr is not None:
        sys.stderr.write(f"note: {text}\n")


PLAIN = {
    "×": "x",
    "→": "->",
    "⌊": "floor(",
    "⌋": ")",
    "⌈": "ceil(",
    "⌉": ")",
    "≡": "=",
    "≥": ">=",
    "…": "...",
    "·": "*",
}


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that an output cannot encode."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


def prepare(*streams: object) -> None:
    """Makes the streams replace characters that their encoding lacks."""
    codecs.register_error("archdsl.plainer", _plainer)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="archdsl.plainer")
