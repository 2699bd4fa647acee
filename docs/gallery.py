"""Generates docs/gallery.md and its pictures from specs/ and examples/: `make gallery`.

Each picture contains the hash of the dot text that it was made from, so that a test can check that it is current.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from archdsl.backends.diagram.drawing import Diagram
from archdsl.common.units import width_from
from archdsl.compiler import check, diff, draw

HERE = Path(__file__).parent
FOLDER = HERE / "images" / "gallery"
MARK = re.compile(r"<!-- dot ([0-9a-f]{64}) -->")

PAGE, COLUMN = "17cm", "3.3in"
"""The widths of a page and of a column of a paper."""

# Name, heading, command arguments, options, caption.
PICTURES: list[tuple[str, str, tuple[str, ...], dict[str, Any], str]] = [
    (
        "lenet",
        "LeNet",
        ("lenet:lenet",),
        {"direction": "right", "width": PAGE},
        "From left to right, in rows as wide as a page.",
    ),
    ("lenet-volumes", "LeNet, as volumes", ("lenet:lenet",), {"style": "volumes"}, "The form of the AlexNet paper."),
    ("vgg19", "VGG-19", ("vgg:vgg19",), {"width": COLUMN}, "Neighbours that are equal are one box."),
    ("resnet18", "ResNet-18", ("resnet:resnet18",), {"width": COLUMN}, "What a column has no room for is folded."),
    (
        "resnet50",
        "ResNet-50",
        ("resnet:resnet50",),
        {"width": PAGE},
        "Stages side by side, and below each kind of block opened once, the one that halves the resolution first.",
    ),
    ("resnet50-volumes", "ResNet-50, as volumes", ("resnet:resnet50",), {"style": "volumes"}, "Folded blocks as maps."),
    ("googlenet", "GoogLeNet", ("googlenet:googlenet",), {"width": PAGE}, "With the outputs of training."),
    ("inception_v3", "Inception v3", ("inception:inception_v3",), {}, "Five kinds of blocks, each opened once."),
    ("densenet121", "DenseNet-121", ("densenet:densenet121",), {"width": PAGE}, "A repetition shows ranges of sizes."),
    ("squeezenet", "SqueezeNet", ("squeezenet:squeezenet1_0",), {"width": COLUMN}, "Fire modules."),
    ("shufflenet", "ShuffleNet v2", ("shufflenet:shufflenet_v2_x1_0",), {"width": PAGE}, "One half passes by."),
    (
        "mobilenet_v3",
        "MobileNet v3",
        ("mobilenet:mobilenet_v3_large",),
        {},
        "Each call of a block shows the same arguments: those in which the calls differ.",
    ),
    ("efficientnet_b0", "EfficientNet-B0", ("efficientnet:efficientnet_b0",), {"width": PAGE}, "A skip and a gate."),
    (
        "unet",
        "U-Net",
        ("unet:unet",),
        {"width": COLUMN},
        "Recognised as an encoder-decoder: the skips run straight across.",
    ),
    ("unet-volumes", "U-Net, as volumes", ("unet:unet",), {"style": "volumes"}, "The figure of the paper."),
    (
        "attention_unet",
        "Attention U-Net",
        ("attention_unet:attention_unet",),
        {},
        "Each skip passes a gate, which the coarser level steers.",
    ),
    ("unetpp", "U-Net++", ("unetpp:unetpp",), {}, "Several resolutions at once: a row for each."),
    ("fcdensenet103", "FC-DenseNet-103", ("fcdensenet:fcdensenet103",), {"width": PAGE}, "A U of dense blocks."),
    (
        "hrnet",
        "HRNet",
        ("hrnet:hrnet_w18",),
        {"width": COLUMN},
        "A box that gives several resolutions is in all their rows, or, in a column, columns.",
    ),
    ("retinanet", "RetinaNet", ("fpn:retinanet_resnet50_fpn_v2",), {"width": PAGE}, "A pyramid, and one shared head."),
    ("maxvit_t", "MaxViT", ("maxvit:maxvit_t",), {"width": PAGE}, "Kinds that are not opened are named below."),
    (
        "deeplabv3_resnet50",
        "DeepLabv3",
        ("deeplabv3:deeplabv3_resnet50",),
        {"width": PAGE},
        "Convolutions with several dilations, over a dilated ResNet.",
    ),
    ("r2plus1d_18", "R(2+1)D", ("video_resnet:r2plus1d_18",), {"width": PAGE}, "A network for video: [C, T, H, W]."),
    (
        "wavenet-volumes",
        "WaveNet, as volumes",
        ("wavenet:wavenet",),
        {"style": "volumes"},
        "One dimension: a sequence has height alone.",
    ),
    (
        "vit_b_16",
        "ViT-B/16",
        ("vit:vit_b_16",),
        {"width": COLUMN},
        "Learned tensors go by their names, and are repeated for the batch.",
    ),
    (
        "swin_t",
        "Swin-T",
        ("swin:swin_t",),
        {},
        "A frame with sharp corners holds what meets each window by itself; every other block shifts its windows.",
    ),
    ("detr", "DETR", ("detr:detr_resnet50",), {"width": PAGE}, "An encoder, a decoder, and two heads."),
    ("inception", "Inception", ("examples/inception.arch",), {"depth": 2}, "Branches are side by side."),
    (
        "resnet18-resnet34",
        "What differs",
        ("resnet:resnet18", "resnet:resnet34"),
        {},
        "`archdsl diff`, the changes marked.",
    ),
    (
        "unet-unet_padded",
        "What differs between two U-Nets",
        ("unet:unet", "unet:unet_padded"),
        {},
        "In the form of the networks.",
    ),
]


def diagram(specs: tuple[str, ...], options: dict[str, Any]) -> Diagram:
    graphs = [check(HERE.parent / s if s.endswith(".arch") else s) for s in specs]
    if "width" in options:
        options = options | {"width": width_from(options["width"])}
    return draw(graphs[0] if len(graphs) == 1 else diff(graphs[0], graphs[1]), **options)


def digest(found: Diagram) -> str:
    return sha256(found.dot.encode()).hexdigest()


def command(name: str, specs: tuple[str, ...], options: dict[str, Any]) -> str:
    words = ["archdsl", "draw" if len(specs) == 1 else "diff", *specs]
    words += [f"--{key} {value}" for key, value in options.items()]
    return " ".join([*words, f"-o {name}.svg"])


def page() -> str:
    parts = [
        "# Gallery\n\nMade by `make gallery` from `specs/` and `examples/`. [Figures](figures.md) says how to read "
        "them, and how to fit them to a page.\n"
    ]
    for name, heading, specs, options, words in PICTURES:
        parts.append(
            f"\n## {heading}\n\n{words}\n\n```\n{command(name, specs, options)}\n```\n\n"
            f"![{heading}](images/gallery/{name}.svg)\n"
        )
    return "".join(parts)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, _, specs, options, _ in PICTURES:
        path, found = FOLDER / f"{name}.svg", diagram(specs, options)
        if path.exists() and (mark := MARK.search(path.read_text("utf-8"))) and mark[1] == digest(found):
            continue  # another version of Graphviz would only change the layout
        path.write_text(found.svg().rstrip() + f"\n<!-- dot {digest(found)} -->\n", "utf-8")
        print(name, flush=True)
    (HERE / "gallery.md").write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
