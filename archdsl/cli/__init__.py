"""The command line: arguments in; diagnostics, tables, pictures and modules out.

Exit status: 0 fine, 1 the spec is wrong, 2 the command line or the machine is (an unknown option, a folder that is not
there, a full disk). Only click is imported at once; what a command needs is imported when it runs, so that `--help` and
completion answer quickly.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

# These give the program its commands.
from archdsl.cli import making, reading, running
from archdsl.cli.printing import complain, prepare
from archdsl.cli.program import (
    BROKEN,
    FINE,
    INTERRUPTED,
    PIPE_CLOSED,
    PROGRAM,
    SPEC_WRONG,
    USAGE_WRONG,
    PipeClosed,
    cli,
)

__all__ = ["cli", "main", "making", "reading", "run", "running"]


def _abandon_stdout() -> None:
    """Lets what is still buffered go nowhere, so that the interpreter's last flush cannot fail again."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {message}", file=sys.stderr)
    return status


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, by default that of the process, and gives the exit status; never raises."""
    from archdsl.diagnostics import SpecError

    try:
        return int(cli.main(arguments, prog_name=PROGRAM, standalone_mode=False) or FINE)
    except SpecError as error:
        complain(error.diagnostics)
        return SPEC_WRONG
    except click.ClickException as error:
        error.show()
        return USAGE_WRONG
    except (click.Abort, KeyboardInterrupt):
        _abandon_stdout()
        return _fail("interrupted", INTERRUPTED)
    except PipeClosed:
        _abandon_stdout()
        return PIPE_CLOSED
    except OSError as error:
        _abandon_stdout()
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", USAGE_WRONG)
    except MemoryError:
        return _fail("the memory is full", USAGE_WRONG)
    except Exception as error:
        if os.environ.get("ARCHDSL_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return _fail(f"a bug of archdsl, please report it with the spec ({what}; ARCHDSL_DEBUG=1 shows more)", BROKEN)


def main() -> NoReturn:
    """The program `archdsl`."""
    # A short process makes little garbage and much that stays: looking for the one among the other takes its time.
    gc.set_threshold(200_000, 50, 50)
    prepare(sys.stdout, sys.stderr)
    sys.exit(run())
