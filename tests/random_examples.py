"""Random items that call an operation as one of its examples does, at the sizes of that example."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from archdsl.ops import OPERATIONS
from archdsl.ops.base import Example, Rules

if TYPE_CHECKING:
    from tests.random_items import Items


SELDOM = (
    "attend.causal attend.stored blur.stride concat.axis coordinates.window_size differences.scale grn.eps div. "
    "groupnorm.affine layernorm.affine log_softmax.axis maps.to matmul. normalize.axis normalize.eps pad.after "
    "relative.class_token reduce_max. reduce_mean. reduce_sum. relative.signed relative.step rmsnorm.affine "
    "rmsnorm.eps rotary.pairs rotary.temperature sine_positions.normalized sine_positions.temperature slice.axis "
    "slice.step softmax.axis split.axis squeeze.axis"
)
"""Operations, with parameters that other items hardly give."""


def giving(name: str, field: str) -> list[Example]:
    """The examples of an operation that give a parameter another value than its default."""
    cls = OPERATIONS[name]
    if not field:
        return list(cls.examples)
    parameter = cls.fields[field]
    default = None if parameter.is_required else parameter.default
    return [e for e in cls.examples if getattr(cls.parse(e.arguments), field) != default]


CALLS = [(OPERATIONS[name], giving(name, field)) for name, _, field in (one.partition(".") for one in SELDOM.split())]


def call(items: Items, flat: bool) -> str:
    """Joins what flows in with the result of an operation, for which it is brought to the sizes of an example."""
    random = items.random
    cls, examples = random.choice(CALLS)
    example = random.choice(examples)
    pool = "" if flat else f"{random.choice(['global_avgpool', 'global_maxpool'])} -> flatten -> "
    branches = [f"here -> {pool}linear({prod(shape)}){reshaped(shape)}" for shape in example.inputs]
    given = f"({', '.join(branches)}) -> " if len(branches) > 1 else "".join(f"{one} -> " for one in branches)
    results = cls.parse(example.arguments).infer(example.inputs, Rules())
    joined = f" -> concat(axis = {example.arguments.get('axis', 0)})" if len(results) > 1 else ""
    back = "" if len(results[0]) == 1 else " -> flatten"
    last = "" if flat else f" -> reshape([here.channels{', 1' * items.rank}])"
    own = f"{given}{cls.spell(example.arguments)}{joined}{back} -> linear(here.channels) -> sigmoid{last}"
    return f"{{ here: {{ }}\n {own}\n (it, here) -> {random.choice(['add(stretch = true)', 'mul'])} }}"


def reshaped(shape: tuple[int, ...]) -> str:
    return "" if len(shape) == 1 else f" -> reshape([{', '.join(map(str, shape))}])"
