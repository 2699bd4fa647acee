"""Checks of the finished graph: its valid input sizes, and unused tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostics, Fix, Mark, Proposal
from archdsl.dims import Choice, Dim, DimError, Region, SizeSet, evaluate, name_of
from archdsl.elaborate import call_notes, same_at
from archdsl.graph import Demand, FreeSize, Graph, Narrowing, Node, Tensor
from archdsl.ops.fields import shape_text

if TYPE_CHECKING:
    from archdsl.advice.sizes import Advice


def check(graph: Graph, demands: Sequence[Demand], diagnostics: Diagnostics) -> None:
    """Solves the demands into `graph.sizes` and finds unused tensors. Errors go to `diagnostics`."""
    solve(graph, demands, diagnostics)
    find_dead_ends(graph, diagnostics)


def solve(graph: Graph, demands: Sequence[Demand], diagnostics: Diagnostics) -> None:
    """Narrows the valid sizes by each demand: first those of evaluation, then those of training only."""
    solver = _Solver(graph, diagnostics, Region.everything([size.name for size in graph.free]))
    aside = _in_training_alone(graph, demands)
    for demand, training in zip(demands, aside, strict=True):
        if not training:
            solver.apply(demand, training=False)
    graph.sizes = solver.valid
    for demand, training in zip(demands, aside, strict=True):
        if training:
            solver.apply(demand, training=True)
    graph.training = solver.valid if solver.valid != graph.sizes else None
    graph.narrowings = tuple(solver.narrowings)
    _check_examples(graph, diagnostics)


def _in_training_alone(graph: Graph, demands: Sequence[Demand]) -> list[bool]:
    """The demands that count only in training."""
    if not all(output.tensor.node >= 0 for output in graph.outputs) or not (nodes := set(graph.of_training())):
        return [demand.error.training for demand in demands]
    always = {scope for node in graph.nodes() if node not in nodes for scope in node.scope.calls()}
    return [
        demand.error.training or (demand.scope not in always if demand.node is None else demand.node in nodes)
        for demand in demands
    ]


@dataclass(slots=True, eq=False)
class _Solver:
    """Applies the demands in turn. `valid` are the remaining sizes."""

    graph: Graph
    diagnostics: Diagnostics
    valid: Region
    narrowings: list[Narrowing] = field(default_factory=list)
    done: set[object] = field(default_factory=set)
    reported: set[object] = field(default_factory=set)

    def apply(self, demand: Demand, *, training: bool) -> None:
        if demand.constraint in self.done:
            return
        self.done.add(demand.constraint)
        where = (demand.span.source, demand.span.start, demand.span.end)
        if where in self.reported:
            return
        before = self.valid
        try:
            after = before.narrow(demand.constraint)
        except DimError as error:
            self.reported.add(where)
            advice = _advice(self.graph, demand, None)
            notes = [demand.error.message, *advice.notes, *call_notes(demand.scope)]
            self.diagnostics.error("E0309", error.message, *advice.marks, notes=notes, help=error.help or advice.help)
            return
        if after is None:
            # Leave the sizes unchanged, so that independent errors are still found.
            self.reported.add(where)
            _report_empty(self.graph, demand, before, self.narrowings, training, self.diagnostics)
            return
        for name in before:
            if after[name] != before[name]:
                self.narrowings.append(Narrowing(name, demand, before[name], after[name], training))
        for choice in after.choices:
            if choice not in before.choices:
                name = next(iter(choice.sets))
                self.narrowings.append(Narrowing(name, demand, after[name], after[name], training, choice))
        self.valid = after


def _advice(graph: Graph, demand: Demand, name: str | None) -> Advice:
    """The origin of a demand on a free size: a node, or a line of the spec (`expect`, an exact division)."""
    from archdsl.advice.sizes import Advice, advise  # only once something is wrong

    if demand.node is not None and demand.of_node:
        return advise(graph, demand.node, demand.error, name)
    return Advice((Mark(demand.span),), (), demand.error.help, ())


def _blame(graph: Graph, demand: Demand, name: str, notes: Sequence[str], diagnostics: Diagnostics) -> None:
    """Reports a demand on a free size that no size satisfies."""
    advice = _advice(graph, demand, name)
    merges = demand.of_node and demand.node is not None and demand.node.operation.inputs == "many"
    diagnostics.error(
        "E0301" if merges else "E0303",
        demand.error.message,
        *advice.marks,
        notes=[*advice.notes, *notes, *call_notes(demand.scope)],
        help=advice.help or "change this line, or the layers before it",
        proposals=advice.proposals,
    )


def _report_empty(
    graph: Graph,
    demand: Demand,
    before: Region,
    narrowings: Sequence[Narrowing],
    training: bool,
    diagnostics: Diagnostics,
) -> None:
    needed = f"this requires that {demand.constraint.text}{' in training' if training else ''}"
    names = sorted(demand.constraint.variables)
    name = names[0]
    earlier = [n.demand.span for n in narrowings if n.size in names]
    if earlier:
        conditions = [f"{name} must be {before[name].condition()}" for name in names]
        tied = [
            choice.describe() for choice in before.choices if not demand.constraint.variables.isdisjoint(choice.sets)
        ]
        needed += f"; but {' and '.join([*conditions, *tied])}, as last narrowed at {earlier[-1]}"
    else:
        needed += f", which holds for no {' and '.join(names)}"
    _blame(graph, demand, name, [needed], diagnostics)


def _check_examples(graph: Graph, diagnostics: Diagnostics) -> None:
    """Checks each example size. If a demand leaves only a handful of sizes, the demand is reported instead."""
    blamed: set[Span] = set()
    wrong = False
    for size in graph.free:
        valid = graph.always[size.name]
        example = size.example
        if example is None or example in valid:
            continue
        wrong = True
        cause = next(n for n in graph.narrowings if n.size == size.name and example not in n.after)
        demand = cause.demand
        if cause.after.maximum is not None and cause.before.maximum is None:
            if demand.span not in blamed:
                blamed.add(demand.span)
                alone = cause.after.describe().removeprefix("only ")
                _blame(graph, demand, size.name, [f"only {size.name} = {alone} satisfies this"], diagnostics)
            continue
        near = [n for n in valid.nearest(example) if n is not None]
        mode = " in training" if cause.training else ""
        diagnostics.error(
            "E0320",
            f"{size.name} = {example} is not a valid size{mode}: it must be {valid.condition()}",
            Mark(size.span, nearest_text(valid, example)),
            Mark(demand.span, f"here {size.name} must be {cause.after.condition()}"),
            notes=[demand.error.message, *_advice(graph, demand, size.name).notes, *call_notes(demand.scope)],
            proposals=write_size(size, near),
        )
    if not wrong and graph.always.choices:
        _check_examples_together(graph, diagnostics)


def _check_examples_together(graph: Graph, diagnostics: Diagnostics) -> None:
    """Checks that individually valid example sizes are valid together."""
    shown = {size.name: size.example for size in graph.free if size.example is not None}
    if graph.always.where(shown) is not None:
        return
    broken = graph.always.failing({**graph.always.near(dict.fromkeys(graph.sizes, 64)), **shown})
    cause = next(n for n in graph.narrowings if n.choice is not None and broken in (None, n.choice))
    choice, demand = broken or cause.choice, cause.demand
    assert choice is not None
    sizes = [size for size in graph.free if size.name in choice.sets and size.name in shown]
    values = ", ".join(f"{size.name} = {size.example}" for size in sizes)
    mode = " in training" if cause.training else ""
    proposals: list[Proposal] = []
    for size in reversed(sizes):
        # With all others fixed, is there a valid value for this one?
        left = graph.always.where({name: value for name, value in shown.items() if name != size.name})
        if left is not None and size.example is not None:
            near = [n for n in left[size.name].nearest(size.example) if n is not None]
            proposals += write_size(size, near)
    diagnostics.error(
        "E0320",
        f"{values}: these sizes are not valid together{mode}: {must_be(choice)}",
        *(Mark(size.span) for size in sizes),
        Mark(demand.span, f"here {must_be(choice)}"),
        notes=[demand.error.message, *call_notes(demand.scope)],
        proposals=proposals,
    )


def write_size(size: FreeSize, near: Sequence[int]) -> list[Proposal]:
    """Other values for an example size, largest first."""
    return [Proposal(f"write `{size.name} = {n}`", Fix(size.span, f"{size.name} = {n}")) for n in reversed(near)]


def must_be(choice: Choice) -> str:
    """`H or W must be at least 2`."""
    return choice.describe(" must be")


def nearest_text(valid: SizeSet, size: int) -> str:
    """`the nearest valid sizes are 96 and 112`."""
    near = [str(n) for n in valid.nearest(size) if n is not None]
    if len(near) == 2:
        return f"the nearest valid sizes are {near[0]} and {near[1]}"
    return f"the nearest valid size is {near[0]}" if near else "no size is valid"


def pin(graph: Graph, given: Sequence[Sequence[int]]) -> dict[str, int]:
    """The free sizes of a checked graph for inputs of these sizes, one for each input; empty if none is given.

    Raises SpecError if they do not match the inputs or are not valid.
    """
    diagnostics = Diagnostics()
    values: dict[str, int] = {}

    def fits(size: int, wanted: Dim) -> bool:
        if isinstance(wanted, int):
            return size == wanted
        if name := name_of(wanted):
            return values.setdefault(name, size) == size
        return wanted.variables <= values.keys() and evaluate(wanted, values) == size

    inputs = graph.input_nodes if given else []
    if len(given) != len(inputs):
        names = ", ".join(f"`{n.name}`" for n in inputs)
        diagnostics.error("E0321", f"`{graph.name}` takes {names}: give a size for each, in this order")
    for node, sizes in zip(inputs, given, strict=False):
        shape = graph.shape(Tensor(node.id))
        if len(shape) != len(sizes) or not all(map(fits, sizes, shape)):
            message = f"the input `{node.name}` is {shape_text(shape)}, which {list(sizes)} does not fit"
            example = "x".join(str(evaluate(d, graph.examples)) for d in shape)
            help = f"channels first, without the batch: {example}, say"
            diagnostics.error("E0321", message, node.span, help=help)
    for name, value in values.items():
        valid = graph.always[name]
        if value not in valid:
            message = f"{name} = {value} is not a valid size of `{graph.name}`: it must be {valid.condition()}"
            if value in graph.sizes[name]:
                message = (
                    f"{name} = {value} is a valid size of `{graph.name}` in evaluation only: in training, which "
                    f"the counts include, it must be {valid.condition()}"
                )
            diagnostics.error("E0320", message, help=nearest_text(valid, value))
    if not diagnostics.errors and given and (broken := graph.always.failing({**graph.examples, **values})) is not None:
        named = ", ".join(f"{name} = {values[name]}" for name in broken.sets if name in values)
        mode = "" if graph.sizes.failing({**graph.examples, **values}) else " in training"
        diagnostics.error("E0320", f"{named} is not a valid size of `{graph.name}`{mode}: {must_be(broken)}")
    diagnostics.stop_on_errors()
    return values


def find_dead_ends(graph: Graph, diagnostics: Diagnostics) -> None:
    """Reports every node on which no output depends, at the end of its chain."""
    wanted = {output.tensor.node for output in graph.outputs if output.tensor.node >= 0}
    if not wanted or diagnostics.errors:
        return
    live = set(wanted)
    # Ids are in topological order, so reversed order visits a tensor's readers before its node.
    for node in reversed(list(graph.nodes())):
        if node.id in live:
            live.update(tensor.node for tensor in node.inputs)
    used = {tensor.node for node in graph.nodes() for tensor in node.inputs}
    ends: dict[Span, list[Node]] = {}
    for node in graph.nodes():
        if node.id not in live and node.id not in used:
            ends.setdefault(node.span, []).append(node)
    for span, nodes in ends.items():
        node = nodes[0]
        is_input = node.operation.is_input
        what = f"the input `{node.name}`" if is_input else f"the result of `{node.operation.name}` (`{node.path}`)"
        diagnostics.error(
            "E0401",
            f"nothing uses {what}",
            Mark(span, f"gives {shape_text(graph.shape(Tensor(node.id)))}"),
            notes=[*call_notes(node.scope), *(same_at([n.path for n in g]) for g in [nodes[1:]] if g)],
            help="remove it, use it below, or make it an output",
        )
