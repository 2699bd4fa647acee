"""An ONNX graph as a program."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch

from archdsl.common.escaping import visible
from archdsl.runtime.importing.files import names, onnx_attention, onnx_axes, patterns
from archdsl.runtime.importing.files.inventing import invent
from archdsl.runtime.importing.files.onnx_file import Node, OnnxGraph
from archdsl.runtime.importing.files.onnx_operators import HANDLERS, Call
from archdsl.runtime.importing.files.onnx_shapes import computed
from archdsl.runtime.importing.files.program import Program, Ref
from archdsl.runtime.refusal import ImportRefused

assert onnx_axes  # its operators are among the HANDLERS


def program_of(graph: OnnxGraph, sizes: list[tuple[int, ...]]) -> Program:
    """The program of a graph, whose inputs have these sizes with the batch. Raises ImportRefused."""
    patterns.rewrite(graph)
    names.from_node_names(graph)
    program = Program(graph.file)
    for (name, _), size in zip(graph.inputs, sizes, strict=True):
        program.take(name, size)
    if any(axes and isinstance(axes[0], int) for _, axes in graph.inputs):
        program.fix_batch(sizes[0][0])
    paths = Paths(graph)
    added = 0
    for path, nodes in groupby(graph.nodes, lambda node: onnx_attention.path_of(node, graph)):
        if path:
            onnx_attention.add([*nodes], path, graph, program, lambda node: add(node, graph, program, paths))
            continue
        for node in nodes:
            add(node, graph, program, paths)
            program.steps[added:] = [replace(step, kind=node.operator) for step in program.steps[added:]]
            added = len(program.steps)
    for name in graph.outputs:
        program.give(name, name)
        if not isinstance(program.values.get(name), torch.Tensor):
            raise ImportRefused(f"the output `{visible(name)}` is not computed from the input")
    if not paths.named and not any(node.scopes for node in graph.nodes):
        invent(program)
    kinds = [pair for node in graph.nodes for pair in node.scopes[:1] if pair[0] == ""]
    program.kind = kinds[0][1] if kinds else ""
    return program


def add(node: Node, graph: OnnxGraph, program: Program, paths: Paths) -> None:
    """Adds a node to the program."""
    constants, place = graph.constants, f"{graph.file}, {node}"
    given = [name for name in node.inputs if name]
    flows = [name for name in given if isinstance(program.values.get(name), torch.Tensor)]
    if not flows and all(name in constants for name in given):
        results = computed(node, [constants[name] if name else None for name in node.inputs], graph.opset)
        constants.update(zip(node.outputs, results, strict=False))
        return
    scopes, leaf = names.scoped(node.scopes)
    if node.operator in ("Shape", "Size"):
        program.add(partial(sizes_of, node), [Ref(node.inputs[0])], node.outputs, scopes, place)
        return
    if not flows and not (node.operator == "Expand" and node.inputs[0] in constants):
        takes = [constants[name] if name in constants else Ref(name) if name else None for name in node.inputs]
        program.add(partial(on_sizes, node, graph.opset), takes, node.outputs, scopes, place)
        return
    handler = HANDLERS.get(node.operator)
    if handler is None or "domain" in node.attributes:
        raise ImportRefused(f"the language has no operation for {node}", leaf, graph.file)
    handler(Call(node, graph, program, scopes, paths.of(node, leaf)))


def sizes_of(node: Node, x: torch.Tensor) -> Any:
    """The sizes of a tensor."""
    sizes = np.array(x.shape, dtype=np.int64)
    found = sizes[node.attributes.get("start", 0) : node.attributes.get("end")]
    return found if node.operator == "Shape" else sizes.prod()


def on_sizes(node: Node, opset: int, *given: Any) -> Any:
    """An operator on sizes that are known while the network runs."""
    found = computed(node, [*given], opset)
    return found if len(node.outputs) > 1 else found[0]


class Paths:
    """The paths of layers: those of their tensors' names, of the file's notes, else numbers."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.taken: dict[str, tuple[int, ...]] = {}
        """The tensors of each path, by identity."""
        self.named = False
        """Whether any layer has a name of the file."""

    def of(self, node: Node, leaf: str) -> str:
        """The path of a node's layer; nodes with the same tensors have one."""
        if not names.takes_weights(node, self.graph):
            return leaf
        tensors = [self.graph.constants[name] for name in node.inputs[1:] if name in self.graph.constants]
        same = tuple(map(id, tensors))
        stems = [stem for name in node.inputs[1:] if (stem := names.stem(name))]
        kind = dict(node.scopes).get(leaf, "") if leaf else ""
        # A convolution with a batchnorm folded in has the name of the batchnorm.
        fits = not kind or any(word in kind.lower() for word in LAYERS.get(node.operator, ()))
        for wish in filter(None, [leaf if fits else "", node.leaf, *stems, leaf]):
            again = _AGAIN.fullmatch(wish)
            if again and self.taken.get(again[1]) == same:
                return again[1]
            if self.taken.setdefault(wish, same) == same:
                self.named = True
                return wish
        number = len(self.taken)
        base = PLAIN_NAMES.get(node.operator, node.operator.lower())
        while self.taken.setdefault(f"{base}{number}", same) != same:
            number += 1
        return f"{base}{number}"


PLAIN_NAMES = {
    "Gemm": "linear",
    "MatMul": "linear",
    "ConvTranspose": "upconv",
    "BatchNormalization": "bn",
    "LayerNormalization": "norm",
    "GroupNormalization": "norm",
    "InstanceNormalization": "norm",
}
"""The names of layers for which the file has none; a number follows."""

LAYERS = {
    "Conv": ("conv",),
    "ConvTranspose": ("conv",),
    "Gemm": ("linear",),
    "MatMul": ("linear",),
    "BatchNormalization": ("batchnorm",),
    "LayerNormalization": ("layernorm",),
    "GroupNormalization": ("groupnorm",),
    "InstanceNormalization": ("instancenorm", "groupnorm"),
    "PRelu": ("prelu",),
}
"""A word in the name of the class of PyTorch's layer for an operator."""

_AGAIN = re.compile(r"(.+)_\d+")
"""The name of a further call of a layer, as PyTorch's older exporter writes it."""
