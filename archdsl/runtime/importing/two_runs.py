"""Runs of a module, and two of them as one recording, with the sizes of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from archdsl.runtime.importing.amounts import SizeRecorder, note_amounts
from archdsl.runtime.importing.calling import own_tensors
from archdsl.runtime.importing.recorded import Call, Recording, ScopeCall
from archdsl.runtime.importing.recording import Recorder
from archdsl.runtime.refusal import ImportRefused


def record(
    module: nn.Module, sizes: Sequence[tuple[int, ...]], batch: int, is_layer: Callable[[nn.Module], bool]
) -> Recording:
    """The calls of a run on inputs of these sizes, without the batch.

    First on tensors without data; where the module makes tensors of its own that have some, on random ones.
    """
    own = dict(own_tensors(module))
    empty = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in own.values()}
    state = {key: empty[id(tensor)] for key, tensor in own.items()}

    def run(kind: type[Recorder], given: list[torch.Tensor], state: Mapping[str, torch.Tensor] | None) -> Recording:
        return kind(module, is_layer).run(given, state)

    def noted(given: list[torch.Tensor], state: Mapping[str, torch.Tensor] | None) -> Recording:
        found = run(Recorder, given, state)
        note_amounts(found, lambda: run(SizeRecorder, given, state))
        return found

    try:
        with torch.device("meta"):
            return noted([torch.empty(batch, *size) for size in sizes], state)
    except ImportRefused:
        raise
    except Exception:  # what a module of others raises where tensors have no data
        if module.training:
            raise
    return noted([torch.randn(batch, *size) for size in sizes], None)


class CallsDiffer(ImportRefused):
    """Two runs make different calls."""

    def __init__(self, path: str, line: str) -> None:
        super().__init__(DEPENDS, path, line)


DEPENDS = "two runs make different calls: these depend on the size, or on the numbers, of the input"


def combine(first: Recording, second: Recording) -> None:
    """Adds the sizes and arguments of a second run to those of the first. Raises ImportRefused if its calls differ."""
    for one, two in zip(first.inputs, second.inputs, strict=True):
        one.shapes += two.shapes
    _combine(first.root, second.root)


def _combine(one: ScopeCall, two: ScopeCall) -> None:
    if len(one.members) != len(two.members):
        longer = max(one.members, two.members, key=len)
        names = ["" if isinstance(m, ScopeCall) else m.name for m in min(one.members, two.members, key=len)]
        same = (m.path == n.path for m, n in zip(one.members, two.members, strict=False))
        at = next((i for i, alike in enumerate(same) if not alike), len(names))
        raise CallsDiffer(one.path, longer[at].line)
    if [call.name for call in one.learned] == [call.name for call in two.learned]:
        for first, second in zip(one.learned, two.learned, strict=True):
            _combine_calls(first, second)
    for a, b in zip(one.members, two.members, strict=True):
        if type(a) is not type(b) or a.path != b.path:
            raise CallsDiffer(one.path, a.line)
        if isinstance(a, ScopeCall) and isinstance(b, ScopeCall):
            _combine(a, b)
        elif isinstance(a, Call) and isinstance(b, Call):
            if a.name != b.name or len(a.results) != len(b.results):
                raise CallsDiffer(a.path, a.line)
            _combine_calls(a, b)


def _combine_calls(one: Call, two: Call) -> None:
    one.again, one.again_named = two.arguments, two.named
    for x, y in zip(one.results, two.results, strict=True):
        x.shapes += y.shapes
