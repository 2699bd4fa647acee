"""The command line: arguments in; diagnostics, tables, pictures and modules out.

Exit status: 0 success, 1 the spec is wrong, 2 the command line is wrong or the command cannot run (an unknown option, a
missing folder, a full disk, a package that is not installed). Only click is imported at start-up; a command imports
what it needs when it runs, so that `--help` and completion are fast.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import click
from click.exceptions import NoArgsIsHelpError

# These modules register the commands.
from archdsl.cli import (
    cutting,
    formatting,
    helping,
    importing,
    making,
    planning,
    reading,
    running,
    serving,
    starting,
    watching,
)
from archdsl.cli.printing import prepare, write_diagnostics
from archdsl.cli.program import (
    BROKEN,
    FINE,
    PIPE_CLOSED,
    PROGRAM,
    SPEC_WRONG,
    USAGE_WRONG,
    PipeClosed,
    cli,
)
from archdsl.common import interrupts, missing

__all__ = [
    "cli",
    "cutting",
    "formatting",
    "helping",
    "importing",
    "main",
    "making",
    "planning",
    "reading",
    "run",
    "running",
    "serving",
    "starting",
    "watching",
]


def _abandon(stream: object) -> None:
    """Discards what is still buffered, so that the interpreter's final flush cannot fail again."""
    if isinstance(stream, io.IOBase):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _explained(say: Callable[[], object], status: int) -> int:
    """Explains the status on standard error, if stderr is open, and returns it."""
    try:
        say()
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        _abandon(sys.stderr)
    return status


def _fail(message: str, status: int) -> int:
    return _explained(lambda: print(f"{PROGRAM}: {message}", file=sys.stderr), status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, by default that of the process, and returns the exit status; never raises."""
    try:
        return int(cli.main(arguments, prog_name=PROGRAM, standalone_mode=False) or FINE)
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except PipeClosed:
        _abandon(sys.stdout)
        return PIPE_CLOSED
    except Exception as error:
        return _interrupted() if interrupts.seen() else _broken(error)


def _interrupted() -> int:
    _abandon(sys.stdout)
    return _fail("interrupted", interrupts.STATUS)


def _broken(error: Exception) -> int:
    """Reports the error that ended a command, and returns its exit status."""
    from archdsl.diagnostics import SpecError, visible

    match error:
        case SpecError():
            return _explained(lambda: write_diagnostics(error.diagnostics), SPEC_WRONG)
        case click.ClickException():
            # These messages contain user input, and names of files and tensors.
            if isinstance(error, NoArgsIsHelpError):
                return _explained(lambda: print(error.format_message(), file=sys.stderr), USAGE_WRONG)
            message = "\n".join(map(visible, error.format_message().split("\n")))
            harmless = click.ClickException(message)
            if isinstance(error, click.UsageError):
                harmless = click.UsageError(message, error.ctx)
            return _explained(harmless.show, USAGE_WRONG)
        case OSError():
            _abandon(sys.stdout)
            place = f"{error.filename}: " if error.filename else ""
            return _fail(visible(f"{place}{error.strerror or error}"), USAGE_WRONG)
        case MemoryError():
            return _fail("out of memory", USAGE_WRONG)
        case ImportError() if install := missing.what_to_do(error):
            return _fail(visible(install), USAGE_WRONG)
    if os.environ.get("ARCHDSL_DEBUG"):
        raise error
    what = visible(f"{type(error).__name__}: {error}".splitlines()[0][:200])
    return _fail(f"a bug in archdsl, please report it with the spec ({what}; ARCHDSL_DEBUG=1 shows more)", BROKEN)


def main() -> NoReturn:
    """Runs the command line of the process and exits; `archdsl.__main__` calls it."""
    # A short process makes little garbage and many long-lived objects, which collections would only scan in vain.
    gc.set_threshold(200_000, 50, 50)
    prepare(sys.stdout, sys.stderr)
    sys.exit(run())
