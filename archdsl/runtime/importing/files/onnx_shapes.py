"""The operators of ONNX on sizes and constants: they are computed, and are no part of the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from archdsl.runtime.importing.files.onnx_file import Node
from archdsl.runtime.refusal import ImportRefused

MOST = 64 * 1024**2
"""The most numbers of an array that is computed."""


def computed(node: Node, given: list[Any], opset: int) -> list[Any]:
    """The results of an operator on arrays. Raises ImportRefused."""
    function = FUNCTIONS.get(node.operator)
    if function is None:
        raise ImportRefused(f"{node} computes with constants, which is not read")
    arrays = [None if part is None else np.asarray(part) for part in given]
    try:
        found = function(node.attributes, arrays)
    except ImportRefused:
        raise
    except Exception as error:
        raise ImportRefused(f"{node} cannot be computed: {type(error).__name__}") from None
    return found if isinstance(found, list) else [found]


def bounded(sizes: Any) -> tuple[int, ...]:
    """Sizes of an array to be made. Raises ImportRefused if it would be large."""
    found = tuple(int(n) for n in sizes)
    if any(n < 0 for n in found) or math.prod(found) > MOST:
        raise ImportRefused(f"an array of size {list(found)} is too large")
    return found


def _functions() -> Mapping[str, Callable[[Mapping[str, Any], list[Any]], Any]]:
    def axes(attributes: Mapping[str, Any], given: list[Any], at: int = 1) -> tuple[int, ...] | None:
        found = attributes.get("axes", given[at] if len(given) > at else None)
        return None if found is None else tuple(int(axis) for axis in np.asarray(found).reshape(-1))

    def unsqueeze(a: Mapping[str, Any], g: list[Any]) -> Any:
        return np.expand_dims(g[0], axes(a, g) or ())

    def slices(a: Mapping[str, Any], g: list[Any]) -> Any:
        starts, ends = a.get("starts", g[1] if len(g) > 1 else None), a.get("ends", g[2] if len(g) > 2 else None)
        where = axes(a, g, 3) or range(len(starts))
        steps = g[4] if len(g) > 4 and g[4] is not None else [1] * len(starts)
        index = [slice(None)] * g[0].ndim
        for axis, start, end, step in zip(where, starts, ends, steps, strict=True):
            index[axis] = slice(int(start), None if int(end) < -(2**62) else int(end), int(step))
        return g[0][tuple(index)]

    def cast(a: Mapping[str, Any], g: list[Any]) -> Any:
        from onnx.helper import tensor_dtype_to_np_dtype

        return g[0].astype(tensor_dtype_to_np_dtype(a["to"]))

    def divide(a: Mapping[str, Any], g: list[Any]) -> Any:
        if np.issubdtype(g[0].dtype, np.integer):
            return (g[0] / g[1]).astype(np.int64) if (g[0] * g[1] < 0).any() else g[0] // g[1]
        return g[0] / g[1]

    def fill(a: Mapping[str, Any], g: list[Any]) -> Any:
        value = np.asarray(a.get("value", np.zeros(1, np.float32))).reshape(-1)
        return np.full(bounded(g[0]), value[0])

    def numbers(a: Mapping[str, Any], g: list[Any]) -> Any:
        bounded([max(0, math.ceil((g[1] - g[0]) / g[2]))])
        return np.arange(g[0], g[1], g[2])

    def split(a: Mapping[str, Any], g: list[Any]) -> Any:
        parts = a.get("split", g[1] if len(g) > 1 else None)
        axis = a.get("axis", 0)
        at = np.cumsum(parts)[:-1] if parts is not None else a.get("num_outputs", 1)
        return [*np.split(g[0], at, axis)]

    def reshape(a: Mapping[str, Any], g: list[Any]) -> Any:
        return g[0].reshape([g[0].shape[i] if n == 0 else int(n) for i, n in enumerate(g[1])])

    def expand(a: Mapping[str, Any], g: list[Any]) -> Any:
        return np.broadcast_to(g[0], np.broadcast_shapes(g[0].shape, bounded(g[1])))

    def two(function: Any) -> Any:
        def compute(a: Mapping[str, Any], g: list[Any]) -> Any:
            bounded(np.broadcast_shapes(*(part.shape for part in g)))
            return function(*g)

        return compute

    def reduce(function: Any) -> Any:
        return lambda a, g: function(g[0], axis=axes(a, g), keepdims=bool(a.get("keepdims", 1)))

    return {
        "Identity": lambda a, g: g[0],
        "Dropout": lambda a, g: g[0],
        "Gather": lambda a, g: np.take(g[0], g[1], a.get("axis", 0)),
        "Concat": lambda a, g: np.concatenate(g, a["axis"]),
        "Unsqueeze": unsqueeze,
        "Squeeze": lambda a, g: np.squeeze(g[0], axes(a, g)),
        "Slice": slices,
        "Cast": cast,
        "Add": two(np.add),
        "Sub": two(np.subtract),
        "Mul": two(np.multiply),
        "Mod": two(np.mod),
        "Max": two(np.maximum),
        "Min": two(np.minimum),
        "Pow": two(np.power),
        "Equal": two(np.equal),
        "Greater": two(np.greater),
        "Less": two(np.less),
        "And": two(np.logical_and),
        "Or": two(np.logical_or),
        "Where": two(np.where),
        "Not": lambda a, g: np.logical_not(g[0]),
        "Div": divide,
        "Sqrt": lambda a, g: np.sqrt(g[0]),
        "Reciprocal": lambda a, g: 1 / g[0],
        "Sign": lambda a, g: np.sign(g[0]),
        "Neg": lambda a, g: -g[0],
        "Abs": lambda a, g: np.abs(g[0]),
        "Floor": lambda a, g: np.floor(g[0]),
        "Ceil": lambda a, g: np.ceil(g[0]),
        "Round": lambda a, g: np.round(g[0]),
        "ReduceProd": reduce(np.prod),
        "ReduceSum": reduce(np.sum),
        "ReduceMax": reduce(np.max),
        "ReduceMin": reduce(np.min),
        "ReduceMean": reduce(np.mean),
        "ConstantOfShape": fill,
        "Range": numbers,
        "Split": split,
        "Reshape": reshape,
        "Expand": expand,
        "Transpose": lambda a, g: np.transpose(g[0], a.get("perm")),
        "Shape": lambda a, g: np.asarray(g[0].shape[a.get("start", 0) : a.get("end")]),
        "Size": lambda a, g: np.asarray(g[0].size),
    }


FUNCTIONS = _functions()
