"""Every model of torchvision as a spec: `make test-zoo`, in an environment of its own, since torchvision fixes torch.

The default tests do not collect this file; they import small modules of the same shapes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torchvision
from torchvision.models import segmentation, video

from archdsl.runtime.importing import ImportRefused, from_module

LARGEST = {"regnet_y_128gf", "regnet_x_32gf", "regnet_y_32gf", "vit_h_14"}
"""Too large to be made twice here; the smaller ones of their family have the same modules."""

REFUSED = {
    "swin_": "windows that are cut out by reshapes",
    "maxvit": "windows that are cut out by reshapes",
}
"""Models that the importer refuses, by the beginning of their names, and what it cannot say yet."""

LINES = {"resnet50": 60, "densenet121": 60, "mobilenet_v3_large": 90, "efficientnet_b0": 90}
MOST = 180

CLASSIFIERS = [name for name in torchvision.models.list_models(module=torchvision.models) if name not in LARGEST]


def made(name: str) -> Any:
    more: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **more)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classification(name: str) -> None:
    size = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    if any(name.startswith(start) for start in REFUSED):
        with pytest.raises(ImportRefused):
            from_module(made(name), size)
        return
    found = from_module(made(name), size, name=name)
    assert len(found.text.splitlines()) <= LINES.get(name, MOST)


@pytest.mark.parametrize("name", torchvision.models.list_models(module=segmentation))
def test_segmentation(name: str) -> None:
    more = {} if "lraspp" in name else {"aux_loss": True}
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, **more)
    assert from_module(model, (3, 96, 96)).graph.free


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d"])
def test_video(name: str) -> None:
    assert name in torchvision.models.list_models(module=video)
    size = (3, 16, 224, 224) if name == "s3d" else (3, 8, 32, 32)
    assert from_module(torchvision.models.get_model(name, weights=None), size).graph.free
