"""Remembers Ctrl-C, because libraries swallow KeyboardInterrupt or turn it into their own errors."""

from __future__ import annotations

import os
import signal
import sys

STATUS = 130
"""The exit status of a program ended by Ctrl-C: 128 + SIGINT."""

_seen = False


def remember() -> None:
    """Makes `seen` work from here on. If Ctrl-C is ignored or already handled, that stays so."""
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


def _unraisable(hook_args: sys.UnraisableHookArgs) -> None:
    # Raised where nothing can catch it, such as in a callback of the import system, it would be lost.
    if isinstance(hook_args.exc_value, KeyboardInterrupt):
        sys.stderr.write("archdsl: interrupted\n")
        sys.stderr.flush()
        os._exit(STATUS)
    sys.__unraisablehook__(hook_args)
