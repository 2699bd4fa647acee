"""The operators of ONNX on sizes and constants: they are computed, and are no part of the network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from archdsl.runtime.importing.files.onnx_file import Node
from archdsl.runtime.refusal import ImportRefused

MOST = 64 * 1024**2
"""The most numbers of an array that is computed."""

BROADCAST = "Add Sub Mul Div Mod Max Min Pow Equal Greater Less And Or Where"
OTHERS = (
    "Identity Dropout Gather Concat Unsqueeze Squeeze Slice Cast Not Sqrt Reciprocal Sign Neg Abs Floor Ceil Round "
    "ReduceProd ReduceSum ReduceMax ReduceMin ReduceMean ConstantOfShape Range Split Reshape Expand Transpose Shape "
    "Size Tile"
)
"""The operators that are computed: none of them runs a graph of its own or draws numbers."""


def computed(node: Node, given: list[Any], opset: int) -> list[Any]:
    """The results of an operator on arrays, by ONNX's own reference. Raises ImportRefused."""
    if node.operator not in f"{BROADCAST} {OTHERS}".split():
        raise ImportRefused(f"{node} computes with constants, which is not read")
    arrays = [None if part is None else np.asarray(part) for part in given]
    try:
        _bound(node.operator, arrays)
        return _run(node, arrays, opset)
    except ImportRefused:
        raise
    except Exception as error:
        raise ImportRefused(f"{node} cannot be computed: {type(error).__name__}") from None


def _run(node: Node, arrays: list[Any], opset: int) -> list[Any]:
    from onnx import helper, numpy_helper  # only for files that compute with sizes
    from onnx.reference import ReferenceEvaluator

    attributes = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    outputs = [f"y{i}" if name else "" for i, name in enumerate(node.outputs)]
    evaluator = ReferenceEvaluator(helper.make_node(node.operator, names, outputs, **attributes), opsets={"": opset})
    found = evaluator.run(None, {name: array for name, array in zip(names, arrays, strict=True) if name})
    return [np.asarray(part) for part in found]


def _bound(operator: str, arrays: list[Any]) -> None:
    """Raises ImportRefused where an array would be large."""
    sizes: Any = ()
    if operator in BROADCAST.split():
        sizes = np.broadcast_shapes(*(array.shape for array in arrays))
    elif operator == "Expand":
        sizes = np.broadcast_shapes(arrays[0].shape, tuple(map(abs, map(int, arrays[1]))))
    elif operator == "Tile":
        sizes = [n * many for n, many in zip(arrays[0].shape, arrays[1], strict=True)]
    elif operator == "ConstantOfShape":
        sizes = arrays[0]
    elif operator == "Range":
        start, end, step = arrays
        sizes = [max(0, math.ceil((end - start) / step))]
    found = [int(n) for n in sizes]
    if any(n < 0 for n in found) or math.prod(found) > MOST:
        raise ImportRefused(f"an array of size {found} is too large")
