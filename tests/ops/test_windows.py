"""Random convolutions and poolings: a size is predicted, or rejected, exactly as in PyTorch."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archdsl import dims
from archdsl.dims import Region
from archdsl.ops import OPERATIONS
from archdsl.ops.base import Operation, Rules
from archdsl.ops.declaration import OperationError
from archdsl.ops.forms import ModuleForm
from archdsl.ops.windows import smallest_covered
from tests.ops.forms import names

NAMES = ("D", "H", "W")


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    name = draw(st.sampled_from(["conv", "upconv", "maxpool", "avgpool"]))
    words = ["valid", "same", "full"] + (["same_upper"] if name != "upconv" else [])
    given: dict[str, object] = {
        "kernel": draw(st.integers(1, 5)),
        "stride": draw(st.integers(1, 4)),
        "pad": draw(st.sampled_from([0, 1, 2, 3, *words])),
    }
    if name != "avgpool":
        given["dilation"] = draw(st.integers(1, 3))
    if name == "conv":
        given["pad_mode"] = draw(st.sampled_from(["zeros", "replicate", "reflect", "circular"]))
    if name == "upconv":
        given["output_pad"] = draw(st.integers(0, 2))
    if name in ("conv", "upconv"):
        given["out"] = 2
    else:
        given["ceil"] = draw(st.booleans())
    return OPERATIONS[name].parse(given)


def pytorch(operation: Operation, rank: int, sizes: list[tuple[int, ...]]) -> list[tuple[int, ...] | None]:
    """The result of PyTorch's module for each size, None if it rejects the size or the result is empty."""
    try:
        form = operation.torch(((3, *(16,) * rank),), ())
    except OperationError:  # `same` with an even kernel does not exist in PyTorch
        return [None] * len(sizes)
    assert isinstance(form, ModuleForm)
    values = {a.name: a.value for a in form.arguments if a.name is not None}
    module = eval(form.constructor, names(form.helper))(*(a.value for a in form.arguments if a.name is None), **values)

    def one(size: tuple[int, ...]) -> tuple[int, ...] | None:
        try:
            with torch.no_grad():
                shape = tuple(module(torch.zeros(1, 3, *size)).shape[1:])
        except (RuntimeError, ValueError):
            return None
        return None if 0 in shape or sees_padding_alone(operation, size) else shape

    return [one(size) for size in sizes]


def sees_padding_alone(operation: Operation, size: tuple[int, ...]) -> bool:
    """Whether a pooling has a window of padding alone, at this size or a larger one: PyTorch gives -inf there."""
    if operation.name != "maxpool":
        return False
    numbers = operation._numbers((3, *size))  # type: ignore[attr-defined]
    pads = operation._pads((3, *size)) if operation.pad != "same_upper" else None  # type: ignore[attr-defined]
    for axis, (n, (kernel, stride, dilation)) in enumerate(zip(size, numbers, strict=True)):
        if pads is not None:
            if n < smallest_covered(kernel, stride, dilation, pads[axis], operation.ceil):  # type: ignore[attr-defined]
                return True
            continue
        before = max(dilation * (kernel - 1) - (n - 1) % stride, 0) // 2
        for start in range(-before, n - before, stride):
            if not any(0 <= start + dilation * i < n for i in range(kernel)):
                return True
    return False


def compare(operation: Operation, rank: int, data: st.DataObject) -> bool:
    """Whether PyTorch accepts any of five sizes. Raises AssertionError if archdsl disagrees."""
    size = st.tuples(*[st.integers(1, 9)] * rank)
    sizes = data.draw(st.lists(size, min_size=5, max_size=5))
    wanted = pytorch(operation, rank, sizes)

    def predicted(size: tuple[int, ...]) -> tuple[dims.Dim, ...] | None:
        try:
            return operation.infer(((3, *size),), Rules())[0]
        except OperationError:
            return None

    assert [predicted(size) for size in sizes] == wanted

    rules = Rules()
    try:
        (free,) = operation.infer(((3, *map(dims.free, NAMES[:rank])),), rules)
    except OperationError:
        assert not any(wanted)
        return False
    valid = Region.everything(NAMES[:rank])
    for constraint, _ in rules.constraints:
        narrowed = valid.narrow(constraint)
        if narrowed is None:
            assert not any(wanted)
            return False
        valid = narrowed
    for size, shape in zip(sizes, wanted, strict=True):
        values = dict(zip(NAMES, size, strict=False))
        assert (shape is not None) == valid.holds(values)
        assert shape is None or shape == tuple(dims.evaluate(d, values) for d in free)
    return any(wanted)


def test_sizes_are_pytorchs() -> None:
    taken = Counter[bool]()

    @settings(max_examples=250, deadline=None)
    @given(operations(), st.integers(1, 3), st.data())
    def run(operation: Operation, rank: int, data: st.DataObject) -> None:
        taken[compare(operation, rank, data)] += 1

    run()
    assert taken[True] > 50, taken
