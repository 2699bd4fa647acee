"""The finished graph: which input sizes it is valid for, and whether everything in it leads somewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archdsl.advice import Advice, advise
from archdsl.diagnostics import Diagnostics, Fix, Mark, Proposal
from archdsl.dims import Dim, DimError, SizeSet, evaluate, free
from archdsl.elaborate import call_notes, same_at
from archdsl.graph import Demand, Graph, Narrowing, Node, Tensor
from archdsl.mending import show_shape
from archdsl.source import Span


def check(graph: Graph, demands: Sequence[Demand], diagnostics: Diagnostics) -> None:
    """Solves the demands into `graph.sizes` and looks for what leads nowhere. Mistakes go to `diagnostics`."""
    solve(graph, demands, diagnostics)
    find_dead_ends(graph, diagnostics)


def solve(graph: Graph, demands: Sequence[Demand], diagnostics: Diagnostics) -> None:
    """Narrows the set of each free size by each demand, in order of the network."""
    sets = {size.name: SizeSet.everything() for size in graph.free}
    narrowings: list[Narrowing] = []
    done: set[object] = set()
    reported: set[object] = set()
    for demand in demands:
        if demand.constraint in done:
            continue
        done.add(demand.constraint)
        where = (demand.span.source, demand.span.start, demand.span.end)
        if where in reported:
            continue
        try:
            name, before, after = _narrow(demand, sets)
        except DimError as error:
            reported.add(where)
            advice = _advice(graph, demand, None)
            notes = [demand.error.message, *advice.notes, *call_notes(demand.scope)]
            diagnostics.error("E0309", error.message, *advice.marks, notes=notes, help=error.help or advice.help)
            continue
        if after.is_empty:
            # The set stays as it was, so that what is independent of this mistake is still found.
            reported.add(where)
            _report_empty(graph, demand, name, before, narrowings, diagnostics)
        elif after != before:
            sets[name] = after
            narrowings.append(Narrowing(name, demand, before, after))
    graph.sizes = sets
    graph.narrowings = tuple(narrowings)
    _check_examples(graph, diagnostics)


def _narrow(demand: Demand, sets: Mapping[str, SizeSet]) -> tuple[str, SizeSet, SizeSet]:
    variables = sorted(demand.constraint.variables)
    before = sets[variables[0]]
    return variables[0], before, demand.constraint.narrow(before)


def _advice(graph: Graph, demand: Demand, name: str | None) -> Advice:
    """Where a demand on a free size comes from: a node, or a line of the spec (`expect`, an exact division)."""
    if demand.node is not None and demand.of_node:
        return advise(graph, demand.node, demand.error, name)
    return Advice((Mark(demand.span),), (), demand.error.help, ())


def _blame(graph: Graph, demand: Demand, name: str, notes: Sequence[str], diagnostics: Diagnostics) -> None:
    """Reports a demand on a free size that cannot be met."""
    advice = _advice(graph, demand, name)
    merges = demand.of_node and demand.node is not None and demand.node.operation.inputs == "many"
    diagnostics.error(
        "E0301" if merges else "E0303",
        demand.error.message,
        *advice.marks,
        notes=[*advice.notes, *notes, *call_notes(demand.scope)],
        help=advice.help or "change this line, or what gives the tensor its size",
        proposals=advice.proposals,
    )


def _report_empty(
    graph: Graph,
    demand: Demand,
    name: str,
    before: SizeSet,
    narrowings: Sequence[Narrowing],
    diagnostics: Diagnostics,
) -> None:
    needed = f"needed is that {demand.constraint.text}"
    earlier = [n.demand.span for n in narrowings if n.size == name]
    if earlier:
        needed += f"; but {name} must be {before.condition()} already, last narrowed at {earlier[-1]}"
    else:
        needed += f", which holds for no {name}"
    _blame(graph, demand, name, [needed], diagnostics)


def _check_examples(graph: Graph, diagnostics: Diagnostics) -> None:
    """A size to show has to be valid. Where a demand leaves a handful of sizes, the demand is what is wrong."""
    blamed: set[Span] = set()
    for size in graph.free:
        valid = graph.sizes[size.name]
        example = size.example
        if example is None or example in valid:
            continue
        cause = next(n for n in graph.narrowings if n.size == size.name and example not in n.after)
        demand = cause.demand
        if cause.after.maximum is not None and cause.before.maximum is None:
            if demand.span not in blamed:
                blamed.add(demand.span)
                alone = cause.after.describe().removeprefix("only ")
                _blame(graph, demand, size.name, [f"this fits for {size.name} = {alone} alone"], diagnostics)
            continue
        near = [n for n in valid.nearest(example) if n is not None]
        diagnostics.error(
            "E0320",
            f"{size.name} = {example} is not a valid size: it must be {valid.condition()}",
            Mark(size.span, nearest_text(valid, example)),
            Mark(demand.span, f"here {size.name} must be {cause.after.condition()}"),
            notes=[demand.error.message, *_advice(graph, demand, size.name).notes, *call_notes(demand.scope)],
            proposals=[
                Proposal(f"write `{size.name} = {n}`", Fix(size.span, f"{size.name} = {n}")) for n in near[::-1]
            ],
        )


def nearest_text(valid: SizeSet, size: int) -> str:
    """`the nearest valid sizes are 96 and 112`."""
    near = [str(n) for n in valid.nearest(size) if n is not None]
    if len(near) == 2:
        return f"the nearest valid sizes are {near[0]} and {near[1]}"
    return f"the nearest valid size is {near[0]}" if near else "no size is valid"


def pin(graph: Graph, given: Sequence[Sequence[int]]) -> dict[str, int]:
    """The free sizes of a checked graph for inputs of these sizes, one for each input; nothing where none is given.

    Raises SpecError where they do not fit the inputs, or lie outside the valid sizes.
    """
    diagnostics = Diagnostics()
    values: dict[str, int] = {}

    def fits(size: int, wanted: Dim) -> bool:
        if isinstance(wanted, int):
            return size == wanted
        if wanted == free(wanted.variable):
            return values.setdefault(wanted.variable, size) == size
        return wanted.variable in values and evaluate(wanted, values) == size

    inputs = graph.input_nodes if given else []
    if len(given) != len(inputs):
        names = ", ".join(f"`{n.name}`" for n in inputs)
        diagnostics.error("E0321", f"`{graph.name}` takes {names}: give a size for each, in this order")
    for node, sizes in zip(inputs, given, strict=False):
        shape = graph.shape(Tensor(node.id))
        if len(shape) != len(sizes) or not all(map(fits, sizes, shape)):
            message = f"the input `{node.name}` is {show_shape(shape)}, which {list(sizes)} does not fit"
            example = "x".join(str(evaluate(d, graph.examples)) for d in shape)
            help = f"channels first, without the batch: {example}, say"
            diagnostics.error("E0321", message, node.span, help=help)
    for name, value in values.items():
        valid = graph.sizes[name]
        if value not in valid:
            message = f"{name} = {value} is not a valid size of `{graph.name}`: it must be {valid.condition()}"
            diagnostics.error("E0320", message, help=nearest_text(valid, value))
    diagnostics.stop_on_errors()
    return values


def find_dead_ends(graph: Graph, diagnostics: Diagnostics) -> None:
    """Reports every node that leads to no output, where its way ends."""
    wanted = {output.tensor.node for output in graph.outputs if output.tensor.node >= 0}
    if not wanted or diagnostics.errors:
        return
    live = set(wanted)
    # Ids are in topological order, so what reads a tensor is met before what gives it.
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
        is_input = node.operation.name == "input"
        what = f"the input `{node.name}`" if is_input else f"the result of `{node.operation.name}` (`{node.path}`)"
        diagnostics.error(
            "E0401",
            f"nothing uses {what}",
            Mark(span, f"gives {show_shape(graph.shape(Tensor(node.id)))}"),
            notes=[*call_notes(node.scope), *(same_at([n.path for n in g]) for g in [nodes[1:]] if g)],
            help="take it away, use it further down, or make it an output",
        )


def verify(graph: Graph) -> None:
    """Asserts the invariants of a checked graph: what every later pass relies on."""
    paths: set[str] = set()
    for node in graph.nodes():
        assert all(t.node < node.id and t.index < len(graph.node(t).shapes) for t in node.inputs)
        assert node.operation.name == "input" or node.path not in paths, node.path
        paths.add(node.path)
    assert graph.outputs and not any(scope.lost for scope in graph.root.scopes())
