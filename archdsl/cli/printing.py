"""What the command line prints: text and tables on standard output, diagnostics on standard error."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archdsl.diagnostics import Diagnostic
    from archdsl.report.tables import Table


def write(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)


def write_lines(lines: Sequence[str]) -> None:
    """Lines below a table."""
    write("\n" + "".join(f"{line}\n" for line in lines))


def progress(specs: Sequence[str]) -> Iterator[str]:
    """The specs, with a bar on a terminal while they are many."""
    if len(specs) < 4 or sys.stderr is None or not sys.stderr.isatty():
        yield from specs
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(specs, "reading", console=Console(stderr=True), transient=True)


@contextmanager
def busy(what: str, *, long: bool) -> Iterator[None]:
    """Says on a terminal what is done, while that takes long."""
    if not long or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def write_json(data: object) -> None:
    write(json.dumps(data, indent=2) + "\n")


def write_table(table: Table) -> None:
    if sys.stdout is not None and sys.stdout.isatty():
        table.print_rich()
    else:
        write(table.as_text())


def complain(diagnostics: Sequence[Diagnostic]) -> None:
    """Diagnostics go to standard error, in colour where a person sees it."""
    from archdsl.diagnostics import render

    if diagnostics and sys.stderr is not None:
        color = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        sys.stderr.write(render(diagnostics, color=color) + "\n")


def note(text: str) -> None:
    """A line on standard error about what is not as asked."""
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
    """What stands for characters that an output cannot encode."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


def prepare(*streams: object) -> None:
    """Lets the streams write what their encoding lacks in plainer characters."""
    codecs.register_error("archdsl.plainer", _plainer)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="archdsl.plainer")
