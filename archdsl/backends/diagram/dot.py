"""Dot text of a picture. All text of a spec passes through `escaped` or `graphviz.escape`: it is data, never dot or markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import graphviz

from archdsl.backends.diagram.captions import Captions, family, times
from archdsl.backends.diagram.picture import Edge, Part, Picture
from archdsl.backends.diagram.theme import FONT, Theme
from archdsl.diagnostics import visible
from archdsl.ops.base import Family

Direction = Literal["down", "right"]

LONGEST_LINE = 90


@dataclass(frozen=True, slots=True)
class Style:
    theme: Theme
    direction: Direction = "down"


def escaped(text: str) -> str:
    """Text for an HTML-like label: printable, of bounded length, and without a meaning to Graphviz."""
    if len(text) > LONGEST_LINE:
        text = text[: LONGEST_LINE - 1] + "…"
    return html.escape(visible(text))


def markup(text: str, size: float, color: str, *, bold: bool = False) -> str:
    inner = f"<B>{escaped(text)}</B>" if bold else escaped(text)
    return f'<FONT POINT-SIZE="{size:g}" COLOR="{color}">{inner}</FONT>'


def table(rows: Iterable[str], *, padding: int = 1) -> str:
    cells = "".join(f"<TR><TD>{row}</TD></TR>" for row in rows)
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="{padding}">{cells}</TABLE>>'


def write_dot(pictures: list[tuple[str, Picture]], captions: Captions, style: Style) -> str:
    """The pictures side by side, each but the first in a frame with its heading, and the legend under them."""
    theme = style.theme
    dot = graphviz.Digraph(name="network")
    dot.attr(
        rankdir="TB" if style.direction == "down" else "LR",
        bgcolor=theme.background,
        fontname=FONT,
        fontcolor=theme.text,
        nodesep="0.35",
        ranksep="0.3",
        pad="0.2",
        label=legend([p for _, p in pictures], captions, style),
        labelloc="b",
        labeljust="c",
        tooltip=" ",
    )
    dot.attr(
        "node",
        fontname=FONT,
        fontcolor=theme.text,
        fontsize="11",
        shape="box",
        style="rounded,filled",
        margin="0.12,0.05",
    )
    dot.attr("edge", fontname=FONT, fontcolor=theme.muted, fontsize="9", color=theme.line, arrowsize="0.6")
    for number, (heading, picture) in enumerate(pictures):
        prefix = f"{'abcdefgh'[number]}_" if number else ""
        if number:
            with dot.subgraph(name=f"cluster_{prefix}") as inset:
                frame(inset, heading, 0, style, dashed=True)
                draw_parts(inset, picture.parts, captions, style, prefix)
        else:
            draw_parts(dot, picture.parts, captions, style, prefix)
        draw_edges(dot, picture, captions, style, prefix)
    return str(dot.source)


# ---------------------------------------------------------------- parts


def draw_parts(
    dot: graphviz.Digraph, parts: Iterable[Part], captions: Captions, style: Style, prefix: str, level: int = 0
) -> None:
    for part in parts:
        if part.children:
            with dot.subgraph(name=f"cluster_{prefix}{part.id}") as inner:
                frame(inner, captions.frame(part), level, style, dashed=part.kind == "repeat", count=part.count)
                draw_parts(inner, part.children, captions, style, prefix, level + 1)
        else:
            draw_box(dot, part, captions, style, prefix)


def frame(
    dot: graphviz.Digraph, heading: str, level: int, style: Style, *, dashed: bool = False, count: int = 1
) -> None:
    theme = style.theme
    dot.attr(
        label=table([markup(heading, 10, theme.muted, bold=count > 1)]) if heading else "",
        labeljust="l",
        labelloc="t",
        style="rounded,filled,dashed" if dashed else "rounded,filled",
        fillcolor=theme.frames[level % 2],
        color=theme.text if count > 1 else theme.frame_border,
        penwidth="1",
        margin="10",
        tooltip=" ",
    )


def draw_box(dot: graphviz.Digraph, part: Part, captions: Captions, style: Style, prefix: str) -> None:
    theme = style.theme
    tooltip = graphviz.escape(visible(part.scope.path if part.scope else ", ".join(n.path for n in part.nodes)) or " ")
    if part.kind in ("entry", "exit"):
        dot.node(
            prefix + part.id, label="", shape="point", width="0.08", color=theme.line, fillcolor=theme.line, tooltip=" "
        )
        return
    caption = captions.box(part)
    if part.kind == "merge":
        fill, border = theme.merge
        sign = caption.lines[0]
        dot.node(
            prefix + part.id,
            label=table([markup(sign, 13 if len(sign) == 1 else 9, theme.text, bold=True)], padding=0),
            xlabel=table([markup(n, 8, theme.muted) for n in caption.notes]) if caption.notes else "",
            shape="circle",
            fixedsize="true",
            width="0.3" if len(sign) == 1 else "0.6",
            margin="0",
            style="filled",
            fillcolor=fill,
            color=border,
            tooltip=tooltip,
        )
        return
    count = times(part)
    rows = []
    for number, line in enumerate(caption.lines):
        main = number == caption.title
        text = markup(line, 11 if main else 9, theme.text if main else theme.muted, bold=main)
        rows.append(text + (markup(f"   {count}", 11, theme.text, bold=True) if main and count else ""))
    rows += [markup(note, 9, theme.muted) for note in caption.notes]
    if caption.size:
        rows.append(markup(caption.size, 9, theme.text))
    fill, border = colours(part, theme)
    shape = {"shape": "box", "style": "filled", "margin": "0.2,0.05"} if part.kind in ("input", "output") else {}
    dot.node(
        prefix + part.id,
        label=table(rows, padding=0),
        fillcolor=fill,
        color=border,
        penwidth="1.6" if part.kind == "block" else "1",
        peripheries="2" if part.count > 1 else "1",
        tooltip=tooltip,
        **shape,
    )


def colours(part: Part, theme: Theme) -> tuple[str, str]:
    if part.kind in ("input", "output"):
        return theme.terminal
    found = None if part.kind == "block" else family(part)
    return theme.families.get(found, theme.block) if found else theme.block


# ---------------------------------------------------------------- arrows


def draw_edges(dot: graphviz.Digraph, picture: Picture, captions: Captions, style: Style, prefix: str) -> None:
    theme = style.theme
    labelled: set[Part] = set()
    for edge in picture.edges:
        label = ""
        if edge.kind == "flow" and edge.tail not in labelled and changes(edge, captions):
            labelled.add(edge.tail)
            label = captions.edge(edge)
        looks = {
            "flow": {"weight": "10"},
            "identity": {"style": "dashed", "color": theme.skip, "weight": "0", "penwidth": "1.2"},
            "projection": {"color": theme.projection, "weight": "1", "penwidth": "1.2"},
        }[edge.kind]
        dot.edge(
            prefix + edge.tail.id,
            prefix + edge.head.id,
            label=table([markup(label, 9, theme.muted)], padding=2) if label else "",
            **looks,
        )


def changes(edge: Edge, captions: Captions) -> bool:
    """Whether what flows along the arrow has another size than what flowed into its tail."""
    if edge.tail.kind == "entry":
        return True
    if edge.tail.kind in ("input", "block") or edge.head.kind == "output":
        return False  # their boxes say it
    node = edge.tail.nodes[0]
    return not node.inputs or captions.size(node.inputs[0]) != captions.edge(edge)


# ---------------------------------------------------------------- legend

FAMILY_ORDER: tuple[Family, ...] = (
    "convolution",
    "pooling",
    "normalisation",
    "activation",
    "regularisation",
    "align",
    "resize",
    "channels",
    "shape",
)


def legend(pictures: list[Picture], captions: Captions, style: Style) -> str:
    """The line under the picture, and a patch for each colour and arrow in it."""
    theme = style.theme
    boxes = [box for p in pictures for box in p.boxes()]
    families = {family(b) for b in boxes if b.kind == "layers"}
    cells = [swatch(theme.families[f][0], theme.families[f][1], f, theme) for f in FAMILY_ORDER if f in families]
    if any(b.kind == "block" for b in boxes):
        cells.append(swatch(*theme.block, "block", theme))
    kinds = {e.kind for p in pictures for e in p.edges}
    if "identity" in kinds:
        cells.append(stroke("╌╌", theme.skip, "identity skip", theme))
    if "projection" in kinds:
        cells.append(stroke("──", theme.projection, "projection skip", theme))
    per_row = 5
    rows = [cells[i : i + per_row] for i in range(0, len(cells), per_row)]
    body = "".join(
        f'<TR><TD><TABLE BORDER="0" CELLSPACING="3" CELLPADDING="1"><TR>{"".join(r)}</TR></TABLE></TD></TR>'
        for r in rows
    )
    summary = markup(captions.summary(), 10, theme.text)
    return f'<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="3"><TR><TD>{summary}</TD></TR>{body}</TABLE>>'


def swatch(fill: str, border: str, name: str, theme: Theme) -> str:
    return (
        f'<TD BGCOLOR="{fill}" BORDER="1" COLOR="{border}" WIDTH="14" HEIGHT="10" FIXEDSIZE="TRUE"></TD>'
        f'<TD ALIGN="LEFT">{markup(name, 9, theme.muted)} </TD>'
    )


def stroke(line: str, color: str, name: str, theme: Theme) -> str:
    return f'<TD>{markup(line, 10, color, bold=True)}</TD><TD ALIGN="LEFT">{markup(name, 9, theme.muted)} </TD>'
