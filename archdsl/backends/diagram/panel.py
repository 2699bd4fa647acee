"""A panel beside the diagram: the lines of an `augment` declaration with example pictures."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from archdsl.backends.diagram.images import data_address
from archdsl.backends.diagram.labels import table
from archdsl.backends.diagram.metrics import text_width
from archdsl.backends.diagram.theme import FONT, Theme
from archdsl.common.escaping import dot_label

BOUNDS = re.compile(r'\bbb="([-\d.]+),([-\d.]+),([-\d.]+),([-\d.]+)"')
"""The room of a picture in dot text, in points."""

GAP = 24.0
"""Points between the panel and the picture."""

HEADING, TEXT = 11, 9
"""Sizes of text, in points."""

SPACING, PAD = 2, 2
"""Points between cells, and within them around what they hold."""

POINTS = 0.6
"""The size of a pixel of the example pictures."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A heading, and lines of text with a PNG each, or none."""

    heading: str
    rows: tuple[tuple[str, bytes | None], ...]
    theme: Theme

    def put(self, dot: str, folder: Path | None = None) -> str:
        """The dot text with the panel left of its picture, which grows by it; the panel's own pictures are files in
        the folder, without one left out."""
        left, bottom, right, top = map(float, BOUNDS.search(dot).groups())  # type: ignore[union-attr]
        width, height = self.size(folder is not None)
        start = left - GAP - width
        node = (
            f'\taugment_panel [shape=plain, style="", tooltip=" ", fixedsize=false, fontname="{FONT}", '
            f'label=<{self.table(folder)}>, pos="{start + width / 2:.2f},{top - height / 2:.2f}"]\n'
        )
        grown = f'bb="{start:.2f},{min(bottom, top - height):.2f},{right:.2f},{top:.2f}"'
        end = dot.rindex("}")
        return BOUNDS.sub(grown, dot[:end], count=1) + node + dot[end:]

    def size(self, pictures: bool) -> tuple[float, float]:
        """Width and height as Graphviz will make them, in points."""
        strips = [_pixels(data) if data and pictures else (0, 0) for _, data in self.rows]
        lines = [line for text, _ in self.rows for line in wrapped(text)]
        width = max(
            text_width(self.heading, HEADING, bold=True),
            *(text_width(line, TEXT) for line in lines),
            *(POINTS * w for w, _ in strips),
        )
        heights = [HEADING * 1.2, *(TEXT * 1.2 for _ in lines), *(POINTS * h for _, h in strips if h)]
        return width + 2 * (PAD + SPACING + 1), sum(heights) + (2 * PAD + SPACING) * len(heights) + SPACING + 2

    def table(self, folder: Path | None) -> str:
        muted, ink = self.theme.muted, self.theme.text
        heading = f'<FONT POINT-SIZE="{HEADING}" COLOR="{ink}"><B>{_indented(self.heading)}</B></FONT>'
        cells = [heading]
        room = self.size(folder is not None)[0] - 2 * (PAD + SPACING + 1)
        for number, (text, data) in enumerate(self.rows):
            cells += [f'<FONT POINT-SIZE="{TEXT}" COLOR="{muted}">{_indented(line)}</FONT>' for line in wrapped(text)]
            if data is not None and folder is not None:
                file = folder / f"augment_{number}.png"
                file.write_bytes(data)
                # With a size, since pixels would be larger in an SVG than in a PNG of 144 dots an inch.
                width, height = (round(POINTS * n) for n in _pixels(data))
                picture = (
                    f'<TD FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="{height}"><IMG SCALE="BOTH" SRC="{file}"/></TD>'
                )
                rest = f'<TD WIDTH="{max(int(room) - width, 0)}"></TD>'
                cells.append(table(f"<TR>{picture}{rest}</TR>"))
        rows = "".join(f'<TR><TD ALIGN="LEFT">{cell}</TD></TR>' for cell in cells)
        looks = f'BORDER="1" CELLBORDER="0" CELLSPACING="{SPACING}" CELLPADDING="{PAD}" COLOR="{muted}"'
        return f"<TABLE {looks}>{rows}</TABLE>"

    def html(self) -> str:
        """The panel as a part of a page."""
        lines = [f"<h2>{html.escape(self.heading)}</h2>"]
        for text, data in self.rows:
            lines.append(f"<p>{html.escape(text)}</p>")
            if data is not None:
                lines.append(f'<img alt="{html.escape(text)}" src="{data_address(data)}">')
        return "\n".join(lines)


def wrapped(text: str) -> list[str]:
    """A line of the spec as lines that are about as long as a strip of pictures."""
    # Between changes alone, not within a call.
    kept = re.sub(r"(?<!->)(?<! ) (?! )", "\u00a0", text)
    lines = textwrap.wrap(kept, 90, subsequent_indent="    ", break_long_words=False) or [""]
    return [line.replace("\u00a0", " ") for line in lines]


def _pixels(png: bytes) -> tuple[int, int]:
    """Width and height, as the head of the file has them."""
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def _indented(text: str) -> str:
    words = text.lstrip()
    return "&#160;" * (len(text) - len(words)) + dot_label(words)
