"""Attention: `scaled_dot_product_attention`, and scores that are computed step by step.

The product of queries and keys is no tensor of the language. It is kept as it is, with its scale, biases and softmax,
until it is multiplied by the values: that is one `attend`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isclose, sqrt
from typing import Any, TypeAlias

from torch import nn

from archdsl.runtime.importing.biases import bias_of
from archdsl.runtime.importing.functions import OPERATIONS_OF, argument, plain_name
from archdsl.runtime.importing.layers import NoOperation
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.matrices import matrix_product
from archdsl.runtime.importing.moves import MOVERS
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recorded import Call, Derived, Owned, Value
from archdsl.runtime.importing.settling import JOIN, Settling, cut, positions, shapes_of
from archdsl.runtime.importing.views import Atom, Axis, View, axis_of, divided, is_one, merged, product, sizes_of

Attender: TypeAlias = Callable[[Layouts, Call], None]
ATTENDERS: dict[str, Attender] = {}


def attends(*names: str) -> Callable[[Attender], Attender]:
    def add(attender: Attender) -> Attender:
        ATTENDERS.update(dict.fromkeys(names, attender))
        return attender

    return add


@dataclass(frozen=True, slots=True)
class Scores:
    """Products of queries and keys, times `scale`, plus a bias, and their softmax."""

    queries: View
    keys: View
    scale: float = 1.0
    bias: object = None
    is_softmax: bool = False
    is_cosine: bool = False
    is_turned: bool = False
    """Whether the keys come before the queries."""
    factors: Owned | None = None
    """The learned factor of each head, for cosines."""
    calls: tuple[Call, ...] = ()
    """The calls that make them."""


@dataclass(frozen=True, slots=True)
class Heads:
    """How a view [batch, heads, positions, channels of a head] divides its base.

    `around` are parts of positions that are counted before the heads: windows.
    """

    count: int
    around: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """Queries or keys of length 1 in each head, perhaps times a learned factor of each head."""

    view: View
    factors: Owned | None = None
    calls: tuple[Call, ...] = ()
    """The calls that make them."""


COSINE = "cosine"


def heads_of(view: View) -> Heads:
    """How a tensor is divided among heads. Raises NoOperation if it is not."""
    base = view.base
    if len(view.axes) < 3:
        raise NoOperation("attention of a tensor without positions")
    *leading, row, each = view.axes
    ahead = [atom for axis in leading for atom in axis]
    heads = [atom for atom in ahead if atom.axis == 1]
    batch = tuple(atom for atom in ahead if atom.axis == 0)
    around = tuple(atom for atom in ahead if atom.axis > 1)
    if tuple(ahead[: len(batch)]) != batch or batch != axis_of(base, 0):
        raise NoOperation("attention with the heads before the batch")
    if merged([*heads, *each]) != axis_of(base, 1) or len(heads) > 1 or any(atom.axis != 1 for atom in each):
        raise NoOperation("attention of tensors whose heads are no parts of the channels, one behind the other")
    if (row != positions(base) and not around) or any(atom.axis < 2 for atom in row):
        raise NoOperation("attention among other things than positions")
    if heads and len(set(heads[0].sizes)) > 1:
        raise NoOperation("attention whose heads depend on the size of the input")
    return Heads(heads[0].sizes[0] if heads else 1, around)


def divided_by_heads(layouts: Layouts, view: View) -> View:
    """A view as one of a tensor whose channels are those of the heads, one behind the other. Raises NoOperation.

    What it is a view of is arranged so, if it is not.
    """
    try:
        heads_of(view)
    except NoOperation:
        if len(view.axes) < 3 or view.axes[0] != axis_of(view.base, 0):
            raise
        *ahead, row, each = view.axes[1:]
        heads = tuple(atom for axis in ahead for atom in axis)
        found = layouts.settle(View(view.base, (view.axes[0], merged((*heads, *each)), merged(row))))
        if found is None:
            raise
        runs = len(found.base.shapes)
        base, axes = found.base, found.axes
        channels, size = (product([atom.sizes for atom in axis], runs) for axis in (heads, each))
        on = next(a for a in (1, 2) if axis_of(base, a) == axes[1])
        if on == 2:
            base = layouts.turned(base, (1, 0))
        first: Axis = () if is_one(channels) else (Atom(1, channels, size),)
        last: Axis = () if is_one(size) else (Atom(1, size, (1,) * runs),)
        view = View(base, (axis_of(base, 0), *[first] * bool(ahead), axis_of(base, 2), last))
        heads_of(view)
    return view


def with_position(layouts: Layouts, view: View) -> View:
    """A view of one position, if it is of a tensor without positions, such as a class token's."""
    base = view.base
    if len(base.shapes[0]) > 2:
        return view
    made = Value([(*shape, 1) for shape in base.shapes], base.dtype)
    layouts.add(Item("reshape", {"sizes": (base.shapes[0][1], 1)}, [base], [made]))
    return View(made, view.axes)


