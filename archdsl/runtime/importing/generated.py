"""What archdsl's own generated text defines: the functions and layers that built files have of their own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def defined(name: str, source: str) -> Any:
    """The function or class of that name in a helper's text. Nothing of a user's file is in such a text."""
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "Tensor": torch.Tensor, "Any": Any}
    names["__name__"] = "helpers"
    exec(source, names)
    return names[name]
