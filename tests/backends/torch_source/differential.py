"""Built modules held against their graphs: every operation run on its own, node by node, out of place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from archdsl import dims
from archdsl.backends.torch_source import Plainness, write_module
from archdsl.built import execute
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph
from archdsl.graph import Tensor as Result
from archdsl.runtime.weights import state_shapes
from archdsl.transform.inference import for_inference
from archdsl.transform.recompute import MODES, recompute
from tests.ops.forms import Built

ODD = re.compile(r"more than 1 (value per channel|spatial element)")
"""What PyTorch says where a normalisation has nothing to take statistics of."""


def last_class(module: ModuleType) -> type[nn.Module]:
    """The model's class."""
    return [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__][-1]


def without_chance(module: nn.Module) -> nn.Module:
    """The module with every dropout made an identity."""
    for inner in module.modules():
        if isinstance(getattr(inner, "p", None), float):
            inner.p = 0.0
    return module


def interpreted(
    graph: Graph, state: Mapping[str, Tensor], inputs: Sequence[Tensor], training: bool, sizes: Mapping[str, int]
) -> list[Tensor | None]:
    """The outputs that the graph's operations give one by one; buffers in `state` change as those of a module do."""
    values: dict[Result, Tensor] = {}
    for node, tensor in zip(graph.input_nodes, inputs, strict=True):
        values[Result(node.id)] = tensor
    for node in graph.nodes():
        if node.operation.name == "input":
            continue
        shapes = tuple(tuple(dims.evaluate(d, sizes) for d in s) for s in graph.shapes(node.inputs))
        built = without_chance(Built(node.operation, shapes, sizes).train(training))
        own: dict[str, Tensor] = {}
        for key in built.state_dict():
            name = key.removeprefix("op").removeprefix(".")
            own[key] = state[f"{node.path}.{name}" if name else node.path]
        found = torch.func.functional_call(built, own, tuple(values[t] for t in node.inputs))
        results = [found] if isinstance(found, Tensor) else list(found)  # type: ignore[call-overload]
        values.update({Result(node.id, i): x for i, x in enumerate(results)})
    return [values[o.tensor] if training or not o.training else None for o in graph.outputs]


def random_state(module: nn.Module) -> dict[str, Tensor]:
    """A state_dict of numbers that tell the members apart."""
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            state[name] = torch.rand(tensor.shape, dtype=torch.double) + 0.5
        elif tensor.ndim > 1:
            state[name] = torch.randn(tensor.shape, dtype=torch.double) * (2 / tensor[0].numel()) ** 0.5
        elif tensor.ndim:
            state[name] = 0.2 * torch.rand(tensor.shape, dtype=torch.double) + (0.9 if "weight" in name else -0.1)
        else:
            state[name] = torch.tensor(3, dtype=tensor.dtype)
    return state


def images(graph: Graph, sizes: Mapping[str, int]) -> list[Tensor]:
    shapes = [[dims.evaluate(d, sizes) for d in graph.shape(Result(n.id))] for n in graph.input_nodes]
    return [torch.randn(2, *shape, dtype=torch.double) for shape in shapes]


def built_class(source: str) -> type[nn.Module]:
    ast.parse(source)
    return last_class(execute(source, "<built>"))


def forms(graph: Graph, levels: Sequence[Plainness]) -> Iterator[tuple[str, str]]:
    """The forms for training, with what they are, at these levels of plainness."""
    for level in levels:
        yield f"plain, {level.name}", write_module(graph, plainness=level)
        for mode in MODES[1:]:
            try:
                again = recompute(graph, mode)
            except SpecError:
                continue
            yield f"recomputes {mode}, {level.name}", write_module(graph, recompute=again, plainness=level)


def hold(graph: Graph, levels: Sequence[Plainness] = tuple(Plainness), sizes: Mapping[str, int] | None = None) -> None:
    """Raises AssertionError unless every form of the network computes what the graph says, with the graph's keys."""
    sizes = graph.examples if sizes is None else sizes
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    wanted: dict[bool, list[Tensor]] = {}
    tensors = images(graph, sizes)
    for what, source in forms(graph, levels):
        module = without_chance(built_class(source)(dtype=torch.double))
        keys = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        assert keys == state_shapes(graph), what
        if not state:
            state = random_state(module)
            wanted = {training: outcome(graph, state, tensors, training, sizes) for training in (False, True)}
        for training, theirs in wanted.items():
            if not theirs:
                continue
            module.load_state_dict(state)
            module.train(training)
            inputs = [t.clone().requires_grad_() for t in tensors]
            given = module(*inputs)
            compare(
                measured(given, inputs, dict(module.named_parameters()), dict(module.named_buffers())), theirs, what
            )
    changed, folding = for_inference(graph)
    if not wanted[False]:
        return
    for level in levels:
        module_file = execute(write_module(changed, folding, plainness=level), "<built>")
        form = last_class(module_file)(dtype=torch.double)
        form.load_state_dict(getattr(module_file, "fold_batchnorms", dict)(state))
        with torch.no_grad():
            given = form(*[t.clone() for t in tensors])
        outputs = [given] if isinstance(given, Tensor) else list(given)
        compare(outputs, wanted[False][: len(outputs)], f"inference, {level.name}")


def outcome(
    graph: Graph, state: Mapping[str, Tensor], tensors: Sequence[Tensor], training: bool, sizes: Mapping[str, int]
) -> list[Tensor]:
    """What a form gives: outputs, gradients of inputs and parameters, buffers. None where PyTorch refuses the size."""
    shapes = {n.path: n for n in graph.nodes()}
    buffers = {
        f"{path}.{w.name}": state[f"{path}.{w.name}"].clone()
        for path, n in shapes.items()
        for w in n.operation.weights(graph.shapes(n.inputs))
        if w.buffer
    }
    frozen = {
        f"{path}.{w.name}" if w.name else path
        for path, n in shapes.items()
        for w in n.operation.weights(graph.shapes(n.inputs))
        if not w.trainable
    }
    parameters = {k: v.clone().requires_grad_(k not in frozen) for k, v in state.items() if k not in buffers}
    inputs = [t.clone().requires_grad_() for t in tensors]
    try:
        outputs = interpreted(graph, {**parameters, **buffers}, inputs, training, sizes)
    except ValueError as error:
        assert ODD.search(str(error)), error
        return []
    return measured(outputs, inputs, parameters, buffers)


def measured(
    given: object, inputs: Sequence[Tensor], parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> list[Tensor]:
    outputs = [given] if isinstance(given, Tensor) else [x for x in given if x is not None]  # type: ignore[attr-defined]
    loss = torch.stack([x.square().sum() for x in outputs]).sum()
    learned = [p for _, p in sorted(parameters.items()) if p.requires_grad]
    gradients = torch.autograd.grad(loss, [*inputs, *learned], allow_unused=True, materialize_grads=True)
    return [x.detach().clone() for x in (*outputs, *gradients, *(b for _, b in sorted(buffers.items())))]


def compare(ours: Sequence[Tensor], theirs: Sequence[Tensor], what: str) -> None:
    assert len(ours) == len(theirs), what
    # What cancels out is as exact as the largest numbers that it was made from.
    scale = max(
        (x.nan_to_num(0, 0, 0).abs().max().item() for x in theirs if x.numel() and x.is_floating_point()), default=1.0
    )
    close = {"rtol": 1e-7, "atol": 1e-7 + 1e-10 * min(scale, 1e300)}
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, msg=lambda m: f"{what}: {m}", equal_nan=True, **close)
