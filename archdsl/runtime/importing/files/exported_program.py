"""An exported program (.pt2) as a program of layers and functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from archdsl.common.escaping import visible
from archdsl.runtime.importing.files.batching import Batches, Place, joined
from archdsl.runtime.importing.files.exported_file import ExportedGraph, Node
from archdsl.runtime.importing.files.exported_operators import FUNCTIONS, LAYERS, NOTHING, NUMBERS, VIEWS
from archdsl.runtime.importing.files.names import ATTENTION, scoped
from archdsl.runtime.importing.files.program import Key, Program, Ref, Scope, names_in
from archdsl.runtime.refusal import ImportRefused


def program_of(graph: ExportedGraph, sizes: list[tuple[int, ...]], *, whole: bool = True) -> Program:
    """The program of a graph, whose inputs have these sizes with the batch. Raises ImportRefused.

    `whole`: the calls of torch.nn.MultiheadAttention are layers, and not the operators that they consist of.
    """
    return Reading(graph, sizes, whole).program


class Reading:
    """Adds the nodes of a graph to a program."""

    def __init__(self, graph: ExportedGraph, sizes: list[tuple[int, ...]], whole: bool) -> None:
        self.graph, self.whole = graph, whole
        self.program = Program(graph.file)
        self.makers = {name: node for node in graph.nodes for name in node.outputs}
        self.renamed: dict[str, str] = {}
        """The value that replaces another one, which an operator has changed in place."""
        for (name, _), size in zip(graph.inputs, sizes, strict=True):
            self.program.take(name, size)
        if whole and any(isinstance(axes[0], int) for _, axes in graph.inputs):
            self.program.fix_batch(sizes[0][0])
        nodes = [n for n in graph.nodes if base_name(n) not in NOTHING]
        self.program.kind = next((n.around[0][1] for n in nodes if n.around), "")
        at = 0
        while at < len(nodes):
            path = attention_path(nodes[at])
            end = at + 1
            while path and end < len(nodes) and attention_path(nodes[end]) == path:
                end += 1
            if path and whole:
                self.attention(nodes[at:end], path)
            else:
                for node in nodes[at:end]:
                    self.add(node)
            at = end
        for number, name in enumerate(graph.outputs):
            self.program.outputs[str(number)] = self.renamed.get(name, name)

    def place(self, node: Node) -> str:
        return f"{self.graph.file}, {node}"

    def value(self, given: Any) -> Any:
        """An argument with the keys of parameters, and with what has been changed in place."""
        if isinstance(given, Ref):
            if given.name in self.graph.keys:
                return self.key(given.name)
            return Ref(self.renamed.get(given.name, given.name))
        if isinstance(given, tuple):
            return tuple(map(self.value, given))
        return given

    def key(self, name: str) -> Key:
        key = self.graph.keys[name]
        if key not in self.program.parameters:
            return self.program.parameter(key, self.tensor(name))
        return Key(key)

    def tensor(self, name: str) -> torch.Tensor:
        key = self.graph.keys[name]
        if key not in self.graph.state:
            raise ImportRefused(f"the tensor `{visible(key)}` is not one of float32 or int64 numbers that can be read")
        return self.graph.state[key]

    def sizes(self, given: Any) -> tuple[int, ...]:
        """The sizes of an argument."""
        if isinstance(given, Ref) and given.name in self.graph.keys:
            return tuple(self.tensor(given.name).shape)
        return tuple(self.program.example(self.value(given)).shape)

    def add(self, node: Node) -> None:
        """Adds a node."""
        scopes, leaf = scoped(node.around)
        if self.whole:
            scopes = [scope for scope in scopes if scope.kind != ATTENTION]
        name = base_name(node)
        flows = [n for n in names_in((*node.arguments, *node.named.values())) if n not in self.graph.keys]
        tensors = [n for n in flows if isinstance(self.program.values.get(n), torch.Tensor)]
        if name in ("sym_size",) or (not tensors and name in NUMBERS and flows):
            self.program.add(NUMBERS[name], self.value(node.arguments), node.outputs, scopes, self.place(node))
        elif name in LAYERS:
            self.layer(node, name, scopes, leaf)
        elif name in FUNCTIONS:
            self.function(node, name, scopes)
        elif name == "to" or name == "_to_copy":
            self.program.add(lambda x: x, [self.value(node.arguments[0])], node.outputs, scopes, self.place(node))
        else:
            raise ImportRefused(f"the language has no operation for {node}", leaf, self.graph.file)
        if node.operator.partition(".")[0].endswith("_") and isinstance(node.arguments[0], Ref):
            self.changed(node)

    def changed(self, node: Node) -> None:
        """From here on, the result of an operator in place stands for what it has changed."""
        taken = node.arguments[0].name
        if taken in self.makers and base_name(self.makers[taken]) in VIEWS:
            raise ImportRefused(f"{node} changes a part of a tensor", "", self.graph.file)
        for name, other in [*self.renamed.items()]:
            if other == taken:
                self.renamed[name] = node.outputs[0]
        self.renamed[taken] = node.outputs[0]

    def function(self, node: Node, name: str, scopes: list[Scope]) -> None:
        named = {
            k: self.value(v) for k, v in node.named.items() if v is not None and k not in ("dtype", "memory_format")
        }
        keys = [*named]
        function, more = self.for_batches(node, name) or (FUNCTIONS[name], [])
        takes = [*self.value(node.arguments), *more, *named.values()]

        def run(*given: Any) -> Any:
            split = len(given) - len(keys)
            return function(*given[:split], **dict(zip(keys, given[split:], strict=True)))

        self.program.add(run, takes, node.outputs, scopes, self.place(node))

    def for_batches(self, node: Node, name: str) -> tuple[Callable[..., Any], list[Ref]] | None:
        """The function for every batch, and what it takes besides, where the file has its own batch among the sizes.

        None for all others.
        """
        if (batches := self.program.batches) is None or name not in FITTED:
            return None
        if name == "cat":
            return partial(joined, torch.cat), []
        tensor, sizes = self.value(node.arguments[0]), self.value(node.arguments[1])
        example = self.program.example(sizes)
        if example != self.program.example(sizes, batches.values):
            return None
        named = tensor.name if isinstance(tensor, Ref) else ""
        if name in ("expand", "repeat"):
            place = batches.places.get(named)
            run = partial({"expand": expanded, "repeat": repeated}[name], batches, place)
            return run, [] if place is not None else [Ref(next(iter(self.program.inputs)))]
        fitted = batches.fitted(named, node.outputs[0], self.program.example(tensor).shape, example)
        return None if fitted is None else (lambda x, wanted: x.reshape(fitted(x.shape, wanted)), [])

    def layer(self, node: Node, name: str, scopes: list[Scope], leaf: str) -> None:
        make, weights = LAYERS[name](node, self.sizes)
        if not all(isinstance(ref, Ref) and ref.name in self.graph.keys for ref in weights.values()):
            raise ImportRefused(f"{node} takes weights that are computed", leaf, self.graph.file)
        keys = {own: self.graph.keys[ref.name] for own, ref in weights.items()}
        paths = {key.rpartition(".")[0] for key in keys.values()}
        path = paths.pop() if len(paths) == 1 else ""
        if not all(key == f"{path}.{own}" for own, key in keys.items()):
            path = leaf or next(iter(keys.values()), node.outputs[0])  # a layer of its own, with other keys
        if not weights:
            with torch.device("meta"):
                made = make()
            takes = [self.value(node.arguments[0])]
            if leaf:
                self.program.layer(leaf, lambda: made, {}, takes, node.outputs, scopes, self.place(node))
            else:
                self.program.add(made, takes, node.outputs, scopes, self.place(node))
            return
        tensors = {own: self.tensor(ref.name) for own, ref in weights.items()}
        first = [self.value(node.arguments[0])]
        self.program.layer(path, make, tensors, first, node.outputs, scopes, self.place(node))

    # ------------------------------------------------------------ attention

    def attention(self, nodes: list[Node], path: str) -> None:
        """The nodes of one call of nn.MultiheadAttention as this layer."""
        plain = path.partition("@")[0]
        numbers = [node for node in nodes if self.is_number(node, nodes)]
        for node in numbers:
            self.add(node)
        nodes = [node for node in nodes if node not in numbers]
        made = {name for node in nodes for name in node.outputs}
        taken = dict.fromkeys(
            n
            for node in nodes
            for n in names_in((*node.arguments, *node.named.values()))
            if n not in made and n not in self.graph.keys
        )
        inputs = [n for n in taken if isinstance(self.program.values.get(self.renamed.get(n, n)), torch.Tensor)]
        inside = {id(node) for node in nodes}
        outside = {
            name
            for node in self.graph.nodes
            if id(node) not in inside
            for name in names_in((*node.arguments, *node.named.values()))
        } | set(self.graph.outputs)
        results = [n for node in nodes for n in node.outputs if n in outside and n in self.makers]
        state = {
            key.removeprefix(f"{plain}."): tensor
            for key, tensor in self.graph.state.items()
            if key.startswith(f"{plain}.")
        }
        heads = self.heads(nodes, state)
        if not heads or "in_proj_weight" not in state or not 1 <= len(inputs) <= 3 or len(results) != 1:
            raise ImportRefused("attention in a form that is not read", plain, self.place(nodes[0]))
        width = state["out_proj.weight"].shape[0]
        first, *others = [Ref(self.renamed.get(n, n)) for n in inputs]
        in_front = self.program.has_batch_first(first.name)
        make = partial(nn.MultiheadAttention, width, heads, bias="in_proj_bias" in state, batch_first=in_front)
        takes = [first, *(others or [first]), *(others[-1:] or [first])][:3]
        scopes, _ = scoped(nodes[0].around)
        around = [scope for scope in scopes if plain.startswith(f"{scope.path}.")]
        self.program.attention(plain, make, state, takes, results, around, self.place(nodes[0]))

    def is_number(self, node: Node, nodes: list[Node]) -> bool:
        """Whether a node computes a size from what is made outside of these nodes, or from such sizes."""
        if base_name(node) == "sym_size":
            return node.arguments[0].name not in {name for other in nodes for name in other.outputs}
        return node.operator in NUMBERS

    def heads(self, nodes: list[Node], state: dict[str, torch.Tensor]) -> int:
        """The number of heads, found in the sizes by which the operators reshape; 0 if there is none."""
        if "out_proj.weight" not in state:
            return 0
        width = len(state["out_proj.weight"])
        for node in nodes:
            sizes = node.get("size") if base_name(node) == "view" else None
            last = sizes[-1] if isinstance(sizes, tuple) and len(sizes) in (3, 4) else None
            if isinstance(last, int) and 0 < last < width and width % last == 0:
                return width // last
        return 1


FITTED = frozenset({"view", "reshape", "expand", "repeat", "cat"})
"""Operators whose sizes may have the batch that the file fixes."""


def expanded(batches: Batches, place: Place | None, x: torch.Tensor, wanted: Any, *first: torch.Tensor) -> torch.Tensor:
    return x.expand(batches.expanded(place, x.shape, wanted, first))


def repeated(batches: Batches, place: Place | None, x: torch.Tensor, times: Any, *first: torch.Tensor) -> torch.Tensor:
    return x.repeat(batches.repeated(place, times, first))


def base_name(node: Node) -> str:
    """The name of an operator without its variant, and without the mark of work in place."""
    return node.operator.partition(".")[0].removesuffix("_")


def attention_path(node: Node) -> str:
    """The path, with the number of the call, of the nn.MultiheadAttention around a node."""
    return next((path for path, kind in node.around if kind == ATTENTION), "")
