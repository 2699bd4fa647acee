"""Every model of torchvision as a spec: `make test-zoo`, in an environment of its own, since torchvision fixes torch.

The default tests do not collect this file; they import small modules of the same shapes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torchvision
from torchvision.models import segmentation, video

from archdsl.runtime.importing import from_callable, from_module

LARGEST = {"regnet_y_128gf", "regnet_x_32gf", "regnet_y_32gf", "vit_h_14"}
"""Too large to be made twice here; the smaller ones of their family have the same modules."""

LINES = {"resnet50": 60, "densenet121": 60, "mobilenet_v3_large": 90, "efficientnet_b0": 90}
MOST = 200

SIZES = {"inception_v3": 299, **dict.fromkeys(("swin_v2_t", "swin_v2_s", "swin_v2_b"), 256)}
"""The sizes of the models that do not take 224."""

CLASSIFIERS = [name for name in torchvision.models.list_models(module=torchvision.models) if name not in LARGEST]


def made(name: str) -> Any:
    more: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **more)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classification(name: str) -> None:
    size = (3, SIZES.get(name, 224), SIZES.get(name, 224))
    found = from_module(made(name), size, name=name)
    assert not found.externs and len(found.text.splitlines()) <= LINES.get(name, MOST)


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


def test_parts_of_a_detector() -> None:
    """The backbone and the head of all levels, by their paths."""
    detector = "torchvision.models.detection:fasterrcnn_resnet50_fpn"
    given = {"weights": None, "weights_backbone": None}
    assert not from_callable(detector, given, (3, 64, 64), only="backbone").externs
    head = from_callable(detector, given, [(256, 32, 32), (256, 16, 16)], only="rpn.head")
    assert not head.externs and len(head.graph.outputs) == 4
