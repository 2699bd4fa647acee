"""Shared parts of size rules: reading a shape, and expanding a parameter to one number per axis."""

import math
from collections.abc import Sequence
from typing import TypeVar

from archdsl import dims
from archdsl.common.units import counted
from archdsl.dims import Demanded, Dim
from archdsl.ops.base import Rules, Shape
from archdsl.ops.declaration import Mend, OperationError
from archdsl.ops.fields import shape_text, shown
from archdsl.ops.forms import Argument

D = TypeVar("D", int, Dim)
PIN = "fix the free sizes in the `input`, e.g. `input image[3, 224, 224]`"


def spatial(name: str, shape: Shape) -> tuple[Dim, ...]:
    """The sizes of the one to three spatial axes of a tensor; OperationError if it has none, or more."""
    axes = shape[1:]
    if 1 <= len(axes) <= 3:
        return axes
    if not axes:
        raise OperationError(
            f"`{name}` needs a tensor with spatial axes, such as [C, H, W]; this one is flat: {shape_text(shape)}",
            inputs=(0,),
            help=f"put `{name}` before the `flatten`, or restore the axes with a `reshape`",
            mends=[
                Mend(f"restore the axes: `{axes} -> {name}`", before=axes) for axes in [f"reshape([{shape[0]}, 1, 1])"]
            ],
        )
    raise OperationError(
        f"`{name}` supports one to three spatial axes; {shape_text(shape)} has {len(axes)}", inputs=(0,)
    )


def rank_name(shape: Shape) -> str:
    """`2d` for [C, H, W]: the suffix of PyTorch's classes. A flat tensor is `1d`, as for nn.BatchNorm1d."""
    return f"{max(len(shape) - 1, 1)}d"


def each(value: D | tuple[D, ...], shape: Shape, parameter: str) -> tuple[D, ...]:
    """One number per axis; OperationError if a size has another count of numbers than the tensor has spatial axes."""
    rank = len(shape) - 1
    if not isinstance(value, tuple):
        return (value,) * rank
    if len(value) != rank:
        numbers = counted(len(value), "number")
        axes = f"{rank} spatial {'axis' if rank == 1 else 'axes'}"
        raise OperationError(
            f"`{parameter}` {shown(value)} has {numbers}, the tensor {shape_text(shape)} has {axes}",
            parameter=parameter,
            inputs=(0,),
            help=f"give one int, or {rank} numbers such as {shown((3,) * rank)}" if rank > 1 else "give one int",
        )
    return value


def near_divisor(number: int, at_most: int) -> int:
    """The largest divisor of a number up to a bound, near that bound; 1 if none is near."""
    high = min(number, at_most)
    return next((g for g in range(high, max(high - 4096, 0), -1) if number % g == 0), 1)


def known(name: str, size: Dim, what: str, advice: str = "") -> int:
    """A size as an int; OperationError if it is free. `what` names it: `number of channels`; `advice` comes first."""
    if isinstance(size, int):
        return size
    raise OperationError(
        f"`{name}` needs a known {what}; here it is {dims.text(size)}, which depends on a free input size",
        inputs=(0,),
        help=advice + PIN,
    )


def channels(name: str, shape: Shape) -> int:
    """The number of channels, which must not depend on a free size."""
    turned = len(shape) == 2 and isinstance(shape[1], int)
    advice = "channels come first, those of tokens, too: without a `permute` they are [C, T]; or " if turned else ""
    return known(name, shape[0], "number of channels", advice)


def known_all(name: str, shape: Shape) -> tuple[int, ...]:
    """All sizes of a tensor as ints; if one is free, OperationError that says what to fix."""
    sizes = tuple(d for d in shape if isinstance(d, int))
    if len(sizes) == len(shape):
        return sizes
    names = sorted(dims.free_sizes(*shape))
    free = " and ".join(names)
    raise OperationError(
        f"`{name}` of {shape_text(shape)} would depend on the free size{'s' * (len(names) > 1)} {free} of the input",
        inputs=(0,),
        help=f"fix {free} in the `input`: write a number for each",
        mends=[Mend(f"pool first: `global_avgpool -> {name}`; or fix {free} in the `input`", before="global_avgpool")],
    )


def several_positions(sizes: tuple[Dim, ...]) -> bool | Demanded:
    """Demands that some axis is longer than 1: PyTorch computes no variance of a single number."""
    of_one: dict[frozenset[str], list[Dim]] = {}
    for size in sizes:
        for factor in dims.positive_factors(size):
            of_one.setdefault(dims.free_sizes(factor), []).append(factor)
    return dims.any_of(*(dims.at_least(dims.maximum(*alike), 2) for alike in of_one.values()))


def ints(shape: Shape) -> tuple[int, ...]:
    """Asserts that all sizes of a shape are ints, as callers promise (MACs)."""
    assert all(isinstance(d, int) for d in shape), shape
    return tuple(d for d in shape if isinstance(d, int))


def count(shape: Shape) -> int:
    """The number of elements of a shape of ints."""
    return math.prod(ints(shape))


def output_fits(rules: Rules, out: Dim, message: str, help: str, mends: Sequence[Mend]) -> None:
    """Demands that a window gives at least one output; `mends` may achieve that."""
    if not (isinstance(out, int) and out >= 1):
        fits = dims.at_least(out, 1)
        rules.require(fits, message, parameter="kernel", inputs=(0,), help=help, mends=mends)


def collapse(values: Sequence[object]) -> object:
    """A single number if all are equal, as in PyTorch's constructors; else a tuple."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def options(*pairs: tuple[str, object, object]) -> tuple[Argument, ...]:
    """Keyword arguments: name, value, PyTorch's default."""
    return tuple(Argument(name, value, default) for name, value, default in pairs)


def positional(**values: object) -> tuple[Argument, ...]:
    """Arguments by position, with PyTorch's names for them."""
    return tuple(Argument(None, value, called=name) for name, value in values.items())
