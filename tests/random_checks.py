"""Compares every form of a built module with the interpretation of its graph: keys, numbers, gradients, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import prod
from random import Random
from typing import Any, TypeAlias
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from archdsl.analysis.layout import Layout
from archdsl.backends.torch_source import Plainness, write_module
from archdsl.common.choices import MODES
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph, Node
from archdsl.graph.series import Series
from archdsl.ops.base import Weight
from archdsl.proof import prove
from archdsl.transform.crossing import crossing
from archdsl.transform.inference import for_inference
from archdsl.transform.recompute import Recompute, recompute
from archdsl.transform.series import lighter, series
from tests import modules
from tests.interpreter import Interpreter
from tests.modules import module_of

TOLERANCE = 1e-9
"""Relative to the largest number of a tensor, or to 1 if that is larger: the weights have that magnitude."""
READABLE = [Plainness.READABLE]
"""Compared without a proof, since that would refuse a wrong text, and a plainer one would take its place."""
ROUNDING = 1e-13
"""The relative perturbation of each tensor that measures how sensitive a result is to rounding."""
HUGE = 1e150
"""From here on squares overflow: PyTorch's layer normalisation of such numbers gives nan, and that by hand may not."""


class Wrong(AssertionError):
    """A built module differs from its graph."""


# ---------------------------------------------------------------- the state_dict by the graph


@dataclass
class Branch:
    """A module derived from keys: its own tensors and its submodules, in the order of placement."""

    own: dict[str, tuple[Node, Weight]] = field(default_factory=dict)
    inner: dict[str, Branch] = field(default_factory=dict)

    def keys(self, prefix: str = "") -> Iterator[tuple[str, tuple[Node, Weight]]]:
        for buffers in (False, True):  # PyTorch lists the parameters of a module before its buffers
            for name, (node, weight) in self.own.items():
                if weight.buffer == buffers:
                    yield prefix + name, (node, weight)
        for name, branch in self.inner.items():
            yield from branch.keys(f"{prefix}{name}.")


def says(graph: Graph) -> dict[str, tuple[Node, Weight]]:
    """The state_dict that follows from the paths of the nodes, in order."""
    root = Branch()
    for node in graph.nodes():
        for weight in node.operation.weights(graph.shapes(node.inputs)):
            *way, last = f"{node.path}.{weight.name}".rstrip(".").split(".")
            branch = root
            for name in way:
                branch = branch.inner.setdefault(name, Branch())
            branch.own[last] = node, weight
    return dict(root.keys())


def starts(node: Node, weight: Weight) -> float | Tensor | None:
    """The initial value of a tensor unless it is random."""
    operation: Any = node.operation
    numbers = getattr(operation, "weight", None)
    init = getattr(operation, "init", None)
    match weight.name:
        case "" if weight.dtype == "int64":
            return differences(node, weight).double()
        case "running_mean" | "num_batches_tracked":
            return 0.0
        case "running_var":
            return 1.0
        case "weight" if numbers is not None:
            return torch.tensor(numbers, dtype=torch.double).expand(weight.shape)
        case "weight" | "" if operation.name in ("prelu", "scale"):
            return float(init)
        case "" if init in ("zeros", "ones"):
            return 0.0 if init == "zeros" else 1.0
        case "weight" if init in ("zeros", "ones"):
            return 0.0 if init == "zeros" else 1.0
        case "bias" if operation.family == "normalisation" or init is not None:
            return 0.0
    return None


def differences(node: Node, weight: Weight) -> Tensor:
    """The numbers of the differences of two positions in a window, from its last to its first; or of their sizes."""
    operation: Any = node.operation
    height, width = operation.sides
    places = [(i, j) for i in range(height) for j in range(width)]
    pairs = [(a - c, b - d) for a, b in places for c, d in places]
    numbers = [(y + height - 1) * (2 * width - 1) + x + width - 1 for y, x in pairs]
    if not operation.signed:
        numbers = [abs(y) * width + abs(x) for y, x in pairs]
    return torch.tensor(numbers).reshape(weight.shape)


def filled(keys: Mapping[str, tuple[Node, Weight]]) -> dict[str, Tensor]:
    """Random weights and statistics, with magnitudes that neither vanish nor explode."""
    generator = torch.Generator().manual_seed(5)
    state: dict[str, Tensor] = {}
    for key, (node, weight) in keys.items():
        if weight.dtype == "int64":
            state[key] = differences(node, weight) if weight.shape else torch.tensor(3)
            continue
        tensor = torch.rand(weight.shape, generator=generator, dtype=torch.double)
        if len(weight.shape) > 1:
            state[key] = (tensor - 0.5) * (24 / prod(weight.shape[1:])) ** 0.5
        elif weight.name in ("bias", "running_mean"):
            state[key] = tensor - 0.5
        else:
            state[key] = tensor + 0.5
    return state