def of_maps(layouts: Layouts, three: list[View]) -> list[View]:
    """Views of the maps whose positions are in a row in each of these tensors; the same views, if one is of no map."""
    found = []
    for view in three:
        base, row = layouts.maps.get(view.base), axis_of(view.base, 2)
        if base is None or base in layouts.inside or view.axes[-2] != row:
            return three
        found.append(View(base, (*view.axes[:-2], positions(base), view.axes[-1])))
    return found


def swapped(view: View) -> View:
    return View(view.base, (*view.axes[:-2], view.axes[-1], view.axes[-2]))


@attends("scaled_dot_product_attention")
def dot_product_attention(layouts: Layouts, call: Call) -> None:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given: dict[str, Any] = {**dict(zip(names, call.arguments, strict=False)), **call.named}
    if given.get("dropout_p") or given.get("enable_gqa"):
        raise NoOperation("attention with a dropout of scores, or with shared keys")
    three = [given[name] for name in names[:3]]
    if not all(isinstance(part, Value) for part in three):
        raise NoOperation("attention with a tensor that is not computed from the input")
    scale, bias = given.get("scale") or 1 / sqrt(three[0].shapes[0][-1]), given.get("attn_mask")
    cosines = cosines_of(layouts, three[0], three[1], is_turned=True)
    if cosines is not None and scale == 1 and cosines.factors is not None:
        found = replace(cosines, bias=bias, is_softmax=True)
    else:
        for part in three:
            as_tensor(layouts, part)
        queries, keys = (layouts.view(part) for part in three[:2])
        found = Scores(queries, keys, scale, bias, True)
    mix(layouts, call, found, layouts.view(three[2]), causal=bool(given.get("is_causal")))


def cosines_of(layouts: Layouts, queries: Value, keys: Value, *, is_turned: bool) -> Scores | None:
    """The products of vectors of length 1; None of others. `is_turned`: the keys still are to be transposed."""
    one, two = layouts.scores.get(queries), layouts.scores.get(keys)
    if not isinstance(one, Unit) or not isinstance(two, Unit) or (one.factors and two.factors):
        return None
    calls, factors = (*one.calls, *two.calls), one.factors or two.factors
    return Scores(one.view, two.view if is_turned else swapped(two.view), is_cosine=True, factors=factors, calls=calls)


@attends("matmul", "bmm")
def products(layouts: Layouts, call: Call) -> None:
    """Queries times keys; scores times values; or a product of matrices."""
    one, two = call.arguments[:2]
    first, second = layouts.scores.get(one), layouts.scores.get(two)
    if (cosines := cosines_of(layouts, one, two, is_turned=False)) is not None:
        layouts.scores[call.results[0]] = replace(cosines, calls=(*cosines.calls, call))
    elif isinstance(second, Scores) and second.is_turned and isinstance(one, Value):
        attempt(layouts, call, replace(second, is_turned=False), swapped(layouts.view(one)), turned=True)
    elif isinstance(first, Scores) and isinstance(two, Value) and two not in layouts.scores:
        attempt(layouts, call, first, layouts.view(two))
    elif first or second or not isinstance(one, Value) or not isinstance(two, Value):
        plain_product(layouts, call)
    else:
        queries, keys = layouts.view(one), swapped(layouts.view(two))
        if len(one.shapes[0]) == 3 and not (is_divided(queries) and is_divided(keys)):
            plain_product(layouts, call)
        else:
            layouts.scores[call.results[0]] = Scores(queries, keys, calls=(call,))


