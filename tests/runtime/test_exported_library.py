"""One small model of each family of the library as .onnx and .pt2, with weights that let every branch count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import archdsl
from archdsl.runtime import loading
from archdsl.runtime.export import TESTED, proved_export
from tests import published

pytestmark = [
    pytest.mark.long,
    pytest.mark.usefixtures("one_registry"),
    pytest.mark.skipif(
        [*map(int, torch.__version__.split(".")[:2])] < [*map(int, TESTED.split("."))],
        reason=f"exports are tested with PyTorch {TESTED} and newer",
    ),
]

FREE: dict[str, dict[str, Any]] = {
    "attention_unet:attention_unet": {"width": 4, "depth": 2},
    "autoencoder:autoencoder": {"widths": [8, 16], "code": 4},
    "convnext:convnext": {"widths": [8, 16], "counts": [1, 2], "drop_rate": 0.1, "classes": 5},
    "deeplabv3:deeplabv3_resnet50": {"rows": [1, 1, 1, 1], "auxiliary": True, "classes": 5},
    "fcn:fcn": {"counts": [1, 1, 1, 1], "auxiliary": True, "classes": 5},
    "fpn:retinanet": {"counts": [1, 1, 1, 1], "width": 64, "classes": 5},
    "hrnet:hrnet": {"width": 4, "counts": [1, 1, 1], "classes": 5},
    "lraspp:lraspp_mobilenet_v3_large": {"classes": 5},
    "maxvit:maxvit": {"stem_width": 32, "widths": [32, 64], "depths": [1, 2], "drop_rate": 0.1, "classes": 5},
    "poolformer:poolformer": {"widths": [8, 16], "counts": [1, 2], "classes": 5},
    "pvt:pvt_v2": {"widths": [8, 16], "counts": [1, 2], "heads": [1, 2], "ratios": [2, 1], "classes": 5},
    "s3d:s3d": {"classes": 5},
    "swin:swin_t": {"width": 12, "depths": [2, 2], "heads": [2, 3], "size": 64, "classes": 5},
    "swin:swin_v2_t": {"width": 12, "depths": [2, 2], "heads": [2, 3], "size": 128, "classes": 5},
    "unetpp:unetpp": {"width": 4, "depth": 2},
    "video_resnet:mc3_18": {"classes": 5},
    "video_resnet:r2plus1d_18": {"classes": 5},
    "video_resnet:r3d_18": {"classes": 5},
    "wavenet:denoising_wavenet": {"width": 8, "depth": 3, "stacks": 2, "ends": [16, 8]},
    "wavenet:wavenet": {"width": 8, "skip_width": 16, "depth": 3, "stacks": 2, "levels": 8},
}
"""Models whose input has free sizes, which their files keep free."""

FIXED: dict[str, dict[str, Any]] = {
    "dcgan:discriminator": {"width": 8},
    "dcgan:generator": {"noise": 10, "width": 8},
    "detr:detr": {
        "counts": [1, 1, 1, 1],
        "width": 32,
        "heads": 4,
        "depth": 2,
        "inner": 64,
        "objects": 10,
        "classes": 5,
        "size": 96,
    },
    "mixer:mixer": {"width": 32, "depth": 2, "patch": 32, "classes": 5},
    "mobilevit:mobilevit": {"widths": [8, 8, 8, 8, 8], "inner": [16, 16, 16], "size": 64, "classes": 5},
    "vit:vit": {"width": 32, "depth": 2, "heads": 4, "mlp_width": 64, "patch": 32, "classes": 5},
}
"""Models that take images of one size."""

PINNED = {("s3d:s3d", ".pt2")}
"""Exports with the sizes of the example, in which an axis has one position: torch.export then rejects others."""


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
@pytest.mark.parametrize("spec", [*FREE, *FIXED])
def test_a_small_model_of_each_family_is_exported(spec: str, ending: str, tmp_path: Path) -> None:
    """The file gives the module's numbers at every size tried; no free size is fixed."""
    graph = archdsl.check(spec, **(FREE | FIXED)[spec])
    model = loading.instantiate(graph)
    published.fill(model)
    weights = tmp_path / "weights.pth"
    torch.save(model.state_dict(), weights)
    made = proved_export(graph, tmp_path / f"net{ending}", weights)
    assert bool(made.pins) == ((spec, ending) in PINNED)
    assert len(made.proof.tries) >= (3 if graph.free and not made.pins else 2)
