"""Reads an ONNX file as data: its nodes in order, its constants, and the names of modules that it has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archdsl.common.escaping import visible
from archdsl.runtime.refusal import ImportRefused

if TYPE_CHECKING:
    import numpy
    import onnx

MOST_NODES = 100_000
MOST_BYTES = 8 * 1024**3
"""The most bytes of all tensors of a file together."""


@dataclass(slots=True, eq=False)
class Node:
    """A node. `scopes` are the modules around it, (path, class) from the outside; `leaf` is its layer's path."""

    operator: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    scopes: list[tuple[str, str]] = field(default_factory=list)
    leaf: str = ""

    def __str__(self) -> str:
        return f"the node {visible(self.name or self.outputs[0])} ({visible(self.operator)})"


@dataclass(slots=True, eq=False)
class OnnxGraph:
    """An ONNX graph. `inputs` have a size or a name for each axis; `constants` are arrays by name."""

    file: str
    opset: int
    nodes: list[Node]
    inputs: list[tuple[str, list[int | str]]]
    outputs: list[str]
    constants: dict[str, numpy.ndarray[Any, Any]]
    turned: dict[str, str] = field(default_factory=dict)
    """The file's own name for inputs that it takes with the channels last."""

    def users(self) -> Counter[str]:
        """How many nodes take each value; an output counts once more."""
        return Counter([name for node in self.nodes for name in node.inputs] + self.outputs)

    def makers(self) -> dict[str, Node]:
        return {name: node for node in self.nodes for name in node.outputs}


def read(path: Path) -> OnnxGraph:
    """The graph of a file. Raises ImportRefused, and ImportError if onnx is not installed."""
    import onnx  # an extra

    name = visible(path.name)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError:
        raise
    except Exception:  # the parser raises its own errors for all that is not ONNX
        raise ImportRefused(f"{name} is not an ONNX file, or is cut off") from None
    graph = model.graph
    names = (name for node in graph.node for name in (node.name, node.op_type, *node.input, *node.output))
    if not all(isinstance(text, str) for text in names):
        raise ImportRefused(f"{name} has names that are no text")
    if not graph.node:
        raise ImportRefused(f"{name} has no nodes, so it is not an ONNX file, or is cut off")
    if len(graph.node) > MOST_NODES:
        raise ImportRefused(f"{name} has {len(graph.node):,} nodes; at most {MOST_NODES:,} are read")
    if graph.sparse_initializer:
        raise ImportRefused(f"{name} has sparse tensors, which are not read")
    reader = Reader(path)
    constants = {tensor.name: reader.array(tensor) for tensor in graph.initializer}
    nodes = [node_of(node, reader) for node in inlined(model)]
    inputs = [(value.name, axes_of(value)) for value in graph.input if value.name not in constants]
    outputs = [value.name for value in graph.output]
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    found = OnnxGraph(name, opset, nodes, inputs, outputs, constants)
    checked(found)
    channels_first(found)
    return found


def channels_first(graph: OnnxGraph) -> None:
    """Takes inputs with the channels first which the file has last, and moves them to the start at once."""
    for at, (name, axes) in enumerate(graph.inputs):
        rank = len(axes)
        taken = [node for node in graph.nodes if name in node.inputs]
        wanted = (0, rank - 1, *range(1, rank - 1))
        if rank < 3 or not taken or name in graph.outputs:
            continue
        if any(n.operator != "Transpose" or n.attributes.get("perm") != wanted for n in taken):
            continue
        new = taken[0].outputs[0]
        graph.turned[new] = name
        graph.inputs[at] = (new, [axes[0], axes[-1], *axes[1:-1]])
        for node in taken[1:]:
            node.operator, node.inputs, node.attributes = "Identity", [new], {}
        graph.nodes.remove(taken[0])


def checked(graph: OnnxGraph) -> None:
    """Raises ImportRefused unless each value is made once, before it is used."""
    known = {name for name, _ in graph.inputs} | graph.constants.keys() | {""}
    for node in graph.nodes:
        for name in node.inputs:
            if name not in known:
                raise ImportRefused(f"{graph.file}: {node} takes `{visible(name)}`, which nothing before it makes")
        for name in node.outputs:
            if name and name in known:
                raise ImportRefused(f"{graph.file}: {node} makes `{visible(name)}`, which is there already")
            known.add(name)
    for name in graph.outputs:
        if name not in known:
            raise ImportRefused(f"{graph.file}: nothing makes the output `{visible(name)}`")
    if not graph.inputs or not graph.outputs:
        raise ImportRefused(f"{graph.file} has no inputs or no outputs")


def axes_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """The size of each axis of an input; the name, or an empty text, of one that is not fixed."""
    return [d.dim_value if d.HasField("dim_value") else d.dim_param for d in value.type.tensor_type.shape.dim]


def node_of(node: onnx.NodeProto, reader: Reader) -> Node:
    import onnx

    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise ImportRefused(
                f"{reader.name}: the node {visible(node.name)} ({visible(node.op_type)}) has a branch or loop"
            )
        if attribute.type == onnx.AttributeProto.TENSOR:
            attributes[attribute.name] = reader.array(attribute.t)
            continue
        found = onnx.helper.get_attribute_value(attribute)
        if isinstance(found, bytes):
            found = found.decode("utf-8", "replace")
        attributes[attribute.name] = found if isinstance(found, int | float | str) else tuple(found)
    if node.domain not in ("", "ai.onnx"):
        attributes["domain"] = node.domain
    made = Node(node.op_type, node.name, [*node.input], [*node.output], attributes)
    made.scopes, made.leaf = modules_around({p.key: p.value for p in node.metadata_props})
    return made


