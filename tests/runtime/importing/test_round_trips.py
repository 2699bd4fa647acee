"""Models of the library: built, and imported, they are the same network again, in a spec that is not much longer."""

from __future__ import annotations

import math

import pytest

import archdsl
from archdsl import dims
from archdsl.graph import Graph
from archdsl.report.compare.changes import Change
from archdsl.runtime.importing import from_module
from tests.helpers import ROOT

FAMILIES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "specs").glob("*.arch"))}
MODELS = (
    *("alexnet:alexnet", "attention_unet:attention_unet", "autoencoder:autoencoder", "convmixer:convmixer_1536_20"),
    *("convnext:convnext_tiny", "convnextv2:convnextv2_atto", "dcgan:discriminator", "dcgan:generator"),
    *("deeplabv3:deeplabv3_resnet50", "densenet:densenet121", "edges:edges", "efficientnet:efficientnet_b0"),
    *("fcdensenet:fcdensenet56", "fcdensenet:fcdensenet103", "fcn:fcn_resnet50", "googlenet:googlenet"),
    *("inception:inception_v3", "lenet:lenet", "lraspp:lraspp_mobilenet_v3_large", "mixer:mixer_s16_224"),
    *("mnasnet:mnasnet0_5", "mobilenet:mobilenet_v2", "mobilevit:mobilevit_xxs", "poolformer:poolformer_s12"),
    *("pvt:pvt_v2_b0", "regnet:regnet_x_400mf", "resnet:resnet18", "s3d:s3d", "shufflenet:shufflenet_v2_x0_5"),
    *("squeezenet:squeezenet1_1", "unet:unet", "unetpp:unetpp", "vgg:vgg11_bn", "video_resnet:mc3_18"),
    *("vit:vit_b_32", "wavenet:wavenet", "wavenet:denoising_wavenet"),
)
"""Models of the families that become the same graph; the others are not there yet."""
SIZE = 64


def is_known(change: Change) -> bool:
    """Whether docs/import.md names such a difference: names without keys, initial values, digits of fractions."""
    if change.kind == "renamed":
        return True
    nodes = (*change.before, *change.after)
    if change.kind in ("removed", "added"):
        return all(node.operation.is_input for node in nodes)
    return all(detail.name in ("init", "inputs") or is_near(detail.before, detail.after) for detail in change.details)


def is_near(one: str, two: str) -> bool:
    try:
        return math.isclose(float(one), float(two), rel_tol=1e-11)
    except ValueError:
        return False


def sizes_of(graph: Graph) -> list[tuple[int, ...]]:
    """Valid sizes of the inputs, near to 64."""
    values = graph.always.near({size.name: SIZE for size in graph.free})
    shapes = [node.shapes[0] for node in graph.input_nodes]
    return [tuple(dims.evaluate(size, values) for size in shape) for shape in shapes]


@pytest.mark.long
@pytest.mark.parametrize("spec", MODELS)
def test_a_built_model_becomes_its_network_again(spec: str) -> None:
    graph = archdsl.check(spec)
    found = from_module(archdsl.load(spec), sizes_of(graph), extern=False)
    assert not [change for change in archdsl.diff(graph, found.graph).changes if not is_known(change)]
    lines, own = (len(text.splitlines()) for text in (found.text, FAMILIES[spec.partition(":")[0]]))
    assert lines <= 1.5 * own
