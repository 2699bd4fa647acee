"""Layers and functions that are called on tensors with the channels at the end."""

from __future__ import annotations

from torch import nn

from archdsl.runtime.importing.functions import (
    HANDLERS,
    Meaning,
    as_layer,
    helper_functions,
    helper_wording,
    plain_name,
    shape_of,
)
from archdsl.runtime.importing.layers import NoOperation, Wording, said
from archdsl.runtime.importing.layouts import Layouts, channels_last
from archdsl.runtime.importing.recorded import Call, Value


def meaning_last(call: Call, layouts: Layouts) -> Meaning | None:
    """A call whose tensors have the channels at the end; None if that is not how it is meant.

    The inputs of the meaning are tensors of the network.
    """
    name = plain_name(call)
    bases = [layouts.ordered(value, channels_last(len(value.shapes[0]) - 1)) for value in call.inputs]
    shapes = tuple(shape_of(base) for base in bases)
    results = [(shape[-1], *shape[:-1]) for shape in (shape_of(value) for value in call.results)]
    if isinstance(call.module, nn.MultiheadAttention):
        return attention(call, call.module, bases)
    if call.module is None and name in HANDLERS:
        return None
    helper = call.name.removeprefix("helper ")
    if helper != call.name and helper in helper_functions():
        return Meaning(bases, helper_wording(call, helper, shapes, last=True))
    layer = call.module if call.module is not None else as_layer(call, name)
    found = said(layer, shapes, tuple(results), last=True)
    return Meaning(bases, *([] if found is None else [found]))


def attention(call: Call, module: nn.MultiheadAttention, bases: list[Value]) -> Meaning:
    """Attention with its own weights: of one tensor, of queries and the rest, or of three."""
    named = {k: v for k, v in call.named.items() if k not in ("query", "key", "value", "need_weights")}
    named |= dict(zip(("key_padding_mask", "need_weights", "attn_mask"), call.arguments[3:], strict=False))
    given = {k: v for k, v in named.items() if v not in (None, False, True)}
    is_own = type(module) is not nn.MultiheadAttention  # of a built file, which takes one tensor for two alike
    bases = [*bases, *bases[-1:] * (3 - len(bases))] if is_own else bases
    batch_first = module.batch_first or is_own
    plain = module.bias_k is None and not module.add_zero_attn and batch_first and len(bases) == 3
    if given or not plain or named.get("is_causal"):
        raise NoOperation("attention with a mask, extra keys, or the batch not first")
    query, keys, values = bases
    taken = [query] if query is keys is values else [query, keys] if keys is values else bases
    arguments: dict[str, object] = {"heads": module.num_heads}
    if module.dropout:
        arguments["dropout"] = module.dropout
    if module.in_proj_bias is None:
        arguments["bias"] = False
    return Meaning(taken, Wording("attention", arguments))
