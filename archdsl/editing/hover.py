"""The hover text of the name under the cursor, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import cleandoc
from itertools import islice

from archdsl.common.source import Span
from archdsl.common.units import count_text, counted
from archdsl.editing.names import Symbol
from archdsl.editing.sizes import Call, placed
from archdsl.graph import Node, Scope, Tensor
from archdsl.ops.base import Operation
from archdsl.ops.declaration import Declaration
from archdsl.ops.fields import shown
from archdsl.report.explain.explainer import Explainer
from archdsl.syntax import tree
from archdsl.syntax.walk import parts
from archdsl.values import BlockValue, FunctionValue, MemberValue, describe, literal

MOST_CALLS = 8
"""The number of calls of a block that are listed."""


def code(text: str) -> str:
    """Text of the language as a block of Markdown."""
    return f"```arch\n{text}\n```"


def of_symbol(symbol: Symbol, calls: Sequence[Call], call: Call | None) -> Iterator[str]:
    """The paragraphs about a symbol; `calls` are those of it, if it is a block, `call` is the shown one around it."""
    node = symbol.node
    match node:
        case type() if issubclass(node, Declaration):
            yield code(node.signature())
            yield documentation(node)
        case tree.Block() | tree.Model():
            yield code(head(node))
            if node.doc:
                yield node.doc
            yield from _calls(calls)
        case tree.Member():
            yield code(node.span.text)
        case tree.Function() | tree.Let():
            yield code(node.span.text)
            yield from _value(symbol, call)
        case tree.Extern():
            yield code(node.span.text.partition("{")[0].rstrip())
            if node.doc:
                yield node.doc
        case tree.Augment():
            yield code(f"augment {symbol.name}")
            if node.doc:
                yield node.doc
        case tree.Parameter():
            yield code(node.span.text)
            yield f"a parameter of `{symbol.owner.name}`" if symbol.owner is not None else "a parameter"
            yield from _value(symbol, call)
        case tree.Dimension():
            yield f"`{symbol.name}` is a size of the input `{node.span.text}`"
            yield from _value(symbol, call)
        case _:
            yield from _other(symbol, call)


def _other(symbol: Symbol, call: Call | None) -> Iterator[str]:
    owner = symbol.owner.node if symbol.owner is not None else None
    if isinstance(owner, type) and issubclass(owner, Declaration) and symbol.name in owner.fields:
        found = owner.fields[symbol.name]
        default = "" if found.is_required else f" = {shown(found.default)}"
        yield code(f"{symbol.name}{default}")
        what = found.description or ", ".join(f"`{word}`" for word in owner.words(symbol.name))
        yield f"a parameter of `{owner.name}`" + (f": {what}" if what else "")
        return
    match symbol.kind:
        case "it":
            yield "`it`: the tensor that flows in here; it has `.channels`, `.size`, `.shape`"
        case "builtin":
            yield f"`{symbol.name}(…)`: a function of values"
        case "word":
            yield f"`{symbol.name}`: a word that this parameter takes"
        case "label" | "shared" | "input":
            yield f"`{symbol.name}`: a tensor"
        case _:
            yield f"`{symbol.name}`"
            yield from _value(symbol, call)


def documentation(cls: type[Declaration]) -> str:
    return cleandoc(cls.__doc__ or "")


def head(definition: tree.Block | tree.Model) -> str:
    """A block or model up to its body."""
    text = definition.span.source.text[definition.span.start : definition.body.span.start].rstrip()
    return text


def _calls(calls: Sequence[Call]) -> Iterator[str]:
    if not calls:
        return
    lines = [
        f"- `{call.title}`: {', '.join(call.sizes(call.scope.inputs))} → "
        f"{', '.join(call.sizes(call.scope.outputs)) or '?'}"
        for call in islice((c for c in calls if c.scope.path), MOST_CALLS)
    ]
    more = len([c for c in calls if c.scope.path]) - len(lines)
    if lines:
        yield "calls:\n" + "\n".join(lines) + (f"\n- and {more} more" if more > 0 else "")


def _value(symbol: Symbol, call: Call | None) -> Iterator[str]:
    """The value of a name in the shown call."""
    if call is None:
        return
    found: dict[str, object] = dict(call.scope.arguments)
    for member in call.scope.members:
        found |= {n: v for n, v in member.bound.items() if n not in found}
    if call.scope.definition is not None:
        found = {**call.scope.definition.constants(), **found}
    if symbol.name in found:
        value = found[symbol.name]
        callee = isinstance(value, BlockValue | MemberValue | FunctionValue)
        yield f"= {describe(value) if callee else f'`{literal(value)}`'} in `{call.title}`"


# ---------------------------------------------------------------- what an item of the text makes


def item_at(file: tree.File, offset: int) -> tree.Item | None:
    """The item whose name or label begins at an offset."""
    for declaration in file.declarations:
        if declaration.span.start <= offset <= declaration.span.end:
            for part in parts(declaration):
                if isinstance(part, tree.Call) and part.name.span.start == offset:
                    return part
                label = getattr(part, "label", None)
                if isinstance(label, tree.Label) and label.span.start == offset:
                    return part  # type: ignore[return-value]
    return None


def of_item(span: Span, call: Call | None) -> Iterator[str]:
    """The paragraphs about what an item places in the shown call: sizes, parameters, costs, receptive field."""
    found = placed(call, span) if call is not None else []
    if call is None or not found:
        return
    first = found[0]
    for part in dict.fromkeys((first, found[-1])):
        yield f"{' → '.join(_flow(part, call))}  — `{part.path}` of `{call.model.name}`"
    if isinstance(first, Node):
        arguments = _arguments(first.operation)
        if arguments:
            yield arguments
    layers = call.model.layers
    if layers is None:
        return
    cost = layers.costs[first]
    numbers = (
        [counted(cost.parameters, "parameter"), f"{count_text(cost.macs)} MACs"] if cost.parameters or cost.macs else []
    )
    if numbers:
        at = f" at {layers.at}" if call.graph.free else ""
        yield f"{', '.join(numbers)} a sample{at}"
    tensors = [Tensor(first.id)] if isinstance(first, Node) else list(first.outputs[:1])
    for tensor in tensors:
        lines = [line.strip() for line in Explainer(layers).receptive_field(tensor)]
        if lines:
            yield "receptive field: " + " ".join(line for line in lines if line != "receptive field")


def _flow(part: Node | Scope, call: Call) -> list[str]:
    after = [Tensor(part.id, i) for i in range(len(part.shapes))] if isinstance(part, Node) else list(part.outputs)
    return [f"`{', '.join(call.sizes(tensors)) or '…'}`" for tensors in (part.inputs, after)]


def _arguments(operation: Operation) -> str:
    """The parameters of an operation as they are in this call."""
    given = [f"{name} = {shown(value)}" for name, value in vars(operation).items()]
    return f"with `{', '.join(given)}`" if given and len(given) <= 16 else ""
