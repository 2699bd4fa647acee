"""Rotary positions of queries and keys, recognised by their sines and cosines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import isqrt

import torch

from archdsl.runtime.importing.attending import heads_of
from archdsl.runtime.importing.fixed import computed_by, is_like
from archdsl.runtime.importing.functions import argument
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, Constant, Derived, Owned, Value
from archdsl.runtime.importing.views import View

TEMPERATURES = (10000.0, 100.0, 1000.0, 50.0, 20.0)
"""Those that published networks use."""
COUNTED = "counted"
"""The positions that are the default."""


def turned(layouts: Layouts, call: Call) -> None:
    """timm's `apply_rot_embed_cat(x, sines and cosines, half)`, where x is [N, heads, T, C]. Raises NoOperation."""
    tensor, given = call.arguments[:2]
    halves = bool(argument(call, 2, "half", False))
    if not isinstance(tensor, Value):
        raise NoOperation("rotary positions of a tensor that is not computed from the input")
    numbers = numbers_of(layouts, given)
    view = layouts.view(tensor)
    heads = heads_of(view)
    base = view.base
    if heads.around or numbers is None or numbers.ndim != 2:
        raise NoOperation("rotary positions that are learned, or differ between samples or heads")
    found = said(numbers, base.shapes[0][2:], halves)
    if found is None:
        raise NoOperation("rotary positions by other angles than position · temperature^(-j / n)")
    sizes, temperature, positions = found
    arguments: dict[str, object] = {"heads": heads.count}
    arguments |= {} if temperature == TEMPERATURES[0] else {"temperature": temperature}
    arguments |= {"pairs": "halves"} if halves else {}
    arguments |= {} if positions == COUNTED else {"positions": positions}
    if sizes == base.shapes[0][2:]:
        made = Value([*base.shapes])
        layouts.add(Item("rotary", arguments, [base], [made]))
    elif any(shape[2:] != base.shapes[0][2:] for shape in base.shapes):
        raise NoOperation("rotary positions of tokens whose number depends on the size of the input")
    else:
        on_map, after = (Value([(*shape[:2], *sizes) for shape in base.shapes]) for _ in range(2))
        layouts.add(Item("maps", {"to": sizes}, [base], [on_map]))
        layouts.add(Item("rotary", arguments, [on_map], [after]))
        made = Value([*base.shapes])
        layouts.add(Item("tokens", {}, [after], [made]))
    layouts.views[call.results[0]] = View(made, view.axes)


def numbers_of(layouts: Layouts, given: object) -> torch.Tensor | None:
    if isinstance(given, Owned) and not layouts.is_kept(given.key):
        return layouts.numbers(given.key).reshape(given.shape)
    return given.numbers if isinstance(given, Constant | Derived) else None


def said(numbers: torch.Tensor, sizes: tuple[int, ...], halves: bool) -> tuple[tuple[int, ...], float, str] | None:
    """The sizes of the map, the temperature and the kind of positions that give these sines, followed by these cosines.

    None if none do.
    """
    count, each = numbers.shape[0], numbers.shape[1] // 2
    pairs = each // 2
    for size in planes(count, sizes):
        if each % (2 * len(size)):
            continue
        # (1, 0) becomes (cosine, sine) in each pair.
        one = torch.zeros(1, each, *size)
        places = slice(0, pairs) if halves else slice(0, None, 2)
        one[:, places] = 1
        given = {"heads": 1, "pairs": "halves" if halves else "neighbours"}
        for positions, temperature in product((COUNTED, "centred"), TEMPERATURES):
            turned_by = {**given, "temperature": temperature, "positions": positions}
            result = computed_by("rotary", turned_by, one)[0].flatten(1).T
            sines = result[:, pairs:] if halves else result[:, 1::2]
            cosines = result[:, places]
            theirs = [part[:, places] for part in numbers.chunk(2, 1)]
            if is_like(theirs[0], sines) and is_like(theirs[1], cosines):
                return size, temperature, positions
    return None


def planes(count: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The sizes that a map of so many positions may have, the likeliest first; in the end that of a row."""
    if len(sizes) > 1:
        yield sizes
        return
    for height in sorted((n for n in range(1, count + 1) if count % n == 0), key=lambda n: abs(n - isqrt(count))):
        yield height, count // height
    yield (count,)
