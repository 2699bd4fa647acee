"""The page: a network to walk through, one self-contained HTML file that loads nothing.

Graphviz lays out the inside of every block once, with all that is in it folded. The browser makes each state of
folding from these layouts: where a block is opened, the picture around it is stretched until its inside fits, which
keeps the order that Graphviz found, and boxes apart.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from archdsl.backends.diagram.arrows import picture
from archdsl.backends.diagram.captions import Captions, family
from archdsl.backends.diagram.dot import Writer
from archdsl.backends.diagram.labels import Line, cut
from archdsl.backends.diagram.layered import lay_out as lay_out_layered
from archdsl.backends.diagram.layout import Box, Layout, Point, meet
from archdsl.backends.diagram.opening import (
    CROWD,
    encoder_decoder,
    evenly,
    gathered,
    level,
    overview,
    runs_joined,
    whole,
)
from archdsl.backends.diagram.picture import Edge, Folder, Part, Picture, boxes, main_node
from archdsl.backends.diagram.rows import Rows
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.theme import DARK, LIGHT, Theme
from archdsl.backends.diagram.ulayout import in_columns
from archdsl.common.escaping import json_in_html, visible
from archdsl.graph import Node, Scope, Tensor
from archdsl.report.layers import Layers, Options

if TYPE_CHECKING:
    from archdsl.backends.diagram.drawing import Diagram

Data: TypeAlias = dict[str, Any]

STATIC = Path(__file__).with_name("static")

SCRIPTS = (
    *("data", "state", "layout", "drawing", "arrows", "choice", "moving"),
    *("keyboard", "header", "panes", "table", "spec", "saving", "start"),
)
"""The files of `static/page` that are the page's script, together: they share their names."""

BORDER = 4.0
"""Points around a view, in which arrows at its side keep their width."""


@dataclass(slots=True, eq=False)
class View:
    """One picture of the page: the network, or the inside of a block.

    `times` are the nodes of each repetition that it shows, the first the one that is drawn. `inside` has the view
    of each box that can be opened.
    """

    picture: Picture
    times: list[list[Node]]
    depth: int
    scope: Scope | None = None
    count: int = 1
    """The repetitions of the box that opens, in its own picture."""
    inside: dict[Part, int] = field(default_factory=dict)


def html(diagram: Diagram) -> bytes:
    """The page of a graph's diagram. Raises DrawingError, and ValueError for a comparison or matrix."""
    if (request := diagram.request) is None:
        raise ValueError("a comparison has no page; draw it as .svg")
    if request.matrix is not None:
        raise ValueError("a matrix has no page; draw it as .svg")
    graph, sizes, style = request.graph, request.sizes, request.looks
    layers = Layers(graph, Options({**graph.examples, **(sizes or {})}, wide=True))
    folder = Folder(graph, Structure(graph))
    captions = Captions(folder.structure, layers.costs, sizes)
    writer = Writer(captions, style)
    book = _Book(folder, writer)
    rows = Rows(graph, layers)
    name, facts = captions.summary()
    data = {
        "name": visible(name),
        "facts": facts,
        "down": style.direction == "down",
        "roots": book.roots(request.depth),
        "views": book.views(rows),
        "rows": rows.data,
        "details": rows.details,
        "sources": [{"name": visible(Path(s.name).name), "lines": s.text.splitlines()} for s in rows.sources],
        **_legend(book, writer),
        **({"dark": _likes(LIGHT, DARK)} if style.theme == LIGHT else {}),
    }
    return fill(visible(name), data, style.theme, diagram.panel.html() if diagram.panel else "").encode()


# ---------------------------------------------------------------- pictures and what is inside


