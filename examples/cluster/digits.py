"""The 1,797 digits of 8 × 8 pixels that come with scikit-learn."""

from __future__ import annotations

from typing import TypeAlias

import torch
from sklearn.datasets import load_digits
from torch import Tensor

Data: TypeAlias = tuple[Tensor, Tensor]
HELD_OUT = 360
SIZE = (1, 8, 8)


def digits(device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Data, Data]:
    """[N, 1, 8, 8] in 0 … 1 with their classes: those to train on, and a fifth that is held out."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=dtype, device=device).unsqueeze(1) / 16
    labels = torch.tensor(found.target, dtype=torch.long, device=device)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1)).to(device)
    kept, held = order[HELD_OUT:], order[:HELD_OUT]
    return (images[kept], labels[kept]), (images[held], labels[held])
