"""The looks of a picture's parts, as Graphviz's attributes, and their sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import get_args

import graphviz

from archdsl.backends.diagram.captions import Captions, family, times
from archdsl.backends.diagram.colours import Colours, Group
from archdsl.backends.diagram.formats import Direction
from archdsl.backends.diagram.labels import Entry, Line, Words, broken, cut, extent, label
from archdsl.backends.diagram.picture import Edge, EdgeKind, Part, Picture, drawn
from archdsl.backends.diagram.theme import FONT, Theme
from archdsl.common.escaping import visible
from archdsl.ops.base import Family

LONGEST_TOOLTIP = 400

TITLE, HEADING, NOTE = 11, 10, 9
"""Sizes of text, in points."""

WIDEST = 640.0
"""Points of a line below a figure that has no width of its own."""

PAD, LEAST_PAD = 7.2, 1.0
"""Points around a figure, and around one of a given width."""

LEAST_NAME = 30
"""The letters that the caption of a layer may have in the smallest figure."""

MERGE, POINT = 22.0, 6.0
"""Widths of the sign of a merge, and of a point of entry, in points."""

OUTLINE = 8.0
"""The size that a second outline adds to a box, in points."""


MOST_STROKES = 4
"""The most strokes of an arrow, which has one for each tensor."""


def strokes(edge: Edge) -> int:
    """The number of parallel strokes of an arrow."""
    return min(len(edge.streams), MOST_STROKES)


@dataclass(frozen=True, slots=True)
class Style:
    theme: Theme
    direction: Direction = "down"
    colours: Colours = field(default_factory=Colours)


class Writer:
    """Gives the parts of a picture their looks, as Graphviz's attributes."""

    def __init__(self, captions: Captions, style: Style) -> None:
        self.captions = captions
        self.style = style
        self.theme = style.theme
        self.unopened: list[str] = []
        """The kinds of blocks that are opened nowhere, and what they hold."""
        self.pad = PAD
        """Points around the whole, which Graphviz adds."""
        self.width = WIDEST
        """Points that the lines below the figure may take."""
        self._lines: dict[Part, list[Line]] = {}

    def new(self, **attributes: str) -> graphviz.Digraph:
        """A graph with the looks that all its parts share."""
        theme = self.theme
        dot = graphviz.Digraph(name="network")
        dot.attr(
            bgcolor=theme.background,
            fontname=FONT,
            fontcolor=theme.text,
            pad=f"{self.pad / 72:.4f}",
            margin="0",
            tooltip=" ",
            **attributes,
        )
        looks = {"shape": "box", "style": "rounded,filled", "fixedsize": "true", "margin": "0"}
        dot.attr("node", fontname=FONT, fontcolor=theme.text, fontsize=f"{TITLE}", **looks)
        dot.attr("edge", fontname=FONT, fontcolor=theme.muted, fontsize=f"{NOTE}", color=theme.line, arrowsize="0.6")
        return dot

    # ------------------------------------------------------------ boxes

    def lines(self, part: Part) -> list[Line]:
        """The text in a box."""
        if part not in self._lines:
            self._lines[part] = self._found(part)
        return self._lines[part]

    def _found(self, part: Part) -> list[Line]:
        theme = self.theme
        if part.kind in ("entry", "exit"):  # the name of an entry is by its arrow
            return [[Words(part.name, NOTE, theme.muted)]] if part.name and part.kind == "exit" else []
        caption = self.captions.box(part)
        if part.kind == "merge":
            sign = caption.lines[0]
            return [[Words(sign, 13 if len(sign) == 1 else NOTE, theme.text)]]
        size = NOTE if self.captions.detail.small else TITLE
        found: list[Line] = []
        for number, line in enumerate(caption.lines):
            main = number == caption.title
            line = cut(line, max(self.captions.detail.breadth, LEAST_NAME)) if main else line
            words = [Words(f"{caption.label}: ", NOTE, theme.muted)] if main and caption.label else []
            words += [Words(line, size if main else NOTE, theme.text if main else theme.muted, main)]
            then = [Words(caption.then, NOTE, theme.muted)] if main and caption.then else []
            if then and self.style.direction == "down":
                words += [Words("  ", NOTE, theme.muted), *then]
                then = []
            if main and part.count > 1:
                words.append(Words(f"   {times(part)}", size, theme.text, True))
            found += [words, then] if then else [words]
        found += [[Words(note, NOTE, theme.muted)] for note in caption.notes]
        last = [Words(caption.size, NOTE, theme.text)] if caption.size else []
        if caption.share:
            last.append(Words(f"   {caption.share}" if last else caption.share, NOTE, theme.muted))
        return [*found, last] if last else found

    def measure(self, part: Part) -> tuple[float, float]:
        """Width and height of a box, in points."""
        width, height = extent(self.lines(part))
        if part.kind == "merge":
            return (MERGE if width < MERGE - 6 else width + 14, MERGE)
        if part.kind in ("entry", "exit"):
            return (width + 4, height + 2) if width else (POINT, POINT)
        outline = OUTLINE if part.count > 1 else 0
        aside = 10 if self.captions.detail.small else 16
        return (max(width + aside, 40) + outline, height + 8 + outline)

    def box(self, part: Part, size: tuple[float, float]) -> dict[str, str]:
        """The attributes of a box of this size."""
        theme = self.theme
        width, height = size
        if part.count > 1:
            width, height = width - OUTLINE, height - OUTLINE  # Graphviz puts the outline around
        looks = {"width": f"{width / 72:.4g}", "height": f"{height / 72:.4g}"}
        if part.kind in ("entry", "exit") and self.lines(part):
            return looks | {"label": label(self.lines(part)), "style": "", "penwidth": "0", "tooltip": " "}
        if part.kind in ("entry", "exit"):
            dot = {"label": "", "shape": "circle", "style": "filled", "color": theme.line, "fillcolor": theme.line}
            return looks | dot | {"tooltip": " "}
        paths = part.scope.path if part.scope else ", ".join(n.path for n in part.nodes[:8])
        fill, border = self.colours(part)
        shared = self.captions.reuse(part) is not None
        looks |= {"label": label(self.lines(part)), "fillcolor": fill, "color": border}
        looks["tooltip"] = graphviz.escape(visible(paths[:LONGEST_TOOLTIP]) or " ")
        if part.kind == "merge":
            looks |= {"shape": "ellipse", "style": "filled"}
        if part.kind in ("input", "output"):
            looks |= {"style": "filled"}
        if part.kind == "block" or shared:
            looks |= {"penwidth": "2.2" if shared else "1.6"}
        if part.count > 1:
            looks |= {"peripheries": "2"}
        return looks

    def notes(self, part: Part) -> list[Line]:
        """The lines beside the sign of a merge."""
        notes = self.captions.box(part).notes if part.kind == "merge" else ()
        return [[Words(note, NOTE, self.theme.muted)] for note in notes]

    def colours(self, part: Part) -> tuple[str, str]:
        """Fill and border."""
        theme = self.theme
        if part.kind in ("input", "output"):
            return theme.terminal
        if part.kind == "merge":
            return theme.merge
        if (group := self.group(part)) is not None:
            return group.colour[0], self.outline(part) or group.colour[1]
        found = family(part) if part.kind == "layers" else None
        fill, border = theme.families.get(found, theme.block) if found else theme.block
        return fill, self.outline(part) or border

    def group(self, part: Part) -> Group | None:
        """The user's group in which all of a box lies."""
        return self.style.colours.group(n.path for n in part.covered) if self.style.colours.groups else None

    def colour_name(self, part: Part) -> str:
        """The legend's name for the colour of a box of layers or a folded block."""
        if (group := self.group(part)) is not None:
            return group.name
        found = family(part) if part.kind == "layers" else None
        return self.style.colours.family_names.get(found, found) if found else "block"

    def outline(self, part: Part) -> str:
        """The colour that all calls of one shared thing have; empty for others."""
        mark = self.captions.reuse(part)
        return self._shared(mark) if mark is not None else ""

    def _shared(self, number: int) -> str:
        return self.theme.shared[number % len(self.theme.shared)]

    def frame(self, level: int, part: Part | None = None) -> dict[str, str]:
        """The attributes of the frame of a part, or of an inset, but for its heading."""
        theme = self.theme
        looks = {"fillcolor": theme.frames[level % 2], "penwidth": "1", "tooltip": " "}
        if part is not None and part.kind == "windows":  # with sharp corners, as the pieces of a map have
            fill, border = theme.families["windows"]
            return looks | {"style": "filled", "fillcolor": fill, "color": border, "penwidth": "1.4"}
        border = theme.text if part is not None and part.count > 1 else theme.frame_border
        outline = self.outline(part) if part is not None else ""
        looks |= {"color": outline, "penwidth": "2.2"} if outline else {"color": border}
        return looks | {"style": "rounded,filled,dashed" if part is None or part.kind == "repeat" else "rounded,filled"}

    def title(self, heading: str, *, bold: bool = False) -> Words:
        """The heading of a frame."""
        return Words(heading, HEADING, self.theme.muted, bold)

    # ------------------------------------------------------------ arrows

    def arrow(self, edge: Edge) -> dict[str, str]:
        """The attributes of an arrow, but for its label."""
        theme = self.theme
        looks: dict[str, str] = {
            "flow": {"color": theme.line},
            "identity": {"color": theme.skip, "penwidth": "1.6"},
            "skip": {"color": theme.skip, "penwidth": "1.6"},
            "dense": {"style": "dotted", "color": theme.dense, "penwidth": "1.6"},
            "projection": {"style": "dashed", "color": theme.projection, "penwidth": "1.6"},
        }[edge.kind]
        looks["color"] = ":".join([looks["color"]] * strokes(edge))
        return looks | ({"arrowhead": "none"} if edge.head.kind == "entry" else {})

    def sizes(self, picture: Picture, *, skips: bool = False) -> dict[Edge, list[Line]]:
        """The labels of the arrows that carry one: where the size is another than what flowed into the tail, once a
        tail.

        With `skips`, every skip carries one, too.
        """
        found: dict[Edge, list[str]] = {}
        has_sizes = self.captions.detail.sizes
        labelled: set[Part] = set()
        for edge in picture.edges:
            several = len(edge.streams) > 1
            if skips and edge.is_skip and has_sizes:
                found[edge] = self.captions.edge(edge)
            elif edge.tail in labelled or edge.is_skip:
                continue
            elif has_sizes and self._changes(edge):
                found[edge] = self.captions.given(edge)
                labelled.add(edge.tail)
            elif several and edge.tail.kind != "entry":
                found[edge] = [f"{len(edge.streams)} tensors"]
                labelled.add(edge.tail)
            if edge in found and edge.tail.name:
                found[edge] = [edge.tail.name, *found[edge]]
        return {edge: [[Words(text, NOTE, self.theme.muted)] for text in texts] for edge, texts in found.items()}

    def _changes(self, edge: Edge) -> bool:
        if edge.kind != "flow" or edge.tail.kind in ("input", "block") or edge.head.kind in ("output", "entry"):
            return False  # their boxes have the size, or the arrow continues
        if edge.tail.kind == "entry":
            return not edge.tail.inner
        node = drawn(edge.tail.nodes)[0]
        return not node.inputs or [self.captions.size(node.inputs[0])] != self.captions.given(edge)

    # ------------------------------------------------------------ legend

    def heading(self) -> list[Line]:
        """The lines below the picture: the network's name, and its costs."""
        detail = self.captions.detail
        name, *facts = self.captions.summary()
        lines: list[Line] = [[Words(text, NOTE, self.theme.text)] for text in broken(detail.caption, self.width)]
        if detail.title:
            lines.append([Words(name, TITLE, self.theme.text, True)])
            lines += [[Words(text, NOTE, self.theme.text)] for fact in facts for text in broken(fact, self.width)]
        for text in self.unopened if detail.legend else ():
            lines += [[Words(t, NOTE, self.theme.muted)] for t in broken(f"not opened: {text}", self.width)]
        return lines

    def legend(self, pictures: Iterable[Picture]) -> list[Entry]:
        """An entry for each colour and kind of arrow in the pictures."""
        if not self.captions.detail.legend:
            return []
        theme, shown = self.theme, list(pictures)
        parts = [part for picture in shown for part in picture.boxes()]
        groups = dict.fromkeys(g for p in parts if p.kind in ("layers", "block") and (g := self.group(p)) is not None)
        own = [p for p in parts if self.group(p) is None] if groups else parts
        families = {family(p) for p in own if p.kind == "layers"}
        families |= {"windows" for picture in shown for p in picture.walk() if p.kind == "windows"}
        called = self.style.colours.family_names
        named: list[tuple[str, tuple[str, str]]] = [
            (called.get(f, f), theme.families[f]) for f in get_args(Family) if f in families
        ]
        named += [(group.name, group.colour) for group in groups]
        if any(p.kind == "block" for p in own):
            named.append(("block", theme.block))
        reused = {mark for picture in shown for p in picture.walk() if (mark := self.captions.reuse(p)) is not None}
        texts = self.captions.reuses() if reused else []
        named += [(texts[mark], (theme.background, self._shared(mark))) for mark in sorted(reused)]
        entries = [Entry(Words(name, NOTE, theme.muted), *colours) for name, colours in named]
        kinds = {edge.kind for picture in shown for edge in picture.edges}
        strokes: tuple[tuple[EdgeKind, str, str, str], ...] = (
            ("identity", "identity skip", "—", theme.skip),
            ("skip", "skip, concatenated", "—", theme.skip),
            ("dense", "dense connection", "····", theme.dense),
            ("projection", "projection skip", "– –", theme.projection),
        )
        for kind, name, sign, color in strokes:
            if kind in kinds:
                stroke = Words(sign, NOTE, color, True)
                entries.append(Entry(Words(name, NOTE, theme.muted), sign=stroke, kind=kind))
        left_out = dict.fromkeys(n.operation.name for part in parts for n in self.captions.left_out(part))
        entries += [Entry(Words(f"not shown: {', '.join(left_out)}", NOTE, theme.muted))] if left_out else []
        return entries
