"""How far a diagram is opened if no depth is given: an overview that fits a page, with folded blocks
shown once beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from archdsl.analysis.costs import Analysis
from archdsl.backends.diagram.arrows import picture
from archdsl.backends.diagram.captions import name_of, sole
from archdsl.backends.diagram.grid import rows_of
from archdsl.backends.diagram.picture import Folder, Part, Picture, boxes
from archdsl.backends.diagram.ushape import U, recognise
from archdsl.graph import Node, Scope, Tensor

T = TypeVar("T")

BUDGET = 30
"""The most boxes of a diagram without a given depth."""

LENGTH = 20
"""The most boxes on a path through such a diagram, a frame counted as one."""

LONGER, HIDDEN = 1.8, 0.6
"""How much more a page may show, in columns, of a network of which one folded block would hide so much."""

U_BUDGET = 36
"""The most boxes of a U, whose two columns share the height."""

U_LENGTH = 21
"""The most rows to which a U is opened."""

CROWD = 60
"""From how many boxes on a network that has no blocks to fold is gathered by resolution."""

INSET_BUDGET = 14
"""The most boxes of a folded block's inset."""

LARGER = 2
"""How many times as many boxes an inset may have that would else not be opened at all, and in which branches meet."""

MOST_INSETS = 16
"""The most insets that are thought of for a page."""


def level(scope: Scope) -> int:
    """The number of scopes around a scope: 1 for the model's own blocks."""
    return sum(1 for _ in scope.calls()) - 1


def kind(scope: Scope) -> tuple[object, ...]:
    """The key of scopes that are opened together: the calls of one block, the bodies in one."""
    if scope.definition is not None and scope.kind == "block":
        return (scope.definition.syntax.span,)
    inner = scope.parent is not None and scope.parent.kind != "model"
    return (*(kind(scope.parent) if scope.parent else ()), "body" if inner else scope.name)


@dataclass(frozen=True, slots=True)
class Opened:
    """Which scopes are open: those of some kinds."""

    kinds: frozenset[tuple[object, ...]]

    def __call__(self, scope: Scope) -> bool:
        return kind(scope) in self.kinds


def overview(folder: Folder, share: float = 1.0) -> Callable[[Scope], bool]:
    """Which scopes to open: outer ones first, costly ones before cheap ones, while the picture fits a page, or a share
    of one; more where all but a few boxes would be one block."""

    def opened_within(room: float) -> tuple[Callable[[Scope], bool], Picture | None]:
        def fits(parts: list[Part]) -> Picture | None:
            found = whole(folder, parts)
            frames = sum(1 for part in found.parts for p in part.walk() if p.children)
            fit = len(found.boxes()) <= room * BUDGET and len(found.trunk()) + frames <= room * LENGTH
            return found if fit else None

        return open_while(folder, fits)

    opened, found = opened_within(share)
    if share == 1.0 and found is not None and _hides_all(found):
        opened, _ = opened_within(LONGER)
    return opened


def _hides_all(picture: Picture) -> bool:
    """Whether one folded block of a picture has most of the network's layers."""
    counts = [sum(len(time) for time in box.times) for box in picture.boxes() if box.kind == "block"]
    return max(counts, default=0) > HIDDEN * sum(1 for _ in picture.graph.nodes())


def encoder_decoder(folder: Folder, analysis: Analysis) -> tuple[Picture, U, Callable[[Scope], bool]] | None:
    """The picture of a network that goes down in resolution and up again, and what is open in it; None for another.

    It is as far open as fits a page.
    """

    found_one = False

    def fits(parts: list[Part]) -> tuple[Picture, U | None] | None:
        nonlocal found_one
        row = folder.joined(boxes(parts))
        if len(row) > U_BUDGET or any(p.count > 1 and p.children for part in parts for p in part.walk()):
            return None
        flat = whole(folder, row)
        u = recognise(flat, analysis)
        if found_one and (u is None or len(u.rows()) >= U_LENGTH):
            return None
        found_one = found_one or u is not None
        return flat, u

    opened, found = open_while(folder, fits)
    return (found[0], found[1], opened) if found is not None and found[1] is not None else None


def streams(folder: Folder, analysis: Analysis, share: float = 1.0) -> tuple[Picture, Callable[[Scope], bool]] | None:
    """The picture without frames of a network that keeps several resolutions at once, and what is open in it; None for
    another.

    It is as far open as fits a page, or a share of one. What is shared stays folded: its box says so.
    """
    shared = {called.path for called in folder.structure.reused}
    folded, found_one = True, False

    def fits(parts: list[Part]) -> Picture | None:
        nonlocal folded, found_one
        if any(p.kind == "open" and p.scope is not None and p.scope.path in shared for q in parts for p in q.walk()):
            return None
        flat = whole(folder, folder.joined(unframed(parts)))
        on_grid = rows_of(flat, analysis) is not None
        if (found_one and not on_grid) or (not folded and len(flat.boxes()) > share * BUDGET):
            return None
        folded, found_one = False, found_one or on_grid
        return flat

    opened, found = open_while(folder, fits)
    return (found, opened) if found is not None and found_one else None


