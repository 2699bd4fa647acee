"""Compares an imported spec with its file, as another program computes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from archdsl.common.source import Source
from archdsl.runtime.importing.files.onnx_file import OnnxGraph
from archdsl.runtime.importing.files.sizes import Chosen
from archdsl.runtime.importing.proving import Imported, smaller
from archdsl.runtime.importing.recorded import tensors_in
from archdsl.runtime.loading import load
from archdsl.runtime.refusal import ImportRefused

TOLERANCE = 1e-4
"""The largest difference of outputs, as a part of their standard deviation: two programs sum in different orders."""

Run: TypeAlias = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def compare(found: Imported, chosen: Chosen, run: Run, who: str) -> None:
    """Raises ImportRefused unless the spec's network with the file's weights gives what `who` computes."""
    network = load(Source(f"{found.name}.arch", found.text), device="meta").eval()
    network.load_state_dict(found.state, strict=True, assign=True)
    sizes = [chosen.sizes]
    if chosen.free and (other := smaller(found.graph, chosen.sizes)) is not None and other != chosen.sizes:
        sizes.append(other)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for at in sizes:
        given = [torch.randn(chosen.batch or 2, *size, generator=generator) for size in at]
        with torch.no_grad():
            ours = [*tensors_in(network(*given))]
        try:
            theirs = run(given)
        except Exception as error:  # it raises errors of many kinds
            first = str(error).splitlines()[0]
            raise ImportRefused(f"{who} cannot run it at {at}, which the spec accepts: {first}") from None
        for one, two in zip(ours, theirs, strict=True):
            if one.shape != two.shape:
                raise ImportRefused(f"{who} gives a result of size {list(two.shape)}, the spec {list(one.shape)}")
            apart = (one - two).abs().max().item() / max(two.std(correction=0).item(), 1e-12)
            if not apart <= TOLERANCE:
                raise ImportRefused(f"{who} gives other numbers at {at}: they differ by {apart:.2g} of their deviation")
            worst = max(worst, apart)
    shown = " and ".join(", ".join("x".join(map(str, size)) for size in at) for at in sizes)
    found.notes.append(f"equal to {who} at {shown}: {worst:.1g} of the deviation at most")


def of_module(module: nn.Module) -> Run:
    """A function that computes a module."""

    def run(given: list[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [*tensors_in(module(*given))]

    return run


def of_onnx(path: Path, graph: OnnxGraph) -> tuple[Run, str]:
    """A function that computes an ONNX file, and its name: onnxruntime, else the slow evaluator of the package onnx."""
    compute, who = _session(path)

    def run(given: list[torch.Tensor]) -> list[torch.Tensor]:
        arrays = {}
        for (name, _), tensor in zip(graph.inputs, given, strict=True):
            turned = tensor.movedim(1, -1).contiguous() if name in graph.turned else tensor
            arrays[graph.turned.get(name, name)] = turned.numpy()
        return [torch.from_numpy(array) for array in compute(arrays)]

    return run, who


def _session(path: Path) -> tuple[Callable[[dict[str, Any]], list[Any]], str]:
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(str(path))
        return (lambda given: list(evaluator.run(None, given))), "onnx.reference"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it raises errors of many kinds
        raise ImportRefused(f"onnxruntime cannot read it: {str(error).splitlines()[0]}") from None
    return (lambda given: list(session.run(None, given))), "onnxruntime"
