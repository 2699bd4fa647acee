"""Encoder-decoder networks, recognised by their resolutions: they are drawn as a U whose skips run straight across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log2, prod

from archdsl.analysis.costs import Analysis
from archdsl.backends.diagram.picture import Edge, Part, Picture


@dataclass(frozen=True, slots=True)
class U:
    """The path of a network down to its coarsest resolution and up again.

    `down` and `up` are the boxes of the `trunk` at each level of resolution, in the order of the network; `steps_down`
    and `steps_up` those that lead to the level below, or come from it; `bottom` those at the coarsest level. `gates`
    are boxes on a skip, by its two ends; `aside` are outputs beside the trunk, by the box before.
    """

    trunk: list[Part]
    down: dict[int, list[Part]] = field(default_factory=dict)
    up: dict[int, list[Part]] = field(default_factory=dict)
    steps_down: dict[int, list[Part]] = field(default_factory=dict)
    steps_up: dict[int, list[Part]] = field(default_factory=dict)
    bottom: list[Part] = field(default_factory=list)
    skips: list[Edge] = field(default_factory=list)
    gates: dict[Part, tuple[Part, Part]] = field(default_factory=dict)
    aside: dict[Part, Part] = field(default_factory=dict)

    def crossings(self) -> list[tuple[Part, Part]]:
        """The ends of all skips, with and without a gate."""
        return [(e.tail, e.head) for e in self.skips] + list(self.gates.values())

    def rows(self) -> list[tuple[list[Part], list[Part]]]:
        """The boxes beside each other above the bottom, from the top: at most one on each side."""
        found = []
        for level in sorted({*self.down, *self.up, *self.steps_down, *self.steps_up}):
            found += self._rows_of(level)
            left, right = self.steps_down.get(level, []), self.steps_up.get(level, [])[::-1]
            found += [(left[i : i + 1], right[i : i + 1]) for i in range(max(len(left), len(right)))]
        return found

    def _rows_of(self, level: int) -> list[tuple[list[Part], list[Part]]]:
        """The rows of a level. Its skip lies in one; the left column is read downwards, the right one upwards."""
        down, up = self.down.get(level, []), self.up.get(level, [])
        tail, head = next(((t, h) for t, h in self.crossings() if t in down and h in up), (None, None))
        at_left = down.index(tail) if tail is not None else len(down) - 1
        at_right = up.index(head) if head is not None else 0
        above = max(at_left, len(up) - 1 - at_right, 0)
        below = max(len(down) - 1 - at_left, at_right)
        found = []
        for row in range(-above, below + 1):
            left, right = at_left + row, at_right - row
            pair = (down[left : left + 1] if left >= 0 else [], up[right : right + 1] if right >= 0 else [])
            if any(pair):
                found.append(pair)
        return found


def recognise(picture: Picture, analysis: Analysis) -> U | None:
    """The U of a picture without frames, None for one of another form."""
    trunk = _trunk(picture)
    edges = {(e.tail, e.head): e for e in picture.edges}
    areas = [_area(analysis, edges[pair]) for pair in pairwise(trunk)]
    if len(trunk) < 5 or any(a is None for a in areas):
        return None
    # A level for each part: that of its result.
    levels = [0]
    for before, after in pairwise([areas[0], *areas]):
        assert before is not None and after is not None
        levels.append(levels[-1] + round(before - after))
    levels = [*levels[1:], levels[-1]]
    coarsest = max(levels)
    first, last = levels.index(coarsest), len(levels) - 1 - levels[::-1].index(coarsest)
    falling = all(a <= b for a, b in pairwise(levels[: first + 1]))
    rising = all(a >= b for a, b in pairwise(levels[last:]))
    if not (falling and rising and set(levels[first : last + 1]) == {coarsest}):
        return None
    if coarsest < 2 or levels[0] != 0 or levels[-1] > coarsest - 2:
        return None
    u = U(trunk)
    for i, part in enumerate(trunk):
        into = levels[i - 1] if i else 0
        if levels[i] > into:
            u.steps_down.setdefault(into, []).append(part)
        elif levels[i] < into:
            u.steps_up.setdefault(levels[i], []).append(part)
        elif levels[i] == coarsest:
            u.bottom.append(part)
        else:
            (u.down if i < first else u.up).setdefault(levels[i], []).append(part)
    return u if _add_skips(u, picture, levels, (first, last)) else None


def _trunk(picture: Picture) -> list[Part]:
    """The longest path through the picture; of two equally long ones the one without the gate of a skip."""
    trunk = picture.trunk()
    before, after = picture.neighbours()
    for i in range(1, len(trunk) - 1):
        tail, gate, head = trunk[i - 1 : i + 2]
        if len(before[gate]) == 2 and after[gate] == [head]:
            others = (p for p in after[tail] if p is not gate and before[p] == [tail] and after.get(p) == [head])
            trunk[i] = next(others, gate)
    return trunk


def _area(analysis: Analysis, edge: Edge) -> float | None:
    """The logarithm of the mean side of an arrow's tensor, None for one without sides."""
    sides = analysis.shape(edge.tensors[-1])[1:]
    return log2(prod(sides)) / len(sides) if sides and all(sides) else None


def _add_skips(u: U, picture: Picture, levels: Sequence[int], bottom: tuple[int, int]) -> bool:
    """Adds all that is not on the trunk; whether that is nothing but skips, one at most levels.

    `levels` are those of the parts of the trunk, `bottom` the first and last place at the coarsest.
    """
    place = {part: i for i, part in enumerate(u.trunk)}
    before, after = picture.neighbours()
    for part in picture.boxes():
        if part in place:
            continue
        tails, heads = before.get(part, []), after.get(part, [])
        if part.kind == "output" and all(t in place and place[t] > bottom[1] for t in tails):
            u.aside[part] = tails[0]
        elif len(heads) == 1 and heads[0] in place and (tail := _gated(tails, place, bottom)) is not None:
            u.gates[part] = (tail, heads[0])
        else:
            return False

    def spans(tail: Part, head: Part) -> bool:
        return place[tail] < bottom[0] and place[head] > bottom[1]

    if not all(spans(*ends) for ends in u.gates.values()):
        return False
    u.skips.extend(e for e in picture.edges if e.tail in place and e.head in place and spans(e.tail, e.head))
    joined = {levels[place[t]] for t, h in u.crossings() if levels[place[t]] == levels[place[h]]}
    return len(joined) >= max(2, max(levels) - 1)


def _gated(tails: Sequence[Part], place: Mapping[Part, int], bottom: tuple[int, int]) -> Part | None:
    """Where the skip begins that leads through a box: the only one of its tails that is on the path down; None for a
    box that is on no skip."""
    if any(tail not in place for tail in tails):
        return None
    down = [tail for tail in tails if place[tail] < bottom[0]]
    return down[0] if len(down) == 1 and len(tails) <= 2 else None
