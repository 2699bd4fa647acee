"""Ctrl-C, remembered: libraries swallow the exception that it is, or turn it into errors of their own."""

from __future__ import annotations

import os
import signal
import sys

STATUS = 130
"""What a program that Ctrl-C ended gives to the shell: 128 + SIGINT."""

_seen = False


def remember() -> None:
    """From here on, `seen` knows. Where Ctrl-C does something else already, or nothing, it stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _unraisable


def seen() -> bool:
    """Whether Ctrl-C was pressed."""
    return _seen


def _interrupt(number: int, frame: object) -> None:
    global _seen
    _seen = True
    raise KeyboardInterrupt


def _unraisable(told: sys.UnraisableHookArgs) -> None:
    # Raised where nobody can catch it: in a callback of the import system, say. The program would go on.
    if isinstance(told.exc_value, KeyboardInterrupt):
        sys.stderr.write("archdsl: interrupted\n")
        sys.stderr.flush()
        os._exit(STATUS)
    sys.__unraisablehook__(told)
