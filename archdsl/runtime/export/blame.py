"""Finds the operation of the spec that makes an exported file wrong."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archdsl.graph import Graph, Node
from archdsl.runtime.export.drawing import Try
from archdsl.runtime.export.program import images

if TYPE_CHECKING:
    import torch

SCOPES = "pkg.torch.onnx.name_scopes"
"""The key under which PyTorch's exporter stores the modules of an ONNX node: `['', 'layer1', 'layer1.0', 'conv2d']`."""


def of_path(graph: Graph, path: str, near: str = "") -> Node | None:
    """The node at a module's path; for a scope, its first node with a name similar to `near`."""
    inside = [node for node in graph.nodes() if node.path == path or node.path.startswith(f"{path}." if path else "")]
    exact = [node for node in inside if node.path == path]
    alike = [node for node in inside if node.operation.name.replace("_", "") == near.lower()]
    return next(iter(exact or alike), None)


def of_message(graph: Graph, model: Any, message: str) -> Node | None:
    """The operation of the ONNX node that onnxruntime names."""
    for node in model.graph.node:
        if node.name and re.search(rf"\b{re.escape(node.name)}\b", message):
            return of_path(graph, _scopes(node)[-1], node.op_type)
    return None


def of_program(graph: Graph, program: Any, message: str) -> Node | None:
    """The operation of the traced node that the exporter names (`%conv2d_1`)."""
    for node in program.graph.nodes:
        if re.search(rf"%{re.escape(node.name)}\b", message):
            stack = [*(node.meta.get("nn_module_stack") or {}).values()]
            return of_path(graph, stack[-1][0] if stack else "", str(node.target).partition(".")[0])
    return None


def of_numbers(graph: Graph, network: torch.nn.Module, model: Any, tried: Try) -> Node | None:
    """The operation of the first module whose output differs at one size. Raises onnxruntime's exceptions."""
    import onnx
    import onnxruntime

    last = {_scopes(node)[-1]: node.output[0] for node in model.graph.node}
    seen = _results(graph, network, tried)
    watched = {path: last[path] for path in seen if path in last}
    known = {output.name for output in model.graph.output}
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in watched.values() if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    inputs = images(graph, tried.sizes, tried.batch, seed=1)
    found = session.run([*watched.values()], {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
    for (path, wanted), value in zip(((p, seen[p]) for p in watched), found, strict=True):
        scale = wanted.abs().max().item() if wanted.numel() else 0.0
        if value.shape != tuple(wanted.shape) or abs(value - wanted.numpy()).max() > 1e-3 * scale:
            return of_path(graph, path)
    return None


def _scopes(node: Any) -> list[str]:
    """The paths of the modules of an ONNX node, outermost first."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "['', '']")
    scopes: list[str] = literal_eval(noted)
    return scopes[:-1] or [""]


def _results(graph: Graph, network: torch.nn.Module, tried: Try) -> Mapping[str, torch.Tensor]:
    """The outputs of the modules that run once, by path, in the order in which they finish."""
    import torch

    seen: dict[str, torch.Tensor | None] = {}

    def keep(path: str) -> Any:
        def hook(module: object, given: object, result: object) -> None:
            # A module that runs twice has two outputs, and the file's may be either.
            alone = path not in seen and isinstance(result, torch.Tensor)
            seen[path] = result.detach().clone() if alone and isinstance(result, torch.Tensor) else None

        return hook

    handles = [m.register_forward_hook(keep(path)) for path, m in network.named_modules() if path]
    try:
        with torch.no_grad():
            network(*images(graph, tried.sizes, tried.batch, seed=1))
    finally:
        for handle in handles:
            handle.remove()
    return {path: result for path, result in seen.items() if result is not None}
