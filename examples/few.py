"""The effect of `augment` on few data: 500 digits, with and without it, for several seeds each."""

from __future__ import annotations

import argparse
import statistics

import data
import torch
from options import HERE
from torch import nn
from training import Training, accuracy

import archdsl


def train(seed: int, count: int, epochs: int, augmented: bool) -> float:
    """The accuracy on the held-out fifth. Each seed uses the same digits and initial weights with and without."""
    torch.manual_seed(seed)
    network = archdsl.load(HERE / "digits.arch:convolutional")
    augment = archdsl.load_augment(HERE / "digits.arch:convolutional")
    few, test = data.digits(count, seed)
    return Training(
        network,
        few,
        test,
        loss=nn.CrossEntropyLoss(),
        score=accuracy,
        epochs=epochs,
        batch=50,
        rate=1e-2,
        seed=seed,
        prepare=(lambda x, y, generator: (augment(x, generator=generator), y)) if augmented else None,
        show=False,
    ).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=60)
    given = parser.parse_args()
    for augmented in (False, True):
        scores = [train(seed, given.count, given.epochs, augmented) for seed in range(given.seeds)]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        what = "with augment" if augmented else "without"
        print(
            f"{what}: accuracy {statistics.mean(scores):.4f} ± {spread:.4f} ({', '.join(f'{s:.3f}' for s in scores)})"
        )


if __name__ == "__main__":
    main()
