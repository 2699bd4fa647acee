"""The command line shared by the examples."""

from __future__ import annotations

import argparse
from pathlib import Path

HERE = Path(__file__).parent


def options(description: str | None, epochs: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--until", type=int, help="stop after this epoch; another run goes on from the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where the curves and the checkpoint are kept")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args()
