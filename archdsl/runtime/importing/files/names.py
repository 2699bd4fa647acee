"""The modules that the names in an ONNX file reveal: PyTorch's exporters write them in notes, or in names of nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from archdsl.runtime.importing.files.kinds import classify
from archdsl.runtime.importing.files.onnx_file import Node, OnnxGraph
from archdsl.runtime.importing.files.program import Scope

CONTAINERS = ("torch.nn.modules.container.",)
ATTENTION = "torch.nn.modules.activation.MultiheadAttention"
COMPOSITE = (ATTENTION, "torch.nn.modules.transformer.")
"""Layers of torch.nn that consist of layers."""


def is_leaf(kind: str) -> bool:
    """Whether a class of PyTorch is that of a layer."""
    return kind.startswith("torch.nn.") and not kind.startswith((*CONTAINERS, *COMPOSITE))


def scoped(pairs: Sequence[tuple[str, str]]) -> tuple[list[Scope], str]:
    """The modules around a call, without the network itself, and the path of its layer, from (path, class) pairs."""
    scopes: list[Scope] = []
    leaf = ""
    for path, kind in pairs:
        plain, _, call = path.partition("@")
        if not plain:
            continue
        if is_leaf(kind):
            leaf = plain
            break
        if scopes and not plain.startswith(f"{scopes[-1].path}."):
            break
        scopes.append(Scope(plain, kind, kind.startswith(CONTAINERS), call))
    return scopes, leaf


def from_node_names(graph: OnnxGraph) -> None:
    """Sets the modules around each node from names such as /layer1/layer1.0/conv1/Conv."""
    for node in graph.nodes:
        if node.scopes or not node.name.startswith("/"):
            continue
        *around, _ = node.name[1:].split("/")
        path, last = "", ""
        for part in around:
            own = part.removeprefix(f"{last}.") if last else part
            path = f"{path}.{own}" if path else own
            last = part
            node.scopes.append((path, ""))
    leaves(graph)
    name_kinds(graph)


def leaves(graph: OnnxGraph) -> None:
    """Modules of one call are layers: they are not around it."""
    inside: Counter[str] = Counter()
    for node in graph.nodes:
        for path, _ in node.scopes:
            inside[path] += 1
    for node in graph.nodes:
        if node.scopes and not node.leaf and not node.scopes[-1][1] and inside[node.scopes[-1][0]] == 1:
            node.leaf = node.scopes.pop()[0]


def name_kinds(graph: OnnxGraph) -> None:
    """Gives the modules of which only names are known a class."""
    unknown = [node for node in graph.nodes if any(path and not kind for path, kind in node.scopes)]
    kinds = classify((node.scopes for node in unknown), (node.leaf for node in graph.nodes if node.leaf))
    for node in unknown:
        node.scopes = [
            (path, SEQUENCE if kinds[path][1] else kinds[path][0]) if path else (path, kind)
            for path, kind in node.scopes
        ]


SEQUENCE = "torch.nn.modules.container.Sequential"


def takes_weights(node: Node, graph: OnnxGraph) -> bool:
    return node.operator in WEIGHTED and any(name in graph.constants for name in node.inputs[1:])


WEIGHTED = frozenset(
    {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"),
        *("GroupNormalization", "InstanceNormalization", "PRelu"),
    }
)


def stem(name: str) -> str:
    """The path of a layer in its tensor's name: layer1.0.conv1 of layer1.0.conv1.weight; empty if there is none."""
    head, dot, last = name.rpartition(".")
    if dot and last in ("weight", "bias", "running_mean", "running_var") and is_path(head):
        return head
    return ""


def is_path(text: str) -> bool:
    return bool(text) and all(re.fullmatch(r"\w+", part, re.ASCII) for part in text.split("."))
