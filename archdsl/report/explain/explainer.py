"""Explains layers, blocks and models of a network: their structure, cost and receptive fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from math import prod

from archdsl.common.units import bytes_text, count_text, counted
from archdsl.dims import evaluate
from archdsl.graph import Node, Scope, Tensor
from archdsl.ops.fields import shape_text, times
from archdsl.report.explain.skips import Skip, skips
from archdsl.report.layers import Layers
from archdsl.report.stages import Stage, outputs, stages, weighted
from archdsl.syntax import tree

MOST_MEETINGS = 8
"""The most places where paths meet of a path that is written out."""


class Explainer:
    """Explains the parts of one network. Free sizes have the values of `layers.sizes`."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.graph = layers.graph

    def part(self, part: Node | Scope) -> Iterator[str]:
        if isinstance(part, Node):
            yield from self.node(part)
        elif part is self.graph.root:
            yield from self.model(part)
        else:
            yield from self.scope(part)

    @property
    def where(self) -> str:
        return f", at {self.layers.at}" if self.graph.free else ""

    # ------------------------------------------------------------ a layer

    def node(self, node: Node) -> Iterator[str]:
        incoming = [self.layers.costs.shape(t) for t in node.inputs]
        given = self.layers.costs.shapes[node.id]
        rank = len((incoming or given)[0]) - 1
        yield f"{node.path}: {node.operation.caption(rank)}"
        source = shown(incoming) or ("the network" if node.operation.is_input else "nothing")
        yield f"    {source} → {shown(given)}{self.where}"
        doc = (type(node.operation).__doc__ or "").strip().partition("\n")[0]
        yield f"    {doc}"
        if node.samples:
            counts = [evaluate(d, self.layers.sizes) for d in node.samples]
            yield f"    Each of {prod(counts):,} windows is a sample of its own here."
        for section in node.operation.explanation(incoming, given):
            yield from titled(section.title, *section.lines)
        yield from self.cost(node)
        yield from self.receptive_field(Tensor(node.id))

    def cost(self, part: Node | Scope) -> Iterator[str]:
        cost, total = self.layers.costs[part], self.layers.costs.total
        lines = [f"{counted(cost.parameters, 'parameter')}, {self.products(part)} a sample"]
        if cost.macs and total.macs:
            lines[0] += f" ({cost.macs / total.macs:.1%} of the network's)"
        calls = [m for m in self.graph.root.walk() if m.path == part.path and m is not self.graph.root]
        if len(calls) > 1:
            macs = sum(self.layers.costs[call].macs for call in calls)
            lines.append(
                f"shared: {len(calls)} calls use the same weights, with {counted(macs, 'multiply-accumulate')} in all; "
                "the sizes here are those of the first"
            )
        elements = self.layers.formulas[part].elements.at(self.layers.sizes)
        if elements:
            lines.append(f"its results hold {counted(elements, 'number')}, {bytes_text(4 * elements)} in float32")
        else:
            lines.append("its result is a view of what came in: it takes no memory of its own")
        yield from titled("cost", *lines)

    def products(self, part: Node | Scope) -> str:
        """`1,234 multiply-accumulates`, and what is unknown of them."""
        macs = self.layers.costs[part].macs
        if not self.layers.costs.uncounted(part):
            return counted(macs, "multiply-accumulate")
        return f"{f'{macs:,} and ' if macs else ''}an unknown number of multiply-accumulates"

    def receptive_field(self, tensor: Tensor) -> Iterator[str]:
        for source, seen in (self.layers.field_columns(tensor) or {}).items():
            name = self.graph.node(source).name
            several = len(self.layers.costs.shapes[source][0]) > 2
            if seen["field"].startswith("everything"):
                lines = [f"all of `{name}`"]
                if through := seen["field"].removeprefix("everything").strip(" ()"):
                    stride = seen["stride"].strip("()")
                    far = f", the next one's field {stride} further" if stride and stride != "varies" else ""
                    lines.append(f"through windows alone {through} elements{far}; the rest by what is pooled of all")
                yield from titled("receptive field", *lines)
                continue
            along = " along each axis" if several else ""
            lines = [f"each element sees {seen['field']} elements of `{name}`{along}"]
            if "varies" in seen["stride"]:
                lines.append("through branches with different strides: the distance to the next one's field varies")
            elif seen["stride"]:
                lines.append(
                    f"the next one's field lies {seen['stride']} further; the first one's centre is at {seen['offset']}"
                )
            yield from titled("receptive field", *lines)

    # ------------------------------------------------------------ a block

    def scope(self, scope: Scope) -> Iterator[str]:
        what = scope.definition.name if scope.definition else "a part of the network"
        yield f"{scope.path}: {what}"
        yield (
            f"    {shown(map(self.layers.costs.shape, scope.inputs))} → "
            f"{shown(map(self.layers.costs.shape, scope.outputs))}{self.where}"
        )
        yield from documentation(scope)
        yield from titled("members", *self.members(scope))
        for node in scope.nodes():
            if node.operation.is_sum and node.scope is scope and len(node.inputs) == 2:
                yield from self.residual(node)
        yield from self.dense(scope)
        yield from self.cost(scope)
        if scope.outputs:
            yield from self.receptive_field(scope.outputs[0])

    def residual(self, add: Node) -> Iterator[str]:
        """The two gradient paths through a residual block."""
        ways = self.ways(add)
        if ways is None:
            return
        short, long = ways
        if not short:
            lines = [
                "y = h + NN(h): the block learns what to add to h, not y itself",
                "the gradient comes back on two paths: dL/dh = dL/dy + Jᵀ dL/dy, J the derivative of NN",
                "the short path is the identity: dL/dy reaches h as it is, however small Jᵀ dL/dy becomes in NN",
            ]
        else:
            linear = all(n.operation.is_linear for n in short)
            name, derivative = ("A h", "A") if linear else ("S(h)", "S'")
            path = " → ".join(n.path for n in short)
            whose = f"A what {path} does to h, which is linear" if linear else f"S what {path} does, S' its derivative"
            lines = [
                f"y = {name} + NN(h): the block learns what to add to {name}, not y itself",
                f"{whose}: it brings h to the size of y",
                f"the gradient comes back on two paths: dL/dh = {derivative}ᵀ dL/dy + Jᵀ dL/dy, J the derivative of NN",
                "the short path has no activation in which it could fade"
                if linear
                else "the short path is no identity: the gradient is changed on both",
            ]
        lines.append(f"the long path, NN: {long}")
        after = [n for n in add.scope.members if isinstance(n, Node) and Tensor(add.id) in n.inputs]
        if len(after) == 1 and after[0].operation.is_activation:
            lines.append(f"y here is what the {after[0].operation.name} behind the add takes")
        yield from titled("two paths", *lines)

    def caption(self, node: Node) -> str:
        return node.operation.caption(max(1, len(self.layers.costs.shapes[node.id][0]) - 1))

    def ways(self, add: Node) -> tuple[list[Node], str] | None:
        """The nodes on the short path to an add, and the long path in words.

        None if the paths do not come from one tensor, or neither is longer.
        """
        for brought, other in (add.inputs, add.inputs[::-1]):
            start, short = self.chain(brought, add.scope)
            inside = self.between(start, other)
            if other.node in inside and len(short) < len(inside):
                return short, self.path(other, start, inside)
        return None

    def chain(self, tensor: Tensor, scope: Scope) -> tuple[Tensor, list[Node]]:
        """The nodes before a tensor, and the tensor in which the path branches or leaves the scope."""
        found: list[Node] = []
        while tensor not in scope.inputs:
            node = self.graph.node(tensor)
            if scope not in node.scope.calls() or len(node.inputs) != 1 or self.graph.net.out_degree(node.id) > 1:
                break
            found.append(node)
            tensor = node.inputs[0]
        return tensor, found[::-1]

    def between(self, start: Tensor, end: Tensor) -> set[int]:
        """The nodes on all paths from one tensor to another."""
        found: set[int] = set()
        for number in sorted(n for n in self.graph.ancestors([end]) if n > start.node):
            if any(t == start or t.node in found for t in self.graph.node(Tensor(number)).inputs):
                found.add(number)
        return found

    def path(self, tensor: Tensor, start: Tensor, inside: set[int]) -> str:
        """The way to a tensor: `conv 3×3, 8 → relu`, and `(conv 3×3, 8; conv 1×1, 8) → mul` where paths meet."""
        if sum(len(self.graph.node(Tensor(n)).inputs) > 1 for n in inside) > MOST_MEETINGS:
            return f"{len(inside)} operations"
        found: list[str] = []
        while tensor != start:
            node = self.graph.node(tensor)
            if tensor.node not in inside:
                return " → ".join([node.path, *found[::-1]])
            found.append(self.caption(node))
            if len(node.inputs) > 1:
                ways = "; ".join(self.path(t, start, inside) for t in node.inputs)
                return " → ".join([f"({ways})", *found[::-1]])
            [tensor] = node.inputs
        return " → ".join(found[::-1]) or "h"

    def dense(self, scope: Scope) -> Iterator[str]:
        """The dense connections of a scope: their growth per layer."""
        joins = [m for m in scope.members if isinstance(m, Node) and isinstance(m.origin, tree.Dense)]
        if not joins:
            return
        channels = [self.layers.costs.shape(joins[0].inputs[0])[0]]
        channels += [self.layers.costs.shape(Tensor(j.id))[0] for j in joins]
        added = sorted({after - before for before, after in pairwise(channels)})
        each = str(added[0]) if len(added) == 1 else f"{added[0]} to {added[-1]}"
        yield from titled(
            "dense connections",
            f"h = [h; NN(h)]: {counted(len(joins), 'layer')}, each of which sees all channels so far and adds {each}",
            f"channels {' → '.join(map(str, channels if len(channels) < 9 else (channels[0], '…', channels[-1])))}",
            "nothing that was computed is changed: every later layer hands its gradient to each earlier one directly",
        )

    def members(self, scope: Scope) -> Iterator[str]:
        """One line each; combines consecutive equal ones."""
        rows: list[tuple[str, str, str, int]] = []
        for member in scope.members:
            if isinstance(member, Node):
                shape = self.layers.costs.shapes[member.id][0]
                what = member.operation.caption(max(1, len(shape) - 1))
            else:
                what = member.definition.name if member.definition else "{ … }"
                shape = self.layers.costs.shape(member.outputs[0]) if member.outputs else ()
            row = (member.name, what, shape_text(shape), self.layers.costs[member].macs)
            if rows and rows[-1][1:] == row[1:]:
                rows[-1] = (f"{rows[-1][0].partition(' … ')[0]} … {member.name}", *row[1:])
            else:
                rows.append(row)
        width = max((len(r[0]) for r in rows), default=0)
        column = max((len(r[1]) for r in rows), default=0)
        for name, what, text, macs in rows:
            tail = f"  {count_text(macs)} MACs" if macs else ""
            yield f"{name:{width}}  {what:{column}}  → {text}{tail}"

    # ------------------------------------------------------------ a model

    def model(self, root: Scope) -> Iterator[str]:
        total = self.layers.costs.total
        inputs = ", ".join(f"{n.name} {shape_text(self.layers.costs.shapes[n.id][0])}" for n in self.graph.input_nodes)
        results = ", ".join(
            f"{o.name} {shape_text(self.layers.costs.shape(o.tensor))}".removeprefix("None ")
            for o in self.graph.outputs
        )
        yield f"{self.graph.name}: {inputs} → {results}{self.where}"
        yield from documentation(root)
        nodes = list(self.graph.nodes())
        joins = sum(1 for n in nodes if n.operation.is_join and len(n.shapes) == 1)
        longest = self.longest()
        row = f" ({longest} of them in a row, on the longest way)" if longest < weighted(nodes) else ""
        yield from titled(
            "in numbers",
            f"{counted(weighted(nodes), 'layer')} with learned weights{row}, {counted(joins, 'join')} of branches",
            f"{counted(total.parameters, 'parameter')}, {self.products(root)} a sample",
        )
        lines = [line for stage in stages(self.layers) for line in self.stage(stage)]
        yield from titled("stages", *lines)
        if found := [self.skip(skip) for skip in skips(self.layers)]:
            why = (
                "the encoder knows where, the decoder what: each skip hands over a map from before it was made coarser"
            )
            yield from titled("skips across resolutions", why, *found)

    def longest(self) -> int:
        """The layers with learned weights on the longest way from an input to an output."""
        depth: dict[int, int] = {}
        for node in self.graph.nodes():
            depth[node.id] = max((depth[t.node] for t in node.inputs), default=0) + node.operation.is_weighted
        return max(depth.values(), default=0)

    def skip(self, skip: Skip) -> str:
        shape, brought = self.layers.costs.shape(skip.source), self.layers.costs.shape(skip.brought)
        cut = "" if shape == brought else f", brought to {shape_text(brought)},"
        around = self.layers.costs.shape(skip.coarsest)[1:]
        name = self.graph.node(skip.source).path
        to = f"{skip.join.path} ({skip.join.operation.name})"
        return f"{shape_text(shape)} of {name}{cut} to {to}; the other way goes down to {times(around)}"

    def stage(self, stage: Stage) -> Iterator[str]:
        """The stages: what happens at each resolution."""
        total = self.layers.costs.total
        first, last = stage.parts[0], stage.parts[-1]
        tensors = [t for part in stage.parts for t in outputs(part)]
        sizes = [times(size) or "flat" for size in stage.sizes]
        span = first.path if first is last else f"{first.path} … {last.path}"
        yield f"{sizes[0] if len(sizes) == 1 else f'{sizes[0]} … {sizes[-1]}'}: {span}"
        channels = [c for c, _ in groupby(self.layers.costs.shape(t)[0] for t in tensors)]
        line = f"channels {' → '.join(map(str, channels))}"
        if len(set(channels)) >= 6:
            line = f"channels {channels[0]} → … → {channels[-1]}"
        if stage.weighted:
            macs = f"{stage.macs / total.macs:.0%} of the MACs, " if total.macs else ""
            parameters = f"{stage.parameters / total.parameters:.0%} of the parameters"
            line += f"; weighted layers: {stage.weighted}, {macs}{parameters}"
        yield f"    {line}"
        seen = {numbers["field"] for numbers in (self.layers.field_columns(tensors[-1]) or {}).values()}
        if stage.weighted and len(seen) == 1:
            whole, _, through = seen.pop().partition(" (")
            more = f" ({through.rstrip(')')} through windows alone)" if through else ""
            yield f"    at its end an element sees {whole} of the input{more}"


def documentation(scope: Scope) -> Iterator[str]:
    """The documentation of a block or model."""
    if scope.definition is not None and scope.definition.syntax.doc:
        for line in scope.definition.syntax.doc.strip().splitlines():
            yield f"    {line.strip()}"


def shown(shapes: Iterator[Sequence[int]] | Sequence[Sequence[int]]) -> str:
    return "; ".join(map(shape_text, shapes))


def titled(title: str, *lines: str) -> Iterator[str]:
    yield f"  {title}"
    for line in lines:
        yield f"    {line}"
