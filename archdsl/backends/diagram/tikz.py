"""TikZ for LaTeX, which a hand can edit: each box is a named node, at a place relative to the one before it, and arrows
and frames hang on these nodes; looks are styles at the top."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from archdsl.backends.diagram.scene import Curve, Ellipse, Pen, Point, Polygon, Shape, Text, Thing
from archdsl.common.escaping import latex

if TYPE_CHECKING:
    from archdsl.backends.diagram.drawing import Diagram
    from archdsl.backends.diagram.theme import Theme

HEAD = r"""% A figure of its own (run pdflatex on this file), or part of a paper that has
% \usepackage{tikz}, \usetikzlibrary{calc} and \usepackage{standalone}: \input it there.
% Each box has a place, p0, p1, ..., counted from the one before: change one, and its box, its arrows, and all that
% comes after it move along. The styles have all colours.
\documentclass[tikz,border=1pt]{standalone}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usetikzlibrary{calc}
\begin{document}
"""

ROUND, BEND = 8.0, 10.0
"""The radii of a box's corners and of an arrow's, in points."""


def tex(diagram: Diagram) -> bytes:
    """A LaTeX document with the picture alone."""
    writing = _Writing(diagram.drawing.writer.theme, diagram.drawing.scale, diagram.scene.things)
    body = [line for thing in diagram.scene.things for line in writing.thing(thing)]
    scale = diagram.drawing.scale
    start = rf"\begin{{tikzpicture}}[x={scale:g}pt, y={scale:g}pt, line cap=round, line join=round, inner sep=0pt]"
    lines = [start, *writing.defined(), *writing.places(), *body]
    return (HEAD + "\n".join([*lines, r"\end{tikzpicture}", r"\end{document}", ""])).encode()


class _Writing:
    """Writes things in the order of painting, each at its place."""

    def __init__(self, theme: Theme, scale: float, things: Sequence[Thing]) -> None:
        self.scale = scale
        self.kinds = _kinds(theme)
        self.colours: dict[str, str] = {}
        self.styles: dict[str, str] = {}
        """The name of each style, by its options."""
        self.middles: dict[str, Point] = {}
        for thing in things:
            if thing.name and not thing.frame and thing.name not in self.middles:
                left, bottom, right, top = _room(thing.shapes)
                self.middles[thing.name] = ((left + right) / 2, (bottom + top) / 2)

    # ------------------------------------------------------------ the top

    def defined(self) -> list[str]:
        """The colours and styles, which a document may change."""
        lines = [rf"\definecolor{{{name}}}{{HTML}}{{{colour[1:].upper()}}}" for colour, name in self.colours.items()]
        return [*lines, *(rf"\tikzset{{{name}/.style={{{options}}}}}" for options, name in self.styles.items())]

    def places(self) -> list[str]:
        """The middle of each box, counted from the one before."""
        lines, last = [], ""
        for name, (x, y) in self.middles.items():
            if last:
                before = self.middles[last]
                lines.append(rf"\coordinate ({name}) at ($({last})+({x - before[0]:.1f},{y - before[1]:.1f})$);")
            else:
                lines.append(rf"\coordinate ({name}) at ({x:.1f},{y:.1f});")
            last = name
        return lines

    def colour(self, colour: str) -> str:
        return self.colours.setdefault(colour, f"c{len(self.colours)}")

    def style(self, pen: Pen) -> str:
        """The name of the style of a pen."""
        options = ", ".join(self._looks(pen))
        if options not in self.styles:
            name = self.kinds.get((pen.fill, pen.stroke, pen.dash), "")
            taken = set(self.styles.values())
            free = (n for n in ([name] if name else []) if n not in taken)
            self.styles[options] = next(free, f"{name or 'style'} {len(taken)}")
        return self.styles[options]

    def _looks(self, pen: Pen) -> list[str]:
        looks = [f"fill={self.colour(pen.fill)}"] if pen.fill else []
        if pen.stroke:
            looks += [f"draw={self.colour(pen.stroke)}", f"line width={pen.width * self.scale:.3g}pt"]
        return looks + ([pen.dash] if pen.dash != "solid" else [])

    # ------------------------------------------------------------ things

    def thing(self, thing: Thing) -> list[str]:
        """The statements of a thing."""
        if thing.ends is not None:
            return self._arrow(thing, *thing.ends)
        base = thing.name if thing.name in self.middles else ""
        texts = [s for s in thing.shapes if isinstance(s, Text)]
        lines = [self._shape(s, thing.frame, base) for s in thing.shapes if not isinstance(s, Text)]
        if base and not thing.frame:
            return [*lines, *self._texts(texts, base)]
        return [*lines, *(line for text in texts for line in self._texts([text], base))]

    def at(self, point: Point, base: str = "") -> str:
        """A point, counted from the place of a box, of the nearest one where none is named."""
        x, y = point
        if not base and self.middles:
            base = min(self.middles, key=lambda n: abs(self.middles[n][0] - x) + abs(self.middles[n][1] - y))
        if not base:
            return f"({x:.1f},{y:.1f})"
        left, low = self.middles[base]
        if abs(x - left) < 0.05 and abs(y - low) < 0.05:
            return f"({base})"
        return f"($({base})+({x - left:.1f},{y - low:.1f})$)"

    def _shape(self, shape: Shape, frame: bool, base: str) -> str:
        assert not isinstance(shape, Text)
        style = self.style(shape.pen)
        if isinstance(shape, Ellipse):
            (w, h) = shape.radii
            return rf"\path[{style}] {self.at(shape.centre, base)} ellipse [x radius={w:.1f}, y radius={h:.1f}];"
        left, bottom, right, top = _room([shape])
        if isinstance(shape, Curve):
            style += f", rounded corners={ROUND * self.scale:.1f}pt"
        elif not (len(shape.points) == 4 and all(x in (left, right) and y in (bottom, top) for x, y in shape.points)):
            path = " -- ".join(self.at(p, base) for p in shape.points)
            return rf"\path[{style}] {path}{' -- cycle' if shape.closed else ''};"
        # A frame hangs on the boxes at its corners.
        return rf"\path[{style}] {self.at((left, bottom), base)} rectangle {self.at((right, top), base)};"

    def _texts(self, texts: Sequence[Text], base: str) -> list[str]:
        """Lines of text as one node in the middle of their room."""
        if not texts:
            return []
        rows = [list(row) for _, row in groupby(texts, key=lambda text: round(text.at[1], 1))]
        lines = [self._line(row) for row in rows]
        left, bottom, right, top = _room(texts)
        place = self.at(((left + right) / 2, (bottom + top) / 2), base)
        return [rf"\node[align=center] at {place} {{" + r" \\ ".join(lines) + "};"]

    def _line(self, row: Iterable[Text]) -> str:
        found = []
        for text in row:
            size = text.size * self.scale
            font = rf"\fontsize{{{size:.3g}}}{{{1.2 * size:.3g}}}\selectfont\sffamily" + (
                r"\bfseries" if text.bold else ""
            )
            found.append(rf"{{{font}\color{{{self.colour(text.color)}}}{latex(text.text)}}}")
        return "".join(found)

    def _arrow(self, thing: Thing, tail: str, head: str) -> list[str]:
        """An arrow: its first half hangs on its tail, its second half on its head."""
        lines = []
        for shape in thing.shapes:
            if isinstance(shape, Text):
                lines += self._texts([shape], tail)
            elif isinstance(shape, Curve) and not shape.pen.fill:
                points, straight = _corners(shape.points)
                half = len(points) / 2
                places = [self.at(p, tail if i < half else head) for i, p in enumerate(points)]
                style = f"{self.style(shape.pen)}, rounded corners={BEND * self.scale:.1f}pt"
                if straight:
                    lines.append(rf"\path[{style}] {' -- '.join(places)};")
                    continue
                pieces = [f".. controls {places[i]} and {places[i + 1]} .. {places[i + 2]}" for i in _steps(places)]
                lines.append(rf"\path[{self.style(shape.pen)}] {places[0]} {' '.join(pieces)};")
            else:
                base = head if isinstance(shape, Polygon) and len(shape.points) == 3 else tail
                lines.append(self._shape(shape, False, base))
        return lines


def _steps(points: Sequence[object]) -> range:
    return range(1, len(points) - 2, 3)


def _corners(points: Sequence[Point]) -> tuple[list[Point], bool]:
    """The corners of a route that was rounded off; the route itself, and False, if it is no such one."""
    found = [points[0]]
    for i in _steps(points):
        a, b, c, d = points[i - 1], points[i], points[i + 1], points[i + 2]
        if _in_line(a, b, d) and _in_line(a, c, d):
            found.append(d)
            continue
        corner = _meeting(a, b, d, c)
        if corner is None:
            return list(points), False
        found += [corner, d]
    kept = [found[0]]
    for before, here, after in zip(found, found[1:], found[2:], strict=False):
        if not _in_line(before, here, after):
            kept.append(here)
    return [*kept, found[-1]], True


def _in_line(a: Point, b: Point, c: Point) -> bool:
    return abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])) < 0.5


def _meeting(a: Point, b: Point, d: Point, c: Point) -> Point | None:
    """Where a vertical and a horizontal line through a and b, and through d and c, meet."""
    if abs(a[0] - b[0]) < 0.1 and abs(d[1] - c[1]) < 0.1:
        return (a[0], d[1])
    if abs(a[1] - b[1]) < 0.1 and abs(d[0] - c[0]) < 0.1:
        return (d[0], a[1])
    return None


def _room(shapes: Sequence[Shape]) -> tuple[float, float, float, float]:
    points: list[Point] = []
    for shape in shapes:
        match shape:
            case Text():
                x, y = shape.at
                points += [(x - shape.width / 2, y - 0.2 * shape.size), (x + shape.width / 2, y + 0.75 * shape.size)]
            case Ellipse():
                (x, y), (w, h) = shape.centre, shape.radii
                points += [(x - w, y - h), (x + w, y + h)]
            case _:
                points += shape.points
    lefts, bottoms = zip(*points, strict=True)
    return min(lefts), min(bottoms), max(lefts), max(bottoms)


def _kinds(theme: Theme) -> Mapping[tuple[str, str, str], str]:
    """Names for styles, by fill, stroke and dash."""
    found = {(fill, border, "solid"): str(family) for family, (fill, border) in theme.families.items()}
    found |= {
        (*theme.merge, "solid"): "merge",
        (*theme.terminal, "solid"): "terminal",
        (*theme.block, "solid"): "block",
    }
    found |= {("", theme.line, "solid"): "flow", ("", theme.skip, "solid"): "identity"}
    return found | {("", theme.projection, "dashed"): "projection", ("", theme.dense, "dotted"): "dense"}