def is_divided(view: View) -> bool:
    """Whether a tensor is divided among heads as it is."""
    try:
        heads_of(view)
    except NoOperation:
        return False
    return True


def attempt(layouts: Layouts, call: Call, scores: Scores, values: View, *, turned: bool = False) -> None:
    """Scores times values as an `attend`; if that is not what it is, as a product of matrices."""
    try:
        with layouts.undone():
            mix(layouts, call, scores, values, turned=turned)
    except NoOperation as reason:
        try:
            plain_product(layouts, call)
        except NoOperation:
            raise reason from None


def plain_product(layouts: Layouts, call: Call) -> None:
    """The product of two tensors by `matmul`."""
    for value in call.inputs:
        as_tensor(layouts, value)
    matrix_product(layouts, call)


def as_tensor(layouts: Layouts, value: Value) -> None:
    """Makes scores, or vectors of length 1, a tensor of the network, by the calls that make them."""
    found = layouts.scores.pop(value, None)
    if not isinstance(found, Scores | Unit):
        return
    for call in found.calls:
        for result in call.results:
            layouts.scores.pop(result, None)
    for call in found.calls:
        if plain_name(call) in ATTENDERS:
            matrix_product(layouts, call)
        elif plain_name(call) == "normalize":
            normalized(layouts, call)
        else:
            layouts.translate(call)


@attends("einsum")
def einsum(layouts: Layouts, call: Call) -> None:
    """The products of attention: of queries and keys, and of scores and values."""
    text = str(call.arguments[0]).replace(" ", "")
    inputs, _, result = text.partition("->")
    one, _, two = inputs.partition(",")
    parts = call.arguments[1] if isinstance(call.arguments[1], tuple) else call.arguments[1:]
    plain = all(isinstance(part, Value) for part in parts) and len(parts) == 2 and len(one) > 2 and len(one) == len(two)
    if not plain or one[:-2] != two[:-2] or result[:-1] != one[:-1]:
        raise NoOperation(f"`einsum` of {text}")
    first, second = parts
    if result[-1] == two[-2] and one[-1] == two[-1]:  # queries times keys
        layouts.scores[call.results[0]] = Scores(layouts.view(first), layouts.view(second), calls=(call,))
    elif isinstance(found := layouts.scores.get(first), Scores) and one[-1] == two[-2] and result[-1] == two[-1]:
        attempt(layouts, call, found, layouts.view(second))
    else:
        raise NoOperation(f"`einsum` of {text}")


def mix(
    layouts: Layouts, call: Call, scores: Scores, values: View, *, causal: bool = False, turned: bool = False
) -> None:
    """Scores times values: an `attend`, whose result has the axes of the queries; `turned`: the last two exchanged."""
    if not scores.is_softmax or scores.is_turned:
        raise NoOperation("a product of three tensors without a softmax")
    three = [with_position(layouts, divided_by_heads(layouts, view)) for view in (scores.queries, scores.keys, values)]
    if scores.bias is None:
        three = of_maps(layouts, three)
    heads = [heads_of(view) for view in three]
    count, around = heads[0].count, any(one.around for one in heads)
    shares = count > 1 and heads[1].count == heads[2].count == 1 and not around
    if (not shares and len({one.count for one in heads}) > 1) or len({bool(one.around) for one in heads}) > 1:
        raise NoOperation("attention with other heads of queries, keys and values")
    given: dict[str, object] = {"heads": count}
    if causal:
        given["causal"] = True
    each = three[0].base.shapes[0][1] // count
    if scores.is_cosine:
        if scores.factors is None or scores.scale != 1 or causal:
            raise NoOperation("attention by cosines without a factor for each head")
        given["scale"] = COSINE
        if len(scores.factors.stored) == 1:
            given["stored"] = "flat"
    elif not isclose(scores.scale, 1 / sqrt(each), rel_tol=1e-6):
        given["scale"] = scores.scale
    bases = [view.base for view in three]
    if shares:
        bases[1:] = [for_each_head(layouts, base, count) for base in bases[1:]]
    if heads[0].around:
        bases = [in_windows(layouts, view, one) for view, one in zip(three, heads, strict=True)]
    sizes = sizes_of(bases[0])
    made = Value(shapes_of([sizes[0], sizes_of(bases[2])[1], *sizes[2:]]), bases[0].dtype)
    bias = bias_of(layouts, scores.bias, bases[0], bases[1], call) if scores.bias is not None else None
    key = scores.factors.key if scores.factors is not None else ""
    inputs = [*bases, *([] if bias is None else [bias])]
    layouts.add(Item("attend", given, inputs, [made], key, bool(key), call.line))
    result = made
    if heads[0].around:
        whole_map = sizes_of(three[0].base)
        result = Value(shapes_of([whole_map[0], sizes_of(made)[1], *whole_map[2:]]), made.dtype)
        joined = Item(JOIN, {}, [made], [result], line=call.line)
        layouts.moved.append(joined)
        if three[0].base in layouts.inside:
            layouts.inside[result] = layouts.inside[three[0].base]
    view = mixed(three[0], result, count)
    layouts.set(call.results[0], swapped(view) if turned else view)


