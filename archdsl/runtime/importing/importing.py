"""The way from a module to a proved spec."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from torch import nn

from archdsl.common.units import counted
from archdsl.ops import OPERATIONS
from archdsl.runtime.importing.blocks import RESERVED, Blocks
from archdsl.runtime.importing.functions import shape_of
from archdsl.runtime.importing.inputs import input_names
from archdsl.runtime.importing.layers import is_layer, recorded_layers, snake_case
from archdsl.runtime.importing.making import Made, watching, wrong_arguments, wrong_inputs
from archdsl.runtime.importing.outside import Extern, declare
from archdsl.runtime.importing.proving import AXES, Imported, NumbersDiffer, Size, prove
from archdsl.runtime.importing.recorded import Recording, Value
from archdsl.runtime.importing.regions import is_ambiguous
from archdsl.runtime.importing.rewriting import rewrite
from archdsl.runtime.importing.structure import structure
from archdsl.runtime.importing.training import TrainingDiffers
from archdsl.runtime.importing.translating import translate
from archdsl.runtime.importing.two_modes import differences, without_gradients
from archdsl.runtime.importing.two_runs import CallsDiffer, combine, record
from archdsl.runtime.importing.writing import Model, write
from archdsl.runtime.refusal import ImportRefused

IN_EVALUATION = ", as it is in evaluation mode; training mode is not looked at"
BATCHES = (2, 3)
"""The batches of the two runs: what differs with them is the batch."""
Way: TypeAlias = Callable[[int, int], int]
WAYS: tuple[Way, ...] = (
    lambda n, axis: n + axis * (32 if n >= 64 else n),
    lambda n, axis: n * (axis + 1),
)
"""How each size of the second run follows from that of the first, and the number of its axis from 1."""
PAIRS: tuple[tuple[Way, Way], ...] = (
    (lambda n, axis: 2 * n + 28 * axis - 24, lambda n, axis: 2 * n - 28 * axis + 92),
    (lambda n, axis: 2 * n + 31 * axis - 30, lambda n, axis: 2 * n - 31 * axis + 95),
    (lambda n, axis: n * (axis + 1), lambda n, axis: n * (axis + 3)),
)
"""Two other runs, where those at the given size and a larger one call different things, or say too little.

