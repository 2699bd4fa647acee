"""A view as a tensor of the network: the operations that move its numbers, `tokens`, `maps`, `flatten` and others."""

from __future__ import annotations

from collections.abc import Callable

from archdsl.runtime.importing.functions import SizeOf
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Value
from archdsl.runtime.importing.views import (
    Atom,
    Axis,
    Numbers,
    View,
    axis_of,
    is_complete,
    is_one,
    merged,
    order_of,
    parts_of,
    placed,
    product,
    sizes_of,
    times,
    whole,
)


def shapes_of(sizes: list[Numbers]) -> list[tuple[int, ...]]:
    """Sizes of axes as a shape for each run."""
    return [*zip(*sizes, strict=True)]


class Settling:
    """Makes tensors of views; `items` get what that takes, `inside` the cut in which each tensor is.

    `maps` gets the map of each tensor that has its positions in a row.
    """

    def __init__(self, items: list[Item], inside: dict[Value, Item], maps: dict[Value, Value] | None = None) -> None:
        self.items, self.inside, self.maps = items, inside, {} if maps is None else maps

    def settled(self, view: View, *, anyhow: bool = True) -> View | None:
        """A view that only permutes axes.

        `anyhow`: also by a general reshape; otherwise the view may also be one of windows whose positions are in a
        row, since shifted windows have no `tokens`. None if there is no way.
        """
        steps: list[Callable[[Settling, View], View | None]] = [maps, cut, join, flat, shuffled]
        kept: View | None = None
        known = len(self.items)
        for _ in range(8):
            if order_of(view) is not None:
                return view
            ways = [*steps, tokens] if anyhow or view.base not in self.inside else steps
            done = next(((way, found) for way in ways if (found := way(self, view)) is not None), None)
            if done is None:
                break
            way, view = done
            if way in (cut, join):
                kept, known = view, len(self.items)
        if anyhow:
            return general(self, view)
        del self.items[known:]
        return kept

    def make(self, operation: str, arguments: dict[str, object], base: Value, sizes: list[Numbers]) -> Value:
        """The result of a new item, with these sizes."""
        value = Value(shapes_of(sizes), base.dtype)
        self.items.append(Item(operation, arguments, [base], [value]))
        if base in self.inside:
            self.inside[value] = self.inside[base]
        return value


def positions(base: Value) -> Axis:
    """All positions of a tensor in a row."""
    return tuple(atom for axis in range(2, len(base.shapes[0])) for atom in axis_of(base, axis))


def maps(settling: Settling, view: View) -> View | None:
    """A row of tokens whose positions are counted by several axes."""
    base = view.base
    if len(base.shapes[0]) != 3 or not is_complete(view, 2) or len(parts := parts_of(view, 2)) < 2:
        return None
    batch, channels, _ = sizes_of(base)
    to = [part.sizes for part in parts]
    moved = {part: Atom(2 + i, part.sizes, (1,) * len(part.sizes)) for i, part in enumerate(parts)}
    if (known := settling.maps.get(base)) is not None and sizes_of(known)[2:] == to:  # the map that it was
        return placed(view, known, moved)
    same = all(len(set(size)) == 1 for size in to)
    arguments: dict[str, object] = {"to": tuple(size[0] for size in to) if same else SizeOf(shapes_of(to))}
    made = settling.make("maps", arguments, base, [batch, channels, *to])
    return placed(view, made, moved)


def tokens(settling: Settling, view: View) -> View | None:
    """Positions in a row, with the channels before or behind."""
    base = view.base
    row, channels = positions(base), axis_of(base, 1)
    if len(view.axes) != 3 or len(base.shapes[0]) < 4 or view.axes[0] != axis_of(base, 0):
        return None
    if sorted(view.axes[1:], key=len) != sorted((row, channels), key=len):
        return None
    is_first = view.axes[1] == channels
    batch, many, *rest = sizes_of(base)
    made = settling.make("tokens", {}, base, [batch, many, product(rest, len(batch))])
    settling.maps[made] = base
    found = whole(made)
    return found if is_first else View(made, (found.axes[0], found.axes[2], found.axes[1]))


def flat(settling: Settling, view: View) -> View | None:
    """All numbers of a sample in a row."""
    base = view.base
    if len(view.axes) != 2 or view.axes[0] != axis_of(base, 0):
        return None
    if view.axes[1] != (*axis_of(base, 1), *positions(base)):
        return None
    batch, *rest = sizes_of(base)
    return whole(settling.make("flatten", {}, base, [batch, product(rest, len(batch))]))


def shuffled(settling: Settling, view: View) -> View | None:
    """Interleaved groups of channels."""
    base = view.base
    at = next((i for i, axis in enumerate(view.axes) if len(axis) == 2 and {a.axis for a in axis} == {1}), None)
    if at is None or not is_complete(view, 1):
        return None
    groups = view.axes[at][1].sizes
    plain = View(base, (*view.axes[:at], axis_of(base, 1), *view.axes[at + 1 :]))
    if len(set(groups)) > 1 or order_of(plain) is None:
        return None
    made = settling.make("channel_shuffle", {"groups": groups[0]}, base, sizes_of(base))
    return View(made, plain.axes)


# ---------------------------------------------------------------- windows


