"""Compares an imported spec with the ONNX file itself, as onnxruntime computes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from archdsl.common.source import Source
from archdsl.runtime.importing.files.onnx_file import OnnxGraph
from archdsl.runtime.importing.files.onnx_sizes import Chosen
from archdsl.runtime.importing.proving import Imported, smaller
from archdsl.runtime.importing.recording import tensors_in
from archdsl.runtime.importing.refusal import ImportRefused
from archdsl.runtime.loading import load

TOLERANCE = 1e-4
"""The largest difference of outputs, as a part of their standard deviation: two programs sum in different orders."""


def compare(path: Path, graph: OnnxGraph, found: Imported, chosen: Chosen) -> None:
    """Raises ImportRefused unless the spec's network with the file's weights gives what the file gives."""
    network = load(Source(f"{found.name}.arch", found.text), device="meta").eval()
    network.load_state_dict(found.state, strict=True, assign=True)
    run, program = runner(path)
    sizes = [chosen.sizes]
    if chosen.free and (other := smaller(found.graph, chosen.sizes)) is not None and other != chosen.sizes:
        sizes.append(other)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for at in sizes:
        given = [torch.randn(chosen.batch or 2, *size, generator=generator) for size in at]
        with torch.no_grad():
            ours = [*tensors_in(network(*given))]
        theirs = run({name: tensor.numpy() for (name, _), tensor in zip(graph.inputs, given, strict=True)})
        for one, two in zip(ours, map(torch.from_numpy, theirs), strict=True):
            if one.shape != two.shape:
                raise ImportRefused(f"{program} gives a result of size {list(two.shape)}, the spec {list(one.shape)}")
            apart = (one - two).abs().max().item() / max(two.std(correction=0).item(), 1e-12)
            if not apart <= TOLERANCE:
                raise ImportRefused(f"{program} gives other numbers at {at}: they differ by {apart:.2g} of their deviation")
            worst = max(worst, apart)
    shown = " and ".join(", ".join("x".join(map(str, size)) for size in at) for at in sizes)
    found.notes.append(f"equal to {program} at {shown}: {worst:.1g} of the deviation at most")


def runner(path: Path) -> tuple[Any, str]:
    """What runs the file, and its name: onnxruntime, else the slow evaluator of the package onnx."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(str(path))
        return (lambda given: evaluator.run(None, given)), "onnx.reference"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ImportRefused(f"onnxruntime cannot read it: {str(error).splitlines()[0]}") from None
    return (lambda given: session.run(None, given)), "onnxruntime"
