"""How a training is spread over many devices: which modules are sharded together.

Zhao et al., PyTorch FSDP: experiences on scaling fully sharded data parallel, 2023.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

from archdsl.graph import Graph, Node, Scope

SHARE = 8
"""A block with more than this part of all weights, one in so many, is divided into the blocks in it."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """The paths of the modules whose weights are gathered together, those inside others behind them.

    The weights of the rest of the network are gathered for the whole run.
    """

    units: tuple[str, ...]
    has_norms: bool
    """Whether there are batchnorms, which use statistics of the batch."""


def parallel(graph: Graph) -> Parallel:
    """The modules that follow the blocks: large ones are divided into the blocks in them, if these hold most of it."""
    total = weight_count(graph, graph.root.nodes())
    return Parallel(tuple(_units(graph, graph.root, total)), any(has_statistics(graph, n) for n in graph.nodes()))


def weight_count(graph: Graph, nodes: Iterator[Node]) -> int:
    """The numbers in the parameters of some nodes, those of shared ones once."""
    return sum(prod(w.shape) for n in nodes if not n.again for w in graph.weights_of(n) if not w.buffer)


def has_statistics(graph: Graph, node: Node) -> bool:
    """Whether training uses statistics of the batch and keeps them."""
    return node.operation.uses_batch and any(w.buffer for w in graph.weights_of(node))


def _units(graph: Graph, scope: Scope, total: int) -> Iterator[str]:
    for inner in scope.members:
        if not isinstance(inner, Scope) or inner.again:
            continue
        count = weight_count(graph, inner.nodes())
        parts = [member for member in inner.members if isinstance(member, Scope)]
        within = sum(weight_count(graph, part.nodes()) for part in parts)
        if count * SHARE > total and 2 * within >= count:
            yield from _units(graph, inner, total)
        elif count:
            yield inner.path


# ---------------------------------------------------------------- patterns of paths


def patterns(paths: Collection[str], others: Collection[str]) -> tuple[str, ...]:
    """Patterns that match these paths and none of the others: `layer1.*` for `layer1.0` and `layer1.1`.

    A `*` stands for any text without a dot.
    """
    found: list[str] = []
    left = list(dict.fromkeys(paths))
    while left:
        pattern, matched = max(
            ((p, [path for path in left if matches(path, p)]) for p in _candidates(left[0])),
            key=lambda pair: (not any(matches(o, pair[0]) for o in others), len(pair[1]), -pair[0].count("*")),
        )
        found.append(pattern)
        left = [path for path in left if path not in matched]
    return tuple(found)


def _candidates(path: str) -> Iterator[str]:
    """The path, and what it becomes with numbers, or a last number, in its names replaced."""
    yield path
    names = path.split(".")
    for i, name in enumerate(names):
        stem = name.rstrip("0123456789")
        if stem != name:
            yield ".".join([*names[:i], f"{stem}*", *names[i + 1 :]])
    yield ".".join(n if (s := n.rstrip("0123456789")) == n else f"{s}*" for n in names)


def matches(path: str, pattern: str) -> bool:
    """Whether a path matches a pattern, name by name; at most one `*` ends each name."""
    names, wanted = path.split("."), pattern.split(".")
    return len(names) == len(wanted) and all(
        name.startswith(w[:-1]) if w.endswith("*") else name == w for name, w in zip(names, wanted, strict=True)
    )
