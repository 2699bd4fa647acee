"""Trains a small DenseNet to classify patches of scikit-image's photographs of brick, grass and gravel."""

from __future__ import annotations

import data
import torch
from options import HERE, options
from torch import nn
from training import Training, accuracy, parameters

import archdsl


def main() -> None:
    given = options(__doc__, epochs=5)
    torch.manual_seed(given.seed)
    network = archdsl.load(HERE / "textures.arch", device=given.device)
    train, test = data.textures()
    training = Training(
        network,
        train,
        test,
        loss=nn.CrossEntropyLoss(),
        score=accuracy,
        epochs=given.epochs,
        seed=given.seed,
        folder=given.folder,
        show=not given.quiet,
    )
    score = training.run(given.until)
    print(f"{parameters(network):,} parameters, accuracy {score:.4f} on {len(test[0]):,} held-out patches")


if __name__ == "__main__":
    main()
