"""The operations of the language, by name, in the order of the language reference."""

from collections.abc import Mapping
from types import MappingProxyType

from archdsl.ops import (
    activation,
    align,
    attend,
    attention,
    blur,
    channels,
    constants,
    conv,
    differences,
    linear,
    merge,
    norm,
    over_channels,
    parameter,
    pool,
    positions,
    product,
    reduce,
    regularise,
    resize,
    response,
    rotary,
    shape,
    standardised,
    unit_length,
    upconv,
)
from archdsl.ops.base import Operation
from archdsl.ops.input import Input
from archdsl.ops.partition import BLOCKS

FAMILIES = (
    conv,
    standardised,
    upconv,
    linear,
    pool,
    blur,
    over_channels,
    reduce,
    norm,
    response,
    unit_length,
    activation,
    regularise,
    merge,
    product,
    align,
    resize,
    channels,
    constants,
    shape,
    positions,
    attention,
    attend,
    rotary,
    parameter,
    differences,
)
"""The files of operations, in the order of the language reference."""

OPERATIONS: Mapping[str, type[Operation]] = MappingProxyType(
    {
        cls.name: cls
        for family in FAMILIES
        for cls in vars(family).values()
        if isinstance(cls, type) and issubclass(cls, Operation)
        if cls.__module__ == family.__name__ and "name" in vars(cls)
    }
)
"""The operations by name: every class of these files that has one."""

LATER = frozenset(
    {
        *(
            "stdconv",
            "blur",
            "channel_mean",
            "channel_max",
            "reduce_mean",
            "reduce_sum",
            "reduce_max",
            "rmsnorm",
            "grn",
        ),
        *("normalize", "exp", "log", "sqrt", "square", "abs", "sin", "cos", "hardtanh", "clamp"),
        *("log_softmax", "div", "matmul"),
        *(
            "pad_to_multiple",
            "identity",
            "rescale",
            "squeeze",
            "tokens",
            "maps",
            "sine_positions",
            "attention",
            "attend",
        ),
        *("relative", "coordinates", "rotary", "parameter", "differences"),
    }
)
"""The operations that version 1 of the language lacked: labels of these names keep their meaning."""

__all__ = ["BLOCKS", "LATER", "OPERATIONS", "Input", "Operation"]
