"""Attention maps: how strongly the heads of an attention look at each place, recorded while a network runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from archdsl.common.units import counted
from archdsl.graph import Graph, Node, Tensor
from archdsl.runtime.parts import Recorder, evaluated
from archdsl.runtime.running import RunError

if TYPE_CHECKING:
    import torch

HEADS = 6
"""How many heads are shown where none is chosen."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Some heads of the attention at a path, counted from 0; the first ones if there are none."""

    path: str
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """Whose attention is shown: that of a place of a map, of a token (`column` is None), or the mean of all (None)."""

    row: int
    column: int | None

    def __str__(self) -> str:
        return f"token {self.row}" if self.column is None else f"position {self.row},{self.column}"


@contextmanager
def recorded(graph: Graph, paths: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """A dictionary that one run of the network in evaluation fills: the weights of the attentions at these paths.

    They are [N · windows, heads, queries, keys], and add up to 1 over the keys. Raises RunError.
    """
    from torch.nn.functional import scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    needed = graph.ancestors(o.tensor for o in graph.outputs if not o.training)
    expected = [n for n in graph.nodes() if n.operation.attends and n.id in needed]
    found: dict[str, torch.Tensor] = {}
    calls = 0

    class Recording(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
            nonlocal calls
            if function is scaled_dot_product_attention:
                path = expected[calls].path if calls < len(expected) else ""
                calls += 1
                if path in paths and path not in found:
                    found[path] = _weights(*given, **(named or {}))
            return function(*given, **(named or {}))

    with Recording():
        yield found
    if paths and calls != len(expected):
        raise RunError(
            f"{graph.name} runs {counted(calls, 'attention')}, not {len(expected)}: code from outside has some"
        )


def _weights(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The weights by which F.scaled_dot_product_attention mixes the values, without dropout."""
    import torch

    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    if is_causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    return scores.softmax(-1)


@dataclass(slots=True)
class AttentionMaps:
    """The attention at a node, as maps of the places where its keys are."""

    graph: Graph
    node: Node
    recorder: Recorder
    weights: torch.Tensor
    """[windows, heads, queries, keys]."""
    words: str = field(default="", init=False)

    def maps(self, heads: Sequence[int], query: Query | None) -> torch.Tensor:
        """The weights [heads, h, w] of a query, else of the first token if it is on no map, else their mean.

        Sets `words`, which say whose they are. Raises RunError.
        """
        count = self.weights.shape[1]
        wrong = [h for h in heads if h >= count]
        if wrong:
            raise RunError(
                f"`{self.node.path}` has {counted(count, 'head')}, counted from 0; there is no head {wrong[0]}"
            )
        height, width = self.places(self.node.inputs[min(1, len(self.node.inputs) - 1)])
        extra = self.weights.shape[3] - height * width
        if query is None and extra and self.weights.shape[2] == self.weights.shape[3]:
            query = Query(0, None)
        self.words = str(query) if query is not None else "all positions, their mean"
        chosen = self.weights[:, list(heads) or list(range(min(HEADS, count)))]
        found = chosen.mean(2) if query is None else self.of_query(chosen, query)
        found = found[..., extra:].unflatten(-1, (height, width))
        return self.put_together(found)[0]

    def put_together(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps [windows, heads, h, w] as those of the whole, [1, heads, H, W]."""
        windows = self.node.windows
        return maps if windows is None or not self.node.batched else self.recorder.joined(maps, windows)

    def of_query(self, weights: torch.Tensor, query: Query) -> torch.Tensor:
        """The weights [windows, heads, keys] of one query; those of other windows are 0."""
        import torch

        windows, _, queries, _ = weights.shape
        numbers = torch.arange(windows * queries).view(windows, 1, queries)
        where = f"`{self.node.path}` has no {query}"
        if query.column is not None:
            shape = self.places(self.node.inputs[0])
            extra = queries - prod(shape)
            numbers = self.put_together(numbers[:, :, extra:].unflatten(-1, shape))
            height, width = numbers.shape[-2:]
            if query.row >= height or query.column >= width:
                raise RunError(f"{where}; it is {height} × {width}")
            number = int(numbers[0, 0, query.row, query.column])
        elif windows > 1 or query.row >= queries:
            have = "name a place of the map, ROW,COLUMN" if windows > 1 else f"there are {queries}"
            raise RunError(f"{where}: {have}")
        else:
            number = query.row
        window, at = divmod(number, queries)
        found = torch.zeros_like(weights[:, :, 0])
        found[window] = weights[window, :, at]
        return found

    def places(self, tensor: Tensor) -> tuple[int, int]:
        """Height and width of the map whose positions a tensor has, possibly behind more tokens. Raises RunError.

        A row of tokens has those of the latest map that it comes from with at most as many positions.
        """
        _, *positions = self.sized(tensor)
        count = prod(positions)
        if len(positions) == 2:
            return positions[0], positions[1]
        node = self.graph.node(tensor)
        best = (0, 0)
        for i in sorted(self.graph.ancestors([tensor])):
            before = self.graph.node(Tensor(i))
            if before.batched and before.windows is node.windows:
                _, *size = self.sized(Tensor(i))
                if len(size) == 2 and prod(best) <= prod(size) <= count:
                    best = size[0], size[1]
        if not prod(best):
            raise RunError(f"`{self.node.path}` attends to no positions of a map, which could be shown")
        return best

    def sized(self, tensor: Tensor) -> Sequence[int]:
        return evaluated(self.graph.shape(tensor), self.recorder.sizes)


def attention_at(graph: Graph, path: str) -> Node:
    """The first attention at a path. Raises RunError."""
    every = {n.path: n for n in reversed(list(graph.nodes())) if n.operation.attends}
    if path not in every:
        have = ", ".join([*reversed(every)][:12]) or "none"
        raise RunError(f"{graph.name} has no attention `{path}`; there are: {have}")
    return every[path]
