"""The picture of a comparison: both networks as one, every change marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archdsl.backends.diagram.captions import Caption, Captions
from archdsl.backends.diagram.dot import NOTE, TITLE, Style, Writer
from archdsl.backends.diagram.figure import in_columns
from archdsl.backends.diagram.fixed import Drawn
from archdsl.backends.diagram.grid import Words as GridWords
from archdsl.backends.diagram.grid import on_grid, rows_of
from archdsl.backends.diagram.labels import Entry, Line, Words, extent
from archdsl.backends.diagram.layered import lay_out
from archdsl.backends.diagram.merged import Merged, merge
from archdsl.backends.diagram.opening import level, unframed, whole
from archdsl.backends.diagram.picture import Edge, Folder, Part, Picture, boxes
from archdsl.backends.diagram.structure import Structure
from archdsl.backends.diagram.ulayout import in_columns as u_in_columns
from archdsl.backends.diagram.ushape import recognise
from archdsl.common.units import count_text
from archdsl.graph import Scope
from archdsl.report.compare import Comparison

BUDGET = 60
"""The most boxes of a picture without a given depth."""

SIGNS = {"added": "+", "removed": "\u2212", "changed": "~"}

MOST_NOTES = 4


def draw_marked(comparison: Comparison, style: Style, depth: int | None) -> tuple[Drawn, Writer]:
    """The picture of a comparison, in the layout of its networks, and its writer. Blocks without a change stay folded.

    Raises DrawingError.
    """
    found = merge(comparison)
    structure = Structure(found.graph, found.marks)
    folder = Folder(found.graph, structure)
    writer = _Writer(_Captions(structure, found, comparison), style)
    touched = {scope for i in found.marks for scope in found.graph.node(i).scope.calls()}

    def opened(scope: Scope, limit: int) -> bool:
        kinds = {found.marks[n.id].kind if n.id in found.marks else "" for n in folder.nodes(scope)}
        return scope in touched and level(scope) <= limit and kinds not in ({"added"}, {"removed"})

    def fold(limit: int) -> list[Part]:
        return folder.fold(found.graph.root, lambda scope: opened(scope, limit))

    deepest = max((level(s) for s in touched), default=0)
    limits = range(deepest, -1, -1) if depth is None else [depth]
    limit = next((limit for limit in limits if len(boxes(fold(limit))) <= BUDGET), limits[-1])
    if style.direction == "down":
        for shallower in range(limit, -1, -1) if depth is None else [limit]:
            flat = _with_ends(whole(folder, folder.joined(unframed(fold(shallower)))), found)
            if (shaped := _in_shape(flat, writer)) is not None:
                return shaped, writer
    picture = _with_ends(whole(folder, fold(limit)), found)
    return in_columns(Drawn(picture, lay_out([picture], writer)[0]), writer), writer


def _in_shape(flat: Picture, writer: Writer) -> Drawn | None:
    """A picture as a U, or on a grid, if it has that form."""
    analysis = writer.captions.analysis
    if any(part.children for part in flat.parts):
        return None
    if (u := recognise(flat, analysis)) is not None:
        return Drawn(flat, u_in_columns(u, flat, writer.measure, writer.sizes(flat, skips=True)))
    if (rows := rows_of(flat, analysis)) is not None:
        notes = {part: extent(lines) for part in flat.boxes() if (lines := writer.notes(part))}
        layout = on_grid(rows, writer.measure, GridWords(writer.sizes(rows.picture), notes))
        return Drawn(rows.picture, layout) if layout is not None else None
    return None


def _with_ends(picture: Picture, found: Merged) -> Picture:
    owner = {n.id: box for box in picture.boxes() for n in box.covered}
    known = {(e.tail, e.head) for e in picture.edges}
    more: dict[tuple[Part, Part], Edge] = {}
    for tensor, head in found.ends:
        if tensor.node not in owner or head not in owner:  # a cut of windows, which a frame shows
            continue
        pair = (owner[tensor.node], owner[head])
        if pair[0] is not pair[1] and pair not in known:
            more.setdefault(pair, Edge(*pair, "identity", ((tensor,),), is_skip=True))
    return replace(picture, edges=(*picture.edges, *more.values()))


# ---------------------------------------------------------------- words and looks


class _Captions(Captions):
    """Adds to a box its changes, and the change of its costs."""

    def __init__(self, structure: Structure, found: Merged, comparison: Comparison) -> None:
        super().__init__(structure, found.analysis, comparison.costs[1].sizes)
        self.found = found
        self.comparison = comparison

    def mark(self, part: Part) -> str:
        """`added`, `removed`, `changed`, or empty."""
        kinds = {self.found.marks[n.id].kind if n.id in self.found.marks else "" for n in part.covered}
        if kinds <= {""}:
            return ""
        return kinds.pop() if len(kinds) == 1 else "changed"

    def box(self, part: Part) -> Caption:
        caption = super().box(part)
        if part.kind == "input" and (was := self.was(part)):
            return replace(caption, notes=(*caption.notes, was))
        if part.kind in ("block", "input", "output") or not self.mark(part):
            return caption
        return replace(caption, notes=(*caption.notes, *self.news(part), *filter(None, [self.share(part)])))

    def was(self, part: Part) -> str:
        """`was 1 × 572 × 572`: the size of an input at which the costs before are counted, if it is another."""
        old, new = self.comparison.costs
        node = self.found.graph.node(part.nodes[0].id)
        pairs = ((old.graph.node(a), new.graph.node(b)) for a, b in self.comparison.pairs.items())
        before, after = next(((a, b) for a, b in pairs if b.path == node.path), (None, None))
        if before is None or after is None or old.shapes[before.id] == new.shapes[after.id]:
            return ""
        return f"was {' × '.join(map(str, old.shapes[before.id][0]))}"

    def frame(self, part: Part) -> str:
        """The heading of a frame; that of windows says what is new about what cuts them, which has no box."""
        heading = super().frame(part)
        mark = self.found.marks.get(part.nodes[0].id) if part.kind == "windows" else None
        if mark is None:
            return heading
        return " ".join([SIGNS[mark.kind], heading, *([f"({', '.join(mark.notes)})"] if mark.notes else [])])

    def news(self, part: Part) -> list[str]:
        """`kernel: 3 → 1`, `+ batchnorm`."""
        whole_part = self.mark(part)
        notes: list[str] = []
        for node in part.nodes:
            mark = self.found.marks.get(node.id)
            if mark is None:
                continue
            if mark.kind == "changed":
                single = len(part.nodes) == 1
                notes += [n if single or node.operation.name in n else f"{node.operation.name} {n}" for n in mark.notes]
            elif mark.kind != whole_part:
                notes.append(f"{SIGNS[mark.kind]} {self.operation(node)}")
        return notes if len(notes) <= MOST_NOTES else [*notes[: MOST_NOTES - 1], f"{len(notes) - MOST_NOTES + 1} more"]

    def share(self, part: Part) -> str:
        """`+590,080 params · −1.2 G MACs`."""
        found = [self.found.differences.get(n.id, (0, 0)) for n in part.covered]
        amounts = [(sum(p for p, _ in found), "params"), (sum(m for _, m in found), "MACs")]
        return " · ".join(f"{difference_text(n)} {name}" for n, name in amounts if n)

    def summary(self) -> tuple[str, str]:
        comparison = self.comparison
        old, new = (c.total for c in comparison.costs)
        facts = [
            f"{difference_text(new.parameters - old.parameters)} parameters",
            f"{difference_text(new.macs - old.macs)} MACs",
            f"{len(comparison.changes)} changes",
        ]
        return f"{comparison.before.name} → {comparison.after.name}", ", ".join(facts)


def difference_text(number: int) -> str:
    """`+9.44 M`, `±0`."""
    return f"{'+' if number > 0 else SIGNS['removed']}{count_text(abs(number))}" if number else "±0"


class _Writer(Writer):
    """Marks changes by a coloured outline and a sign; what is as it was is pale."""

    captions: _Captions

    def _found(self, part: Part) -> list[Line]:
        found = super()._found(part)
        mark = self.captions.mark(part)
        if mark and found and part.kind != "merge":
            title = self.captions.box(part).title
            found[title] = [Words(f"{SIGNS[mark]} ", TITLE, self.theme.changes[mark], True), *found[title]]
        return found

    def box(self, part: Part, size: tuple[float, float]) -> dict[str, str]:
        looks = super().box(part, size)
        mark = self.captions.mark(part)
        if mark:
            style = looks.get("style", "rounded,filled")
            looks |= {
                "color": self.theme.changes[mark],
                "penwidth": "2.4",
                "style": f"{style},dashed" if mark == "removed" else style,
            }
        return looks

    def _is_new(self, edge: Edge) -> bool:
        """Whether an arrow has the colour of a change instead of that of its kind."""
        return not {"removed", "added"}.isdisjoint((self.captions.mark(edge.tail), self.captions.mark(edge.head)))

    def arrow(self, edge: Edge) -> dict[str, str]:
        looks = super().arrow(edge)
        marks = {self.captions.mark(edge.tail), self.captions.mark(edge.head)}
        for mark in ("removed", "added"):
            if mark in marks:
                style = {"style": "dashed", "weight": "1"} if mark == "removed" else {}
                return looks | {"color": self.theme.changes[mark], "penwidth": "1.6"} | style
        return looks

    def legend(self, pictures: Sequence[Picture]) -> list[Entry]:  # type: ignore[override]
        shown = [replace(p, edges=tuple(e for e in p.edges if not self._is_new(e))) for p in pictures]
        marks = {self.captions.mark(part) for picture in shown for part in picture.boxes()}
        entries = [
            Entry(Words(mark, NOTE, self.theme.muted), sign=Words(sign, TITLE, self.theme.changes[mark], True))
            for mark, sign in SIGNS.items()
            if mark in marks
        ]
        return [*super().legend(shown), *entries]
