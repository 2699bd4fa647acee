"""Proves an imported spec: it takes the module's own weights, and gives its numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import nn

from archdsl.common.source import Source
from archdsl.compiler import check
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.runtime.importing.calling import called_with, own_tensors
from archdsl.runtime.importing.inputs import arranged, caches
from archdsl.runtime.importing.outside import Extern
from archdsl.runtime.importing.recorded import tensors_in
from archdsl.runtime.importing.training import compare_trained
from archdsl.runtime.loading import load
from archdsl.runtime.refusal import ImportRefused

Size = tuple[int, ...]
Weights = Mapping[int, torch.Tensor]
"""Tensors in the place of others, by the addresses of these: a module and its network share their weights."""
AXES = {0: "", 1: "T", 2: "HW", 3: "DHW"}
"""The names of free sizes, by the number of axes."""
TOLERANCE = 1e-5
"""The largest difference of outputs, as a part of their standard deviation."""
SMALL = 1e-2
"""Weights below this, such as factors of layers that start at 1e-6, are made larger to be seen."""


class NumbersDiffer(ImportRefused):
    """The module and the network of its spec give other numbers."""


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
    *,
    trains: bool = False,
) -> Imported:
    """Checks a spec, loads the module's weights into its network, and compares their outputs at two sizes.

    `why` says why parameters may be unused; `packages` are those of its externs. Raises ImportRefused if the spec is
    wrong or the networks differ; with `trains` in training mode, too.
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
        with without_kept(module):
            apart = loses_an_axis(module, built, sizes)
            if apart:
                imported.notes.append(
                    f"its output {apart[0]} loses its first axis for a batch of 1, the spec's does not"
                )
            batch = 2 if apart else 1
            compare(module, built, sizes, batch)
        with without_kept(module):
            compare_varied(module, built, imported.graph, sizes, others, batch)
    if trains:
        with without_kept(module):
            imported.notes += prove_trained(module, built, imported.graph, sizes, others)
    return imported


def prove_trained(
    module: nn.Module, built: nn.Module, graph: Graph, sizes: list[Size], others: list[Size]
) -> list[str]:
    """Compares two modules in training mode; gives the report's text where the first one cannot train.

    Raises TrainingDiffers.
    """
    least = smaller(graph, sizes) if sizes != others else None
    ways = [sizes] if least is None else [least, sizes]
    why = compare_trained(module, built, ways, varied(built.state_dict()))
    return [f"it cannot run in training mode, so its spec is proved in evaluation mode alone: {why}"] if why else []


def compare_varied(
    module: nn.Module, built: nn.Module, graph: Graph, sizes: list[Size], others: list[Size], batch: int
) -> None:
    """Compares two modules with other numbers in their weights, at other sizes if these are free.

    `batch` is that for the given sizes. Raises ImportRefused.
    """
    other = varied(built.state_dict())
    if sizes == others:
        if other:
            compare_if_it_runs(module, built, sizes, other, batch)
        return
    ways = [other, {}] if other else [{}]
    least = smaller(graph, sizes)
    shown = least is not None and any(compare_if_it_runs(module, built, least, way) for way in ways)
    if not shown and not any(compare_if_it_runs(module, built, others, way) for way in ways[:-1]):
        compare(module, built, others, 2)
    if (tiny := smallest(graph, sizes)) is not None:
        any(compare_if_it_runs(module, built, tiny, way) for way in ways)


def varied(state: Mapping[str, torch.Tensor]) -> Weights:
    """Other numbers for the weights that have one number everywhere, as many have when training starts.

    A bias of 0, or a factor of 1e-6, would hide what it is added to, or what it multiplies.
    """
    generator = torch.Generator().manual_seed(0)
    found = {}
    for tensor in state.values():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        number = tensor.flatten()[0]
        if not torch.equal(tensor, number.expand_as(tensor)):
            continue
        random = torch.rand(tensor.shape, generator=generator).to(tensor) - 0.5
        found[tensor.data_ptr()] = number * (1 + random) if abs(number) > SMALL else random / 4
    return found


@contextmanager
def without_kept(module: nn.Module) -> Iterator[None]:
    """The dicts of a module have none of the tensors that it keeps there, and then are as they were.

    What it keeps may follow from its weights.
    """
    kept = [(table, dict(table)) for table in caches(module)]
    try:
        for table, before in kept:
            for key in [key for key, value in before.items() if isinstance(value, torch.Tensor)]:
                del table[key]
        yield
    finally:
        for table, before in kept:
            table.clear()
            table.update(before)


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


def loses_an_axis(module: nn.Module, built: nn.Module, sizes: list[Size]) -> list[int]:
    """The outputs of which `squeeze()` takes the axis of one sample away."""
    wanted = [*tensors_in(module(*arranged(module, inputs_of(sizes, 1))))]
    try:
        given = [*tensors_in(built(*inputs_of(sizes, 1)))]
    except Exception:  # an extern is the user's code; what is wrong with it shows in the comparison
        return []
    return [i for i, (w, g) in enumerate(zip(wanted, given, strict=False)) if g.ndim == w.ndim + 1 and len(g) == 1]


