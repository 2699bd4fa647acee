"""Built modules in tests: the class of a text, and tensors to run it on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from archdsl import dims
from archdsl.backends.torch_source import write_module
from archdsl.built import execute
from archdsl.graph import Graph
from archdsl.graph import Tensor as Result


def module_of(text: str) -> tuple[ModuleType, type[nn.Module]]:
    """The Python module of a built file's text, and its model, the last class."""
    module = execute(text, "<built>")
    sys.modules.pop(module.__name__)
    return module, [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__][-1]


def class_of(graph: Graph, **given: Any) -> type[nn.Module]:
    """The built class of a graph, written with these arguments of `write_module`."""
    return module_of(write_module(graph, **given))[1]


def inputs(
    graph: Graph, sizes: Mapping[str, int] | None = None, dtype: torch.dtype = torch.double, batch: int = 2
) -> list[Tensor]:
    """Random inputs of these free sizes, or of those that the spec shows; the same ones at every call."""
    generator = torch.Generator().manual_seed(1)
    shapes = [graph.shape(Result(n.id)) for n in graph.input_nodes]
    at = graph.examples if sizes is None else sizes
    return [torch.randn(batch, *(dims.evaluate(d, at) for d in s), generator=generator, dtype=dtype) for s in shapes]
