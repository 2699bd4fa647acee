"""The `forward` of a class that is an nn.Sequential, and what it shares with every other one: head and features."""

from __future__ import annotations

from collections.abc import Sequence

from archdsl.backends.python import tree as py
from archdsl.backends.python.templates import code
from archdsl.backends.python.tree import call
from archdsl.backends.torch_source.checks import check_calls
from archdsl.backends.torch_source.classes import in_series
from archdsl.backends.torch_source.constructor import Constructor
from archdsl.backends.torch_source.plan import Plan

TENSOR = py.Var("Tensor")
RECOMPUTED_LAYERS = "recomputed_layers"
"""The function that recomputes layers in series."""
RECOMPUTED_FEATURES = "recomputed_features"
"""The one that does so for the layers at the start of a dense connection's body."""


def of_sequence(made: Constructor) -> py.Function | None:
    """The `forward` of a class that is an nn.Sequential, where it has to check its input, or runs again."""
    checks = check_calls(made.file.checks, ["input"]) if made.is_model else []
    gathers = made.plan.cells[0].grows
    parts = features_line(made.plan, "x")
    series = in_series(made.plan.cells[0])
    if not (checks or made.plan.cells[0].recomputed or series):
        return None
    # nn.Sequential's own forward has no types, so that strict type checkers refuse a call of it.
    x = py.Var("x" if gathers else "input")
    loop = layers_in_turn(made.plan, x) if series else [each_layer(x, py.Var("self"))]
    return method(made.plan, ["*features" if gathers else x.name], TENSOR, [*checks, *parts, *loop, py.Do(x, "return")])


def each_layer(x: py.Var, layers: py.Expr) -> py.Statement:
    """Calls layers one after the other."""
    return py.For(py.Var("layer"), layers, [py.Assign(x, call("layer", x))])


def layers_in_turn(plan: Plan, x: py.Var) -> list[py.Statement]:
    """Calls the layers of an nn.Sequential, some of them recomputed in series."""
    counts = {len(cell.steps) for cell in plan.cells}
    layers, end = py.Var("layers"), counts.pop() if len(counts) == 1 else None
    found: list[py.Statement] = [py.Assign(layers, code("list(self)"))]
    done = 0
    for start, stop in sorted(in_series(plan.cells[0])):
        found += some_layers(x, done, start)
        those = py.Star(part_of(layers, start, stop))
        of_features = recomputes_features(plan) and not start
        given = (
            call(RECOMPUTED_FEATURES, py.Var("features"), those) if of_features else call(RECOMPUTED_LAYERS, x, those)
        )
        found.append(py.Assign(x, given))
        done = stop
    return [*found, *some_layers(x, done, end)]


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
