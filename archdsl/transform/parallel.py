"""How a training is spread over many devices: which modules are sharded together, which layers are divided.

Zhao et al., PyTorch FSDP: experiences on scaling fully sharded data parallel, 2023; Shoeybi et al., Megatron-LM:
training multi-billion parameter language models using model parallelism, 2019.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

from archdsl.analysis.layout import Layout
from archdsl.graph import Graph, Node, Scope, Tensor

SHARE = 8
"""A block with more than this part of all weights, one in so many, is divided into the blocks in it."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """The parts of a network, by what becomes of them."""

    scopes: tuple[Scope, ...]
    """Scopes whose weights are gathered together; the weights of the rest of the network stay for the whole run."""
    has_norms: bool
    """Whether there are batchnorms, which use statistics of the batch."""
    pairs: tuple[tuple[Node, Node], ...]
    """Two linear layers with nothing but activations between them: the first may be divided by the channels of its
    result, the second by those of its input."""
    attentions: tuple[Node, ...]
    """Attentions that may be divided by heads."""

    @property
    def units(self) -> tuple[str, ...]:
        """The paths of `scopes`."""
        return tuple(dict.fromkeys(scope.path for scope in self.scopes))

    @property
    def kept(self) -> list[Tensor]:
        """The tensors that nothing may overwrite: PyTorch hands on views of what a sharded module takes, and of what a
        divided layer gives."""
        nodes = [*(node for pair in self.pairs for node in pair), *self.attentions]
        return [*(t for scope in self.scopes for t in scope.inflow()), *(Tensor(node.id) for node in nodes)]

    def divided(self, layout: Layout) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """The first and second layers of pairs, and the attentions, that are plain layers of PyTorch in this layout."""
        plain = [pair for pair in self.pairs if all(len(n.shapes[0]) == 1 or n.id in layout.last for n in pair)]
        return tuple(a.path for a, _ in plain), tuple(b.path for _, b in plain), tuple(n.path for n in self.attentions)


def parallel(graph: Graph) -> Parallel:
    """How a training is spread.

    The units follow the blocks: a large one is divided into the blocks in it, if these hold most of it.
    """
    total = weight_count(graph, graph.root.nodes())
    heads = (n for n in graph.nodes() if n.use is None and n.operation.divides(graph.shapes(n.inputs)) == "heads")
    return Parallel(
        tuple(_units(graph, graph.root, total)),
        any(has_statistics(graph, n) for n in graph.nodes()),
        tuple(_pairs(graph)),
        tuple(heads),
    )


def _pairs(graph: Graph) -> Iterator[tuple[Node, Node]]:
    taken: Counter[Tensor] = Counter(t for node in graph.nodes() for t in node.inputs)
    taken.update(output.tensor for output in graph.outputs)
    readers = {tensor: node for node in graph.nodes() for tensor in node.inputs}
    second: set[int] = set()
    for node in graph.nodes():
        if node.id in second or not _is_matrix(graph, node):
            continue
        at = node
        while taken[Tensor(at.id)] == 1 and (reader := readers.get(Tensor(at.id))) is not None:
            if _is_matrix(graph, reader):
                second.add(reader.id)
                yield node, reader
            if not _is_pointwise(graph, reader):
                break
            at = reader


def _is_matrix(graph: Graph, node: Node) -> bool:
    return node.use is None and node.operation.divides(graph.shapes(node.inputs)) == "channels"


def _is_pointwise(graph: Graph, node: Node) -> bool:
    """Whether a part of the channels of its input is all that the same part of its result needs."""
    operation = node.operation
    return (
        operation.channelwise
        and (operation.is_activation or operation.training_only)
        and len(node.inputs) == 1
        and not graph.weights_of(node)
    )


def weight_count(graph: Graph, nodes: Iterator[Node]) -> int:
    """The numbers in the parameters of some nodes, those of shared ones in each call."""
    return sum(prod(w.shape) for n in nodes for w in graph.weights_of(n) if not w.buffer)


def has_statistics(graph: Graph, node: Node) -> bool:
    """Whether training uses statistics of the batch and keeps them."""
    return node.operation.uses_batch and any(w.buffer for w in graph.weights_of(node))


def _units(graph: Graph, scope: Scope, total: int) -> Iterator[Scope]:
    for inner in scope.members:
        if not isinstance(inner, Scope):
            continue
        count = weight_count(graph, inner.nodes())
        parts = [member for member in inner.members if isinstance(member, Scope)]
        within = sum(weight_count(graph, part.nodes()) for part in parts)
        if count * SHARE > total and 2 * within >= count:
            yield from _units(graph, inner, total)
        elif count:
            yield inner


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