def for_each_head(layouts: Layouts, base: Value, count: int) -> Value:
    """Keys or values that all heads share, once for each."""
    made = Value([(shape[0], shape[1] * count, *shape[2:]) for shape in base.shapes], base.dtype)
    layouts.add(Item("concat", {}, [base] * count, [made]))
    return made


def mixed(queries: View, result: Value, count: int) -> View:
    """The result of attention: a view like that of the queries, whose heads may have other channels."""
    runs = len(result.shapes)
    heads = (count,) * runs
    size = divided(sizes_of(result)[1], heads)
    assert size is not None
    *leading, row, _ = queries.axes
    last: Axis = () if is_one(size) else (Atom(1, size, (1,) * runs),)
    axes = [merged([Atom(1, heads, size) if atom.axis == 1 else atom for atom in axis]) for axis in (*leading, row)]
    return View(result, (*axes, last))


def in_windows(layouts: Layouts, view: View, heads: Heads) -> Value:
    """The windows of a map, whose counts are before the heads."""
    *leading, row, each = view.axes
    batch = tuple(atom for axis in leading for atom in axis if atom.axis == 0)
    split = [atom for axis in leading for atom in axis if atom.axis == 1]
    regrouped = View(view.base, ((*batch, *heads.around), merged([*split, *each]), row))
    found = cut(Settling(layouts.moved, layouts.inside), regrouped)
    if found is None or found.axes[2] != positions(found.base):
        raise NoOperation("attention in parts of a map that are no windows")
    return found.base


# ---------------------------------------------------------------- what happens to scores


def on_scores(layouts: Layouts, call: Call) -> bool:
    """Notes what a call does with scores; False if it takes none. Raises NoOperation for anything but attention."""
    if plain_name(call) == "normalize" and call.module is None:
        return unit(layouts, call)
    given = next((value for value in call.inputs if value in layouts.scores), None)
    if given is None or plain_name(call) in ATTENDERS:
        return False
    try:
        with layouts.undone():
            found = used(layouts, call, given)
    except NoOperation as reason:  # no attention, or another one
        try:
            for value in call.inputs:
                as_tensor(layouts, value)
        except NoOperation:
            raise reason from None
        return False
    layouts.scores[call.results[0]] = replace(found, calls=(*found.calls, call))
    return True


