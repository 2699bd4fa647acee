"""Modules of one class as blocks: one for all that are alike, with parameters for what differs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from archdsl.ops import OPERATIONS
from archdsl.runtime.importing.alike import CannotMerge, size, unified
from archdsl.runtime.importing.chains import Chain, Many, Node, structure_key, walk
from archdsl.runtime.importing.functions import shape_of
from archdsl.runtime.importing.layers import may_replace, snake_case
from archdsl.runtime.importing.network import Scope
from archdsl.runtime.importing.recursion import nest, recursive
from archdsl.runtime.importing.rows import in_a_row
from archdsl.runtime.importing.runs import compact
from archdsl.runtime.importing.solving import Block, Solver, labels_in

PLAIN = frozenset({nn.Sequential, nn.ModuleList, nn.ModuleDict})
"""Classes that say nothing of what is in them."""
FEW = 3
"""Up to so many widths need no labels to be distinguished."""
SMALL = 4
"""So few items are written twice rather than with a parameter that says whether one of them is there."""
RESERVED = frozenset(
    {
        *("it", "block", "model", "input", "output", "let", "fn", "for", "repeat", "if", "else", "in", "require"),
        *("expect", "default", "from", "import", "as", "residual", "dense", "via", "true", "false", "none", "and"),
        *("or", "not", "augment", "one_of", "augmented", "share", "windows", "grid", "extern"),
    }
)


@dataclass(slots=True, eq=False)
class Blocks:
    """The blocks of a spec, in the order of their use."""

    externs: Sequence[Block] = ()
    found: list[Block] = field(default_factory=list)
    referred: set[str] = field(default_factory=set)
    """The labels of tensors that are referred to."""

    def names(self) -> set[str]:
        return {block.name for block in (*self.externs, *self.found)}

    def make(self, chain: Chain) -> Chain:
        """Replaces modules by calls of blocks, innermost classes first, and runs by loops."""
        self.referred = {name for node in walk(chain) for name in node.names}
        groups: dict[type, list[Node]] = {}
        heights: dict[type, int] = {}
        for node in walk(chain):
            if node.kind == "body":
                assert isinstance(node.source, Scope)
                cls = type(node.source.module)
                groups.setdefault(cls, []).append(node)
                heights[cls] = max(heights.get(cls, 0), height(node))
        for cls in sorted(groups, key=lambda c: heights[c]):
            nested = levels(groups[cls])
            if (nodes := nest(nested)) is None or not self.recursion(cls, nodes):
                for nodes in nested:
                    self.group(cls, nodes)
        return compact(chain)

    def recursion(self, cls: type, nodes: list[Node]) -> bool:
        """A block that calls itself, of nested modules; whether there is one."""
        block = Block(self.name(cls, nodes), [], [])
        widths = [shape_of(node.source.outputs[0])[0] for node in nodes if isinstance(node.source, Scope)]
        labels = set().union(*(labels_in(node.bodies[0]) for node in nodes))
        avoid = labels | RESERVED | self.names() | {block.name, "C"}
        channels: Any = [node.into for node in nodes]
        known = channels if all(type(c) is int for c in channels) else None
        if not recursive(block, nodes, Solver(len(nodes), known, widths, hints(nodes), avoid)):
            return False
        block.doc = origin(cls, block.name)
        block.ranks = ranks(nodes[0])
        self.found.append(block)
        return True

    def group(self, cls: type, nodes: list[Node]) -> None:
        """The blocks of one class."""
        nodes = [node for node in nodes if node.kind == "body"]
        for node in nodes:
            node.bodies = [compact(body) for body in node.bodies]
            in_a_row(node)
        several = any(node.arguments["inputs"] or node.arguments["outputs"] for node in nodes)
        if not several and (is_plain(cls) or len(nodes) < 2):
            return  # a body in the place where it is
        self.plain_within(nodes)
        for cluster in self.clusters(nodes):
            if not several and (len(cluster) < 2 or size(cluster[0].bodies[0]) < 2):
                continue
            if len(cluster) < 2 or self.attempt("", cluster) is not None:
                self.block(cls, cluster)
            else:
                self.equal(cls, cluster, several)

    def equal(self, cls: type, nodes: list[Node], several: bool) -> None:
        """Blocks of modules that are equal, where no parameters say what differs."""
        found: dict[object, list[Node]] = {}
        for node in nodes:
            found.setdefault(structure_key(node.bodies[0]), []).append(node)
        for alike in found.values():
            if several or len(alike) > 1:
                self.block(cls, alike)

    def plain_within(self, nodes: list[Node]) -> None:
        """Makes blocks of sequences whose number varies among the modules: a body has a fixed label."""
        found: dict[object, list[Node]] = {}
        for node in nodes:
            for inner in walk(node.bodies[0]):
                if inner.kind == "body" and inner.auto:
                    found.setdefault(skeleton(inner.bodies[0]), []).append(inner)
        for alike in found.values():
            if len({node.label for node in alike}) > 1:
                self.block(nn.Sequential, alike)

    def clusters(self, nodes: list[Node]) -> list[list[Node]]:
        """Modules that become one block: all of a class, or those of the same items if their classes are alike."""
        if len(nodes) == 1:
            return [nodes]
        whole = self.attempt("", nodes)
        if whole is not None and (whole.flags == 0 or max(size(node.bodies[0]) for node in nodes) > SMALL):
            return [nodes]
        skeletons: dict[object, list[Node]] = {}
        for node in nodes:
            skeletons.setdefault(skeleton(node.bodies[0]), []).append(node)
        merged: list[list[Node]] = []
        for alike in skeletons.values():
            for other in merged:
                block = self.attempt("", [*other, *alike])
                if block is not None and block.flags == 0:
                    other += alike
                    break
            else:
                merged.append(alike)
        if whole is not None and len(merged) > 2:
            return [nodes]
        return merged

    def attempt(self, name: str, nodes: list[Node]) -> Block | None:
        """The block of these modules; None if they are too unlike. The values of parameters are by `distinct`."""
        chosen, _ = distinct(nodes)
        if len({(node.arguments["inputs"], node.arguments["outputs"]) for node in chosen}) > 1:
            return None
        channels = [node.into for node in chosen]
        known: Any = channels if all(type(c) is int for c in channels) else None
        widths = [shape_of(node.source.outputs[0])[0] for node in chosen if isinstance(node.source, Scope)]
        labels = set().union(*(labels_in(node.bodies[0]) for node in chosen))
        avoid = labels | RESERVED | self.names() | {name, "C"}
        for is_simple in (True, False):
            try:
                pattern = unified([node.bodies[0] for node in chosen])
            except CannotMerge:
                return None
            solver = Solver(len(chosen), known, widths, hints(chosen), avoid, is_simple)
            chain = solver.solve(pattern)
            if sum(p.is_width for p in solver.parameters) <= FEW:
                break
        parameters = sorted(solver.parameters, key=lambda p: p.has_default)
        first = chosen[0]
        block = Block(name, parameters, chain, flags=solver.flags)
        block.inputs = list(first.arguments["inputs"])  # type: ignore[call-overload]
        block.outputs = [("", label) for label in first.arguments["outputs"]]  # type: ignore[attr-defined]
        block.ranks = ranks(first)
        if solver.needs_channels:
            block.channels = "C"
        return block

    def block(self, cls: type, nodes: list[Node]) -> None:
        """Makes a block of modules, which become its calls.

        One that declares its inputs has a number of axes, so there is one for each number.
        """
        block = self.attempt(self.name(cls, nodes), nodes)
        assert block is not None
        if (block.inputs or block.channels) and len(groups := by_ranks(nodes)) > 1:
            for alike in groups:
                if len(alike) > 1 or block.inputs or block.outputs:
                    self.block(cls, alike)
            return
        block.doc = origin(cls, block.name)
        self.found.append(block)
        _, numbers = distinct(nodes)
        for node, number in zip(nodes, numbers, strict=True):
            node.kind, node.name, node.bodies = "use", block, []
            node.arguments = block.arguments(number)

    def name(self, cls: type, nodes: list[Node]) -> str:
        name = snake_case(cls.__name__)
        if name in OPERATIONS or name in RESERVED or name in self.referred:
            name = "unit" if name == "block" else f"{name}_block"
        if name in self.names() or is_plain(cls):
            items = [node.name for node in walk(nodes[0].bodies[0]) if node.kind == "op"]
            if 0 < len(items) <= 3 and "_".join(map(str, items)) not in {*self.names(), *OPERATIONS}:
                return "_".join(map(str, items))
        if name in self.names():
            number = 2
            while f"{name}_{number}" in self.names():
                number += 1
            name = f"{name}_{number}"
        return name


def origin(cls: type, name: str) -> str:
    """The documentation of a block called `name`: the class that it stands for, unless the name says it."""
    if is_plain(cls) or re.fullmatch(rf"{re.escape(snake_case(cls.__name__))}(_\d+)?", name):
        return ""
    return getattr(cls, "says", f"{cls.__qualname__} of {cls.__module__}.")


def is_plain(cls: type) -> bool:
    """Whether a class says nothing of what is in its modules; one made for a file has an attribute for it."""
    return cls in PLAIN or getattr(cls, "plain", False)


def height(node: Node) -> int:
    """How deep modules are nested in a module."""
    inner = [height(n) + (n.kind == "body") for body in node.bodies for n in body]
    return max(inner, default=0)


def levels(nodes: list[Node]) -> list[list[Node]]:
    """Modules of a class, those within others before these; all at once if none is within another."""
    within = {id(inner) for node in nodes for body in node.bodies for inner in walk(body)}
    if not any(id(node) in within for node in nodes):
        return [nodes]
    found: dict[int, list[Node]] = {}
    for node in nodes:
        found.setdefault(height(node), []).append(node)
    return [found[depth] for depth in sorted(found)]


def by_ranks(nodes: list[Node]) -> list[list[Node]]:
    """Modules by the numbers of axes of what flows into them."""
    found: dict[object, list[Node]] = {}
    for node in nodes:
        found.setdefault(tuple(ranks(node)), []).append(node)
    return [*found.values()]


def ranks(node: Node) -> list[int]:
    """The numbers of positional axes of what flows into a module."""
    return [len(shape_of(value)) - 1 for value in node.source.inputs] if isinstance(node.source, Scope) else []


def distinct(nodes: list[Node]) -> tuple[list[Node], list[int]]:
    """The modules that differ, and for each module the number of the one that it is like."""
    known: dict[object, int] = {}
    chosen: list[Node] = []
    numbers = []
    for node in nodes:
        kind = (structure_key(node.bodies[0]), node.into, tuple(n.into for n in walk(node.bodies[0])))
        if kind not in known:
            known[kind] = len(chosen)
            chosen.append(node)
        numbers.append(known[kind])
    return chosen, numbers


def skeleton(chain: Chain) -> object:
    """Equal for chains of the same items, whatever their arguments."""
    return tuple(
        (
            node.kind,
            "activation" if node.kind == "op" and may_replace(node.name, node.name) else node.name,
            None if node.auto else node.label,
            tuple(map(skeleton, node.bodies)),
        )
        for node in chain
    )


def hints(nodes: list[Node]) -> list[tuple[str, list[object]]]:
    """The constructor's arguments that the modules keep as attributes, with the values of each module."""
    import inspect

    modules = [node.source.module for node in nodes if isinstance(node.source, Scope)]
    found: list[tuple[str, list[object]]] = []
    for name in inspect.signature(type(modules[0]).__init__).parameters:
        values = [getattr(module, name, None) for module in modules]
        if name.isidentifier() and all(isinstance(v, int | float | str | tuple) for v in values):
            found.append((name, values))
    return found


__all__ = ["Block", "Blocks", "Many"]
