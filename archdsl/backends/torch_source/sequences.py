"""The `forward` of a class that is an nn.Sequential, and what it shares with every other one: head and features."""

from __future__ import annotations

from collections.abc import Sequence

from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call
from archdsl.backends.torch_source.cells import Borrowed, Cell, Crossing
from archdsl.backends.torch_source.checks import check_calls
from archdsl.backends.torch_source.classes import in_series
from archdsl.backends.torch_source.constructor import Constructor
from archdsl.backends.torch_source.file import File
from archdsl.backends.torch_source.helpers import IN_SERIES
from archdsl.backends.torch_source.plan import Plan
from archdsl.backends.torch_source.recomputing import RECOMPUTED_LAYERS, called, of_features

TENSOR = py.Var("Tensor")


def of_sequence(made: Constructor) -> py.Function | None:
    """The `forward` of a class that is an nn.Sequential, where it does more than to call its layers in turn."""
    checks = check_calls(made.file.checks, ["input"]) if made.is_model else []
    gathers = made.plan.cells[0].grows
    parts = features_line(made.plan, "x")
    cell = made.plan.cells[0]
    if not (checks or cell.recomputed or cell.recomputes or cell.lent):
        return None
    # nn.Sequential's own forward has no types, so that strict type checkers refuse a call of it.
    x = py.Var("x" if gathers else "input")
    in_turn = cell.recomputes or cell.lent
    loop = layers_in_turn(made.file, made.plan, x) if in_turn else [each_layer(x, py.Var("self"))]
    taken = ["*features" if gathers else x.name]
    return method(made.plan, taken, TENSOR, [*lends(cell), *checks, *parts, *loop, py.Do(x, "return")])


def lends(cell: Cell) -> list[py.Statement]:
    """The docstring of a `forward` that leaves out layers of its class."""
    return [py.Doc("Without the layers that the module around recomputes with others.")] if cell.lent else []


def each_layer(x: py.Var, layers: py.Expr) -> py.Statement:
    """Calls layers one after the other."""
    return py.For(py.Var("layer"), layers, [py.Assign(x, call("layer", x))])


def layers_in_turn(file: File, plan: Plan, x: py.Var) -> list[py.Statement]:
    """Calls the layers of an nn.Sequential, some of them recomputed in series, without those that it lends."""
    cell = plan.cells[0]
    own = [i for i, step in enumerate(cell.steps) if step not in cell.lent]
    if not own:
        return []
    to_end = own[-1] + 1 == len(cell.steps) and len({len(c.steps) for c in plan.cells}) > 1
    layers, done, end = py.Var("layers"), own[0], None if to_end else own[-1] + 1
    rows: list[tuple[int, int, list[py.Expr]]] = []
    rows += [(start, stop, [py.Star(part_of(layers, start, stop))]) for start, stop in in_series(cell)]
    rows += [row_across(file, cell, crossing, layers) for crossing in cell.crossing]
    found: list[py.Statement] = [py.Assign(layers, code("list(self)"))]
    for start, stop, those in sorted(rows, key=lambda row: row[:2]):
        found += some_layers(x, done, start)
        if recomputes_features(plan) and not start:
            found.append(py.Assign(x, of_features(file, those)))
        else:
            file.helper(IN_SERIES)
            found.append(py.Assign(x, call(RECOMPUTED_LAYERS, x, *those)))
        done = stop
    return [*found, *some_layers(x, done, end)]


def row_across(file: File, cell: Cell, crossing: Crossing, layers: py.Var) -> tuple[int, int, list[py.Expr]]:
    """The layers of a series across the borders of members, with the place where it begins, and where it ends."""
    places = [cell.steps.index(step) for step in crossing.steps if step in cell.steps]
    start = places[0] if places else cell.steps.index(crossing.last)
    those = [
        step.member if isinstance(step.member, Borrowed) else code(f"{{0}}[{cell.steps.index(step)}]", layers)
        for step in crossing.steps
    ]
    return start, places[-1] + 1 if places else start, called(file, those)


def some_layers(x: py.Var, start: int, stop: int | None) -> list[py.Statement]:
    """Calls the layers from `start` to before `stop`, or to the last one."""
    if start == stop:
        return []
    if stop == start + 1:
        return [py.Assign(x, code(f"layers[{start}]({{0}})", x))]
    return [each_layer(x, part_of(py.Var("layers"), start, stop))]


def part_of(layers: py.Var, start: int, stop: int | None) -> py.Expr:
    return code(f"{{0}}[{start or ''}:{'' if stop is None else stop}]", layers)


def method(plan: Plan, inputs: Sequence[str], result: py.Expr, body: list[py.Statement]) -> py.Function:
    parameters = [py.Parameter("self"), *(py.Parameter(name, TENSOR) for name in inputs)]
    return py.Function("forward", parameters, result, body, py.Var("recomputed") if plan.cells[0].recomputed else None)


def features_line(plan: Plan, name: str) -> list[py.Statement]:
    """Where the body of a dense connection puts the features together that flow in one by one."""
    apart = not plan.cells[0].grows or recomputes_features(plan)
    return [] if apart else [py.Assign(py.Var(name), code("torch.cat(features, 1)"))]


def recomputes_features(plan: Plan) -> bool:
    """Whether the layers that take the features are recomputed with what puts these together."""
    first = next((step for step in plan.cells[0].steps if not step.declares), None)
    return plan.cells[0].grows and first is not None and first.series is not None
