"""Builds the syntax tree: one method for each grammar rule, called bottom-up with the matched children."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from archdsl.common.limits import limits
from archdsl.common.source import Source, Span
from archdsl.diagnostics import Diagnostics, Mark
from archdsl.syntax import tree
from archdsl.syntax.extern_rules import ExternRules
from archdsl.syntax.lexer import Lexeme, ParseAborted

RESERVED: Final = "`it` is reserved for the incoming tensor"

ESCAPE: Final = re.compile(r"\\u[0-9A-Fa-f]{4}|\\.")
LABEL_PIECE: Final = re.compile(
    rf"(?P<escape>{ESCAPE.pattern})|(?P<double>\{{\{{|\}}\}})|(?P<value>\{{[^{{}}]*\}})|(?P<brace>[{{}}])|(?P<text>[^{{}}\\]+)"
)

Children: TypeAlias = list[Any]
"""The children of a rule: tokens, tree nodes, and lists of nodes."""

Node = TypeVar("Node")
ParseValue: TypeAlias = Callable[[int, int], tree.Value | None]


class Bracketed(NamedTuple):
    """A list of arguments or parameters, with the span of its parentheses."""

    span: Span
    items: tuple[Any, ...]


class Augmented(NamedTuple):
    """`augmented NAME` after the name of a model."""

    span: Span
    name: tree.Name


class Builder(ExternRules):
    """The parser's callbacks for one source; `parse_value` parses an expression inside a quoted label."""

    def __init__(self, source: Source, diagnostics: Diagnostics, parse_value: ParseValue) -> None:
        self.source = source
        self.diagnostics = diagnostics
        self.parse_value = parse_value
        self.limits = limits()
        # The depth of every compound node. Keeping the node keeps its id unique.
        self._depths: dict[int, tuple[int, object]] = {}

    def span(self, children: Children) -> Span:
        first, last = children[0], children[-1]
        start = first.start if type(first) is Lexeme else first.span.start
        end = last.end if type(last) is Lexeme else last.span.end
        return Span(self.source, start, end)

    def token_span(self, token: Lexeme) -> Span:
        return Span(self.source, token.start, token.end)

    def named(self, token: Lexeme) -> tree.Name:
        return tree.Name(self.token_span(token), token.text)

    def defined(self, token: Lexeme) -> tree.Name:
        """A name that is declared here, which must not be `it`."""
        name = self.named(token)
        if name.name == "it":
            self.diagnostics.error("E0106", RESERVED, name.span)
        return name

    def deep(self, node: Node, parts: Sequence[Any]) -> Node:
        """Returns the node, after checking that it is not nested too deeply."""
        depths = self._depths
        depth = 1 + max((depths[id(p)][0] for p in parts if id(p) in depths), default=0)
        depths[id(node)] = (depth, node)
        if depth > self.limits.operators:
            message = f"operators are nested deeper than {self.limits.operators}"
            self.diagnostics.error("E0105", message, self.span([node]), help="name a part of it with `let`")
            raise ParseAborted
        return node

    # ------------------------------------------------------------ lists

    def first(self, children: Children) -> Children:
        return [children[0]]

    def more(self, children: Children) -> Children:
        items: Children = children[0]
        items.append(children[-1])
        return items

    # ------------------------------------------------------------ values

    def name(self, children: Children) -> tree.Name:
        return self.named(children[0])

    def int_(self, children: Children) -> tree.Literal:
        return tree.Literal(self.span(children), self._int(children[0], children[0].text))

    def _int(self, token: Lexeme, digits: str) -> int:
        if len(digits) > self.limits.digits:
            self.diagnostics.error("E0103", f"a number of {len(digits)} digits is too long", self.token_span(token))
            return 1
        return int(digits)

    def float_(self, children: Children) -> tree.Literal:
        value = float(children[0].text)
        if math.isinf(value):
            self.diagnostics.error("E0103", "this number is too large for a float", self.span(children))
            value = 1.0
        return tree.Literal(self.span(children), value)

    def size(self, children: Children) -> tree.SizeLiteral:
        token = children[0]
        return tree.SizeLiteral(self.span(children), tuple(self._int(token, part) for part in token.text.split("x")))

    def string(self, children: Children) -> tree.Literal:
        return tree.Literal(self.span(children), self.text_of(children[0]))

    def word(self, children: Children) -> tree.Literal:
        return tree.Literal(self.span(children), {"TRUE": True, "FALSE": False, "NONE": None}[children[0].kind])

    true = false = none = word

    def list_(self, children: Children) -> tree.ListValue:
        items = self._items(children)
        return self.deep(tree.ListValue(self.span(children), tuple(items)), items)

    def group(self, children: Children) -> Any:
        value = children[1]
        grouped = replace(value, span=self.span(children))
        return self.deep(grouped, [value]) if id(value) in self._depths else grouped

    def unary(self, children: Children) -> tree.Unary:
        operator, operand = children
        node = tree.Unary(self.span(children), operator.text.strip(), operand)
        return self.deep(node, [operand])

    def binary(self, children: Children) -> tree.Binary:
        left, operator, right = children
        node = tree.Binary(self.span(children), operator.text, left, right)
        return self.deep(node, [left, right])

    def range_(self, children: Children) -> tree.Range:
        start, dots, stop = children
        node = tree.Range(self.span(children), start, stop, dots.text == "..=")
        return self.deep(node, [start, stop])

    def conditional(self, children: Children) -> tree.Conditional:
        then, _, condition, _, otherwise = children
        node = tree.Conditional(self.span(children), condition, then, otherwise)
        return self.deep(node, [then, condition, otherwise])

    def index(self, children: Children) -> tree.Index:
        base, _, index, _ = children
        return self.deep(tree.Index(self.span(children), base, index), [base, index])

    def attribute(self, children: Children) -> tree.Attribute:
        base, _, name = children
        return self.deep(tree.Attribute(self.span(children), base, name.text), [base])

    def apply(self, children: Children) -> tree.Apply:
        name, arguments = children
        node = tree.Apply(self.span(children), self.named(name), arguments.items)
        return self.deep(node, [a.value for a in arguments.items])

    def argument(self, children: Children) -> tree.Argument:
        name = children[0].text if len(children) == 3 else None
        return tree.Argument(self.span(children), name, children[-1])

    def arguments(self, children: Children) -> Bracketed:
        items: list[tree.Argument] = self._items(children)
        names: dict[str, tree.Argument] = {}
        for item in items:
            if item.name is None:
                # The name of a switch, which it turns on, may be anywhere: the operation knows.
                if names and not isinstance(item.value, tree.Name):
                    named = Mark(next(iter(names.values())).span, "named")
                    help = "put positional arguments first"
                    message = "a positional argument follows a named one"
                    self.diagnostics.error("E0108", message, item.span, named, help=help)
                    break
            elif item.name in names:
                first = Mark(names[item.name].span, "given first here")
                self.diagnostics.error("E0107", f"the argument `{item.name}` is given twice", item.span, first)
            else:
                names[item.name] = item
        return Bracketed(self.span(children), tuple(items))

    def _items(self, children: Children) -> list[Any]:
        return children[1] if isinstance(children[1], list) else []

    # ------------------------------------------------------------ items

    def call(self, children: Children) -> tree.Call:
        name = self.named(children[0])
        if len(children) == 1:
            return tree.Call(name.span, None, name, None)
        return tree.Call(self.span(children), None, name, children[1].items)

    def body(self, children: Children) -> tree.Body:
        return tree.Body(self.span(children), None, tuple(self._items(children)))

    def element(self, children: Children) -> tree.Element:
        value = tree.Index(self.span(children), self.named(children[0]), children[2])
        return tree.Element(value.span, None, self.deep(value, [children[2]]))

    def scope(self, children: Children) -> tree.Body:
        return tree.Body(self.span(children), None, children[1].statements, scoped=True)

    def parallel(self, children: Children) -> tree.Parallel:
        return tree.Parallel(self.span(children), None, tuple(children[1]))

    def residual(self, children: Children) -> tree.Residual:
        parts = {a.kind: b for a, b in pairwise(children) if isinstance(a, Lexeme)}
        via = parts.get("VIA")
        node = tree.Residual(self.span(children), None, parts.get("IF"), via, children[-1])
        return self.deep(node, [via])

    def dense(self, children: Children) -> tree.Dense:
        return tree.Dense(self.span(children), None, children[1])

    def windows(self, children: Children) -> tree.Windows:
        word, arguments, body = children
        name = tree.Name(self.token_span(word), word.text)
        cut = tree.Call(self.span(children[:2]), None, name, arguments.items)
        return tree.Windows(self.span(children), None, cut, body)

    def labelled(self, children: Children) -> Any:
        label, item = children
        node = replace(item, label=label)
        return self.deep(node, [item]) if id(item) in self._depths else node

    def label(self, children: Children) -> tree.Label:
        name = self.defined(children[0])
        return tree.Label(name.span, (name.name,), False)

    def pattern(self, children: Children) -> tree.Pattern:
        parallel = children[0]
        names = []
        for branch in parallel.branches:
            match branch:
                case tree.Chain(items=(tree.Call(label=None, name=name, arguments=None),)):
                    if name.name == "it":
                        self.diagnostics.error("E0106", RESERVED, name.span)
                    names.append(name)
                case _:
                    help = "a pattern such as `(left, right):` names the results of the item after it"
                    self.diagnostics.error("E0101", "expected a name in this label pattern", branch.span, help=help)
        return tree.Pattern(parallel.span, tuple(names))

    def quoted_label(self, children: Children) -> tree.Label:
        token = children[0]
        span = self.token_span(token)
        parts: list[str | tree.Value] = []
        text: list[str] = []
        for piece in LABEL_PIECE.finditer(token.text, 1, len(token.text) - 1):
            kind, at = piece.lastgroup, token.start + piece.start()
            if kind == "value":
                value = self.parse_value(at + 1, token.start + piece.end() - 1)
                if value is not None:
                    parts += ["".join(text), value] if text else [value]
                    text = []
            elif kind == "brace":
                where = Span(self.source, at, at + 1)
                help = f"write a computed part as `{{i}}`, the brace itself `{piece.group() * 2}`"
                self.diagnostics.error("E0102", f"`{piece.group()}` is unmatched in this label", where, help=help)
            elif kind == "escape":
                text.append(self._unescaped(piece.group(), at))
            else:
                text.append(piece.group()[:1] if kind == "double" else piece.group())
        if text:
            parts.append("".join(text))
        if not token.text[1:-1]:
            self.diagnostics.error("E0109", "a label cannot be empty", span)
        return tree.Label(span, tuple(parts), True)

    def text_of(self, token: Lexeme) -> str:
        """The value of a string literal."""
        text: str = token.text[1:-1]
        if "\\" not in text:
            return text
        start = token.start + 1
        return ESCAPE.sub(lambda m: self._unescaped(m.group(), start + m.start()), text)

    def _unescaped(self, escape: str, at: int) -> str:
        known = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}.get(escape[1])
        if known is not None:
            return known
        if len(escape) == 6 and not 0xD800 <= (code := int(escape[2:], 16)) < 0xE000:
            return chr(code)
        help = r"the escapes are \" \\ \n \t and \u with four hexadecimal digits"
        where = Span(self.source, at, at + len(escape))
        self.diagnostics.error("E0103", f"`{escape}` is not a valid escape", where, help=help)
        return "?"

    # ------------------------------------------------------------ statements

    def chain(self, children: Children) -> tree.Chain:
        items = children[0]
        first, last = items[0], items[-1]
        start = (first.label or first).span.start
        return tree.Chain(Span(self.source, start, last.span.end), tuple(items))

    def let(self, children: Children) -> tree.Let:
        _, name, _, value = children
        return tree.Let(self.span(children), self.defined(name), value)

    def for_(self, children: Children) -> tree.For:
        _, names, _, values, body = children
        return tree.For(self.span(children), tuple(self.defined(n) for n in names), values, body)

    def repeat(self, children: Children) -> tree.Repeat:
        _, count, body = children
        return tree.Repeat(self.span(children), count, body)

    def if_first(self, children: Children) -> Children:
        keyword, condition, body = children
        return [keyword, (condition, body)]

    def if_more(self, children: Children) -> Children:
        branches: Children = children[0]
        *_, condition, body = children
        branches.append((condition, body))
        return branches

    def if_(self, children: Children) -> tree.If:
        keyword, *branches = children[0]
        otherwise = children[2] if len(children) == 3 else None
        last = otherwise or branches[-1][1]
        return tree.If(self.span([keyword, last]), tuple(branches), otherwise)

    def input(self, children: Children) -> tree.Input:
        return tree.Input(self.span([children[0], children[1][-1]]), tuple(children[1]))

    def input_tensor(self, children: Children) -> tree.InputTensor:
        dimensions = children[2] if isinstance(children[2], list) else []
        return tree.InputTensor(self.span(children), self.defined(children[0]), tuple(dimensions))

    def dimension(self, children: Children) -> tree.Dimension:
        if len(children) == 1:
            return tree.Dimension(children[0].span, children[0], None)
        return tree.Dimension(self.span(children), self.defined(children[0]), children[2])

    def output(self, children: Children) -> tree.Output:
        return tree.Output(self.span([children[0], children[1][-1]]), tuple(children[1]))

    def output_tensor(self, children: Children) -> tree.OutputTensor:
        name = self.defined(children[0])
        label = self.defined(children[2]) if len(children) in (3, 5) and children[1].kind == "EQUAL" else name
        training = len(children) > 1 and children[-2].kind == "IF"
        if training and children[-1].text != "training":
            where = self.token_span(children[-1])
            help = "choose between tensors inside the network; `if training` returns an output only in training mode"
            self.diagnostics.error("E0101", "the only condition for an output is `if training`", where, help=help)
        return tree.OutputTensor(self.span(children), name, label, training)

    def expect(self, children: Children) -> tree.Expect:
        return tree.Expect(self.span(children), children[1].items)

    def expect_cost(self, children: Children) -> tree.ExpectCost:
        _, measure, comparison, bound = children
        return tree.ExpectCost(self.span(children), self.name([measure]), comparison.text, bound)

    def require(self, children: Children) -> tree.Require:
        message = children[3] if len(children) == 4 else None
        return tree.Require(self.span(children), children[1], message)

    def share(self, children: Children) -> tree.Share:
        return tree.Share(self.span(children), self.defined(children[1]), children[3])

    # ------------------------------------------------------------ declarations

    def missing(self, children: Children) -> tree.Missing | tree.Block | tree.Model:
        [found] = children
        return found if isinstance(found, tree.Block | tree.Model) else tree.Missing(self.span(children))

    def module(self, children: Children) -> tree.Name:
        if len(children) == 1:
            return self.named(children[0])
        before, _, name = children
        return tree.Name(self.span(children), f"{before.name}.{name.text}")

    def imported(self, children: Children) -> tree.Imported:
        name, alias = self.named(children[0]), self.defined(children[-1])
        return tree.Imported(self.span(children), name, alias)

    def import_(self, children: Children) -> tree.Import:
        _, module, _, names = children
        return tree.Import(self.span([children[0], names[-1]]), module, tuple(names))

    def parameter(self, children: Children) -> tree.Parameter:
        default = children[2] if len(children) == 3 else None
        return tree.Parameter(self.span(children), self.defined(children[0]), default)

    def parameters(self, children: Children) -> Bracketed:
        items: list[tree.Parameter] = self._items(children)
        seen: dict[str, tree.Parameter] = {}
        for item in items:
            first = seen.setdefault(item.name.name, item)
            if first is not item:
                mark = Mark(first.span, "named first here")
                self.diagnostics.error("E0107", f"the parameter `{item.name.name}` is declared twice", item.span, mark)
        return Bracketed(self.span(children), tuple(items))

    def function(self, children: Children) -> tree.Function:
        _, name, parameters, _, value = children
        return tree.Function(self.span(children), self.defined(name), parameters.items, value)

    def undocumented(self, children: Children) -> tuple[str | None, tree.Body]:
        return None, children[0]

    def documented(self, children: Children) -> tuple[str | None, tree.Body]:
        statements = next((c for c in children if isinstance(c, list)), [])
        return self.text_of(children[1]), tree.Body(self.span(children), None, tuple(statements))

    def block(self, children: Children) -> tree.Block:
        return tree.Block(*self._definition(children))

    def model(self, children: Children) -> tree.Model:
        augmented = next((c for c in children if type(c) is Augmented), None)
        rest = [c for c in children if c is not augmented]
        return tree.Model(*self._definition(rest), augmented and augmented.name)

    def _definition(
        self, children: Children
    ) -> tuple[Span, tree.Name, tuple[tree.Parameter, ...], str | None, tree.Body]:
        doc, body = children[-1]
        parameters = children[2].items if len(children) == 4 else ()
        return self.span([children[0], body]), self.defined(children[1]), parameters, doc, body

    def member(self, children: Children) -> tree.Member:
        family, *rest = children[3:]
        arguments = next((c.items for c in rest if type(c) is Bracketed), ())
        augmented = next((c.name for c in rest if type(c) is Augmented), None)
        return tree.Member(self.span(children), self.defined(children[1]), self.named(family), arguments, augmented)

    def augmented(self, children: Children) -> Augmented:
        return Augmented(self.span(children), self.named(children[1]))

    def augment(self, children: Children) -> tree.Augment:
        doc, lines, closing = children[2]
        return tree.Augment(self.span([children[0], closing]), self.defined(children[1]), doc, lines)

    def changes(self, children: Children) -> tuple[str | None, tuple[tuple[tree.Change, ...], ...], Lexeme]:
        doc = next((self.text_of(c) for c in children if type(c) is Lexeme and c.kind == "STRING"), None)
        lines = next((c for c in children if isinstance(c, list)), [])
        return doc, tuple(tuple(line) for line in lines), children[-1]

    def one_of(self, children: Children) -> tree.OneOf:
        # The grammar accepts an empty one, like every body; after a syntax error one may be empty.
        chains = children[2] if isinstance(children[2], list) else []
        if not chains and not self.diagnostics.errors:
            help = "write augmentations in it: `one_of { blur(3)  noise(0.05) }`"
            self.diagnostics.error("E0101", "expected an augmentation in `one_of`", self.span(children), help=help)
        return tree.OneOf(self.span(children), tuple(tuple(chain) for chain in chains))

    def default(self, children: Children) -> tree.Default:
        return tree.Default(self.span(children), self.named(children[1]), children[2].items)

    def file(self, children: Children) -> tree.File:
        return tree.File(self.source, tuple(children[0]) if children else ())
