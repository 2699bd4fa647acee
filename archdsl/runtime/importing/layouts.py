"""Where a tensor's axes are: PyTorch code moves the channels to the end and back, a spec has them first.

A value of the recording is a tensor of the network with its axes in some order; moving axes changes only the order.
Layers that act on the last axis take a tensor whose channels are there. Only where an operation needs other channels is
there a `permute`.
"""

from __future__ import annotations

from torch import nn

from archdsl.runtime.importing.functions import HANDLERS, Meaning, argument, as_layer, plain_name, shape_of
from archdsl.runtime.importing.layers import Said, Unsaid, said
from archdsl.runtime.importing.network import Item
from archdsl.runtime.importing.recording import Call, Owned, Value

Order = tuple[int, ...]
"""For each axis of PyTorch's tensor, without the batch, the axis of the network's tensor."""


def channels_last(rank: int) -> Order:
    return (*range(1, rank), 0)


class Layouts:
    """The tensor of the network and the order of axes of each value; `moved` collects the items that move axes."""

    def __init__(self) -> None:
        self.places: dict[Value, tuple[Value, Order]] = {}
        self.moved: list[Item] = []

    def forget(self, known: int) -> None:
        """Forgets all but the first so many places."""
        for value in [*self.places][known:]:
            del self.places[value]

    def place(self, value: Value) -> tuple[Value, Order]:
        return self.places.get(value) or (value, (*range(len(value.shapes[0]) - 1),))

    def is_plain(self, value: Value) -> bool:
        order = self.place(value)[1]
        return order == (*range(len(order)),)

    def is_last(self, value: Value) -> bool:
        order = self.place(value)[1]
        return order == channels_last(len(order))

    def same(self, value: Value, other: Value) -> None:
        """Says that a value is another one."""
        self.places[value] = self.place(other)

    def turn(self, value: Value, other: Value, axes: Order) -> None:
        """Says that a value is another one with its axes moved: its axis i is axis `axes[i]`."""
        base, order = self.place(other)
        self.places[value] = (base, tuple(order[axis] for axis in axes))

    def made_last(self, value: Value) -> Value:
        """The tensor of the network for a new value that has its channels at the end."""
        shapes = [(shape[0], shape[-1], *shape[1:-1]) for shape in value.shapes]
        base = Value(shapes, value.dtype)
        self.places[value] = (base, channels_last(len(shapes[0]) - 1))
        return base

    def ordered(self, value: Value, wanted: Order | None = None) -> Value:
        """The tensor of the network that is a value with its axes in this order (None: as PyTorch has them)."""
        base, order = self.place(value)
        wanted = (*range(len(order)),) if wanted is None else wanted
        if order == wanted:
            return base
        axes = [0] * len(order)
        for have, want in zip(order, wanted, strict=True):
            axes[want] = have
        for item in self.moved:  # of the same call
            if item.inputs == [base] and item.arguments == {"axes": tuple(axes)}:
                return item.outputs[0]
        shapes = [(shape[0], *(shape[1 + axis] for axis in axes)) for shape in base.shapes]
        turned = Value(shapes, base.dtype)
        self.moved.append(Item("permute", {"axes": tuple(axes)}, [base], [turned]))
        return turned

    def learned(self, owned: Owned, call: Call) -> Value:
        """A parameter as a tensor of the network, which takes nothing; for tensors with the channels last."""
        batches = [shape[0] for shape in call.results[0].shapes]
        stored, sizes = ("tokens", owned.shape[1:]) if owned.shape[0] == 1 else ("rows", owned.shape)
        if len(sizes) < 2:
            raise Unsaid(f"the parameter `{owned.key}` of size {list(owned.shape)} as a tensor")
        turned = (sizes[-1], *sizes[:-1])
        value = Value([(batch, *turned) for batch in batches])
        arguments = {"sizes": turned, "stored": stored}
        self.moved.append(Item("parameter", arguments, [], [value], owned.key, True, call.line))
        return value


def meaning_last(call: Call, layouts: Layouts) -> Meaning | None:
    """A call whose tensors have the channels at the end; None if that is not how it is meant.

    The inputs of the meaning are tensors of the network.
    """
    name = plain_name(call)
    if call.module is None and name in (*MERGED, "cat", "concat"):
        return merged_last(call, name, layouts)
    bases = [layouts.ordered(value, channels_last(len(value.shapes[0]) - 1)) for value in call.inputs]
    shapes = tuple(shape_of(base) for base in bases)
    results = [(shape[-1], *shape[:-1]) for shape in (shape_of(value) for value in call.results)]
    if isinstance(call.module, nn.MultiheadAttention):
        return attention(call, call.module, bases)
    if isinstance(call.module, nn.Flatten | nn.Unflatten):
        return repositioned(bases[0], shapes[0], results[0], call)
    if call.module is not None:
        found = said(call.module, shapes, tuple(results), last=True)
        return Meaning(bases, *([] if found is None else [found]))
    if name in ("flatten", "view", "reshape", "unflatten"):
        return repositioned(bases[0], shapes[0], results[0], call)
    if name == "mean" and (found_mean := mean_of(call, bases[0])) is not None:
        return found_mean
    if name == "getitem":
        return sliced(call, bases[0])
    if name in HANDLERS:
        return None
    found = said(as_layer(call, name), shapes, tuple(results), last=True)
    return Meaning(bases, *([] if found is None else [found]))


