"""Modules of one class that are nested in each other, as one block that calls itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from archdsl.runtime.importing.alike import CannotMerge, unified
from archdsl.runtime.importing.chains import Node, Text, key, walk
from archdsl.runtime.importing.runs import compact
from archdsl.runtime.importing.solving import FACTORS, Block, Parameter, Solver, ratio

LEAST = 3
"""Fewer levels are written out."""
DEPTH = "depth"
"""The parameter that counts the levels below."""


def nest(levels: Sequence[Sequence[Node]]) -> list[Node] | None:
    """Modules of which each is in the one before, the outermost first; None if they are not such a row.

    `levels` are the modules of a class, those within others before these.
    """
    if len(levels) < LEAST or any(len(level) > 1 or level[0].kind != "body" for level in levels):
        return None
    nodes = [level[0] for level in reversed(levels)]
    if any(node.arguments["inputs"] or node.arguments["outputs"] for node in nodes):
        return None
    direct = all(inner in walk(outer.bodies[0]) for outer, inner in pairwise(nodes))
    return nodes if direct and len({node.label for node in nodes[1:]}) == 1 else None


def recursive(block: Block, nodes: list[Node], solver: Solver) -> bool:
    """Makes a block of nested modules, of which the outermost becomes a call; whether there is such a block.

    The `solver` has no parameters yet.
    """
    depth = Parameter(DEPTH, [*range(len(nodes) - 1, -1, -1)])
    if not solver.is_free(depth.name):
        return False
    kept = [node.arguments for node in nodes]
    bodies = [compact(node.bodies[0]) for node in nodes]
    for node in nodes:
        node.kind, node.name, node.arguments, node.bodies = "use", block, {}, []
    solver.parameters.append(depth)
    try:
        block.chain = solver.solve(unified(bodies, unlike=1))
        solver.parameters.sort(key=lambda p: p is depth)
        given = [inner(block, parameter, solver) for parameter in solver.parameters]
    except CannotMerge:
        for node, arguments, body in zip(nodes, kept, bodies, strict=True):
            node.kind, node.name, node.arguments, node.bodies = "body", "", arguments, [body]
        return False
    block.parameters.sort(key=lambda p: p.has_default)
    call = next(node for node in walk(block.chain) if node.name is block)
    call.arguments = dict(given)
    block.channels = "C" if solver.needs_channels else None
    nodes[0].arguments = block.arguments(0)
    return True


def inner(block: Block, parameter: Parameter, solver: Solver) -> tuple[str, object]:
    """A parameter of the block, which gets it, and what the call within gives for it. Raises CannotMerge."""
    name, values = parameter.name, parameter.values
    pairs = [(values[i], n) for i, n in enumerate(values[1:]) if i + 1 not in parameter.unneeded]
    later = [n for _, n in pairs]
    block.parameters.append(parameter)
    if len({key(n) for n in later}) == 1:
        return name, later[0]
    known = [(before, n) for i, (before, n) in enumerate(pairs) if i not in parameter.unneeded]
    if (text := successor(name, known)) is not None:
        return name, Text(text)
    if not all(type(n) in (int, float, bool) for n in values) or not solver.is_free(f"{name}s"):
        raise CannotMerge
    block.parameters.pop()
    table = Text(f"[{', '.join(str(n).lower() for n in reversed(values))}]")
    block.parameters.append(Parameter(f"{name}s", [table] * len(values)))
    block.lets.append(f"let {name} = {name}s[{DEPTH}]")
    return f"{name}s", Text(f"{name}s")


def successor(name: str, pairs: Sequence[tuple[object, object]]) -> str | None:
    """An expression that gives the second number of each pair from the first, called `name`; None if there is none."""
    numbers = [(one, two) for one, two in pairs if isinstance(one, int) and isinstance(two, int)]
    if len(numbers) < len(pairs):
        return None
    if all(two == one - 1 for one, two in numbers):
        return f"{name} - 1"
    return ratio(name, [(two, one) for one, two in numbers], FACTORS)
