"""Paddings, which a negative amount makes crops, and rolls, which `regions` makes shifts of windows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules import padding

from archdsl.runtime.importing.aligning import is_up_to
from archdsl.runtime.importing.functions import PerRun, argument
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.merging import whole_number
from archdsl.runtime.importing.moves import emit, moves, one_of, sliced
from archdsl.runtime.importing.recorded import Call, Value
from archdsl.runtime.importing.regions import ROLL
from archdsl.runtime.importing.settling import shapes_of
from archdsl.runtime.importing.views import Order, permuted, sizes_of, whole

PADS: dict[type[nn.Module], str] = {
    padding._ConstantPadNd: "constant",
    padding._ReflectionPadNd: "reflect",
    padding._ReplicationPadNd: "replicate",
    padding._CircularPadNd: "circular",
}
"""The mode of each layer that pads; those with zeros pad with a constant, too."""
PAD_MODES = {"constant": "zeros", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


@moves("pad")
def pad(layouts: Layouts, call: Call) -> None:
    """Positions added before and behind each axis; negative ones are cut off."""
    amounts = [argument(call, 1, "pad", ())]
    if call.module is None and (call.again or call.again_named):
        amounts.append(call.again[1] if len(call.again) > 1 else call.again_named["pad"])
    mode, value = argument(call, 2, "mode", "constant"), argument(call, 3, "value", 0)
    if (layer := call.module) is not None:
        amounts, value = [layer.padding], getattr(layer, "value", 0)
        mode = next(mode for cls, mode in PADS.items() if isinstance(layer, cls))
    if mode == "constant" and not value and is_up_to(call):
        layouts.padded[call.results[0]] = call
        return
    grows = any(n > 0 for given in amounts for n in given)  # what cuts off may undo a padding, as behind windows
    if call.by_sizes and grows and len({shape[1:] for shape in call.inputs[0].shapes}) > 1:
        raise NoOperation(
            "`pad` by amounts that depend on the size of another tensor; the language has `align(pad)`, which pads "
            "half of the difference before each axis, and the rest behind"
        )
    if all(n == 0 for given in amounts for n in given):
        layouts.same(call.results[0], call.inputs[0])
        return
    base, order = layouts.place(call.inputs[0])
    ends: list[list[tuple[int, int]]] = []
    for given in amounts:
        pairs = [(0, 0)] * (len(order) + 1)
        for axis in range(len(given) // 2):
            pairs[-1 - axis] = (given[2 * axis], given[2 * axis + 1])
        ends.append([pairs[1 + order.index(axis)] for axis in range(len(order))])
        if pairs[0] != (0, 0):
            raise NoOperation("`pad` of the batch")
    if value == float("-inf") and ends.count(ends[0]) == len(ends) and ends[0][0] == (0, 0):
        layouts.lowered[call.results[0]] = (base, tuple(ends[0][1:]))
        layouts.views[call.results[0]] = layouts.view(call.results[0])
        return
    if with_number(layouts, call, base, order, ends, mode, value or 0):
        return
    lowest_end = min(n for pairs in ends for pair in pairs for n in pair)
    if (value or 0) != 0 or mode not in PAD_MODES or any(pairs[0] != (0, 0) for pairs in ends):
        raise NoOperation(
            f"`pad` by {list(amounts[0])}; the language pads positions, with zeros or by their neighbours"
        )
    if lowest_end < 0:
        base, ends = cropped(layouts, base, ends)
        if not any(n for pairs in ends for pair in pairs for n in pair):
            layouts.views[call.results[0]] = permuted(whole(base), (0, *(axis + 1 for axis in order)))
            return
    before, after = (numbers([tuple(pair[end] for pair in pairs[1:]) for pairs in ends]) for end in (0, 1))
    arguments: dict[str, object] = {"n": before, **({} if before == after else {"after": after})}
    if mode != "constant":
        arguments["mode"] = PAD_MODES[mode]
    emit(layouts, "pad", arguments, [base], [layouts.made(call.results[0], order)])


def with_number(
    layouts: Layouts,
    call: Call,
    base: Value,
    order: Order,
    ends: list[list[tuple[int, int]]],
    mode: str,
    value: float,
) -> bool:
    """Whether a padding is of one axis with a number, or of the channels; it is put together then.

    A part of the tensor, of which nothing is left but its size, makes what is added.
    """
    added = [(axis, pair) for axis, pair in enumerate(ends[0]) if pair != (0, 0)]
    alike = ends.count(ends[0]) == len(ends) and mode == "constant" and len(added) == 1
    if not alike or (value == 0 and added[0][0] > 0):
        return False
    (along, pair), sizes = added[0], sizes_of(base)
    if min(pair) < 0 or any(n < max(pair) for n in sizes[1 + along]):
        return False
    parts = []
    for count in pair:
        if count:
            given: dict[str, object] = {"start": 0, "stop": count, **({"axis": along} if along else {})}
            size = shapes_of([*sizes[: 1 + along], (count,) * len(sizes[0]), *sizes[2 + along :]])
            cut, made = Value(size, base.dtype), Value(size, base.dtype)
            emit(layouts, "slice", given, [base], [cut])
            emit(layouts, "rescale", {"scale": 0, **({"offset": whole_number(value)} if value else {})}, [cut], [made])
            parts.append(made)
    where = parts[:1] if pair[0] else []
    behind = parts[-1:] if pair[1] else []
    result = layouts.made(call.results[0], order)
    emit(layouts, "concat", {"axis": along} if along else {}, [*where, base, *behind], [result])
    return True


def cropped(
    layouts: Layouts, base: Value, ends: list[list[tuple[int, int]]]
) -> tuple[Value, list[list[tuple[int, int]]]]:
    """A map without what negative paddings cut off, and the other paddings."""
    cut = [[(max(-a, 0), max(-b, 0)) for a, b in pairs] for pairs in ends]
    if cut.count(cut[0]) != len(cut):
        return cut_behind(layouts, base, cut), [[(max(a, 0), max(b, 0)) for a, b in pairs] for pairs in ends]
    sizes = [tuple(n - sum(pair) for n in numbers) for numbers, pair in zip(sizes_of(base)[1:], cut[0], strict=True)]
    made = Value(shapes_of([sizes_of(base)[0], *sizes]), base.dtype)
    before, after = (one_of(tuple(pair[end] for pair in cut[0][1:])) for end in (0, 1))
    emit(layouts, "crop", {"n": before, **({} if before == after else {"after": after})}, [base], [made])
    return made, [[(max(a, 0), max(b, 0)) for a, b in pairs] for pairs in ends]


def cut_behind(layouts: Layouts, base: Value, cut: list[list[tuple[int, int]]]) -> Value:
    """A map without what is cut off behind each axis: by slices up to sizes that depend on that of the input."""
    if any(before for pairs in cut for before, _ in pairs):
        raise NoOperation("a crop that depends on the size of the input")
    for axis in range(1, len(cut[0])):
        now = sizes_of(base)[axis + 1]
        stops = [n - pairs[axis][1] for n, pairs in zip(now, cut, strict=True)]
        base = sliced(layouts, whole(base), axis + 1, slice(0, stops[0]), slice(0, stops[-1])).base
    return base


def numbers(runs: Sequence[tuple[int, ...]]) -> object:
    """A number for each axis, or one for all; PerRun if it differs between runs."""
    if len(set(runs)) > 1:
        return PerRun(n for run in runs for n in run)
    return runs[0][0] if len(set(runs[0])) == 1 else runs[0]


@moves("roll")
def roll(layouts: Layouts, call: Call) -> None:
    """A map whose positions move on, and come in on the other side; see `regions`."""
    base, order = layouts.place(call.inputs[0])
    moved, axes = argument(call, 1, "shifts"), argument(call, 2, "dims")
    given = zip(moved, axes, strict=True) if isinstance(axes, tuple) else [(moved, axes)]
    shifts = [0] * len(order)
    for amount, axis in given:
        if axis % (len(order) + 1) == 0:
            raise NoOperation("`roll` of the batch")
        shifts[order[axis % (len(order) + 1) - 1]] = amount
    if shifts[0]:
        raise NoOperation("`roll` of the channels")
    made = layouts.made(call.results[0], order)
    emit(layouts, ROLL, {"shifts": tuple(shifts[1:])}, [base], [made])
    layouts.rolled.add(made)
