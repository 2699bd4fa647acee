"""The files that a new network begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent

SIZES: Final = {
    "classifier": ("3, 32, 32", "10"),
    "segmenter": ("3, 64, 64", "2, 64, 64"),
    "1-d": ("1, 4000", "5"),
    "3-d": ("1, 16, 48, 48", "4"),
}
"""The sizes of a sample and of its result, which the test of a new network names."""


def files(name: str, kind: str) -> dict[str, str]:
    """The files of a new network by their names: a spec, a test of it, a configuration for pre-commit."""
    spec = (HERE / f"{kind}.arch").read_text("utf-8").replace("model network(", f"model {name}(")
    test = (HERE / "test_network.txt").read_text("utf-8")
    for word, text in zip(("NETWORK", "SAMPLE", "RESULT"), (name, *SIZES[kind]), strict=True):
        test = test.replace(word, text)
    hooks = (HERE / "pre-commit.yaml").read_text("utf-8")
    return {f"{name}.arch": spec, f"test_{name}.py": test, ".pre-commit-config.yaml": hooks}
