"""How many parameters the same accuracy takes: a convolutional network against fully connected ones."""

from __future__ import annotations

import argparse

import data
import torch
from options import HERE
from torch import nn
from training import Training, accuracy, parameters

import archdsl

NETWORKS: tuple[tuple[str, dict[str, object]], ...] = (
    ("fully_connected", {"hidden": [32]}),
    ("fully_connected", {"hidden": [256]}),
    ("fully_connected", {"hidden": [512, 256]}),
    ("convolutional", {"width": 4}),
    ("convolutional", {"width": 8}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--count", type=int, help="train on so many digits instead of all 4,000")
    given = parser.parse_args()
    train, test = data.digits(given.count)
    for name, values in NETWORKS:
        torch.manual_seed(0)
        network = archdsl.load(HERE / f"digits.arch:{name}", **values)
        loss = nn.CrossEntropyLoss()
        training = Training(network, train, test, loss, accuracy, given.epochs, rate=5e-3, show=False)
        said = ", ".join(f"{key} = {value}" for key, value in values.items())
        print(f"{name}({said}): {parameters(network):,} parameters, accuracy {training.run():.4f}", flush=True)


if __name__ == "__main__":
    main()
