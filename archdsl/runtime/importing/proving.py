"""Proves an imported spec: it takes the module's own weights, and gives its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from archdsl.common.source import Source
from archdsl.compiler import check
from archdsl.graph import Graph
from archdsl.runtime.importing.recording import tensors_in
from archdsl.runtime.importing.refusal import ImportRefused
from archdsl.runtime.loading import load

TOLERANCE = 1e-5
"""The largest difference of outputs, as a part of their standard deviation."""


@dataclass(slots=True, eq=False, repr=False)
class Imported:
    """A module as a spec: its text and its checked graph. `notes` say what the text does not."""

    name: str
    text: str
    graph: Graph
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Imported {self.name}: {len(self.graph)} nodes>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, str]:
        return self.graph._repr_mimebundle_(include, exclude)


def prove(
    name: str, text: str, notes: list[str], module: nn.Module, sizes: Sequence[Sequence[tuple[int, ...]]], why: str = ""
) -> Imported:
    """Checks a spec, loads the module's weights into its network, and compares their outputs at these sizes.

    `why` says why parameters may be unused. Raises SpecError if the spec is wrong, ImportRefused if the networks
    differ.
    """
    source = Source(f"{name}.arch", text)
    imported = Imported(name, text, check(source), notes)
    built = load(source).eval()
    state, mine = module.state_dict(), built.state_dict()
    unused = [key for key in state if key not in mine]
    if unused:
        more = f" and {len(unused) - 1} more" if unused[1:] else ""
        raise ImportRefused(f"it does not use its parameter `{unused[0]}`{more}{why}")
    built.load_state_dict(state, strict=True)
    for one in dict.fromkeys(tuple(size) for size in sizes):
        generator = torch.Generator().manual_seed(0)
        inputs = [torch.randn(2, *size, generator=generator) for size in one]
        with torch.no_grad():
            wanted, given = list(tensors_in(module(*inputs))), list(tensors_in(built(*inputs)))
        compare(wanted, given, one)
    return imported


def compare(wanted: list[torch.Tensor], given: list[torch.Tensor], size: object) -> None:
    """Raises ImportRefused unless two results are equal."""
    if [w.shape for w in wanted] != [g.shape for g in given]:
        raise ImportRefused(f"its outputs at {size} have other sizes than those of the spec")
    for one, two in zip(wanted, given, strict=True):
        apart = (one - two).abs().max().item()
        if not apart <= TOLERANCE * max(one.std().item(), 1e-12):
            raise ImportRefused(f"its outputs at {size} differ from those of the spec by {apart:.2g}")
