"""The syntax tree of a .arch file: frozen dataclasses with the span of their text.

The span of an item excludes its label, which has its own span; that of an expression includes its parentheses. Nodes
compare by identity: comparing by value would recurse to the depth of the tree. The file is long, since it lists all
that the language can say.
"""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.common.source import Source, Span

# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """An int, float, string, bool, or None (written `none`)."""

    span: Span
    value: int | float | str | bool | None


@dataclass(frozen=True, slots=True, eq=False)
class SizeLiteral:
    """`3x3`, `1x7x7`."""

    span: Span
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A bare name in an expression, including `it`."""

    span: Span
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class ListValue:
    """`[a, b]`."""

    span: Span
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Unary:
    """`-x`, `+x`, `not x`."""

    span: Span
    operator: str
    operand: Value


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    """Arithmetic, a comparison, `and` or `or`, with the operator as written."""

    span: Span
    operator: str
    left: Value
    right: Value


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """`a if c else b`."""

    span: Span
    condition: Value
    then: Value
    otherwise: Value


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """`base[index]`."""

    span: Span
    base: Value
    index: Value


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """`it.channels`, `x.size`, `x.shape`."""

    span: Span
    base: Value
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Apply:
    """A function call in an expression: `max(a, b)`."""

    span: Span
    function: Name
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """`a..b` (without b), or `a..=b`."""

    span: Span
    start: Value
    stop: Value
    inclusive: bool


Value = Literal | SizeLiteral | Name | ListValue | Unary | Binary | Conditional | Index | Attribute | Apply | Range


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    """An argument of a call, positional (`name` is None) or named."""

    span: Span
    name: str | None
    value: Value


# ---------------------------------------------------------------- items


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """A label of an item. `parts` are pieces of text and, in a quoted label, the expressions in braces."""

    span: Span
    parts: tuple[str | Value, ...]
    quoted: bool


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """`(left, right):` names the results of a parallel; `_` leaves one unnamed."""

    span: Span
    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """`conv(64, 3)`, or a bare name (`arguments` is None): an operation, a block or, first in a chain, a label."""

    span: Span
    label: Label | Pattern | None
    name: Name
    arguments: tuple[Argument, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Element:
    """`xs[i]`, first in a chain: a tensor of a list, or with a range (`xs[a..b]`) several."""

    span: Span
    label: Label | Pattern | None
    value: Index


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """`{ … }`: statements in sequence; an empty sequence is the identity. `span` includes the braces.

    `scoped`: it is written `scope { … }`, and opens a scope without a label, too.
    """

    span: Span
    label: Label | Pattern | None
    statements: tuple[Statement, ...]
    scoped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Parallel:
    """`( a, b, … )`: every chain receives the incoming tensor; a loop gives one branch a round."""

    span: Span
    label: Label | Pattern | None
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """`residual [if condition] [via ITEM] { … }`."""

    span: Span
    label: Label | Pattern | None
    condition: Value | None
    via: Item | None
    body: Body


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """`dense { … }`."""

    span: Span
    label: Label | Pattern | None
    body: Body


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """`windows(…) { … }` or `grid(…) { … }`: `cut` is the call without the body."""

    span: Span
    label: Label | Pattern | None
    cut: Call
    body: Body


Item = Call | Element | Body | Parallel | Residual | Dense | Windows


def opens_scope(item: Item) -> bool:
    """Whether an item that is no call opens a scope: by a label, or as `scope { … }`."""
    return isinstance(item.label, Label) or (isinstance(item, Body) and item.scoped)


# ---------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """`ITEM -> ITEM -> …`."""

    span: Span
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Let:
    """`let x = value`."""

    span: Span
    name: Name
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class For:
    """`for a, b in values { … }`."""

    span: Span
    names: tuple[Name, ...]
    values: Value
    body: Body


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """`repeat count { … }`."""

    span: Span
    count: Value
    body: Body


@dataclass(frozen=True, slots=True, eq=False)
class If:
    """`branches` are (condition, body) in order; `otherwise` the body of a last `else`."""

    span: Span
    branches: tuple[tuple[Value, Body], ...]
    otherwise: Body | None


Branch = Chain | For | Repeat | If


@dataclass(frozen=True, slots=True, eq=False)
class Dimension:
    """One size of an `input`: `_` (a Name), a name, a name with an example size (`H = 224`), or any expression."""

    span: Span
    value: Value
    example: Value | None


@dataclass(frozen=True, slots=True, eq=False)
class InputTensor:
    """`image[3, H = 224, W]`."""

    span: Span
    name: Name
    dimensions: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """`input x[C, H, W], gate[_, H, W]`."""

    span: Span
    tensors: tuple[InputTensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class OutputTensor:
    """`label` or `name = label`, optionally with `if training`. Without a name, `name` is the label's."""

    span: Span
    name: Name
    label: Name
    training: bool


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """`output logits, aux = side if training`."""

    span: Span
    tensors: tuple[OutputTensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Expect:
    """`expect [2 * C, H / 2, _]`; `_` is a Name."""

    span: Span
    dimensions: tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ExpectCost:
    """`expect parameters == 25_557_032`."""

    span: Span
    measure: Name
    comparison: str
    bound: Value


@dataclass(frozen=True, slots=True, eq=False)
class Require:
    """`require condition, "message"`."""

    span: Span
    condition: Value
    message: Value | None


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """`share name: ITEM`: places an item, which each `name` in a chain calls. A label of its own says its path."""

    span: Span
    name: Name
    item: Item


@dataclass(frozen=True, slots=True, eq=False)
class Missing:
    """A statement or declaration that could not be read, in a tree that has syntax errors."""

    span: Span


# ---------------------------------------------------------------- declarations


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """`name` or `name as alias`; without an alias, `alias` is the name."""

    span: Span
    name: Name
    alias: Name


@dataclass(frozen=True, slots=True, eq=False)
class Import:
    """`from layers import conv_bn, se as squeeze`; `module` as written, dots included."""

    span: Span
    module: Name
    names: tuple[Imported, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A parameter of a block, model or function; `default` is None if it has none."""

    span: Span
    name: Name
    default: Value | None


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """`fn NAME(params) = value`."""

    span: Span
    name: Name
    parameters: tuple[Parameter, ...]
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """`block NAME(params) { … }`; `doc` is the string at the start of its body, which is removed from the body."""

    span: Span
    name: Name
    parameters: tuple[Parameter, ...]
    doc: str | None
    body: Body
    mended: bool = False
    """Whether its head has a syntax error, so that its parameters are known in part."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """`model NAME(params) augmented NAME { … }`."""

    span: Span
    name: Name
    parameters: tuple[Parameter, ...]
    doc: str | None
    body: Body
    augmented: Name | None = None
    mended: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """`model NAME = FAMILY(args) augmented NAME`."""

    span: Span
    name: Name
    family: Name
    arguments: tuple[Argument, ...]
    augmented: Name | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OneOf:
    """`one_of { … }`: chains of changes; each sample goes through one."""

    span: Span
    alternatives: tuple[tuple[Change, ...], ...]


Change = Call | OneOf


@dataclass(frozen=True, slots=True, eq=False)
class Augment:
    """`augment NAME { … }`: one chain of changes per line."""

    span: Span
    name: Name
    doc: str | None
    lines: tuple[tuple[Change, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Gives:
    """`output [out, H, W]`, or `output y[out, H, W], mask[1, H, W]` in an `extern`: the sizes of its results."""

    span: Span
    tensors: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """`weight kernel[out, C, 3, 3], bias[out] if bias` in an `extern`; `kind` is weight, frozen, buffer or counter."""

    span: Span
    kind: str
    tensors: tuple[tuple[str, Span, tuple[Value, ...]], ...]
    condition: Value | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """`call (C, out, kernel)`, `field (3, stride = 2)` or `macs value` in an `extern`; `kind` is the word."""

    span: Span
    kind: str
    arguments: tuple[Argument, ...]


ExternLine = Let | Require | Input | Gives | Held | Passed


@dataclass(frozen=True, slots=True, eq=False)
class Extern:
    """`extern NAME(params) = "package.module:Class" { … }`; `is_function`: `extern fn NAME …`."""

    span: Span
    name: Name
    parameters: tuple[Parameter, ...]
    is_function: bool
    target: str
    target_span: Span
    doc: str | None
    lines: tuple[ExternLine, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Default:
    """`default OP(args)`."""

    span: Span
    operation: Name
    arguments: tuple[Argument, ...]


Statement = Chain | Let | For | Repeat | If | Input | Output | Expect | ExpectCost | Require | Default | Share | Missing
Declaration = Import | Let | Function | Block | Model | Member | Augment | Extern | Default | Missing


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """A whole file."""

    source: Source
    declarations: tuple[Declaration, ...]
