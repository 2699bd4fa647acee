"""Warnings: what a spec may say, and is likely a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from archdsl.advice.habits import rewritten
from archdsl.advice.mending import show_shape
from archdsl.common.source import Span
from archdsl.diagnostics import Diagnostic, Fix, Mark, Proposal, renamed
from archdsl.dims import Dim, DimError
from archdsl.elaborate import call_notes
from archdsl.elaborate.spec_files import Module
from archdsl.graph import Graph
from archdsl.ops import OPERATIONS
from archdsl.ops.sizes import several_positions
from archdsl.syntax import tree
from archdsl.syntax.walk import given, labels, lets, names, parts
from archdsl.values import BUILTINS, BlockValue, FunctionValue, MemberValue
from archdsl.values.evaluation import words

TINY = 4
"""A network that takes no size beyond this one is not meant so."""


def lints(graph: Graph, module: Module) -> tuple[Diagnostic, ...]:
    """The warnings of a checked graph and of its file."""
    return (
        *tiny_sizes(graph),
        *lone_positions(graph),
        *unused_names(graph),
        *pytorch_order(graph),
        *uncalled(module),
    )


def tiny_sizes(graph: Graph) -> Iterator[Diagnostic]:
    """Free sizes, none of them shown, that a line of the spec leaves next to no values."""
    for free in graph.free:
        most = graph.always[free.name].maximum
        if free.example is None and most is not None and most <= TINY:
            cause = next(n for n in graph.narrowings if n.size == free.name and n.after.maximum is not None)
            alone = graph.always[free.name].describe().removeprefix("only ")
            demand = cause.demand
            yield warning(
                "W0601",
                f"the network takes {free.name} = {alone} alone",
                Mark(demand.span, "because of this"),
                Mark(free.span, f"say what is meant: `{free.name} = 64`"),
                notes=[demand.error.message, *call_notes(demand.scope)],
                help="bring the sizes together (`align`), or give both branches the same stride and padding",
            )


def lone_positions(graph: Graph) -> Iterator[Diagnostic]:
    """The first batchnorm that sees one position of each sample, whatever the input: PyTorch refuses a batch of 1."""
    found = [
        node for node in graph.nodes() if node.operation.uses_batch and _is_lone(graph, graph.shape(node.inputs[0])[1:])
    ]
    if not found:
        return
    node = found[0]
    notes = ["its mean and variance are taken over the batch alone, and of a single number there is no variance"]
    if len(found) > 1:
        notes.append(f"{len(found)} batchnorms here are so")
    yield warning(
        "W0603",
        "`batchnorm` over one position: a training batch of 1 fails",
        Mark(node.span, f"{show_shape(graph.shape(node.inputs[0]))} comes in"),
        notes=[*notes, *call_notes(node.scope)],
        help="train with batches of 2 or more (a loader with `drop_last`), or use `groupnorm` or `layernorm` here",
    )


def _is_lone(graph: Graph, sizes: tuple[Dim, ...]) -> bool:
    """Whether axes have one position in all, for every valid input."""
    try:
        several = several_positions(sizes)
        return not several if isinstance(several, bool) else graph.always.narrow(several) is None
    except DimError:  # too intricate to know
        return False


def unused_names(graph: Graph) -> Iterator[Diagnostic]:
    """Parameters of models and blocks, and values that a `let` in them names, which nothing in their text uses.

    In the file of the model alone. Blocks that are passed on to be called by others share their parameters with these.
    """
    file = graph.root.span.source
    scopes = list(graph.root.scopes())
    passed = {id(b.syntax) for scope in scopes for b in blocks(scope.arguments.values())}
    definitions = {id(s.definition.syntax): s.definition.syntax for s in scopes if s.definition is not None}
    for key, syntax in definitions.items():
        if syntax.span.source is not file:
            continue
        used = {n.name for n in names([[p.default for p in syntax.parameters], syntax.body])}
        for parameter in syntax.parameters if key not in passed else ():
            if unused(parameter.name, used):
                yield unused_name(f"the parameter `{parameter.name.name}` of `{syntax.name.name}`", parameter.name.span)
        for let in lets(syntax.body):
            if tensor_in(let, syntax):
                yield useless_let(let)
            elif unused(let.name, used):
                yield unused_name(f"`{let.name.name}`", let.name.span)


def unused(name: tree.Name, used: set[str]) -> bool:
    return name.name not in used and not name.name.startswith("_")


def unused_name(what: str, span: Span) -> Diagnostic:
    return warning("W0602", f"nothing uses {what}", Mark(span), help="take it away, or begin its name with `_`")


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
    """The blocks among values and in the lists among them."""
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, BlockValue):
            yield value
        elif isinstance(value, tuple):
            stack.extend(value)


# ---------------------------------------------------------------- tensors in values


def tensor_in(let: tree.Let, syntax: tree.Block | tree.Model) -> bool:
    """Whether a `let` holds tensors whose sizes nothing asks for, so that nothing can be done with it."""
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
        f"`{name}` holds a tensor, which a `let` cannot bring back: only its sizes can be asked for",
        Mark(let.name.span),
        help="a label names a tensor for what follows",
        proposals=proposals,
    )


# ---------------------------------------------------------------- blocks that nobody calls


def uncalled(module: Module) -> Iterator[Diagnostic]:
    """Names that nothing bears, in blocks of a file that no model of it leads to, and that nothing else checks."""
    found = {n: v for n, v in module.names.values.items() if isinstance(v, BlockValue)}
    own = {n: v for n, v in found.items() if v.syntax.span.source is module.source}
    if len(own) == len(module.models):
        return
    values = [v for v in module.names.values.values() if isinstance(v, MemberValue | FunctionValue)]
    waiting: list[object] = [*(v.syntax for v in values), *(v.syntax for n, v in own.items() if n in module.models)]
    called: set[str] = set()
    while waiting:
        for name in names(waiting.pop()):
            if name.name in own and name.name not in called:
                called.add(name.name)
                waiting.append(own[name.name].syntax)
    for key, block in own.items():
        if key not in called and key not in module.models:
            yield from unknown_names(block, module)


def unknown_names(block: BlockValue, module: Module) -> Iterator[Diagnostic]:
    known = (
        given(block.syntax) | module.names.values.keys() | OPERATIONS.keys() | BUILTINS.keys() | words() | {"it", "_"}
    )
    syntax = block.syntax
    for name in names([[p.default for p in syntax.parameters], syntax.body]):
        if name.name not in known:
            near = renamed(name.span, name.name, known)
            message = f"there is nothing named `{name.name}` here, in a block that no model of this file calls"
            yield warning("W0604", message, Mark(name.span), proposals=near)


# ---------------------------------------------------------------- PyTorch's order of arguments


def pytorch_order(graph: Graph) -> Iterator[Diagnostic]:
    """Calls whose first number is that of the channels that come in, which PyTorch takes and this language infers."""
    seen: set[tree.Call] = set()
    for node in graph.nodes():
        call, operation = node.call, node.operation
        if call is None or call in seen or operation.channels_at is None or not call.arguments:
            continue
        seen.add(call)
        given = [a for a in call.arguments if a.name is None]
        values = [getattr(operation, name) for name, _ in zip(type(operation).model_fields, given, strict=False)]
        channels = graph.shape(node.inputs[0])[0]
        if not operation.is_in_pytorchs_order(values, channels):
            continue
        at = operation.odd_at
        name = list(type(operation).model_fields)[at]
        yield warning(
            "W0605",
            f"PyTorch takes the number of channels that come in, which is inferred here: `{name}` of this "
            f"`{operation.name}` is {values[at]:g}",
            Mark(given[operation.channels_at].span, f"{channels} come in"),
            help=f"its parameters: {operation.signature()}",
            proposals=list(rewritten(type(operation), call, values, channels))[:1],
        )
