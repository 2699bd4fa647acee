"""Converts a traced program to an ONNX model whose axes have the names of the spec."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from archdsl import dims
from archdsl.dims import Dim
from archdsl.graph import Graph, Tensor
from archdsl.runtime.export import blame, pools
from archdsl.runtime.export.program import ExportError, Pin, outputs_of, reported, shape_of

LARGEST = 2**31 - 1
"""The maximum bytes of an ONNX file without companion files, a limit of protocol buffers."""


def translated(graph: Graph, program: Any, pins: Mapping[str, Pin]) -> Any:
    """The ONNX model of a traced program. Raises ExportError."""
    import torch

    try:
        with torch.no_grad(), reported(graph):
            found = _translated(graph, program)
    except ExportError as error:
        raise ExportError(str(error), blame.of_program(graph, program, _told(error))) from error.__cause__
    model = found.model_proto
    if model.ByteSize() > LARGEST:
        raise ExportError(f"`{graph.name}` has more than 2 GiB of weights, too many for a single ONNX file; use .pt2")
    _keep_pads(model)
    _pool_means(model)
    _tell_apart(graph, model)
    name_axes(graph, model, pins)
    return model


def _keep_pads(model: Any) -> None:
    """Gives each padding in front of a pooling the list of its axes, in place; all axes are meant without one.

    onnxruntime makes a padding without a list part of the pooling, whose own padding is another: it does not count, or
    must be smaller than the kernel.
    """
    from numpy import arange
    from onnx import numpy_helper  # heavy

    pools = {name: node for node in model.graph.node if node.op_type in POOLS for name in node.input[:1]}
    for node in model.graph.node:
        if node.op_type != "Pad" or node.output[0] not in pools or len(node.input) > 3:
            continue
        kernel = next(a.ints for a in pools[node.output[0]].attribute if a.name == "kernel_shape")
        name = f"{node.output[0]}_axes"
        model.graph.initializer.append(numpy_helper.from_array(arange(len(kernel) + 2), name))
        node.input.extend([*[""] * (3 - len(node.input)), name])


def _names(graph: Graph) -> tuple[list[str], list[str]]:
    """The names of the inputs and outputs in the file."""
    return [node.name for node in graph.input_nodes], [output.name or "output" for output in outputs_of(graph)]


MARK = "__tensor"
"""Ends the name of an input or output while a weight may have its own."""


def _tell_apart(graph: Graph, model: Any) -> None:
    """Gives the inputs and outputs their names, in place, and other names to weights that are called so, too.

    The key of a `scale` is its path, which may be the name of an output; in a file all names are different.
    """
    wanted = {f"{name}{MARK}": name for names in _names(graph) for name in names}
    taken = {name: f"{name}_weight" for name in wanted.values()}
    renamed = {i.name: taken[i.name] for i in model.graph.initializer if i.name in taken} | wanted
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output, *model.graph.value_info):
        value.name = renamed.get(value.name, value.name)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]


POOLS = ("AveragePool", "MaxPool")


def _pool_means(model: Any) -> None:
    """Makes each mean over all positions of a map a global pooling, in place, which runtimes compute faster."""
    from onnx import numpy_helper  # heavy

    numbers = {tensor.name: tensor for tensor in model.graph.initializer}
    ranks = {value.name: len(_axes(value)) for value in (*model.graph.input, *model.graph.value_info)}
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in numbers:
            continue
        options, rank = {a.name: a.i for a in node.attribute}, ranks.get(node.input[0], 0)
        listed: list[int] = numpy_helper.to_array(numbers[node.input[1]]).tolist()
        axes = sorted(axis % rank for axis in listed) if rank else []
        if axes and axes == [*range(2, rank)] and options.get("keepdims", 1):
            node.op_type = "GlobalAveragePool"
            del node.input[1], node.attribute[:]
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    unread = [tensor for tensor in model.graph.initializer if tensor.name not in read]
    for tensor in unread:
        model.graph.initializer.remove(tensor)


def _translated(graph: Graph, program: Any) -> Any:
    import torch

    if any(pools.concerns(node) for node in program.graph.nodes):
        program = program.run_decompositions(pools.table())
    inputs, outputs = ([f"{name}{MARK}" for name in names] for names in _names(graph))
    found = torch.onnx.export(
        program,
        (),
        dynamo=True,
        input_names=inputs,
        output_names=outputs,
        verbose=False,
        optimize=True,
    )
    assert found is not None
    return found


def _told(error: BaseException) -> str:
    """The messages of an error and its causes."""
    texts = []
    at: BaseException | None = error
    while at is not None:
        texts.append(str(at))
        at = at.__cause__
    return " ".join(texts)


# ---------------------------------------------------------------- names of axes

TERM = re.compile(r"(?:(?P<factor>\d+)\*)?(?P<symbol>[A-Za-z_]\w*)(?: (?P<sign>[+-]) (?P<offset>\d+))?")


def batch_name(graph: Graph) -> str:
    return "batch" if all(free.name != "batch" for free in graph.free) else "batch_size"


def name_axes(graph: Graph, model: Any, pins: Mapping[str, Pin]) -> None:
    """Gives the axes the spec's names, in place: `H` and `(H - 1) // 2 + 1` rather than `s53` and its formulas.

    Raises ExportError if the model has a number for an axis that should be dynamic, or another number than expected.
    """
    known: dict[str, str] = {}
    for value, node in zip(model.graph.input, graph.input_nodes, strict=True):
        sizes = promised(graph, Tensor(node.id), pins)
        for found, size in zip(_axes(value), sizes, strict=True):
            term = TERM.fullmatch(found.dim_param)
            if term and isinstance(size, str):
                factor, offset = int(term["factor"] or 1), int(f"{term['sign'] or '+'}{term['offset'] or 0}")
                numerator = f"({size} {'-' if offset > 0 else '+'} {abs(offset)})" if offset else size
                known[term["symbol"]] = f"({numerator} // {factor})" if factor > 1 else numerator
    for value in model.graph.value_info:
        for axis in _axes(value):
            if axis.dim_param:
                axis.dim_param = re.sub(r"[A-Za-z_]\w*", lambda m: known.get(m[0], m[0]), axis.dim_param)
    tensors = [*(Tensor(n.id) for n in graph.input_nodes), *(output.tensor for output in outputs_of(graph))]
    for value, tensor in zip([*model.graph.input, *model.graph.output], tensors, strict=True):
        sizes = promised(graph, tensor, pins)
        axes = [*_axes(value)]
        if len(axes) != len(sizes) or any(_contradicts(a, size) for a, size in zip(axes, sizes, strict=True)):
            said = ", ".join(axis.dim_param or str(axis.dim_value) for axis in axes)
            wanted = ", ".join(map(str, sizes))
            raise ExportError(f"PyTorch's translation of `{graph.name}` gives `{value.name}` [{said}], not [{wanted}]")
        for axis, size in zip(axes, sizes, strict=True):
            if isinstance(size, int):
                axis.dim_value = size
            else:
                axis.dim_param = size


def promised(graph: Graph, tensor: Tensor, pins: Mapping[str, Pin]) -> list[int | str]:
    """The axes of an input or output in the file, the batch first: numbers, and names or formulas."""
    sizes: list[Dim] = [*shape_of(graph, tensor, pins)]
    return [batch_name(graph), *(size if isinstance(size, int) else dims.python(size) for size in sizes)]


def _contradicts(axis: Any, size: int | str) -> bool:
    return bool(axis.HasField("dim_value") and axis.dim_value != size)


def _axes(value: Any) -> Sequence[Any]:
    axes: Sequence[Any] = value.type.tensor_type.shape.dim
    return axes