def as_volumes(folder: Folder, analysis: Analysis, depth: int | None) -> tuple[Picture, U | None]:
    """The picture without frames that is drawn as volumes, and its U where it has one."""
    found = encoder_decoder(folder, analysis) if depth is None else None
    if found is not None:
        return found[:2]

    def opened(scope: Scope) -> bool:
        return level(scope) <= depth if depth is not None else chosen(scope)

    chosen = overview(folder)
    flat = whole(folder, folder.joined(unframed(gathered(folder, folder.whole(opened)))))
    framed = any(part.children for part in flat.parts)
    return flat, None if framed else recognise(flat, analysis)


def unframed(parts: list[Part]) -> list[Part]:
    """The parts without the frames that only name what they hold: those of repetitions and windows stay."""
    found: list[Part] = []
    for part in parts:
        part.children = unframed(part.children)
        found += part.children if part.kind == "open" and part.count == 1 and part.children else [part]
    return found


def whole(folder: Folder, parts: list[Part]) -> Picture:
    """The picture of a whole network, from its inputs to its outputs."""
    outputs = [Part("output", [()], output=output) for output in folder.graph.outputs]
    return picture(folder.graph, parts + outputs, folder.structure)


def open_while(folder: Folder, fits: Callable[[list[Part]], T | None]) -> tuple[Callable[[Scope], bool], T | None]:
    """Opens kinds of scopes, outer ones first, large ones before small ones, leaving closed what `fits` refuses.

    Gives which scopes are open, and what `fits` made of the last state that it took.
    """
    opened: set[tuple[object, ...]] = set()
    refused: set[tuple[object, ...]] = set()

    def fold(kinds: set[tuple[object, ...]]) -> list[Part]:
        return folder.whole(Opened(frozenset(kinds)))

    current = fold(opened)
    result = fits(fold(opened))
    while True:
        folded: dict[tuple[object, ...], tuple[int, int]] = {}
        for box in boxes(current):
            if box.kind == "block" and box.scope is not None and kind(box.scope) not in refused | opened:
                depth, size = folded.get(kind(box.scope), (1 << 30, 0))
                folded[kind(box.scope)] = (min(depth, level(box.scope)), size + sum(map(len, box.times)))
        if not folded:
            return Opened(frozenset(opened)), result
        choice = min(folded, key=lambda k: (folded[k][0], -folded[k][1]))
        trial = fits(fold(opened | {choice}))
        if trial is None:
            refused.add(choice)
        else:
            opened.add(choice)
            current, result = fold(opened), trial


@dataclass(slots=True, eq=False)
class Inset:
    """A folded block that is shown open once, beside the network; only named below it where it has no parts."""

    scope: Scope
    parts: list[Part]
    rank: tuple[int, ...]
    """The lower, the sooner it is shown."""

    @property
    def is_first(self) -> bool:
        """Whether it is the first of its kind, and something branches in it, is gated or added."""
        return self.rank[:2] == (0, False)

    @property
    def name(self) -> str:
        return name_of(self.scope)

    def picture(self, folder: Folder) -> Picture:
        return picture(folder.graph, self.parts, folder.structure, self.scope)


