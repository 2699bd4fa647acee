"""The formats in which a diagram is saved, and the choices that its drawing has.

A new format is a module of this package and a line in FORMATS: the command line, its help and `Diagram.save` read them
there. Nothing is imported before such a file is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from archdsl.backends.diagram.drawing import Diagram

Direction = Literal["down", "right"]

STYLES = ("boxes", "volumes")
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
THEMES = ("light", "dark", "print")


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the `module` has a function that gives a Diagram's bytes, named as the ending without its dot.

    `note` explains the format in help. A text format has the sign that begins a `comment`, in which archdsl marks the
    files that it wrote.
    """

    ending: str
    module: str
    note: str = ""
    comment: str = ""
    compares: bool = True
    """Whether comparisons have this format."""

    def write(self, diagram: Diagram) -> bytes:
        """The contents of the file. Raises DrawingError, and ValueError for a comparison if it has no such format."""
        module = import_module(f"{__package__}.{self.module}")
        data: bytes = getattr(module, self.ending[1:])(diagram)
        return data


FORMATS = (
    Format(".svg", "images"),
    Format(".png", "images"),
    Format(".pdf", "images"),
    Format(".dot", "images", comment="//"),
    Format(".tex", "tikz", "TikZ", comment="%"),
    Format(".html", "page", "interactive page", compares=False),
)


CARDS = (".html", ".svg", ".png")
"""The endings of files of `cards`."""


def format_of(ending: str) -> Format:
    """The format of files whose names end so. Raises ValueError where there is none."""
    ending = {".gv": ".dot"}.get(ending.lower(), ending.lower())
    for form in FORMATS:
        if form.ending == ending:
            return form
    raise ValueError(f"no format ends in `{ending}`; there are {', '.join(f.ending for f in FORMATS)}")


def listed(formats: tuple[Format, ...]) -> str:
    """`.svg, .png or .tex (TikZ)`, for help."""
    *others, last = (f"{f.ending} ({f.note})" if f.note else f.ending for f in formats)
    return " or ".join(filter(None, [", ".join(others), last]))
