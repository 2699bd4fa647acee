"""The page: a network to walk through, one self-contained HTML file that asks nothing of a network.

Graphviz lays out the inside of every block once, with all that stands in it folded. The browser makes each state of
folding from these layouts: where a block is opened, the picture around it is stretched until its inside fits, which
keeps the order that Graphviz found and lets no boxes meet.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from archdsl.backends.diagram.captions import Captions, family
from archdsl.backends.diagram.choose import BUDGET, CROWD, encoder_decoder, everything, gathered, level, overview, whole
from archdsl.backends.diagram.dot import Layered, Style, Writer
from archdsl.backends.diagram.fixed import measure, spline
from archdsl.backends.diagram.labels import LONGEST_LINE, Line
from archdsl.backends.diagram.picture import LIGHT, Edge, Folder, Part, Picture, boxes, picture
from archdsl.backends.diagram.render import layouts
from archdsl.backends.diagram.rows import Rows
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.theme import Theme
from archdsl.backends.diagram.ushape import lay_out
from archdsl.diagnostics import visible
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.layers import Layers, Options

Data: TypeAlias = dict[str, Any]

STATIC = Path(__file__).with_name("static")

ROOM = 0.7
"""Inches around a point of entry, so that arrows to several stay apart."""


@dataclass(slots=True, eq=False)
class View:
    """One picture of the page: the network, or the inside of a block.

    `times` are the nodes of each repetition that it stands for, the first the one that is drawn. `inside` has the view
    of each box that can be opened.
    """

    picture: Picture
    times: list[list[Node]]
    depth: int
    scope: Scope | None = None
    count: int = 1
    """How often the box that opens stands in its own picture."""
    inside: dict[Part, int] = field(default_factory=dict)


def write_page(graph: Graph, style: Style, sizes: Mapping[str, int] | None = None, depth: int | None = None) -> str:
    """The page's text. `depth` is how many levels are open at first. Raises DrawingError."""
    layers = Layers(graph, Options({**graph.examples, **(sizes or {})}, wide=True))
    captions = Captions(graph, layers.costs, sizes)
    writer = _Blank(captions, style)
    book = _Book(graph, writer)
    rows = Rows(graph, layers)
    name, facts = captions.summary()
    data = {
        "name": visible(name),
        "facts": facts,
        "down": style.direction == "down",
        "roots": book.roots(depth),
        "views": book.views(rows),
        "rows": rows.data,
        "sources": [{"name": visible(Path(s.name).name), "lines": s.text.splitlines()} for s in rows.sources],
        "families": _legend(book, writer),
    }
    return fill(visible(name), data, style.theme)


# ---------------------------------------------------------------- pictures and what is inside


class _Blank(Writer):
    """Boxes without words, whose room is reckoned: the browser writes, in a font that Graphviz does not know."""

    def box(self, part: Part) -> dict[str, str]:
        if part.kind in ("entry", "exit"):
            return {"label": "", "shape": "point", "width": "0.08"}
        width, height = measure(self, part)
        looks = {"label": "", "shape": "box", "fixedsize": "true", "width": inches(width), "height": inches(height)}
        return looks | ({"shape": "circle"} if part.kind == "merge" else {})


def inches(points: float) -> str:
    return f"{points / 72:.4f}"