def merged_last(call: Call, name: str, layouts: Layouts) -> Meaning | None:
    """A merge of tensors with the channels last, or with parameters."""
    rank = len(call.results[0].shapes[0]) - 1
    parts = call.arguments[0] if name not in MERGED else call.arguments[:2]
    if not all(isinstance(part, Value | Owned) for part in parts):
        return None
    owned = [part for part in parts if isinstance(part, Owned)]
    if name == "mul" and len(owned) == 1 and owned[0].shape == call.results[0].shapes[0][-1:]:
        (tensor,) = call.inputs
        return Meaning([layouts.ordered(tensor, channels_last(rank))], Said("scale", {}), parameter=owned[0].key)
    bases = [
        layouts.learned(part, call) if isinstance(part, Owned) else layouts.ordered(part, channels_last(rank))
        for part in parts
    ]
    if name in MERGED:
        same = len({shape_of(base) for base in bases}) == 1
        return Meaning(bases, Said(MERGED[name], {})) if same else None
    axis = argument(call, 1, "dim", 0) % (rank + 1)
    if axis == 0:
        raise Unsaid("`concat` along the batch")
    return Meaning(bases, Said("concat", {} if axis == rank else {"axis": axis}))


def attention(call: Call, module: nn.MultiheadAttention, bases: list[Value]) -> Meaning:
    """Attention with its own weights: of one tensor, of queries and the rest, or of three."""
    named = {k: v for k, v in call.named.items() if k not in ("query", "key", "value", "need_weights")}
    named |= dict(zip(("key_padding_mask", "need_weights", "attn_mask"), call.arguments[3:], strict=False))
    given = {k: v for k, v in named.items() if v not in (None, False, True)}
    plain = module.bias_k is None and not module.add_zero_attn and module.batch_first and len(bases) == 3
    if given or not plain or named.get("is_causal"):
        raise Unsaid("attention with a mask, extra keys, or the batch not first")
    query, keys, values = bases
    taken = [query] if query is keys is values else [query, keys] if keys is values else bases
    arguments: dict[str, object] = {"heads": module.num_heads}
    if module.dropout:
        arguments["dropout"] = module.dropout
    if module.in_proj_bias is None:
        arguments["bias"] = False
    return Meaning(taken, Said("attention", arguments))


def sliced(call: Call, base: Value) -> Meaning | None:
    """Some tokens of a row, or one of them."""
    index = call.arguments[1]
    if not isinstance(index, tuple) or len(index) != 2 or index[0] != slice(None) or len(base.shapes[0]) != 3:
        return None
    if isinstance(index[1], int) and index[1] >= 0:
        return Meaning([base], Said("slice", {"start": index[1], "stop": index[1] + 1, "axis": 1}), Said("flatten", {}))
    if not isinstance(index[1], slice):
        return None
    start, stop, step = index[1].indices(base.shapes[0][2])
    return Meaning([base], Said("slice", {"start": start, "stop": stop, "axis": 1})) if step == 1 else None


MERGED = {"add": "add", "iadd": "add", "radd": "add", "mul": "mul", "rmul": "mul", "imul": "mul", "sub": "sub"}


def repositioned(base: Value, shape: tuple[int, ...], result: tuple[int, ...], call: Call) -> Meaning | None:
    """Positions in a row, or in a map again."""
    if call.inputs[0].shapes[0][0] != call.results[0].shapes[0][0] or shape[0] != result[0]:
        return None
    if shape == result:
        return Meaning([base])
    if len(result) == 2:
        return Meaning([base], Said("tokens", {}))
    return Meaning([base], Said("maps", {"to": result[1:]})) if len(shape) == 2 else None


def mean_of(call: Call, base: Value) -> Meaning | None:
    """The mean over all positions."""
    axes, rank = argument(call, 1, "dim"), len(base.shapes[0])
    chosen = {axis % rank for axis in ((axes,) if isinstance(axes, int) else axes or ())}
    if chosen != {*range(1, rank - 1)} or len(call.results[0].shapes[0]) != 2:
        return None
    return Meaning([base], Said("global_avgpool", {}), Said("flatten", {}))
