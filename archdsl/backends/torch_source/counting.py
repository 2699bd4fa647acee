"""Loops that count from where the spec does: `for i in range(4, 12)` where every number takes `i + 4` of `range(8)`."""

from __future__ import annotations

from collections.abc import Iterator

from archdsl.backends.torch_source import expressions as ex
from archdsl.backends.torch_source.expressions import Binary, Const, Expr, Var
from archdsl.backends.torch_source.plan import Plan


def count_from_start(plan: Plan) -> None:
    """Lets each loop of a class count from a number that every use of its index adds."""
    for heading in plan.headings.values():
        starts: set[int] = set()
        bare = 0
        for expr in expressions(plan):
            for part in ex.parts(expr):
                match part:
                    case Binary("+", Var(name), Const(int(start))) if name == heading.index.name:
                        starts.add(start)
                        bare -= 1
                    case Var(name) if name == heading.index.name:
                        bare += 1
        if bare == 0 and len(starts) == 1:
            (heading.start,) = starts
            replace(plan, Binary("+", heading.index, Const(heading.start)), heading.index)


def expressions(plan: Plan) -> Iterator[Expr]:
    """All expressions of a class."""
    for made in plan.made.values():
        yield from made.values()
        yield from (piece for piece in made.name if not isinstance(piece, str))
    for conditions in plan.conditions.values():
        yield from conditions
    for heading in plan.headings.values():
        yield from heading.values()
    running = [heading.running for heading in plan.headings.values() if heading.running is not None]
    for number in [*running, *(r for found in plan.running.values() for r in found)]:
        yield from (e for e in (number.first, *number.after) if e is not None)


def replace(plan: Plan, old: Expr, new: Expr) -> None:
    """Writes one expression for another wherever it occurs in members and conditions."""

    def changed(expr: Expr) -> Expr:
        return ex.replaced(expr, old, new)

    for made in plan.made.values():
        made.arguments = [(name, changed(e)) for name, e in made.arguments]
        made.name = [piece if isinstance(piece, str) else changed(piece) for piece in made.name]
        made.std = changed(made.std) if made.std is not None else None
        made.layer = changed(made.layer) if made.layer is not None else None
    plan.conditions = {choice: [changed(e) for e in found] for choice, found in plan.conditions.items()}
    for heading in plan.headings.values():
        heading.count = changed(heading.count)
        heading.over = changed(heading.over) if heading.over is not None else None
        heading.columns = [(variable, changed(e)) for variable, e in heading.columns]
    running = [heading.running for heading in plan.headings.values() if heading.running is not None]
    for number in [*running, *(r for found in plan.running.values() for r in found)]:
        number.first = changed(number.first) if number.first is not None else None
        number.after = [changed(e) if e is not None else None for e in number.after]
