"""Proves an imported spec in training mode: outputs, gradients and running statistics are those of the module.

Dropouts of both become factors that follow from their probabilities, so that nothing random is compared.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from archdsl.runtime.importing.calling import own_tensors
from archdsl.runtime.importing.dropping import drop_probability
from archdsl.runtime.importing.inputs import arranged
from archdsl.runtime.importing.places import line_of_python
from archdsl.runtime.importing.recorded import tensors_in
from archdsl.runtime.refusal import ImportRefused

BATCH = 2
"""Some layers train on no single sample."""
TRIES = ((torch.float32, 1e-4, 1e-6), (torch.float64, 1e-6, 1e-12), (torch.float32, 1e-2, 1e-4))
"""Types of numbers, each with the largest difference: as a part of the largest number of a tensor, and of its kind.

Sums in another order may be as far apart as the second type tells. The last one is for modules that do not take that.
"""
ELSE = "`archdsl import --evaluation` (in Python `evaluation=True`) writes what the module is in evaluation mode alone"


class TrainingDiffers(ImportRefused):
    """The module does something in training mode that the spec does not say."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n  {ELSE}"

    def because(self, refusal: ImportRefused) -> TrainingDiffers:
        """The same with the reason why what training calls cannot be said, if that is of the same call."""
        # What a module draws is no tensor that could be a buffer, as that reason advises.
        is_known = refusal.at == self.at and "not computed from the input" not in refusal.reason
        return TrainingDiffers(f"in training mode: {refusal.reason}", *self.at) if is_known else self


class CannotTrain(Exception):
    """The module cannot run in training mode."""


class NotFinite(CannotTrain):
    """It gives numbers that are nan or infinite."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of training: the sizes of its inputs without the batch, other weights than a module's own, by address."""

    sizes: Sequence[tuple[int, ...]]
    weights: Mapping[int, Tensor]
    is_positive: bool
    dtype: torch.dtype = torch.float32

    def inputs(self) -> list[Tensor]:
        """Random inputs, the same ones each time."""
        generator = torch.Generator().manual_seed(0)
        found = [torch.randn(BATCH, *size, generator=generator).to(self.dtype) for size in self.sizes]
        return [(x.abs() + 0.1 if self.is_positive else x).requires_grad_() for x in found]


class Determined(TorchDispatchMode):  # type: ignore[misc]
    """Numbers that a run draws follow from the functions that draw them; `drawn` are those of no dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[str, str]] = []
        """The functions and their lines."""
        self.inside = 0
        """How many modules that are known as dropouts run."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or is_quiet(func, args, kwargs):
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in ("bernoulli", "bernoulli_") and args[0].numel() > 1:
            usual = 0.5 if name.endswith("_") else args[0]
            keep = args[1] if len(args) > 1 else kwargs.get("p", usual)
            found = torch.as_tensor(kept(keep, args[0].shape)).to(args[0]).expand_as(args[0])
            return args[0].copy_(found) if name.endswith("_") else found.clone()
        if not self.inside:
            self.drawn.append((name, line_of_python()))
        torch.manual_seed(0)
        return func(*args, **kwargs)


