"""Dot text of pictures: every box, frame and arrow with its looks. Names in dot are ours (`p3`), never a spec's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import graphviz

from archdsl.backends.diagram.captions import Captions, family, times
from archdsl.backends.diagram.labels import Entry, Line, Words, label, legend_label
from archdsl.backends.diagram.picture import Edge, Part, Picture
from archdsl.backends.diagram.theme import FONT, Theme
from archdsl.diagnostics import visible
from archdsl.ops.base import Family

Direction = Literal["down", "right"]

LONGEST_TOOLTIP = 400

TITLE, NOTE = 11, 9
"""Sizes of text, in points."""


@dataclass(frozen=True, slots=True)
class Style:
    theme: Theme
    direction: Direction = "down"


class Writer:
    """Says how the parts of a picture look, in Graphviz's attributes."""

    def __init__(self, captions: Captions, style: Style) -> None:
        self.captions = captions
        self.style = style
        self.theme = style.theme

    def new(self, **attributes: str) -> graphviz.Digraph:
        """A graph with the looks that everything in it shares."""
        theme = self.theme
        dot = graphviz.Digraph(name="network")
        dot.attr(bgcolor=theme.background, fontname=FONT, fontcolor=theme.text, pad="0.2", tooltip=" ", **attributes)
        dot.attr(
            "node",
            fontname=FONT,
            fontcolor=theme.text,
            fontsize=f"{TITLE}",
            shape="box",
            style="rounded,filled",
            margin="0.12,0.05",
        )
        dot.attr("edge", fontname=FONT, fontcolor=theme.muted, fontsize=f"{NOTE}", color=theme.line, arrowsize="0.6")
        return dot

    # ------------------------------------------------------------ boxes

    def lines(self, part: Part) -> list[Line]:
        """The text in a box."""
        theme = self.theme
        if part.kind in ("entry", "exit"):
            return []
        caption = self.captions.box(part)
        if part.kind == "merge":
            sign = caption.lines[0]
            return [[Words(sign, 13 if len(sign) == 1 else NOTE, theme.text)]]
        found: list[Line] = []
        for number, line in enumerate(caption.lines):
            main = number == caption.title
            words = [Words(line, TITLE if main else NOTE, theme.text if main else theme.muted, main)]
            if main and part.count > 1:
                words.append(Words(f"   {times(part)}", TITLE, theme.text, True))
            found.append(words)
        found += [[Words(note, NOTE, theme.muted)] for note in caption.notes]
        if caption.size:
            found.append([Words(caption.size, NOTE, theme.text)])
        return found

    def box(self, part: Part) -> dict[str, str]:
        """The attributes of a box."""
        theme = self.theme
        paths = part.scope.path if part.scope else ", ".join(n.path for n in part.nodes[:8])
        looks = {"label": label(self.lines(part)), "tooltip": graphviz.escape(visible(paths[:LONGEST_TOOLTIP]) or " ")}
        if part.kind in ("entry", "exit"):
            return {
                "label": "",
                "shape": "point",
                "width": "0.08",
                "color": theme.line,
                "fillcolor": theme.line,
                "tooltip": " ",
            }
        fill, border = self.colours(part)
        looks |= {"fillcolor": fill, "color": border}
        if part.kind == "merge":
            caption = self.captions.box(part)
            width = "0.3" if len(caption.lines[0]) == 1 else "0.6"
            notes = label([[Words(note, 8, theme.muted)] for note in caption.notes])
            shape = {"shape": "circle", "fixedsize": "true", "width": width, "margin": "0", "style": "filled"}
            return looks | shape | ({"xlabel": notes} if notes else {})
        if part.kind in ("input", "output"):
            looks |= {"style": "filled", "margin": "0.2,0.05"}
        if part.kind == "block":
            looks |= {"penwidth": "1.6"}
        if part.count > 1:
            looks |= {"peripheries": "2"}
        return looks

    def colours(self, part: Part) -> tuple[str, str]:
        """Fill and border."""
        theme = self.theme
        if part.kind in ("input", "output"):
            return theme.terminal
        if part.kind == "merge":
            return theme.merge
        found = family(part) if part.kind == "layers" else None
        return theme.families.get(found, theme.block) if found else theme.block

    def frame(
        self, heading: str, level: int, *, dashed: bool = False, bold: bool = False, crossed: bool = True
    ) -> dict[str, str]:
        """The attributes of a frame; `crossed` says that an arrow comes in from above."""
        theme = self.theme
        words = [Words(heading, 10, theme.muted, bold)]
        return {
            # The arrow comes in through the middle of the upper side: the heading keeps to the left of it.
            "label": label([words], spacer=words[0].width * 1.2 if crossed else 0, padding=1) if heading else "",
            "labeljust": "l",
            "labelloc": "t",
            "style": "rounded,filled,dashed" if dashed else "rounded,filled",
            "fillcolor": theme.frames[level % 2],
            "color": theme.text if bold else theme.frame_border,
            "penwidth": "1",
            "margin": "8",
            "tooltip": " ",
        }

    # ------------------------------------------------------------ arrows

    def arrow(self, edge: Edge) -> dict[str, str]:
        """The attributes of an arrow, but for its label."""
        theme = self.theme
        looks = {
            "flow": {"weight": "10"},
            "identity": {"style": "dashed", "color": theme.skip, "weight": "0", "penwidth": "1.2"},
            "projection": {"color": theme.projection, "weight": "1", "penwidth": "1.2"},
        }[edge.kind]
        return looks | ({"arrowhead": "none"} if edge.head.kind == "entry" else {})

    def sizes(self, picture: Picture, *, skips: bool = False) -> dict[Edge, list[Line]]:
        """The labels of the arrows that carry one: where the size is another than what flowed into the tail, once a
        tail.

        With `skips`, every identity skip carries one, too.
        """
        found: dict[Edge, list[Line]] = {}
        labelled: set[Part] = set()
        for edge in picture.edges:
            flows = edge.kind == "flow" and edge.tail not in labelled and self._changes(edge)
            if flows or (skips and edge.kind == "identity"):
                if flows:
                    labelled.add(edge.tail)
                text = self.captions.edge(edge)
                if text:
                    found[edge] = [[Words(text, NOTE, self.theme.muted)]]
        return found

    def _changes(self, edge: Edge) -> bool:
        if edge.tail.kind in ("input", "block") or edge.head.kind in ("output", "entry"):
            return False  # their boxes say it, or the arrow goes on
        if edge.tail.kind == "entry":
            return not edge.tail.inner
        node = edge.tail.nodes[0]
        return not node.inputs or self.captions.size(node.inputs[0]) != self.captions.edge(edge)

    # ------------------------------------------------------------ legend

    def heading(self) -> list[Line]:
        """What stands under the picture: the network's name, and what it costs."""
        name, facts = self.captions.summary()
        return [[Words(name, TITLE, self.theme.text, True)], [Words(facts, NOTE, self.theme.text)]]

    def legend(self, pictures: Iterable[Picture]) -> list[Entry]:
        """An entry for each colour and kind of arrow in the pictures."""
        theme, shown = self.theme, list(pictures)
        parts = [part for picture in shown for part in picture.boxes()]
        families = {family(p) for p in parts if p.kind == "layers"}
        named: list[tuple[str, tuple[str, str]]] = [(f, theme.families[f]) for f in FAMILY_ORDER if f in families]
        if any(p.kind == "block" for p in parts):
            named.append(("block", theme.block))
        entries = [Entry(Words(name, NOTE, theme.muted), *colours) for name, colours in named]
        kinds = {edge.kind for picture in shown for edge in picture.edges}
        strokes = (
            ("identity", "identity skip", "╌╌", theme.skip),
            ("projection", "projection skip", "──", theme.projection),
        )
        for kind, name, sign, color in strokes:
            if kind in kinds:
                entries.append(Entry(Words(name, NOTE, theme.muted), sign=Words(sign, NOTE, color, True)))
        return entries


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


