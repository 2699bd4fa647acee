"""The choices that users have by name: endings of files, number types, optimizers, what is recomputed.

They are here so that the command line, which shows them in its help, and the modules that act on them share one list,
without the command line importing those modules at start-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

# Endings of the files that each kind of output is written to; diagrams have theirs in backends/diagram/formats.py.
MODULES = (".py",)
STUBS = (".pyi",)
PLOTS = (".svg", ".png", ".pdf")
STATE_DICTS = (".safetensors", ".pth", ".pt")
EXPORTS = (".pt2", ".onnx")
NETWORK_FILES: Mapping[str, str] = MappingProxyType(
    {".onnx": "onnx", ".pt2": "torch", ".yaml": "yaml", ".yml": "yaml", ".cfg": "torch"}
)
"""Files with a network in another form than a spec, which can be imported, and the extra that reads each."""

STARTERS = ("classifier", "segmenter", "1-d", "3-d")
"""The kinds of a new network; each has a file in archdsl/starters."""

BYTES: Mapping[str, int] = MappingProxyType({"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2})
"""The number types of a network, and the bytes of each number."""

OPTIMIZERS: Mapping[str, int] = MappingProxyType({"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2, "adamw": 2})
"""Optimizers, and how many numbers each keeps for a trainable parameter. `momentum` is SGD with it."""

BANDWIDTH, NODE_BANDWIDTH, SPEED = 25e9, 300e9, 20e12
"""Where nobody says it, the bytes a second that a GPU sends to other machines and within one, and its operations."""

Units: TypeAlias = Literal["auto", "short", "raw"]
"""How large numbers are written: 25.6 M, or digit by digit; auto: short where there is no room."""
UNITS: tuple[Units, ...] = get_args(Units)

Mode: TypeAlias = Literal["none", "dense", "blocks"]
"""Which activations a training step computes a second time."""
MODES: tuple[Mode, ...] = get_args(Mode)
AUTO: Final = "auto"
"""In place of a mode: as little as a budget needs."""


def check_training(dtype: str, optimizer: str) -> None:
    """Refuses an unknown number type or optimizer. Raises ValueError."""
    if dtype not in BYTES:
        raise ValueError(f"there is no number type {dtype!r}; the number types are {', '.join(BYTES)}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {optimizer!r}; the optimizers are {', '.join(OPTIMIZERS)}")


@dataclass(frozen=True, slots=True)
class Budget:
    """The bytes that a training step may hold at most, for a batch, a number type of BYTES and one of OPTIMIZERS.

    `sizes` are values of free sizes, as ("H", 224); others have those of the spec's example.
    """

    limit: int
    """In bytes, with weights, gradients and the optimizer's state."""
    batch: int = 1
    dtype: str = "float32"
    optimizer: str = "adam"
    sizes: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        check_training(self.dtype, self.optimizer)

    @staticmethod
    def of(memory: int | str, **more: Any) -> Budget:
        """The budget for an amount of memory, in bytes or as "8GiB". Raises ValueError if it is none."""
        from archdsl.common.units import memory_from  # only if there is a budget

        return Budget(memory_from(memory), **more)


Recomputing: TypeAlias = Mode | Budget
"""How what is recomputed is chosen: by name, or as little as a budget needs."""

Schedule: TypeAlias = Literal["gpipe", "1f1b", "interleaved", "interleaved-gpipe"]
"""In which order the ranks of a pipeline compute micro-batches; in the interleaved ones each has several stages."""
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)

Adaptation: TypeAlias = Literal["mean", "slice"]
"""How kernels for other input channels are made from those that are there."""
ADAPTATIONS: tuple[Adaptation, ...] = get_args(Adaptation)
