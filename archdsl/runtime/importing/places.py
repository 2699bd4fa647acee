"""The place that a recorded call comes from: a line of Python, or a node of a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

import torch

_NOT_SHOWN = tuple(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__))
"""The folders whose lines are not the user's."""

_place: ContextVar[str] = ContextVar("place", default="")


@contextmanager
def working_at(place: str) -> Iterator[None]:
    """Calls in the context come from this place, such as a node of a file, and not from a line of Python."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def line_of_python() -> str:
    """The innermost line outside of torch and this package that runs now, or the place of `working_at`."""
    if place := _place.get():
        return place
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_NOT_SHOWN):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
