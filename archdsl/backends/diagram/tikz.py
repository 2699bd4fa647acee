"""TikZ for LaTeX: a scene as a picture that a paper can take in, with its text as text."""

from __future__ import annotations

import re
from collections.abc import Callable

from archdsl.backends.diagram.scene import Curve, Ellipse, Pen, Polygon, Scene, Text
from archdsl.backends.diagram.scene import Shape as Form
from archdsl.diagnostics import visible

# What LaTeX reads as a command, and the signs that its standard fonts lack.
SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': r"''",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "-": "{-}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "…": r"\dots{}",
    "⊕": r"$\oplus$",
    "⊖": r"$\ominus$",
    "⊗": r"$\otimes$",
    "‖": r"$\Vert$",
    "⌊": r"$\lfloor$",
    "⌋": r"$\rfloor$",
    "⌈": r"$\lceil$",
    "⌉": r"$\rceil$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "–": "--",
    "—": "---",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "\u2212": "$-$",
    "\u2216": r"$\setminus$",
    "\u201d": "''",
    "\u00a0": "~",
}

HEAD = r"""% A figure of its own (run pdflatex on this file), or part of a paper that has
% \usepackage{tikz} and \usepackage{standalone}: \input it there.
\documentclass[tikz,border=4pt]{standalone}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\begin{document}
"""


def escaped(text: str) -> str:
    """Text that LaTeX sets as it stands, with its blanks. A sign that its fonts may lack is written as its code."""
    spaced = re.sub("^ +| {2,}", lambda found: "\u00a0" * len(found[0]), visible(text))
    return "".join(SIGNS.get(c) or (c if " " <= c <= "~" or c in LATIN else code(c)) for c in spaced)


LATIN = frozenset(chr(c) for c in range(0xC0, 0x180))


def code(char: str) -> str:
    return rf"{{\ttfamily U+{ord(char):04X}}}"


def write_tikz(scene: Scene) -> str:
    """A LaTeX document with the picture alone."""
    colors: dict[str, str] = {}
    body = [statement(shape, colors) for shape in scene.shapes]
    defined = [rf"\definecolor{{{name}}}{{HTML}}{{{color[1:].upper()}}}" for color, name in colors.items()]
    lines = [r"\begin{tikzpicture}[x=1pt, y=1pt, line cap=round, line join=round, every node/.style={inner sep=0pt}]"]
    lines += defined + body
    return HEAD + "\n".join([*lines, r"\end{tikzpicture}", r"\end{document}", ""])


def statement(shape: Form, colors: dict[str, str]) -> str:
    """One statement of TikZ; names the colours that it needs."""

    def named(color: str) -> str:
        return colors.setdefault(color, f"c{len(colors)}")

    if isinstance(shape, Text):
        x, y = shape.at
        font = rf"\fontsize{{{shape.size:g}}}{{{1.2 * shape.size:g}}}\selectfont\sffamily"
        bold = r"\bfseries" if shape.bold else ""
        looks = f"anchor=base, text={named(shape.color)}, font={font}{bold}"
        return rf"\node[{looks}] at ({x:.2f},{y:.2f}) {{{escaped(shape.text)}}};"
    looks = pen(shape.pen, named)
    match shape:
        case Ellipse():
            (x, y), (w, h) = shape.centre, shape.radii
            return rf"\path[{looks}] ({x:.2f},{y:.2f}) ellipse [x radius={w:.2f}, y radius={h:.2f}];"
        case Polygon():
            way = " -- ".join(f"({x:.2f},{y:.2f})" for x, y in shape.points)
            return rf"\path[{looks}] {way}{' -- cycle' if shape.closed else ''};"
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
