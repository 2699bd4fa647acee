"""Calls of torch.nn.MultiheadAttention in an ONNX file: the many operators that they consist of as one layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from archdsl.runtime.importing.files.names import ATTENTION, scoped
from archdsl.runtime.importing.files.onnx_file import Node, OnnxGraph
from archdsl.runtime.importing.files.program import Program, Ref
from archdsl.runtime.refusal import ImportRefused


def path_of(node: Node, graph: OnnxGraph) -> str:
    """The path of the attention around a node; empty if there is none.

    PyTorch's exporters note its class, or its tensors have the names that it has.
    """
    for path, kind in node.scopes:
        named = any(f"{path}.{name}" in graph.constants for name in ("in_proj_bias", "in_proj_weight"))
        if path and (kind == ATTENTION or named):
            return path
    return ""


def add(nodes: Sequence[Node], path: str, graph: OnnxGraph, program: Program, add_node: Callable[[Node], None]) -> None:
    """Adds the nodes of one call of an attention as its layer. Raises ImportRefused if it is in another form."""
    made = {name for node in nodes for name in node.outputs}
    taken = dict.fromkeys(name for node in nodes for name in node.inputs if name and name not in made)
    inputs = [name for name in taken if isinstance(program.values.get(name), torch.Tensor)]
    inside = {id(node) for node in nodes}
    outside = {name for node in graph.nodes if id(node) not in inside for name in node.inputs} | set(graph.outputs)
    results = [name for node in nodes for name in node.outputs if name in outside]
    heads = number_of_heads(nodes, program, add_node)
    state = tensors_of(nodes, graph)
    place = f"{graph.file}, {nodes[0]}"
    if not heads or state is None or not 1 <= len(inputs) <= 3 or len(results) != 1:
        raise ImportRefused("attention in a form that is not read", path, place)
    first, *others = map(Ref, inputs)
    in_front = program.has_batch_first(first.name)
    width, biased = len(state["out_proj.weight"]), "in_proj_bias" in state
    make = partial(nn.MultiheadAttention, width, heads, bias=biased, batch_first=in_front)
    takes = [first, *(others or [first]), *(others[-1:] or [first])][:3]
    scopes = [scope for scope in scoped(nodes[0].scopes)[0] if path.startswith(f"{scope.path}.")]
    program.attention(path, make, state, takes, results, scopes, place)


def number_of_heads(nodes: Sequence[Node], program: Program, add_node: Callable[[Node], None]) -> int:
    """The number of heads, found in the size of what the softmax takes; 0 if there is none."""
    softmax = next((node for node in nodes if node.operator == "Softmax"), None)
    if softmax is None:
        return 0
    with program.trial():
        for node in nodes[: nodes.index(softmax)]:
            add_node(node)
        shape = program.values[softmax.inputs[0]].shape
        batch = program.values[next(iter(program.inputs))].shape[0]
    return int(shape[1]) if len(shape) == 4 else int(shape[0]) // batch


def tensors_of(nodes: Sequence[Node], graph: OnnxGraph) -> dict[str, torch.Tensor] | None:
    """The layer's tensors; None if there are not two products with weights."""
    products = []
    for node in nodes:
        weight = graph.constants.get(node.inputs[1]) if node.operator in ("MatMul", "Gemm") else None
        if weight is not None and weight.ndim == 2:
            bias = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
            products.append((weight if node.attributes.get("transB") else weight.T, bias))
    if len(products) < 2:
        return None
    *first, (out, out_bias) = products
    biases = [bias for _, bias in first]
    state: dict[str, Any] = {"in_proj_weight": np.concatenate([weight for weight, _ in first]), "out_proj.weight": out}
    if all(bias is not None for bias in biases) or out_bias is not None:
        width = len(state["in_proj_weight"])
        known = [bias for bias in biases if bias is not None]
        state["in_proj_bias"] = np.concatenate(known) if known else np.zeros(width, np.float32)
        state["out_proj.bias"] = np.zeros(len(out), np.float32) if out_bias is None else out_bias
    return {name: torch.from_numpy(np.ascontiguousarray(array).copy()) for name, array in state.items()}