def is_quiet(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a function that can draw numbers draws none: attention without a dropout."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return "dropout_p" in names and not given.get("dropout_p", 0)


def kept(keep: Any, shape: Sequence[int]) -> Any:
    """The number in the place of a drawn 1 or 0, by the probability of 1; other ones where whole samples are drawn."""
    return keep * (1 - (0.75 if all(n == 1 for n in shape[1:]) else 0.5) * (1 - keep))


@dataclass(slots=True)
class Trained:
    """A run in training mode: tensors by name, the functions that drew numbers, and whether Python did."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    drawn: list[tuple[str, str]] = field(default_factory=list)
    is_drawn_by_python: bool = False


def compare_trained(
    module: nn.Module, built: nn.Module, ways: Sequence[Sequence[tuple[int, ...]]], weights: Mapping[int, Tensor]
) -> str:
    """Compares a module with the network of its spec in training mode, at the first of several sizes that it takes.

    They have their own weights but for these. Gives why the module cannot train; empty if it can. Raises
    TrainingDiffers.
    """
    modes = [(part, part.training) for one in (module, built) for part in one.modules()]
    reason = ""
    try:
        try:
            module.train()
        except Exception as error:  # whatever a module of others raises
            raise CannotTrain(f"{type(error).__name__}: {error}") from error
        built.train()
        for sizes in ways:
            for values, is_positive in product((weights, {}) if weights else ({},), (False, True)):
                try:
                    compare_at(module, built, Step(sizes, values, is_positive))
                    return ""
                except NotFinite as error:  # such as a root of numbers below 0
                    reason = reason or str(error)
                except CannotTrain as error:
                    reason = reason or str(error)
                    break
    except CannotTrain as error:
        reason = str(error)
    finally:
        for part, training in modes:
            part.training = training
    return reason.splitlines()[0]


def compare_at(module: nn.Module, built: nn.Module, step: Step) -> None:
    """Compares two modules by a step. Raises TrainingDiffers, or CannotTrain if the first one cannot take the step."""
    differs: TrainingDiffers | None = None
    for dtype, *least in TRIES:
        try:
            return compare_as(module, built, replace(step, dtype=dtype), least)
        except TrainingDiffers as error:
            differs = error
            if dtype is torch.float64:
                break
        except CannotTrain:
            if dtype is torch.float32:
                raise
    assert differs is not None
    raise differs


def compare_as(module: nn.Module, built: nn.Module, step: Step, least: Sequence[float]) -> None:
    """The same with numbers of one type, which may differ as `first_apart` says."""
    wanted = trained(module, step)
    if not all(bool(t.isfinite().all()) for t in (*wanted.outputs.values(), *wanted.gradients.values())):
        raise NotFinite("its numbers are nan or infinite")
    try:
        given = trained(built, step)
    except CannotTrain as error:
        if step.dtype is torch.float64:  # an extern may know float32 alone
            raise
        raise TrainingDiffers(f"its spec cannot run in training mode as it can: {error}") from None
    if more := Counter(n for n, _ in wanted.drawn) - Counter(n for n, _ in given.drawn):
        function = next(iter(more))
        line = next(at for drawn, at in wanted.drawn if drawn == function)
        raise TrainingDiffers(f"in training mode it draws random numbers by `{function}`, which no spec can", "", line)
    if wanted.is_drawn_by_python and not given.is_drawn_by_python:
        raise TrainingDiffers("in training mode it draws random numbers in Python, which no spec can")
    stays = evaluated_parts(module)
    for what, one, two in (
        ("its {}", wanted.outputs, given.outputs),
        ("the gradient of {}", wanted.gradients, given.gradients),
        ("the new number of {}", wanted.buffers, given.buffers),
    ):
        if len(one) != len(two) and one is wanted.outputs:
            raise TrainingDiffers(f"in training mode it has {len(one)} outputs, its spec {len(two)}{stays}")
        if (name := first_apart(one, two, *least)) is not None:
            raise TrainingDiffers(
                f"in training mode {what.format(name)} is not that of the spec{stays or lost(what, one, two)}"
            )


def evaluated_parts(module: nn.Module) -> str:
    """What to say of layers that stay in evaluation mode when their module trains."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    found = [path for path, part in module.named_modules() if isinstance(part, kinds) and not part.training]
    return f": `{found[0]}` stays in evaluation mode" if found else ""


def lost(what: str, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What to say where a module has no gradient and its spec has one."""
    none = any(not bool(wanted[key].any()) and bool(given[key].any()) for key in wanted.keys() & given.keys())
    return ": it has none there, as behind `detach` or in `torch.no_grad`" if none and "gradient" in what else ""


def trained(module: nn.Module, step: Step) -> Trained:
    """A step of training with copies of a module's tensors. Raises CannotTrain."""
    state = copies(module, step)
    learned = {key: tensor for key, tensor in state.items() if isinstance(tensor, nn.Parameter)}
    inputs = step.inputs()
    learned |= {f"input {number}": tensor for number, tensor in enumerate(inputs)}
    with ExitStack() as stack:
        determined = Determined()
        stack.enter_context(dropping(module, determined))
        stack.enter_context(same_numbers(step.dtype))
        drawing = stack.enter_context(Drawing())
        stack.enter_context(determined)
        try:
            with torch.enable_grad():
                # Taken as variables that may be overwritten: a leaf that needs gradients may not.
                given = arranged(module, [x.view_as(x) for x in inputs])
                results = [*tensors_in(functional_call(module, state, given, tie_weights=False))]
                outputs = [t.unsqueeze(1) if t.ndim == 1 else t for t in results if t.is_floating_point()]
                gradients = gradients_of(outputs, learned)
        except Exception as error:  # whatever a module of others raises
            raise CannotTrain(f"{type(error).__name__}: {error}") from error
    found = Trained({f"output {i}": t.detach() for i, t in enumerate(outputs)}, gradients, drawn=determined.drawn)
    found.buffers = {key: tensor.detach() for key, tensor in state.items() if key not in learned}
    found.is_drawn_by_python = drawing.is_drawn
    return found


def copies(module: nn.Module, step: Step) -> dict[str, Tensor]:
    """The tensors that a module has in a step, by their keys; those with several keys once."""
    learned = {id(tensor) for tensor in module.parameters()}
    known: dict[int, Tensor] = {}
    found = {}
    for key, tensor in own_tensors(module):
        if id(tensor) not in known:
            copy = step.weights.get(tensor.data_ptr(), tensor).detach()
            copy = copy.to(step.dtype, copy=True) if copy.is_floating_point() else copy.clone()
            known[id(tensor)] = nn.Parameter(copy) if id(tensor) in learned and copy.is_floating_point() else copy
        found[key] = known[id(tensor)]
    return found


def gradients_of(outputs: Sequence[Tensor], learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of one number that all outputs change, by the names of what it follows from."""
    # Weights that differ everywhere, and are no random numbers, which are looked for here.
    loss = [(t * torch.arange(t.numel()).cos().to(t).view(t.shape)).sum() for t in outputs if t.requires_grad]
    if not loss:
        return {key: torch.zeros_like(tensor) for key, tensor in learned.items()}
    found = torch.autograd.grad(sum(loss[1:], loss[0]), [*learned.values()], allow_unused=True)
    return {
        key: torch.zeros_like(tensor) if grad is None else grad
        for (key, tensor), grad in zip(learned.items(), found, strict=True)
    }


def first_apart(one: Mapping[str, Tensor], two: Mapping[str, Tensor], part: float, least: float) -> str | None:
    """The name of the first tensor that differs, as a message has it; None if there is none.

    It may differ by a part of its largest number, and by one of that of all. Weights that only one of the modules has
    are left to the notes.
    """
    pairs = {key: (t.detach(), two[key].detach()) for key, t in one.items() if key in two}
    apart = {key: pair for key, pair in pairs.items() if not torch.equal(*pair)}
    largest = max((float(t.abs().max()) for t in one.values() if t.numel()), default=0.0) if apart else 0.0
    for name, (wanted, given) in apart.items():
        if wanted.shape == given.shape:
            furthest = float((wanted.double() - given.double()).abs().max())
            if furthest <= part * float(wanted.abs().max()) + least * largest:
                continue
        return name if " " in name else f"`{name}`"
    return None


class Drawing:
    """Tells whether Python's or NumPy's random numbers are drawn within, which leaves their state as it was."""

    is_drawn = False

    def __enter__(self) -> Drawing:
        self.numpy = sys.modules.get("numpy")
        self.before = self.state()
        random.seed(0)
        if self.numpy is not None:
            self.numpy.random.seed(0)
        self.start = self.shown()
        return self

    def state(self) -> tuple[Any, Any]:
        return random.getstate(), None if self.numpy is None else self.numpy.random.get_state()

    def shown(self) -> str:
        return repr((random.getstate(), None if self.numpy is None else self.numpy.random.get_state()[2:]))

    def __exit__(self, *_: object) -> None:
        self.is_drawn = self.shown() != self.start
        random.setstate(self.before[0])
        if self.numpy is not None:
            self.numpy.random.set_state(self.before[1])


@contextmanager
def same_numbers(dtype: torch.dtype) -> Iterator[None]:
    """The generator of PyTorch is as it was afterwards; new tensors have this type within."""
    usual = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(usual)


@contextmanager
def dropping(module: nn.Module, determined: Determined) -> Iterator[None]:
    """Modules that drop samples by other functions than `bernoulli` give their input times its factor."""

    known = {part: p for part in module.modules() if (p := drop_probability(part)) is not None}

    def before(part: nn.Module, given: object) -> None:
        determined.inside += 1

    def after(part: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
        determined.inside -= 1
        return given[0] * (1 - 0.75 * known[part]) if part.training else result

    hooks: list[RemovableHandle] = []
    for part in known:
        hooks += [part.register_forward_pre_hook(before), part.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