def insets(folder: Folder, opened: Callable[[Scope], bool], most: int = INSET_BUDGET) -> list[Inset]:
    """The blocks that stay folded, each wiring of them once, those first that teach more, of so many boxes at most.

    First comes a block of each kind in which something branches, is gated or added, then other kinds, then those that
    are wired otherwise than a block of their kind before.
    """
    shown = boxes(folder.whole(opened))
    found: dict[Hashable, Inset] = {}
    nested: set[Hashable] = set()
    """Kinds of scopes that insets show within others."""
    for box in shown:  # which grows by the boxes of the insets
        if len(found) >= MOST_INSETS or box.kind != "block" or box.scope is None or opened(box.scope):
            continue  # open: at the first call of what is shared
        scope = sole(box.scope)
        inside = [folder.fold(scope, within(scope, levels)) for levels in (1 << 30, 2, 1, 0)]
        parts = next((p for p in inside if 1 < len(boxes(p)) <= most), None)
        large = parts is None and _branches(folder, inside[-1]) and len(boxes(inside[-1])) <= LARGER * most
        if large:
            parts = inside[-1]
        repeated = scope.kind == "body"  # how often, no argument of a call says
        wiring = (
            "body" if repeated else kind(scope),
            *wired(parts or [] if repeated else inside[0], counted=repeated),
        )
        if kind(scope) in nested:
            continue
        if parts is None:
            if len(boxes(inside[-1])) > most:  # it is only named, but what it holds may be shown
                shown += boxes(inside[-1])
                found.setdefault(wiring, Inset(scope, [], (2, True, len(found))))
            continue
        if wiring in found:
            before = found[wiring]
            if not _reduces(folder, before.scope) and _reduces(folder, scope):
                found[wiring] = Inset(scope, parts, before.rank)  # where it halves the resolution, it shows how
            continue
        shown += boxes(parts)
        nested |= {kind(p.scope) for top in parts for p in top.walk() if p.kind == "open" and p.scope is not None}
        found[wiring] = Inset(scope, parts, (0, large or not _branches(folder, parts), len(found)))
    # The first of its kind is the one in which most kinds of branches meet.
    richest: dict[Hashable, list[Inset]] = {}
    for inset in sorted((i for i in found.values() if i.parts), key=lambda inset: (-_signs(inset.parts), inset.rank)):
        richest.setdefault(kind(inset.scope), []).append(inset)
    for variants_of_one in richest.values():
        for number, inset in enumerate(variants_of_one):
            inset.rank = (number, *inset.rank[1:])
    return sorted(found.values(), key=lambda inset: inset.rank)


def _branches(folder: Folder, parts: list[Part]) -> bool:
    """Whether branches meet in a block, or it gives several results."""
    return any(p.kind == "merge" for p in boxes(parts)) or len(folder.structure.results(inside_of(parts))) > 1


def _signs(parts: list[Part]) -> int:
    """In how many ways branches meet."""
    return len({p.nodes[-1].operation.name for p in boxes(parts) if p.kind == "merge"})


def inside_of(parts: Iterable[Part]) -> list[Node]:
    """All nodes of parts, in order."""
    return sorted({n for p in parts for time in p.times for n in time}, key=lambda n: n.id)


def _reduces(folder: Folder, scope: Scope) -> bool:
    """Whether a block gives a tensor of another resolution than it takes."""
    nodes = folder.nodes(scope)
    into, out = folder.structure.entries(nodes), folder.structure.results(nodes)
    return {folder.graph.shape(t)[1:] for t in into} != {folder.graph.shape(t)[1:] for t in out}


def held(folder: Folder, scope: Scope) -> str:
    """The contents of a block that is not opened, in short: `6 conv, maxpool, 3 ‖`."""
    shown = [n.operation for n in folder.nodes(scope) if n.operation.drawn and not n.operation.follows]
    counts = Counter(operation.sign or operation.name for operation in shown)
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())


def wired(parts: list[Part], *, counted: bool) -> Iterator[Hashable]:
    """The boxes of an inset; `counted`: with the number of repetitions of each, and of the frames around them."""
    for part in (p for top in parts for p in top.walk()):
        if not part.children:
            folded = part.kind == "block" and part.scope is not None
            yield kind(part.scope) if counted and folded and part.scope else tuple(n.operation.name for n in part.nodes)
        if part.kind == "windows":  # such as shifted ones
            yield part.nodes[0].operation.caption()
        if counted or not part.children:
            yield part.kind, part.count if counted else 1


def within(scope: Scope, levels: int) -> Callable[[Scope], bool]:
    """Opens what is nested in a scope, down to so many levels."""
    return lambda inner: inner.depth - scope.depth <= levels


# ---------------------------------------------------------------- specs without blocks


def gathered(folder: Folder, parts: list[Part]) -> list[Part]:
    """The parts with those of one resolution as one box each, where there are too many for a page all the same."""
    if len(boxes(parts)) <= CROWD:
        return parts

    def by_resolution(parts: list[Part]) -> list[list[Part]]:
        runs = [list(run) for _, run in groupby(parts, key=lambda p: folder.graph.shape(Tensor(p.nodes[-1].id))[1:])]
        return runs if len(runs) <= BUDGET else evenly(parts)

    return runs_joined(parts, by_resolution)


def evenly(parts: list[Part]) -> list[list[Part]]:
    """As many runs as a page has room for, of equally many parts."""
    step = -(-len(parts) // BUDGET)
    return [parts[i : i + step] for i in range(0, len(parts), step)]


def runs_joined(parts: list[Part], cut: Callable[[list[Part]], list[list[Part]]]) -> list[Part]:
    """The inputs, and a box for each run into which the other parts are cut."""
    found = [p for p in parts if p.kind == "input"]
    for run in cut([p for p in parts if p.kind != "input"]):
        nodes = sorted((n for part in run for time in part.times for n in time), key=lambda n: n.id)
        found.append(run[0] if len(run) == 1 else Part("block", [tuple(nodes)]))
    return found
