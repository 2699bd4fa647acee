"""Cards: boxes of text and pictures, joined by arrows. They show what the parts of a network make of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from archdsl.backends.diagram.images import with_pictures
from archdsl.backends.diagram.labels import table
from archdsl.backends.diagram.theme import FONT
from archdsl.common.escaping import dot_label

MUTED, LINE = "#6b7280", "#9ca3af"
"""The colours of notes and arrows, and of outlines."""


@dataclass(slots=True)
class Card:
    """Lines of text, the first one bold, and PNGs, each with a word below."""

    lines: list[str]
    pictures: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards by name, arrows between their names, and a note below. Its methods raise DrawingError."""

    title: str
    cards: Mapping[str, Card]
    edges: Sequence[tuple[str, str]]
    note: str

    def svg(self) -> str:
        """The picture as a file that needs no others."""
        svg = with_pictures(self._dot, "svg", "dot").decode()
        # Enlarged pictures show their pixels.
        return svg.replace("<image ", '<image style="image-rendering: pixelated" ')

    def png(self) -> bytes:
        return with_pictures(self._dot, "png", "dot")

    def html(self) -> str:
        """A page that needs no other files."""
        svg = self.svg()
        return PAGE.format(title=escape(self.title), svg=svg[svg.index("<svg") :])

    def data(self, ending: str) -> bytes:
        """The bytes of a .html, .svg or .png file."""
        return self.png() if ending == ".png" else (self.svg() if ending == ".svg" else self.html()).encode()

    def _dot(self, folder: Path) -> str:
        ids = {name: f"n{i}" for i, name in enumerate(self.cards)}
        note = "<BR/>".join(map(dot_label, self.note.splitlines()))
        lines = [
            "digraph {",
            f'\tgraph [bgcolor="white", rankdir="TB", nodesep=0.3, ranksep=0.35, fontname="{FONT}"]',
            f'\tgraph [label=<{note}>, fontsize=10, fontcolor="{MUTED}"]',
            f'\tnode [shape=plain, fontname="{FONT}", fontsize=11]',
            f'\tedge [color="{MUTED}", arrowsize=0.7]',
        ]
        lines += [f"\t{ids[name]} [label=<{_table(card, folder, ids[name])}>]" for name, card in self.cards.items()]
        lines += [f"\t{ids[tail]} -> {ids[head]}" for tail, head in self.edges]
        return "\n".join([*lines, "}"])


def _table(card: Card, folder: Path, name: str) -> str:
    """The HTML-like label of a card, whose pictures it puts in the folder."""
    title, *rest = (dot_label(line) for line in card.lines if line)
    cells = [f'<TR><TD ALIGN="LEFT"><B>{title}</B>  <FONT COLOR="{MUTED}">{"  ".join(rest)}</FONT></TD></TR>']
    shown, words = "", ""
    for i, (word, data) in enumerate(card.pictures):
        file = folder / f"{name}_{i}.png"
        file.write_bytes(data)
        shown += f'<TD><IMG SRC="{file}"/></TD>'
        words += f'<TD><FONT POINT-SIZE="9" COLOR="{MUTED}">{dot_label(word or " ")}</FONT></TD>'
    if shown:
        below = f"<TR>{words}</TR>" if any(word for word, _ in card.pictures) else ""
        cells.append(f"<TR><TD>{table(f'<TR>{shown}</TR>{below}', spacing=4)}</TD></TR>")
    looks = f'BORDER="1" COLOR="{LINE}" CELLBORDER="0" CELLSPACING="2" STYLE="ROUNDED"'
    return f"<TABLE {looks}>{''.join(cells)}</TABLE>"


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ margin: 1rem; font-family: sans-serif }} svg {{ max-width: 100%; height: auto }}</style>
<h1>{title}</h1>
{svg}
</html>
"""
