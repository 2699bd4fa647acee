"""Proves an imported spec: it takes the module's own weights, and gives its numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from archdsl.common.source import Source
from archdsl.compiler import check
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.runtime.importing.calling import called_with, own_tensors
from archdsl.runtime.importing.inputs import arranged
from archdsl.runtime.importing.outside import Extern
from archdsl.runtime.importing.recording import tensors_in
from archdsl.runtime.loading import load
from archdsl.runtime.refusal import ImportRefused

Size = tuple[int, ...]
AXES = {0: "", 1: "T", 2: "HW", 3: "DHW"}
"""The names of free sizes, by the number of axes."""
TOLERANCE = 1e-5
"""The largest difference of outputs, as a part of their standard deviation."""


@dataclass(slots=True, eq=False, repr=False)
class Imported:
    """A module as a spec: its text and its checked graph. `notes` say what the text does not.

    `externs` stand for what the language cannot say.
    """

    name: str
    text: str
    graph: Graph
    notes: list[str] = field(default_factory=list)
    externs: Sequence[Extern] = ()
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """The module's tensors, by the keys of the spec."""

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Imported {self.name}: {len(self.graph)} nodes>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, str]:
        return self.graph._repr_mimebundle_(include, exclude)


def prove(
    name: str,
    text: str,
    notes: list[str],
    module: nn.Module,
    sizes: list[Size],
    others: list[Size],
    why: str = "",
    packages: Collection[str] = (),
) -> Imported:
    """Checks a spec, loads the module's weights into its network, and compares their outputs at two sizes.

    `why` says why parameters may be unused; `packages` are those of its externs. Raises ImportRefused if the spec is
    wrong or the networks differ.
    """
    source = Source(f"{name}.arch", text)
    try:
        imported = Imported(name, text, check(source), notes)
    except SpecError as error:
        raise ImportRefused(f"its spec would be wrong: {str(error).splitlines()[0]}") from error
    # A module from outside may make tensors that are no weights, and these must have numbers.
    try:
        built = load(source, device="cpu" if packages else "meta", allow_extern=packages).eval()
    except Exception as error:  # an extern is the user's code
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise ImportRefused(f"its spec cannot be loaded: {first}") from error
    state, mine = module.state_dict(), built.state_dict()
    imported.notes += left_out(module, [key for key in state if key not in mine], mine, why)
    state = {key: tensor for key, tensor in state.items() if key in mine}
    for key, tensor in mine.items():
        if key not in state or state[key].shape != tensor.shape:
            has = "none" if key not in state else f"one of size {list(state[key].shape)}"
            raise ImportRefused(f"its spec would have the weight `{key}` of size {list(tensor.shape)}; it has {has}")
    imported.notes += frozen(module, built)
    built.load_state_dict(state, strict=True, assign=True)
    imported.state = state
    with torch.no_grad():
        imported.notes += compared(module, built, sizes)
        if sizes != others:
            least = smaller(imported.graph, sizes)
            if least is None or not compare_if_it_runs(module, built, least):
                compare(module, built, others, 2)
            if (tiny := smallest(imported.graph, sizes)) is not None:
                compare_if_it_runs(module, built, tiny)
    return imported


def left_out(module: nn.Module, unused: Sequence[str], known: Collection[str], why: str) -> list[str]:
    """The report's text on weights that the spec has not: those that nothing uses, and second keys of others."""
    again = {key: same for key in unused if (same := other_key(module, key, known)) is not None}
    without = [key for key in unused if key not in again]
    found = []
    if again:
        key, same = next(iter(again.items()))
        found.append(f"`{key}`{and_more(again)} is the weight `{same}` under a second key, which the spec has not")
    if without:
        found.append(f"it does not use `{without[0]}`{and_more(without)}, which the spec has not{why}")
    return [f"{text}: load its checkpoints with strict=False" for text in found]