class _Book:
    """All views of a network, each reached from the one before by opening a box."""

    def __init__(self, graph: Graph, writer: Writer) -> None:
        self.graph = graph
        self.writer = writer
        self.folder = Folder(graph, Structure(graph))
        self.pages: list[View] = []
        self._folds: dict[Scope, list[Part]] = {}
        self.u = encoder_decoder(self.folder, writer.captions.analysis)
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
        inside = [t for t in edge.tensors if t.node in place]
        if len(inside) == len(edge.tensors):
            more = [Tensor(time[place[t.node]].id, t.index) for time in view.times for t in inside]
            return replace(edge, tensors=tuple(dict.fromkeys((*edge.tensors, *more))))
        entries = [self.folder.structure.entries(time) for time in view.times]
        return replace(
            edge, tensors=tuple(dict.fromkeys((*edge.tensors, *(t for e in entries if len(e) == 1 for t in e))))
        )

    def _open(self, view: View) -> None:
        for box in view.picture.boxes():
            if box.kind != "block":
                continue
            parts = self._contents(box)
            if len(boxes(parts)) < 2 and parts[0].kind != "block":
                continue
            size = len(box.nodes)
            covered = sorted(box.covered, key=lambda n: n.id)
            times = [covered[i : i + size] for i in range(0, len(covered), size)]
            inside = self._inside(parts, box.scope)
            view.inside[box] = self._add(View(inside, times, view.depth + 1, box.scope, box.count))

    def _contents(self, box: Part) -> list[Part]:
        if box.scope is not None and set(self.folder.nodes(box.scope)) == set(box.nodes):
            return self._short(self.folder.fold(box.scope, lambda _: False))
        nodes = set(box.nodes)  # gathered, without a scope
        scope = self._around(box.nodes)
        if scope not in self._folds:
            self._folds[scope] = self.folder.fold(scope, lambda _: False)
        parts = self._folds[scope]
        return self._short([p for p in parts if set(p.nodes) <= nodes])

    def _around(self, nodes: Sequence[Node]) -> Scope:
        """The innermost scope around all of the nodes."""
        shared = [set(n.scope.calls()) for n in (nodes[0], nodes[-1])]
        return next(s for s in nodes[0].scope.calls() if s in shared[1] and set(nodes) <= set(self.folder.nodes(s)))

    def _inside(self, parts: list[Part], scope: Scope | None) -> Picture:
        return picture(self.graph, parts, self.folder.structure, scope or self.graph.root)

    def _short(self, parts: list[Part]) -> list[Part]:
        """The parts, gathered where there are too many to lay out."""
        if len(boxes(parts)) <= CROWD:
            return parts
        found = gathered(self.folder, parts)
        if 2 < len(boxes(found)) <= CROWD:
            return found
        inputs, rest = ([p for p in parts if (p.kind == "input") is wanted] for wanted in (True, False))
        step = -(-len(rest) // BUDGET)
        runs = [rest[i : i + step] for i in range(0, len(rest), step)]
        return inputs + [run[0] if len(run) == 1 else Part("block", [tuple(everything(run))]) for run in runs]

    # ------------------------------------------------------------ as data

    def views(self, rows: Rows) -> list[Data]:
        layered = [v for v in self.pages if self.u is None or v is not self.pages[0]]
        found = layouts([self._dot(v.picture) for v in layered])
        data = [_layered(v, layout, self.writer, rows) for v, layout in zip(layered, found, strict=True)]
        if self.u is not None:
            data.insert(0, self._u_shaped(rows))
        for view, entry in zip(self.pages, data, strict=True):
            entry["depth"] = view.depth
            entry["heading"] = self._heading(view)
        return data

    def _heading(self, view: View) -> str:
        if view.scope is self.graph.root:
            return ""
        if view.scope is None:
            return f"{len(view.times[0])} operations"
        part = Part("open", [()] * view.count, view.scope, inner=len(view.times) > 1)
        return visible(self.writer.captions.frame(part))[:LONGEST_LINE]

    def _dot(self, shown: Picture) -> str:
        down = self.writer.style.direction == "down"
        dot = self.writer.new(rankdir="TB" if down else "LR", nodesep="0.3", ranksep="0.2")
        Layered(shown, self.writer, "").write(dot, shown.parts, None, 0)
        return str(dot.source)

    def _u_shaped(self, rows: Rows) -> Data:
        assert self.u is not None
        flat, u = self.u
        layout = lay_out(u, flat, lambda part: measure(self.writer, part))
        left, bottom, right, top = layout.bounds()
        sized = self.writer.sizes(flat, skips=True)
        flip = Flip(left - 10, top + 10)
        view = self.pages[0]
        found = []
        for part in flat.boxes():
            width, height = layout.sizes[part]
            x, y = flip(*layout.places[part])
            found.append(_box(view, part, (x - width / 2, y - height / 2, width, height), self.writer, rows))
        names = {part: i for i, part in enumerate(flat.boxes())}
        edges = [
            {
                "from": names[e.tail],
                "to": names[e.head],
                "kind": e.kind,
                "head": True,
                "way": flip.all(spline(layout.routes[e])),
                "tensors": _tensors(e),
            }
            for e in flat.edges
        ]
        for edge, lines in sized.items():
            x, y = flip(*layout.labels[edge])
            found.append(_size(lines, (x, y, sum(w.width for w in lines[0]), 12.0)))
        return {"w": right - left + 20, "h": top - bottom + 20, "boxes": found, "frames": [], "edges": edges}


# ---------------------------------------------------------------- views as data


@dataclass(frozen=True, slots=True)
class Flip:
    """From Graphviz's coordinates, y upwards, to the browser's."""

    left: float
    top: float

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        return x - self.left, self.top - y

    def all(self, spline: str) -> list[float]:
        """The Bézier points of a Graphviz's spline, its head as the last; one number after the other."""
        tip: list[float] = []
        points: list[float] = []
        for piece in spline.split():
            *mark, x, y = piece.split(",")
            at = [round(v, 1) for v in self(float(x), float(y))]
            if mark == ["e"]:
                tip = at
            elif not mark:
                points += at
        return points + tip


def _layered(view: View, layout: Data, writer: Writer, rows: Rows) -> Data:
    """A view where Graphviz has put everything."""
    left, _, right, top = map(float, layout["bb"].split(","))
    bottom = float(layout["bb"].split(",")[1])
    flip = Flip(left, top)
    objects = layout.get("objects", [])
    by_name = {o["name"]: o for o in objects}
    parts = {part.id: part for top_part in view.picture.parts for part in top_part.walk()}
    labels = {edge.tail.id: lines for edge, lines in writer.sizes(view.picture).items()}
    found: list[Data] = []
    index: dict[str, int] = {}
    for thing in objects:
        if "pos" not in thing:
            continue
        name = thing["name"]
        x, y = flip(*map(float, thing["pos"].split(",")))
        w, h = (72 * float(thing[k]) for k in ("width", "height"))
        index[name] = len(found)
        if name in parts:
            found.append(_box(view, parts[name], (x - w / 2, y - h / 2, w, h), writer, rows))
        else:
            found.append(_size(labels[name.removesuffix("_size")], (x, y, w, h)))
    frames = []
    for part in parts.values():
        if part.children and f"cluster_{part.id}" in by_name:
            x1, y1, x2, y2 = map(float, by_name[f"cluster_{part.id}"]["bb"].split(","))
            x, y = flip(x1, y2)
            frames.append({**_rect(x, y, x2 - x1, y2 - y1), "text": visible(writer.captions.frame(part))})
    arrows = {(e.tail.id, e.head.id): e for e in view.picture.edges}
    sized = {e.tail.id: e for e in writer.sizes(view.picture)}
    edges = []
    for thing in layout.get("edges", []):
        tail, head = (objects[thing[end]]["name"] for end in ("tail", "head"))
        source, target = tail.removesuffix("_size"), head.removesuffix("_size")
        edge = sized[source] if head.endswith("_size") else arrows[source, target]
        edges.append(
            {
                "from": index[tail],
                "to": index[head],
                "kind": edge.kind,
                "head": thing.get("arrowhead") != "none",
                "way": flip.all(thing["pos"]),
                "tensors": _tensors(edge),
            }
        )
    return {"w": right - left, "h": top - bottom, "boxes": found, "frames": frames, "edges": edges}


def _rect(x: float, y: float, w: float, h: float) -> Data:
    return {"x": round(x, 1), "y": round(y, 1), "w": round(w, 1), "h": round(h, 1)}


def _tensors(edge: Edge) -> list[str]:
    return [f"{t.node}.{t.index}" for t in edge.tensors[:1]]


def _size(lines: Sequence[Line], at: tuple[float, float, float, float]) -> Data:
    x, y, w, h = at
    return {**_rect(x - w / 2, y - h / 2, w, h), "kind": "size", "lines": _words(lines)}


def _box(view: View, part: Part, at: tuple[float, float, float, float], writer: Writer, rows: Rows) -> Data:
    box = {**_rect(*at), "kind": part.kind}
    if part.kind in ("entry", "exit"):
        edges = [e for e in view.picture.edges if part in (e.tail, e.head)]
        return {**box, "tensors": [t for e in edges for t in _tensors(e)]}
    box["lines"] = _words(writer.lines(part))
    fill, border = writer.colours(part)
    box |= {"fill": fill, "border": border}
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
    lead = next((n for n in part.nodes if n.operation.family not in LIGHT), None) if part.kind == "layers" else None
    box["lead"] = rows.of(lead) if lead is not None else box["main"]
    return box


def _words(lines: Iterable[Line]) -> list[list[list[object]]]:
    """Lines of pieces: text, size, whether bold, colour."""
    return [[[_short_text(w.text), w.size, int(w.bold), w.color] for w in line] for line in lines]


def _short_text(text: str) -> str:
    text = visible(text)
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"


def _legend(book: _Book, writer: Writer) -> list[list[str]]:
    """Name, fill and border of each family that is somewhere in the network."""
    entries = writer.legend(v.picture for v in book.pages)
    return [[e.name.text, e.fill, e.border] for e in entries if e.sign is None]


# ---------------------------------------------------------------- the file


def fill(title: str, data: Data, theme: Theme) -> str:
    """The page with its texts, colours and data in place. What a spec says is data, which no markup can leave."""
    script = (STATIC / "page.js").read_text("utf-8")
    colours = {
        "background": theme.background,
        "text": theme.text,
        "muted": theme.muted,
        "line": theme.line,
        "skip": theme.skip,
        "projection": theme.projection,
        "frame": theme.frames[0],
        "frame2": theme.frames[1],
        "border": theme.frame_border,
        "block": theme.block[0],
    }
    variables = "".join(f"--{name}:{colour};" for name, colour in colours.items())
    css = f":root{{{variables}}}\n" + (STATIC / "page.css").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(css)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    values: dict[str, Callable[[], str]] = {
        "title": lambda: html.escape(title),
        "policy": lambda: html.escape(policy),
        "css": lambda: css,
        "js": lambda: script,
        "data": lambda: text,
    }
    template = (STATIC / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]](), template)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
