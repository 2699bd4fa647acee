"""A sheet of paper: the network at its upper left, its insets where there is room for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archdsl.backends.diagram.dot import Writer
from archdsl.backends.diagram.fixed import GAP, Drawn
from archdsl.backends.diagram.layout import Box

PAGE = (900.0, 1100.0, 1300.0, 1500.0), 900.0
"""Widths, tried one after the other, and height of the sheet of a figure that has no width of its own, in points."""


STRIP = 520.0
"""Points below a wide picture in which insets are."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Width and height, in points."""

    width: float
    height: float

    @classmethod
    def around(cls, first: Drawn, writer: Writer) -> list[Sheet]:
        """Sheets for a figure that has no width of its own, from the narrowest on."""
        left, bottom, right, top = first.box(writer)
        height = max(PAGE[1], top - bottom, top - bottom + STRIP if right - left > PAGE[0][0] else 0.0)
        return [cls(max(width, right - left), height) for width in PAGE[0]]

    def placed(self, drawn: Sequence[Drawn], writer: Writer) -> tuple[list[Drawn], list[Drawn]]:
        """The first picture and those that fit beside or below it, at their places, and those that do not fit."""
        left, bottom, right, top = drawn[0].box(writer)
        width, height = right - left, top - bottom
        free: list[Box] = [  # x, y, right, bottom: y grows downwards, from the first one's upper left corner
            (width + GAP, 0.0, self.width, self.height),
            (0.0, height + GAP, self.width, self.height),
        ]
        found, rest = [drawn[0]], []
        for one in drawn[1:]:
            x1, y1, x2, y2 = one.box(writer)
            w, h = x2 - x1, y2 - y1
            fitting = [(r[1], r[0], r) for r in free if r[2] - r[0] >= w - 0.5 and r[3] - r[1] >= h - 0.5]
            if not fitting:
                rest.append(one)
                continue
            # In the column that is begun, else to the right of it; below a wide picture in rows.
            y, x, _ = min(fitting, key=lambda f: f[:2] if width > PAGE[0][0] else (f[1], f[0]))
            found.append(one.moved(left + x - x1, top - y - y2))
            free = [piece for r in free for piece in _without(r, (x, y, x + w + GAP, y + h + GAP))]
        return found, rest


def _without(room: Box, taken: Box) -> list[Box]:
    """The rest of a free rectangle, as overlapping rectangles of the largest size."""
    x1, y1, x2, y2 = room
    a1, b1, a2, b2 = taken
    if a1 >= x2 or a2 <= x1 or b1 >= y2 or b2 <= y1:
        return [room]
    pieces = [(x1, y1, a1 - 0.0, y2), (a2, y1, x2, y2), (x1, y1, x2, b1), (x1, b2, x2, y2)]
    return [p for p in pieces if p[2] - p[0] > GAP and p[3] - p[1] > GAP]