# ---------------------------------------------------------------- a built module


def mask(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
    """Ones with probability p, the same for every tensor of that size.

    So neither the order of drawing matters, nor that of the axes: an element hangs on the sum of a number for each of
    its indices.
    """
    generator = torch.Generator().manual_seed(prod(shape))
    numbers = torch.rand(max(shape), generator=generator, dtype=like.dtype)
    total = torch.rand(shape[0], generator=generator, dtype=like.dtype).reshape(-1, *[1] * (len(shape) - 1))
    for axis, size in enumerate(shape[1:], 1):
        total = total + numbers[:size].reshape(-1, *[1] * (len(shape) - 1 - axis))
    return (total.frac() < p).to(like.dtype)


def _drop(channels: bool) -> Callable[..., Tensor]:
    def drop(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return input
        shape = (*input.shape[:2], *(1 for _ in input.shape[2:])) if channels else tuple(input.shape)
        factor = mask(shape, 1 - p, input) / (1 - p) if p < 1 else torch.zeros(shape, dtype=input.dtype)
        return input.mul_(factor) if inplace else input * factor

    return drop


def _bernoulli(self: Tensor, p: float) -> Tensor:
    return self.copy_(mask(tuple(self.shape), p, self))


_attend = F.scaled_dot_product_attention


def _attention(query: Tensor, key: Tensor, value: Tensor, *given: Any, **named: Any) -> Tensor:
    """F.scaled_dot_product_attention with such a dropout: of the identity, it gives the weights themselves."""
    arguments = {**dict(zip(("attn_mask", "dropout_p", "is_causal"), given, strict=False)), **named}
    p = arguments.pop("dropout_p", 0.0)
    if not p:
        return _attend(query, key, value, **arguments)
    identity = torch.eye(key.shape[-2], dtype=key.dtype).expand(*key.shape[:-1], key.shape[-2])
    weights = _attend(query, key, identity, **arguments)
    return weights * (mask(tuple(weights.shape), 1 - p, weights) / (1 - p)) @ value


@contextmanager
def drawn_alike() -> Iterator[None]:
    """Makes PyTorch's dropouts use `mask`."""
    with (
        mock.patch.multiple(F, dropout=_drop(False), **{f"dropout{n}d": _drop(True) for n in (1, 2, 3)}),
        mock.patch.object(Tensor, "bernoulli_", _bernoulli),
        mock.patch.object(F, "scaled_dot_product_attention", _attention),
    ):
        yield


_normalise = F.batch_norm


def _batch_norm(input: Tensor, *given: Any, **named: Any) -> Tensor:
    """F.batch_norm of tensors in PyTorch's plain layout, and of such gradients.

    In other layouts its backward pass on CPUs gives wrong gradients where an axis has the size 1: for a tensor
    [2, 8, 2, 1] with the strides (16, 1, 8, 1) and a gradient with (16, 2, 1, 1), in PyTorch 2.13 and 2.14 alike.
    """
    result = _normalise(input.contiguous(), *given, **named)
    if result.requires_grad:
        result.register_hook(Tensor.contiguous)
    return result


# ---------------------------------------------------------------- the comparison


Numbers: TypeAlias = dict[str, Tensor | None]
"""Outputs, gradients and statistics by name."""


@dataclass
class Held:
    """Compares one graph's modules with it. `counts` are the forms and comparisons.

    Without `levels` each form is the text that users get, the first that can be proved; with them it is the texts of
    these levels, proved or not. `at` are values of the free sizes, in place of two choices.
    """

    graph: Graph
    levels: Sequence[Plainness] | None = None
    at: Mapping[str, int] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    keys: dict[str, tuple[Node, Weight]] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    interpreted: dict[object, tuple[Numbers, float]] = field(default_factory=dict)

    def run(self) -> Counter[str]:
        self.keys = says(self.graph)
        self.state = filled(self.keys)
        for text in self.texts(self.graph):
            self.plain(text)
        graph, folding = for_inference(self.graph)
        for text in self.texts(graph, folding=folding):
            self.for_inference(text, says(graph))
        for name, again in self.recomputed():
            for text in self.texts(self.graph, recompute=again):
                with self.form(f"recompute {name}"):
                    _, built = module_of(text)
                    self.same_keys(built(dtype=torch.double), self.keys)
                    self.trains(built)
        return self.counts

    def texts(self, graph: Graph, **given: Any) -> list[str]:
        if self.levels is None:
            return [self.proved(graph, **given)]
        return [write_module(graph, plainness=level, **given) for level in self.levels]

    def proved(self, graph: Graph, **given: Any) -> str:
        """The text that a user gets: the first form that can be proved. Counts the plainer ones."""
        wrong: Exception | None = None
        for plainness in Plainness:
            try:
                text = write_module(graph, plainness=plainness, **given)
                prove(text, graph, **given)
            except Exception as error:
                wrong = error
                self.counts["plainer"] = 1  # network
                continue
            self.counts["proofs"] += 1
            return text
        raise Wrong(f"cannot be proved: {wrong}")

    def recomputed(self) -> Iterator[tuple[str, Recompute]]:
        """What each mode computes again, and any of the calls of blocks."""
        for mode in MODES[1:] if self.levels is not None else ("dense",):
            with suppress(SpecError):  # the network has none such
                yield mode, (dense := recompute(self.graph, mode))
                for form in lighter(self.graph, dense) if mode == "dense" else ():
                    yield "dense, in series", form
        random = Random(len(self.graph))
        blocks = [s for s in self.graph.root.scopes() if s.kind == "block"]
        paths = {s.path for s in blocks if not s.again and random.random() < 0.6}
        scopes = [s for s in blocks if s.path in paths]
        outer = frozenset(s for s in scopes if not any(o in scopes for o in list(s.calls())[1:]))
        if outer:
            yield "some blocks", Recompute(outer)
        kept = {path for path in sorted({s.path for s in outer}) if random.random() < 0.3}
        outer = frozenset(s for s in outer if s.path in kept)  # with all calls of what is shared
        found = self.layers_in_series(random, {node.id for s in outer for node in s.nodes()})
        if found:
            yield "layers in series", Recompute(outer, series=found)

    def layers_in_series(self, random: Random, taken: set[int]) -> frozenset[Series]:
        """Some of the series that do not overlap each other, or the nodes `taken`."""
        layout = Layout.of(self.graph)
        every = [*series(self.graph, layout), *(crossing(self.graph, layout) if not layout.last else ())]
        random.shuffle(every)
        found: list[Series] = []
        for row in every:
            inside = {node.id for node in row.nodes()}
            if taken.isdisjoint(inside) and random.random() < 0.8:
                found.append(row)
                taken |= inside
        return frozenset(found)

    @contextmanager
    def form(self, name: str) -> Iterator[None]:
        self.counts[name] += 1
        try:
            yield
        except Exception as error:
            kind = "" if isinstance(error, Wrong) else f"{type(error).__name__}: "
            raise Wrong(f"{name}: {kind}{error}") from error

    def plain(self, text: str) -> None:
        with self.form("plain"):
            _, built = module_of(text)
            module = built(dtype=torch.double)
            self.same_keys(module, self.keys)
            self.starts_as_said(module)
        with self.form("plain, evaluation"):
            module = self.loaded(built).eval()
            for sizes in self.sizes():
                self.agree(self.module_run(module, self.inputs(sizes)), sizes)
        with self.form("plain, training"):
            self.trains(built)

    def for_inference(self, text: str, keys: Mapping[str, tuple[Node, Weight]]) -> None:
        with self.form("inference"):
            module, built = module_of(text)
            form = built(dtype=torch.double)
            self.same_keys(form, keys)
            fold: Callable[[dict[str, Tensor]], dict[str, Tensor]] = getattr(module, "fold_batchnorms", dict)
            form.load_state_dict(fold({k: v.clone() for k, v in self.state.items()}))
            for sizes in self.sizes():
                given = self.outputs(form, self.inputs(sizes), training=False, inference=True)
                self.agree(given, sizes, gradients=False)

    def trains(self, built: type[nn.Module]) -> None:
        """The outputs, gradients and statistics of a training step."""
        (sizes, *_) = self.sizes()
        with drawn_alike():
            given = self.module_run(self.loaded(built).train(), self.inputs(sizes))
        self.agree(given, sizes, training=True)

    # ------------------------------------------------------------ inputs and modules

    def sizes(self) -> list[Mapping[str, int]]:
        """Values of the free sizes: the example sizes, and other valid ones."""
        if self.at is not None:
            return [self.at]
        shown = self.graph.examples
        others = {}
        for name, valid in self.graph.sizes.items():
            _, above = valid.nearest(shown[name])
            others[name] = above if above is not None and above <= shown[name] + 8 else shown[name]
        return [shown, others] if others != shown else [shown]

    def inputs(self, sizes: Mapping[str, int]) -> list[Tensor]:
        return modules.inputs(self.graph, sizes)

    def loaded(self, built: type[nn.Module]) -> nn.Module:
        module = built(dtype=torch.double)
        module.load_state_dict(self.state)
        return module

    def same_keys(self, module: nn.Module, wanted: Mapping[str, tuple[Node, Weight]]) -> None:
        found = module.state_dict(keep_vars=True)
        if found.keys() != wanted.keys():
            raise Wrong(f"keys: built {sorted(found.keys() - wanted)}, not {sorted(wanted.keys() - found)}")
        for key, (_, weight) in wanted.items():
            tensor = found[key]
            dtype = torch.double if weight.dtype == "float" else torch.int64
            is_buffer = not isinstance(tensor, nn.Parameter)
            built = tuple(tensor.shape), tensor.dtype, tensor.requires_grad, is_buffer
            says = weight.shape, dtype, weight.trainable and not weight.buffer, weight.buffer
            if built != says:
                raise Wrong(f"{key} is built as {built}, wanted {says}")

    def starts_as_said(self, module: nn.Module) -> None:
        for key, tensor in module.state_dict().items():
            start = starts(*self.keys[key])
            if start is not None and not torch.equal(
                tensor.double(), torch.as_tensor(start, dtype=torch.double).expand_as(tensor)
            ):
                raise Wrong(f"{key} starts from {tensor}, wanted {start}")

    # ------------------------------------------------------------ running

    def outputs(self, module: nn.Module, inputs: Sequence[Tensor], training: bool, inference: bool = False) -> Numbers:
        kept = [x.detach().clone() for x in inputs]
        given = module(*inputs)
        for before, x in zip(kept, inputs, strict=True):
            if not torch.equal(before, x):
                raise Wrong("the caller's tensor is overwritten")
        outputs = [o for o in self.graph.outputs if not (inference and o.training)]
        results = [given] if isinstance(given, Tensor) else list(given)
        if len(results) != len(outputs):
            raise Wrong(f"{len(results)} outputs, wanted {len(outputs)}")
        found: Numbers = {}
        for output, x in zip(outputs, results, strict=True):
            if (x is None) != (output.training and not training):
                raise Wrong(f"output {output.name} is {'none' if x is None else 'there'}")
            if x is not None:
                found[f"output {output.name}"] = x
        return found

    def module_run(self, module: nn.Module, inputs: Sequence[Tensor]) -> Numbers:
        leaves = [x.clone().requires_grad_() for x in inputs]
        found = self.outputs(module, leaves, module.training)
        weights = {k: v for k, v in module.named_parameters() if v.requires_grad}
        found |= gradients_of(found, leaves, weights)
        if module.training:
            found |= {k: v.clone() for k, v in module.named_buffers()}
        else:
            with torch.no_grad():
                again = self.outputs(module, inputs, False)
            found |= {f"{k}, no gradients": v for k, v in again.items()}
        return found

    def graph_run(self, sizes: Mapping[str, int], training: bool, gradients: bool, by: float) -> tuple[Numbers, float]:
        """The same from the interpretation, with each result and gradient of a node perturbed by that amount.

        The largest number of any tensor comes with it.
        """
        key = tuple(sizes.items()), training, gradients, by
        if key not in self.interpreted:
            self.interpreted[key] = self.interpret(sizes, training, gradients, by)
        return self.interpreted[key]

    def interpret(self, sizes: Mapping[str, int], training: bool, gradients: bool, by: float) -> tuple[Numbers, float]:
        leaves = [x.clone().requires_grad_(gradients) for x in self.inputs(sizes)]
        state = {k: x.clone() for k, x in self.state.items()}
        trained = [k for k, (_, w) in self.keys.items() if w.trainable and not w.buffer]
        for key in trained:
            state[key].requires_grad_(gradients)
        results = Interpreter(self.graph, dict(state), sizes, training, mask, Rounding(by) if by else None)
        found: Numbers = {f"output {name}": x for name, x in results.run(leaves).items()}
        largest = max(map(size, results.values.values()))
        if not gradients:
            return found, largest
        again = {} if training else {f"{k}, no gradients": x for k, x in found.items()}
        found |= gradients_of(found, leaves, {k: state[k] for k in trained})
        if training:
            found |= {k: results.state[k] for k, (_, w) in self.keys.items() if w.buffer}
        return found | again, largest

    def agree(
        self,
        given: Mapping[str, Tensor | None],
        sizes: Mapping[str, int],
        *,
        training: bool = False,
        gradients: bool = True,
    ) -> None:
        """Raises Wrong unless a module gives what the graph says."""
        wanted, largest = self.graph_run(sizes, training, gradients, 0.0)
        if given.keys() != wanted.keys():
            raise Wrong(f"{sorted(given.keys() ^ wanted.keys())} is on one side alone")
        far = [k for k in wanted if not close(given[k], wanted[k])]
        self.counts["tensors"] += len(wanted)
        self.counts["tensors below the tolerance"] += sum(x is not None and is_tiny(x) for x in wanted.values())
        if not far:
            return
        if not largest <= HUGE:
            self.counts["overflow"] += len(far)
            return
        other, _ = self.graph_run(sizes, training, gradients, ROUNDING)
        for key in far:
            ours, theirs, changed = given[key], wanted[key], other[key]
            if ours is None or theirs is None or changed is None or ours.shape != theirs.shape:
                raise Wrong(f"{key}: {shown(ours)}, wanted {shown(theirs)}")
            # Ignore results that rounding alone changes that much: the edge of a relu, the larger of two equal numbers.
            if not (torch.isfinite(theirs).all() and torch.isfinite(changed).all()):
                self.counts["overflow"] += 1
                continue
            off, noise = size(ours - theirs), size(changed - theirs)
            if noise > HUGE**0.5 and not torch.isfinite(ours).all():  # squares of what rounding adds overflow
                self.counts["overflow"] += 1
                continue
            if not off <= 100 * noise:
                about = f"off by {off:.2e} (rounding {noise:.2e})"
                raise Wrong(f"{key} is {about}: {shown(ours)}, wanted {shown(theirs)}")
            self.counts["hang on rounding"] += 1


class Rounding:
    """Perturbs each result of a node, and each gradient, relative to its inputs."""

    def __init__(self, by: float) -> None:
        self.by = by
        self.gain = 1.0
        self.generator = torch.Generator().manual_seed(9)

    def value(self, x: Tensor, largest: float | Tensor) -> Tensor:
        return x + self.by * largest * torch.randn(x.shape, generator=self.generator, dtype=torch.double)

    def node(self, run: Callable[[Sequence[Tensor]], list[Tensor]], inputs: Sequence[Tensor]) -> list[Tensor]:
        self.gain, seen = 1.0, 0.0

        def see(gradient: Tensor) -> None:
            nonlocal seen
            seen = max(seen, size(gradient))

        tensors = [x * 1.0 for x in inputs]
        results = run(tensors)
        gain, largest = self.gain, max(map(size, (*tensors, *results)))
        for x in tensors:
            if x.requires_grad:
                x.register_hook(lambda g: self.value(g, max(size(g), gain * seen)))
        found = [self.value(x, largest) for x in results]
        for x in found:
            if x.requires_grad:
                x.register_hook(see)
        return found


def size(x: Tensor) -> float:
    return float(x.detach().abs().max())


def gradients_of(
    outputs: Mapping[str, Tensor | None], inputs: Sequence[Tensor], weights: Mapping[str, Tensor]
) -> Numbers:
    """The gradients of a random weighted sum of the outputs."""
    generator = torch.Generator().manual_seed(7)
    results = [x for x in outputs.values() if x is not None and x.requires_grad]
    factors = [torch.randn(x.shape, generator=generator, dtype=torch.double) for x in results]
    leaves = {
        **{f"gradient of input {i}": x for i, x in enumerate(inputs)},
        **{f"gradient of {k}": x for k, x in weights.items()},
    }
    found = torch.autograd.grad(results, list(leaves.values()), factors, allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def close(ours: Tensor | None, theirs: Tensor | None) -> bool:
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return ours is theirs
    scale = float(theirs.detach().abs().max()) if theirs.numel() else 0.0
    return bool(torch.isfinite(theirs).all()) and bool(((ours - theirs).abs() <= TOLERANCE * max(scale, 1.0)).all())


def is_tiny(x: Tensor) -> bool:
    """Whether a tensor is meaningless because all its numbers are below the tolerance but not 0."""
    return bool((x.abs() < 10 * TOLERANCE).all() and x.any())


def shown(x: Tensor | None) -> str:
    return "none" if x is None else f"{tuple(x.shape)} {x.detach().flatten()[:3].tolist()}"


def holds(
    graph: Graph, levels: Sequence[Plainness] | None = None, sizes: Mapping[str, int] | None = None
) -> Counter[str]:
    """Counts of the forms and tensors that were compared. Raises Wrong.

    Attention keeps its weights for the backward pass. PyTorch's other kernels on CPUs compute them again from sums of
    scores, whose rounding e to the power of huge scores magnifies without limit.
    """
    with mock.patch.object(F, "batch_norm", _batch_norm), sdpa_kernel(SDPBackend.MATH):
        return Held(graph, levels, sizes).run()
