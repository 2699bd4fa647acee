"""Reads a .pt2 file (torch.export) as data: the graph is JSON, the weights are plain numbers. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from archdsl.common.escaping import visible
from archdsl.runtime.importing.files.program import Ref
from archdsl.runtime.refusal import ImportRefused

MOST_TEXT = 256 * 1024**2
"""The most bytes of JSON."""
MOST_BYTES = 8 * 1024**3
"""The most bytes of all weights together."""
BOMB = 100
"""The most that a part of the archive is compressed by; torch.export does not compress."""
FLOAT32, INT64 = 7, 5
"""The numbers of types in the file."""
KINDS = {FLOAT32: torch.float32, INT64: torch.int64}


@dataclass(frozen=True, slots=True)
class Node:
    """A node: `operator` without its package; the arguments by position and by name, with Refs for values.

    `around` are the modules around it, (path with the number of the call, class), from the outside.
    """

    operator: str
    names: tuple[str, ...]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    outputs: tuple[str, ...]
    around: tuple[tuple[str, str], ...]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument by its name."""
        return self.arguments[self.names.index(name)] if name in self.names else self.named.get(name, default)

    def __str__(self) -> str:
        return f"the node {visible(self.outputs[0] if self.outputs else '?')} ({visible(self.operator)})"


@dataclass(slots=True, eq=False)
class ExportedGraph:
    """An exported program. `keys` are the keys of parameters and buffers by the names of their values."""

    file: str
    nodes: list[Node] = field(default_factory=list)
    inputs: list[tuple[str, list[int | str]]] = field(default_factory=list)
    examples: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The sizes at which it was exported, by input."""
    outputs: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    state: dict[str, torch.Tensor] = field(default_factory=dict)


def read(path: Path) -> ExportedGraph:
    """The graph of a file. Raises ImportRefused and OSError."""
    name = visible(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            return Archive(archive, name, path.stat().st_size).graph()
    except zipfile.BadZipFile:
        raise ImportRefused(f"{name} is not an exported program (.pt2), or is cut off") from None
    except RecursionError:
        raise
    except (NotImplementedError, RuntimeError) as error:  # a kind of compression, or a password
        raise ImportRefused(f"{name} cannot be unpacked ({visible(str(error))[:100]})") from None


class Archive:
    """The parts of the archive that are read."""

    def __init__(self, archive: zipfile.ZipFile, name: str, size: int) -> None:
        self.archive, self.name, self.size = archive, name, size
        names = archive.namelist()
        models = [n for n in names if n.count("/") == 2 and n.split("/")[1] == "models" and n.endswith(".json")]
        if len(models) != 1:
            old = any(n.endswith("serialized_exported_program.json") for n in names)
            why = "it was written by torch before 2.8: save it again" if old else f"it has {len(models)} programs"
            raise ImportRefused(f"{name} is not an exported program (.pt2) that is read: {why}")
        self.root, _, self.model = models[0].split("/")
        self.model = self.model.removesuffix(".json")

    def bytes(self, part: str, most: int) -> bytes:
        """A part of the archive. Raises ImportRefused if it is too large."""
        info = self.archive.getinfo(f"{self.root}/{part}")
        if info.file_size > most or info.file_size > BOMB * max(info.compress_size, 1):
            raise ImportRefused(f"{self.name}: {visible(part)} is too large: {info.file_size:,} bytes")
        return self.archive.read(info)

    def json(self, part: str) -> Any:
        return json.loads(self.bytes(part, MOST_TEXT))

    def graph(self) -> ExportedGraph:
        module = self.json(f"models/{self.model}.json")["graph_module"]
        graph, signature = module["graph"], module["signature"]
        found = ExportedGraph(self.name)
        for spec in signature["input_specs"]:
            ((kind, content),) = spec.items()
            if kind in ("parameter", "buffer"):
                found.keys[content["arg"]["name"]] = content[f"{kind}_name"]
            elif kind == "tensor_constant":
                found.keys[content["arg"]["name"]] = content["tensor_constant_name"]
            elif kind == "user_input" and "as_tensor" in content["arg"]:
                name = content["arg"]["as_tensor"]["name"]
                sizes = graph["tensor_values"][name]["sizes"]
                found.inputs.append((name, [s.get("as_int", "free") for s in sizes]))
                found.examples[name] = tuple(s["as_int"] if "as_int" in s else hint_of(s) for s in sizes)
            else:
                raise ImportRefused(f"{self.name} has an input that is not a tensor ({visible(str(kind))})")
        for spec in signature["output_specs"]:
            ((kind, content),) = spec.items()
            if kind == "user_output" and "as_tensor" in content["arg"]:
                found.outputs.append(content["arg"]["as_tensor"]["name"])
            elif kind != "buffer_mutation":
                raise ImportRefused(f"{self.name} has an output that is not a tensor ({visible(str(kind))})")
        found.nodes = [node_of(node) for node in graph["nodes"]]
        found.state = self.tensors()
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights and constants of float32 or int64 by key."""
        found: dict[str, torch.Tensor] = {}
        read: dict[str, bytes] = {}
        total = 0
        for kind in ("weights", "constants"):
            part = f"data/{kind}/{self.model}_{kind}_config.json"
            if f"{self.root}/{part}" not in self.archive.namelist():
                continue
            for key, content in self.json(part)["config"].items():
                meta = content["tensor_meta"]
                if content["use_pickle"] or meta is None or meta["dtype"] not in KINDS:
                    continue  # said where it is used
                name = f"data/{kind}/{content['path_name']}"
                if name not in read:
                    read[name] = self.bytes(name, MOST_BYTES - total)
                    total += len(read[name])
                found[key] = tensor_of(meta, read[name])
        return found


