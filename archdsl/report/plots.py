"""Plots, as matplotlib draws them: the same ones are the same bytes."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plotted(draw: Callable[[Figure], None], size: tuple[float, float], form: str) -> bytes:
    """A file of a form (`svg`, `png`, `pdf`) with what `draw` puts on a figure of that size, in inches.

    Raises OSError, and ImportError where matplotlib is not installed.
    """
    # What it says of folders in which it cannot keep its fonts is no concern of who wants a plot.
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
