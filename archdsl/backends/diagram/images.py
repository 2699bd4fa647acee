"""Diagrams as images and dot text, by Graphviz; pictures within them are files while it works."""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from archdsl.backends.diagram.render import render

if TYPE_CHECKING:
    from archdsl.backends.diagram.drawing import Diagram


def svg(diagram: Diagram) -> bytes:
    return _rendered(diagram, "svg")


def png(diagram: Diagram) -> bytes:
    """At 144 dots an inch, for a figure of a given width at 288."""
    return _rendered(diagram, "png", f'dpi="{288 if diagram.is_for_print else 144}"')


def pdf(diagram: Diagram) -> bytes:
    return _rendered(diagram, "pdf")


def dot(diagram: Diagram) -> bytes:
    """Without the example pictures of an augmentation."""
    return (diagram.panel.put(diagram.dot) if diagram.panel else diagram.dot).encode()


def _rendered(diagram: Diagram, form: str, setting: str = "") -> bytes:
    settings = " ".join(filter(None, [setting, _size(diagram)]))
    text = diagram.dot.replace("{", f"{{\n\tgraph [{settings}]" if settings else "{", 1)
    panel = diagram.panel
    if panel is None:
        return render(text, form, "fixed")
    return with_pictures(lambda folder: panel.put(text, folder), form, "fixed")


def _size(diagram: Diagram) -> str:
    """The size in print of a figure that is made smaller, as Graphviz's attribute."""
    if (scale := diagram.drawing.scale) == 1:
        return ""
    left, bottom, right, top = diagram.scene.bounds
    width, height = (scale * (side + 2 * diagram.drawing.writer.pad) / 72 for side in (right - left, top - bottom))
    return f'size="{width:.4f},{height:.4f}"'


def with_pictures(write: Callable[[Path], str], form: str, layout: str) -> bytes:
    """Draws dot text that refers to pictures, which `write` puts in a folder; in an SVG they become part of it.

    Raises DrawingError.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = render(write(folder), form, layout)
        if form == "svg":
            for file in folder.iterdir():
                data = data.replace(f'"{file}"'.encode(), f'"{data_address(file.read_bytes())}"'.encode())
        return data


def data_address(png: bytes) -> str:
    """The address that holds a picture itself."""
    return f"data:image/png;base64,{b64encode(png).decode()}"
