"""The choices that users have by name: endings of files, number types, optimizers, what is recomputed.

They are here so that the command line, which shows them in its help, and the modules that act on them share one list,
without the command line importing those modules at start-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

# Endings of the files that each kind of output is written to; diagrams have theirs in backends/diagram/formats.py.
MODULES = (".py",)
PLOTS = (".svg", ".png", ".pdf")
STATE_DICTS = (".safetensors", ".pth", ".pt")
EXPORTS = (".pt2", ".onnx")
NETWORK_FILES = (".onnx", ".pt2", ".yaml", ".yml", ".cfg")
"""Files with a network in another form than a spec, which can be imported."""

STARTERS = ("classifier", "segmenter", "1-d", "3-d")
"""What a new network may be; each has a file in archdsl/starters."""

BYTES: Mapping[str, int] = MappingProxyType({"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2})
"""The number types of a network, and the bytes of each number."""

OPTIMIZERS: Mapping[str, int] = MappingProxyType({"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2, "adamw": 2})
"""Optimizers, and how many numbers each keeps for a trainable parameter. `momentum` is SGD with it."""

Mode: TypeAlias = Literal["none", "dense", "blocks"]
"""Which activations a training step computes a second time."""
MODES: tuple[Mode, ...] = get_args(Mode)

Adaptation: TypeAlias = Literal["mean", "slice"]
"""How kernels for other input channels are made from those that are there."""
ADAPTATIONS: tuple[Adaptation, ...] = get_args(Adaptation)
