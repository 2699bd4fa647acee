"""Plots with matplotlib; equal plots have equal bytes."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plotted(draw: Callable[[Figure], None], size: tuple[float, float], form: str) -> bytes:
    """A file of a format (`svg`, `png`, `pdf`) with a figure of that size, in inches, filled by `draw`.

    Raises OSError, and ImportError if matplotlib is not installed.
    """
    # Hide warnings about folders in which matplotlib cannot cache its fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib  # slow, and an extra
    from matplotlib.figure import Figure

    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    with matplotlib.rc_context({"svg.hashsalt": "archdsl", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        out = io.BytesIO()
        figure.savefig(out, format=form, metadata=undated, dpi=150)
    return out.getvalue()
