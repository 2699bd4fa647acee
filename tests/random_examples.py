"""Random items that call an operation as one of its examples does, at the sizes of that example."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from archdsl.ops import OPERATIONS
from archdsl.ops.base import Example, Rules

if TYPE_CHECKING:
    from tests.random_items import Items


def words(text: str) -> list[str]:
    return text.split()


SELDOM = words(
    "attend attention blur concat coordinates differences grn groupnorm layernorm matmul normalize pixel_unshuffle "
    "relative rmsnorm rotary sine_positions slice softmax split squeeze"
)
"""The operations some of whose arguments hardly any other item gives."""


def giving(name: str) -> dict[str, list[Example]]:
    """The examples of an operation by the parameters that have other values than their defaults."""
    cls = OPERATIONS[name]
    found: dict[str, list[Example]] = {}
    for example in cls.examples:
        operation = cls.parse(example.arguments)
        for field, parameter in cls.fields.items():
            if parameter.is_required or getattr(operation, field) != parameter.default:
                found.setdefault(field, []).append(example)
    return found or {"": list(cls.examples)}


CALLS = [(OPERATIONS[name], examples) for name in SELDOM for examples in giving(name).values()]


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