# ---------------------------------------------------------------- layered layout


def write_layered(pictures: Sequence[tuple[str, Picture]], writer: Writer) -> str:
    """The pictures side by side, for Graphviz's `dot` to lay out: the network, then insets in frames with headings."""
    dot = writer.new(
        rankdir="TB" if writer.style.direction == "down" else "LR",
        nodesep="0.3",
        ranksep="0.2",
        label=legend_label(writer.heading(), writer.legend(p for _, p in pictures)),
        labelloc="b",
        labeljust="c",
    )
    for number, (heading, picture) in enumerate(pictures):
        layered = Layered(picture, writer, f"i{number}_" if number else "")
        if number:
            with dot.subgraph(name=f"cluster_i{number}") as inset:
                inset.attr(**writer.frame(heading, 0, dashed=True, crossed=False))
                layered.write(inset, picture.parts, None, 1)
        else:
            layered.write(dot, picture.parts, None, 0)
    return str(dot.source)


class Layered:
    """Writes one picture. Each arrow stands in the innermost frame around both its ends, so that it stays inside."""

    def __init__(self, picture: Picture, writer: Writer, prefix: str) -> None:
        self.writer = writer
        self.prefix = prefix
        self.labels = writer.sizes(picture)
        trunk = picture.trunk()
        self.trunk = set(trunk)
        around: dict[Part, tuple[Part, ...]] = {}
        stack: list[tuple[Part, tuple[Part, ...]]] = [(part, ()) for part in picture.parts]
        while stack:
            part, frames = stack.pop()
            around[part] = frames
            stack += [(child, (*frames, part)) for child in part.children]
        self.home = {part: frames[-1] if frames else None for part, frames in around.items()}
        self.arrivals = Counter(edge.head for edge in picture.edges)
        self.edges: dict[Part | None, list[Edge]] = {}
        self.sized = {edge.tail: edge.tensors[0] for edge in self.labels}
        for edge in picture.edges:
            common = [a for a, b in zip(around[edge.tail], around[edge.head], strict=False) if a is b]
            self.edges.setdefault(common[-1] if common else None, []).append(edge)

    def write(self, dot: graphviz.Digraph, parts: Iterable[Part], frame: Part | None, level: int) -> None:
        writer = self.writer
        for part in parts:
            if part.children:
                with dot.subgraph(name=f"cluster_{self.prefix}{part.id}") as inner:
                    heading = writer.captions.frame(part)
                    looks = writer.frame(heading, level, dashed=part.kind == "repeat", bold=part.count > 1)
                    if any(edge.kind == "identity" for edge in self.edges.get(part, ())):
                        looks["margin"] = "24"  # dot lets an arrow bulge out of a narrower frame
                    inner.attr(**looks)
                    self.write(inner, part.children, part, level + 1)
            else:
                group = {"group": f"{self.prefix}trunk"} if part in self.trunk else {}
                dot.node(self.prefix + part.id, **writer.box(part), **group)
        for edge in self.edges.get(frame, ()):
            self._edge(dot, edge)
        for heads in self._branches(frame):
            with dot.subgraph() as row:
                row.attr(rank="same")
                for head in heads:
                    row.node(self.prefix + head.id)

    def _branches(self, frame: Part | None) -> list[list[Part]]:
        """The boxes with which branches begin that fork in one place: they stand side by side."""
        forks: dict[Part, list[Part]] = {}
        for edge in self.edges.get(frame, ()):
            if (
                self.arrivals[edge.head] == 1
                and edge.head.kind in ("layers", "block")
                and self.home[edge.head] is frame
            ):
                forks.setdefault(edge.tail, []).append(edge.head)
        return [heads for heads in forks.values() if len(heads) > 1]

    def _edge(self, dot: graphviz.Digraph, edge: Edge) -> None:
        """An arrow; its size stands on it, as a node of its own, since dot would bend the arrow around a label."""
        tail, looks = self.prefix + edge.tail.id, self.writer.arrow(edge)
        middle = f"{tail}_size"
        if edge in self.labels:
            group = {"group": f"{self.prefix}trunk"} if edge.tail in self.trunk else {}
            dot.node(middle, label=label(self.labels[edge], padding=1), shape="plain", style="", tooltip=" ", **group)
            dot.edge(tail, middle, **looks | {"arrowhead": "none"})
        # All arrows of the trunk that carry this size come from where it stands.
        carries = edge.kind == "flow" and self.sized.get(edge.tail) == edge.tensors[0]
        dot.edge(middle if carries else tail, self.prefix + edge.head.id, **looks)