class _Book:
    """All views of a network, each reached from the one before by opening a box."""

    def __init__(self, folder: Folder, writer: Writer) -> None:
        self.graph = graph = folder.graph
        self.writer = writer
        self.folder = folder
        self.pages: list[View] = []
        self._folds: dict[Scope, list[Part]] = {}
        found = encoder_decoder(self.folder, writer.captions.analysis)
        self.u = found[:2] if found is not None else None
        all_nodes = [list(graph.nodes())]
        if self.u is not None:
            self._add(View(self.u[0], all_nodes, 0))
        parts = self._short(self.folder.fold(graph.root, lambda _: False))
        self.blocks = self._add(View(whole(self.folder, parts), all_nodes, 0, graph.root))
        at = 0
        while at < len(self.pages):
            self._open(self.pages[at])
            at += 1

    def roots(self, depth: int | None) -> list[Data]:
        """The pictures to begin with, and which views are open in them at first."""
        found: list[Data] = []
        if self.u is not None:
            found.append({"name": "U", "view": 0, "open": []})
        chosen = overview(self.folder)

        def opened(view: View) -> bool:
            if view.scope is None:
                return False
            return level(view.scope) <= depth if depth is not None else chosen(view.scope)

        start = [i for i, v in enumerate(self.pages) if i > self.blocks and opened(v)]
        found.append({"name": "blocks", "view": self.blocks, "open": start})
        return found if depth is None else found[::-1]

    def _add(self, view: View) -> int:
        """Takes a view up, its boxes and arrows standing for all its repetitions."""
        place = {n.id: i for i, n in enumerate(view.times[0])}
        if len(view.times) > 1:
            for box in view.picture.boxes():
                box.covered = [t[place[n.id]] for t in view.times for n in box.covered]
                box.inner = True
            view.picture = replace(view.picture, edges=tuple(self._spread(view, e, place) for e in view.picture.edges))
        self.pages.append(view)
        return len(self.pages) - 1

    def _spread(self, view: View, edge: Edge, place: Mapping[int, int]) -> Edge:
        entries = [self.folder.structure.entries(time) for time in view.times]
        outside = [t for e in entries if len(e) == 1 for t in e]

        def spread(stream: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if all(t.node in place for t in stream):
                more = [Tensor(time[place[t.node]].id, t.index) for time in view.times for t in stream]
            else:
                more = outside
            return tuple(dict.fromkeys((*stream, *more)))

        return replace(edge, streams=tuple(map(spread, edge.streams)))

    def _open(self, view: View) -> None:
        for box in view.picture.boxes():
            if box.kind != "block":
                continue
            parts = self._contents(box)
            if len(boxes(parts)) < 2 and parts[0].kind != "block":
                continue
            inside = picture(self.graph, parts, self.folder.structure, box.scope, () if box.scope else box.nodes)
            view.inside[box] = self._add(View(inside, box.rounds(), view.depth + 1, box.scope, box.count))

    def _contents(self, box: Part) -> list[Part]:
        if box.scope is not None and set(self.folder.nodes(box.scope)) == set(box.nodes):
            return self._short(self.folder.fold(box.scope, lambda _: False))
        nodes = set(box.nodes)  # gathered, without a scope
        scope = self._around(box.nodes)
        if scope not in self._folds:
            self._folds[scope] = self.folder.fold(scope, lambda _: False)
        parts = self._folds[scope]
        # A part without nodes is an output of the network, which no gathered box holds.
        return self._short([p for p in parts if p.nodes and set(p.nodes) <= nodes])

    def _around(self, nodes: Sequence[Node]) -> Scope:
        """The innermost scope around all of the nodes."""
        shared = [set(n.scope.calls()) for n in (nodes[0], nodes[-1])]
        return next(s for s in nodes[0].scope.calls() if s in shared[1] and set(nodes) <= set(self.folder.nodes(s)))

    def _short(self, parts: list[Part]) -> list[Part]:
        """The parts, gathered where there are too many to lay out."""
        if len(boxes(parts)) <= CROWD:
            return parts
        found = gathered(self.folder, parts)
        if 2 < len(boxes(found)) <= CROWD:
            return found
        return runs_joined(parts, evenly)

    # ------------------------------------------------------------ as data

    def views(self, rows: Rows) -> list[Data]:
        found = lay_out_layered(
            [v.picture for v in self.pages if self.u is None or v.picture is not self.u[0]], self.writer
        )
        if self.u is not None:
            flat, u = self.u
            found.insert(0, in_columns(u, flat, self.writer.measure, self.writer.sizes(flat, skips=True)))
        data = [_view(v, layout, self.writer, rows) for v, layout in zip(self.pages, found, strict=True)]
        for view, entry in zip(self.pages, data, strict=True):
            entry["depth"] = view.depth
            entry["heading"] = self._heading(view)
        return data

    def _heading(self, view: View) -> str:
        if view.scope is self.graph.root:
            return ""
        if view.scope is None:
            return f"{len(view.times[0])} operations"
        part = Part("open", [tuple(view.times[0])] * view.count, view.scope, inner=len(view.times) > 1)
        heading = self.writer.captions.frame(part)
        if view.count > 1 and view.count == len(view.times):  # which ones it shows in one
            first, last = (self._around(nodes).path for nodes in (view.times[0], view.times[-1]))
            heading += f": {first} … {last}" if first != last else ""
        return cut(heading)


# ---------------------------------------------------------------- views as data


def _view(view: View, layout: Layout, writer: Writer, rows: Rows) -> Data:
    """A view where its layout has put everything; y grows downwards."""
    left, bottom, right, top = layout.bounds()
    left, bottom, right, top = left - BORDER, bottom - BORDER, right + BORDER, top + BORDER

    def rect(box: Box) -> Data:
        x1, y1, x2, y2 = box
        return {"x": round(x1 - left, 1), "y": round(top - y2, 1), "w": round(x2 - x1, 1), "h": round(y2 - y1, 1)}

    def flat(points: Sequence[Point]) -> list[float]:
        return [round(v, 1) for x, y in points for v in (x - left, top - y)]

    parts = view.picture.boxes()
    index = {part: i for i, part in enumerate(parts)}
    rooms = {part: layout.box(part) for part in parts}
    found = [rect(rooms[part]) | _box(view, part, writer, rows) for part in parts]
    for edge, label in layout.labels.items():
        room = label.box
        size = rect(room) | {"kind": "size", "lines": _words(label.lines)}
        x1, y1, x2, y2 = rooms[edge.tail]
        beside = meet(room, (x1 - 3, y1 - 3, x2 + 3, y2 + 3))
        found.append(size | ({"of": index[edge.tail]} if beside else {}))
    frames = [rect(box) | _frame(part, writer) for part, box in layout.frames.items()]
    edges = [
        {
            "from": index[edge.tail],
            "to": index[edge.head],
            "kind": "identity" if edge.kind == "skip" else edge.kind,
            "head": edge.head.kind != "entry",
            **({"corners": flat(c)} if (c := layout.corners.get(edge)) else {"way": flat(layout.routes[edge])}),
            "tensors": _tensors(edge),
        }
        for edge in view.picture.edges
    ]
    return {"w": right - left, "h": top - bottom, "boxes": found, "frames": frames, "edges": edges}


def _frame(part: Part, writer: Writer) -> Data:
    """The heading of a frame, and its colours where it has its own."""
    found: Data = {"text": visible(writer.captions.frame(part))}
    looks = writer.frame(0, part)
    if part.kind == "windows":
        return found | {"fill": looks["fillcolor"], "border": looks["color"]}
    return found | ({"border": outline} if (outline := writer.outline(part)) else {})


def _tensors(edge: Edge) -> list[str]:
    return [f"{t.node}.{t.index}" for stream in edge.streams for t in stream]


def _box(view: View, part: Part, writer: Writer, rows: Rows) -> Data:
    box: Data = {"kind": part.kind}
    if part.kind in ("entry", "exit"):
        edges = [e for e in view.picture.edges if part in (e.tail, e.head)]
        return {**box, "tensors": [t for e in edges for t in _tensors(e)]}
    box["lines"] = _words(writer.lines(part))
    fill, border = writer.colours(part)
    box |= {"fill": fill, "border": border}
    if outline := writer.outline(part):
        box["shared"] = outline
    if part.count > 1:
        box["count"] = part.count
    if part.kind == "merge" and (notes := writer.captions.box(part).notes):
        box["note"] = ", ".join(map(visible, notes))
    found = family(part) if part.kind == "layers" else None
    if found:
        box["family"] = found
    if part in view.inside:
        box["inside"] = view.inside[part]
    nodes = part.covered or ([view.picture.graph.node(part.output.tensor)] if part.output else [])
    box["rows"] = rows.ranges(nodes)
    box["main"] = rows.main(part, nodes)
    box["lead"] = rows.of(main_node(part.nodes)) if part.kind == "layers" else box["main"]
    return box


def _words(lines: Iterable[Line]) -> list[list[list[object]]]:
    """Lines of pieces: text, size, whether bold, colour."""
    return [[[cut(w.text), w.size, int(w.bold), w.color] for w in line] for line in lines]


def _legend(book: _Book, writer: Writer) -> dict[str, list[list[str]]]:
    """Name, fill and border of each family that is somewhere in the network; name and kind of each arrow."""
    entries = writer.legend(v.picture for v in book.pages)
    return {
        "families": [[e.name.text, e.fill, e.border] for e in entries if e.sign is None],
        "arrows": [[e.name.text, e.kind] for e in entries if e.sign is not None],
    }


# ---------------------------------------------------------------- the file


def _script() -> str:
    """The page's script: its files within one function, so that no name of theirs is the page's."""
    parts = [(STATIC / "page" / f"{name}.js").read_text("utf-8") for name in SCRIPTS]
    return "\n".join(['"use strict";', "(() => {", *parts, "})();", ""])


def fill(title: str, data: Data, theme: Theme, panel: str = "") -> str:
    """The page with its texts, colours and data in place. Text of a spec is data, and never becomes markup."""
    script = _script()
    night = f"@media (prefers-color-scheme: dark){{:root{{{_variables(DARK)}}}}}\n" if theme == LIGHT else ""
    css = f":root{{{_variables(theme)}}}\n{night}" + (STATIC / "page.css").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(css)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    values = {
        "title": escape(title),
        "policy": escape(policy),
        "css": css,
        "js": script,
        "data": json_in_html(data),
        "panel": f'<section id="augment" aria-label="Augmentation">\n{panel}\n</section>' if panel else "",
    }
    template = (STATIC / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _variables(theme: Theme) -> str:
    """The colours of a theme for the page's style."""
    colours = {
        "background": theme.background,
        "text": theme.text,
        "muted": theme.muted,
        "line": theme.line,
        "skip": theme.skip,
        "projection": theme.projection,
        "dense": theme.dense,
        "frame": theme.frames[0],
        "frame2": theme.frames[1],
        "border": theme.frame_border,
        "block": theme.block[0],
    }
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def _likes(light: Theme, dark: Theme) -> dict[str, str]:
    """The dark theme's colour for each of the light one's."""
    pairs = [(light.background, dark.background), (light.frame_border, dark.frame_border)]
    pairs += [*zip(light.frames, dark.frames, strict=True), *zip(light.shared, dark.shared, strict=False)]
    for name in ("terminal", "merge", "block"):
        pairs += zip(getattr(light, name), getattr(dark, name), strict=True)
    for name, colours in light.families.items():
        pairs += zip(colours, dark.families[name], strict=True)
    pairs += [(light.muted, dark.muted), (light.text, dark.text)]
    return dict(pairs)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
