"""A panel beside the diagram: what an `augment` declaration does, line by line, with example pictures."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass
from pathlib import Path

from archdsl.backends.diagram.theme import Theme


@dataclass(frozen=True, slots=True)
class Panel:
    """A heading, and lines of text with a PNG each, or none."""

    heading: str
    rows: tuple[tuple[str, bytes | None], ...]
    theme: Theme

    def put(self, dot: str, folder: Path | None = None) -> str:
        """The dot text with the panel in it; its pictures are files in the folder, without one left out."""
        bounds = re.search(r'\bbb="?([-\d.]+),([-\d.]+),([-\d.]+),([-\d.]+)', dot)
        place = ""
        if bounds:
            # Where positions are fixed the panel goes beside the top.
            place = f', pos="{float(bounds[1]) - self.width() / 2 - 30:g},{float(bounds[4]) - self.height() / 2:g}"'
        node = f'\taugment_panel [shape=plain, style="", tooltip=" ", label=<{self.table(folder)}>{place}]\n'
        end = dot.rindex("}")
        return dot[:end] + node + dot[end:]

    def width(self) -> float:
        """About as wide as Graphviz will make it, in points."""
        strips = [int.from_bytes(data[16:20]) for _, data in self.rows if data]
        return max([6.2 * len(text) for text, _ in self.rows] + [0.75 * w for w in strips] + [120]) + 20

    def height(self) -> float:
        return 30 + sum(22 + (0.75 * int.from_bytes(data[20:24]) if data else 0) for _, data in self.rows)

    def table(self, folder: Path | None) -> str:
        muted, ink = self.theme.muted, self.theme.text
        rows = [f'<TR><TD ALIGN="LEFT"><FONT COLOR="{ink}"><B>{html.escape(self.heading)}</B></FONT></TD></TR>']
        for number, (text, data) in enumerate(self.rows):
            words = f'<FONT POINT-SIZE="10" COLOR="{muted}">{html.escape(text)}</FONT>'
            rows.append(f'<TR><TD ALIGN="LEFT">{words}</TD></TR>')
            if data is not None and folder is not None:
                file = folder / f"augment_{number}.png"
                file.write_bytes(data)
                rows.append(f'<TR><TD ALIGN="LEFT"><IMG SRC="{file}"/></TD></TR>')
        return f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="2" COLOR="{muted}">{"".join(rows)}</TABLE>'


def inlined(svg: str, folder: Path) -> str:
    """The svg with the pictures of a folder inside it."""
    for file in sorted(folder.iterdir()):
        svg = svg.replace(f'"{file}"', f'"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"')
    return svg
