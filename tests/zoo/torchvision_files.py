"""torchvision's models in files: exported by PyTorch as ONNX (both exporters) and as .pt2, and imported.

`make test-zoo` runs these, in an environment with torchvision.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from archdsl.runtime.opening import from_file

MODELS = (
    *("densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"),
    *("regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1"),
)
"""Models that all of PyTorch's exporters write with free sizes, one of each family."""
FORMS = ("dynamo.onnx", "script.onnx", "program.pt2")


def export(module: nn.Module, path: Path, form: str) -> None:
    image = torch.randn(2, 3, 224, 224)
    shapes = ({axis: torch.export.Dim.AUTO for axis in (0, 2, 3)},)
    names: dict[str, Any] = {"x": {0: "n", 2: "h", 3: "w"}}
    if form == "program.pt2":
        torch.export.save(torch.export.export(module, (image,), strict=False, dynamic_shapes=shapes), path)
    elif form == "dynamo.onnx":
        torch.onnx.export(
            module, (image,), str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
        )
    else:
        torch.onnx.export(module, (image,), str(path), dynamo=False, input_names=["x"], dynamic_axes=names)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_a_file_becomes_its_model(name: str, form: str, tmp_path: Path) -> None:
    more = {"init_weights": False} if name == "googlenet" else {}
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None, **more).eval()
    path = tmp_path / f"net.{form}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(module, path, form)
    found = from_file(path, [(3, 224, 224)])
    assert "H = 224, W = 224" in found.text and found.notes[-1].startswith("equal to")
    assert len(found.text.splitlines()) <= 90
    if form == "program.pt2":  # which has no auxiliary outputs in evaluation
        assert {*found.state} == {key for key in module.state_dict() if not key.startswith("aux")}