Larger maps have several windows along each axis, so that they are shifted. In each of the first two pairs one axis of a
map is odd, and has to be padded, where that of the other run is even: behind a patch of 4, also when it is halved again
and again, or at once.
"""


def from_module(
    module: nn.Module,
    size: Size | Sequence[Size] = (3, 224, 224),
    *,
    name: str = "",
    source: str = "",
    extern: bool = True,
    made: Made | None = None,
    fixed: bool = False,
    evaluation: bool = False,
) -> Imported:
    """The spec of a module, proved to have its keys and to give its numbers, in evaluation and in training mode.

    `size` is that of the input, channels first and without the batch; a list for several inputs. `name` is the model's,
    by default the class's; `source` is said in the head. `fixed`: no size is free. The module runs, on tensors without
    data and on random ones; its mode, weights and buffers stay as they are. The smallest module around what the
    language cannot say becomes an `extern`; without `extern`, or where none can be declared, ImportRefused is raised.
    `made` are the arguments of the modules within, as far as they are known; else they are looked for among the
    attributes. `evaluation`: what the module does in training mode is not looked at; the head of the spec says so.
    """
    if evaluation:
        cls = type(module)
        source = f"{source or f'{cls.__module__}.{cls.__qualname__}'}{IN_EVALUATION}"
    return evaluated_module(module, size, name, source, extern=extern, made=made, fixed=fixed, trains=not evaluation)


def evaluated_module(
    module: nn.Module,
    size: Size | Sequence[Size],
    name: str,
    source: str,
    *,
    extern: bool = True,
    made: Made | None = None,
    fixed: bool = False,
    trains: bool = False,
) -> Imported:
    """As `from_module`; without `trains` the spec is that of evaluation mode, as a file is, and its head says nothing.

    Raises ImportRefused.
    """
    if not isinstance(module, nn.Module):
        what = f"the class {module.__name__}" if isinstance(module, type) else f"of {type(module).__name__}"
        raise TypeError(f"`from_module` takes a module (torch.nn.Module); this is {what}")
    sizes = (
        [cast(Size, tuple(size))] if isinstance(size[0], int) else [tuple(one) for one in cast(Sequence[Size], size)]
    )
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        made = ({} if made is None else made) if extern else None
        named = identifier(name or type(module).__name__)
        if named in {*input_names(module, len(sizes)), "image", "signal", "volume"}:
            named += "_model"
        return Import(module, sizes, named, source, made, fixed, trains).run()
    finally:
        for part, training in modes.items():
            part.training = training


def from_callable(
    path: str,
    values: Mapping[str, Any],
    size: Size | Sequence[Size] = (3, 224, 224),
    *,
    only: str = "",
    extern: bool = True,
    evaluation: bool = False,
) -> Imported:
    """The spec of what `package.module:callable` makes, called with `values`, or `only` of a module in it, by its path.

    It runs that Python. `extern` and `evaluation` are as for `from_module`.

    Raises ImportRefused, also for Python that fails.
    """
    from importlib import import_module

    made: Made = {}
    package, _, name = path.partition(":")
    try:
        module: Any = import_module(package)
        for part in name.split("."):
            module = getattr(module, part)
        if not isinstance(module, nn.Module):
            if wrong := wrong_arguments(module, values):
                raise ImportRefused(f"{path} {wrong}")
            with watching() as made:
                module = module(**values)
    except ImportRefused:
        raise
    except Exception as error:
        raise ImportRefused(f"{path} cannot be called: {_first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ImportRefused(f"{path} makes an object of type {type(module).__name__}, not an nn.Module")
    if only:
        try:
            module = module.get_submodule(only)
        except AttributeError:
            raise ImportRefused(f"{path} has no module `{only}`; {_parts(module, only)}") from None
    source = f"{path}, its part {only}" if only else path
    return from_module(module, size, name=only or name, source=source, extern=extern, made=made, evaluation=evaluation)


def _parts(module: nn.Module, path: str) -> str:
    """The modules at the place where a path leads nowhere."""
    reached = ""
    for part in path.split("."):
        if part not in dict(module.named_children()):
            break
        module, reached = module.get_submodule(part), f"{reached}.{part}".strip(".")
    names = ", ".join(name for name, _ in module.named_children()) or "nothing"
    return f"{f'`{reached}`' if reached else 'it'} has {names}"


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return text if isinstance(error, ImportRefused) else f"{type(error).__name__}: {text}"


def identifier(name: str) -> str:
    found = re.sub(r"[^a-z0-9_]", "_", snake_case(name.rpartition(".")[2]))
    if found[:1].isdigit():  # the name of a module in a list
        return f"model_{found}"
    return f"{found}_model" if not found or found in {*RESERVED, *OPERATIONS} else found


@dataclass(frozen=True, slots=True)
class Runs:
    """What is recorded of a module, with the sizes of the second run, and of the first where it is not at the given.

    Only `outputs` of its outputs are there in evaluation. `why` says why it cannot run in training mode.
    """

    recording: Recording
    outputs: list[tuple[str, Value]]
    others: list[Size]
    firsts: list[Size] | None
    why: str


@dataclass(slots=True)
class Import:
    """One import: what is imported, and how. With `made` None there are no externs."""

    module: nn.Module
    sizes: list[Size]
    name: str
    source: str
    made: Made | None
    fixed: bool
    trains: bool
    """Whether the spec is to do in training mode what the module does."""
    is_ambiguous: bool = False
    """Whether other runs may show more of a padding."""

    def run(self) -> Imported:
        """The spec with free sizes of the input if it can have them, else with fixed ones."""
        evaluated = _record(self.module, self.sizes, BATCHES[0])
        if self.fixed or all(len(size) == 1 for size in self.sizes):
            return self.proved(evaluated, self.sizes)
        try:
            found = self.proved(evaluated, *self.larger())
            other = self.by_other_runs() if self.is_ambiguous else None
            return self.or_fixed(found if other is None or len(other.externs) > len(found.externs) else other)
        except TrainingDiffers:
            raise
        except ImportRefused as error:
            first = error
        other = self.by_other_runs() if isinstance(first, CallsDiffer | NumbersDiffer) else None
        if other is not None:
            return self.or_fixed(other)
        found = self.proved(_record(self.module, self.sizes, BATCHES[0]), self.sizes)
        found.notes.append(f"the size of the input is fixed: {_first_line(first)}")
        return found

    def larger(self) -> tuple[list[Size], Recording]:
        """Other sizes, and a run at these: a little larger, or multiples, which modules that cut windows may need.

        Raises ImportRefused if it runs at none of them.
        """
        reasons = []
        for way in WAYS:
            try:
                return (sizes := self.scaled(way)), _record(self.module, sizes, BATCHES[1])
            except ImportRefused as reason:
                reasons.append(reason)
        raise reasons[0]

    def scaled(self, way: Way) -> list[Size]:
        return [(size[0], *(way(n, axis) for axis, n in enumerate(size[1:], 1))) for size in self.sizes]

    def by_other_runs(self) -> Imported | None:
        """The spec from runs at two other sizes that call the same, proved at the given size; None if there is none."""
        for pair in PAIRS:
            firsts, others = map(self.scaled, pair)
            try:
                return self.proved(_record(self.module, firsts, BATCHES[0]), others, firsts=firsts)
            except ImportRefused:
                continue
        return None

    def or_fixed(self, found: Imported) -> Imported:
        """The spec, or that for inputs of this size alone, if that needs fewer externs."""
        fixed = self.attempt_fixed() if found.externs else None
        return found if fixed is None or len(fixed.externs) >= len(found.externs) else fixed

    def attempt_fixed(self) -> Imported | None:
        """The spec for inputs of this size alone, which may need fewer externs."""
        try:
            found = self.proved(_record(self.module, self.sizes, BATCHES[0]), self.sizes)
        except ImportRefused:
            return None
        found.notes.append("the size of the input is fixed, since that needs fewer externs")
        return found

    def proved(
        self,
        evaluated: Recording,
        others: list[Size],
        again: Recording | None = None,
        *,
        firsts: list[Size] | None = None,
    ) -> Imported:
        """The spec from runs at these two sizes, which are the same if the size is fixed; `again` is the second run.

        The first run is at the given sizes, or at `firsts`.
        """
        again = _record(self.module, others, BATCHES[1]) if again is None else again
        trained, why = _trained(self.module, firsts or self.sizes, others)
        if trained is not None and len(trained.outputs) > len(evaluated.outputs):
            outputs = trained.outputs[: len(evaluated.outputs)]
            return self.with_externs(Runs(trained, outputs, others, firsts, why))
        differing = {}
        if trained is not None and self.trains and (differing := differences(evaluated.root, trained.root)):
            try:  # more dropouts may be all that training has
                return self.written(Runs(trained, trained.outputs, others, firsts, why))
            except ImportRefused as refusal:
                differing = {path: found.because(refusal) for path, found in differing.items()}
        combine(evaluated, again)
        return self.with_externs(Runs(evaluated, evaluated.outputs, others, firsts, why), differing)

    def with_externs(self, runs: Runs, differing: Mapping[str, TrainingDiffers] = MappingProxyType({})) -> Imported:
        """The spec; where its network trains otherwise, modules that may be why become externs.

        These do other things in training, `differing`, or turn gradients off. Raises ImportRefused.
        """
        try:
            return self.written(runs)
        except TrainingDiffers as error:
            reason = error
        refused: dict[str, ImportRefused] = {}
        for found in (differing, dict(without_gradients(runs.recording.root))):
            if "" in found:
                raise found[""]
            refused |= found
            if found:
                try:
                    return self.written(runs, refused)
                except TrainingDiffers as error:  # the first one that names a place says most
                    reason = error if error.path and not reason.path else reason
        raise reason

    def written(self, runs: Runs, refused: Mapping[str, ImportRefused] = MappingProxyType({})) -> Imported:
        """The proved spec of runs at two sizes. `refused` are modules that no spec can say, by their paths."""
        outputs, others = runs.outputs, runs.others
        text, externs = self.spec(runs.recording, outputs, refused, free=self.sizes != others)
        notes = [note for extern in externs for note in extern_notes(extern)]
        smaller = others if runs.firsts is None else runs.firsts
        notes += [
            f"its output {name} is one number for each sample, which the spec gives an axis of size 1"
            for name, value in outputs
            if not shape_of(value)
        ]
        found = prove(
            self.name, text, notes, self.module, self.sizes, smaller, runs.why, packages(externs), trains=self.trains
        )
        found.externs = externs
        return found

    def spec(
        self,
        recording: Recording,
        outputs: list[tuple[str, Value]],
        refused: Mapping[str, ImportRefused],
        *,
        free: bool,
    ) -> tuple[str, list[Extern]]:
        """The text of a recording, and its externs; only `outputs` of its outputs are there in evaluation."""
        network = translate(recording, outputs, self.made, refused)
        self.is_ambiguous = any(is_ambiguous(item) for item in network.root.items())
        rewrite(network)
        externs = declare([*network.root.items()], {self.name})
        names = [said_name(n, shape_of(v), len(network.inputs)) for n, v in network.inputs]
        network.inputs = [*zip(names, (value for _, value in network.inputs), strict=True)]
        every = [*network.outputs, *network.training]
        named = {value: input_name for input_name, value in network.inputs}
        inputs = [named[value] for value in network.root.inputs]  # in the order in which they are used
        body = structure(network.root, inputs, every if len(every) > 1 else None)
        blocks = Blocks(externs=externs)
        chain = blocks.make(body.chain)
        declared = declarations(names, self.sizes, free)
        always = {n for n, _ in network.outputs}
        returned = [(output_name(n), label, n not in always) for n, label in body.outputs]
        cls = type(network.root.module)
        head = f"Imported from {self.source or f'{cls.__module__}.{cls.__qualname__}'}."
        return write(Model(self.name, chain, declared, returned), [*externs, *blocks.found], head), externs


def extern_notes(extern: Extern) -> list[str]:
    """The report's text on an extern: its place, and the reason for it."""
    first = extern.stands_for[0].refusal
    count = len(extern.stands_for)
    places = f"{counted(count, 'module')} of the class {type(extern.stands_for[0].module).__name__}"
    return [f"`{extern.name}` is an extern, for {places}: {first}"]