def compare_if_it_runs(
    module: nn.Module, built: nn.Module, sizes: list[Size], weights: Weights, batch: int = 2
) -> bool:
    """Compares two modules at these sizes, unless the first one cannot take them; whether it did.

    Raises ImportRefused.
    """
    if (given := runs(module, sizes, weights, batch)) is None:
        return False
    compare(module, built, sizes, batch, given, weights)
    return True


def runs(module: nn.Module, sizes: list[Size], weights: Weights, batch: int) -> list[torch.Tensor] | None:
    """What a module gives at these sizes; None if it cannot take them, or gives numbers that are not finite."""
    try:
        given = [*tensors_in(run(module, inputs_of(sizes, batch), weights))]
    except Exception:  # whatever a module of others raises
        return None
    return given if are_numbers(given) else None


def run(module: nn.Module, inputs: Sequence[torch.Tensor], weights: Weights) -> object:
    """What a module gives, with these weights instead of its own."""
    given = arranged(module, inputs)
    if not weights:
        return module(*given)
    own = {key: weights[t.data_ptr()] for key, t in own_tensors(module) if t.data_ptr() in weights}
    return called_with(module, own, given)


def are_numbers(tensors: Sequence[torch.Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def inputs_of(sizes: list[Size], batch: int) -> list[torch.Tensor]:
    """Random inputs, the same ones each time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *size, generator=generator) for size in sizes]


def smaller(graph: Graph, sizes: list[Size]) -> list[Size] | None:
    """Other sizes, smaller and so faster, if they are valid: odd ones if these are, which have to be padded sooner."""
    axes = AXES[len(sizes[0]) - 1]
    if len(sizes) > 1 or {s.name for s in graph.free} != set(axes):
        return None
    # A half, and three quarters of the last axis, so that the axes differ.
    shares = [(1, 2)] * (len(axes) - 1) + [(3, 4)]
    halves = {axis: n * a // b for axis, n, (a, b) in zip(axes, sizes[0][1:], shares, strict=True)}
    for values in ({axis: n | 1 for axis, n in halves.items()}, halves):
        if min(values.values()) >= 8 and graph.always.near(values) == values:
            return [(sizes[0][0], *values.values())]
    return None


def compare(
    module: nn.Module,
    built: nn.Module,
    sizes: list[Size],
    batch: int,
    wanted: list[torch.Tensor] | None = None,
    weights: Weights = MappingProxyType({}),
) -> None:
    """Raises ImportRefused unless two modules give the same at these sizes; `wanted` is what the first one gives.

    They have their own weights but for these.
    """
    inputs = inputs_of(sizes, batch)
    wanted = list(tensors_in(run(module, inputs, weights))) if wanted is None else wanted
    if not are_numbers(wanted):  # a logarithm or a root of numbers below 0
        inputs = [x.abs() + 0.1 for x in inputs]
        wanted = list(tensors_in(run(module, inputs, weights)))
        if not are_numbers(wanted):
            raise ImportRefused(f"its outputs on random input at {sizes} are nan or infinite: nothing can be compared")
    try:
        given = list(tensors_in(run(built, inputs, weights)))
    except Exception as error:  # an extern is the user's code
        raise ImportRefused(f"its spec does not run at {sizes}: {type(error).__name__}: {error}") from error
    wanted = [w.unsqueeze(1) if w.ndim == 1 else w for w in wanted]  # one number for each sample
    if [w.shape for w in wanted] != [g.shape for g in given]:
        raise NumbersDiffer(f"its outputs at {sizes} have other sizes than those of the spec")
    if (apart := difference(wanted, given)) is None:
        return
    try:  # the sums of large numbers, rounded in another order, may differ by more
        exact = [list(tensors_in(in_double(part, inputs, weights))) for part in (module, built)]
        exact[0] = [w.unsqueeze(1) if w.ndim == 1 else w for w in exact[0]]
    except (RuntimeError, TypeError, ValueError):  # it has numbers of its own, of one precision
        exact = []
    if not exact or exact[0][0].dtype != torch.float64 or difference(*exact) is not None:
        more = ", with other weights than its own," if weights else ""
        raise NumbersDiffer(f"its outputs at {sizes}{more} differ from those of the spec by {apart:.2g}")


def difference(wanted: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> float | None:
    """The first difference of outputs that is too large; None if there is none."""
    for one, two in zip(wanted, given, strict=True):
        apart = float((one - two).abs().max())
        if not apart <= TOLERANCE * max(float(one.std(correction=0)), 1e-12):
            return apart
    return None


def in_double(module: nn.Module, inputs: Sequence[torch.Tensor], weights: Weights) -> object:
    """What a module gives with its numbers as float64."""
    own = {key: weights.get(t.data_ptr(), t) for key, t in own_tensors(module)}
    state = {key: t.double() if t.is_floating_point() else t for key, t in own.items()}
    return called_with(module, state, arranged(module, [x.double() for x in inputs]))