def hint_of(size: Any) -> int:
    """The size at which a free axis was exported."""
    return int(size["as_expr"]["hint"]["as_int"])


def tensor_of(meta: Any, data: bytes) -> torch.Tensor:
    """A tensor from its numbers. Raises ValueError if they are too few."""
    sizes = [n["as_int"] for n in meta["sizes"]]
    strides = [n["as_int"] for n in meta["strides"]]
    offset = meta["storage_offset"]["as_int"]
    kind = KINDS[meta["dtype"]]
    if not all(type(n) is int and n >= 0 for n in (*sizes, *strides, offset)):
        raise ValueError("a tensor with negative sizes")
    last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) if math.prod(sizes) else -1
    if (last + 1) * kind.itemsize > len(data) or math.prod(sizes) * kind.itemsize > MOST_BYTES:
        raise ValueError("a tensor with too few numbers")
    if not math.prod(sizes):
        return torch.empty(sizes, dtype=kind)
    flat = torch.frombuffer(bytearray(data), dtype=kind)
    return flat.as_strided(sizes, strides, offset).clone()


# ---------------------------------------------------------------- nodes


def node_of(node: Any) -> Node:
    target = str(node["target"])
    operator = target.removeprefix("torch.ops.aten.").removeprefix("_operator.")
    if target == operator and not target.startswith("torch."):
        operator = f"{target} (of another package)"
    by_position = [a for a in node["inputs"] if a.get("kind", 1) == 1]
    by_name = {a["name"]: value_of(a["arg"]) for a in node["inputs"] if a.get("kind", 1) != 1}
    outputs = tuple(name for output in node["outputs"] for name in names_of(output))
    stack = str((node.get("metadata") or {}).get("nn_module_stack", ""))
    return Node(
        operator,
        tuple(str(a["name"]) for a in by_position),
        tuple(value_of(a["arg"]) for a in by_position),
        by_name,
        outputs,
        around_of(stack),
    )


def around_of(stack: str) -> tuple[tuple[str, str], ...]:
    """The modules around a node: each is written as key,path,class; a further call has its number in the key."""
    found = []
    for entry in filter(None, stack.split(";")):
        parts = entry.split(",")
        if len(parts) != 3:
            return ()
        key, path, kind = parts
        _, at, number = key.rpartition("@")
        found.append((f"{path}@{number}" if at and number.isdigit() else path, kind))
    return tuple(found) if found and found[0][0] == "" else ()


def names_of(output: Any) -> list[str]:
    ((kind, content),) = output.items()
    if kind in ("as_tensor", "as_sym_int"):
        return [content["name"] if kind == "as_tensor" else content["as_name"]]
    if kind == "as_tensors":
        return [tensor["name"] for tensor in content]
    if kind == "as_none":
        return []
    raise ValueError(f"an output of kind {kind}")


def value_of(argument: Any) -> Any:
    """An argument: a number, text, list, or Refs for values. Raises ValueError for other kinds."""
    ((kind, content),) = argument.items()
    match kind:
        case "as_none":
            return None
        case "as_int" | "as_float" | "as_bool" | "as_string":
            return float(content) if kind == "as_float" else content
        case "as_ints" | "as_floats" | "as_bools":
            return tuple(content)
        case "as_tensor":
            return Ref(content["name"])
        case "as_tensors":
            return tuple(Ref(tensor["name"]) for tensor in content)
        case "as_optional_tensors":
            return tuple(Ref(t["as_tensor"]["name"]) if "as_tensor" in t else None for t in content)
        case "as_sym_int":
            return symbol(content)
        case "as_sym_ints":
            return tuple(map(symbol, content))
        case "as_scalar_type" | "as_device" | "as_layout" | "as_memory_format":
            return None
        case _:
            raise ValueError(f"an argument of kind {kind}")


def symbol(content: Any) -> Any:
    return Ref(content["as_name"]) if "as_name" in content else content["as_int"]
