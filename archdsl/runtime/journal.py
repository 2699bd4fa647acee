"""The record of the tiles that are done: a folder with a file for each process."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

EVERY = 5.0
"""Seconds between two entries: before each the results are written to the disk."""


def fingerprint(name: str, sizes: Mapping[str, int], tile: Mapping[str, int], model: torch.nn.Module) -> str:
    """A digest of the network, its weights and the tiles: all that results depend on, besides the image."""
    import torch

    found = hashlib.sha256(json.dumps([name, sorted(sizes.items()), sorted(tile.items())]).encode())
    for key, tensor in model.state_dict().items():
        flat = tensor.detach().cpu().contiguous().flatten()
        found.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(flat.view(torch.uint8).numpy())
    return found.hexdigest()


@dataclass(slots=True, eq=False)
class Journal:
    """Which tiles are done, of all processes so far: pairs of a sample and the number of a tile.

    Raises ValueError if the folder records tiles of another network, other weights, or another size.
    """

    folder: Path
    rank: int
    mark: str
    done: set[tuple[int, int]] = field(default_factory=set)
    waiting: list[tuple[int, int]] = field(default_factory=list)
    written: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("tiles*.txt")):
            first, *lines = path.read_text("utf-8").splitlines() or [""]
            if first != self.mark:
                raise ValueError(
                    f"{path} records tiles of another network, other weights or another size: remove the folder, and "
                    "the results with it, to begin again"
                )
            for line in lines:
                numbers = line.split()  # of a line that is complete
                if len(numbers) == 3 and numbers[2] == "." and all(n.isdecimal() for n in numbers[:2]):
                    self.done.add((int(numbers[0]), int(numbers[1])))
        self.written = time.monotonic()

    def add(self, items: Sequence[tuple[int, int]], flush: Callable[[], None]) -> None:
        """Records tiles, after `flush` has written their results."""
        self.waiting.extend(items)
        if time.monotonic() - self.written >= EVERY:
            self.close(flush)

    def close(self, flush: Callable[[], None]) -> None:
        flush()
        path = self.folder / f"tiles{self.rank}.txt"
        new = not path.exists()
        with open(path, "a", encoding="utf-8") as file:
            file.write((f"{self.mark}\n" if new else "") + "".join(f"{n} {t} .\n" for n, t in self.waiting))
        self.waiting.clear()
        self.written = time.monotonic()
