"""Trains a small U-Net to segment coins in scikit-image's photograph; eight of its 24 coins are held out.

For comparison it also reports the IoU of a threshold, chosen by Otsu's method on the training tiles.
"""

from __future__ import annotations

import data
import torch
from options import HERE, options
from torch import Tensor, nn
from training import Training, iou, parameters

import archdsl


def main() -> None:
    given = options(__doc__, epochs=12)
    torch.manual_seed(given.seed)
    network = archdsl.load(HERE / "coins.arch:coins", device=given.device)
    augment = archdsl.load_augment(HERE / "coins.arch:coins")
    train, test = data.coins()

    def prepare(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, masks = augment.along(images, mask=masks, generator=generator)
        return images, masks

    training = Training(
        network,
        train,
        test,
        loss=nn.CrossEntropyLoss(),
        score=iou,
        epochs=given.epochs,
        batch=8,
        seed=given.seed,
        prepare=prepare,
        folder=given.folder,
        show=not given.quiet,
    )
    score = training.run(given.until)
    print(f"{parameters(network):,} parameters, IoU {score:.4f} on {len(test[0]):,} held-out tiles", end="")
    print(f" (a threshold: {threshold(train, test):.4f})")


def threshold(train: data.Data, test: data.Data) -> float:
    """The IoU of all pixels brighter than Otsu's threshold of the training tiles."""
    from skimage.filters import threshold_otsu

    bright = (test[0] > threshold_otsu(train[0].numpy())).float()
    return iou(torch.cat([1 - bright, bright], 1), test[1])


if __name__ == "__main__":
    main()
