"""Every example of every operation compared with PyTorch: sizes, weights, arithmetic, and rejected sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from archdsl import Source, build, dims
from archdsl.dims import Dim, Region
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Example, Operation, Rules, Shape
from archdsl.ops.declaration import OperationError
from archdsl.ops.forms import FunctionForm, ModuleForm
from tests.ops.forms import Built, shapes_of, tensors

CASES = [
    pytest.param(cls, example, id=f"{cls.spell(example.arguments)} of {'+'.join(str(list(s)) for s in example.inputs)}")
    for cls in OPERATIONS.values()
    for example in cls.examples
]
every_example = pytest.mark.parametrize(("cls", "example"), CASES)


@pytest.mark.parametrize("cls", OPERATIONS.values(), ids=OPERATIONS)
def test_has_what_the_docs_need(cls: type[Operation]) -> None:
    assert cls.examples
    assert cls.__doc__ and cls.__doc__.splitlines()[0].endswith((".", ":", ","))
    assert cls.__doc__ is not Operation.__doc__ and len(cls.__doc__) < 1200
    for example in cls.examples:
        assert cls.parse(example.arguments).caption(len((*example.inputs, (1, 1))[0]) - 1)


@every_example
def test_sizes_and_weights_are_pytorchs(cls: type[Operation], example: Example) -> None:
    operation = cls.parse(example.arguments)
    rules = Rules()
    predicted = operation.infer(example.inputs, rules)
    assert not rules.constraints  # known sizes are decided at once
    assert len(predicted) == operation.results(len(example.inputs))

    module = Built(operation, example.inputs).eval()
    assert shapes_of(module(*tensors(example.inputs))) == predicted

    parameters = dict(module.named_parameters())
    state = {
        name.removeprefix("op").removeprefix("."): (
            tuple(tensor.shape),
            name not in parameters,
            name in parameters and parameters[name].requires_grad,
            str(tensor.dtype).removeprefix("torch.").replace("float32", "float"),
        )
        for name, tensor in module.state_dict().items()
    }
    owned = operation.weights(example.inputs)
    assert {w.name: (w.shape, w.buffer, w.trainable, w.dtype) for w in owned} == state
    assert [w.name for w in owned] == list(state)


@every_example
def test_its_module_is_proved(cls: type[Operation], example: Example) -> None:
    results = cls.parse(example.arguments).infer(example.inputs, Rules())
    inputs = {f"x{i}": shape for i, shape in enumerate(example.inputs)}
    given = f"({', '.join(inputs)}) -> " if len(inputs) > 1 else "".join(f"{name} -> " for name in inputs)
    names = ", ".join(f"y{i}" for i in range(len(results)))
    call = f"{given}{f'({names}): ' if len(results) > 1 else 'y0: '}{cls.spell(example.arguments)}"
    if cls.once or not inputs:  # it depends on no input, and so cannot be an output
        inputs["z"] = results[0]
        call = f"({given}{cls.spell(example.arguments)}, z) -> y0: add"
    declared = ", ".join(f"{name}{list(shape)}" for name, shape in inputs.items())
    assert build(Source("m.arch", f"model m {{\n    input {declared}\n    {call}\n    output {names}\n}}\n"))


@every_example
def test_macs_are_half_of_pytorchs_flops(cls: type[Operation], example: Example) -> None:
    operation = cls.parse(example.arguments)
    module = Built(operation, example.inputs)
    for layer in module.modules():
        if isinstance(layer, nn.MultiheadAttention):
            layer.dropout = 0.0
    # In training and with PyTorch's plain kernel: the counter does not see into the fused ones of attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(*tensors(example.inputs, batch=2))
    macs = operation.macs(example.inputs, operation.infer(example.inputs, Rules()))
    assert 2 * 2 * macs == counter.get_total_flops()  # of two samples


READING = [case for case in CASES if case.values[1].inputs and not case.values[0].once]


@pytest.mark.parametrize(("cls", "example"), READING)
def test_channels_are_made_from_those_of_their_lanes(cls: type[Operation], example: Example) -> None:
    operation = cls.parse(example.arguments)
    outputs = operation.infer(example.inputs, Rules())
    module = Built(operation, example.inputs, dtype=torch.float64).eval()
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.5, 1)
    # Positive numbers below 1, so that no activation is flat and every element is a maximum somewhere.
    many = 400 if "max" in cls.name else 1
    inputs = [torch.rand(many, *shape, dtype=torch.float64, requires_grad=True) for shape in example.inputs]
    found = module(*inputs)
    for result, tensor in enumerate([found] if isinstance(found, torch.Tensor) else found):
        maps_by_input = operation.index_maps(result, example.inputs, outputs)
        wanted = {i: torch.zeros(outputs[result][0], shape[0], dtype=bool) for i, shape in enumerate(example.inputs)}
        for channel_map in operation.channel_maps(result, example.inputs, outputs):
            if channel_map.position in maps_by_input:
                block = torch.eye(len(channel_map.read), dtype=bool) if channel_map.each else torch.tensor(True)
                rows = wanted[channel_map.position][channel_map.channels.start : channel_map.channels.stop]
                rows[:, channel_map.read.start : channel_map.read.stop] |= block
        for channel, row in enumerate(tensor.movedim(1, 0)):
            # To the third power: the sums over normalised values, and over their squares, are constant.
            gradients: Sequence[torch.Tensor | None] = [None] * len(inputs)
            if row.requires_grad:
                gradients = torch.autograd.grad((row**3).sum(), inputs, retain_graph=True, allow_unused=True)
            for i, gradient in enumerate(gradients):
                made = torch.zeros(example.inputs[i][0], dtype=bool)
                if gradient is not None:
                    made = gradient.abs().movedim(1, 0).flatten(1).amax(1) > 1e-12
                assert made.equal(wanted[i][channel]), (result, channel, i)


def with_free_sizes(inputs: tuple[tuple[int, ...], ...]) -> tuple[Shape, ...]:
    """The inputs with a free size for each spatial axis; others keep their distance to the first, and 1 stays."""
    names = [dims.free(name) for name in "DHW"]
    first = next((s for s in inputs if 1 not in s[1:]), inputs[0])

    def size(axis: int, n: int) -> Dim:
        return n if axis == 0 or (n == 1 and len(inputs) > 1) else names[axis - 1] + (n - first[axis])

    return tuple(tuple(size(axis, n) for axis, n in enumerate(shape)) for shape in inputs)


SPATIAL = [
    case
    for case in CASES
    if case.values[1].inputs
    and len(case.values[1].inputs[0]) > 1
    and case.values[0].name not in ("flatten", "reshape", "maps", "relative")
    and not (
        case.values[0].name in ("attend", "attention") and len(case.values[1].inputs) > 3
    )  # a bias has known sizes
    and not (case.values[0].name == "matmul" and len(case.values[1].inputs[0]) == 3)  # one size is that of two axes
]


LENIENT = ("split", "slice", "squeeze")
"""Where a size does not fit, PyTorch gives parts of other sizes, or leaves the axis."""


@pytest.mark.parametrize(("cls", "example"), SPATIAL)
def test_free_sizes_say_what_pytorch_does_at_each(cls: type[Operation], example: Example) -> None:
    operation = cls.parse(example.arguments)
    shapes = with_free_sizes(example.inputs)
    rules = Rules()
    predicted = operation.infer(shapes, rules)
    module = Built(operation, shapes).eval()
    if isinstance(module.form, (ModuleForm, FunctionForm)):  # one call for all sizes
        known = Built(operation, example.inputs).form
        assert [a.value for a in module.form.arguments] == [a.value for a in known.arguments]

    taken = 0
    for n in range(1, 11):
        sizes = {"D": n, "H": n + 6, "W": n + 12}  # what divides one divides all
        here = tuple(tuple(dims.evaluate(d, sizes) for d in shape) for shape in shapes)
        if any(d < 1 for shape in here for d in shape):
            continue
        regions = [Region.everything(list(sizes)).narrow(constraint) for constraint, _ in rules.constraints]
        if all(region is not None and region.holds(sizes) for region in regions):
            expected = tuple(tuple(dims.evaluate(d, sizes) for d in shape) for shape in predicted)
            assert operation.infer(here, Rules()) == expected
            assert shapes_of(module(*tensors(here))) == expected
            taken += 1
        else:
            with pytest.raises(OperationError):
                operation.infer(here, Rules())
            assert refuses(module, here) or cls.name in LENIENT
    assert taken


def refuses(module: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> bool:
    """Whether PyTorch raises, or gives an empty tensor, at these sizes."""
    try:
        given = module(*tensors(shapes))
        if any(x.isinf().any() for x in ([given] if isinstance(given, torch.Tensor) else given)):
            return True  # a window with only padding
        return any(0 in shape or min(shape) < 0 for shape in shapes_of(given))
    except (RuntimeError, ValueError):
        return True


def built(cls: type[Operation], example: Example) -> Built:
    return Built(cls.parse(example.arguments), with_free_sizes(example.inputs)).eval()


HELPED = [case for case in SPATIAL if getattr(built(*case.values).form, "helper", None)]


def axes(case: Any) -> int:
    """How many spatial axes the inputs of a case have."""
    return sum(len(shape) - 1 for shape in case.values[1].inputs)


# Sympy takes seconds for products of free sizes, 40 s for three: of each helper the example of fewest axes is tried.
PLAINEST = {built(*case.values).form.helper: case for case in sorted(HELPED, key=axes, reverse=True)}.values()


def taken() -> Iterator[Any]:
    """Each case with what takes it; long are all but the plainest ones, and compilation of half of these."""
    for number, case in enumerate(HELPED):
        for take in ("compile", "export"):
            short = case in PLAINEST and (take == "export" or number % 2 == 0)
            yield pytest.param(*case.values, take, id=f"{case.id}-{take}", marks=[] if short else pytest.mark.long)


@pytest.mark.parametrize(("cls", "example", "take"), taken())
def test_helpers_are_taken_by_compile_and_export(cls: type[Operation], example: Example, take: str) -> None:
    """Exported as one graph, for all sizes: a program traced at one size is run at another."""
    module = built(cls, example)
    unit = 12  # sizes stay multiples of a shuffle's factor

    def inputs(batch: int, more: int) -> list[torch.Tensor]:
        return tensors(tuple((s[0], *(n * unit + more for n in s[1:])) for s in example.inputs), batch)

    torch._dynamo.reset()
    if take == "compile":
        program = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    else:
        free = [{axis: torch.export.Dim.AUTO for axis in range(x.ndim) if axis != 1} for x in inputs(2, 0)]
        program = torch.export.export(module, tuple(inputs(2, 0)), dynamic_shapes=(tuple(free),)).module()
    for x in (inputs(2, 0), inputs(3, unit)):
        with torch.no_grad():
            torch.testing.assert_close(program(*x), module(*x))
