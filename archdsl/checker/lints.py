"""Warnings: legal specs that are probably a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from functools import cache, partial

from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostic, Fix, Mark, Proposal, renamed
from archdsl.dims import Dim, DimError
from archdsl.elaborate import call_notes
from archdsl.elaborate.spec_files import SpecFile
from archdsl.graph import Graph, Node, Tensor
from archdsl.ops import OPERATIONS
from archdsl.ops.fields import shape_text
from archdsl.ops.sizes import several_positions
from archdsl.syntax import tree
from archdsl.syntax.walk import given, labels, names, parts
from archdsl.values import BUILTINS, BlockValue, FunctionValue, MemberValue
from archdsl.values.evaluation import words

TINY = 4
"""A network that accepts only sizes up to this one is probably a mistake."""


def lints(graph: Graph, spec_file: SpecFile) -> tuple[Diagnostic, ...]:
    """The warnings of a checked graph and of its file."""
    return (
        *tiny_sizes(graph),
        *lone_positions(graph),
        *forgotten_flattens(graph),
        *unused_names(graph),
        *pytorch_order(graph),
        *uncalled(graph, spec_file),
    )


def tiny_sizes(graph: Graph) -> Iterator[Diagnostic]:
    """Free sizes without an example size for which a line of the spec leaves almost no values."""
    for free in graph.free:
        most = graph.always[free.name].maximum
        if free.example is None and most is not None and most <= TINY:
            cause = next(n for n in graph.narrowings if n.size == free.name and n.after.maximum is not None)
            alone = graph.always[free.name].describe().removeprefix("only ")
            demand = cause.demand
            advice = "make the sizes equal with `align`, or give both branches the same stride and padding"
            yield warning(
                "W0601",
                f"only {free.name} = {alone} is valid",
                Mark(demand.span, "because of this"),
                Mark(free.span, f"if this is intended, state it: `{free.name} = 64`"),
                notes=[demand.error.message, *call_notes(demand.scope)],
                help=demand.error.mends[0].help if demand.error.mends else advice,
            )


def lone_positions(graph: Graph) -> Iterator[Diagnostic]:
    """The first batchnorm over one position per sample, for any input: PyTorch rejects a batch of 1."""
    is_lone = cache(partial(_is_lone, graph))  # most maps of a network have one of few sizes
    counting = [node for node in graph.nodes() if node.operation.uses_batch]
    found = [node for node in counting if is_lone(graph.shape(node.inputs[0])[1:])]
    if not found:
        return
    node = found[0]
    notes = ["its mean and variance are computed over the batch only, and a single number has no variance"]
    if len(found) > 1:
        notes.append(f"{len(found)} batchnorms have this problem")
    yield warning(
        "W0603",
        "`batchnorm` over one position: a training batch of 1 fails",
        Mark(node.span, f"{shape_text(graph.shape(node.inputs[0]))} comes in"),
        notes=[*notes, *call_notes(node.scope)],
        help="train with batches of 2 or more (a loader with `drop_last`), or use `groupnorm` or `layernorm` here",
    )


def _is_lone(graph: Graph, sizes: tuple[Dim, ...]) -> bool:
    """Whether axes have one position in total, for every valid input."""
    try:
        several = several_positions(sizes)
        return not several if isinstance(several, bool) else graph.always.narrow(several) is None
    except DimError:  # too complex to know
        return False


def forgotten_flattens(graph: Graph) -> Iterator[Diagnostic]:
    """The first layer of a head without a `flatten`: a `linear` on a map, and an output that nothing used as a map."""
    flat = [(node, node.call) for node in graph.nodes() if node.operation.expects_flat and node.call is not None]
    on_maps = [(node, call) for node, call in flat if len(graph.shape(node.inputs[0])) > 2]
    if not on_maps:
        return
    outputs = {output.tensor for output in graph.outputs}
    readers: dict[Tensor, list[Node]] = {}
    for node in graph.nodes():
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(node)
    for node, call in on_maps:
        last = Tensor(node.id)
        while len(after := readers.get(last, [])) == 1 and _at_each_position(graph, after[0]):
            last = Tensor(after[0].id)
        if last in outputs and not after:
            from archdsl.advice.mending import before_item  # only once something is wrong

            shape = graph.shape(node.inputs[0])
            is_known = all(isinstance(size, int) for size in shape)
            items = "flatten" if is_known else "global_avgpool -> flatten"
            advice = f"for one result per sample put `{items}` before it"
            yield warning(
                "W0608",
                f"`{node.operation.name}` is applied at each position, and the output is a map: "
                f"{shape_text(graph.shape(last))}",
                Mark(node.span, f"{shape_text(shape)} comes in"),
                notes=call_notes(node.scope),
                help=f"{advice}; for a map of results use a `conv` with a kernel of 1",
                proposals=[Proposal(advice, Fix(before_item(call), f"{items} -> "))],
            )
            return


def _at_each_position(graph: Graph, node: Node) -> bool:
    """Whether a node computes each position of one tensor from the same position alone."""
    shapes = graph.shapes(node.inputs)
    return (
        len(shapes) == len(node.shapes) == 1
        and node.operation.window(shapes) is None
        and graph.shape(Tensor(node.id))[1:] == shapes[0][1:]
    )


def unused_names(graph: Graph) -> Iterator[Diagnostic]:
    """Parameters of models and blocks, and values of `let`s in them, that nothing in their text uses.

    Only in the model's file. Blocks that are passed to be called by others share their parameters with these.
    """
    file = graph.root.span.source
    scopes = list(graph.root.scopes())
    passed = {id(b.syntax) for scope in scopes for b in blocks(scope.arguments.values())}
    definitions = {id(s.definition.syntax): s.definition.syntax for s in scopes if s.definition is not None}
    for key, syntax in definitions.items():
        if syntax.span.source is not file:
            continue
        inside = list(parts([[p.default for p in syntax.parameters], syntax.body]))
        used = {part.name for part in inside if isinstance(part, tree.Name)}
        for part in inside:
            if isinstance(part, tree.Share) and unused(part.name, used):
                yield unused_name(f"the shared `{part.name.name}`", part.name.span)
        for parameter in syntax.parameters if key not in passed else ():
            if unused(parameter.name, used):
                yield unused_name(f"the parameter `{parameter.name.name}` of `{syntax.name.name}`", parameter.name.span)
        for let in (part for part in inside if isinstance(part, tree.Let)):
            if tensor_in(let, syntax):
                yield useless_let(let)
            elif unused(let.name, used):
                yield unused_name(f"`{let.name.name}`", let.name.span)


def unused(name: tree.Name, used: set[str]) -> bool:
    return name.name not in used and not name.name.startswith("_")


def unused_name(what: str, span: Span) -> Diagnostic:
    return warning("W0602", f"nothing uses {what}", Mark(span), help="remove it, or begin its name with `_`")


def warning(
    code: str,
    message: str,
    *marks: Mark,
    notes: Iterable[str] = (),
    help: str | None = None,
    proposals: Iterable[Proposal] = (),
) -> Diagnostic:
    return Diagnostic(code, message, marks, tuple(notes), help, severity="warning", proposals=tuple(proposals))


def blocks(values: Iterable[object]) -> Iterator[BlockValue]:
    """The blocks among values, including nested lists."""
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, BlockValue):
            yield value
        elif isinstance(value, tuple):
            stack.extend(value)


# ---------------------------------------------------------------- tensors in values


def tensor_in(let: tree.Let, syntax: tree.Block | tree.Model) -> bool:
    """Whether a `let` holds tensors whose sizes nothing reads, so that it has no use."""
    items = let.value.items if isinstance(let.value, tree.ListValue) else (let.value,)
    known = {"it"} | labels(syntax.body) | {t.name.name for t in parts(syntax.body) if isinstance(t, tree.InputTensor)}
    if not any(isinstance(i, tree.Name) and i.name in known for i in items):
        return False
    asked = (part.base for part in parts(syntax.body) if isinstance(part, tree.Attribute))
    return not any(name.name == let.name.name for base in asked for name in names(base))


def useless_let(let: tree.Let) -> Diagnostic:
    name = let.name.name
    proposals = []
    if isinstance(let.value, tree.Name) and let.value.name == "it":
        proposals = [Proposal(f"a label names a tensor: `{name}: {{ }}`", Fix(let.span, f"{name}: {{ }}"))]
    return warning(
        "W0607",
        f"`{name}` holds a tensor; a `let` can read its sizes, but cannot be used as the tensor",
        Mark(let.name.span),
        help="a label names a tensor for what follows",
        proposals=proposals,
    )


# ---------------------------------------------------------------- unused blocks


def uncalled(graph: Graph, spec_file: SpecFile) -> Iterator[Diagnostic]:
    """Undefined names in blocks of the file that no model of it calls, and that nothing else checks."""
    found = {n: v for n, v in spec_file.names.values.items() if isinstance(v, BlockValue)}
    own = {n: v for n, v in found.items() if v.syntax.span.source is spec_file.source}
    checked = {id(scope.definition.syntax) for scope in graph.root.scopes() if scope.definition is not None}
    if all(id(block.syntax) in checked or name in spec_file.models for name, block in own.items()):
        return
    values = [v for v in spec_file.names.values.values() if isinstance(v, MemberValue | FunctionValue)]
    waiting: list[object] = [*(v.syntax for v in values), *(v.syntax for n, v in own.items() if n in spec_file.models)]
    called: set[str] = set()
    while waiting:
        for name in names(waiting.pop()):
            if name.name in own and name.name not in called:
                called.add(name.name)
                waiting.append(own[name.name].syntax)
    for key, block in own.items():
        if key not in called and key not in spec_file.models:
            yield from unknown_names(block, spec_file)


def unknown_names(block: BlockValue, spec_file: SpecFile) -> Iterator[Diagnostic]:
    syntax = block.syntax
    outside = spec_file.names.values
    blocks = {name for name, value in outside.items() if isinstance(value, BlockValue)}
    inside = given(syntax)
    called = inside | blocks | OPERATIONS.keys()
    values = inside | (outside.keys() - blocks)
    known = called | values | BUILTINS.keys() | words() | {"it", "_"}
    meant = accepted(syntax, called, values)
    for name in names([[p.default for p in syntax.parameters], syntax.body]):
        if name.name not in known:
            near = renamed(name.span, name.name, meant.get(name.span, values))
            message = f"there is nothing named `{name.name}`, in a block that no model of this file calls"
            yield warning("W0604", message, Mark(name.span), proposals=near)


def accepted(syntax: tree.Block | tree.Model, called: Set[str], values: Set[str]) -> dict[Span, Set[str]]:
    """What may replace a name that is no part of a formula: a check of the block, which nothing calls, tries nothing.

    Words are among it only where an operation's parameter accepts them.
    """
    found: dict[Span, Set[str]] = {}
    for part in parts(syntax.body):
        if isinstance(part, tree.Call):
            found[part.name.span] = called
            cls = OPERATIONS.get(part.name.name)
            for position, argument in enumerate(part.arguments or ()):
                if not isinstance(argument.value, tree.Name):
                    continue
                if cls is None:  # a block also takes blocks and operations
                    found[argument.value.span] = called | values
                elif (parameter := argument.name or [*cls.fields, ""][min(position, len(cls.fields))]) in cls.fields:
                    found[argument.value.span] = values | set(cls.words(parameter))
        elif isinstance(part, tree.Apply):
            found[part.function.span] = BUILTINS.keys() | values
    return found


# ---------------------------------------------------------------- PyTorch's order of arguments


def pytorch_order(graph: Graph) -> Iterator[Diagnostic]:
    """Calls whose first number equals the number of input channels, which PyTorch takes and archdsl infers."""
    seen: set[tree.Call] = set()
    for node in graph.nodes():
        call, operation = node.call, node.operation
        if call is None or call in seen or operation.channels_at is None or not call.arguments:
            continue
        seen.add(call)
        given = [a for a in call.arguments if a.name is None]
        values = [getattr(operation, name) for name, _ in zip(operation.fields, given, strict=False)]
        channels = graph.shape(node.inputs[0])[0]
        if not operation.is_in_pytorchs_order(values, channels):
            continue
        from archdsl.advice.habits import rewritten  # only once something is wrong

        at = operation.odd_at
        name = list(operation.fields)[at]
        yield warning(
            "W0605",
            f"PyTorch's first argument is the number of input channels, which archdsl infers: `{name}` of this "
            f"`{operation.name}` is {values[at]:g}",
            Mark(given[operation.channels_at].span, f"{channels} come in"),
            help=f"its parameters: {operation.signature()}",
            proposals=list(rewritten(type(operation), call, values, channels))[:1],
        )
