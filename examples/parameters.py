"""The number of parameters for the same accuracy: a convolutional network compared with fully connected ones."""

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
    ("convolutional", {"width": 6}),
    ("convolutional", {"width": 8}),
    ("convolutional", {"width": 12}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--count", type=int, help="train on so many digits instead of all 4,000")
    given = parser.parse_args()
    train, test = data.digits(given.count)
    found: list[tuple[str, int, float]] = []
    for name, values in NETWORKS:
        torch.manual_seed(0)
        network = archdsl.load(HERE / f"digits.arch:{name}", **values)
        loss = nn.CrossEntropyLoss()
        training = Training(network, train, test, loss, accuracy, given.epochs, rate=5e-3, show=False)
        said = f"{name}({', '.join(f'{key} = {value}' for key, value in values.items())})"
        found.append((said, parameters(network), training.run()))
        print(f"{said}: {found[-1][1]:,} parameters, accuracy {found[-1][2]:.4f}", flush=True)
    for full, many, score in found:
        if full.startswith("fully"):
            as_good = [(few, name) for name, few, other in found if name.startswith("conv") and other >= score]
            few, name = min(as_good, default=(0, ""))
            print(f"{full} has {many / few:.0f} times the parameters of {name}, no better" if few else f"{full}: best")


if __name__ == "__main__":
    main()
