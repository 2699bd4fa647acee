"""Tensors that come from no input: parameters and buffers, what is computed of them, and constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import torch

from archdsl.runtime.importing.recorded import Constant, Derived, Owned

REPEATED = frozenset({"expand", "expand_as", "repeat"})
"""Methods that give a parameter once for each sample."""
KEPT = frozenset(
    {
        *("to", "contiguous", "clone", "type_as", "float", "type", "view", "reshape", "unsqueeze", "squeeze"),
        *("flatten", "__getitem__", "detach", "data", "unflatten"),
    }
)
"""Methods that give a parameter as it is, or with its numbers in the same order in another shape."""


def derived(name: str, owned: Owned, found: torch.Tensor, batch: int) -> Owned | None:
    """The result of a method of a parameter, if that is the parameter itself."""
    shape = tuple(found.shape)
    if name in REPEATED and shape[1:] == owned.shape[1:] and owned.shape[:1] == (1,):
        return replace(owned, repeated=True) if shape[0] == batch else None
    converts = name in ("to", "float", "type", "type_as")
    same = name in KEPT and found.numel() == math.prod(owned.shape) and (not converts or found.dtype == torch.float32)
    return Owned(owned.key, shape, owned.stored) if same and not owned.repeated else None


# ---------------------------------------------------------------- parts of a parameter

JOINS = frozenset({"cat", "concat", "concatenate"})
"""Functions that put parts together."""
ZERO_MAKERS = frozenset({"zeros_like", "new_zeros"})
"""Functions that give zeros, of the size of a part of a parameter, say."""
Span: TypeAlias = tuple[int, int]
"""The first element of a part, and the one behind its last."""


def parts(whole: Owned, found: Sequence[torch.Tensor]) -> list[Span] | None:
    """The parts that the results of a split of a parameter with one axis are; None of another function."""
    ends = [0, *accumulate(len(tensor) if tensor.ndim == 1 else 0 for tensor in found)]
    return [*pairwise(ends)] if len(whole.shape) == 1 and ends[-1] == whole.shape[0] else None


Derive: TypeAlias = Callable[[str, tuple[Any, ...], tuple[int, ...]], Derived]
"""Makes the result of a function, by its name, its arguments and its shape."""


def piece_of(whole: Owned, span: Span, derive: Derive) -> Derived:
    return derive("__getitem__", (whole, slice(*span)), (span[1] - span[0],))


def zeroed(whole: object, span: Span, derive: Derive) -> Derived | None:
    """A parameter with one axis of which this part becomes 0, too; None of another tensor."""
    found = owned_with_zeros(whole)
    if isinstance(whole, Owned) and len(whole.shape) == 1:
        found = whole, []
    if found is None:
        return None
    owned, zeros = found
    cuts = sorted([*zeros, span])
    if any(one[1] > two[0] for one, two in pairwise(cuts)):
        return None
    pieces: list[Derived | Constant] = []
    at = 0
    for start, stop in [*cuts, (owned.shape[0], owned.shape[0])]:
        if start > at:
            pieces.append(piece_of(owned, (at, start), derive))
        if stop > start:
            pieces.append(Constant(partial(torch.zeros, stop - start)))
        at = stop
    return derive("cat", (tuple(pieces),), owned.shape)


def owned_with_zeros(given: object) -> tuple[Owned, list[Span]] | None:
    """The parameter that a tensor is, apart from parts that are 0, and these; None of another tensor.

    It is put together of parts of the parameter, each in its own place, and zeros.
    """
    pieces = given.arguments[0] if isinstance(given, Derived) and given.name in JOINS and given.arguments else None
    whole: Owned | None = None
    zeros: list[Span] = []
    at = 0
    for piece in pieces if isinstance(pieces, tuple) else ():
        if (count := zeros_in(piece)) is not None:
            zeros.append((at, at + count))
            at += count
            continue
        if not isinstance(piece, Derived) or piece.name != "__getitem__" or len(piece.shape) != 1:
            return None
        owned, index = piece.arguments
        if not isinstance(owned, Owned) or not isinstance(index, slice) or whole not in (None, owned):
            return None
        if index.indices(owned.shape[0]) != (at, at + piece.shape[0], 1):
            return None
        whole = owned
        at += piece.shape[0]
    return (whole, zeros) if whole is not None and whole.shape == (at,) else None


def zeros_in(piece: object) -> int | None:
    """How many zeros in a row a tensor is; None if it is none."""
    if isinstance(piece, Derived) and piece.name in ZERO_MAKERS:
        return piece.shape[0] if len(piece.shape) == 1 else None
    numbers = piece.numbers if isinstance(piece, Constant) else None
    return len(numbers) if numbers is not None and numbers.ndim == 1 and not numbers.any() else None


def zeroed_span(tensor: torch.Tensor, base: torch.Tensor, name: str, arguments: Sequence[Any]) -> Span | None:
    """The part of a tensor with one axis that a call in place makes 0; None of another call."""
    if base.ndim != 1 or tensor.ndim != 1 or tensor.stride() != base.stride():
        return None
    start, count = tensor.storage_offset() - base.storage_offset(), len(tensor)
    if name == "zero_" or (name == "fill_" and arguments[1] == 0):
        return start, start + count
    if name == "__setitem__" and isinstance(arguments[1], slice) and type(arguments[2]) in (int, float):
        first, stop, step = arguments[1].indices(count)
        return (start + first, start + stop) if arguments[2] == 0 and step == 1 and stop > first else None
    return None