def packages(externs: Sequence[Extern]) -> set[str]:
    return {type(extern.stands_for[0].module).__module__.partition(".")[0] for extern in externs}


def _record(module: nn.Module, sizes: list[Size], batch: int) -> Recording:
    """A run of the module. Raises ImportRefused if it fails."""
    layers = recorded_layers(module)  # a fault of that is none of the module's
    try:
        return record(module, sizes, batch, layers)
    except ImportRefused:
        raise
    except Exception as error:
        shown = ", ".join("x".join(map(str, size)) for size in sizes)
        reason = wrong_inputs(module, len(sizes)) or _first_line(error)
        raise ImportRefused(f"it cannot run on an input of size {shown}: {reason}") from error


def _trained(module: nn.Module, sizes: list[Size], others: list[Size]) -> tuple[Recording | None, str]:
    """A run in training mode; None if it fails, and why."""
    layers = recorded_layers(module)
    try:
        module.train()
        for part in module.modules():
            part.training = part.training and not is_layer(part)  # layers give the same sizes in evaluation, and sooner
        first = record(module, sizes, BATCHES[0], layers)
        combine(first, record(module, others, BATCHES[1], layers))
    except Exception as error:  # what it computes in evaluation can be said, and that is what is proved
        return None, f"; it cannot run in training mode at this size: {_first_line(error)}"
    finally:
        module.eval()
    return first, ""