def and_more(names: Collection[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def other_key(module: nn.Module, key: str, known: Collection[str]) -> str | None:
    """The known key of a weight that a module also holds elsewhere, so that its state_dict has it twice."""
    held = dict(module.named_parameters(remove_duplicate=False))
    held |= dict(module.named_buffers(remove_duplicate=False))
    return next((k for k, tensor in held.items() if k in known and tensor is held.get(key)), None)


def frozen(module: nn.Module, built: nn.Module) -> list[str]:
    """The report's text on parameters that do not require gradients in the module, but do in the spec's network."""
    trained = {key for key, parameter in built.named_parameters() if parameter.requires_grad}
    own = [(key, p.requires_grad) for key, p in module.named_parameters()]
    own += [(key, False) for key, _ in module.named_buffers()]
    found = [key for key, requires_grad in own if key in trained and not requires_grad]
    if not found:
        return []
    return [f"`{found[0]}`{and_more(found)} did not require gradients: freeze what is to stay after loading weights"]


def smallest(graph: Graph, sizes: list[Size]) -> list[Size] | None:
    """The smallest valid sizes, at which conditions on sizes show."""
    axes = AXES[len(sizes[0]) - 1]
    if len(sizes) > 1 or {s.name for s in graph.free} != set(axes):
        return None
    return [(sizes[0][0], *graph.always.near(dict.fromkeys(axes, 1)).values())]


def compared(module: nn.Module, built: nn.Module, sizes: list[Size]) -> list[str]:
    """Compares two modules on one sample; on two where `squeeze()` takes the axis of one away. The report's text."""
    wanted = [*tensors_in(module(*arranged(module, inputs_of(sizes, 1))))]
    given = [*tensors_in(built(*inputs_of(sizes, 1)))]
    apart = [i for i, (w, g) in enumerate(zip(wanted, given, strict=False)) if g.ndim == w.ndim + 1 and len(g) == 1]
    compare(module, built, sizes, 2 if apart else 1, None if apart else wanted)
    return [f"its output {apart[0]} loses its first axis for a batch of 1, the spec's does not"] if apart else []


def compare_if_it_runs(module: nn.Module, built: nn.Module, sizes: list[Size]) -> bool:
    """Compares two modules at these sizes, unless the first one cannot take them; whether it did.

    Raises ImportRefused.
    """
    try:
        given = [*tensors_in(module(*arranged(module, inputs_of(sizes, 2))))]
    except Exception:  # whatever a module of others raises
        return False
    if not are_numbers(given):
        return False
    compare(module, built, sizes, 2, given)
    return True


def are_numbers(tensors: Sequence[torch.Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def inputs_of(sizes: list[Size], batch: int) -> list[torch.Tensor]:
    """Random inputs, the same ones each time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *size, generator=generator) for size in sizes]


def smaller(graph: Graph, sizes: list[Size]) -> list[Size] | None:
    """Other sizes, smaller and so faster, if they are valid."""
    axes = AXES[len(sizes[0]) - 1]
    if len(sizes) > 1 or {s.name for s in graph.free} != set(axes):
        return None
    # A half, and three quarters of the last axis, so that the axes differ.
    shares = [(1, 2)] * (len(axes) - 1) + [(3, 4)]
    values = {axis: n * a // b for axis, n, (a, b) in zip(axes, sizes[0][1:], shares, strict=True)}
    if min(values.values()) >= 8 and graph.always.near(values) == values:
        return [(sizes[0][0], *values.values())]
    return None


def compare(
    module: nn.Module, built: nn.Module, sizes: list[Size], batch: int, wanted: list[torch.Tensor] | None = None
) -> None:
    """Raises ImportRefused unless two modules give the same at these sizes; `wanted` is what the first one gives."""
    inputs = inputs_of(sizes, batch)
    wanted = list(tensors_in(module(*arranged(module, inputs)))) if wanted is None else wanted
    if not are_numbers(wanted):  # a logarithm or a root of numbers below 0
        inputs = [x.abs() + 0.1 for x in inputs]
        wanted = list(tensors_in(module(*arranged(module, inputs))))
        if not are_numbers(wanted):
            raise ImportRefused(f"its outputs on random input at {sizes} are nan or infinite: nothing can be compared")
    try:
        given = list(tensors_in(built(*inputs)))
    except Exception as error:  # an extern is the user's code
        raise ImportRefused(f"its spec does not run at {sizes}: {type(error).__name__}: {error}") from error
    wanted = [w.unsqueeze(1) if w.ndim == 1 else w for w in wanted]  # one number for each sample
    if [w.shape for w in wanted] != [g.shape for g in given]:
        raise ImportRefused(f"its outputs at {sizes} have other sizes than those of the spec")
    if (apart := difference(wanted, given)) is None:
        return
    try:  # the sums of large numbers, rounded in another order, may differ by more
        exact = [list(tensors_in(in_double(part, inputs))) for part in (module, built)]
        exact[0] = [w.unsqueeze(1) if w.ndim == 1 else w for w in exact[0]]
    except (RuntimeError, TypeError, ValueError):  # it has numbers of its own, of one precision
        exact = []
    if not exact or exact[0][0].dtype != torch.float64 or difference(*exact) is not None:
        raise ImportRefused(f"its outputs at {sizes} differ from those of the spec by {apart:.2g}")


def difference(wanted: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> float | None:
    """The first difference of outputs that is too large; None if there is none."""
    for one, two in zip(wanted, given, strict=True):
        apart = float((one - two).abs().max())
        if not apart <= TOLERANCE * max(float(one.std(correction=0)), 1e-12):
            return apart
    return None


def in_double(module: nn.Module, inputs: Sequence[torch.Tensor]) -> object:
    """What a module gives with its numbers as float64."""
    state = {key: t.double() if t.is_floating_point() else t for key, t in own_tensors(module)}
    return called_with(module, state, arranged(module, [x.double() for x in inputs]))
