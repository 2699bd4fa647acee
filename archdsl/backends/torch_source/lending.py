"""Layers that a class runs though they are members of a class within: those of a series across the borders of blocks.

A class that lends its first or last layers leaves them out of its `forward`. An nn.Sequential keeps its steps, and
calls the others; any other class has its steps laid out: what it lends is only declared, and what it borrows is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from archdsl.backends.torch_source.cells import Borrowed, Cell, Crossing, Step
from archdsl.graph import Node, Scope, Tensor
from archdsl.graph.series import Series, scope_of
from archdsl.ops.forms import FunctionForm


def lend(cells: Iterable[Cell], found: Iterable[Series]) -> None:
    """Lets the cells of these scopes run the series among these that cross the borders of blocks."""
    by_scope = {cell.scope: cell for cell in cells}
    for series in sorted((s for s in found if s.crosses), key=lambda s: next(s.nodes()).id):
        _lend(by_scope, series)


def _lend(found: Mapping[Scope, Cell], series: Series) -> None:
    """Lets the cell of the scope around a series run it, instead of the cells within."""
    around = found[series.scope]
    ways = [_way_to(found, member, around) for member in series.members]
    steps: list[Step] = []
    for way in ways:
        (_, host), (cell, step) = way[0], way[-1]
        if cell is around:
            steps.append(step)
            step.given = series.given in step.outputs
            continue
        cell.lent.append(step)
        cell.key = ("lends", cell.steps.index(step), cell.key)
        borrowed = Borrowed(way, host.rounds)
        site = *host.site[:2], f"{host.site[2]} {borrowed.path}"
        form = FunctionForm("{0}")
        steps.append(Step(site, host.position, step.name, borrowed, step.inputs, step.outputs, form))
        steps[-1].given = series.given in step.outputs
    around.crossing.append(Crossing(tuple(steps), ways[0][0][1], ways[-1][0][1]))


def _way_to(found: Mapping[Scope, Cell], member: Node | Scope, around: Cell) -> tuple[tuple[Cell, Step], ...]:
    """The steps that lead from a cell to a member of it, or of a cell within, each with the cell that it is in."""
    scopes = [s for s in scope_of(member).calls() if around.scope in s.calls()][::-1]
    members: list[Node | Scope] = [*scopes[1:], member]
    return tuple([(found[s], _step_of(found[s], m)) for s, m in zip(scopes, members, strict=True)])


def _step_of(cell: Cell, member: Node | Scope) -> Step:
    """The step of a cell that is a member of its scope."""
    return next(s for s in cell.steps if (s.member.scope if isinstance(s.member, Cell) else s.member) is member)


def lay_out(cell: Cell) -> None:
    """Makes steps of what a cell borrows, and only declares what it lends."""
    if cell.laid_out:
        return
    cell.laid_out = True
    for crossing in cell.crossing:
        _borrow(cell, crossing)
    takes = [(step, step.inputs) for step in cell.lent]
    for step, taken in takes:
        _withdraw(cell, step, taken)


def _borrow(cell: Cell, crossing: Crossing) -> None:
    """Calls the layers of a series among the steps of a cell.

    What flows out of the step that lends the first ones is what flows into these, and what flows into the one that
    lends the last ones is what flows out of these.
    """
    steps, first, last = crossing.steps, crossing.first, crossing.last
    for place, step in enumerate(steps):
        step.series = place, len(steps)
    if first not in steps:
        first.outputs = (steps[0].inputs[0],)
        ahead = [s for s in steps if isinstance(s.member, Borrowed) and s.member.way[0][1] is first]
        at = cell.steps.index(first) + 1
        cell.steps[at:at] = ahead
    if last not in steps:
        takes = steps[-1].outputs[0]
        behind = [s for s in steps if isinstance(s.member, Borrowed) and s.member.way[0][1] is last]
        entering = behind[0].inputs[-1]
        last.inputs = tuple(takes if t == entering else t for t in last.inputs)
        at = cell.steps.index(last)
        cell.steps[at:at] = behind


def _withdraw(cell: Cell, step: Step, taken: tuple[Tensor, ...]) -> None:
    """Only declares a step at the beginning or the end of a cell: what flows in there flows out."""
    (came,), (gone,) = step.inputs, step.outputs
    for other in cell.steps:
        if other is not step:
            other.inputs = tuple(came if t == gone else t for t in other.inputs)
    cell.outputs = tuple(came if t == gone else t for t in cell.outputs)
    step.inputs, step.outputs, step.takes = (), (), taken
