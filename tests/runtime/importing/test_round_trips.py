"""Models of the library: built, and imported, they are the same network again, in a spec that is not much longer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

import archdsl
from archdsl import dims
from archdsl.graph import Graph, Node
from archdsl.report.compare.changes import Change, Member
from archdsl.runtime.importing import from_module
from tests.helpers import ROOT

FAMILIES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "specs").glob("*.arch"))}
MODELS = (
    *("alexnet:alexnet", "attention_unet:attention_unet", "autoencoder:autoencoder", "convmixer:convmixer_1536_20"),
    *("convnext:convnext_tiny", "convnextv2:convnextv2_atto", "dcgan:discriminator", "dcgan:generator"),
    *(
        "deeplabv3:deeplabv3_resnet50",
        "densenet:densenet121",
        "detr:detr_resnet50",
        "edges:edges",
        "edges:edges_1d",
        "efficientnet:efficientnet_b0",
    ),
    *("fcdensenet:fcdensenet56", "fcdensenet:fcdensenet103", "fcn:fcn_resnet50", "googlenet:googlenet"),
    *("inception:inception_v3", "lenet:lenet", "lraspp:lraspp_mobilenet_v3_large", "maxvit:maxvit_t"),
    *("mixer:mixer_s16_224", "mnasnet:mnasnet0_5", "mobilenet:mobilenet_v2", "mobilevit:mobilevit_xxs"),
    "poolformer:poolformer_s12",
    *(
        "hrnet:hrnet_w18",
        "pvt:pvt_v2_b0",
        "fpn:retinanet_resnet50_fpn_v2",
        "regnet:regnet_x_400mf",
        "resnet:resnet18",
        "s3d:s3d",
    ),
    *(
        "shufflenet:shufflenet_v2_x0_5",
        "squeezenet:squeezenet1_1",
        "swin:swin_t",
        "swin:swin_v2_t",
        "unet:unet",
        "unetpp:unetpp",
        "vgg:vgg11_bn",
    ),
    *("video_resnet:mc3_18", "vit:vit_b_32", "wavenet:wavenet", "wavenet:denoising_wavenet"),
)
"""Models of the families that become the same graph; the others are not there yet."""
SIZE = 64
VALUES: Mapping[str, Mapping[str, object]] = {"detr:detr_resnet50": {"size": 64}}
"""Parameters of models that would be large."""
SIZES = {"maxvit:maxvit_t": 224, "swin:swin_t": 224, "swin:swin_v2_t": 256}
"""The sizes of models whose windows several maps of smaller images would not fill."""


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


def unmoved(before: Graph, after: Graph) -> list[Change]:
    """Changes without those of what parameters alone give, which may be computed earlier or later than the rest."""
    changes = archdsl.diff(before, after).changes
    moved = {place(before, c.before) for c in changes} & {place(after, c.after) for c in changes} - {None}
    return [c for c in changes if place(before, c.before) not in moved and place(after, c.after) not in moved]


def place(graph: Graph, members: Sequence[Member]) -> object:
    """Where nodes are among those that depend on the input; None for others than nodes of one of these kinds.

    Nodes that depend on parameters alone are no place before or behind them.
    """
    nodes = [member for member in members if isinstance(member, Node)]
    if not nodes or len(nodes) < len(members) or len({node.batched for node in nodes}) > 1:
        return None
    if not nodes[0].batched:
        return tuple(node.path for node in nodes)
    ahead = sum(other.batched for other in graph.nodes() if other.id < nodes[0].id)
    return (ahead, *(str(node.operation) for node in nodes))


def sizes_of(graph: Graph, size: int = SIZE) -> list[tuple[int, ...]]:
    """Valid sizes of the inputs, near to this one."""
    values = graph.always.near({free.name: size for free in graph.free})
    shapes = [node.shapes[0] for node in graph.input_nodes]
    return [tuple(dims.evaluate(size, values) for size in shape) for shape in shapes]


@pytest.mark.long
@pytest.mark.parametrize("spec", MODELS)
def test_a_built_model_becomes_its_network_again(spec: str) -> None:
    values = VALUES.get(spec, {})
    graph = archdsl.check(spec, **values)
    sizes = sizes_of(graph, SIZES.get(spec, SIZE))
    # A module does not say that its spec has a fixed size: where it takes others, theirs would be free.
    found = from_module(archdsl.load(spec, **values), sizes, extern=False, fixed=not graph.free)
    assert not [change for change in unmoved(graph, found.graph) if not is_known(change)]
    lines, own = (len(text.splitlines()) for text in (found.text, FAMILIES[spec.partition(":")[0]]))
    assert lines <= 1.5 * own