def said_name(name: str, shape: Size, count: int) -> str:
    """The name of an input: that of forward's argument if it says more than `x`; what a picture or signal is."""
    if count > 1 or name not in ("x", "input", "inputs", "img", "images"):
        return name
    return {2: "signal", 3: "image", 4: "volume"}.get(len(shape), "x") if shape[0] <= 4 else "x"


def output_name(name: str) -> str:
    return f"output{name}" if name[:1].isdigit() else name


def declarations(inputs: list[str], given: list[Size], free: bool) -> list[str]:
    """The declarations of the inputs: their positions are free, or fixed; free ones of one size are equal."""
    names: dict[tuple[int, int], str] = {}
    found = []
    for name, (first, *rest) in zip(inputs, given, strict=True):
        sizes = [str(first)]
        for axis, size in enumerate(rest):
            letter = AXES[len(rest)][axis] if free and len(rest) in AXES else ""
            if not letter:
                sizes.append(str(size))
            elif (axis, size) in names:
                sizes.append(names[axis, size])
            else:
                taken = sum(other.startswith(letter) for other in names.values())
                names[axis, size] = letter if not taken else f"{letter}{taken + 1}"
                sizes.append(f"{names[axis, size]} = {size}")
        found.append(f"{name}[{', '.join(sizes)}]")
    return found
