"""Attention: `scaled_dot_product_attention`, and scores that are computed step by step.

The product of queries and keys is no tensor of the language. It is kept as it is, with its scale, biases and softmax,
until it is multiplied by the values: that is one `attend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isclose, sqrt
from typing import Any, TypeAlias

from torch import nn

from archdsl.runtime.importing.functions import argument, plain_name
from archdsl.runtime.importing.layers import Said, Unsaid
from archdsl.runtime.importing.layouts import Layouts
from archdsl.runtime.importing.merging import MERGERS, OPERATIONS_OF
from archdsl.runtime.importing.moves import MOVERS, emit
from archdsl.runtime.importing.recording import Call, Constant, Owned, Value
from archdsl.runtime.importing.settling import positions, shapes_of
from archdsl.runtime.importing.views import Atom, Axis, View, axis_of, divided, is_one, merged, sizes_of

Attender: TypeAlias = Callable[[Layouts, Call], None]
ATTENDERS: dict[str, Attender] = {}


def attends(*names: str) -> Callable[[Attender], Attender]:
    def add(attender: Attender) -> Attender:
        ATTENDERS.update(dict.fromkeys(names, attender))
        return attender

    return add


@dataclass(frozen=True, slots=True)
class Heads:
    """A tensor whose channels are divided among heads, with their number; `leading` are the axes before the last two."""

    base: Value
    count: int
    leading: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """Products of queries and keys, times `scale`, plus a bias, and their softmax."""

    queries: Heads
    keys: Heads
    query_view: View
    scale: float = 1.0
    bias: Value | None = None
    is_softmax: bool = False


def heads_of(view: View) -> Heads:
    """How a tensor [batch, heads, positions, channels of a head] is divided. Raises Unsaid if it is another one."""
    base = view.base
    if len(view.axes) < 3:
        raise Unsaid("attention of a tensor without positions")
    *leading, row, each = view.axes
    ahead = [atom for axis in leading for atom in axis]
    channels = [atom for atom in ahead if atom.axis == 1] + [*each]
    batch = [atom for atom in ahead if atom.axis == 0]
    right = merged(channels) == axis_of(base, 1) and tuple(batch) == axis_of(base, 0)
    if not right or len(ahead) > 2 or row != positions(base) or any(atom.axis != 1 for atom in each):
        raise Unsaid("attention of tensors whose heads are no parts of the channels, one behind the other")
    if len(ahead) == 2 and ahead[0].axis != 0:
        raise Unsaid("attention with the heads before the batch")
    heads = 1
    if len(ahead) == 2:
        if len(set(ahead[1].sizes)) > 1:
            raise Unsaid("attention whose heads depend on the size of the input")
        heads = ahead[1].sizes[0]
    return Heads(base, heads, tuple(leading))


def swapped(view: View) -> View:
    return View(view.base, (*view.axes[:-2], view.axes[-1], view.axes[-2]))


def divided_view(layouts: Layouts, value: Value, *, turned: bool = False) -> View:
    """The view of a value that is queries, keys or values; `turned`: with its last two axes exchanged."""
    view = layouts.view(value)
    return swapped(view) if turned else view


@attends("scaled_dot_product_attention")
def dot_product_attention(layouts: Layouts, call: Call) -> None:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given: dict[str, Any] = {**dict(zip(names, call.arguments, strict=False)), **call.named}
    if given.get("dropout_p") or given.get("enable_gqa"):
        raise Unsaid("attention with a dropout of scores, or with shared keys")
    three = [given[name] for name in names[:3]]
    if not all(isinstance(part, Value) for part in three):
        raise Unsaid("attention with a tensor that is not computed from the input")
    queries, keys, values = (layouts.view(part) for part in three)
    each = three[0].shapes[0][-1]
    scale = given.get("scale") or 1 / sqrt(each)
    found = Scores(heads_of(queries), heads_of(keys), queries, scale)
    if given.get("attn_mask") is not None:
        found = with_bias(layouts, found, given["attn_mask"])
    mix(layouts, call, replace(found, is_softmax=True), values, causal=bool(given.get("is_causal")))


@attends("matmul", "bmm")
def product(layouts: Layouts, call: Call) -> None:
    """Queries times keys; scores times values; or the product of two tensors of two axes."""
    one, two = call.arguments[:2]
    if isinstance(one, Value) and isinstance(found := layouts.scores.get(one), Scores) and isinstance(two, Value):
        mix(layouts, call, found, layouts.view(two))
        return
    if not isinstance(one, Value) or not isinstance(two, Value) or one in layouts.scores or two in layouts.scores:
        raise Unsaid(f"`{call.name}` with a tensor that is not computed from the input")
    queries, keys = layouts.view(one), swapped(layouts.view(two))
    try:
        layouts.scores[call.results[0]] = Scores(heads_of(queries), heads_of(keys), queries)
        return
    except Unsaid as reason:
        if len(one.shapes[0]) != 3:
            raise
        first = reason
    try:
        bases = [layouts.ordered(value) for value in (one, two)]
    except Unsaid:
        raise first from None
    emit(layouts, "matmul", {}, bases, call.results)


def mix(layouts: Layouts, call: Call, scores: Scores, values: View, *, causal: bool = False) -> None:
    """Scores times values: an `attend`, whose result has the axes of the queries."""
    if not scores.is_softmax:
        raise Unsaid("a product of three tensors without a softmax")
    queries, keys, mixed = scores.queries, scores.keys, heads_of(values)
    if not queries.count == keys.count == mixed.count:
        raise Unsaid("attention with other heads of queries, keys and values")
    runs = len(queries.base.shapes)
    given: dict[str, object] = {"heads": queries.count}
    if causal:
        given["causal"] = True
    each = queries.base.shapes[0][1] // queries.count
    if not isclose(scores.scale, 1 / sqrt(each), rel_tol=1e-6):
        given["scale"] = scores.scale
    sizes = sizes_of(queries.base)
    made = Value(shapes_of([sizes[0], sizes_of(mixed.base)[1], *sizes[2:]]), queries.base.dtype)
    inputs = [queries.base, keys.base, mixed.base, *([] if scores.bias is None else [scores.bias])]
    emit(layouts, "attend", given, inputs, [made])
    size = divided(sizes_of(made)[1], (queries.count,) * runs)
    assert size is not None
    last: Axis = () if is_one(size) else (Atom(1, size, (1,) * runs),)
    heads = (queries.count,) * runs
    moved = [
        merged([Atom(1, heads, size) if atom.axis == 1 else atom for atom in axis])
        for axis in (*queries.leading, scores.query_view.axes[-2])
    ]
    view = View(made, (*moved, last))
    if plain_name(call) != "scaled_dot_product_attention" and len(call.results[0].shapes[0]) != len(view.axes):
        raise Unsaid("a product of tensors with other numbers of axes")
    layouts.set(call.results[0], view)


# ---------------------------------------------------------------- what happens to scores


def on_scores(layouts: Layouts, call: Call) -> bool:
    """Notes what a call does with scores; False if it takes none. Raises Unsaid for anything but attention."""
    given = next((value for value in call.inputs if value in layouts.scores), None)
    if given is None or plain_name(call) in ATTENDERS:
        return False
    found = layouts.scores[given]
    assert isinstance(found, Scores)
    name = plain_name(call)
    if isinstance(call.module, nn.Dropout | nn.Identity) or name == "dropout":
        rate = getattr(call.module, "p", 0.0) if call.module is not None else argument(call, 1, "p", 0.5)
        if rate and call.named.get("training", True):
            raise Unsaid("a dropout of scores")
    elif name == "softmax" or isinstance(call.module, nn.Softmax):
        axis = call.module.dim if isinstance(call.module, nn.Softmax) else argument(call, 1, "dim")
        if axis not in (-1, len(given.shapes[0]) - 1) or found.is_softmax:
            raise Unsaid("a softmax of scores over another axis than the keys")
        found = replace(found, is_softmax=True)
    elif name in OPERATIONS_OF and not found.is_softmax:
        found = changed(layouts, call, found, OPERATIONS_OF[name], given)
    elif name in MOVERS and call.results[0].shapes == given.shapes and name not in ("transpose", "permute"):
        pass
    else:
        raise Unsaid(f"`{call.name}` of scores, the product of queries and keys")
    layouts.scores[call.results[0]] = found
    return True


def changed(layouts: Layouts, call: Call, found: Scores, operation: str, given: Value) -> Scores:
    """Scores times a number, or plus a bias."""
    parts = [*call.arguments, *(v for k, v in call.named.items() if k == "other")]
    (other,) = (part for part in parts[:2] if part is not given)
    if isinstance(other, int | float) and operation in ("mul", "div") and found.bias is None:
        return replace(found, scale=found.scale * other if operation == "mul" else found.scale / other)
    if operation != "add":
        raise Unsaid(f"`{call.name}` of scores, the product of queries and keys")
    return with_bias(layouts, found, other)


def with_bias(layouts: Layouts, found: Scores, other: object) -> Scores:
    """Scores plus a tensor."""
    if isinstance(other, Owned | Constant):
        raise Unsaid("scores of attention plus a mask or bias that no input decides")
    raise Unsaid("scores of attention plus a tensor")


__all__ = ["ATTENDERS", "MERGERS", "Mapping", "Said", "on_scores"]