def modules_around(notes: Mapping[str, str]) -> tuple[list[tuple[str, str]], str]:
    """The modules around a node that PyTorch's exporter notes with it, and the path of its layer."""
    paths = texts_of(notes.get("pkg.torch.onnx.name_scopes", ""))[:-1]  # the last is the node's own
    kinds = texts_of(notes.get("pkg.torch.onnx.class_hierarchy", ""))[:-1]
    if not paths or len(paths) != len(kinds):
        return [], ""
    pairs = [*zip(paths, kinds, strict=True)]
    return pairs, ""


def texts_of(note: str) -> list[str]:
    """The texts of a list that is written as in Python; none if it is something else."""
    import ast

    try:
        found = ast.literal_eval(note) if note else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else []


# ---------------------------------------------------------------- functions of the file

MOST_DEPTH = 20


def inlined(model: onnx.ModelProto) -> Iterable[onnx.NodeProto]:
    """The nodes of a model, those of its own functions in the place of their calls. Raises ImportRefused."""
    if not model.functions:
        return [*model.graph.node]
    functions = {(f.domain, f.name): f for f in model.functions}
    found: list[onnx.NodeProto] = []

    def expand(nodes: Iterable[onnx.NodeProto], names: dict[str, str], prefix: str, depth: int, given: Any) -> None:
        import onnx

        if depth > MOST_DEPTH:
            raise ImportRefused(f"its functions call each other more than {MOST_DEPTH} deep")
        for number, node in enumerate(nodes):
            inner = onnx.NodeProto()
            inner.CopyFrom(node)
            del inner.attribute[:]
            for attribute in node.attribute:
                if attribute.ref_attr_name:
                    if attribute.ref_attr_name not in given:
                        continue
                    copied = onnx.AttributeProto()
                    copied.CopyFrom(given[attribute.ref_attr_name])
                    copied.name = attribute.name
                    inner.attribute.append(copied)
                else:
                    inner.attribute.append(attribute)
            inner.input[:] = [names.get(name, f"{prefix}{name}" if name else "") for name in node.input]
            outer = [names.get(name, f"{prefix}{name}" if name else "") for name in node.output]
            inner.output[:] = outer
            function = functions.get((node.domain, node.op_type))
            if function is None:
                found.append(inner)
                if len(found) > MOST_NODES:
                    raise ImportRefused(f"its functions have more than {MOST_NODES:,} nodes together")
                continue
            inside = dict(zip(function.input, inner.input, strict=False))
            inside |= {name: "" for name in list(function.input)[len(inner.input) :]}
            inside |= dict(zip(function.output, outer, strict=False))
            attributes = {a.name: a for a in [*function.attribute_proto, *inner.attribute]}
            expand(function.node, inside, f"{prefix}{node.name or node.op_type}_{number}/", depth + 1, attributes)

    expand(model.graph.node, {}, "", 0, {})
    return found


# ---------------------------------------------------------------- tensors


class Reader:
    """Reads the tensors of a file, also those in other files of its folder."""

    def __init__(self, path: Path) -> None:
        self.folder, self.name = path.parent, visible(path.name)
        self.read = 0

    def array(self, tensor: onnx.TensorProto) -> numpy.ndarray[Any, Any]:
        """A tensor of the file. Raises ImportRefused."""
        import numpy
        import onnx

        name = visible(tensor.name)
        try:
            kind = numpy.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        except Exception:  # a number that is no type
            raise ImportRefused(f"{self.name}: the tensor `{name}` has no known type of numbers") from None
        if any(n < 0 for n in tensor.dims):
            raise ImportRefused(f"{self.name}: the tensor `{name}` has a negative size")
        size = math.prod(tensor.dims) * kind.itemsize
        self.read += size
        if self.read > MOST_BYTES:
            raise ImportRefused(f"{self.name}: its tensors are larger than {MOST_BYTES:,} bytes")
        try:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                outside: numpy.ndarray[Any, Any] = self.outside(tensor, kind, size).reshape([*tensor.dims])
                return outside
            found: numpy.ndarray[Any, Any] = onnx.numpy_helper.to_array(tensor)
            return found
        except ImportRefused:
            raise
        except Exception:  # sizes that do not agree with the data
            raise ImportRefused(f"{self.name}: the tensor `{name}` has not as many numbers as its size says") from None

    def outside(self, tensor: onnx.TensorProto, kind: Any, size: int) -> numpy.ndarray[Any, Any]:
        """A tensor in another file of the same folder, or of a folder within."""
        import numpy

        where = {entry.key: entry.value for entry in tensor.external_data}
        location = where.get("location", "")
        path = (self.folder / location).resolve()
        inside = path.is_relative_to(self.folder.resolve()) and not Path(location).is_absolute()
        if not location or "\0" in location or not inside or not path.is_file():
            raise ImportRefused(
                f"{self.name}: the data of `{visible(tensor.name)}` should be in {visible(location)!r}, "
                "which is no file in its folder"
            )
        offset = int(where.get("offset", "0"))
        if offset < 0 or offset + size > path.stat().st_size:
            raise ImportRefused(f"{self.name}: {visible(location)} ends before the data of `{visible(tensor.name)}`")
        with path.open("rb") as file:
            file.seek(offset)
            found: numpy.ndarray[Any, Any] = numpy.frombuffer(file.read(size), kind)
            return found