def cut(settling: Settling, view: View) -> View | None:
    """A map in windows, which the batch counts, or in grids."""
    base = view.base
    ahead = [atom for atom in view.axes[0] if atom.axis != 0]
    rank = len(base.shapes[0]) - 2
    if not ahead or view.axes[0][:1] != axis_of(base, 0) or [a.axis for a in ahead] != sorted({a.axis for a in ahead}):
        return None
    if any(atom.axis < 2 or not is_complete(view, atom.axis) for atom in ahead):
        return None
    sizes, moved, kinds = [], {}, set()
    for axis in range(2, 2 + rank):
        parts = parts_of(view, axis)
        counts = [atom for atom in ahead if atom.axis == axis]
        inner = [atom for atom in parts if atom not in counts]
        if len(inner) > 1:
            return None
        size = inner[0].sizes if inner else (1,) * len(base.shapes)
        if counts:
            kinds.add("windows" if counts == parts[:1] else "grid")
        if inner:
            moved[inner[0]] = Atom(axis, size, (1,) * len(size))
        sizes.append(size)
    if len(kinds) != 1 or any(len(set(size)) > 1 for size in sizes) or all(map(is_one, sizes)):
        return None
    batch, channels, *_ = sizes_of(base)
    many = times(batch, product([atom.sizes for atom in ahead], len(batch)))
    size = tuple(n[0] for n in sizes)
    arguments: dict[str, object] = {"size": size[0] if len(set(size)) == 1 else size}
    made = settling.make(kinds.pop(), arguments, base, [many, channels, *sizes])
    settling.inside[made] = settling.items[-1]
    found = placed(View(base, ((), *view.axes[1:])), made, moved)
    return View(made, (axis_of(made, 0), *found.axes[1:]))


JOIN = "join"
"""The operation of an item that puts windows together, which a spec does not name."""


def join(settling: Settling, view: View) -> View | None:
    """Windows that are put together: the counts of the batch and the positions in a window are one axis."""
    base = view.base
    opened = settling.inside.get(base)
    whole_map = opened.inputs[0] if opened is not None else None
    if opened is None or whole_map is None or view.axes[0] == axis_of(base, 0) or not is_complete(view, 0):
        return None
    first, *counts = parts_of(view, 0)
    if view.axes[0] != (first,) or first.sizes != sizes_of(whole_map)[0]:
        return None
    if [*map(len, base.shapes)] != [*map(len, whole_map.shapes)]:
        return None
    axes: list[Axis] = [axis_of(whole_map, 0)]
    channels = sizes_of(base)[1]
    sizes = [first.sizes, channels, *sizes_of(whole_map)[2:]]
    joined = Value(shapes_of(sizes), base.dtype)
    for axis in view.axes[1:]:
        if axis == axis_of(base, 1):
            axes.append(axis_of(joined, 1))
            continue
        known = next((n for n in range(2, len(sizes)) if axis == together(base, n, sizes[n], counts, opened)), None)
        if known is None:
            return None
        axes.append(axis_of(joined, known))
    settling.items.append(Item(JOIN, {}, [base], [joined]))
    if whole_map in settling.inside:
        settling.inside[joined] = settling.inside[whole_map]
    return View(joined, tuple(axes))


def together(base: Value, axis: int, size: Numbers, counts: list[Atom], opened: Item) -> Axis | None:
    """An axis of the map: how many windows there are along it, and the positions in one of them."""
    here = axis_of(base, axis)
    inner = here[0].sizes if here else (1,) * len(size)
    if inner == size:
        return here
    before = [axis_of(opened.inputs[0], n) for n in range(2, axis)]
    skipped = sum(1 for n, one in enumerate(before, 2) if one != () and one[0].sizes != sizes_of(base)[n])
    if skipped >= len(counts):
        return None
    count = counts[skipped]
    return merged((count, *here)) if opened.operation == "windows" else merged((*here, count))


# ---------------------------------------------------------------- anything else


def general(settling: Settling, view: View) -> View | None:
    """A reshape, a permutation and a reshape; for sizes that depend on no free one."""
    base = view.base
    if view.axes[0] != axis_of(base, 0):
        return None
    parts = [parts_of(view, axis) for axis in range(1, len(base.shapes[0]))]
    if not all(is_complete(view, axis) for axis in range(len(base.shapes[0]))):
        return None
    split = [part for row in parts for part in row]
    wanted = [atom for axis in view.axes[1:] for atom in axis]
    batch = sizes_of(base)[0]
    now = base
    if split != wanted and [part.sizes for part in split] != sizes_of(base)[1:]:
        now = fixed(settling, now, [part.sizes for part in split], batch)
    if split != wanted:
        axes = tuple(split.index(atom) for atom in wanted)
        now = settling.make("permute", {"axes": axes}, now, [batch, *(atom.sizes for atom in wanted)])
    after = view.sizes[1:]
    if after != sizes_of(now)[1:]:
        now = fixed(settling, now, after, batch)
    return whole(now)


def fixed(settling: Settling, base: Value, sizes: list[Numbers], batch: Numbers) -> Value:
    """A tensor in another shape. Raises NoOperation if that depends on a free size."""
    if any(len(set(size)) > 1 for size in sizes):
        raise NoOperation("a reshape whose sizes depend on those of the input")
    made = tuple(size[0] for size in sizes) or (1,)
    return settling.make("reshape", {"sizes": made}, base, [batch, *(sizes or [(1,) * len(batch)])])