def used(layouts: Layouts, call: Call, given: Value) -> Scores | Unit:
    """What a call makes of scores, or of vectors of length 1. Raises NoOperation for anything but attention."""
    found, name = layouts.scores[given], plain_name(call)
    if isinstance(found, Unit):
        if OPERATIONS_OF.get(name) == "mul" and found.factors is None:
            layouts.views[call.results[0]] = found.view
            return replace(found, factors=factors_in(the_other(call, given)))
        if MOVERS.get(name) is not MOVERS["permute"]:
            raise NoOperation(f"`{call.name}` of vectors of length 1")
        MOVERS["permute"](layouts, call)
        return replace(found, view=layouts.view(call.results[0]))
    assert isinstance(found, Scores)
    if isinstance(call.module, nn.Dropout | nn.Identity) or name == "dropout":
        rate = getattr(call.module, "p", 0.0) if call.module is not None else argument(call, 1, "p", 0.5)
        if rate and call.named.get("training", True):
            raise NoOperation("a dropout of scores")
        return found
    if name == "softmax" or isinstance(call.module, nn.Softmax):
        axis = call.module.dim if isinstance(call.module, nn.Softmax) else argument(call, 1, "dim")
        if axis not in (-1, len(given.shapes[0]) - 1) or found.is_softmax:
            raise NoOperation("a softmax of scores over another axis than the keys")
        return replace(found, is_softmax=True)
    if name in OPERATIONS_OF and not found.is_softmax:
        return changed(call, found, OPERATIONS_OF[name], given)
    if name in ("transpose", "mT") and {axis % len(given.shapes[0]) for axis in call.arguments[1:] or (-1, -2)} == {
        len(given.shapes[0]) - 1,
        len(given.shapes[0]) - 2,
    }:
        return replace(found, is_turned=not found.is_turned)
    if MOVERS.get(name) in (MOVERS["reshape"], MOVERS["contiguous"]):
        return found  # scores of windows are counted by batch and window, and again by both
    raise NoOperation(f"`{call.name}` of scores, the product of queries and keys")


def unit(layouts: Layouts, call: Call) -> bool:
    """Vectors divided by their lengths; those of heads, along the last axis, may be queries and keys."""
    (tensor,) = call.inputs
    axis, power = argument(call, 2, "dim", 1), argument(call, 1, "p", 2.0)
    if power != 2 or not isinstance(axis, int):
        raise NoOperation("`normalize` by another length than the root of squares, or along several axes")
    if axis not in (-1, len(tensor.shapes[0]) - 1) or len(tensor.shapes[0]) < 4:
        normalized(layouts, call)
        return True
    layouts.views[call.results[0]] = layouts.view(tensor)
    layouts.scores[call.results[0]] = Unit(layouts.view(tensor), calls=(call,))
    return True


def normalized(layouts: Layouts, call: Call) -> None:
    """Vectors divided by their lengths, along an axis."""
    base, order = layouts.place(call.inputs[0])
    axis = argument(call, 2, "dim", 1) % (len(order) + 1)
    if axis == 0:
        raise NoOperation("`normalize` along the batch")
    along, eps = order[axis - 1], argument(call, 3, "eps", 1e-12)
    given = {**({"axis": along} if along else {}), **({"eps": eps} if eps != 1e-12 else {})}
    layouts.views.pop(call.results[0], None)
    layouts.add(Item("normalize", given, [base], [layouts.made(call.results[0], order)], line=call.line))


def changed(call: Call, found: Scores, operation: str, given: Value) -> Scores:
    """Scores times a number, or plus a bias."""
    other = the_other(call, given)
    if isinstance(other, int | float) and operation in ("mul", "div") and found.bias is None:
        return replace(found, scale=found.scale * other if operation == "mul" else found.scale / other)
    if operation == "mul" and found.is_cosine and found.factors is None:
        return replace(found, factors=factors_in(other))
    if operation != "add":
        raise NoOperation(f"`{call.name}` of scores, the product of queries and keys")
    return with_bias(found, other)


def the_other(call: Call, given: Value) -> object:
    """The argument of a function of two that is not this one."""
    parts = [*call.arguments, *(v for k, v in call.named.items() if k == "other")]
    (other,) = (part for part in parts[:2] if part is not given)
    return other


def factors_in(other: object) -> Owned:
    """The parameter of exp(min(parameter, log 100)). Raises NoOperation for another factor."""
    clamped = other.arguments[0] if isinstance(other, Derived) and other.name == "exp" else None
    owned = clamped.arguments[0] if isinstance(clamped, Derived) and clamped.name == "clamp" else None
    if isinstance(owned, Owned) and len(owned.stored) in (1, 3):
        return owned
    raise NoOperation("cosines of attention times another factor than exp(min(x, log 100))")


def with_bias(found: Scores, other: object) -> Scores:
    """Scores plus a tensor."""
    return replace(found, bias=other if found.bias is None else (found.bias, other))


__all__ = ["ATTENDERS", "on_scores"]
