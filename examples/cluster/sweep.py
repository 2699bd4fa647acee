"""Trains every member of a family of networks, and holds their accuracy against their parameters and MACs.

    python examples/cluster/sweep.py run 4 --folder runs/sweep     the fifth of the grid: a task of an array job
    python examples/cluster/sweep.py ray --folder runs/sweep       all of them, spread over a cluster by Ray Tune
    python examples/cluster/sweep.py table --folder runs/sweep     the table and the plot of what is done

`sweep.sbatch` is the array job for Slurm.
"""

from __future__ import annotations

import argparse
import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import digits
import torch
from torch.nn.functional import cross_entropy

import archdsl

HERE = Path(__file__).resolve().parent
SPEC = HERE / "family.arch"
GRID = [{"width": width, "depth": depth} for depth, width in product((1, 2, 3), (2, 4, 8))]
COLUMNS = ("width", "depth", "parameters", "macs", "accuracy")


def trained(values: dict[str, int], epochs: int) -> dict[str, Any]:
    """A row of the table: the values of a member of the family, its size, and its accuracy on held-out digits."""
    torch.manual_seed(0)
    (images, labels), (held_out, wanted) = digits.digits()
    network = archdsl.load(SPEC, **values)
    steps = epochs * (len(images) // 64)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64)[: len(images) // 64]:
            optimizer.zero_grad()
            cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        accuracy = (network(held_out).argmax(1) == wanted).double().mean().item()
    layers = archdsl.show(archdsl.check(SPEC, **values), size=(1, 8, 8)).table.as_data()
    costs = {name: sum(layer[name] for layer in layers) for name in ("parameters", "macs")}
    return {**values, **costs, "accuracy": round(accuracy, 4)}


def run(index: int, folder: Path, epochs: int) -> None:
    """One task: its row goes into a file of its own, so that tasks never wait for each other."""
    folder.mkdir(parents=True, exist_ok=True)
    row = trained(GRID[index], epochs)
    (folder / f"{index}.json").write_text(json.dumps(row) + "\n")
    print(row)


def ray(folder: Path, epochs: int) -> None:
    """All tasks, each in a process of Ray: on this machine, or on the cluster that `ray start` has made."""
    from ray import tune

    def task(config: dict[str, int]) -> None:
        row = trained(GRID[config["index"]], epochs)
        tune.report({name: row[name] for name in COLUMNS})

    indices = list(range(len(GRID)))
    results = tune.Tuner(task, param_space={"index": tune.grid_search(indices)}).fit()
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        if result.error is None:
            row = {name: result.metrics[name] for name in COLUMNS}
            (folder / f"{result.config['index']}.json").write_text(json.dumps(row) + "\n")


def table(folder: Path) -> None:
    """Writes table.csv and plot.svg, and prints the table."""
    rows = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    rows.sort(key=lambda row: row["parameters"])
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f"{'width':>5} {'depth':>5} {'parameters':>10} {'MACs':>10} {'accuracy':>8}")
    for row in rows:
        print("{width:5} {depth:5} {parameters:10,} {macs:10,} {accuracy:8.4f}".format(**row))
    print(f"{len(rows)} of {len(GRID)} are done")
    plot(rows, folder / "plot.svg")


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
    for axis, (name, label) in zip(axes, (("parameters", "parameters"), ("macs", "multiply-accumulates")), strict=True):
        for depth in sorted({row["depth"] for row in rows}):
            mine = sorted((row for row in rows if row["depth"] == depth), key=lambda row: row["width"])
            axis.plot([row[name] for row in mine], [row["accuracy"] for row in mine], "o-", label=f"depth {depth}")
            for row in mine:
                place = (row[name], row["accuracy"])
                axis.annotate(str(row["width"]), place, (0, 4), textcoords="offset points", ha="center", fontsize=7)
        axis.set_xscale("log")
        axis.margins(y=0.1)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy; numbers are widths")
    axes[1].legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "ray", "table", "count"))
    parser.add_argument("index", type=int, nargs="?", help="which of the grid, from 0")
    parser.add_argument("--folder", type=Path, default=Path("runs/sweep"))
    parser.add_argument("--epochs", type=int, default=15)
    given = parser.parse_args()
    match given.what:
        case "run":
            if given.index is None or given.index not in range(len(GRID)):
                parser.error(f"run takes a number from 0 to {len(GRID) - 1}")
            run(given.index, given.folder, given.epochs)
        case "ray":
            ray(given.folder, given.epochs)
        case "table":
            table(given.folder)
        case "count":
            print(len(GRID))


if __name__ == "__main__":
    main()
