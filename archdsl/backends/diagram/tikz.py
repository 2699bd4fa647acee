"""TikZ for LaTeX: a scene as a picture that a paper can take in, with its text as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from archdsl.backends.diagram.scene import Curve, Ellipse, Pen, Polygon, Shape, Text
from archdsl.common.escaping import latex

if TYPE_CHECKING:
    from archdsl.backends.diagram.drawing import Diagram

HEAD = r"""% A figure of its own (run pdflatex on this file), or part of a paper that has
% \usepackage{tikz} and \usepackage{standalone}: \input it there.
\documentclass[tikz,border=4pt]{standalone}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\begin{document}
"""


def tex(diagram: Diagram) -> bytes:
    """A LaTeX document with the picture alone."""
    colors: dict[str, str] = {}
    body = [statement(shape, colors) for shape in diagram.scene.shapes]
    defined = [rf"\definecolor{{{name}}}{{HTML}}{{{color[1:].upper()}}}" for color, name in colors.items()]
    lines = [r"\begin{tikzpicture}[x=1pt, y=1pt, line cap=round, line join=round, every node/.style={inner sep=0pt}]"]
    lines += defined + body
    return (HEAD + "\n".join([*lines, r"\end{tikzpicture}", r"\end{document}", ""])).encode()


def statement(shape: Shape, colors: dict[str, str]) -> str:
    """One statement of TikZ; names the colours that it needs."""

    def named(color: str) -> str:
        return colors.setdefault(color, f"c{len(colors)}")

    if isinstance(shape, Text):
        x, y = shape.at
        font = rf"\fontsize{{{shape.size:g}}}{{{1.2 * shape.size:g}}}\selectfont\sffamily"
        bold = r"\bfseries" if shape.bold else ""
        looks = f"anchor=base, text={named(shape.color)}, font={font}{bold}"
        return rf"\node[{looks}] at ({x:.2f},{y:.2f}) {{{latex(shape.text)}}};"
    looks = pen(shape.pen, named)
    match shape:
        case Ellipse():
            (x, y), (w, h) = shape.centre, shape.radii
            return rf"\path[{looks}] ({x:.2f},{y:.2f}) ellipse [x radius={w:.2f}, y radius={h:.2f}];"
        case Polygon():
            path = " -- ".join(f"({x:.2f},{y:.2f})" for x, y in shape.points)
            return rf"\path[{looks}] {path}{' -- cycle' if shape.closed else ''};"
        case Curve():
            points = [f"({x:.2f},{y:.2f})" for x, y in shape.points]
            pieces = [
                f".. controls {points[i]} and {points[i + 1]} .. {points[i + 2]}" for i in range(1, len(points) - 2, 3)
            ]
            return rf"\path[{looks}] {points[0]} {' '.join(pieces)};"


def pen(pen: Pen, named: Callable[[str], str]) -> str:
    """TikZ's options for a line and its filling."""
    looks = []
    if pen.fill:
        looks.append(f"fill={named(pen.fill)}")
    if pen.stroke:
        looks.append(f"draw={named(pen.stroke)}, line width={pen.width:g}pt")
    if pen.dash != "solid":
        looks.append(pen.dash)
    return ", ".join(looks)
