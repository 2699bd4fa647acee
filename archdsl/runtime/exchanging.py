"""Layers that run on rows of other ranks as well: these are sent before the layer runs, and their gradients back.

See `planning.bands`, which says what is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from archdsl.analysis.layout import Layout
from archdsl.graph import Graph, Node
from archdsl.ops.forms import ModuleForm
from archdsl.planning.bands import Exchange

if TYPE_CHECKING:
    import torch

Rows = tuple[int, int, int]
"""A rank, and the first row and the one after the last that it sends or gets, counted in the tensor at hand."""


def places(graph: Graph, network: torch.nn.Module) -> dict[int, torch.nn.Module]:
    """The modules of the network that are those of one node alone, by its id: ranks can exchange rows before these.

    Such a node has one input and one result, with the channels first.
    """
    modules = dict(network.named_modules())
    calls = Counter(node.path for node in graph.nodes())
    last = Layout.of(graph).last
    found: dict[int, torch.nn.Module] = {}
    for node in graph.nodes():
        single = len(node.inputs) == len(node.shapes) == 1 and calls[node.path] == 1
        if not single or node.windows is not None or node.id in last or node.inputs[0].node in last:
            continue
        shapes, outputs = graph.shapes(node.inputs), node.shapes
        form = node.operation.torch(shapes, outputs)
        if not isinstance(form, ModuleForm):
            continue
        own = modules.get(node.path)
        module = own if graph.weights_of(node) else _unweighted(node, form, network, modules)
        if module is not None:
            found[node.id] = module
    uses = Counter(map(id, found.values()))
    return {number: module for number, module in found.items() if uses[id(module)] == 1}


def _unweighted(
    node: Node, form: ModuleForm, network: torch.nn.Module, modules: dict[str, torch.nn.Module]
) -> torch.nn.Module | None:
    """The module of a node without weights, which may have another name; None if it may be that of several nodes."""
    like, scope = _made(form, network), modules.get(node.scope.path)
    if like is None or scope is None:
        return None
    if node.labelled and node.path in modules:  # labelled modules are never one for several nodes
        own = modules[node.path]
        return own if repr(own) == repr(like) else None
    alike = [n for n in node.scope.members if isinstance(n, Node) and n.operation == node.operation]
    children = [child for child in scope.children() if type(child) is type(like) and repr(child) == repr(like)]
    return children[0] if len(alike) == len(children) == 1 else None


def _made(form: ModuleForm, network: torch.nn.Module) -> torch.nn.Module | None:
    import sys

    from torch import nn

    name = form.constructor.removeprefix("nn.")
    kind = getattr(nn if "nn." in form.constructor else sys.modules.get(type(network).__module__), name, None)
    if kind is None:
        return None
    given = [a.value for a in form.arguments if a.name is None]
    made: nn.Module = kind(*given, **{a.name: a.value for a in form.arguments if a.name is not None})
    return made


@dataclass(frozen=True, slots=True, eq=False)
class Trade:
    """What one rank does in an exchange, in rows of its own tensor, but for `gets`: those of the result.

    `length` is that of its tensor, `keeps` are the rows that it uses itself, behind those of `before`. `given` are the
    rows of the layer's result that go on.
    """

    length: int
    keeps: slice
    before: tuple[Rows, ...]
    behind: tuple[Rows, ...]
    sends: tuple[Rows, ...]
    given: slice
    ranks: tuple[int, ...]
    """The ranks of the group, by their numbers in the plan, in the default group."""
    group: Any

    @staticmethod
    def of(exchange: Exchange, rank: int, ranks: Sequence[int], group: Any) -> Trade:
        (held, end), (keeps, kept), wide = (spans[rank] for spans in (exchange.held, exchange.right, exchange.wide))
        before: list[Rows] = []
        behind: list[Rows] = []
        sends: list[Rows] = []
        for piece in exchange.pieces:
            if piece.receiver == rank:
                rows = piece.sender, piece.start - wide[0], piece.stop - wide[0]
                (before if piece.start < keeps else behind).append(rows)
            if piece.sender == rank:
                sends.append((piece.receiver, piece.start - held, piece.stop - held))
        start, stop = (row - exchange.begins[rank] for row in exchange.given[rank])
        return Trade(
            end - held,
            slice(keeps - held, kept - held),
            tuple(before),
            tuple(behind),
            tuple(sends),
            slice(start, stop),
            tuple(ranks),
            group,
        )

    def widened(self, x: torch.Tensor) -> torch.Tensor:
        """The rows [N, C, H, …] with which the layer runs: what this rank keeps, and what it gets."""
        import torch

        got = swapped(x, self.sends, (*self.before, *self.behind), self.ranks, self.group)
        before, behind = got[: len(self.before)], got[len(self.before) :]
        return torch.cat([*before, x[:, :, self.keeps], *behind], 2)


def swapped(
    x: torch.Tensor, sends: Sequence[Rows], gets: Sequence[Rows], ranks: Sequence[int], group: Any
) -> list[torch.Tensor]:
    """The rows that other ranks send, [N, C, rows, …], while they get those that they lack of `x`."""
    import torch.distributed as dist

    sent = [x[:, :, start:stop].contiguous() for _, start, stop in sends]
    found = [x.new_empty(*x.shape[:2], stop - start, *x.shape[3:]) for _, start, stop in gets]
    todo = [dist.P2POp(dist.isend, part, ranks[peer], group) for part, (peer, *_) in zip(sent, sends, strict=True)] + [
        dist.P2POp(dist.irecv, part, ranks[peer], group) for part, (peer, *_) in zip(found, gets, strict=True)
    ]
    for work in dist.batch_isend_irecv(todo) if todo else ():
        work.wait()
    return found


@cache
def _widening() -> Callable[[torch.Tensor, Trade], torch.Tensor]:
    from torch.autograd import Function

    class Widening(Function):  # type: ignore[misc]  # which has no types
        @staticmethod
        def forward(context: Any, x: torch.Tensor, trade: Trade) -> torch.Tensor:
            context.trade, context.like = trade, x.shape
            return trade.widened(x)

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
            trade: Trade = context.trade
            gets = (*trade.before, *trade.behind)
            back = [(peer, 0, stop - start) for peer, start, stop in trade.sends]
            returned = swapped(gradient, gets, back, trade.ranks, trade.group)
            own = gradient.new_zeros(context.like)
            first = sum(stop - start for _, start, stop in trade.before)
            count = trade.keeps.stop - trade.keeps.start
            own[:, :, trade.keeps] = gradient[:, :, first : first + count]
            for part, (_, start, stop) in zip(returned, trade.sends, strict=True):
                own[:, :, start:stop] += part
            return own, None

    return cast("Callable[[torch.Tensor, Trade], torch.Tensor]", Widening.apply)


def exchanged(
    module: torch.nn.Module, forward: Callable[[torch.Tensor], torch.Tensor], trade: Trade, x: torch.Tensor
) -> torch.Tensor:
    """The forward of a layer before which rows are exchanged. `forward` is what it computes, on the wider rows."""
    if x.shape[2] != trade.length:
        raise ValueError(
            f"a {type(module).__name__} gets {x.shape[2]} rows where the bands have {trade.length}: give the network "
            "the rows of its band, of images of the size that archdsl.bands was called with"
        )
    wide = _widening()(x, trade)
    with _put_together_again(x, wide, trade):
        result = forward(wide)
    return result[:, :, trade.given]


def _put_together_again(x: torch.Tensor, wide: torch.Tensor, trade: Trade) -> AbstractContextManager[None]:
    """Within it, `wide` is saved for the backward pass as `x` and the rows from other processes, without a copy of `x`.

    Where hooks of others save tensors, as those of recomputation do, it leaves that to them.
    """
    import torch

    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None or not torch.is_grad_enabled():
        return nullcontext()
    first = sum(stop - start for _, start, stop in trade.before)
    last = first + trade.keeps.stop - trade.keeps.start
    before, behind, own = (
        wide[:, :, :first].detach().clone(),
        wide[:, :, last:].detach().clone(),
        x[:, :, trade.keeps].detach(),
    )
    place, size = wide.data_ptr(), wide.shape

    def pack(tensor: torch.Tensor) -> torch.Tensor | None:
        return None if tensor.data_ptr() == place and tensor.shape == size else tensor

    def unpack(saved: torch.Tensor | None) -> torch.Tensor:
        return torch.cat([before, own, behind], 2) if saved is None else saved

    hooks: AbstractContextManager[None] = torch.autograd.graph.saved_tensors_hooks(pack, unpack)
    return hooks
