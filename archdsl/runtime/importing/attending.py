"""Attention: `scaled_dot_product_attention`, and scores that are computed step by step.

The product of queries and keys is no tensor of the language. It is kept as it is, with its scale, biases and softmax,
until it is multiplied by the values: that is one `attend`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isclose, isqrt, prod, sqrt
from typing import Any, TypeAlias

from torch import nn

from archdsl.runtime.importing.functions import argument, plain_name, shape_of
from archdsl.runtime.importing.layers import NoOperation, said
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.merging import OPERATIONS_OF
from archdsl.runtime.importing.moves import MOVERS, emit
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recording import Call, Constant, Derived, Owned, Value
from archdsl.runtime.importing.settling import JOIN, Settling, cut, positions, shapes_of
from archdsl.runtime.importing.views import Atom, Axis, View, axis_of, divided, is_one, merged, sizes_of

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


@dataclass(frozen=True, slots=True)
class Heads:
    """How a view [batch, heads, positions, channels of a head] divides its base.

    `around` are parts of positions that are counted before the heads: windows.
    """

    count: int
    around: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """Queries or keys of length 1 in each head."""

    view: View


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
    queries, keys, values = (layouts.view(part) for part in three)
    scale = given.get("scale") or 1 / sqrt(three[0].shapes[0][-1])
    found = Scores(queries, keys, scale, given.get("attn_mask"), True)
    mix(layouts, call, found, values, causal=bool(given.get("is_causal")))


@attends("matmul", "bmm")
def product(layouts: Layouts, call: Call) -> None:
    """Queries times keys; scores times values; or the product of two tensors of two axes."""
    one, two = call.arguments[:2]
    if isinstance(first := layouts.scores.get(one), Unit) and isinstance(second := layouts.scores.get(two), Unit):
        queries, keys = first.view, swapped(second.view)
        heads_of(queries), heads_of(keys)
        layouts.scores[call.results[0]] = Scores(queries, keys, is_cosine=True)
        return
    if isinstance(found := layouts.scores.get(two), Scores) and found.is_turned and isinstance(one, Value):
        mix(layouts, call, replace(found, is_turned=False), swapped(layouts.view(one)), turned=True)
        return
    if not isinstance(one, Value) or not isinstance(two, Value) or two in layouts.scores:
        raise NoOperation(f"`{call.name}` with a tensor that is not computed from the input")
    if isinstance(found := layouts.scores.get(one), Scores):
        mix(layouts, call, found, layouts.view(two))
        return
    queries, keys = layouts.view(one), swapped(layouts.view(two))
    try:
        heads_of(queries), heads_of(keys)
    except NoOperation:
        if len(one.shapes[0]) != 3:
            raise
        bases = [layouts.ordered(value) for value in (one, two)]
        emit(layouts, "matmul", {}, bases, call.results)
    else:
        layouts.scores[call.results[0]] = Scores(queries, keys)


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
        queries, keys = layouts.view(first), layouts.view(second)
        heads_of(queries), heads_of(keys)
        layouts.scores[call.results[0]] = Scores(queries, keys)
    elif isinstance(found := layouts.scores.get(first), Scores) and one[-1] == two[-2] and result[-1] == two[-1]:
        mix(layouts, call, found, layouts.view(second))
    else:
        raise NoOperation(f"`einsum` of {text}")


def mix(
    layouts: Layouts, call: Call, scores: Scores, values: View, *, causal: bool = False, turned: bool = False
) -> None:
    """Scores times values: an `attend`, whose result has the axes of the queries; `turned`: the last two exchanged."""
    if not scores.is_softmax or scores.is_turned:
        raise NoOperation("a product of three tensors without a softmax")
    three = [scores.queries, scores.keys, values]
    heads = [heads_of(view) for view in three]
    count = heads[0].count
    if len({one.count for one in heads}) > 1 or len({bool(one.around) for one in heads}) > 1:
        raise NoOperation("attention with other heads of queries, keys and values")
    given: dict[str, object] = {"heads": count}
    if causal:
        given["causal"] = True
    each = scores.queries.base.shapes[0][1] // count
    if scores.is_cosine:
        if scores.factors is None or scores.scale != 1 or causal:
            raise NoOperation("attention by cosines without a factor for each head")
        given["scale"] = COSINE
    elif not isclose(scores.scale, 1 / sqrt(each), rel_tol=1e-6):
        given["scale"] = scores.scale
    bases = [view.base for view in three]
    if heads[0].around:
        bases = [in_windows(layouts, view, one) for view, one in zip(three, heads, strict=True)]
    sizes = sizes_of(bases[0])
    made = Value(shapes_of([sizes[0], sizes_of(bases[2])[1], *sizes[2:]]), bases[0].dtype)
    bias = bias_of(layouts, scores.bias, bases[0], call) if scores.bias is not None else None
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
    found, name = layouts.scores[given], plain_name(call)
    if isinstance(found, Unit):
        if MOVERS.get(name) is not MOVERS["permute"]:
            raise NoOperation(f"`{call.name}` of vectors of length 1")
        MOVERS["permute"](layouts, call)
        layouts.scores[call.results[0]] = Unit(layouts.view(call.results[0]))
        return True
    assert isinstance(found, Scores)
    if isinstance(call.module, nn.Dropout | nn.Identity) or name == "dropout":
        rate = getattr(call.module, "p", 0.0) if call.module is not None else argument(call, 1, "p", 0.5)
        if rate and call.named.get("training", True):
            raise NoOperation("a dropout of scores")
    elif name == "softmax" or isinstance(call.module, nn.Softmax):
        axis = call.module.dim if isinstance(call.module, nn.Softmax) else argument(call, 1, "dim")
        if axis not in (-1, len(given.shapes[0]) - 1) or found.is_softmax:
            raise NoOperation("a softmax of scores over another axis than the keys")
        found = replace(found, is_softmax=True)
    elif name in OPERATIONS_OF and not found.is_softmax:
        found = changed(layouts, call, found, OPERATIONS_OF[name], given)
    elif name in ("transpose", "mT") and {axis % len(given.shapes[0]) for axis in call.arguments[1:] or (-1, -2)} == {
        len(given.shapes[0]) - 1,
        len(given.shapes[0]) - 2,
    }:
        found = replace(found, is_turned=not found.is_turned)
    elif MOVERS.get(name) in (MOVERS["reshape"], MOVERS["contiguous"]):
        pass  # scores of windows are counted by batch and window, and again by both
    else:
        raise NoOperation(f"`{call.name}` of scores, the product of queries and keys")
    layouts.scores[call.results[0]] = found
    return True


def unit(layouts: Layouts, call: Call) -> bool:
    """Vectors divided by their lengths, along the last axis."""
    (tensor,) = call.inputs
    axis, power = argument(call, 2, "dim", 1), argument(call, 1, "p", 2.0)
    if axis not in (-1, len(tensor.shapes[0]) - 1) or power != 2:
        raise NoOperation("`normalize` along another axis than the last one")
    heads_of(layouts.view(tensor))
    layouts.views[call.results[0]] = layouts.view(tensor)
    layouts.scores[call.results[0]] = Unit(layouts.view(tensor))
    return True


def changed(layouts: Layouts, call: Call, found: Scores, operation: str, given: Value) -> Scores:
    """Scores times a number, or plus a bias."""
    parts = [*call.arguments, *(v for k, v in call.named.items() if k == "other")]
    (other,) = (part for part in parts[:2] if part is not given)
    if isinstance(other, int | float) and operation in ("mul", "div") and found.bias is None:
        return replace(found, scale=found.scale * other if operation == "mul" else found.scale / other)
    if operation == "mul" and found.is_cosine and found.factors is None:
        return replace(found, factors=factors_in(other))
    if operation != "add":
        raise NoOperation(f"`{call.name}` of scores, the product of queries and keys")
    return with_bias(found, other)


def factors_in(other: object) -> Owned:
    """The parameter of exp(min(parameter, log 100)). Raises NoOperation for another factor."""
    clamped = other.arguments[0] if isinstance(other, Derived) and other.name == "exp" else None
    owned = clamped.arguments[0] if isinstance(clamped, Derived) and clamped.name == "clamp" else None
    if isinstance(owned, Owned) and len(owned.stored) == 3:
        return owned
    raise NoOperation("cosines of attention times another factor than exp(min(x, log 100))")


def with_bias(found: Scores, other: object) -> Scores:
    """Scores plus a tensor."""
    return replace(found, bias=other if found.bias is None else (found.bias, other))


# ---------------------------------------------------------------- biases

VIEWS = frozenset(
    {"view", "reshape", "permute", "contiguous", "unsqueeze", "flatten", "transpose", "expand", "squeeze"}
)
"""Methods that only move the numbers of a bias; whether they move them rightly the proof finds."""


def bias_of(layouts: Layouts, given: object, queries: Value, call: Call) -> Value | None:
    """A bias of scores as a tensor of the network; None for the mask of shifted windows, which they imply.

    Raises NoOperation for other tensors than a table of relative positions.
    """
    if isinstance(given, tuple):
        parts = [bias_of(layouts, part, queries, call) for part in given]
        tensors = [part for part in parts if part is not None]
        if len(tensors) > 1:
            raise NoOperation("attention with two biases")
        return tensors[0] if tensors else None
    opened = layouts.inside.get(queries)
    if is_mask(layouts, given) and opened is not None and opened.inputs[0] in layouts.rolled:
        return None
    if not isinstance(given, Derived):
        raise NoOperation("scores of attention plus a mask or bias that is no table of relative positions")
    many = prod(queries.shapes[0][2:])
    size = opened.arguments["size"] if opened is not None else isqrt(many)
    sides = sides_of((size, size) if isinstance(size, int) else size)
    if prod(sides) != many:
        raise NoOperation("a bias of scores for other positions than those of a window")
    return Branch(layouts, sides, [shape[0] for shape in queries.shapes], call).of(given)


def is_mask(layouts: Layouts, given: object) -> bool:
    """Whether a tensor is made by the module without parameters; the numbers of that are compared by the proof."""
    if isinstance(given, Derived) and given.name.removeprefix("__").removesuffix("__") in VIEWS:
        return is_mask(layouts, given.arguments[0])
    return isinstance(given, Constant) or (isinstance(given, Owned) and not layouts.is_kept(given.key))


def sides_of(sides: object) -> tuple[int, ...]:
    assert isinstance(sides, tuple)
    return tuple(int(side) for side in sides)


@dataclass(slots=True)
class Branch:
    """Makes a tensor of the network of one that is computed from parameters alone: a bias of positions in a window."""

    layouts: Layouts
    sides: tuple[int, ...]
    batches: list[int]
    call: Call

    def of(self, given: object) -> Value:
        if isinstance(given, Owned):
            return self.parameter(given)
        if not isinstance(given, Derived):
            raise NoOperation("a bias of scores that is computed from other tensors than parameters")
        name = given.name.removeprefix("__").removesuffix("__")
        if name in VIEWS:
            return self.of(given.arguments[0])
        if name == "getitem" and isinstance(given.arguments[1], Owned):
            return self.looked_up(given.arguments[0], given.arguments[1])
        if name in ("mul", "rmul") and (numbers := [a for a in given.arguments if isinstance(a, int | float)]):
            (tensor,) = (a for a in given.arguments if not isinstance(a, int | float))
            return self.item("rescale", {"scale": numbers[0]}, self.of(tensor))
        if given.module is None and name != "sigmoid":
            raise NoOperation(f"a bias of scores that is computed by `{given.name}`")
        inner = self.of(given.arguments[0])
        layer = given.module if given.module is not None else nn.Sigmoid()
        size = shape_of(inner)
        out = getattr(layer, "out_features", size[0])
        found = said(layer, (size,), ((out, *size[1:]),), last=True)
        if found is None:
            return inner
        return self.item(found.operation, dict(found.arguments), inner, (out, *size[1:]), given.path, layer)

    def item(
        self,
        operation: str,
        arguments: dict[str, object],
        inner: Value | None,
        sizes: tuple[int, ...] = (),
        path: str = "",
        layer: nn.Module | None = None,
    ) -> Value:
        sizes = sizes or (shape_of(inner) if inner is not None else ())
        made = Value([(batch, *sizes) for batch in self.batches])
        owns = bool(path) and (layer is None or bool(layer.state_dict()))
        inputs = [] if inner is None else [inner]
        self.layouts.moved.append(Item(operation, arguments, inputs, [made], path, owns, self.call.line))
        return made

    def parameter(self, owned: Owned) -> Value:
        """A table [differences, heads], or the coordinates of differences."""
        sides = self.sides
        differences = tuple(2 * side - 1 for side in sides)
        window = sides[0] if len(set(sides)) == 1 else sides
        if owned.stored == (1, *differences, 2) and self.layouts.is_kept(owned.key):
            return self.item("coordinates", {"window_size": window}, None, (2, *differences), owned.key)
        if len(owned.stored) != 2 or owned.stored[0] != prod(differences):
            raise NoOperation(f"the parameter `{owned.key}` of size {list(owned.stored)} as a bias of scores")
        sizes = owned.stored[::-1]
        return self.item("parameter", {"sizes": sizes, "stored": "rows"}, None, sizes, owned.key)

    def looked_up(self, table: object, index: Owned) -> Value:
        """The biases of all pairs of positions."""
        count = prod(self.sides)
        if index.stored not in ((count * count,), (count, count)):
            raise NoOperation(f"`{index.key}` of size {list(index.stored)} as the numbers of differences")
        if not self.layouts.is_kept(index.key):
            raise NoOperation(f"the index `{index.key}` is not in the state_dict, as that of `relative` is")
        inner = self.of(table)
        window = self.sides[0] if len(set(self.sides)) == 1 else self.sides
        given: dict[str, object] = {"window_size": window}
        if len(index.stored) == 2:
            given["stored"] = "matrix"
        return self.item("relative", given, inner, (shape_of(inner)[0], count, count), index.key)


__all__ = ["ATTENDERS", "on_scores"]
