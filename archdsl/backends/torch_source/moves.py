"""Brings the layout of a network into its cells: forms with the channels last, and moves of axes between steps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from archdsl.analysis.layout import Layout
from archdsl.backends.torch_source.cells import (
    Borrowed,
    Cell,
    Reference,
    Sizes,
    Step,
    is_chain,
    size_references,
    with_size,
)
from archdsl.graph import Graph, Node, Rounds, Scope, Tensor
from archdsl.ops.forms import TorchForm
from archdsl.ops.move import Move


@dataclass(frozen=True, slots=True)
class Last(Tensor):
    """A tensor of the graph, with the channels last."""


def arrange(cells: Iterable[Cell], graph: Graph, layout: Layout) -> None:
    """Changes cells that have the channels first everywhere to those of a layout."""
    if layout.last:
        arranging = _Arranging(graph, layout, size_references(graph))
        for cell in cells:
            arranging.arrange(cell)


@dataclass(slots=True, eq=False)
class _Arranging:
    graph: Graph
    layout: Layout
    references: Mapping[Node, Sizes]

    def arrange(self, cell: Cell) -> None:
        scope, steps = cell.scope, cell.steps
        body = scope.definition.syntax.span if scope.definition is not None else scope.span
        cell.inputs = tuple(self.ordered(t, self.enters(scope, t)) for t in cell.inputs)
        cell.outputs = tuple(self.ordered(t, self.leaves(scope, t)) for t in cell.outputs)
        moved = [t for t in cell.inputs if (scope, scope, plain(t)) in self.layout.after]
        cell.steps = self.moves(scope, scope, map(self.turned, moved), body.start)
        for step in steps:
            self.add(cell, step)
        moved = [t for t in cell.outputs if (scope, scope, plain(t)) in self.layout.before]
        cell.steps += self.moves(scope, scope, moved, body.end)
        _name(cell.steps)
        cell.chain = is_chain(cell)

    def add(self, cell: Cell, step: Step) -> None:
        """Adds a step with its tensors in the order that it wants, the moves before it and those behind it."""
        scope = cell.scope
        member = step.member.scope if isinstance(step.member, Cell) else step.member
        assert not isinstance(member, Borrowed)  # these come later
        if isinstance(member, Reference):
            member = member.call
        if isinstance(member, Scope):
            step.inputs = tuple(self.ordered(t, self.enters(member, t)) for t in step.inputs)
            step.outputs = tuple(self.ordered(t, self.leaves(member, t)) for t in step.outputs)
        else:
            self.order(step, member, scope)
        ahead = [t for t in dict.fromkeys(step.inputs) if (scope, member, plain(t)) in self.layout.before]
        cell.steps += self.moves(scope, member, ahead, step.position, step.rounds)
        cell.steps.append(step)
        behind = [t for t in step.outputs if (scope, member, plain(t)) in self.layout.after]
        implied = step.site[2]
        end = step.position if implied else step.site[1]
        cell.steps += self.moves(scope, member, map(self.turned, behind), end, step.rounds, implied)

    def order(self, step: Step, node: Node, scope: Scope) -> None:
        """Gives the step of an operation its form and tensors; sizes are read in its present axis order."""
        is_last = node.id in self.layout.last
        if step.declares or step.calls:
            step.inputs = tuple(self.ordered(t, is_last) for t in step.inputs)
            step.outputs = tuple(self.ordered(t, is_last) for t in step.outputs)
            if is_last and step.declares:
                step.form = self.form(node, is_last, ())
            return
        sized = [self.ordered(t, self.stands_last(t, scope)) for t in step.inputs[len(node.inputs) :]]
        step.inputs = (*(self.ordered(t, is_last) for t in node.inputs), *sized)
        step.outputs = tuple(self.ordered(t, is_last) for t in step.outputs)
        if is_last or any(isinstance(t, Last) for t in sized):
            step.form = self.form(node, is_last, sized)

    def form(self, node: Node, is_last: bool, sized: Sequence[Tensor]) -> TorchForm:
        shapes = self.graph.shapes(node.inputs)
        find = node.operation.torch_last if is_last else node.operation.torch
        form = find(shapes, node.shapes)
        assert form is not None
        if not sized:
            return form
        text = self.references[node].text
        for number, tensor in enumerate(sized, 1):
            if isinstance(tensor, Last):
                text = text.replace(f"{{{number}}}.shape[2:]", f"{{{number}}}.shape[1:-1]")
                text = re.sub(rf"(?<=\{{{number}\}}\.shape\[)\d+(?=\])", lambda axis: str(int(axis[0]) - 1), text)
        return with_size(form, text)

    def moves(
        self,
        scope: Scope,
        member: Node | Scope,
        moved: Iterable[Tensor],
        at: int,
        rounds: Rounds | None = None,
        implied: str = "",
    ) -> list[Step]:
        """The steps that give these tensors, from those in the other order; `implied`: the operation behind which."""
        rounds = member.rounds if rounds is None else rounds
        found: list[Step] = []
        for number, tensor in enumerate(moved):
            operation, shape = Move(to_last=isinstance(tensor, Last)), self.graph.shape(tensor)
            name, source = operation.name, self.turned(tensor)  # no key depends on its name
            node = Node(-1, operation, (source,), (shape,), name, name, False, scope, member.span, rounds=rounds)
            site = (at, at, f"{name} {number} {implied}")
            found.append(Step(site, at, name, node, (source,), (tensor,), operation.torch((shape,), (shape,))))
        return found

    # ------------------------------------------------------------ orders

    def ordered(self, tensor: Tensor, is_last: bool) -> Tensor:
        """A tensor with the channels last or first; one of a single axis has only one order."""
        return Last(tensor.node, tensor.index) if is_last and len(self.graph.shape(tensor)) > 1 else plain(tensor)

    def turned(self, tensor: Tensor) -> Tensor:
        """The tensor in the other order."""
        return self.ordered(tensor, not isinstance(tensor, Last))

    def enters(self, scope: Scope, tensor: Tensor) -> bool:
        """Whether a tensor flows into a scope with the channels last; one that only gives a size comes as it is."""
        found = self.layout.entering.get((scope, tensor))
        if found is None:
            return scope.parent is not None and self.stands_last(tensor, scope.parent)
        return found

    def leaves(self, scope: Scope, tensor: Tensor) -> bool:
        """Whether a tensor flows out of a scope with the channels last; one that only gives a size as it is."""
        found = self.layout.leaving.get((scope, tensor))
        return self.stands_last(tensor, scope) if found is None else found

    def stands_last(self, tensor: Tensor, scope: Scope) -> bool:
        """Whether a tensor has the channels last where a scope gets it."""
        node = self.graph.node(tensor)
        if node.scope is scope:
            return node.id in self.layout.last
        child: Scope = node.scope
        while child.parent is not None and child.parent is not scope:
            child = child.parent
        return self.leaves(child, tensor) if child.parent is scope else self.enters(scope, tensor)


def plain(tensor: Tensor) -> Tensor:
    """A tensor of the graph."""
    return Tensor(tensor.node, tensor.index) if isinstance(tensor, Last) else tensor


def _name(steps: Sequence[Step]) -> None:
    """Names the moves, on which no key depends: by numbers, where the row of a scope's members leaves room for them."""
    moves = [s for s in steps if isinstance(s.member, Node) and isinstance(s.member.operation, Move)]
    if all(step in moves or step.name == str(i) for i, step in enumerate(steps)):
        for i, step in enumerate(steps):
            step.name = str(i)
        return
    base = "permute"
    while any(step.name.startswith(base) for step in steps if step not in moves):
        base += "_"
    for number, step in enumerate(moves):
        step.name = f"{base}{number}"
