"""ONNX files become specs that onnxruntime agrees with; what is wrong in a file is an error with a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import archdsl
from archdsl import cli
from archdsl.common.source import Source
from archdsl.runtime.importing import ImportRefused
from archdsl.runtime.importing.files import from_file
from tests.runtime.importing.networks import NETWORKS

RANDOM = np.random.default_rng(0)


def weights(*sizes: int) -> np.ndarray[Any, Any]:
    return RANDOM.normal(0, 0.3, sizes).astype(np.float32)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray[Any, Any]],
    size: Sequence[int | str] = ("n", 3, "h", "w"),
    opset: int = 20,
) -> Path:
    """A file with one input `x` and the output `y`."""
    graph = helper.make_graph(
        [*nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return path


def exported(name: str, path: Path, free: bool = True) -> torch.nn.Module:
    """A network of the tests, written by PyTorch's exporter."""
    made, size = NETWORKS[name]
    torch.manual_seed(0)
    module = made().eval()
    axes = {"x": {0: "n", **{i + 2: f"s{i}" for i in range(len(size) - 1)}}} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.randn(2, *size),),
            str(path),
            input_names=["x"],
            dynamic_axes=axes,
            dynamo=False,
            verbose=False,
        )
    return module


def test_a_network_reads_as_written(tmp_path: Path) -> None:
    module = exported("resnet", tmp_path / "net.onnx")
    found = from_file(tmp_path / "net.onnx")
    print(found.text)
    assert "equal to onnxruntime" in found.notes[0]
    assert {key for key in found.state if key.endswith("weight")} <= set(module.state_dict())
