"""The training loop shared by the examples: a seed, a progress bar, curves as CSV, a checkpoint that resumes."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

Prepare = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
Data = tuple[Tensor, Tensor]

torch.set_num_threads(min(2, torch.get_num_threads()))


@dataclass
class Training:
    """Trains `network` with AdamW and a one-cycle learning rate.

    `prepare` is applied to each batch (augmentation), `score` evaluates the held-out data. In `folder`, if given,
    `curves.csv` gets one line per epoch, and `checkpoint.pt` has everything that the next epoch needs.
    """

    network: nn.Module
    train: Data
    test: Data
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    epochs: int
    batch: int = 64
    rate: float = 3e-3
    seed: int = 0
    prepare: Prepare | None = None
    folder: Path | None = None
    show: bool = True
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = next(self.network.parameters()).device
        self.steps = -(-len(self.train[0]) // self.batch)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), self.rate, weight_decay=0.02)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, self.rate, total_steps=self.epochs * self.steps
        )
        self.generator = torch.Generator().manual_seed(self.seed)

    def run(self, until: int | None = None) -> float:
        """Trains from the checkpoint to the end or to epoch `until`; returns the last score."""
        self.resume()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        last = self.epochs if until is None else until
        seen = self.show or self.folder is not None
        with Progress(*columns, disable=not self.show) as progress:
            bar = progress.add_task(
                "training", total=self.epochs * self.steps, completed=len(self.history) * self.steps
            )
            while len(self.history) < last:
                start = time.perf_counter()
                loss = self.epoch(lambda: progress.advance(bar))
                epoch = len(self.history) + 1
                # Intermediate scores take time, and only serve the curves and the progress bar.
                score = self.evaluate() if seen or epoch == last else math.nan
                seconds = round(time.perf_counter() - start, 2)
                self.history.append({"epoch": epoch, "loss": loss, "score": score, "seconds": seconds})
                progress.update(bar, description=f"epoch {epoch}: loss {loss:.4f}, score {score:.4f}")
                self.save()
        return self.history[-1]["score"]

    def epoch(self, advance: Callable[[], None]) -> float:
        """One pass over the data in random order; returns the mean loss."""
        self.network.train()
        total = 0.0
        images, targets = self.train
        for rows in torch.randperm(len(images), generator=self.generator).split(self.batch):
            x, y = images[rows].to(self.device), targets[rows].to(self.device)
            if self.prepare is not None:
                x, y = self.prepare(x, y, self.generator)
            loss = self.loss(self.network(x), y)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.schedule.step()
            total += loss.item() * len(rows)
            advance()
        return total / len(images)

    @torch.no_grad()
    def evaluate(self) -> float:
        """The score of the held-out data."""
        self.network.eval()
        images, targets = self.test
        results = [self.network(x.to(self.device)).cpu() for x in images.split(256)]
        return self.score(torch.cat(results), targets)

    # ------------------------------------------------------------ checkpoints

    def state(self) -> dict[str, object]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "history": self.history,
        }

    def save(self) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # Renamed when complete, so that an interruption leaves the previous one.
        part = self.folder / "checkpoint.part"
        torch.save(self.state(), part)
        part.replace(self.folder / "checkpoint.pt")
        with open(self.folder / "curves.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(self.history[0]))
            writer.writeheader()
            writer.writerows(self.history)

    def resume(self) -> None:
        path = self.folder / "checkpoint.pt" if self.folder else None
        if path is None or not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["order"].cpu())
        torch.set_rng_state(state["random"].cpu())
        self.history = list(state["history"])


# ---------------------------------------------------------------- scores


def accuracy(logits: Tensor, classes: Tensor) -> float:
    return (logits.argmax(1) == classes).float().mean().item()


def iou(logits: Tensor, masks: Tensor) -> float:
    """Intersection over union of class 1 over all held-out pixels together; logits [N, 2, H, W], masks [N, H, W]."""
    found, true = logits.argmax(1) == 1, masks == 1
    return ((found & true).sum() / (found | true).sum()).item()


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
